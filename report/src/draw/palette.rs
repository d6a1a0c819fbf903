//! Colours: the hue says the owner, the lightness which of the owner's segments. The hues are
//! told apart with any of the common colour deficiencies (they differ in lightness too).

use plotters_backend::BackendColor;

use crate::model::{Owner, Segment};

/// Text.
pub(super) const INK: BackendColor = rgb(0x1B_1F26);
/// Secondary text.
pub(super) const FAINT: BackendColor = rgb(0x5F_6873);
/// Grid lines.
pub(super) const GRID: BackendColor = rgb(0xE3_E7EC);
/// Background of the plots' empty space.
pub(super) const PAPER: BackendColor = rgb(0xFF_FFFF);
/// A box that says why there is nothing to see.
pub(super) const BOX: BackendColor = rgb(0xF2_F4F7);
/// What was lost.
pub(super) const LOST: BackendColor = rgb(0xC4_1E1E);
/// The total.
pub(super) const TOTAL: BackendColor = rgb(0x3A_434F);
/// From the smallest to the largest total.
pub(super) const BAND: BackendColor = rgb(0xB9_C2CE);

/// A colour from 0xRRGGBB.
pub(super) const fn rgb(hex: u32) -> BackendColor {
    BackendColor {
        alpha: 1.0,
        rgb: ((hex >> 16) as u8, (hex >> 8) as u8, hex as u8),
    }
}

/// The colour that stands for an owner.
pub(super) fn owner(owner: Owner) -> BackendColor {
    match owner {
        Owner::Local => rgb(0x1F_5FA8),
        Owner::Receiver => rgb(0x1C_8A7D),
        Owner::WireOut => rgb(0xEE_7F1A),
        Owner::WireIn => rgb(0xF4_C936),
        Owner::Wire => rgb(0xF1_A223),
        Owner::Remote => rgb(0xB8_1457),
        Owner::WireOrRemote => rgb(0x8A_6642),
        Owner::Unknown => rgb(0x98_A1AB),
    }
}

/// The colour of a segment: a shade of its owner's.
pub(super) fn segment(segment: Segment) -> BackendColor {
    rgb(segment.colour())
}

/// The series that are too many for a colour of their own.
pub(super) const OTHER: BackendColor = rgb(0x98_A1AB);

/// Colours of classes and of series, none of which belongs to an owner; the first ones differ
/// most. Any two are 16 and more apart in CIE Lab, also as seen with protanopia, deuteranopia and
/// tritanopia (Machado, Oliveira and Fernandes 2009).
pub(super) const CLASSES: [BackendColor; 8] = [
    rgb(0x1F_5FA8),
    rgb(0xEE_7F1A),
    rgb(0x5A_1A1A),
    rgb(0x7C_B0E3),
    rgb(0x9B_D770),
    rgb(0x8A_6642),
    rgb(0x0B_3C5D),
    rgb(0x00_9E73),
];

/// The colour of a class; they repeat where there are too many.
pub(super) fn class(number: usize) -> BackendColor {
    CLASSES[number % CLASSES.len()]
}

/// Text on a colour, which is the same on dark paper: no other colour is quite like these two.
const ON_LIGHT: BackendColor = rgb(0x1A_1F26);
const ON_DARK: BackendColor = rgb(0xFE_FEFE);

/// What becomes of the colours where the reader prefers dark paper.
pub(super) const IN_THE_DARK: [(BackendColor, BackendColor); 8] = [
    (INK, rgb(0xE8_EBEF)),
    (FAINT, rgb(0xA3_ACB8)),
    (GRID, rgb(0x2E_3640)),
    (PAPER, rgb(0x14_181D)),
    (BOX, rgb(0x1E_242C)),
    (LOST, rgb(0xFF_6B6B)),
    (TOTAL, rgb(0xC9_D1DB)),
    (BAND, rgb(0x4A_5563)),
];

/// As CSS and SVG have it.
pub(super) fn hex(color: BackendColor) -> String {
    let (r, g, b) = color.rgb;
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Black or white: what is readable on `color`.
pub(super) fn ink_on(color: BackendColor) -> BackendColor {
    let (r, g, b) = color.rgb;
    let light = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if light > 140.0 { ON_LIGHT } else { ON_DARK }
}

/// The colour of a row or a bar: the segment's, or the total's.
pub(super) fn color_of(segment: Option<Segment>) -> BackendColor {
    segment.map_or(TOTAL, self::segment)
}

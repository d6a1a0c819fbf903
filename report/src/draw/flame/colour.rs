//! Colours of frames: the hue says whose code it is, and the shade varies with the name, so that neighbours
//! differ. All are light enough for dark text, on white paper and on black.

use plotters_backend::BackendColor;

use crate::companion::profile::Kind;
use crate::draw::palette::rgb;

/// Shades of each kind.
pub(super) const SHADES: usize = 4;

/// The kinds in the order of the key, with what they are called there.
pub(super) const KINDS: [(Kind, &str); 5] = [
    (Kind::Task, "task"),
    (Kind::User, "its code"),
    (Kind::Kernel, "kernel"),
    (Kind::Context, "softirq, interrupt, preempted"),
    (Kind::Unknown, "no name or no stack"),
];

/// The letter of a kind in the classes of SVG.
pub(super) fn letter(kind: Kind) -> char {
    match kind {
        Kind::Task => 't',
        Kind::User => 'u',
        Kind::Kernel => 'k',
        Kind::Context => 'c',
        Kind::Unknown => 'n',
    }
}

/// The shades of a kind.
pub(super) fn shades(kind: Kind) -> [BackendColor; SHADES] {
    match kind {
        Kind::Task => [0xC3_CAD4, 0xCC_D3DB, 0xBB_C3CE, 0xD3_D9E0],
        Kind::User => [0xF4_B04A, 0xF6_C667, 0xF0_A060, 0xF7_D080],
        Kind::Kernel => [0x7C_B0E3, 0x92_BFE9, 0x6F_A8DC, 0xA6_CBEE],
        Kind::Context => [0xD5_9AC8, 0xDD_A9D1, 0xCF_8CC1, 0xE3_B8D9],
        Kind::Unknown => [0xDD_DDDD, 0xD6_D6D6, 0xE2_E2E2, 0xD0_D0D0],
    }
    .map(rgb)
}

/// Which shade a name has.
pub(super) fn shade(name: &str) -> usize {
    let sum = name.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    sum % SHADES
}

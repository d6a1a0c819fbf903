//! What the pictures share: their measures, headlines, headings and keys.

use plotters::backend::DrawingBackend;
use plotters_backend::BackendColor;

use super::canvas::{Area, Canvas, Ink};
use super::palette;
use super::picture::Error;

/// Width of the picture in pixels.
pub(super) const WIDTH: i32 = 1400;

/// Height of the picture in pixels.
pub(super) const HEIGHT: i32 = 920;

/// Empty space at the left and at the right, pixels.
pub(super) const MARGIN: i32 = 24;

/// Where the first panel begins, pixels from the top.
pub(super) const PANELS_TOP: i32 = 128;

/// Side of a coloured square of a key, pixels.
pub(super) const SWATCH: i32 = 10;

/// Space between panels, pixels.
pub(super) const GAP: i32 = 26;

/// Where the footnotes begin, pixels from the top.
pub(super) const NOTES_TOP: i32 = 880;

/// The answer in large letters, and what else is worth a line.
pub(super) fn headlines<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    headline: &str,
    second: &str,
) -> Result<(), Error> {
    let room = WIDTH - 2 * MARGIN;
    let fits = |em: &f64| canvas.width(headline, Ink::new(*em, palette::INK).bold()) <= room;
    let em = [28.0, 25.0, 22.0, 19.0]
        .into_iter()
        .find(fits)
        .unwrap_or(17.0);
    let ink = Ink::new(em, palette::INK).bold();
    canvas.text((MARGIN, 60), &canvas.fit(headline, ink, room), ink)?;
    let ink = Ink::new(17.0, palette::INK);
    canvas.text((MARGIN, 94), &canvas.fit(second, ink, room), ink)
}

/// A panel's heading; returns the x after it.
pub(super) fn heading<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    at: (i32, i32),
    text: &str,
) -> Result<i32, Error> {
    let ink = Ink::new(15.0, palette::INK).bold();
    canvas.text(at, text, ink)?;
    Ok(at.0 + canvas.width(text, ink))
}

/// A coloured square of a key with its text, centred at `y`; returns the x after it.
pub(super) fn swatch<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    (x, y): (i32, i32),
    color: BackendColor,
    text: &str,
    ink: Ink,
) -> Result<i32, Error> {
    canvas.fill(Area::new(x, y - 5, x + SWATCH, y - 5 + SWATCH), color)?;
    canvas.text((x + SWATCH + 5, y), text, ink)?;
    Ok(x + SWATCH + 5 + canvas.width(text, ink))
}

/// A box that says why there is nothing to see.
pub(super) fn nothing<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    area: Area,
    text: &str,
) -> Result<(), Error> {
    canvas.fill(area, palette::BOX)?;
    let ink = Ink::new(16.0, palette::FAINT).center();
    let text = canvas.fit(text, ink, area.width() - 20);
    canvas.text(
        (area.x0 + area.width() / 2, area.y0 + area.height() / 2),
        &text,
        ink,
    )
}

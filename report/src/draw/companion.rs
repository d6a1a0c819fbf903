//! The picture of a companion: its headline and its panels from top to bottom.

use plotters::backend::DrawingBackend;

use crate::companion::Chart;

use super::canvas::{Canvas, Ink};
use super::{Error, MARGIN, NOTES_TOP, headlines, palette};

/// Draws everything.
pub(super) fn draw<B: DrawingBackend>(canvas: &mut Canvas<B>, chart: &Chart) -> Result<(), Error> {
    let title = Ink::new(15.0, palette::INK).bold();
    canvas.text((MARGIN, 24), &chart.title, title)?;
    headlines(canvas, &chart.headline, &chart.second)?;
    let notes = Ink::new(12.0, palette::FAINT);
    canvas.text((MARGIN, NOTES_TOP + 4), &chart.notes, notes)
}

//! Axes beside and below a plot.

use plotters::backend::DrawingBackend;

use super::canvas::{Area, Canvas, Ink};
use super::palette;
use super::picture::Error;
use super::scale::{Scale, time_ticks};

/// Width of the value labels beside a plot, pixels.
pub(super) const LABELS: i32 = 58;
/// Height of the labels below a plot, pixels.
pub(super) const HEIGHT: i32 = 22;

/// Times below the plot, which shows `span_ns` from `start_unix_ns` on.
pub(super) fn times<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    plot: Area,
    start_unix_ns: i64,
    span_ns: u64,
) -> Result<(), Error> {
    let ink = Ink::new(12.0, palette::FAINT).center();
    let scale = Scale::linear(span_ns, plot.x0, plot.x1);
    for (since, text) in time_ticks(start_unix_ns, span_ns, 6) {
        let x = scale.at(since as f64);
        canvas.fill(Area::new(x, plot.y1, x + 1, plot.y1 + 4), palette::FAINT)?;
        // The outermost labels stay inside the picture and clear of the value labels.
        let half = canvas.width(&text, ink) / 2;
        let x = x.min(plot.x1 - half);
        canvas.text((x, plot.y1 + 13), &text, ink)?;
    }
    canvas.fill(
        Area::new(plot.x0, plot.y1, plot.x1, plot.y1 + 1),
        palette::FAINT,
    )
}

/// Horizontal lines with values at the left of the plot, about `want` of them.
pub(super) fn values<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    scale: &Scale,
    plot: Area,
    want: usize,
) -> Result<(), Error> {
    let ink = Ink::new(12.0, palette::FAINT).right();
    for (value, text) in scale.ticks(want) {
        let y = scale.at(value as f64);
        if y < plot.y1 - 2 {
            canvas.fill(Area::new(plot.x0, y, plot.x1, y + 1), palette::GRID)?;
        }
        canvas.text((plot.x0 - 6, y), &text, ink)?;
    }
    Ok(())
}

/// Vertical lines with values below the plot, about `want` of them.
pub(super) fn values_below<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    scale: &Scale,
    plot: Area,
    want: usize,
) -> Result<(), Error> {
    let ink = Ink::new(12.0, palette::FAINT).center();
    for (value, text) in scale.ticks(want) {
        let x = scale.at(value as f64);
        canvas.fill(Area::new(x, plot.y0, x + 1, plot.y1), palette::GRID)?;
        canvas.text((x, plot.y1 + 11), &text, ink)?;
    }
    Ok(())
}

//! Named values as horizontal bars: the top of something.

use plotters::backend::DrawingBackend;

use crate::companion::{Bar, Bars};

use super::height::{HEADING, Height};
use crate::draw::canvas::{Area, Canvas, Ink};
use crate::draw::palette;
use crate::draw::picture::Error;
use crate::draw::scale::Scale;

/// Minimum height of a row, pixels.
const LEAST_PITCH: i32 = 16;
/// Maximum height of a row, pixels.
const MOST_PITCH: i32 = 26;
/// Rows that a picture makes room for.
const ROWS: usize = 20;
/// Maximum width of the names, pixels.
const NAMES: i32 = 420;
/// Minimum width of the longest bar, pixels.
const LEAST_BAR: i32 = 160;
/// Width of a value, pixels.
const VALUES: i32 = 90;

pub(super) fn height(bars: &Bars) -> Height {
    let rows = |max: usize| bars.bars.len().min(max) as i32;
    Height {
        min: HEADING + LEAST_PITCH * rows(8),
        enough: HEADING + MOST_PITCH * rows(ROWS),
        grows: false,
    }
}

/// Where the parts of a row are.
struct Columns {
    names: i32,
    bar: (i32, i32),
    texts: i32,
    right: i32,
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    bars: &Bars,
    area: Area,
) -> Result<(), Error> {
    let room = ((area.height() / LEAST_PITCH) as usize).max(1);
    // The last row is for the rest.
    let shown = if bars.bars.len() > room {
        room - 1
    } else {
        bars.bars.len()
    };
    let (shown, rest) = bars.bars.split_at(shown);
    let rows = shown.len() + usize::from(!rest.is_empty());
    let pitch = (area.height() / rows as i32).min(MOST_PITCH);
    let columns = columns(canvas, shown, area);
    let max = shown.iter().map(|bar| bar.value).max().unwrap_or(0);
    let scale = Scale::linear(max, columns.bar.0, columns.bar.1);
    for (bar, k) in shown.iter().zip(0..) {
        let value = bars.unit.text(bar.value);
        let y0 = area.y0 + k * pitch;
        let row = Area::new(area.x0, y0, area.x1, y0 + pitch);
        draw_bar(canvas, (bar, &value), &columns, &scale, row)?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    let y = area.y0 + shown.len() as i32 * pitch + pitch / 2;
    let sum = rest
        .iter()
        .fold(0, |sum: u64, bar| sum.saturating_add(bar.value));
    let text = format!("{} more, together {}", rest.len(), bars.unit.text(sum));
    canvas.text((area.x0, y), &text, Ink::new(12.5, palette::FAINT))
}

/// Names and texts take what they need, bars what is left, within limits.
fn columns<B: DrawingBackend>(canvas: &Canvas<B>, bars: &[Bar], area: Area) -> Columns {
    let ink = Ink::new(12.5, palette::INK);
    let widest = |text: fn(&Bar) -> &str| {
        let widths = bars.iter().map(|bar| canvas.width(text(bar), ink));
        widths.max().unwrap_or(0)
    };
    let names = widest(|bar| &bar.name).min(NAMES);
    let bar = area.x0 + names + 12;
    let room = area.x1 - bar - VALUES;
    let texts = (widest(|bar| &bar.text) + 14).min(room - LEAST_BAR);
    let texts = area.x1 - texts;
    Columns {
        names,
        bar: (bar, texts - VALUES),
        texts,
        right: area.x1,
    }
}

fn draw_bar<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    (bar, value): (&Bar, &str),
    columns: &Columns,
    scale: &Scale,
    row: Area,
) -> Result<(), Error> {
    let y = row.y0 + row.height() / 2;
    let ink = Ink::new(12.5, palette::INK);
    canvas.text((row.x0, y), &canvas.fit(&bar.name, ink, columns.names), ink)?;
    let half = (row.height() / 2 - 3).max(2);
    let (x0, x1) = (columns.bar.0, scale.at(bar.value as f64));
    // A small value remains visible.
    let x1 = x1.max(x0 + i32::from(bar.value > 0));
    canvas.fill(Area::new(x0, y - half, x1, y + half), palette::class(0))?;
    canvas.text((x1 + 8, y), value, ink.bold())?;
    let faint = Ink::new(12.5, palette::FAINT);
    let text = canvas.fit(&bar.text, faint, columns.right - columns.texts);
    canvas.text((columns.texts, y), &text, faint)?;
    canvas.hint(row, format!("{}: {value}\n{}", bar.name, bar.text));
    Ok(())
}

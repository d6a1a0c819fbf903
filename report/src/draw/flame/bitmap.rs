//! A flame graph on a canvas of fixed size: what is too deep for it is said.

use plotters::backend::DrawingBackend;

use super::colour::{KINDS, shade, shades};
use super::place::{frames, words};
use crate::companion::profile::Flame;
use crate::draw::canvas::{Area, Canvas, Ink};
use crate::draw::layout::{MARGIN, NOTES_TOP, PANELS_TOP, WIDTH, headlines, nothing, swatch};
use crate::draw::palette;
use crate::draw::picture::Error;

/// Height of a frame, pixels.
const ROW: i32 = 18;
/// Room below the frames.
const BELOW: i32 = 16;

/// Draws everything.
pub(in crate::draw) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    flame: &Flame,
) -> Result<(), Error> {
    let title = Ink::new(15.0, palette::INK).bold();
    let room = WIDTH - 2 * MARGIN;
    canvas.text((MARGIN, 24), &canvas.fit(&flame.title, title, room), title)?;
    headlines(canvas, &flame.headline, "")?;
    key(canvas)?;
    let rows = (NOTES_TOP - BELOW - PANELS_TOP) / ROW;
    let body = Area::new(MARGIN, PANELS_TOP, WIDTH - MARGIN, PANELS_TOP + rows * ROW);
    if flame.root.value == 0 {
        nothing(canvas, body, &flame.headline)?;
    } else {
        all(canvas, flame, body, rows as usize)?;
    }
    let deeper = flame.root.depth().saturating_sub(rows as usize);
    let mut notes = flame.notes.clone();
    if deeper > 0 {
        notes = format!("{deeper} levels more, see .svg or .html. {notes}");
    }
    let ink = Ink::new(12.0, palette::FAINT);
    canvas.text((MARGIN, NOTES_TOP + 8), &canvas.fit(&notes, ink, room), ink)
}

fn key<B: DrawingBackend>(canvas: &mut Canvas<B>) -> Result<(), Error> {
    let mut x = MARGIN;
    let ink = Ink::new(12.0, palette::FAINT);
    for (kind, name) in KINDS {
        x = swatch(canvas, (x, PANELS_TOP - 20), shades(kind)[0], name, ink)? + 14;
    }
    Ok(())
}

fn all<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    flame: &Flame,
    body: Area,
    rows: usize,
) -> Result<(), Error> {
    let ink = Ink::new(11.0, palette::INK);
    let pixel = |weight: u64| {
        let part = weight as f64 / flame.root.value as f64;
        body.x0 + (part * f64::from(body.width())).round() as i32
    };
    for frame in frames(flame) {
        let node = frame.node;
        let (x0, x1) = (pixel(frame.start), pixel(frame.start + node.value));
        if frame.level >= rows || x1 <= x0 {
            continue;
        }
        let y = body.y0 + frame.level as i32 * ROW;
        // A gap tells neighbours apart, where there is room for it.
        let end = if x1 - x0 > 2 { x1 - 1 } else { x1 };
        let area = Area::new(x0, y, end, y + ROW - 1);
        canvas.fill(area, shades(node.kind)[shade(&node.name)])?;
        canvas.hint(area, words(flame, node));
        let name = canvas.fit(&node.name, ink, area.width() - 6);
        canvas.text((x0 + 3, y + ROW / 2), &name, ink)?;
    }
    Ok(())
}

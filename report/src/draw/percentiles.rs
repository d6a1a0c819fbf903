//! The distribution of the total and of each segment, one row each, on a logarithmic axis.

use plotters::backend::DrawingBackend;

use crate::model::{Capture, DelayStat, Marks, Segment};
use crate::units::duration;

use super::canvas::{Area, Canvas, Ink};
use super::layout::{heading, nothing};
use super::palette::color_of;
use super::picture::Error;
use super::scale::Scale;
use super::{axis, palette};

/// Width of the names, pixels.
const NAMES: i32 = 128;
/// Width of one column of numbers, pixels.
const COLUMN: i32 = 68;
/// Height of the heading, pixels.
const HEADING: i32 = 28;

/// Draws the panel.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    capture: &Capture,
    marks: Marks,
    area: Area,
) -> Result<(), Error> {
    let title = heading(canvas, (area.x0, area.y0 + 8), "Delay by segment")?;
    let stats: Vec<&DelayStat> = capture
        .summary
        .delays
        .iter()
        .filter(|stat| stat.count > 0 && stat.max > 0)
        .collect();
    let plot = Area::new(
        area.x0 + NAMES,
        area.y0 + HEADING,
        area.x1 - 3 * COLUMN,
        area.y1 - axis::HEIGHT,
    );
    let Some(scale) = scale(&stats, plot) else {
        let empty = Area {
            y0: plot.y0,
            ..area
        };
        return nothing(canvas, empty, "No probe was answered.");
    };
    let pitch = (plot.height() / stats.len() as i32).min(24);
    let plot = Area {
        y1: plot.y0 + pitch * stats.len() as i32,
        ..plot
    };
    key(canvas, (title + 24, area.y0 + 8))?;
    let names = ["p50", "p99", "max"].map(str::to_owned);
    columns(canvas, area, &names, area.y0 + 8, palette::FAINT)?;
    axis::values_below(canvas, &scale, plot, 6)?;
    for (k, stat) in stats.into_iter().enumerate() {
        let y = plot.y0 + k as i32 * pitch + pitch / 2;
        let marks = stat.segment.map(|segment| marks.for_segment(segment));
        let marks = marks.unwrap_or_default();
        let area = Area::new(area.x0, y, area.x1, y + pitch);
        row(canvas, stat, marks, &scale, area)?;
    }
    Ok(())
}

/// From the smallest median to the largest value; none without a value.
fn scale(stats: &[&DelayStat], plot: Area) -> Option<Scale> {
    let max = stats.iter().map(|stat| stat.max).max()?;
    let min = stats.iter().map(|stat| stat.p50).min()?;
    Some(Scale::log(min, max, plot.x0 + 6, plot.x1 - 12))
}

/// What the parts of a range mean.
fn key<B: DrawingBackend>(canvas: &mut Canvas<B>, (mut x, y): (i32, i32)) -> Result<(), Error> {
    let ink = Ink::new(12.0, palette::FAINT);
    canvas.disc((x, y - 1), 4, palette::FAINT)?;
    x += 10;
    for (text, half) in [("p50", 0), ("p90", 5), ("p99", 3), ("p99.9", 2), ("max", 1)] {
        if half > 0 {
            canvas.fill(
                Area::new(x, y - half, x + 16, y - half + thickness(half)),
                palette::FAINT,
            )?;
            x += 20;
        }
        canvas.text((x, y), text, ink)?;
        x += canvas.width(text, ink) + 6;
    }
    Ok(())
}

/// Height of a bar whose upper edge is `half` above the middle.
fn thickness(half: i32) -> i32 {
    (2 * half - 1).max(1)
}

/// Three numbers at the right.
fn columns<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    area: Area,
    texts: &[String; 3],
    y: i32,
    color: plotters_backend::BackendColor,
) -> Result<(), Error> {
    for (text, left) in texts.iter().zip([2, 1, 0]) {
        canvas.text(
            (area.x1 - left * COLUMN, y),
            text,
            Ink::new(12.0, color).right(),
        )?;
    }
    Ok(())
}

fn row<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    stat: &DelayStat,
    marks: Marks,
    scale: &Scale,
    area: Area,
) -> Result<(), Error> {
    let y = area.y0;
    let name = stat.segment.map_or("total", Segment::name).to_owned() + &marks.symbols();
    let ink = Ink::new(12.5, palette::INK);
    let ink = if stat.segment.is_none() {
        ink.bold()
    } else {
        ink
    };
    canvas.text((area.x0, y), &canvas.fit(&name, ink, NAMES - 4), ink)?;
    range(canvas, stat, scale, y - 1)?;
    let numbers = [stat.p50, stat.p99, stat.max].map(duration);
    columns(canvas, area, &numbers, y, palette::INK)?;
    let half = area.height() / 2;
    canvas.hint(
        Area::new(area.x0, y - half, area.x1, y + half),
        hint(&name, stat),
    );
    Ok(())
}

/// A bar that gets thinner from percentile to percentile, with a dot at the median.
fn range<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    stat: &DelayStat,
    scale: &Scale,
    y: i32,
) -> Result<(), Error> {
    let color = color_of(stat.segment);
    let steps = [
        (stat.p50, stat.p90, 5),
        (stat.p90, stat.p99, 3),
        (stat.p99, stat.p999, 2),
        (stat.p999, stat.max, 1),
    ];
    for (from, to, half) in steps {
        let (x0, x1) = (scale.at(from as f64), scale.at(to as f64));
        canvas.fill(
            Area::new(x0, y - half + 1, x1, y - half + 1 + thickness(half)),
            color,
        )?;
    }
    let end = scale.at(stat.max as f64);
    canvas.fill(Area::new(end - 1, y - 4, end + 1, y + 5), color)?;
    let median = (scale.at(stat.p50 as f64), y);
    canvas.disc(median, 6, palette::PAPER)?;
    canvas.disc(median, 5, color)
}

fn hint(name: &str, stat: &DelayStat) -> String {
    let values = [
        ("min", stat.min),
        ("mean", stat.mean.round() as u64),
        ("p50", stat.p50),
        ("p90", stat.p90),
        ("p99", stat.p99),
        ("p99.9", stat.p999),
        ("max", stat.max),
    ];
    let values: Vec<String> = values
        .iter()
        .map(|(name, ns)| format!("{name} {}", duration(*ns)))
        .collect();
    format!("{name}: {} probes\n{}", stat.count, values.join("\n"))
}

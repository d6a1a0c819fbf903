//! Responses (totals without a schedule) over time.

use chrono::{DateTime, Local};
use plotters::backend::DrawingBackend;

use crate::model::{Bucket, Capture, DelayStat, Segment};
use crate::units::{Unit, duration};

use super::canvas::{Area, Canvas, Ink};
use super::layout::{heading, nothing};
use super::picture::Error;
use super::scale::{Scale, since};
use super::{axis, palette};

/// Height of the heading, pixels.
const HEADING: i32 = 28;
/// Height of the strip of lost probes, pixels.
const STRIP: i32 = 12;
/// Buckets at most; more are joined.
const MOST: usize = 270;

/// Buckets placed on the picture.
struct Columns {
    plot: Area,
    width_ns: u64,
    buckets: Vec<Bucket>,
}

impl Columns {
    fn span_ns(&self) -> u64 {
        self.begin(self.buckets.len())
    }

    fn x(&self, ns: u64) -> i32 {
        Scale::linear(self.span_ns(), self.plot.x0, self.plot.x1).at(ns as f64)
    }

    /// Nanoseconds from the run's start to bucket `k`.
    fn begin(&self, k: usize) -> u64 {
        self.width_ns.saturating_mul(k as u64)
    }

    /// The columns of bucket `k`, at least one.
    fn columns(&self, k: usize) -> (i32, i32) {
        let (x0, x1) = (self.x(self.begin(k)), self.x(self.begin(k + 1)));
        (x0, x1.max(x0 + 1))
    }

    fn answered(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().filter(|bucket| bucket.count > 0)
    }
}

/// Draws the panel.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    capture: &Capture,
    area: Area,
) -> Result<(), Error> {
    let plot = Area::new(
        area.x0 + axis::LABELS,
        area.y0 + HEADING,
        area.x1,
        area.y1 - axis::HEIGHT,
    );
    let columns = join(plot, &capture.series);
    let lost: u64 = columns
        .buckets
        .iter()
        .map(|bucket| u64::from(bucket.lost))
        .sum();
    let scale = values(capture, &columns);
    let logarithmic = scale.is_some_and(|scale| scale.is_log());
    let of_response = |stat: &DelayStat| stat.segment == Some(Segment::Response);
    let what = if capture.summary.taken().is_some_and(of_response) {
        "Response"
    } else {
        "Total"
    };
    let mut title = format!("{what} over time");
    if logarithmic {
        title += ", logarithmic";
    }
    let title = heading(canvas, (area.x0, area.y0 + 8), &title)?;
    if lost == 0 && columns.answered().next().is_none() {
        return nothing(
            canvas,
            Area {
                y0: plot.y0,
                ..area
            },
            "No probe was answered.",
        );
    }
    key(canvas, lost, (title + 18, area.x1, area.y0 + 8))?;
    axis::times(canvas, plot, capture.run.start_unix_ns, columns.span_ns())?;
    if let Some(scale) = scale {
        axis::values(canvas, &scale, plot, 6)?;
        band(canvas, &columns, &scale)?;
        mean(canvas, &columns, &scale)?;
        threshold(canvas, capture.run.threshold_ns, &scale, plot)?;
    } else {
        let middle = Area {
            y0: plot.y0 + STRIP + 4,
            ..plot
        };
        nothing(canvas, middle, "No probe was answered.")?;
    }
    strip(canvas, &columns)?;
    hints(canvas, &columns, capture.run.start_unix_ns);
    Ok(())
}

/// At most `MOST` buckets, joined where there are more; none of width 0.
fn join(plot: Area, (width_ns, buckets): &(u64, Vec<Bucket>)) -> Columns {
    let each = buckets.len().div_ceil(MOST).max(1);
    let buckets = buckets
        .chunks(each)
        .map(|chunk| chunk.iter().copied().fold(Bucket::default(), sum))
        .collect();
    Columns {
        plot,
        width_ns: (*width_ns).max(1).saturating_mul(each as u64),
        buckets,
    }
}

fn sum(a: Bucket, b: Bucket) -> Bucket {
    let lost = a.lost.saturating_add(b.lost);
    match (a.count, b.count) {
        (_, 0) => Bucket { lost, ..a },
        (0, _) => Bucket { lost, ..b },
        (m, n) => Bucket {
            count: m.saturating_add(n),
            lost,
            min: a.min.min(b.min),
            mean: (a.mean * f64::from(m) + b.mean * f64::from(n)) / (f64::from(m) + f64::from(n)),
            max: a.max.max(b.max),
        },
    }
}

/// The value axis; none if no probe was answered.
fn values(capture: &Capture, columns: &Columns) -> Option<Scale> {
    let min = columns.answered().map(|bucket| bucket.min).min()?;
    let max = columns.answered().map(|bucket| bucket.max).max()?;
    let threshold = capture.run.threshold_ns;
    let (min, max) = if threshold > 0 {
        (min.min(threshold), max.max(threshold))
    } else {
        (min, max)
    };
    Some(Scale::auto(
        min,
        max,
        columns.plot.y1,
        columns.plot.y0 + STRIP + 6,
    ))
}

fn key<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    lost: u64,
    (mut x, right, y): (i32, i32, i32),
) -> Result<(), Error> {
    let ink = Ink::new(12.0, palette::FAINT);
    canvas.fill(Area::new(x, y - 6, x + 16, y + 6), palette::BAND)?;
    canvas.text((x + 21, y), "min to max", ink)?;
    x += 21 + canvas.width("min to max", ink) + 14;
    canvas.fill(Area::new(x, y - 1, x + 16, y + 1), palette::TOTAL)?;
    canvas.text((x + 21, y), "mean", ink)?;
    if lost > 0 {
        let text = format!("{lost} lost");
        let ink = Ink::new(13.0, palette::LOST).bold().right();
        canvas.text((right, y), &text, ink)?;
        let x = right - canvas.width(&text, ink) - 9;
        canvas.fill(Area::new(x, y - 6, x + 2, y + 6), palette::LOST)?;
    }
    Ok(())
}

fn band<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    columns: &Columns,
    scale: &Scale,
) -> Result<(), Error> {
    for (k, bucket) in columns
        .buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| bucket.count > 0)
    {
        let (x0, x1) = columns.columns(k);
        let (top, bottom) = (scale.at(bucket.max as f64), scale.at(bucket.min as f64));
        canvas.fill(Area::new(x0, top - 1, x1, bottom + 1), palette::BAND)?;
    }
    Ok(())
}

/// A line through the means, broken where nothing was answered.
fn mean<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    columns: &Columns,
    scale: &Scale,
) -> Result<(), Error> {
    let buckets: Vec<(usize, Bucket)> = columns.buckets.iter().copied().enumerate().collect();
    for piece in buckets
        .split(|(_, bucket)| bucket.count == 0)
        .filter(|piece| !piece.is_empty())
    {
        let mut points = Vec::with_capacity(piece.len() + 2);
        for (k, bucket) in piece {
            let ((x0, x1), y) = (columns.columns(*k), scale.at(bucket.mean));
            if points.is_empty() {
                points.push((x0, y));
            }
            points.push((i32::midpoint(x0, x1), y));
        }
        if let (Some((k, _)), Some((_, y))) = (piece.last(), points.last().copied()) {
            points.push((columns.columns(*k).1, y));
        }
        points.dedup();
        canvas.path(&points, 2, palette::TOTAL)?;
    }
    Ok(())
}

fn threshold<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    ns: u64,
    scale: &Scale,
    plot: Area,
) -> Result<(), Error> {
    if ns == 0 {
        return Ok(());
    }
    let y = scale.at(ns as f64);
    canvas.dashes(plot.x0, plot.x1, y, palette::INK)?;
    let (text, ink) = (
        format!("threshold {}", Unit::Nanoseconds.round_text(ns)),
        Ink::new(12.0, palette::INK).right(),
    );
    let above = y - 9;
    let x0 = plot.x1 - canvas.width(&text, ink) - 8;
    canvas.fill(
        Area::new(x0, above - 8, plot.x1, above + 8),
        palette::PAPER.mix(0.75),
    )?;
    canvas.text((plot.x1 - 4, above), &text, ink)
}

/// A red tick at the top for each bucket with a loss.
fn strip<B: DrawingBackend>(canvas: &mut Canvas<B>, columns: &Columns) -> Result<(), Error> {
    let plot = columns.plot;
    for k in (0..columns.buckets.len()).filter(|k| columns.buckets[*k].lost > 0) {
        let (x0, x1) = columns.columns(k);
        let (middle, half) = (i32::midpoint(x0, x1), ((x1 - x0) / 2).clamp(1, 3));
        canvas.fill(
            Area::new(middle - half, plot.y0, middle + half, plot.y0 + STRIP),
            palette::LOST,
        )?;
    }
    Ok(())
}

fn hints<B: DrawingBackend>(canvas: &mut Canvas<B>, columns: &Columns, start_unix_ns: i64) {
    for (k, bucket) in columns
        .buckets
        .iter()
        .enumerate()
        .filter(|(_, b)| b.count > 0 || b.lost > 0)
    {
        let (x0, x1) = columns.columns(k);
        let text = hint(since(start_unix_ns, columns.begin(k)), bucket);
        canvas.hint(
            Area {
                x0,
                x1,
                ..columns.plot
            },
            text,
        );
    }
}

fn hint(begin: DateTime<Local>, bucket: &Bucket) -> String {
    let time = begin.format("%H:%M:%S%.3f");
    let counts = format!("{time}: {} answered, {} lost", bucket.count, bucket.lost);
    if bucket.count == 0 {
        return counts;
    }
    let values = [bucket.min, bucket.mean.round() as u64, bucket.max].map(duration);
    format!(
        "{counts}\nmin {}, mean {}, max {}",
        values[0], values[1], values[2]
    )
}

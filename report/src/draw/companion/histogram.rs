//! A histogram: buckets on a logarithmic value axis, so that the few slow values have as much room as the
//! many fast ones. Percentiles are known only to a bucket: its upper bound is shown.

use plotters::backend::DrawingBackend;

use crate::analysis::quantile::Quantile;
use crate::companion::{Histogram, Unit};

use super::height::{HEADING, Height};
use crate::draw::canvas::{Area, Canvas, Ink};
use crate::draw::picture::Error;
use crate::draw::scale::Scale;
use crate::draw::{axis, palette};

pub(super) const HEIGHT: Height = Height {
    min: HEADING + 110,
    enough: HEADING + 280,
    grows: false,
};

/// Height of the marks' names above the plot, pixels.
const NAMES: i32 = 20;
/// Room at the left for values that no logarithmic axis shows: those from 0 on, pixels.
const ZERO: i32 = 30;
/// Counts further apart than this factor are drawn on a logarithmic axis.
const LINEAR: u64 = 50;
/// The smallest count's height on a logarithmic axis, pixels.
const ONE: i32 = 6;

/// From (inclusive), to (exclusive), how often.
type Bucket = (u64, u64, u64);

/// Buckets placed on the picture.
struct View<'a> {
    unit: Unit,
    buckets: &'a [Bucket],
    plot: Area,
    values: Scale,
    counts: Scale,
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    histogram: &Histogram,
    beside: Area,
    area: Area,
) -> Result<(), Error> {
    let buckets = counted(&histogram.buckets);
    let plot = Area::new(
        area.x0 + axis::LABELS,
        area.y0 + NAMES,
        area.x1,
        (area.y1 - axis::HEIGHT).max(area.y0 + NAMES + 1),
    );
    let view = View {
        unit: histogram.unit,
        buckets,
        plot,
        values: values(buckets, plot).with_unit(histogram.unit),
        counts: counts(buckets, plot).with_unit(Unit::Count),
    };
    says(canvas, &view, beside)?;
    axis::values(
        canvas,
        &view.counts,
        plot,
        (plot.height() / 30).max(2) as usize,
    )?;
    axis::values_below(canvas, &view.values, plot, 12)?;
    for (k, bucket) in buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| bucket.2 > 0)
    {
        bar(canvas, &view, bucket)?;
        canvas.hint(column(&view, bucket), hint(&view, k));
    }
    marks(canvas, &view)
}

/// From the first to the last bucket with a count.
fn counted(buckets: &[Bucket]) -> &[Bucket] {
    let counts = |bucket: &Bucket| bucket.2 > 0;
    let first = buckets.iter().position(counts).unwrap_or(0);
    let end = buckets.iter().rposition(counts).map_or(0, |last| last + 1);
    &buckets[first..end]
}

/// The value axis, from the first bound above 0.
fn values(buckets: &[Bucket], plot: Area) -> Scale {
    let from_zero = buckets.first().is_some_and(|bucket| bucket.0 == 0);
    let bounds = buckets.iter().flat_map(|(from, to, _)| [*from, *to]);
    let min = bounds.clone().filter(|bound| *bound > 0).min().unwrap_or(1);
    let max = bounds.max().unwrap_or(1);
    let x0 = plot.x0 + if from_zero { ZERO } else { 0 };
    Scale::log(min, max, x0, plot.x1 - 20)
}

fn counts(buckets: &[Bucket], plot: Area) -> Scale {
    let counts = buckets
        .iter()
        .map(|bucket| bucket.2)
        .filter(|count| *count > 0);
    let max = counts.clone().max().unwrap_or(1);
    let min = counts.min().unwrap_or(1);
    // Above the highest bar there is room for its count.
    let top = (plot.y0 + 16).min(plot.y1);
    if max / LINEAR > min {
        Scale::log(1, max, (plot.y1 - ONE).max(top), top)
    } else {
        Scale::linear(max, plot.y1, top)
    }
}

/// How many there are and how to read the picture, beside the heading.
fn says<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View, beside: Area) -> Result<(), Error> {
    let total = u64::try_from(total(view.buckets)).unwrap_or(u64::MAX);
    let mut text = format!("{} values", Unit::Count.text(total));
    if view.counts.is_log() {
        text += ", counts on a logarithmic axis";
    }
    text += "; percentiles and maximum are upper bounds of their buckets";
    let ink = Ink::new(12.0, palette::FAINT);
    let text = canvas.fit(&text, ink, beside.width());
    canvas.text((beside.x0, beside.y0 + 9), &text, ink)
}

/// The columns of a bucket, at least one, as high as the plot.
fn column(view: &View, (from, to, _): &Bucket) -> Area {
    let x0 = if *from == 0 {
        view.plot.x0
    } else {
        view.values.at(*from as f64)
    };
    let x1 = view.values.at(*to as f64).max(x0 + 1);
    Area {
        x0,
        x1,
        ..view.plot
    }
}

fn bar<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    view: &View,
    bucket: &Bucket,
) -> Result<(), Error> {
    let column = column(view, bucket);
    let gap = i32::from(column.width() > 4);
    // A small count remains visible.
    let y0 = view.counts.at(bucket.2 as f64).min(view.plot.y1 - 2);
    let bar = Area {
        x0: column.x0 + gap,
        y0,
        ..column
    };
    canvas.fill(bar, palette::class(0))?;
    let (ink, text) = (
        Ink::new(11.5, palette::INK).center(),
        Unit::Count.text(bucket.2),
    );
    if canvas.width(&text, ink) <= column.width() + 6 {
        canvas.text((i32::midpoint(bar.x0, bar.x1), y0 - 8), &text, ink)?;
    }
    Ok(())
}

/// Dashed lines where percentiles end, each with its name and bound above the plot.
fn marks<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View) -> Result<(), Error> {
    let mut bounds: Vec<(String, u64)> = Vec::new();
    let orders = [Quantile::P50, Quantile::P99, Quantile::MAX];
    for (name, order) in ["p50", "p99", "max"].into_iter().zip(orders) {
        let bound = bound(view.buckets, order);
        match bounds.last_mut() {
            Some((names, last)) if *last == bound => names.extend([", ", name]),
            _ => bounds.push((name.to_owned(), bound)),
        }
    }
    let ink = Ink::new(12.0, palette::INK);
    let mut right = view.plot.x1;
    for (names, bound) in bounds.iter().rev() {
        let x = view.values.at(*bound as f64);
        for y in (view.plot.y0..view.plot.y1).step_by(8) {
            let end = (y + 4).min(view.plot.y1);
            canvas.fill(Area::new(x, y, x + 1, end), palette::INK)?;
        }
        let text = format!("{names} < {}", view.unit.text(*bound));
        let width = canvas.width(&text, ink);
        let left = (x - width / 2).min(right - width);
        canvas.text((left, view.plot.y0 - 9), &text, ink)?;
        right = left - 10;
    }
    Ok(())
}

fn total(buckets: &[Bucket]) -> u128 {
    buckets.iter().map(|bucket| u128::from(bucket.2)).sum()
}

/// The upper bound of the bucket in which this quantile lies.
pub(super) fn bound(buckets: &[Bucket], order: Quantile) -> u64 {
    let at = order.position(buckets.iter().map(|(.., n)| *n));
    let reached = at.map(|at| buckets[at]);
    reached
        .or(buckets.last().copied())
        .map_or(0, |bucket| bucket.1)
}

/// Values of this bucket and of all before it, percent.
pub(super) fn percent(buckets: &[Bucket], k: usize) -> (f64, f64) {
    let part = |sum: u128| 100.0 * sum as f64 / total(buckets).max(1) as f64;
    (part(u128::from(buckets[k].2)), part(total(&buckets[..=k])))
}

fn hint(view: &View, k: usize) -> String {
    let (from, to, count) = view.buckets[k];
    let (own, below) = percent(view.buckets, k);
    let [from, to] = [from, to].map(|bound| view.unit.text(bound));
    format!("from {from} to below {to}: {count} ({own:.3} %)\nbelow {to}: {below:.3} %")
}

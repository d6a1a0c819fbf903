//! The numbers of a companion's picture, for the page.

use plotters_backend::BackendColor;

use crate::companion::{Bar, Bars, Chart, Histogram, Mark, Panel, Series, Stacked, Timeline};
use crate::units::duration;

use super::{histogram, timeline};
use crate::draw::html::{escape, square, table};
use crate::draw::palette;

/// Marks in a table: the longest.
const MARKS: usize = 200;

/// All of the notes, and a table a panel that shows something.
pub(in crate::draw) fn tables(chart: &Chart) -> String {
    let notes = match chart.notes.as_str() {
        "" => String::new(),
        notes => format!("<p>{}</p>\n", escape(notes)),
    };
    let full = chart
        .panels
        .iter()
        .filter(|panel| panel.nothing().is_none());
    full.fold(notes, |page, panel| page + &panel_table(panel))
}

fn panel_table(panel: &Panel) -> String {
    let (head, rows): (&[&str], _) = match panel {
        Panel::Timeline(timeline) => (
            &["time", "lane", "class", "duration", "what"],
            marks(timeline),
        ),
        Panel::Histogram(histogram) => (
            &["from", "to below", "count", "share", "up to here"],
            buckets(histogram),
        ),
        Panel::Stacked(stacked) => (&["name", "mean", "peak", "last"], series(stacked)),
        Panel::Bars(bars) => (&["name", "value", "what"], named(bars)),
    };
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let more = match panel {
        Panel::Timeline(timeline) if timeline.marks.len() > MARKS => {
            format!(": the longest {MARKS} of {}", timeline.marks.len())
        }
        _ => String::new(),
    };
    table(&format!("{}{more}", panel.heading()), &head, &rows)
}

fn marks(timeline: &Timeline) -> Vec<Vec<String>> {
    let row = |mark: &&Mark| {
        vec![
            timeline::time(timeline, mark),
            escape(timeline::lane(timeline, mark)),
            coloured(palette::class(mark.class), timeline::class(timeline, mark)),
            duration(mark.ns),
            lines(&mark.text),
        ]
    };
    let marks = timeline::longest_first(timeline);
    marks.iter().take(MARKS).map(row).collect()
}

fn buckets(histogram: &Histogram) -> Vec<Vec<String>> {
    let row = |k: usize| {
        let (from, to, count) = histogram.buckets[k];
        let (own, below) = histogram::percent(&histogram.buckets, k);
        vec![
            histogram.unit.text(from),
            histogram.unit.text(to),
            count.to_string(),
            format!("{own:.3} %"),
            format!("{below:.3} %"),
        ]
    };
    let counted = |k: &usize| histogram.buckets[*k].2 > 0;
    (0..histogram.buckets.len())
        .filter(counted)
        .map(row)
        .collect()
}

fn series(stacked: &Stacked) -> Vec<Vec<String>> {
    let text = |value: f64| stacked.unit.text(value as u64);
    let row = |series: &Series| {
        let values = &series.values;
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        vec![
            escape(&series.name),
            text(mean),
            text(values.iter().copied().fold(0.0, f64::max)),
            text(values.last().copied().unwrap_or(0.0)),
        ]
    };
    stacked.series.iter().map(row).collect()
}

fn named(bars: &Bars) -> Vec<Vec<String>> {
    let row = |bar: &Bar| {
        vec![
            escape(&bar.name),
            bars.unit.text(bar.value),
            lines(&bar.text),
        ]
    };
    bars.bars.iter().map(row).collect()
}

/// A name with its colour.
fn coloured(color: BackendColor, name: &str) -> String {
    square(color) + &escape(name)
}

/// Text that keeps its lines.
fn lines(text: &str) -> String {
    format!("<pre>{}</pre>", escape(text))
}

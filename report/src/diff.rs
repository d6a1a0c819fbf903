//! Two runs side by side: which segments moved, by how much, and how sure that is.
//!
//! Percentiles and their confidence intervals come from the histograms of all probes, not from
//! the recorded ones; see [`confidence`](crate::confidence).

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::Serialize;

use crate::confidence::{Bounds, CONFIDENCE, Change};
use crate::model::{Run, Segment, Summary};
use crate::quantile::Quantile;
use crate::saved::Saved;
use crate::units::duration;

/// The quantiles that are compared, and their names.
const ORDERS: [(Quantile, &str); 2] = [(Quantile::P50, "p50"), (Quantile::P99, "p99")];
/// Segments that the first sentence names.
const NAMED: usize = 4;

/// Of one run, the count of a delay and its quantiles, nanoseconds, as in [`ORDERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    count: u64,
    quantiles: [u64; ORDERS.len()],
    bounds: [Bounds; ORDERS.len()],
}

/// One delay in both runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// Absent for the total.
    segment: Option<Segment>,
    sides: [Option<Side>; 2],
}

impl Row {
    fn name(&self) -> &'static str {
        self.segment.map_or("total", Segment::name)
    }

    /// The change of each quantile, if both runs have the delay.
    fn changes(&self) -> Option<[Change; ORDERS.len()]> {
        let [Some(a), Some(b)] = self.sides else {
            return None;
        };
        let change = |at: usize| {
            let of = |side: Side| (side.quantiles[at], side.bounds[at]);
            Change::between(of(a), of(b))
        };
        Some(std::array::from_fn(change))
    }

    /// The largest change beyond its bounds, and the quantile's name.
    fn moved(&self) -> Option<(&'static str, Change)> {
        let named = ORDERS
            .map(|(_, name)| name)
            .into_iter()
            .zip(self.changes()?);
        named
            .filter(|(_, change)| change.moved())
            .rev()
            .max_by_key(|(_, change)| change.ns.unsigned_abs())
    }
}

/// Two runs, compared.
#[derive(Clone, Debug)]
pub struct Diff<'a> {
    /// The runs, and what they are called.
    runs: [(&'a str, &'a Saved); 2],
    /// The total first, then the segments in path order.
    rows: Vec<Row>,
}

impl<'a> Diff<'a> {
    /// Compares two runs; each with its name, such as that of its file.
    pub fn new(a: (&'a str, &'a Saved), b: (&'a str, &'a Saved)) -> Self {
        let all = [None].into_iter().chain(Segment::ALL.map(Some));
        let row = |segment| Row {
            segment,
            sides: [a, b].map(|(_, saved)| side(&saved.summary, segment)),
        };
        Self {
            runs: [a, b],
            rows: all
                .map(row)
                .filter(|row| row.sides.iter().any(Option::is_some))
                .collect(),
        }
    }

    /// Segments that changed by more than their interval, by the size of their largest change.
    fn movers(&self) -> Vec<(&'static str, &'static str, Change)> {
        let rows = self.rows.iter().filter(|row| row.segment.is_some());
        let mut movers: Vec<_> = rows
            .filter_map(|row| {
                row.moved()
                    .map(|(order, change)| (row.name(), order, change))
            })
            .collect();
        movers.sort_by_key(|(.., change)| Reverse(change.ns.unsigned_abs()));
        movers
    }

    /// For people: the answer in a sentence, the two runs, a table, and what the intervals mean.
    pub fn text(&self) -> String {
        let mut text = self.answer();
        for (which, (name, saved)) in ["A", "B"].into_iter().zip(self.runs) {
            push(
                &mut text,
                format_args!("{which}: {name}: {}\n", describe(saved)),
            );
        }
        text.push('\n');
        self.push_table(&mut text);
        self.push_incomparable(&mut text);
        push(
            &mut text,
            format_args!(
                "\nIn brackets: where the change lies with a confidence of {:.0} %, from the order statistics of all\n\
                 probes; ? where there are too few. Probes close in time are correlated, so the doubt is larger\n\
                 than these intervals say.\n",
                CONFIDENCE * 100.0
            ),
        );
        text
    }

    fn answer(&self) -> String {
        let movers = self.movers();
        let said = |(name, order, change): &(&str, &str, Change)| {
            format!("{name} {order} {}", in_one_unit(change))
        };
        let Some((first, rest)) = movers.split_first() else {
            let total = self.rows.iter().find(|row| row.segment.is_none());
            return match total.and_then(Row::moved) {
                Some((order, change)) => format!(
                    "no segment moved beyond its interval, but the total did: {order} {}\n",
                    in_one_unit(&change)
                ),
                None => "nothing moved beyond its interval\n".into(),
            };
        };
        let (name, order, change) = first;
        let change = in_one_unit(change);
        if rest.is_empty() {
            return format!(
                "{name} moved: {order} {change}; nothing else moved beyond its interval\n"
            );
        }
        let named: Vec<_> = rest.iter().take(NAMED - 1).map(said).collect();
        let more = match rest.len().saturating_sub(NAMED - 1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!(
            "{name} moved most: {order} {change}; less: {}{more}\n",
            named.join(", ")
        )
    }

    fn push_table(&self, text: &mut String) {
        push(text, format_args!("{:<16}", "segment"));
        for (_, order) in ORDERS {
            let [a, b] = ["A", "B"].map(|run| format!("{order} {run}"));
            push(text, format_args!(" {a:>8} {b:>8}  {:<26}", "change"));
        }
        *text = format!("{}\n", text.trim_end());
        for row in &self.rows {
            let [Some(a), Some(b)] = row.sides else {
                continue;
            };
            let changes = row.changes().into_iter().flatten();
            let mut line = format!("{:<16}", row.name());
            for (at, change) in changes.enumerate() {
                let [a, b] = [a, b].map(|side| duration(side.quantiles[at]));
                push(
                    &mut line,
                    format_args!(" {a:>8} {b:>8}  {:<26}", in_one_unit(&change)),
                );
            }
            push(text, format_args!("{}\n", line.trim_end()));
        }
    }

    fn push_incomparable(&self, text: &mut String) {
        for (at, which) in ["A", "B"].into_iter().enumerate() {
            let only = |row: &&Row| row.sides[at].is_some() && row.sides[1 - at].is_none();
            let names: Vec<_> = self.rows.iter().filter(only).map(Row::name).collect();
            if !names.is_empty() {
                push(
                    text,
                    format_args!("only in {which}: {}\n", names.join(", ")),
                );
            }
        }
    }

    /// One JSON line, as the schema says.
    pub fn json(&self) -> String {
        let [a, b] = self.runs.map(|(name, saved)| RunLine::new(name, saved));
        let line = DiffLine {
            kind: "diff",
            confidence: CONFIDENCE,
            a,
            b,
            delays: self.rows.iter().map(RowLine::new).collect(),
            moved: self.movers().into_iter().map(|(name, ..)| name).collect(),
        };
        serde_json::to_string(&line).expect("keys are strings and nothing else can fail")
    }
}

fn side(summary: &Summary, segment: Option<Segment>) -> Option<Side> {
    let at = summary
        .delays
        .iter()
        .position(|stat| stat.segment == segment)?;
    let (stat, histogram) = (&summary.delays[at], summary.histograms.get(at)?);
    let inside = |ns: u64| ns.clamp(stat.min, stat.max);
    let quantile = |(order, _): (Quantile, _)| inside(order.of(histogram));
    let bounds = |(order, _)| {
        let Bounds { lo, hi } = Bounds::of(histogram, order);
        Bounds {
            lo: lo.map(inside),
            hi: hi.map(inside),
        }
    };
    Some(Side {
        count: stat.count,
        quantiles: ORDERS.map(quantile),
        bounds: ORDERS.map(bounds),
    })
}

/// A run in a line: when, to whom, how, and how many came back.
fn describe(saved: &Saved) -> String {
    let Saved {
        run,
        summary,
        earlier,
    } = saved;
    let counters = &summary.counters;
    let mut text = String::new();
    if let Some(run) = run {
        let Run { size, mode, .. } = run;
        let to = run.server.addr.map_or("?".into(), |addr| addr.to_string());
        let every = run.interval_ns.map_or("as fast as answered".into(), |ns| {
            format!("every {}", duration(ns))
        });
        let start = start(run);
        push(
            &mut text,
            format_args!("{start}, {to}, {size} bytes {every}, mode {mode}; "),
        );
    }
    push(
        &mut text,
        format_args!(
            "sent {}, lost {} ({:.2} %)",
            counters.sent,
            counters.lost,
            counters.percent_of_sent(counters.lost)
        ),
    );
    if *earlier > 0 {
        push(
            &mut text,
            format_args!("; the last of {} runs in the file", earlier + 1),
        );
    }
    text
}

fn start(run: &Run) -> String {
    let start = chrono::DateTime::from_timestamp_nanos(run.start_unix_ns);
    start.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// `+3.10 [+2.90, +3.40] ms`; `?` for a bound that is not known.
fn in_one_unit(change: &Change) -> String {
    let Change { ns, lo, hi } = *change;
    let all = [Some(ns), lo, hi].into_iter().flatten();
    let largest = all.map(i64::unsigned_abs).max().unwrap_or(0);
    let (scale, unit) = match largest {
        ..1_000 => (1.0, "ns"),
        1_000..1_000_000 => (1e3, "us"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let decimals = match largest as f64 / scale {
        _ if unit == "ns" => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let number = |ns: i64| match format!("{:+.decimals$}", ns as f64 / scale) {
        zero if zero.trim_start_matches(['+', '-', '0', '.']).is_empty() => "0".to_owned(),
        number => number,
    };
    let bound = |ns: Option<i64>| ns.map_or("?".to_owned(), number);
    format!("{} [{}, {}] {unit}", number(ns), bound(lo), bound(hi))
}

#[derive(Serialize)]
struct DiffLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    confidence: f64,
    a: RunLine<'a>,
    b: RunLine<'a>,
    delays: Vec<RowLine>,
    /// By the size of their largest change.
    moved: Vec<&'static str>,
}

#[derive(Serialize)]
struct RunLine<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    earlier_runs: u64,
    sent: u64,
    lost: u64,
}

#[derive(Serialize)]
struct RowLine {
    delay: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<SideLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<SideLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<ChangeLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<ChangeLine>,
}

#[derive(Serialize)]
struct SideLine {
    count: u64,
    p50: u64,
    p99: u64,
}

#[derive(Serialize)]
struct ChangeLine {
    change_ns: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lo: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hi: Option<i64>,
    moved: bool,
}

impl<'a> RunLine<'a> {
    fn new(name: &'a str, saved: &Saved) -> Self {
        Self {
            name,
            start: saved.run.as_ref().map(start),
            earlier_runs: saved.earlier,
            sent: saved.summary.counters.sent,
            lost: saved.summary.counters.lost,
        }
    }
}

impl RowLine {
    fn new(row: &Row) -> Self {
        let [a, b] = row.sides.map(|side| {
            side.map(
                |Side {
                     count, quantiles, ..
                 }| SideLine {
                    count,
                    p50: quantiles[0],
                    p99: quantiles[1],
                },
            )
        });
        let [p50, p99] = match row.changes() {
            Some(changes) => changes.map(|change| Some(ChangeLine::from(change))),
            None => [None, None],
        };
        Self {
            delay: row.name(),
            a,
            b,
            p50,
            p99,
        }
    }
}

impl From<Change> for ChangeLine {
    fn from(change: Change) -> Self {
        let Change { ns, lo, hi } = change;
        Self {
            change_ns: ns,
            lo,
            hi,
            moved: change.moved(),
        }
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments) {
    text.write_fmt(arguments)
        .expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_one_unit() {
        let change = |ns, lo, hi| in_one_unit(&Change { ns, lo, hi });
        for (said, expected) in [
            (
                change(3_100_000, Some(2_900_000), Some(3_400_000)),
                "+3.10 [+2.90, +3.40] ms",
            ),
            (change(0, Some(-12), Some(7)), "0 [-12, +7] ns"),
            (change(-250, Some(-99_000), None), "-0.2 [-99.0, ?] us"),
            (change(4, Some(-40_000_000), Some(0)), "0 [-40.0, 0] ms"),
            (change(7, None, Some(20_000_000_000)), "0 [?, +20.0] s"),
        ] {
            assert_eq!(said, expected);
        }
    }
}

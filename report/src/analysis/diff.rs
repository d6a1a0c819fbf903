//! Two runs side by side: which segments moved, by how much, and how sure that is.
//!
//! Percentiles come from the histograms of all probes, not from the recorded ones; how sure a
//! change is comes from how the percentiles varied in the course of each run, see
//! [`confidence`](crate::analysis::confidence).

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::Serialize;

use crate::analysis::confidence::{CONFIDENCE, Change, MinEffect, Order, Variance};
use crate::model::{Run, Saved, Segment, Spread, Summary};
use crate::printable::printable;
use crate::units::duration;

/// Upper bound on the segments that the first sentence names.
const NAMED: usize = 4;
const ORDERS: usize = Order::ALL.len();

/// Why a change has no interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum NoInterval {
    /// Values were cut at the packet's arrival, so their distribution is that of the cut.
    Clamped,
    /// The run has too few parts with enough probes for this percentile.
    FewProbes,
    /// The run was saved without the percentiles of its parts.
    NotSaved,
}

/// A percentile of a run, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Percentile {
    ns: u64,
    variance: Result<Variance, NoInterval>,
}

/// Of one run, the count of a delay and its percentiles, as in [`Order::ALL`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Side {
    count: u64,
    percentiles: [Percentile; ORDERS],
}

/// One delay in both runs.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// Absent for the total.
    segment: Option<Segment>,
    sides: [Option<Side>; 2],
}

impl Row {
    fn new(segment: Option<Segment>, runs: [&Summary; 2]) -> Option<Self> {
        let sides = runs.map(|summary| side(summary, segment));
        sides
            .iter()
            .any(Option::is_some)
            .then_some(Self { segment, sides })
    }

    fn name(&self) -> &'static str {
        self.segment.map_or("total", Segment::name)
    }

    /// Both runs' percentiles of each order, if both have the delay.
    fn pairs(&self) -> Option<[(Percentile, Percentile); ORDERS]> {
        let [Some(a), Some(b)] = self.sides else {
            return None;
        };
        Some(std::array::from_fn(|at| {
            (a.percentiles[at], b.percentiles[at])
        }))
    }
}

/// Why the change of a percentile has no interval, if it has none.
fn no_interval((a, b): &(Percentile, Percentile)) -> Option<NoInterval> {
    a.variance.err().or(b.variance.err())
}

/// Two runs, compared.
#[derive(Clone, Debug)]
pub struct Diff<'a> {
    /// The runs, and what they are called.
    runs: [(&'a str, &'a Saved); 2],
    /// The total first, then the segments in path order.
    rows: Vec<Row>,
    min: MinEffect,
    /// Changes that have an interval.
    comparisons: usize,
}

impl<'a> Diff<'a> {
    /// Compares two runs, each with a name, such as that of its file. A change below `min` is not a move.
    pub fn new(a: (&'a str, &'a Saved), b: (&'a str, &'a Saved), min: MinEffect) -> Self {
        let all = [None].into_iter().chain(Segment::ALL.map(Some));
        let summaries = [a, b].map(|(_, saved)| &saved.summary);
        let rows: Vec<Row> = all.filter_map(|of| Row::new(of, summaries)).collect();
        let pairs = rows.iter().filter_map(Row::pairs).flatten();
        let comparisons = pairs.filter(|pair| no_interval(pair).is_none()).count();
        Self {
            runs: [a, b],
            rows,
            min,
            comparisons,
        }
    }

    /// The change of each percentile, if both runs have the delay.
    fn changes(&self, row: &Row) -> Option<[Change; ORDERS]> {
        let known = |p: Percentile| (p.ns, p.variance.ok());
        let change = |(a, b)| Change::between(known(a), known(b), self.comparisons);
        Some(row.pairs()?.map(change))
    }

    /// The largest certain change, and the name of its percentile.
    fn moved(&self, row: &Row) -> Option<(&'static str, Change)> {
        let named = Order::ALL.map(Order::name).into_iter();
        named
            .zip(self.changes(row)?)
            .filter(|(_, change)| change.moved(&self.min))
            .rev()
            .max_by_key(|(_, change)| change.ns.unsigned_abs())
    }

    /// Segments that moved, by the size of their largest change.
    fn movers(&self) -> Vec<(&'static str, &'static str, Change)> {
        let stage = |row: &&Row| row.segment.is_some_and(|s| s != Segment::Response);
        let rows = self.rows.iter().filter(stage);
        let mut movers: Vec<_> = rows
            .filter_map(|row| {
                self.moved(row)
                    .map(|(order, change)| (row.name(), order, change))
            })
            .collect();
        movers.sort_by_key(|(.., change)| Reverse(change.ns.unsigned_abs()));
        movers
    }

    /// Segments that moved, by the size of their largest change.
    pub fn moved_segments(&self) -> Vec<&'static str> {
        self.movers().into_iter().map(|(name, ..)| name).collect()
    }

    /// As text: the answer in a sentence, the two runs, a table, and what the intervals mean.
    pub fn text(&self) -> String {
        let mut text = self.answer();
        for (which, (name, saved)) in ["A", "B"].into_iter().zip(self.runs) {
            push(
                &mut text,
                format_args!("{which}: {}: {}\n", printable(name), describe(saved)),
            );
        }
        text.push('\n');
        self.push_table(&mut text);
        self.push_incomparable(&mut text);
        self.push_no_intervals(&mut text);
        let MinEffect { percent, ns } = self.min;
        push(
            &mut text,
            format_args!(
                "\nIn brackets: where the change lies, all of them at once with a confidence of {:.0} %, from how the\n\
                 percentiles varied in the course of each run: a repetition is taken to differ as much; ? where\n\
                 that is not known or beyond a factor of 100. Moved is what changed for sure, and by {percent} % and\n\
                 {} at least (--min-effect).\n",
                CONFIDENCE * 100.0,
                duration(ns),
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
            return self.nothing_moved();
        };
        let (name, order, change) = first;
        let change = in_one_unit(change);
        if rest.is_empty() {
            return format!("{name} moved: {order} {change}; no other segment moved\n");
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

    fn nothing_moved(&self) -> String {
        let total = self.rows.iter().find(|row| row.segment.is_none());
        if let Some((order, change)) = total.and_then(|row| self.moved(row)) {
            let change = in_one_unit(&change);
            return format!("no segment moved, but the total did: {order} {change}\n");
        }
        if self.comparisons > 0 {
            return "no segment moved\n".into();
        }
        let median = total.and_then(Row::pairs).map(|[median, _]| median);
        let why = median.as_ref().and_then(no_interval);
        let why = why.map_or("the runs have no delay in common", |why| {
            why.why(Order::P50)
        });
        format!("whether a segment moved is not known: {why}\n")
    }

    fn push_table(&self, text: &mut String) {
        push(text, format_args!("{:<16}", "segment"));
        for order in Order::ALL.map(Order::name) {
            let [a, b] = ["A", "B"].map(|run| format!("{order} {run}"));
            push(text, format_args!(" {a:>8} {b:>8}  {:<26}", "change"));
        }
        *text = format!("{}\n", text.trim_end());
        for row in &self.rows {
            let Some(changes) = self.changes(row) else {
                continue;
            };
            let mut line = format!("{:<16}", row.name());
            for change in changes {
                let to = change.from.saturating_add_signed(change.ns);
                let [a, b] = [change.from, to].map(duration);
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

    /// Which changes have no interval, and why.
    fn push_no_intervals(&self, text: &mut String) {
        let pairs: Vec<_> = self
            .rows
            .iter()
            .filter_map(|row| Some((row.name(), row.pairs()?)))
            .collect();
        for (at, order) in Order::ALL.into_iter().enumerate() {
            for reason in NoInterval::ALL {
                let has = pairs
                    .iter()
                    .filter(|(_, pairs)| no_interval(&pairs[at]) == Some(reason));
                let names: Vec<_> = has.map(|(name, _)| *name).collect();
                let of = match names.len() {
                    0 => continue,
                    all if all == pairs.len() => "any delay".to_owned(),
                    1..=NAMED => names.join(", "),
                    many => format!("{many} delays"),
                };
                let (order_name, why) = (order.name(), reason.why(order));
                push(
                    text,
                    format_args!("no interval for {order_name} of {of}: {why}\n"),
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
            min_effect: MinEffectLine {
                percent: self.min.percent,
                ns: self.min.ns,
            },
            a,
            b,
            delays: self.rows.iter().map(|row| self.row_line(row)).collect(),
            moved: self.moved_segments(),
        };
        crate::format::json::to_string(&line)
    }

    fn row_line(&self, row: &Row) -> RowLine {
        let [a, b] = row.sides.map(|side| side.map(SideLine::from));
        let pairs = row.pairs().into_iter().flatten();
        let changes = self.changes(row).into_iter().flatten();
        let mut lines = changes.zip(pairs).map(|(change, pair)| ChangeLine {
            change_ns: change.ns,
            lo: change.lo,
            hi: change.hi,
            moved: change.moved(&self.min),
            no_interval: no_interval(&pair),
        });
        RowLine {
            delay: row.name(),
            a,
            b,
            p50: lines.next(),
            p99: lines.next(),
        }
    }
}

impl NoInterval {
    const ALL: [Self; 3] = [Self::Clamped, Self::FewProbes, Self::NotSaved];

    fn why(self, order: Order) -> &'static str {
        match (self, order) {
            (Self::Clamped, _) => "too many values were cut at the packet's arrival",
            (Self::FewProbes, Order::P50) => "too few probes; it takes about 200 in each run",
            (Self::FewProbes, Order::P99) => "too few probes; it takes about 1300 in each run",
            (Self::NotSaved, _) => {
                "a run of an earlier version, saved without how its delays varied"
            }
        }
    }
}

fn side(summary: &Summary, segment: Option<Segment>) -> Option<Side> {
    let at = summary
        .delays
        .iter()
        .position(|stat| stat.segment == segment)?;
    let (stat, histogram) = (&summary.delays[at], summary.histograms.get(at)?);
    let percentile = |order: Order| {
        let parts = summary.spreads.get(at).ok_or(NoInterval::NotSaved);
        let parts = parts.and_then(|spread| parts_of(spread, order, stat.count));
        let variance = parts.and_then(|parts| {
            Variance::new(order, segment, parts, histogram).ok_or(NoInterval::FewProbes)
        });
        Percentile {
            ns: order.quantile().value(histogram).clamp(stat.min, stat.max),
            variance,
        }
    };
    Some(Side {
        count: stat.count,
        percentiles: Order::ALL.map(percentile),
    })
}

/// The percentiles of the parts; absent if the values that were cut are at least half of those above
/// the percentile.
fn parts_of(spread: &Spread, order: Order, count: u64) -> Result<&[u64], NoInterval> {
    let above = (1.0 - order.quantile().part()) * count as f64;
    if spread.clamped as f64 > above / 2.0 {
        return Err(NoInterval::Clamped);
    }
    Ok(match order {
        Order::P50 => &spread.p50,
        Order::P99 => &spread.p99,
    })
}

/// A run in a line: time, peer, mode, and the number of replies.
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
            format_args!(
                "{start}, {to}, {size} bytes {every}, mode {}; ",
                printable(mode)
            ),
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
    let Change { ns, lo, hi, .. } = *change;
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
    // Rounding must not hide whether 0 is within the bounds.
    let of_sign = |ns: i64| match (number(ns), ns.signum()) {
        (zero, 1) if zero == "0" => ">0".to_owned(),
        (zero, -1) if zero == "0" => "<0".to_owned(),
        (number, _) => number,
    };
    let bound = |ns: Option<i64>| ns.map_or("?".to_owned(), of_sign);
    format!("{} [{}, {}] {unit}", number(ns), bound(lo), bound(hi))
}

#[derive(Serialize)]
struct DiffLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// That all changes lie within their bounds.
    confidence: f64,
    min_effect: MinEffectLine,
    a: RunLine<'a>,
    b: RunLine<'a>,
    delays: Vec<RowLine>,
    /// By the size of their largest change.
    moved: Vec<&'static str>,
}

#[derive(Serialize)]
struct MinEffectLine {
    percent: f64,
    ns: u64,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    no_interval: Option<NoInterval>,
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

impl From<Side> for SideLine {
    fn from(side: Side) -> Self {
        let [p50, p99] = side.percentiles.map(|percentile| percentile.ns);
        Self {
            count: side.count,
            p50,
            p99,
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
        let change = |ns, lo, hi| {
            let from = 0;
            in_one_unit(&Change { from, ns, lo, hi })
        };
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

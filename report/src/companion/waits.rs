//! Distributions of runqlat: how long tasks waited, and how long run queues were.

use std::fmt::Write as _;

use serde::Serialize;

use super::chart::{Histogram, Panel};
use super::event::Kind;
use super::time::Time;
use crate::analysis::quantile::Quantile;
use crate::format::json::Hdr;
use crate::printable::printable;
use crate::units::{Unit, duration};

/// The longest bar, in characters.
const BAR: usize = 40;
/// Percentiles of the table.
const PERCENTILES: [(&str, Quantile); 5] = [
    ("50", Quantile::P50),
    ("90", Quantile::P90),
    ("99", Quantile::P99),
    ("99.9", Quantile::P999),
    ("99.99", Quantile::P9999),
];

/// How a distribution is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A bar an octave.
    Log2,
    /// Percentiles; in JSON all values as an `HdrHistogram` too.
    Hdr,
}

/// Wait-time histogram of a group in an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Waits {
    /// The companion.
    pub companion: Kind,
    /// The end of the interval.
    pub time: Time,
    /// Its length, ns.
    pub elapsed_ns: u64,
    /// Process; absent for other groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Path of the cgroup below the mount, or its number if it is gone; absent for other groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Container of the group, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// From (inclusive), to (exclusive), ns, and how many; in order, none is empty.
    pub buckets: Vec<(u64, u64, u64)>,
    /// How it is written.
    #[serde(skip)]
    pub form: Form,
    /// All waits as an `HdrHistogram`, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hdr: Option<String>,
    /// Number of waits.
    pub count: u64,
    /// Median, ns; the middle of a bucket, as all percentiles here.
    pub p50_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
    /// 99.9th percentile, ns.
    pub p999_ns: u64,
    /// The longest, ns; the middle of its bucket.
    pub max_ns: u64,
}

/// What a distribution is of, and when.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Process.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// Path of the cgroup.
    pub cgroup: Option<String>,
    /// Its container.
    pub container: Option<String>,
}

impl Waits {
    /// Of a group, from buckets without empty ones.
    pub fn new(
        group: Group,
        (time, elapsed_ns): (Time, u64),
        form: Form,
        buckets: Vec<(u64, u64, u64)>,
    ) -> Self {
        let percentile = |order| percentile(&buckets, order);
        Self {
            companion: Kind::Runqlat,
            time,
            elapsed_ns,
            pid: group.pid,
            comm: group.comm,
            cgroup: group.cgroup,
            container: group.container,
            form,
            hdr: (form == Form::Hdr).then(|| hdr(&buckets)),
            count: buckets.iter().map(|(.., n)| n).sum(),
            p50_ns: percentile(Quantile::P50),
            p99_ns: percentile(Quantile::P99),
            p999_ns: percentile(Quantile::P999),
            max_ns: percentile(Quantile::MAX),
            buckets,
        }
    }

    /// As a part of a picture.
    pub fn panel(&self) -> Panel {
        Panel::Histogram(Histogram {
            heading: format!("How long {} waited", self.whose()),
            unit: Unit::Nanoseconds,
            buckets: self.buckets.clone(),
            empty: "Nobody got a CPU".to_owned(),
        })
    }

    fn whose(&self) -> String {
        let comm = self.comm.as_deref().unwrap_or("?");
        match (self.pid, &self.cgroup) {
            (Some(pid), _) => format!("{}/{pid}", printable(comm)),
            (None, Some(cgroup)) => printable(cgroup).into_owned(),
            (None, None) => "everyone".to_owned(),
        }
    }

    pub(super) fn text(&self) -> String {
        let container = self.container.as_ref();
        let container = container.map_or(String::new(), |id| {
            format!(" [containerId:{}]", printable(id))
        });
        let mut text = format!(
            "{} waits of {}{container}, {:.1} s: {}, p50 {}, p99 {}, max {}\n",
            self.time.text(),
            self.whose(),
            self.elapsed_ns as f64 / 1e9,
            self.count,
            duration(self.p50_ns),
            duration(self.p99_ns),
            duration(self.max_ns)
        );
        match self.form {
            Form::Log2 => text += &self.bars(),
            Form::Hdr => text += &self.table(),
        }
        text
    }

    fn bars(&self) -> String {
        let mut octaves: Vec<(u32, u64)> = Vec::new();
        for (from, _, n) in &self.buckets {
            let octave = from.max(&1).ilog2();
            match octaves.last_mut() {
                Some((last, count)) if *last == octave => *count += n,
                _ => octaves.push((octave, *n)),
            }
        }
        let max = octaves.iter().map(|(_, n)| *n).max().unwrap_or(1);
        octaves.iter().fold(String::new(), |mut text, (octave, n)| {
            let from = if *octave == 0 { 0 } else { 1_u64 << octave };
            let bar = "*".repeat((*n as usize * BAR).div_ceil(max as usize));
            let to = 2_u64.saturating_pow(octave + 1);
            let (from, to) = (duration(from), duration(to));
            let _ = writeln!(text, "    {from:>8} to {to:>8} {n:>10} |{bar:<BAR$}|");
            text
        })
    }

    fn table(&self) -> String {
        PERCENTILES
            .iter()
            .fold(String::new(), |mut text, (name, order)| {
                let wait = duration(percentile(&self.buckets, *order));
                let _ = writeln!(text, "    p{name:<6} {wait:>8}");
                text
            })
    }
}

/// The middle of the bucket in which this percentile lies; 0 of none.
fn percentile(buckets: &[(u64, u64, u64)], order: Quantile) -> u64 {
    let at = order.position(buckets.iter().map(|(.., n)| *n));
    at.map_or(0, |at| {
        let (from, to, _) = buckets[at];
        from + (to - from) / 2
    })
}

/// The middles of the buckets.
fn hdr(buckets: &[(u64, u64, u64)]) -> String {
    let mut histogram = hdrhistogram::Histogram::new(2).expect("two digits are allowed");
    for (from, to, n) in buckets {
        histogram.saturating_record_n(from + (to - from) / 2, *n);
    }
    Hdr(histogram).encode()
}

/// Lengths of a CPU's run queue in an interval, the running task included; 0 is idle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lengths {
    /// The companion.
    pub companion: Kind,
    /// The end of the interval.
    pub time: Time,
    /// Its length, ns.
    pub elapsed_ns: u64,
    /// Where.
    pub cpu: u32,
    /// Over time.
    pub mean: f64,
    /// Time, ns, with each length from 0 to the largest.
    pub length_ns: Vec<u64>,
}

impl Lengths {
    /// Of a CPU, from the time for each length.
    pub fn new((time, elapsed_ns): (Time, u64), cpu: u32, mut length_ns: Vec<u64>) -> Self {
        let longest = length_ns.iter().rposition(|ns| *ns > 0);
        length_ns.truncate(longest.map_or(0, |longest| longest + 1));
        let all: u64 = length_ns.iter().sum();
        let tasks = length_ns.iter().enumerate();
        let sum: f64 = tasks.map(|(length, ns)| length as f64 * *ns as f64).sum();
        Self {
            companion: Kind::Runqlat,
            time,
            elapsed_ns,
            cpu,
            mean: if all == 0 { 0.0 } else { sum / all as f64 },
            length_ns,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} run queue of CPU {}, {:.1} s: mean {:.2}\n",
            self.time.text(),
            self.cpu,
            self.elapsed_ns as f64 / 1e9,
            self.mean
        );
        let all: u64 = self.length_ns.iter().sum();
        for (length, ns) in self.length_ns.iter().enumerate() {
            let share = *ns as f64 / all.max(1) as f64;
            let bar = "*".repeat((share * BAR as f64).round() as usize);
            let _ = writeln!(
                text,
                "    {length:>3} {:>6.2} % |{bar:<BAR$}|",
                share * 100.0
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(form: Form) -> Waits {
        let buckets = vec![
            (5, 6, 1),
            (1024, 1280, 97),
            (1280, 1536, 1),
            (4096, 5120, 1),
        ];
        Waits::new(Group::default(), (Time(0), 2_000_000_000), form, buckets)
    }

    #[test]
    fn percentiles_are_middles_of_buckets() {
        let waits = waits(Form::Log2);
        assert_eq!((waits.count, waits.p50_ns), (100, 1152));
        assert_eq!((waits.p99_ns, waits.p999_ns), (1408, 4608));
        assert_eq!(waits.max_ns, 4608);
        assert_eq!(percentile(&[], Quantile::P50), 0);
    }

    #[test]
    fn a_bar_is_an_octave() {
        let text = waits(Form::Log2).text();
        let bars: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(bars.len(), 3, "{text}");
        assert!(
            bars[1].contains("1.02 us to  2.05 us         98 |****"),
            "{text}"
        );
        assert!(waits(Form::Hdr).text().contains("p99.9"));
    }

    #[test]
    fn hdr_has_every_wait() {
        let json = serde_json::to_value(waits(Form::Hdr)).unwrap();
        assert!(json["hdr"].as_str().unwrap().starts_with("HISTF"));
        let json = serde_json::to_value(waits(Form::Log2)).unwrap();
        assert!(json.get("hdr").is_none());
    }

    #[test]
    fn lengths_end_at_the_longest() {
        let lengths = Lengths::new((Time(0), 100), 3, vec![50, 25, 0, 25, 0, 0]);
        assert_eq!(lengths.length_ns, [50, 25, 0, 25]);
        assert!((lengths.mean - 1.0).abs() < 1e-9);
        assert!(
            lengths.text().contains("  3  25.00 % |**********"),
            "{}",
            lengths.text()
        );
        let none = Lengths::new((Time(0), 100), 3, vec![0; 4]);
        assert!(none.length_ns.is_empty() && none.mean == 0.0);
    }
}

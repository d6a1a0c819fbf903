//! Bytes over time by process or file, for the picture.

use super::cycle::Cycle;
use crate::units::Time;
use report::companion::{Chart, Panel, Series, Stacked, Summary, Unit};
use std::collections::HashMap;
use std::time::Duration;

/// Series that are drawn; all others are summed into one.
const MAX_SERIES: usize = 9;
/// Cycles that are kept; a longer run draws its last ones.
const MAX_CYCLES: usize = 4096;

const NOTHING: &str = "Nothing was read or written.";

/// Bytes a second by process or file, one value a cycle.
#[derive(Default)]
pub struct History {
    cycles: std::collections::VecDeque<HashMap<String, f64>>,
    dropped: u32,
}

impl History {
    /// Adds a cycle.
    pub fn add(&mut self, cycle: &Cycle) {
        let mut values = HashMap::new();
        for (name, bytes) in &cycle.volumes {
            *values.entry(name.clone()).or_default() += *bytes as f64 * 1e9 / cycle.ns as f64;
        }
        self.cycles.push_back(values);
        if self.cycles.len() > MAX_CYCLES {
            self.cycles.pop_front();
            self.dropped += 1;
        }
    }

    /// The picture.
    pub fn chart(&self, start: Time, cycle: Duration, by_file: bool, summary: &Summary) -> Chart {
        let subject = if by_file { "file" } else { "process" };
        let skipped = cycle * self.dropped;
        Chart {
            title: format!("iofsstat: {} cycles of {cycle:?}", self.cycles.len()),
            headline: self.answer(cycle),
            second: summary.headline.clone(),
            panels: vec![Panel::Stacked(Stacked {
                heading: format!("bytes read and written a second, by {subject}"),
                unit: Unit::BytesPerSecond,
                start_unix_ns: start.unix_ns + skipped.as_nanos() as i64,
                step_ns: cycle.as_nanos() as u64,
                series: self.series(),
                empty: NOTHING.to_owned(),
            })],
            notes: format!("{} lost", summary.lost),
        }
    }

    /// One sentence: the process or file with the most bytes.
    fn answer(&self, cycle: Duration) -> String {
        let names = self.largest();
        let bytes = |rate: f64| Unit::Bytes.text((rate * cycle.as_secs_f64()) as u64);
        let all = names.iter().map(|(_, rate)| rate).sum();
        names.first().map_or_else(
            || NOTHING.to_owned(),
            |(name, rate)| format!("{name} moved most: {} of {}", bytes(*rate), bytes(all)),
        )
    }

    /// Names and the sum of their values, the largest first.
    fn largest(&self) -> Vec<(&str, f64)> {
        let mut totals: HashMap<&str, f64> = HashMap::new();
        for (name, value) in self.cycles.iter().flatten() {
            *totals.entry(name).or_default() += value;
        }
        let mut names: Vec<_> = totals.into_iter().filter(|(_, sum)| *sum > 0.0).collect();
        names.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        names
    }

    fn series(&self) -> Vec<Series> {
        let names = self.largest();
        let (own, others) = names.split_at(names.len().min(MAX_SERIES));
        let value = |cycle: &HashMap<String, f64>, name: &str| cycle.get(name).copied();
        let mut series: Vec<_> = own
            .iter()
            .map(|(name, _)| Series {
                name: (*name).to_owned(),
                values: self
                    .cycles
                    .iter()
                    .map(|c| value(c, name).unwrap_or(0.0))
                    .collect(),
            })
            .collect();
        if !others.is_empty() {
            let sum = |cycle| {
                others
                    .iter()
                    .filter_map(|(name, _)| value(cycle, name))
                    .sum()
            };
            series.push(Series {
                name: format!("{} others", others.len()),
                values: self.cycles.iter().map(sum).collect(),
            });
        }
        series
    }
}

//! The targets of a client as a table of text.

use crate::model::{Run, Summary};
use crate::units::{duration, share};

/// A line for each target, the worst first.
#[derive(Clone, Debug, Default)]
pub struct TargetTable(Vec<Row>);

#[derive(Clone, Debug)]
struct Row {
    name: String,
    sent: u64,
    lost: u64,
    /// Median, 99th percentile, and maximum of the response, ns.
    times: Option<[u64; 3]>,
    /// What made most of the slow probes slow.
    slow: String,
}

impl TargetTable {
    /// A target that has ended, or how it stands.
    pub fn add(&mut self, run: &Run, summary: &Summary) {
        let counters = &summary.counters;
        let total = summary.delays.iter().find(|stat| stat.segment.is_none());
        let cause = summary.causes.first();
        self.0.push(Row {
            name: run
                .target
                .as_ref()
                .map_or_else(String::new, |t| t.name.clone()),
            sent: counters.sent,
            lost: counters.lost,
            times: total.map(|stat| [stat.p50, stat.p99, stat.max]),
            slow: cause.map_or_else(String::new, |cause| {
                let segment = cause.segment.map_or("", |segment| segment.name());
                format!("{} x {} {segment}", cause.count, cause.owner.label())
            }),
        });
    }

    /// The lines; nothing without a target.
    pub fn text(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut rows: Vec<&Row> = self.0.iter().collect();
        rows.sort_by(|a, b| b.badness().cmp(&a.badness()).then(a.name.cmp(&b.name)));
        let width = rows.iter().map(|row| row.name.chars().count()).max();
        let width = width.unwrap_or(0).clamp(6, 40);
        let mut lines = vec![format!(
            "\n{:<width$} {:>9} {:>7} {:>10} {:>8} {:>8} {:>8}  most often slow because of",
            "target", "sent", "lost", "", "p50", "p99", "max"
        )];
        lines.extend(rows.iter().map(|row| row.line(width)));
        lines.join("\n") + "\n"
    }
}

impl Row {
    /// By the part that was lost, then by the 99th percentile.
    fn badness(&self) -> (u64, u64) {
        let lost = self.lost * 1_000_000 / self.sent.max(1);
        (lost, self.times.map_or(u64::MAX, |[_, p99, _]| p99))
    }

    fn line(&self, width: usize) -> String {
        let Self {
            name,
            sent,
            lost,
            slow,
            ..
        } = self;
        let part = match lost {
            0 => String::new(),
            lost => share(*lost, *sent, 2),
        };
        let [p50, p99, max] = self.times.map(|t| t.map(duration)).unwrap_or_default();
        let line = format!(
            "{name:<width$} {sent:>9} {lost:>7} {part:>10} {p50:>8} {p99:>8} {max:>8}  {slow}"
        );
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Counters, DelayStat, Target};

    fn ended(table: &mut TargetTable, name: &str, lost: u64, p99: u64) {
        let run = Run {
            target: Some(Target {
                name: name.to_owned(),
                ..Target::default()
            }),
            ..Run::default()
        };
        let total = DelayStat {
            p50: 1000,
            p99,
            max: 2 * p99,
            count: 100 - lost,
            segment: None,
            min: 1000,
            mean: 1000.0,
            p90: 1000,
            p999: p99,
        };
        let summary = Summary {
            counters: Counters {
                sent: 100,
                lost,
                ..Counters::default()
            },
            delays: Vec::from_iter((lost < 100).then_some(total)),
            ..Summary::default()
        };
        table.add(&run, &summary);
    }

    #[test]
    fn the_worst_target_comes_first() {
        let mut table = TargetTable::default();
        ended(&mut table, "good", 0, 2_000);
        ended(&mut table, "slow", 0, 2_000_000);
        ended(&mut table, "dead", 100, 0);
        ended(&mut table, "lossy", 5, 2_000);
        let expected = "
target      sent    lost                 p50      p99      max  most often slow because of
dead         100     100  (100.00 %)
lossy        100       5   (5.00 %)  1.00 us  2.00 us  4.00 us
slow         100       0             1.00 us  2.00 ms  4.00 ms
good         100       0             1.00 us  2.00 us  4.00 us
";
        assert_eq!(table.text(), expected);
        assert_eq!(TargetTable::default().text(), "");
    }
}

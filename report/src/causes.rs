//! What made the slow probes of a run slow: the table and the sentence that go into a ticket.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{Owner, Run, Segment};
use crate::stats::Distribution;
use crate::units::duration;
use crate::verdict::{Certainty, Verdict};

/// Excess is told to this many significant digits.
const DIGITS: u8 = 2;

/// The slow probes of which one segment was the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who.
    pub owner: Owner,
    /// Which segment; absent for the wire without a direction, and where it is undecided.
    pub segment: Option<Segment>,
    /// Probes.
    pub count: u64,
    /// Those of which it is sure.
    pub sure: u64,
    /// Smallest excess over the segment's baseline, nanoseconds.
    pub min_ns: u64,
    /// Median excess, nanoseconds.
    pub p50_ns: u64,
    /// Largest excess, nanoseconds.
    pub max_ns: u64,
    /// The CPU that was concerned most often, and how often.
    pub cpu: Option<(u16, u64)>,
}

#[derive(Clone, Debug)]
struct Row {
    sure: u64,
    excess: Distribution,
    cpus: HashMap<u16, u64>,
}

/// The causes of a run's slow probes, in memory that does not grow with them.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    rows: BTreeMap<(Owner, Option<Segment>), Row>,
}

impl Causes {
    /// Counts a recorded probe; without a verdict nothing of it took longer than usual.
    pub fn count(&mut self, verdict: Option<&Verdict>) {
        let verdict = verdict.unwrap_or(&Verdict::NOTHING);
        let key = (verdict.owner, verdict.segment);
        let row = self.rows.entry(key).or_insert_with(|| Row {
            sure: 0,
            excess: Distribution::new(DIGITS),
            cpus: HashMap::new(),
        });
        row.sure += u64::from(verdict.certainty == Certainty::Sure);
        row.excess.record(verdict.excess_ns);
        if let Some(cpu) = verdict.cpu {
            *row.cpus.entry(cpu).or_default() += 1;
        }
    }

    /// Most frequent first.
    pub fn list(&self) -> Vec<Cause> {
        let cause = |(&(owner, segment), row): (&(Owner, Option<Segment>), &Row)| {
            let excess = row.excess.stat(None);
            let busiest = row
                .cpus
                .iter()
                .max_by_key(|(cpu, count)| (**count, Reverse(**cpu)));
            Cause {
                owner,
                segment,
                count: excess.count,
                sure: row.sure,
                min_ns: excess.min,
                p50_ns: excess.p50,
                max_ns: excess.max,
                cpu: busiest.map(|(cpu, count)| (*cpu, *count)),
            }
        };
        let mut causes: Vec<Cause> = self.rows.iter().map(cause).collect();
        causes.sort_by_key(|cause| (Reverse(cause.count), cause.owner, cause.segment));
        causes
    }
}

impl Cause {
    /// The CPU, if it was the same one nine times out of ten.
    pub fn one_cpu(&self) -> Option<u16> {
        let (cpu, count) = self.cpu?;
        (count >= self.count - self.count / 10).then_some(cpu)
    }

    /// `remote host 10.0.0.2, waiting for the NET_RX softirq on CPU 3, 0.9 ms to 4.1 ms`.
    fn words(&self, server: Option<IpAddr>) -> String {
        let mut words = vec![match (self.owner, self.segment, server) {
            (Owner::Unknown, None, _) => "undecided".to_owned(),
            (Owner::Remote, _, Some(server)) => format!("{} {server}", self.owner.label()),
            (owner, ..) => owner.label().to_owned(),
        }];
        let cpu = self.one_cpu().map(|cpu| format!(" on CPU {cpu}"));
        let cpu = cpu.unwrap_or_default();
        words.extend(
            self.segment
                .map(|segment| segment.doing().to_owned() + &cpu),
        );
        let (min, max) = (duration(self.min_ns), duration(self.max_ns));
        words.push(if min == max {
            min
        } else {
            format!("{min} to {max}")
        });
        words.join(", ")
    }
}

/// One plain sentence: what the most frequent cause was. Absent if no probe was recorded.
///
/// `37 of 41 slow probes: remote host 10.0.0.2, waiting for the NET_RX softirq on CPU 3, 900 us to
/// 4.10 ms`
pub fn sentence(causes: &[Cause], run: &Run) -> Option<String> {
    let counts = causes.iter().map(|cause| cause.count);
    let all = counts.fold(0, u64::saturating_add);
    let cause = causes.first()?;
    let which = if run.threshold_ns > 0 {
        "slow"
    } else {
        "recorded"
    };
    let doubt = match cause.count - cause.sure {
        0 => String::new(),
        unsure if unsure == cause.count => " (not sure)".to_owned(),
        unsure => format!(" ({unsure} not sure)"),
    };
    let (count, words) = (cause.count, cause.words(run.server.addr));
    Some(format!("{count} of {all} {which} probes: {words}{doubt}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;

    fn verdict(segment: Option<Segment>, excess_us: u64, cpu: u16) -> Verdict {
        Verdict {
            owner: segment.map_or(Owner::Unknown, Segment::owner),
            segment,
            excess_ns: excess_us * 1_000,
            bounds: None,
            certainty: segment.map_or(Certainty::Undecided, |_| Certainty::Sure),
            cpu: segment.map(|_| cpu),
        }
    }

    #[test]
    fn the_sentence_names_the_most_frequent_cause() {
        let mut causes = Causes::default();
        for k in 0..37 {
            causes.count(Some(&verdict(Some(Segment::RRxSoftirq), 900 + 100 * k, 3)));
        }
        for _ in 0..4 {
            causes.count(Some(&verdict(None, 2_000, 0)));
        }
        let run = |threshold_ns| Run {
            server: Endpoint {
                addr: Some("10.0.0.2".parse().unwrap()),
                ..Endpoint::default()
            },
            threshold_ns,
            ..Run::default()
        };
        assert_eq!(
            sentence(&causes.list(), &run(1)).unwrap(),
            "37 of 41 slow probes: remote host 10.0.0.2, waiting for the NET_RX softirq on CPU 3, \
             900 us to 4.50 ms"
        );
        let all = sentence(&causes.list(), &run(0)).unwrap();
        assert!(all.starts_with("37 of 41 recorded probes"), "{all}");
        assert_eq!(sentence(&[], &run(1)), None);
    }

    #[test]
    fn a_cpu_is_named_only_if_it_was_that_one() {
        let mut causes = Causes::default();
        for k in 0..20 {
            causes.count(Some(&verdict(
                Some(Segment::LRxTaskQueue),
                50,
                u16::from(k > 2),
            )));
        }
        let cause = causes.list()[0];
        assert_eq!((cause.cpu, cause.one_cpu()), (Some((1, 17)), None));
    }
}

//! The causes of a run's slow probes, ranked by the time that they took: the ranking that every format
//! shows, and that [`crate::analysis::headline`] puts into a sentence.

use crate::analysis::distribution::Distribution;
use crate::model::{AtDevice, Cause, Certainty, Doubt, Owner, Segment, Stretch, Verdict};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash;

/// Significant digits of the excess.
const DIGITS: u8 = 2;

/// Upper bound on the devices, and on the doubts, that are told apart for one cause.
const MAX_DEVICES: usize = 64;

#[derive(Clone, Debug)]
struct Row {
    sure: u64,
    excess: Distribution,
    cpus: HashMap<u16, u64>,
    devices: HashMap<AtDevice, u64>,
    stretches: HashMap<Stretch, u64>,
    doubts: HashMap<Doubt, u64>,
}

/// The causes of a run's slow probes, in memory that does not grow with them.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    rows: BTreeMap<(Owner, Option<Segment>), Row>,
    probes: u64,
}

impl Causes {
    /// Counts a slow probe; it has no verdict if nothing in it exceeded its baseline.
    pub fn count(&mut self, verdict: Option<&Verdict>) {
        self.probes += 1;
        let Some(verdict) = verdict else {
            return;
        };
        let key = (verdict.owner, verdict.segment);
        let row = self.rows.entry(key).or_insert_with(|| Row {
            sure: 0,
            excess: Distribution::growing(DIGITS),
            cpus: HashMap::new(),
            devices: HashMap::new(),
            stretches: HashMap::new(),
            doubts: HashMap::new(),
        });
        row.sure += u64::from(verdict.certainty == Certainty::Sure);
        row.excess.record(verdict.excess_ns);
        if let Some(cpu) = verdict.cpu {
            *row.cpus.entry(cpu).or_default() += 1;
        }
        count_one(&mut row.devices, verdict.at);
        count_one(&mut row.stretches, verdict.on_way);
        count_one(&mut row.doubts, verdict.doubt);
    }

    /// Slow probes, with a verdict or without.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// Those with the most time first.
    pub fn list(&self) -> Vec<Cause> {
        let cause = |(&(owner, segment), row): (&(Owner, Option<Segment>), &Row)| {
            let excess = row.excess.stat(None);
            Cause {
                owner,
                segment,
                count: excess.count,
                sure: row.sure,
                excess_ns: row.excess.sum_ns(),
                min_ns: excess.min,
                p50_ns: excess.p50,
                max_ns: excess.max,
                cpu: most_frequent(&row.cpus),
                at: most_frequent(&row.devices),
                on_way: most_frequent(&row.stretches),
                doubt: most_frequent(&row.doubts),
            }
        };
        let mut causes: Vec<Cause> = self.rows.iter().map(cause).collect();
        causes.sort_by_key(|cause| (Reverse(cause.excess_ns), cause.owner, cause.segment));
        causes
    }
}

/// Counts it, unless it is one too many.
fn count_one<T: Copy + Eq + Hash>(counts: &mut HashMap<T, u64>, one: Option<T>) {
    let room = counts.len() < MAX_DEVICES;
    if let Some(one) = one.filter(|one| room || counts.contains_key(one)) {
        *counts.entry(one).or_default() += 1;
    }
}

/// Of equals, the first.
fn most_frequent<T: Copy + Ord>(counts: &HashMap<T, u64>) -> Option<(T, u64)> {
    let max = counts
        .iter()
        .max_by_key(|(of, count)| (**count, Reverse(**of)));
    max.map(|(of, count)| (*of, *count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(segment: Option<Segment>, excess_us: u64, cpu: u16) -> Verdict {
        Verdict {
            owner: segment.map_or(Owner::Unknown, Segment::owner),
            segment,
            excess_ns: excess_us * 1_000,
            bounds: None,
            certainty: segment.map_or(Certainty::Undecided, |_| Certainty::Sure),
            cpu: segment.map(|_| cpu),
            at: None,
            on_way: None,
            doubt: None,
        }
    }

    #[test]
    fn causes_are_ranked_by_time_and_not_by_count() {
        let mut causes = Causes::default();
        for _ in 0..238 {
            causes.count(Some(&verdict(Some(Segment::LRxTaskQueue), 1_100, 0)));
        }
        for _ in 0..146 {
            causes.count(Some(&verdict(Some(Segment::LTxQdisc), 12_800, 0)));
        }
        causes.count(None);
        let found = causes.list();
        let found: Vec<_> = found
            .iter()
            .map(|c| (c.segment, c.count, c.excess_ns))
            .collect();
        assert_eq!(
            found,
            [
                (Some(Segment::LTxQdisc), 146, 146 * 12_800_000),
                (Some(Segment::LRxTaskQueue), 238, 238 * 1_100_000),
            ]
        );
        assert_eq!(causes.probes(), 385);
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

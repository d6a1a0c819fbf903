//! Percentiles of the parts of a run, in bounded memory, for a run of any length.
//!
//! Probes close in time share what makes them slow: a cache, a frequency, another's load. A run of
//! many probes thus says less than as many independent values would, and a repetition differs by
//! more than those values scatter. How much percentiles differ between the parts of a run is what
//! shows it; see [`confidence`](crate::analysis::confidence).
//!
//! A part is a number of consecutive answered probes. When there are too many parts, pairs are
//! merged, so that all have the same width at any time. Values are kept to two digits, far finer
//! than parts differ.

use hdrhistogram::Histogram;

use crate::analysis::quantile::Quantile;
use crate::model::{Breakdown, Segment, Spread};

/// Upper bound on parts; once it was reached, there are at least half as many.
const CAPACITY: usize = 64;
/// Probes of a part at the start of a run.
const START_WIDTH: u64 = 8;
/// Upper bound on parts whose percentiles are given.
const GIVEN: usize = 20;
/// Lower bounds on the values of a given part: about half of them, or two, are above the percentile.
const MIN_P50: u64 = 30;
const MIN_P99: u64 = 200;
/// Longest delay that is told apart, nanoseconds.
const LARGEST_NS: u64 = 100_000_000_000;
const DELAYS: usize = 1 + Segment::ALL.len();

/// Values of a part, ascending, and how often each came.
type Counts = Vec<(u64, u32)>;

/// The parts of one delay.
#[derive(Clone, Debug, Default)]
struct Parts {
    /// What was recorded since the last part ended. Absent until the delay is seen.
    current: Option<Box<Histogram<u32>>>,
    /// One a part of the run, from its start.
    complete: Vec<Counts>,
    clamped: u64,
}

/// The parts of a run, of the total, the response and each segment.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    /// Probes of a part.
    width: u64,
    /// Probes since the last part ended.
    probes: u64,
    /// Complete parts.
    count: usize,
    /// The total first.
    delays: [Parts; DELAYS],
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            width: START_WIDTH,
            probes: 0,
            count: 0,
            delays: std::array::from_fn(|_| Parts::default()),
        }
    }
}

impl Spans {
    /// Counts an answered probe.
    pub(crate) fn record(&mut self, breakdown: &Breakdown) {
        for (of, ns) in breakdown.sums() {
            self.delays[index(of)].record(ns);
        }
        for delay in &breakdown.delays {
            let parts = &mut self.delays[index(Some(delay.segment))];
            parts.record(delay.ns);
            parts.clamped += u64::from(delay.clamped);
        }
        self.probes += 1;
        if self.probes == self.width {
            self.end_part();
        }
    }

    fn end_part(&mut self) {
        self.probes = 0;
        self.count += 1;
        let count = self.count;
        self.delays
            .iter_mut()
            .for_each(|parts| parts.end_part(count));
        if self.count == CAPACITY {
            self.count /= 2;
            self.width *= 2;
            self.delays.iter_mut().for_each(Parts::merge_pairs);
        }
    }

    /// How a delay spreads over the run, without an incomplete last part.
    pub(crate) fn spread(&self, of: Option<Segment>) -> Spread {
        let parts = &self.delays[index(of)];
        Spread {
            clamped: parts.clamped,
            p50: parts.percentiles(Quantile::P50, MIN_P50),
            p99: parts.percentiles(Quantile::P99, MIN_P99),
        }
    }
}

fn index(of: Option<Segment>) -> usize {
    of.map_or(0, |segment| 1 + segment as usize)
}

impl Parts {
    fn record(&mut self, ns: u64) {
        let new = || Histogram::new_with_max(LARGEST_NS, 2).expect("constant bounds");
        let current = self.current.get_or_insert_with(|| Box::new(new()));
        current.saturating_record(ns);
    }

    /// The part with this number, from 1, ends.
    fn end_part(&mut self, number: usize) {
        let Some(current) = &mut self.current else {
            return;
        };
        // Parts before the first that has the delay are empty.
        self.complete.resize(number - 1, Counts::new());
        let counts = current
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()));
        self.complete.push(counts.collect());
        current.reset();
    }

    fn merge_pairs(&mut self) {
        let pairs = self.complete.chunks(2).map(<[Counts]>::concat);
        self.complete = pairs.map(sum).collect();
    }

    /// The quantile of each of as many parts of equal width as can be given, each of at least
    /// `min` values on the average; one that has less than half of that is left out.
    fn percentiles(&self, order: Quantile, min: u64) -> Vec<u64> {
        let total: u64 = self.complete.iter().map(count).sum();
        let given = GIVEN.min((total / min) as usize).min(self.complete.len());
        let part = |k: usize| k * self.complete.len() / given;
        let parts = (0..given).map(|k| &self.complete[part(k)..part(k + 1)]);
        parts
            .map(|parts| sum(parts.concat()))
            .filter(|counts| count(counts) >= min / 2)
            .filter_map(|counts| {
                let at = order.position(counts.iter().map(|(_, n)| u64::from(*n)))?;
                Some(counts[at].0)
            })
            .collect()
    }
}

fn count(counts: &Counts) -> u64 {
    counts.iter().map(|(_, n)| u64::from(*n)).sum()
}

/// Several parts as one.
fn sum(mut counts: Counts) -> Counts {
    counts.sort_unstable();
    counts.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(next.1);
        }
        same
    });
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Delay;

    fn probe(total_ns: u64, segments: &[(Segment, bool)]) -> Breakdown {
        let delay = |&(segment, clamped)| Delay {
            segment,
            ns: total_ns,
            bounds: None,
            merged: false,
            clamped,
            doubt: None,
        };
        Breakdown {
            total_ns,
            delays: segments.iter().map(delay).collect(),
            ..Breakdown::default()
        }
    }

    fn close(found: u64, expected: u64) -> bool {
        found.abs_diff(expected) * 100 <= expected
    }

    #[test]
    fn each_part_has_its_own_percentiles() {
        let mut spans = Spans::default();
        for k in 0..20_u64 {
            for _ in 0..512 {
                spans.record(&probe((k + 1) * 1_000, &[]));
            }
        }
        let Spread { clamped, p50, p99 } = spans.spread(None);
        assert_eq!((clamped, p50.len(), p99.len()), (0, 20, 20));
        for (k, (p50, p99)) in p50.iter().zip(&p99).enumerate() {
            let expected = (k as u64 + 1) * 1_000;
            assert!(
                close(*p50, expected) && close(*p99, expected),
                "{p50} {p99}"
            );
        }
        assert_eq!(spans.spread(Some(Segment::LTxKern)), Spread::default());
    }

    #[test]
    fn a_part_has_enough_values_for_its_percentile() {
        let mut spans = Spans::default();
        let mut parts = |probes: u64| {
            (0..probes).for_each(|k| spans.record(&probe(1_000 + k % 10, &[])));
            let Spread { p50, p99, .. } = spans.spread(None);
            (p50.len(), p99.len())
        };
        assert_eq!(parts(29), (0, 0));
        assert_eq!(parts(300 - 29), (9, 1));
        assert_eq!(parts(1_000), (20, 6));
        assert_eq!(parts(100_000), (20, 20));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost_by_merging() {
        let mut spans = Spans::default();
        let probes = 100_000_u64;
        for k in 0..probes {
            let segments = [(Segment::LTxLate, false), (Segment::RRxKern, k % 4 == 0)];
            spans.record(&probe(k % 7 * 1_000, &segments));
        }
        let parts = &spans.delays[index(Some(Segment::RRxKern))];
        assert!((CAPACITY / 2..CAPACITY).contains(&parts.complete.len()));
        assert!(parts.complete.iter().all(|counts| counts.len() == 7));
        let kept: u64 = parts.complete.iter().map(count).sum();
        assert_eq!(kept + spans.probes, probes);
        assert!(parts.complete.iter().all(|part| count(part) == spans.width));
        assert_eq!(spans.spread(Some(Segment::RRxKern)).clamped, probes / 4);
        let response = spans.spread(Some(Segment::Response)).p99;
        assert!(response.iter().all(|ns| close(*ns, 12_000)), "{response:?}");
    }

    /// A segment that appears late, and in every other probe only.
    #[test]
    fn a_delay_that_some_probes_have_has_parts_where_it_is() {
        let mut spans = Spans::default();
        for k in 0..10_000_u64 {
            let seen = k >= 5_000 && k % 2 == 0;
            let segments: &[_] = if seen {
                &[(Segment::Remote, false)]
            } else {
                &[]
            };
            spans.record(&probe(5_000, segments));
        }
        let spread = spans.spread(Some(Segment::Remote));
        assert!((9..=11).contains(&spread.p50.len()), "{spread:?}");
        assert!(spread.p50.iter().all(|ns| close(*ns, 5_000)));
    }
}

//! Which probes of a run are slow where nobody gave a threshold (`-m`): learnt from the run itself.
//!
//! A probe is slow if its response (from when it was due to its answer) is at least three times the
//! median of the probes before it, *and* twice the 99th percentile of the ordinary ones among them,
//! *and* 200 us more than the median. The median is that of all probes: what most of them do is the
//! baseline, even if it changed after the start. The tail is that of the ordinary probes alone: a
//! percentile of all would lie inside a fault as soon as one probe in a hundred has it, and only the
//! worst probes of the fault would be called slow. It is doubled because the 99th percentile of values
//! below itself would sink without end.
//!
//! A probe is also slow if it spent more than 1 ms, and more than half of its time, in one stage of a
//! host: a queue that was full from the first probe on is a fault, not the baseline.
//!
//! A probe is judged by those before it, so a saved run is judged as the live one was.

use crate::analysis::distribution::Distribution;
use crate::analysis::quantile::Quantile;
use crate::analysis::verdict::HOST_MOST_NS;
use crate::model::{Breakdown, Owner};

/// Number of probes from which on there is a threshold.
const LEARNT_FROM: usize = 10;
/// A slow probe takes at least this many medians, and this many times the tail of ordinary probes,
const MEDIANS: u64 = 3;
const TAILS: u64 = 2;
/// and this much more than the median, nanoseconds: also the default limit of `--explain`.
const MIN_EXCESS_NS: u64 = 200_000;
/// The threshold is learnt anew when the number of probes has grown by one part in this many.
const RENEWED: u64 = 32;
/// Significant digits of the percentiles.
const DIGITS: u8 = 2;

/// Learns the threshold of slow probes from a run.
#[derive(Clone, Debug)]
pub struct AdaptiveThreshold {
    all: Distribution,
    ordinary: Distribution,
    /// Responses before there is a threshold, nanoseconds.
    first: Vec<u64>,
    threshold_ns: Option<u64>,
    renew_at: u64,
}

impl Default for AdaptiveThreshold {
    fn default() -> Self {
        Self::from(Distribution::growing(DIGITS))
    }
}

impl AdaptiveThreshold {
    /// Of one of many targets, in less memory: percentiles have one digit.
    pub fn of_one_of_many() -> Self {
        Self::from(Distribution::sparse())
    }

    fn from(nothing: Distribution) -> Self {
        Self {
            all: nothing.clone(),
            ordinary: nothing,
            first: Vec::new(),
            threshold_ns: None,
            renew_at: LEARNT_FROM as u64,
        }
    }

    /// Whether this probe is slow, judged by those before it.
    pub fn is_slow(&mut self, breakdown: &Breakdown) -> bool {
        let total_ns = breakdown.response_ns();
        let over = |threshold| total_ns >= threshold;
        let slow = self.threshold_ns.is_some_and(over) || held_up_by_a_host(breakdown);
        self.learn(total_ns, slow);
        slow
    }

    /// The response from which on a probe is slow, nanoseconds. Absent while too little is known.
    pub fn threshold_ns(&self) -> Option<u64> {
        self.threshold_ns
    }

    fn learn(&mut self, total_ns: u64, slow: bool) {
        self.all.record(total_ns);
        match self.threshold_ns {
            None if !slow => self.first.push(total_ns),
            Some(_) if !slow => self.ordinary.record(total_ns),
            _ => {}
        }
        if self.all.count() >= self.renew_at {
            self.renew();
        }
    }

    fn renew(&mut self) {
        let median = self.all.quantile(Quantile::P50);
        let medians = median
            .saturating_mul(MEDIANS)
            .max(median.saturating_add(MIN_EXCESS_NS));
        // The very first probes are often slow, as addresses are resolved, and nothing judged them.
        for total_ns in self.first.drain(..).filter(|ns| *ns < medians) {
            self.ordinary.record(total_ns);
        }
        let tails = self.ordinary.quantile(Quantile::P99).saturating_mul(TAILS);
        self.threshold_ns = Some(medians.max(tails));
        let count = self.all.count();
        self.renew_at = count + count.div_ceil(RENEWED);
    }
}

/// Whether one stage of a host took more than any stage needs, and most of the response.
fn held_up_by_a_host(breakdown: &Breakdown) -> bool {
    breakdown.delays.iter().any(|delay| {
        let host = matches!(
            delay.segment.owner(),
            Owner::Local | Owner::Receiver | Owner::Remote
        );
        host && delay.ns > HOST_MOST_NS && delay.ns > breakdown.response_ns() / 2
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Delay, Segment};

    const US: u64 = 1_000;

    /// 20 us on the wire, and the rest in one segment.
    fn probe(segment: Segment, total_us: u64) -> Breakdown {
        let delay = |segment, ns| Delay {
            segment,
            ns,
            bounds: None,
            merged: false,
            clamped: false,
            doubt: None,
        };
        Breakdown {
            total_ns: total_us * US,
            delays: vec![
                delay(Segment::LTxOutlink, 20 * US),
                delay(segment, (total_us - 20) * US),
            ],
            ..Breakdown::default()
        }
    }

    fn slow(threshold: &mut AdaptiveThreshold, totals_us: impl IntoIterator<Item = u64>) -> usize {
        let totals = totals_us.into_iter();
        totals
            .filter(|us| threshold.is_slow(&probe(Segment::LRxInlink, *us)))
            .count()
    }

    /// Of 3 ms, with a tail up to 8 ms: more than three medians, but the path does that.
    fn wireless(probes: u64) -> impl Iterator<Item = u64> {
        (0..probes).map(|k| match k * 7 % 100 {
            tail @ 90.. => 3_000 + 500 * (tail - 89),
            rest => 2_500 + 10 * rest,
        })
    }

    #[test]
    fn ordinary_probes_are_not_slow() {
        let mut threshold = AdaptiveThreshold::default();
        assert_eq!(slow(&mut threshold, [5_000]), 0, "nothing is known yet");
        assert_eq!(slow(&mut threshold, (0..233).map(|k| 300 + k % 60)), 0);
        assert_eq!(slow(&mut AdaptiveThreshold::default(), wireless(10_000)), 0);
    }

    #[test]
    fn a_fault_is_slow_however_many_probes_it_hits() {
        for percent in [1, 10, 30, 45] {
            let mut threshold = AdaptiveThreshold::default();
            slow(&mut threshold, [400; 100]);
            let hit = |k: u64| if k * 37 % 100 < percent { 10_000 } else { 400 };
            let found = slow(&mut threshold, (0..2_000).map(hit));
            assert_eq!(found, 20 * percent as usize, "{percent} %");
        }
    }

    #[test]
    fn what_most_probes_do_becomes_usual() {
        let mut threshold = AdaptiveThreshold::default();
        slow(&mut threshold, [400; 100]);
        let found = slow(&mut threshold, [10_000; 1_000]);
        assert!((100..=110).contains(&found), "{found}");
    }

    #[test]
    fn a_queue_that_was_always_full_is_slow() {
        let mut threshold = AdaptiveThreshold::default();
        let queued = |_: &u64| threshold.is_slow(&probe(Segment::LTxQdisc, 20_000));
        assert_eq!((0..100).filter(queued).count(), 100);
        assert_eq!(
            slow(&mut AdaptiveThreshold::default(), [20_000; 100]),
            0,
            "a long wire"
        );
    }

    #[test]
    fn the_threshold_is_over_three_medians_and_the_tail() {
        let mut threshold = AdaptiveThreshold::default();
        slow(&mut threshold, [50; 9]);
        assert_eq!(threshold.threshold_ns(), None);
        slow(&mut threshold, [50]);
        assert_eq!(threshold.threshold_ns(), Some(250 * US));
        let mut threshold = AdaptiveThreshold::default();
        slow(&mut threshold, wireless(1_000));
        let threshold = threshold.threshold_ns().unwrap();
        assert!(
            (15_000 * US..=17_000 * US).contains(&threshold),
            "{threshold}"
        );
    }
}

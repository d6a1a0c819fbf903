//! Statistics of a run in flat memory: a histogram a segment, counters, and who is to blame.

use hdrhistogram::Histogram;

use crate::causes::Causes;
use crate::loss::{Direction, Loss, LossId, Losses, Place};
use crate::model::{Breakdown, Counters, Delay, DelayStat, Segment, Summary};
use crate::verdict::Verdict;

/// Largest delay that the histograms tell apart, nanoseconds: 100 s. Longer ones count as this in
/// the percentiles; minimum, mean and maximum are exact for all.
const LARGEST_NS: u64 = 100_000_000_000;

/// The distribution of one duration, nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    histogram: Histogram<u64>,
    sum: u128,
    min: u64,
    max: u64,
}

impl Distribution {
    /// Percentiles to this many significant decimal digits (0 to 5): about 230 kB for 3, 30 kB for
    /// 2.
    pub(crate) fn new(digits: u8) -> Self {
        Self {
            histogram: Histogram::new_with_max(LARGEST_NS, digits).expect("constant bounds"),
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.sum += u128::from(ns);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
    }

    /// Values recorded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// A quantile (0 to 1), nanoseconds; 0 if nothing was recorded.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        if self.histogram.is_empty() {
            return 0;
        }
        self.histogram
            .value_at_quantile(quantile)
            .clamp(self.min, self.max)
    }

    /// In one line; `segment` is only the label.
    pub(crate) fn stat(&self, segment: Option<Segment>) -> DelayStat {
        let count = self.count();
        DelayStat {
            segment,
            count,
            min: if count == 0 { 0 } else { self.min },
            mean: self.sum as f64 / count.max(1) as f64,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max,
        }
    }
}

/// Which segments were ever estimated, merged or clamped: what a summary must explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    estimated: u32,
    merged: u32,
    clamped: u32,
}

impl Marks {
    /// Notes the marks of one segment of a probe.
    pub fn note(&mut self, delay: &Delay) {
        let bit = 1 << delay.segment as u32;
        self.estimated |= if delay.bounds.is_some() { bit } else { 0 };
        self.merged |= if delay.merged { bit } else { 0 };
        self.clamped |= if delay.clamped { bit } else { 0 };
    }

    /// Those of a single segment.
    #[must_use]
    pub fn of(&self, segment: Segment) -> Self {
        let bit = 1 << segment as u32;
        Self {
            estimated: self.estimated & bit,
            merged: self.merged & bit,
            clamped: self.clamped & bit,
        }
    }

    /// Some segment was an estimate with bounds.
    pub fn estimated(&self) -> bool {
        self.estimated != 0
    }

    /// Some segment contained neighbours whose points were missing.
    pub fn merged(&self) -> bool {
        self.merged != 0
    }

    /// Some softirq or NAPI span was cut at the packet's arrival.
    pub fn clamped(&self) -> bool {
        self.clamped != 0
    }
}

/// Statistics of a run, in memory that does not grow with its probes.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Losses and oddities; all but `unordered` are counted by the caller.
    pub counters: Counters,
    total: Distribution,
    segments: [Option<Box<Distribution>>; Segment::ALL.len()],
    slip: Option<Distribution>,
    causes: Causes,
    marks: Marks,
    losses: Losses,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// Percentiles to this many significant decimal digits.
    const DIGITS: u8 = 3;

    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self {
            counters: Counters::default(),
            total: Distribution::new(Self::DIGITS),
            segments: [const { None }; Segment::ALL.len()],
            slip: None,
            causes: Causes::default(),
            marks: Marks::default(),
            losses: Losses::default(),
        }
    }

    /// Counts a lost probe.
    pub fn lost(&mut self, loss: &Loss) -> LossId {
        self.counters.lost += 1;
        if let Some(count) = self.lost_on(loss.place) {
            *count += 1;
        }
        self.losses.count(loss)
    }

    /// A probe that was counted as lost was answered after all.
    pub fn found(&mut self, id: LossId) {
        self.counters.lost -= 1;
        let place = self.losses.take_back(id);
        if let Some(count) = self.lost_on(place) {
            *count -= 1;
        }
    }

    fn lost_on(&mut self, place: Place) -> Option<&mut u64> {
        match place.direction() {
            Direction::Out => Some(&mut self.counters.lost_out),
            Direction::In => Some(&mut self.counters.lost_in),
            Direction::Unknown => None,
        }
    }

    /// Counts an answered probe: its total, its segments, and its stamps that were out of order.
    pub fn record(&mut self, breakdown: &Breakdown) {
        self.total.record(breakdown.total_ns);
        self.counters.unordered += u64::from(breakdown.unordered);
        for delay in &breakdown.delays {
            self.record_delay(delay);
        }
    }

    fn record_delay(&mut self, delay: &Delay) {
        self.marks.note(delay);
        self.segments[delay.segment as usize]
            .get_or_insert_with(|| Box::new(Distribution::new(Self::DIGITS)))
            .record(delay.ns);
    }

    /// Counts how late a probe left against its schedule, nanoseconds.
    pub fn slip(&mut self, ns: u64) {
        self.slip
            .get_or_insert_with(|| Distribution::new(Self::DIGITS))
            .record(ns);
    }

    /// Counts what made a recorded probe slow.
    pub fn slow(&mut self, verdict: Option<&Verdict>) {
        self.causes.count(verdict);
    }

    /// What a summary must explain about the segments recorded so far.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Everything so far but the clock; `elapsed_ns` is the time since the run's start.
    pub fn summary(&self, elapsed_ns: u64) -> Summary {
        let total = (self.total.count() > 0).then(|| self.total.stat(None));
        let segments = Segment::ALL.into_iter().filter_map(|segment| {
            let distribution = self.segments[segment as usize].as_ref()?;
            Some(distribution.stat(Some(segment)))
        });
        Summary {
            elapsed_ns,
            counters: self.counters,
            delays: total.into_iter().chain(segments).collect(),
            causes: self.causes.list(),
            send_slip: self.slip.as_ref().map(|slip| slip.stat(None)),
            clock: None,
            losses: self.losses.counts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakdown(delays: &[(Segment, u64)]) -> Breakdown {
        let delay = |&(segment, ns)| Delay {
            segment,
            ns,
            bounds: None,
            merged: false,
            clamped: false,
        };
        Breakdown {
            total_ns: delays.iter().map(|(_, ns)| ns).sum(),
            delays: delays.iter().map(delay).collect(),
            unordered: 1,
            wire: None,
        }
    }

    #[test]
    fn percentiles_are_good_to_three_digits() {
        let mut stats = Stats::new();
        for k in 1..=1_000 {
            stats.record(&breakdown(&[
                (Segment::LTxKern, k * 1_000),
                (Segment::Remote, 0),
            ]));
        }
        let summary = stats.summary(5);
        let [total, kern, remote] = summary.delays.as_slice() else {
            panic!("{summary:?}")
        };
        assert_eq!((total.segment, total.count), (None, 1_000));
        assert_eq!(
            (kern.segment, kern.min, kern.max),
            (Some(Segment::LTxKern), 1_000, 1_000_000)
        );
        assert!((kern.mean - 500_500.0).abs() < 1e-6);
        for (found, exact) in [(kern.p50, 500e3), (kern.p90, 900e3), (kern.p99, 990e3)] {
            assert!(
                (found as f64 / exact - 1.0).abs() < 1e-3,
                "{found} for {exact}"
            );
        }
        assert_eq!((remote.min, remote.p999, remote.max), (0, 0, 0));
        assert_eq!(summary.counters.unordered, 1_000);
    }

    #[test]
    fn what_no_histogram_holds_is_still_the_maximum() {
        let mut stats = Stats::new();
        stats.record(&breakdown(&[(Segment::Remote, u64::MAX / 2)]));
        stats.slip(u64::MAX);
        let summary = stats.summary(0);
        assert_eq!(summary.delays[0].max, u64::MAX / 2);
        assert_eq!(summary.send_slip.unwrap().max, u64::MAX);
    }

    #[test]
    fn nothing_recorded_is_an_empty_summary() {
        let summary = Stats::new().summary(0);
        assert_eq!((summary.delays, summary.send_slip), (vec![], None));
        assert_eq!(Distribution::new(2).stat(None).min, 0);
    }
}

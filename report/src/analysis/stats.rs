//! Statistics of a run in bounded memory: histograms, counters and causes, for the whole run and for the
//! current interval.
//!
//! None of them suffers from coordinated omission, the mistake of measuring least while it is
//! slowest. The schedule is an open loop: probe k is due at a fixed time whatever became of
//! those before it, a sender that was held up sends what it missed at once, and every probe that
//! was sent is counted as answered or lost. The total counts from the actual send, since it is the
//! path that is measured; how late the send was is the segment before it, `l_tx_late`, and both
//! together are the response: what a user of the schedule waited for. Percentiles of the response are free
//! of coordinated omission in the usual sense. The send slip is the lateness of all probes, also of lost
//! ones. A lost probe has no delay, so percentiles are those of the answered probes, and the loss is
//! reported beside them. Only an adaptive run (`-A`), which waits for each reply by intention, has the
//! fault: a probe of 1 s counts once there, not for all probes that would have been sent meanwhile.

use crate::analysis::causes::Causes;
use crate::analysis::distribution::Distribution;
use crate::analysis::flows::Flows;
use crate::analysis::jitter::{Delays, Pairs};
use crate::analysis::loss::{LossId, Losses};
use crate::analysis::spans::Spans;
use crate::model::{
    Breakdown, Counters, DelayStat, Direction, Loss, Marks, Place, Probe, Segment, Slow, Summary,
    Trip, Variation, Verdict,
};

/// What there is a distribution of.
#[derive(Clone, Copy)]
enum Of {
    Total,
    Slip,
    /// |IPDV|.
    Variation(Trip),
    Segment(Segment),
}

impl Of {
    const COUNT: usize = Self::FIRST_SEGMENT + Segment::ALL.len();
    const FIRST_SEGMENT: usize = 2 + Trip::ALL.len();

    const fn index(self) -> usize {
        match self {
            Self::Total => 0,
            Self::Slip => 1,
            Self::Variation(way) => 2 + way as usize,
            Self::Segment(segment) => Self::FIRST_SEGMENT + segment as usize,
        }
    }
}

/// The distributions of a span of time: the run, or an interval. One has memory from its first
/// value on.
#[derive(Clone, Debug)]
struct Span {
    all: [Option<Box<Distribution>>; Of::COUNT],
    /// Percentiles to this many significant decimal digits.
    digits: u8,
}

/// Of so many digits; 1: of one of many, so that its memory counts.
fn empty(digits: u8) -> Distribution {
    if digits == 1 {
        Distribution::sparse()
    } else {
        Distribution::new(digits)
    }
}

impl Span {
    fn new(digits: u8) -> Self {
        Self {
            all: [const { None }; Of::COUNT],
            digits,
        }
    }

    fn record(&mut self, of: Of, ns: u64) {
        let digits = self.digits;
        let slot = &mut self.all[of.index()];
        slot.get_or_insert_with(|| Box::new(empty(digits)))
            .record(ns);
    }

    /// Adds all values of another span.
    fn add(&mut self, other: &Self) {
        let digits = self.digits;
        for (all, more) in self.all.iter_mut().zip(&other.all) {
            if let Some(more) = more {
                all.get_or_insert_with(|| Box::new(empty(digits))).add(more);
            }
        }
    }

    /// Forgets all values and keeps the memory.
    fn clear(&mut self) {
        self.all
            .iter_mut()
            .flatten()
            .for_each(|values| values.clear());
    }

    fn get(&self, of: Of) -> Option<&Distribution> {
        self.all[of.index()].as_deref().filter(|d| d.count() > 0)
    }

    /// The total and the segments that have values, in path order.
    fn delays(&self) -> impl Iterator<Item = (Option<Segment>, &Distribution)> {
        let segments = Segment::ALL.map(|segment| (Some(segment), Of::Segment(segment)));
        let all = [(None, Of::Total)].into_iter().chain(segments);
        all.filter_map(|(segment, of)| Some((segment, self.get(of)?)))
    }

    fn summary(
        &self,
        elapsed_ns: u64,
        counters: &Counters,
        causes: &Causes,
        pairs: &Pairs,
    ) -> Summary {
        let stat = |of| self.get(of).map(|values| values.stat(None));
        let variation = |direction| {
            Some(Variation {
                direction,
                ipdv: stat(Of::Variation(direction))?,
                rfc3550_ns: pairs.smoothed_ns(direction),
            })
        };
        Summary {
            elapsed_ns,
            counters: *counters,
            delays: self.delays().map(|(of, values)| values.stat(of)).collect(),
            slow: Slow {
                probes: causes.probes(),
                ..Slow::default()
            },
            causes: causes.list(),
            send_slip: stat(Of::Slip),
            jitter: Trip::ALL.into_iter().filter_map(variation).collect(),
            ..Summary::default()
        }
    }
}

/// Statistics of a run and of its current interval, in memory that does not grow with the probes.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Losses and irregularities; all but `unordered` are counted by the caller.
    pub counters: Counters,
    /// The flows of the run; counted by the caller.
    pub flows: Flows,
    causes: Causes,
    /// The run up to the interval: a value is recorded once, and added here with its interval.
    before: Span,
    interval: Span,
    interval_causes: Causes,
    /// Counters and time at the start of the interval.
    interval_start: (Counters, u64),
    pairs: Pairs,
    marks: Marks,
    losses: Losses,
    /// Not of one of many.
    spans: Option<Box<Spans>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// Nothing recorded yet; percentiles have three significant decimal digits.
    pub fn new() -> Self {
        Self::with_digits(3)
    }

    /// The same of one of many targets, in a fiftieth of the memory: percentiles have one digit, and how they
    /// vary in the course of the run is not kept.
    pub fn of_one_of_many() -> Self {
        Self {
            spans: None,
            pairs: Pairs::of_one_of_many(),
            ..Self::with_digits(1)
        }
    }

    fn with_digits(digits: u8) -> Self {
        Self {
            counters: Counters::default(),
            flows: Flows::default(),
            causes: Causes::default(),
            before: Span::new(digits),
            interval: Span::new(digits),
            interval_causes: Causes::default(),
            interval_start: (Counters::default(), 0),
            pairs: Pairs::new(),
            marks: Marks::default(),
            losses: Losses::default(),
            spans: Some(Box::default()),
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
        self.counters.amended += 1;
        let place = self.losses.take_back(id);
        if let Some(count) = self.lost_on(place) {
            *count -= 1;
        }
    }

    fn lost_on(&mut self, place: Place) -> Option<&mut u64> {
        match place.direction() {
            Some(Direction::Request) => Some(&mut self.counters.lost_out),
            Some(Direction::Reply) => Some(&mut self.counters.lost_in),
            None => None,
        }
    }

    /// Counts an answered probe: its total, its segments, and its stamps that were out of order.
    pub fn record(&mut self, breakdown: &Breakdown) {
        if let Some(spans) = &mut self.spans {
            spans.record(breakdown);
        }
        for (of, ns) in breakdown.sums() {
            self.interval.record(of.map_or(Of::Total, Of::Segment), ns);
        }
        self.counters.unordered += u64::from(breakdown.unordered);
        for delay in &breakdown.delays {
            self.marks.note(delay);
            self.interval.record(Of::Segment(delay.segment), delay.ns);
        }
    }

    /// Counts how much the delays of an answered probe differ from its neighbours'.
    pub fn vary(&mut self, probe: &Probe) {
        let interval = &mut self.interval;
        self.pairs
            .answered(probe.seq, Delays::from_probe(probe), |way, ns| {
                interval.record(Of::Variation(way), ns);
            });
    }

    /// Counts how late a probe left against its schedule, nanoseconds.
    pub fn slip(&mut self, ns: u64) {
        self.interval.record(Of::Slip, ns);
    }

    /// Counts a slow probe, and what made it slow.
    pub fn slow(&mut self, verdict: Option<&Verdict>) {
        self.causes.count(verdict);
        self.interval_causes.count(verdict);
    }

    /// The totals of the run so far; absent if no probe was answered.
    pub fn totals(&self) -> Option<DelayStat> {
        let of = Of::Total;
        let mut totals = self.before.get(of).cloned();
        match (&mut totals, self.interval.get(of)) {
            (Some(all), Some(more)) => all.add(more),
            (None, more) => totals = more.cloned(),
            (Some(_), None) => {}
        }
        totals.map(|totals| totals.stat(None))
    }

    /// The whole run so far.
    fn run(&self) -> Span {
        let mut run = self.before.clone();
        run.add(&self.interval);
        run
    }

    /// Everything so far but the clock; `elapsed_ns` is the time since the run's start.
    pub fn summary(&self, elapsed_ns: u64) -> Summary {
        Summary {
            losses: self.losses.counts(),
            marks: self.marks,
            flows: self.flows.stats(),
            ..self
                .run()
                .summary(elapsed_ns, &self.counters, &self.causes, &self.pairs)
        }
    }

    /// Like [`Stats::summary`], with the histograms and spreads: for the end of a run.
    pub fn last_summary(&self, elapsed_ns: u64) -> Summary {
        let run = self.run();
        let histograms = run
            .delays()
            .map(|(_, values)| values.histogram().into_owned());
        let spans = self.spans.iter();
        let spreads = spans.flat_map(|spans| run.delays().map(|(of, _)| spans.spread(of)));
        Summary {
            histograms: histograms.collect(),
            spreads: spreads.collect(),
            losses: self.losses.counts(),
            marks: self.marks,
            flows: self.flows.stats(),
            ..run.summary(elapsed_ns, &self.counters, &self.causes, &self.pairs)
        }
    }

    /// The summary of the interval since the last call or the run's start; begins the next interval. Replies
    /// and losses count in the interval in which they became known, which for a probe at its end is the
    /// next one.
    pub fn interval(&mut self, elapsed_ns: u64) -> Summary {
        let start = std::mem::replace(&mut self.interval_start, (self.counters, elapsed_ns));
        let (counters, since) = start;
        let causes = std::mem::take(&mut self.interval_causes);
        let length_ns = elapsed_ns.saturating_sub(since);
        let counters = self.counters.since(&counters);
        let summary = self
            .interval
            .summary(length_ns, &counters, &causes, &self.pairs);
        self.before.add(&self.interval);
        self.interval.clear();
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Delay;

    fn breakdown(delays: &[(Segment, u64)]) -> Breakdown {
        let delay = |&(segment, ns)| Delay {
            segment,
            ns,
            bounds: None,
            merged: false,
            clamped: false,
            doubt: None,
        };
        Breakdown {
            total_ns: delays.iter().map(|(_, ns)| ns).sum(),
            delays: delays.iter().map(delay).collect(),
            unordered: 1,
            wire: None,
            way: Vec::new(),
        }
    }

    #[test]
    fn the_totals_so_far_are_those_of_the_summary() {
        let mut stats = Stats::new();
        assert_eq!(stats.totals(), None);
        for k in 1..=100 {
            stats.record(&breakdown(&[(Segment::LTxKern, k * 1_000)]));
            if k % 40 == 0 {
                stats.interval(k);
            }
        }
        let summary = stats.summary(1);
        assert_eq!(stats.totals().as_ref(), summary.delays.first());
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
        assert_eq!(summary, Summary::default());
        assert_eq!(Distribution::new(2).stat(None).min, 0);
    }

    #[test]
    fn an_interval_is_alone_and_the_run_goes_on() {
        let mut stats = Stats::new();
        let probes = |stats: &mut Stats, count: u64, ns| {
            for _ in 0..count {
                stats.counters.sent += 1;
                stats.record(&breakdown(&[(Segment::LTxKern, ns)]));
                stats.slip(ns);
            }
        };
        probes(&mut stats, 90, 1_000);
        stats.counters.lost = 3;
        let first = stats.interval(1_000);
        assert_eq!((first.elapsed_ns, first.counters.sent), (1_000, 90));
        assert_eq!((first.counters.lost, first.counters.unordered), (3, 90));
        probes(&mut stats, 10, 5_000_000);
        stats.slow(None);
        // One of these is answered after all.
        stats.counters.lost -= 1;
        stats.counters.amended += 1;
        let second = stats.interval(3_500);
        assert_eq!((second.elapsed_ns, second.counters.sent), (2_500, 10));
        assert_eq!((second.counters.lost, second.counters.amended), (0, 1));
        assert_eq!((first.slow.probes, second.slow.probes), (0, 1));
        let [total, kern] = second.delays.as_slice() else {
            panic!("{second:?}")
        };
        assert_eq!(
            (total.count, total.min, total.max),
            (10, 5_000_000, 5_000_000)
        );
        assert_eq!((kern.count, kern.p50), (10, 5_000_000));
        assert_eq!(second.send_slip.unwrap().count, 10);
        let none = stats.interval(3_600);
        let empty = Summary {
            elapsed_ns: 100,
            ..Summary::default()
        };
        assert_eq!(none, empty);
        let run = stats.last_summary(3_600);
        assert_eq!((run.delays[0].count, run.delays[1].max), (100, 5_000_000));
        assert_eq!((run.histograms.len(), run.histograms[1].len()), (2, 100));
        assert_eq!((run.counters.sent, run.counters.lost), (100, 2));
    }
}

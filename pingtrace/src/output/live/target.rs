//! What is shown of one target: its statistics so far, how each segment went of late, and the probes that stood out.

use report::analysis::loss::LossId;
use report::analysis::series::Series;
use report::analysis::slowest::Slowest;
use report::analysis::stats::Stats;
use report::model::{
    Breakdown, Capture, ClockSummary, Counters, DelayStat, Names, Owner, ProbeResult, Run, Segment,
    Slow, Status, Summary,
};
use std::collections::VecDeque;

/// Probes that stood out, at most; older ones go.
const MAX_EVENTS: usize = 256;
/// Of so many latest answered probes the slow ones are counted.
const RECENT: usize = 4096;
/// Seconds that are kept of each segment.
const SECONDS: usize = 256;
/// Slowest probes in a picture.
const PICTURED: usize = 8;
/// Lost probes that may still be answered, at most.
const MAX_LOST: usize = 4096;
const SECOND_NS: i64 = 1_000_000_000;

/// What a client knows at a moment beside its probes.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// When, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
    /// Since the start of the run, nanoseconds.
    pub elapsed_ns: u64,
    /// Of the run so far.
    pub counters: Counters,
    /// The server's clock, if it has one of its own.
    pub clock: Option<ClockSummary>,
    /// From when on a probe is slow.
    pub slow: Slow,
}

/// What the view learns.
#[derive(Clone, Debug)]
pub enum Record {
    /// A run began, or its mode changed.
    Run(Box<Run>),
    /// Names, all that are known.
    Names(Box<Names>),
    /// A probe, recorded or not.
    Probe(Box<ProbeResult>),
    /// Counters and the clock.
    Present(Box<Present>),
    /// The target is probed no more.
    Left,
}

/// One of the hosts that are probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is probed.
    pub run: Run,
    /// Names of namespaces and devices.
    pub names: Names,
    /// The latest.
    pub present: Option<Present>,
    /// Where the time of the latest answered probe went.
    pub last: Breakdown,
    /// Slow, late, lost and forgotten probes, the latest last.
    pub events: VecDeque<ProbeResult>,
    /// Responses of the latest answered probes, nanoseconds.
    recent: VecDeque<u64>,
    /// Lost probes that may still be answered: sequence number, time of the send since the run's start.
    lost: VecDeque<(u32, u64, LossId)>,
    /// Slow probes by who made them slow, in the order of [`Owner::ALL`].
    owners: [u64; Owner::ALL.len()],
    /// By [`index`].
    seconds: Vec<Seconds>,
    stats: Stats,
    series: Series,
    slowest: Slowest,
}

/// The largest value of each second.
#[derive(Clone, Debug, Default)]
struct Seconds {
    /// Of the last one, since the Unix epoch.
    last: i64,
    /// Nanoseconds; 0: no value.
    largest: VecDeque<u64>,
}

impl Default for Target {
    fn default() -> Self {
        Self::new(Run::default())
    }
}

impl Target {
    /// Nothing is known of its probes.
    pub fn new(run: Run) -> Self {
        let stats = match run.target {
            Some(_) => Stats::of_one_of_many(),
            None => Stats::new(),
        };
        Self {
            run,
            names: Names::default(),
            present: None,
            last: Breakdown::default(),
            events: VecDeque::new(),
            recent: VecDeque::new(),
            lost: VecDeque::new(),
            owners: [0; Owner::ALL.len()],
            seconds: vec![Seconds::default(); 1 + Segment::ALL.len()],
            stats,
            series: Series::new(),
            slowest: Slowest::new(PICTURED),
        }
    }

    /// How it is called.
    pub fn name(&self) -> String {
        let target = self.run.target.as_ref().map(|target| target.name.clone());
        let name = target.or_else(|| self.run.server.label());
        name.unwrap_or_else(|| "unknown host".to_owned())
    }

    /// Takes a record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Run(run) => self.begin(run),
            Record::Names(names) => self.names.clone_from(names),
            Record::Probe(result) => self.take(result),
            Record::Present(now) => self.present = Some((**now).clone()),
            Record::Left => {}
        }
    }

    /// A run begins, or its mode changed.
    fn begin(&mut self, run: &Run) {
        if self.run.start_unix_ns == run.start_unix_ns {
            self.run = run.clone();
        } else {
            let names = std::mem::take(&mut self.names);
            *self = Self {
                names,
                ..Self::new(run.clone())
            };
        }
    }

    /// A probe of which all is known.
    fn take(&mut self, result: &ProbeResult) {
        let sent = result.probe.sent_ns().unwrap_or(0);
        let since_start = sent.saturating_sub(self.run.start_ns.unwrap_or(sent));
        if let Some(breakdown) = &result.breakdown {
            self.answered(breakdown, since_start, result.probe.sent_unix_ns);
            self.slowest.offer(result.clone());
        }
        if let Some(loss) = &result.loss {
            let id = self.stats.lost(loss);
            self.series.lost(since_start);
            self.lost.push_back((result.probe.seq, since_start, id));
            if self.lost.len() > MAX_LOST {
                self.lost.pop_front();
            }
        }
        if result.probe.status == Status::Amended {
            self.found(result.probe.seq, since_start);
        }
        let is_given = self.run.threshold_ns > 0;
        let is_slow = |b: &Breakdown| is_given && b.response_ns() >= self.run.threshold_ns;
        if result.verdict.is_some() || result.breakdown.as_ref().is_some_and(is_slow) {
            self.stats.slow(result.verdict.as_ref());
        }
        if let Some(verdict) = &result.verdict {
            self.owners[verdict.owner as usize] += 1;
        }
        let is_ordinary = result.probe.status == Status::Ok;
        if result.verdict.is_some() || !is_ordinary {
            self.events.push_back(result.clone());
            if self.events.len() > MAX_EVENTS {
                self.events.pop_front();
            }
        }
    }

    fn answered(&mut self, breakdown: &Breakdown, since_start_ns: u64, sent_unix_ns: i64) {
        self.stats.record(breakdown);
        self.series.record(since_start_ns, breakdown.response_ns());
        let second = sent_unix_ns.div_euclid(SECOND_NS);
        for (of, ns) in breakdown.sums() {
            self.seconds[index(of)].note(second, ns);
        }
        for delay in &breakdown.delays {
            self.seconds[index(Some(delay.segment))].note(second, delay.ns);
        }
        self.recent.push_back(breakdown.response_ns());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.last.clone_from(breakdown);
    }

    /// A lost probe was answered after all.
    fn found(&mut self, seq: u32, since_start_ns: u64) {
        let is_it = |lost: &(u32, u64, LossId)| (lost.0, lost.1) == (seq, since_start_ns);
        let at = self.lost.iter().position(is_it);
        if let Some((_, _, id)) = at.and_then(|at| self.lost.remove(at)) {
            self.stats.found(id);
            self.series.found(since_start_ns);
        }
    }

    /// The summary so far.
    pub fn summary(&self) -> Summary {
        let elapsed_ns = self.present.as_ref().map_or(0, |now| now.elapsed_ns);
        self.known(self.stats.summary(elapsed_ns))
    }

    /// With what the client alone knows.
    fn known(&self, summary: Summary) -> Summary {
        let Some(now) = &self.present else {
            return summary;
        };
        Summary {
            counters: now.counters,
            clock: now.clock,
            slow: Slow {
                probes: summary.slow.probes,
                ..now.slow
            },
            ..summary
        }
    }

    /// The totals so far; absent if no probe was answered.
    pub fn totals(&self) -> Option<DelayStat> {
        self.stats.totals()
    }

    /// What the client counts.
    pub fn counters(&self) -> Counters {
        self.present
            .as_ref()
            .map_or_else(Counters::default, |now| now.counters)
    }

    /// The part of the probes that was lost, a millionth.
    pub fn loss_ppm(&self) -> u64 {
        let Counters { sent, lost, .. } = self.counters();
        lost.saturating_mul(1_000_000) / sent.max(1)
    }

    /// How many of how many latest answered probes took at least so long.
    pub fn slow_of_recent(&self, threshold_ns: u64) -> (usize, usize) {
        let slow = self.recent.iter().filter(|ns| **ns >= threshold_ns);
        (slow.count(), self.recent.len())
    }

    /// Who made most of the slow probes slow: `12 x server host`.
    pub fn main_cause(&self) -> String {
        let owners = Owner::ALL.into_iter().zip(self.owners);
        let most = owners.max_by_key(|(_, count)| *count);
        let most = most.filter(|(_, count)| *count > 0);
        most.map_or_else(String::new, |(owner, count)| {
            format!("{count} x {}", owner.label())
        })
    }

    /// From when on a probe is slow, nanoseconds: as given, else as learnt.
    pub fn threshold_ns(&self) -> Option<u64> {
        let given = Some(self.run.threshold_ns).filter(|ns| *ns > 0);
        given.or_else(|| self.present.as_ref()?.slow.from_ns)
    }

    /// The largest value of each of the last seconds, nanoseconds, up to the present one; 0: none. `None`: of the total.
    pub fn seconds(&self, of: Option<Segment>, count: usize) -> Vec<u64> {
        let now = self.seconds.iter().map(|seconds| seconds.last).max();
        self.seconds[index(of)].up_to(now.unwrap_or(0), count)
    }

    /// What a picture is drawn from.
    pub fn capture(&self) -> Capture {
        let elapsed_ns = self.present.as_ref().map_or(0, |now| now.elapsed_ns);
        Capture {
            run: self.run.clone(),
            slowest: self.slowest.results().to_vec(),
            summary: self.known(self.stats.last_summary(elapsed_ns)),
            series: self.series.snapshot(),
            names: self.names.clone(),
        }
    }
}

fn index(of: Option<Segment>) -> usize {
    of.map_or(0, |segment| 1 + segment as usize)
}

impl Seconds {
    fn note(&mut self, second: i64, ns: u64) {
        let missing = if self.largest.is_empty() {
            1
        } else {
            second.saturating_sub(self.last).clamp(0, SECONDS as i64)
        };
        self.largest
            .extend(std::iter::repeat_n(0, missing as usize));
        self.last = if missing > 0 { second } else { self.last };
        let surplus = self.largest.len().saturating_sub(SECONDS);
        self.largest.drain(..surplus);
        // A probe that was answered late belongs to an earlier second.
        let age = self.last.saturating_sub(second);
        let at = usize::try_from(age).ok();
        let at = at.and_then(|age| self.largest.len().checked_sub(1 + age));
        if let Some(largest) = at.map(|at| &mut self.largest[at]) {
            *largest = ns.max(*largest).max(1);
        }
    }

    fn up_to(&self, now: i64, count: usize) -> Vec<u64> {
        let silent = now.saturating_sub(self.last).clamp(0, count as i64) as usize;
        let silence = std::iter::repeat_n(0, silent);
        let backwards = silence.chain(self.largest.iter().rev().copied());
        let mut values: Vec<u64> = backwards.take(count).collect();
        values.resize(count, 0);
        values.reverse();
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_keeps_its_largest_value() {
        let mut seconds = Seconds::default();
        for (second, ns) in [(10, 5), (10, 7), (12, 1), (11, 3), (2, 9), (12, 2)] {
            seconds.note(second, ns);
        }
        assert_eq!(seconds.up_to(12, 4), [0, 7, 3, 2]);
        assert_eq!(seconds.up_to(14, 4), [3, 2, 0, 0]);
        seconds.note(i64::MAX, 1);
        assert_eq!(seconds.largest.len(), SECONDS);
        assert_eq!(seconds.up_to(i64::MAX, 2), [0, 1]);
    }
}

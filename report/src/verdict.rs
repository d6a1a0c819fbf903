//! What made a probe slow, and how sure that is.
//!
//! A segment's *excess* is its time above its own baseline, the shortest that it was seen to take
//! (a sliding minimum). Where a segment is an estimate, so is its excess, with bounds. A segment
//! is *named* if its least possible excess is no smaller than the greatest possible one of every
//! other segment: then no reading of the bounds contradicts the name. If only the two wires get
//! in each other's way, the wire is named and the direction left open: the sum of both is exact.
//! Otherwise the verdict is undecided.
//!
//! The direction on the wire is known only as well as the clocks are. A name that depends on it
//! is *provisional* until a later probe has shown that the clocks did not move in between;
//! [`judge`] with [`Direction::Withdrawn`] says what is left if they did.

use std::collections::VecDeque;

use crate::clock::{Confirmation, WireSplit};
use crate::model::{Breakdown, Delay, Owner, Probe, Record, Segment, Stamp, WireExcess};

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// Whatever the bounds of the estimates allow.
    Sure,
    /// If the clocks did not move before the next quiet probe, which has not come.
    Provisional,
    /// The bounds support no name.
    Undecided,
}

/// What made a probe slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who.
    pub owner: Owner,
    /// In which segment; absent for the wire without a direction, and where it is undecided.
    pub segment: Option<Segment>,
    /// By how much it exceeded its baseline, nanoseconds; of all segments where it is undecided.
    pub excess_ns: u64,
    /// Bounds of the excess, nanoseconds, where it is an estimate.
    pub bounds: Option<(u64, u64)>,
    /// How sure that is.
    pub certainty: Certainty,
    /// CPU of the stamp that ends the segment.
    pub cpu: Option<u16>,
}

impl Verdict {
    /// Nothing took longer than usual.
    pub(crate) const NOTHING: Self = Self {
        owner: Owner::Unknown,
        segment: None,
        excess_ns: 0,
        bounds: None,
        certainty: Certainty::Undecided,
        cpu: None,
    };
}

/// What may be believed of the direction on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The bounds of the clock model.
    Bounded,
    /// The clocks moved: only that both directions together took as long as they did.
    Withdrawn,
}

/// How long a minimum is remembered: at least this, at most twice as long.
const GENERATION_NS: u64 = 1_800_000_000_000;
/// Unless the excess of all segments is this part of the total, nothing took longer than usual.
const WORTH_A_VERDICT: u64 = 10;

/// The baseline of each segment: the shortest time that it took in the last half hour or hour.
#[derive(Clone, Debug)]
pub struct Baselines {
    /// Nanoseconds; of this generation and the last.
    least: [[u64; Segment::ALL.len()]; 2],
    began_ns: Option<u64>,
}

impl Default for Baselines {
    fn default() -> Self {
        Self {
            least: [[u64::MAX; Segment::ALL.len()]; 2],
            began_ns: None,
        }
    }
}

impl Baselines {
    /// Takes in the segments of a probe that was sent at `sent_ns` of the client's clock.
    pub fn learn(&mut self, breakdown: &Breakdown, sent_ns: u64) {
        let began = *self.began_ns.get_or_insert(sent_ns);
        if sent_ns.saturating_sub(began) >= GENERATION_NS {
            self.least = [[u64::MAX; Segment::ALL.len()], self.least[0]];
            self.began_ns = Some(sent_ns);
        }
        for delay in &breakdown.delays {
            let least = &mut self.least[0][delay.segment as usize];
            *least = delay.ns.min(*least);
        }
    }

    /// Nanoseconds; all of `ns` where nothing is known.
    fn of(&self, segment: Segment, ns: u64) -> u64 {
        let [now, before] = &self.least;
        ns.min(now[segment as usize]).min(before[segment as usize])
    }
}

/// By how much something took longer than usual, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Excess {
    segment: Segment,
    ns: u64,
    lo: u64,
    hi: u64,
    estimated: bool,
}

impl Excess {
    fn of(
        delay: &Delay,
        wire: Option<&WireExcess>,
        baselines: &Baselines,
        from: Direction,
    ) -> Self {
        let base = match (wire, delay.segment) {
            (Some(wire), Segment::LTxOutlink) => wire.base_out_ns,
            (Some(wire), Segment::LRxInlink) => wire.base_in_ns,
            // What a softirq took of an estimated wire was taken above the wire's base.
            (Some(_), _) if delay.bounds.is_some() => 0,
            _ => baselines.of(delay.segment, delay.ns),
        };
        let over = |ns: u64| ns.saturating_sub(base);
        let (lo, hi) = match (from, wire, delay.bounds) {
            (Direction::Withdrawn, Some(wire), Some(_)) => (base, base + wire.most_ns()),
            (_, _, Some(bounds)) => bounds,
            (_, _, None) => (delay.ns, delay.ns),
        };
        Self {
            segment: delay.segment,
            ns: over(delay.ns),
            lo: over(lo),
            hi: over(hi),
            estimated: delay.bounds.is_some(),
        }
    }

    fn is_wire(&self) -> bool {
        matches!(self.segment, Segment::LTxOutlink | Segment::LRxInlink)
    }
}

/// What made this probe slow. Absent if nothing took longer than usual.
pub fn judge(breakdown: &Breakdown, baselines: &Baselines, from: Direction) -> Option<Verdict> {
    let wire = breakdown.wire.as_ref();
    let delays = breakdown.delays.iter();
    let all: Vec<Excess> = delays
        .map(|delay| Excess::of(delay, wire, baselines, from))
        .collect();
    let excess_ns: u64 = all.iter().map(|excess| excess.ns).sum();
    // Of equals, the first in path order.
    let culprit = all.iter().rev().max_by_key(|excess| excess.ns)?;
    if excess_ns < (breakdown.total_ns / WORTH_A_VERDICT).max(1) {
        return None;
    }
    let others = all
        .iter()
        .filter(|excess| excess.segment != culprit.segment);
    if others.map(|other| other.hi).max().unwrap_or(0) <= culprit.lo {
        return Some(named(culprit));
    }
    Some(whole_wire(&all, wire).unwrap_or(Verdict {
        excess_ns,
        ..Verdict::NOTHING
    }))
}

fn named(culprit: &Excess) -> Verdict {
    let owner = culprit.segment.owner();
    Verdict {
        owner,
        segment: Some(culprit.segment),
        excess_ns: culprit.ns,
        bounds: culprit.estimated.then_some((culprit.lo, culprit.hi)),
        certainty: if owner == Owner::Unknown {
            Certainty::Undecided
        } else {
            Certainty::Sure
        },
        cpu: None,
    }
}

/// The wire, if both directions together exceed everything else. What the softirqs took of it may
/// be theirs, so it counts for them and not for the wire.
fn whole_wire(all: &[Excess], wire: Option<&WireExcess>) -> Option<Verdict> {
    let (hosts, wires): (Vec<&Excess>, Vec<&Excess>) = all.iter().partition(|e| !e.is_wire());
    let taken: u64 = hosts.iter().filter(|e| e.estimated).map(|e| e.hi).sum();
    let wire = wire?;
    let lo = wire.least_ns().saturating_sub(taken);
    let hi = wire.most_ns();
    let most = hosts.iter().map(|excess| excess.hi).max().unwrap_or(0);
    (lo > 0 && most <= lo).then(|| Verdict {
        owner: Owner::Wire,
        segment: None,
        excess_ns: wires.iter().map(|excess| excess.ns).sum(),
        bounds: Some((lo, hi)),
        certainty: Certainty::Sure,
        cpu: None,
    })
}

/// CPU of the stamp at which a segment ends.
fn cpu_of(segment: Segment, probe: &Probe) -> Option<u16> {
    let (host, point) = segment.end()?;
    let ends = |stamp: &&Stamp| stamp.host == host && stamp.point == point;
    probe.path.iter().find(ends)?.cpu
}

/// Records that wait for their direction to be confirmed, at most, and for how long.
const MAX_WAITING: usize = 1024;
const PATIENCE_NS: u64 = 10_000_000_000;

/// Judges the probes of a run in the order in which they come, and gives them out in that order.
#[derive(Clone, Debug, Default)]
pub struct Docket {
    baselines: Baselines,
    /// The oldest first; `None`: nothing to wait for.
    waiting: VecDeque<(Record, Option<WireExcess>)>,
}

impl Docket {
    /// Takes in the segments of a probe, recorded or not, that was sent at `sent_ns`.
    pub fn learn(&mut self, breakdown: &Breakdown, sent_ns: u64) {
        self.baselines.learn(breakdown, sent_ns);
    }

    /// Takes a record; [`settle`](Self::settle) gives it back with its verdict.
    pub fn submit(&mut self, mut record: Record) {
        let mut open = None;
        if let Some(breakdown) = &record.breakdown {
            record.verdict = self.provisional(&record);
            let without = judge(breakdown, &self.baselines, Direction::Withdrawn);
            let name = |verdict: Verdict| (verdict.owner, verdict.segment);
            if record.verdict.map(name) != without.map(name) {
                open = breakdown.wire;
            }
        }
        self.waiting.push_back((record, open));
    }

    /// What can be said of a record at once.
    pub fn provisional(&self, record: &Record) -> Option<Verdict> {
        let breakdown = record.breakdown.as_ref()?;
        self.verdict(&record.probe, breakdown, Direction::Bounded)
    }

    fn verdict(&self, probe: &Probe, breakdown: &Breakdown, from: Direction) -> Option<Verdict> {
        let verdict = judge(breakdown, &self.baselines, from)?;
        Some(Verdict {
            cpu: verdict.segment.and_then(|segment| cpu_of(segment, probe)),
            ..verdict
        })
    }

    /// Gives out the records, oldest first, whose verdict is final by now, `now_ns` of the client's
    /// clock; those that waited too long, or all of them if `last`, as provisional.
    pub fn settle(
        &mut self,
        clock: &WireSplit,
        now_ns: u64,
        last: bool,
        mut sink: impl FnMut(Record),
    ) {
        while let Some((record, open)) = self.waiting.front() {
            let confirmation = open.map_or(Confirmation::Confirmed, |of| clock.confirmation(&of));
            let sent_ns = record.probe.path.first().map_or(0, |stamp| stamp.ns);
            let patient = now_ns < sent_ns + PATIENCE_NS && self.waiting.len() <= MAX_WAITING;
            if confirmation == Confirmation::Pending && patient && !last {
                return;
            }
            let Some((record, _)) = self.waiting.pop_front() else {
                return;
            };
            sink(self.settled(record, confirmation));
        }
    }

    fn settled(&self, mut record: Record, confirmation: Confirmation) -> Record {
        match (confirmation, &record.breakdown, &mut record.verdict) {
            (Confirmation::Pending, _, Some(verdict)) if verdict.certainty == Certainty::Sure => {
                verdict.certainty = Certainty::Provisional;
            }
            (Confirmation::Withdrawn, Some(breakdown), verdict) => {
                *verdict = self.verdict(&record.probe, breakdown, Direction::Withdrawn);
            }
            _ => {}
        }
        record
    }
}

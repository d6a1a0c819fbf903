//! What made a probe slow, and how sure that is.
//!
//! A segment's *excess* is its time above its own baseline, the shortest that it was seen to take
//! (a sliding minimum; for a stage of a host 1 ms at most). Where a segment is an estimate, so is
//! its excess, with bounds. A segment is *named* if its least possible excess is no smaller than
//! the greatest possible one of every other segment: then no reading of the bounds contradicts the
//! name. If only the two wires get in each other's way, the wire is named and the direction left
//! open: the sum of both is exact. Otherwise the verdict is undecided.
//!
//! The direction on the wire is known only as well as the clocks are. A name that depends on it
//! is *provisional* until a later probe has shown that the clocks did not move in between, or by
//! too little to matter: a clock that is off by some time moves twice that between the
//! directions, so it must stay under half of the *gap* between the name and the next candidate. What
//! a later probe allows it to be off by is its own excess, and what it was found to be off by.
//! If that is too much, the name is withdrawn: [`judge`] with [`ClockTrust::Withdrawn`] says what
//! is left.

use super::breakdown::CHAIN;
use crate::model::{
    AtDevice, Breakdown, Certainty, ClockRelation, Delay, Doubt, Host, Owner, Point, Probe,
    ProbeResult, Segment, Stamp, Stretch, Verdict, WireExcess,
};
use std::collections::VecDeque;

/// What may be believed of the direction on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    /// The bounds of the clock model.
    Bounded,
    /// The clocks moved: only that both directions together took as long as they did.
    Withdrawn,
}

/// How long a minimum is remembered: at least this, at most twice as long.
const GENERATION_NS: u64 = 1_800_000_000_000;

/// If the excess of all segments is less than one part in this many of the total, there is no verdict.
const WORTH_A_VERDICT: u64 = 10;

/// Upper bound on the baseline of a stage of a host, nanoseconds: a longer stage waits for something, such
/// as a queue that was full from the first probe on. A wire may need any time.
pub(crate) const HOST_MOST_NS: u64 = 1_000_000;

/// Upper bound on the ordinary lateness of a sleeping sender, nanoseconds: a timer, an idle CPU, a switch.
const USUALLY_LATE_NS: u64 = 200_000;

/// The baseline of each segment: the shortest time that it took in the last half hour or hour.
#[derive(Clone, Debug)]
pub struct Baselines {
    /// Nanoseconds; of this generation and the last.
    min: [[u64; Segment::ALL.len()]; 2],
    began_ns: Option<u64>,
}

impl Default for Baselines {
    fn default() -> Self {
        Self {
            min: [[u64::MAX; Segment::ALL.len()]; 2],
            began_ns: None,
        }
    }
}

impl Baselines {
    /// Takes in the segments of a probe that was sent at `sent_ns` of the client's clock.
    pub fn learn(&mut self, breakdown: &Breakdown, sent_ns: u64) {
        let began = *self.began_ns.get_or_insert(sent_ns);
        if sent_ns.saturating_sub(began) >= GENERATION_NS {
            self.min = [[u64::MAX; Segment::ALL.len()], self.min[0]];
            self.began_ns = Some(sent_ns);
        }
        for delay in &breakdown.delays {
            let min = &mut self.min[0][delay.segment as usize];
            *min = delay.ns.min(*min);
        }
    }

    /// The shortest time that a segment took, nanoseconds; `u64::MAX` where nothing is known.
    fn min_ns(&self, segment: Segment) -> u64 {
        let [now, before] = &self.min;
        now[segment as usize].min(before[segment as usize])
    }

    /// The baseline of one segment of a probe, nanoseconds. That of the time that is nobody's is no longer than
    /// that of the segments which it stands for: most probes have those, and the first without may be slow.
    fn of_delay(&self, delay: &Delay, breakdown: &Breakdown) -> u64 {
        let baseline = self.baseline_ns(delay.segment, delay.ns);
        if delay.segment != Segment::Unattributed {
            return baseline;
        }
        let is_there = |segment| {
            breakdown
                .delays
                .iter()
                .any(|delay| delay.segment == segment)
        };
        let links = CHAIN.into_iter().filter(|link| !is_there(*link));
        let known = links
            .map(|link| self.min_ns(link))
            .filter(|ns| *ns != u64::MAX);
        match known.fold(0, u64::saturating_add) {
            0 => baseline,
            missing => baseline.min(missing),
        }
    }

    /// The baseline of a segment that took `ns`, nanoseconds; all of it where nothing is known.
    fn baseline_ns(&self, segment: Segment, ns: u64) -> u64 {
        let min = ns.min(self.min_ns(segment));
        match segment.owner() {
            _ if segment == Segment::LTxLate => min.max(USUALLY_LATE_NS).min(ns),
            Owner::Local | Owner::Receiver | Owner::Remote => min.min(HOST_MOST_NS),
            _ => min,
        }
    }
}

/// The excess of a segment over its baseline, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Excess {
    segment: Segment,
    ns: u64,
    lo: u64,
    hi: u64,
    estimated: bool,
    doubt: Option<Doubt>,
}

impl Excess {
    fn new(delay: &Delay, breakdown: &Breakdown, baselines: &Baselines, trust: ClockTrust) -> Self {
        let wire = breakdown.wire.as_ref();
        let base = match (wire, delay.segment) {
            (Some(wire), Segment::LTxOutlink) => wire.base_out_ns,
            (Some(wire), Segment::LRxInlink) => wire.base_in_ns,
            // What a softirq took of an estimated wire was taken above the wire's base.
            (Some(_), _) if delay.bounds.is_some() => 0,
            _ => baselines.of_delay(delay, breakdown),
        };
        let over = |ns: u64| ns.saturating_sub(base);
        // A softirq's share is only as sure as it is which way was slow.
        let shared = wire.filter(|_| delay.bounds.is_some() || is_softirq(delay.segment));
        let (lo, hi) = match (trust, shared, delay.bounds) {
            (ClockTrust::Withdrawn, Some(wire), _) => {
                let lo = base + kept_above(wire, delay.segment);
                (lo, lo + wire.max_ns())
            }
            (_, _, Some(bounds)) => bounds,
            (_, _, None) => (delay.ns, delay.ns),
        };
        Self {
            segment: delay.segment,
            ns: over(delay.ns),
            lo: over(lo),
            hi: over(hi),
            estimated: lo < hi || delay.bounds.is_some(),
            doubt: delay.doubt,
        }
    }

    fn is_wire(&self) -> bool {
        matches!(self.segment, Segment::LTxOutlink | Segment::LRxInlink)
    }
}

/// What hosts on the way kept of this segment above the least that they need, nanoseconds.
fn kept_above(wire: &WireExcess, segment: Segment) -> u64 {
    match segment {
        Segment::LTxOutlink => wire.kept.request_ns,
        Segment::LRxInlink => wire.kept.reply_ns,
        _ => 0,
    }
}

/// Between two clocks these are taken out of the wire.
fn is_softirq(segment: Segment) -> bool {
    matches!(
        segment,
        Segment::RRxSoftirq | Segment::RRxNapi | Segment::LRxSoftirq | Segment::LRxNapi
    )
}

/// What made this probe slow. Absent if nothing exceeded its baseline.
pub fn judge(breakdown: &Breakdown, baselines: &Baselines, trust: ClockTrust) -> Option<Verdict> {
    decide(breakdown, baselines, trust).map(|(verdict, _)| verdict)
}

/// The verdict, and the gap between a named segment and the next candidate, nanoseconds.
fn decide(
    breakdown: &Breakdown,
    baselines: &Baselines,
    trust: ClockTrust,
) -> Option<(Verdict, u64)> {
    let wire = breakdown.wire.as_ref();
    let delays = breakdown.delays.iter();
    let all: Vec<Excess> = delays
        .map(|delay| Excess::new(delay, breakdown, baselines, trust))
        .collect();
    let excess_ns = sum(all.iter().map(|excess| excess.ns));
    // Of equals, the first in path order.
    let culprit = all.iter().rev().max_by_key(|excess| excess.ns)?;
    if excess_ns < (breakdown.response_ns() / WORTH_A_VERDICT).max(1) {
        return None;
    }
    let others = all
        .iter()
        .filter(|excess| excess.segment != culprit.segment);
    let max = others.map(|other| other.hi).max().unwrap_or(0);
    if let Some(gap) = culprit.lo.checked_sub(max) {
        return Some((named(culprit), gap));
    }
    let verdict = whole_wire(&all, wire).unwrap_or(Verdict {
        excess_ns,
        doubt: culprit.doubt,
        ..Verdict::UNDECIDED
    });
    Some((verdict, 0))
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
            certainty(culprit.doubt)
        },
        cpu: None,
        at: None,
        on_way: None,
        doubt: culprit.doubt,
    }
}

/// How sure a name is whose time has this doubt.
fn certainty(doubt: Option<Doubt>) -> Certainty {
    doubt.map_or(Certainty::Sure, |_| Certainty::Likely)
}

/// All together, as far as a number goes: stamps of another host may be anything.
fn sum(ns: impl Iterator<Item = u64>) -> u64 {
    ns.fold(0, u64::saturating_add)
}

/// The wire, if both directions together exceed everything else. What the softirqs took of it may
/// be theirs, so it counts for them and not for the wire.
fn whole_wire(all: &[Excess], wire: Option<&WireExcess>) -> Option<Verdict> {
    let (hosts, wires): (Vec<&Excess>, Vec<&Excess>) = all.iter().partition(|e| !e.is_wire());
    let taken = sum(hosts.iter().filter(|e| e.estimated).map(|e| e.hi));
    let wire = wire?;
    let kept = wire.kept.sum_ns();
    let lo = wire.min_ns().saturating_add(kept).saturating_sub(taken);
    let hi = wire.max_ns().saturating_add(kept);
    let max = hosts.iter().map(|excess| excess.hi).max().unwrap_or(0);
    let doubt = wires.iter().find_map(|excess| excess.doubt);
    (lo > 0 && max <= lo).then(|| Verdict {
        owner: Owner::Wire,
        segment: None,
        excess_ns: sum(wires.iter().map(|excess| excess.ns)),
        bounds: Some((lo, hi)),
        certainty: certainty(doubt),
        cpu: None,
        at: None,
        on_way: None,
        doubt,
    })
}

/// CPU of the stamp at which a segment ends.
fn cpu_of(segment: Segment, probe: &Probe) -> Option<u16> {
    let (host, point) = segment.end()?;
    let ends = |stamp: &&Stamp| stamp.host == host && stamp.point == point;
    probe.path.iter().find(ends)?.cpu
}

/// The part of the way that took at least half of what a wire took above its base.
fn stretch_of(verdict: &Verdict, breakdown: &Breakdown) -> Option<Stretch> {
    let is_on_way = matches!(
        verdict.owner,
        Owner::Wire | Owner::WireOut | Owner::WireIn | Owner::WireOrRemote
    );
    let longest = breakdown.way.iter().max_by_key(|part| part.excess_ns())?;
    let long = longest.excess_ns() >= verdict.excess_ns.div_ceil(2);
    (is_on_way && long).then_some(longest.of)
}

/// The device at which at least half of a segment's time, `ns`, went by: between the two stamps
/// inside it that lie furthest apart on one clock.
fn device_of(segment: Segment, ns: u64, probe: &Probe) -> Option<AtDevice> {
    let [start, end] = segment.at_devices()?;
    let is = |(host, point): (Host, Point)| move |s: &Stamp| (s.host, s.point) == (host, point);
    let last = matches!(end.1, Point::LTxDevout | Point::RTxDevout);
    let end = if last {
        probe.path.iter().rposition(is(end))?
    } else {
        probe.path.iter().position(is(end))?
    };
    let mut before = probe.path[..end].iter();
    // A wire begins at the last device, a host's own stage at the first stamp of its kind.
    let wire = matches!(start.1, Point::LTxDevout | Point::RTxDevout);
    let start = if wire {
        before.rposition(is(start))?
    } else {
        before.position(is(start))?
    };
    let on_one_clock =
        |a: &Stamp, b: &Stamp| probe.clock == ClockRelation::Same || a.host == b.host;
    let pairs = probe.path[start..=end].windows(2);
    let gaps = pairs.filter(|pair| on_one_clock(&pair[0], &pair[1]));
    let pair = gaps.max_by_key(|pair| pair[1].ns.saturating_sub(pair[0].ns))?;
    let (from, to) = (&pair[0], &pair[1]);
    let long = to.ns.saturating_sub(from.ns) >= ns.div_ceil(2);
    // Between two hosts there is no device; within a host on the way it is that host's. From the request
    // to the reply it is behind the last one.
    let place = |stamp: &Stamp| (stamp.host, stamp.netns, stamp.point.direction());
    let within = place(from) == place(to) && from.point.is_device();
    if !long || (wire && !within) {
        return None;
    }
    let device = to.device().or(from.device());
    Some(AtDevice {
        device: device.or(probe.path[end].device())?,
        queue: from.point.is_queue() && to.device() == from.device(),
    })
}

/// Records behind one that waits for its direction to be confirmed, at most, and how much later the
/// probe may have been sent that confirms it: what becomes of a record depends on the probes
/// alone, not on when they are looked at.
const MAX_WAITING: usize = 256;

const PATIENCE_NS: u64 = 10_000_000_000;

/// Upper bound on the wait for probes that do not arrive.
const SILENCE_NS: u64 = 2 * PATIENCE_NS;

/// A name that depends on the direction.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Between the name and the next candidate, nanoseconds.
    gap_ns: u64,
    /// See [`WireExcess`].
    moved_ns: u64,
}

impl Open {
    /// What a later probe makes of it: true if the name stands, false if it does not.
    fn settled_by(self, later: &WireExcess) -> Option<bool> {
        let moved = later.moved_ns.saturating_sub(self.moved_ns);
        let stands = |off_ns: u64| off_ns.saturating_mul(2) <= self.gap_ns;
        match (stands(moved), later.shows_clock) {
            (false, _) => Some(false),
            (true, true) if stands(moved.saturating_add(later.max_ns())) => Some(true),
            (true, _) => None,
        }
    }
}

/// Judges the probes of a run, and returns them in the order in which they were pushed.
#[derive(Clone, Debug, Default)]
pub struct VerdictQueue {
    baselines: Baselines,
    /// The oldest first; `None`: nothing to wait for.
    waiting: VecDeque<(ProbeResult, Option<Open>)>,
}

impl VerdictQueue {
    /// Takes in the segments of a probe, recorded or not, that was sent at `sent_ns`.
    pub fn confirm(&mut self, breakdown: &Breakdown, sent_ns: u64) {
        self.baselines.learn(breakdown, sent_ns);
        let Some(later) = &breakdown.wire else {
            return;
        };
        for (result, open) in &mut self.waiting {
            if sent_ns >= sent_at(result).saturating_add(PATIENCE_NS) {
                give_up(result, open);
            }
            match open.and_then(|open| open.settled_by(later)) {
                Some(true) => *open = None,
                Some(false) => {
                    result.verdict = verdict(&self.baselines, result, ClockTrust::Withdrawn);
                    *open = None;
                }
                None => {}
            }
        }
    }

    /// Takes a result; [`finish`](Self::finish) gives it back with its verdict.
    pub fn push(&mut self, mut result: ProbeResult) {
        result.verdict = self.provisional(&result);
        let open = self.open(&result);
        self.waiting.push_back((result, open));
        let crowded = self.waiting.len().checked_sub(MAX_WAITING + 1);
        if let Some((result, open)) = crowded.and_then(|index| self.waiting.get_mut(index)) {
            give_up(result, open);
        }
    }

    /// Takes a result whose verdict is final already; [`finish`](Self::finish) gives it back.
    pub fn push_final(&mut self, result: ProbeResult) {
        self.waiting.push_back((result, None));
    }

    /// What can be said of a result at once.
    pub fn provisional(&self, result: &ProbeResult) -> Option<Verdict> {
        verdict(&self.baselines, result, ClockTrust::Bounded)
    }

    /// What the verdict depends on, if another one would be left without the direction.
    fn open(&self, result: &ProbeResult) -> Option<Open> {
        let breakdown = result.breakdown.as_ref()?;
        let wire = breakdown.wire?;
        let (bounded, gap_ns) = decide(breakdown, &self.baselines, ClockTrust::Bounded)?;
        let withdrawn = judge(breakdown, &self.baselines, ClockTrust::Withdrawn)?;
        let name = |verdict: Verdict| (verdict.owner, verdict.segment);
        (name(bounded) != name(withdrawn)).then_some(Open {
            gap_ns,
            moved_ns: wire.moved_ns,
        })
    }

    /// Gives out the results, oldest first, whose verdict is final by now, `now_ns` of the client's
    /// clock; those that waited too long although no probe came, or all of them if `last`, as
    /// provisional.
    pub fn finish(&mut self, now_ns: u64, last: bool, mut sink: impl FnMut(ProbeResult)) {
        while let Some((result, open)) = self.waiting.front_mut() {
            if last || now_ns >= sent_at(result).saturating_add(SILENCE_NS) {
                give_up(result, open);
            }
            if open.is_some() {
                return;
            }
            if let Some((result, _)) = self.waiting.pop_front() {
                sink(result);
            }
        }
    }
}

/// When the probe was sent, on the client's clock.
fn sent_at(result: &ProbeResult) -> u64 {
    result.probe.sent_ns().unwrap_or(0)
}

/// Nothing confirmed the direction in time.
fn give_up(result: &mut ProbeResult, open: &mut Option<Open>) {
    if open.take().is_some()
        && let Some(verdict) = &mut result.verdict
    {
        verdict.certainty = verdict.certainty.max(Certainty::Provisional);
    }
}

fn verdict(baselines: &Baselines, result: &ProbeResult, trust: ClockTrust) -> Option<Verdict> {
    let verdict = judge(result.breakdown.as_ref()?, baselines, trust)?;
    let breakdown = result.breakdown.as_ref()?;
    let cpu = |segment| cpu_of(segment, &result.probe);
    let delay = breakdown
        .delays
        .iter()
        .find(|delay| Some(delay.segment) == verdict.segment);
    Some(Verdict {
        cpu: verdict.segment.and_then(cpu),
        at: delay.and_then(|delay| device_of(delay.segment, delay.ns, &result.probe)),
        on_way: stretch_of(&verdict, breakdown),
        ..verdict
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::analysis::clock::{Crossing, WireSplit};
    use crate::model::{Ifindex, Kept, Netns, StampFlags, Status};

    fn delay(segment: Segment, ns: u64, bounds: Option<(u64, u64)>) -> Delay {
        Delay {
            segment,
            ns,
            bounds,
            merged: false,
            clamped: false,
            doubt: None,
        }
    }

    fn breakdown(delays: Vec<Delay>) -> Breakdown {
        Breakdown {
            total_ns: delays.iter().map(|delay| delay.ns).sum(),
            delays,
            unordered: 0,
            wire: None,
            way: Vec::new(),
        }
    }

    #[test]
    fn stamps_that_lie_ages_apart_have_a_verdict_too() {
        let ages = [Segment::RRxKern, Segment::RTxKern].map(|of| delay(of, u64::MAX - 1, None));
        let breakdown = Breakdown {
            total_ns: 1000,
            delays: ages.into(),
            unordered: 0,
            wire: None,
            way: Vec::new(),
        };
        let verdict = judge(&breakdown, &Baselines::default(), ClockTrust::Bounded);
        assert!(verdict.is_some_and(|verdict| verdict.excess_ns > 1 << 63));
    }

    /// Two wires of 100 ns each, and what they took above that.
    fn wire(excess_ns: u64) -> WireExcess {
        WireExcess {
            base_out_ns: 100,
            base_in_ns: 100,
            excess_ns,
            kept: Kept::default(),
            margin_ns: 10,
            moved_ns: 0,
            shows_clock: true,
        }
    }

    /// Judged by baselines of 100 ns in every segment.
    fn verdict(breakdown: &Breakdown, trust: ClockTrust) -> Option<Verdict> {
        let mut baselines = Baselines::default();
        let quiet = Segment::ALL.map(|segment| delay(segment, 100, None));
        baselines.learn(&self::breakdown(quiet.to_vec()), 0);
        judge(breakdown, &baselines, trust)
    }

    fn name(verdict: Option<Verdict>) -> Option<(Owner, Option<Segment>, u64, Certainty)> {
        verdict.map(|v| (v.owner, v.segment, v.excess_ns, v.certainty))
    }

    #[test]
    fn the_largest_excess_is_named_and_nothing_unusual_is_not() {
        let slow = breakdown(vec![
            delay(Segment::LTxKern, 5_000, None),
            delay(Segment::RRxKern, 900, None),
            delay(Segment::LRxTaskRun, 5_001, None),
        ]);
        assert_eq!(
            name(verdict(&slow, ClockTrust::Bounded)),
            Some((
                Owner::Receiver,
                Some(Segment::LRxTaskRun),
                4_901,
                Certainty::Sure
            ))
        );
        let quiet = breakdown(vec![
            delay(Segment::LTxKern, 105, None),
            delay(Segment::RRxKern, 90, None),
        ]);
        assert_eq!(verdict(&quiet, ClockTrust::Bounded), None);
        assert_eq!(verdict(&breakdown(vec![]), ClockTrust::Bounded), None);
    }

    #[test]
    fn a_host_is_named_if_no_share_of_the_wire_can_beat_it() {
        let mut slow = breakdown(vec![
            delay(Segment::LTxOutlink, 150, Some((100, 300))),
            delay(Segment::RRxKern, 310, None),
            delay(Segment::LRxInlink, 250, Some((100, 300))),
        ]);
        slow.wire = Some(wire(200));
        for trust in [ClockTrust::Bounded, ClockTrust::Withdrawn] {
            assert_eq!(
                name(verdict(&slow, trust)),
                Some((Owner::Remote, Some(Segment::RRxKern), 210, Certainty::Sure))
            );
        }
        slow.delays[1].ns = 295;
        assert_eq!(
            name(verdict(&slow, ClockTrust::Bounded)).map(|v| (v.0, v.3)),
            Some((Owner::Unknown, Certainty::Undecided))
        );
    }

    #[test]
    fn the_wire_is_named_where_its_directions_are_in_each_others_way() {
        let mut slow = breakdown(vec![
            delay(Segment::LTxOutlink, 900, Some((100, 1_100))),
            delay(Segment::RRxKern, 500, None),
            delay(Segment::LRxInlink, 300, Some((100, 1_100))),
        ]);
        slow.wire = Some(wire(1_000));
        let found = verdict(&slow, ClockTrust::Bounded);
        assert_eq!(
            name(found),
            Some((Owner::Wire, None, 1_000, Certainty::Sure))
        );
        assert_eq!(found.unwrap().bounds, Some((990, 1_010)));
        slow.delays[0].bounds = Some((880, 920));
        slow.delays[2].bounds = Some((280, 320));
        assert_eq!(
            name(verdict(&slow, ClockTrust::Bounded)),
            Some((
                Owner::WireOut,
                Some(Segment::LTxOutlink),
                800,
                Certainty::Sure
            ))
        );
        assert_eq!(
            name(verdict(&slow, ClockTrust::Withdrawn)),
            Some((Owner::Wire, None, 1_000, Certainty::Sure))
        );
    }

    #[test]
    fn what_a_softirq_may_have_taken_is_not_the_wires() {
        let mut slow = breakdown(vec![
            delay(Segment::LTxOutlink, 100, Some((100, 100))),
            delay(Segment::RRxSoftirq, 800, Some((0, 1_000))),
            delay(Segment::LRxInlink, 300, Some((100, 1_100))),
        ]);
        slow.wire = Some(wire(1_000));
        assert_eq!(
            name(verdict(&slow, ClockTrust::Bounded)).map(|v| v.0),
            Some(Owner::Unknown)
        );
        slow.delays[1].bounds = Some((790, 810));
        slow.delays[2].bounds = Some((290, 310));
        assert_eq!(
            name(verdict(&slow, ClockTrust::Bounded)).map(|v| v.1),
            Some(Some(Segment::RRxSoftirq))
        );
    }

    #[test]
    fn a_softirq_is_not_the_wire_when_the_direction_is_withdrawn() {
        for took in [800, 990, 1_010] {
            let mut slow = breakdown(vec![
                delay(Segment::LTxOutlink, 105, Some((100, 110))),
                delay(Segment::RRxSoftirq, took, None),
                delay(Segment::LRxInlink, 105, Some((100, 110))),
            ]);
            slow.wire = Some(wire(1_000));
            assert_eq!(
                name(verdict(&slow, ClockTrust::Bounded)).map(|v| v.1),
                Some(Some(Segment::RRxSoftirq))
            );
            assert_eq!(
                name(verdict(&slow, ClockTrust::Withdrawn)).map(|v| (v.0, v.3)),
                Some((Owner::Unknown, Certainty::Undecided)),
                "{took}"
            );
        }
    }

    #[test]
    fn a_queue_that_was_always_full_is_named_and_a_long_wire_is_not() {
        let mut baselines = Baselines::default();
        let slow = breakdown(vec![
            delay(Segment::LTxQdisc, 20_000_000, None),
            delay(Segment::LTxOutlink, 30_000_000, None),
        ]);
        baselines.learn(&slow, 0);
        assert_eq!(
            name(judge(&slow, &baselines, ClockTrust::Bounded)),
            Some((
                Owner::Local,
                Some(Segment::LTxQdisc),
                19_000_000,
                Certainty::Sure
            ))
        );
    }

    #[test]
    fn a_minimum_is_forgotten_after_two_generations() {
        let mut baselines = Baselines::default();
        let learn = |baselines: &mut Baselines, ns, at| {
            baselines.learn(&breakdown(vec![delay(Segment::RRxKern, ns, None)]), at);
            baselines.baseline_ns(Segment::RRxKern, u64::MAX)
        };
        assert_eq!(learn(&mut baselines, 10, 0), 10);
        assert_eq!(learn(&mut baselines, 30, GENERATION_NS), 10);
        assert_eq!(learn(&mut baselines, 20, 2 * GENERATION_NS), 20);
        assert_eq!(learn(&mut baselines, 40, 3 * GENERATION_NS), 20);
    }

    /// Probes over a wire of 100 us each way, with a server's clock that can step.
    struct World {
        wire: WireSplit,
        verdicts: VerdictQueue,
        seq: u32,
        offset: u64,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self {
                wire: WireSplit::new(),
                verdicts: VerdictQueue::default(),
                seq: 0,
                offset: 5_000_000_000,
            };
            for _ in 0..30 {
                world.probe(0, false);
            }
            world
        }

        fn probe(&mut self, queued_out: u64, recorded: bool) {
            self.seq += 1;
            let left_ns = u64::from(self.seq) * 10_000_000;
            let arrived_ns = left_ns + self.offset + 100_000 + queued_out;
            let back_ns = left_ns + 210_000 + queued_out;
            let crossing = Crossing::from([left_ns, arrived_ns, arrived_ns + 10_000, back_ns]);
            let (out, back) = self
                .wire
                .split(&crossing, Kept::default(), ClockRelation::Separate)
                .unwrap();
            let mut breakdown = breakdown(vec![
                delay(Segment::LTxOutlink, out.ns, out.bounds),
                delay(Segment::RRxKern, 10_000, None),
                delay(Segment::LRxInlink, back.ns, back.bounds),
            ]);
            breakdown.wire = self.wire.excess();
            self.verdicts.confirm(&breakdown, left_ns);
            if recorded {
                self.submit(left_ns, Some(breakdown));
            }
        }

        fn submit(&mut self, sent_ns: u64, breakdown: Option<Breakdown>) {
            let sent = Stamp {
                point: Point::LTxUser,
                host: Host::Client,
                ns: sent_ns,
                cpu: None,
                ifindex: Ifindex(0),
                netns: Netns(0),
                flags: StampFlags::default(),
            };
            let probe = Probe {
                seq: self.seq,
                sent_unix_ns: 0,
                peer: Ipv4Addr::LOCALHOST.into(),
                status: Status::Ok,
                flow: 0,
                ttl: [None; 2],
                clock: ClockRelation::Separate,
                path: vec![sent],
            };
            self.verdicts.push(ProbeResult {
                probe,
                breakdown,
                verdict: None,
                loss: None,
                blame: Vec::new(),
            });
        }

        fn settle(&mut self, last: bool) -> Vec<(Owner, Certainty)> {
            let mut settled = Vec::new();
            self.verdicts.finish(0, last, |result| {
                settled.extend(result.verdict.map(|v| (v.owner, v.certainty)));
            });
            settled
        }
    }

    #[test]
    fn a_direction_waits_for_a_quiet_probe() {
        let mut world = World::new();
        world.probe(2_000_000, true);
        assert_eq!(world.settle(false), []);
        world.probe(0, false);
        assert_eq!(world.settle(false), [(Owner::WireOut, Certainty::Sure)]);
    }

    #[test]
    fn a_direction_is_withdrawn_if_the_clock_moved() {
        let mut world = World::new();
        world.probe(2_000_000, true);
        world.offset += 7_000_000;
        for _ in 0..10 {
            world.probe(0, false);
        }
        assert_eq!(world.settle(false), [(Owner::Wire, Certainty::Sure)]);
    }

    #[test]
    fn a_clock_that_moved_by_little_withdraws_nothing() {
        let mut world = World::new();
        world.probe(2_000_000, true);
        world.offset += 100_000;
        for _ in 0..10 {
            world.probe(0, false);
        }
        assert_eq!(world.settle(false), [(Owner::WireOut, Certainty::Sure)]);
    }

    #[test]
    fn a_slow_probe_that_could_hide_more_confirms_nothing() {
        let mut world = World::new();
        world.probe(2_000_000, true);
        world.probe(1_500_000, false);
        assert_eq!(world.settle(false), []);
        world.probe(900_000, false);
        assert_eq!(world.settle(false), [(Owner::WireOut, Certainty::Sure)]);
    }

    #[test]
    fn what_is_still_open_at_the_end_is_provisional() {
        let mut world = World::new();
        world.probe(2_000_000, true);
        assert_eq!(
            world.settle(true),
            [(Owner::WireOut, Certainty::Provisional)]
        );
    }

    /// However late somebody asks.
    #[test]
    fn a_direction_is_confirmed_in_ten_seconds_or_never() {
        for (later, certainty) in [(990, Certainty::Sure), (1_000, Certainty::Provisional)] {
            let mut world = World::new();
            world.probe(2_000_000, true);
            world.seq += later - 1;
            world.probe(0, false);
            world.probe(0, false);
            assert_eq!(world.settle(false), [(Owner::WireOut, certainty)]);
        }
        let mut world = World::new();
        world.probe(2_000_000, true);
        let mut settled = 0;
        world
            .verdicts
            .finish(30_000_000_000, false, |_| settled += 1);
        assert_eq!(settled, 1, "nothing comes any more");
    }

    #[test]
    fn no_more_than_so_many_records_wait_behind_an_open_one() {
        let mut world = World::new();
        world.probe(2_000_000, true);
        for _ in 0..MAX_WAITING - 1 {
            world.submit(0, None);
        }
        assert_eq!(world.settle(false), []);
        world.submit(0, None);
        let provisional = (Owner::WireOut, Certainty::Provisional);
        assert_eq!(world.settle(false), [provisional]);
    }
}

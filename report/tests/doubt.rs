//! Sure only of what was seen: a fault in a known segment, stamps left out, and never another host that is
//! named as sure.

mod common;

use common::{Random, example_doubt, example_names, probe, stamp};
use report::analysis::breakdown::breakdown;
use report::analysis::clock::WireSplit;
use report::analysis::headline::Headline;
use report::analysis::verdict::VerdictQueue;
use report::model::{
    Cause, Certainty, ClockRelation, Counters, Host, Ifindex, Netns, Owner, Point, Probe,
    ProbeResult, Run, Segment, Stamp, Summary, Unseen, Verdict,
};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// What a fault adds to its segment, ns.
const FAULT_NS: u64 = 5 * MS;
/// Probes that show what is usual, and how far apart all are, ns.
const QUIET: u32 = 100;
const INTERVAL_NS: u64 = 20 * MS;

/// The stamps of a whole path, in order; the segment between two of them is named by its end.
const WHOLE: [Point; 16] = [
    Point::LTxUser,
    Point::LTxDevqueue,
    Point::LTxDevout,
    Point::RRxSoftirq,
    Point::RRxNapi,
    Point::RRxDevrcv,
    Point::RRxIcmprcv,
    Point::RTxDevqueue,
    Point::RTxDevout,
    Point::LRxSoftirq,
    Point::LRxNapi,
    Point::LRxIprcv,
    Point::LRxSkdataready,
    Point::LRxWakeup,
    Point::LRxOncpu,
    Point::LRxUser,
];

/// The segments between them.
const SEGMENTS: [Segment; 15] = [
    Segment::LTxKern,
    Segment::LTxQdisc,
    Segment::LTxOutlink,
    Segment::RRxSoftirq,
    Segment::RRxNapi,
    Segment::RRxKern,
    Segment::RTxKern,
    Segment::RTxQdisc,
    Segment::LRxInlink,
    Segment::LRxSoftirq,
    Segment::LRxNapi,
    Segment::LRxKern,
    Segment::LRxTaskWaking,
    Segment::LRxTaskQueue,
    Segment::LRxTaskRun,
];

/// What the programs of one world see.
#[derive(Clone, Default)]
struct Programs {
    /// Points without a stamp.
    left_out: Vec<Point>,
    /// Devices of each host, one behind the other.
    devices: u32,
    /// The last device of this host takes a packet without a word.
    silent_last: Option<Host>,
    /// Received outside a softirq, which is said or not.
    outside: Option<bool>,
    /// Received by softirqs and polls that have run for other packets since before it left.
    polling: bool,
}

/// Probes between two hosts.
struct World {
    random: Random,
    clock: ClockRelation,
    wire: WireSplit,
    verdicts: VerdictQueue,
    seq: u32,
}

impl World {
    /// Everything is seen of the quiet probes, or what `programs` see.
    fn new(seed: u64, clock: ClockRelation, programs: &Programs) -> Self {
        let mut world = Self {
            random: Random(seed),
            clock,
            wire: WireSplit::new(),
            verdicts: VerdictQueue::default(),
            seq: 0,
        };
        for _ in 0..QUIET {
            world.pass(None, programs);
        }
        world.settled();
        world
    }

    /// A probe with a fault in one segment.
    fn pass(&mut self, fault: Option<Segment>, programs: &Programs) -> Option<Probe> {
        let probe = self.probe(fault, programs);
        self.seq += 1;
        let breakdown = breakdown(&probe, &mut self.wire)?;
        let sent = probe.sent_ns().expect("a send");
        self.verdicts.confirm(&breakdown, sent);
        if fault.is_some() {
            self.verdicts.push(ProbeResult {
                breakdown: Some(breakdown),
                ..ProbeResult::new(probe.clone())
            });
        }
        Some(probe)
    }

    fn settled(&mut self) -> Option<ProbeResult> {
        let mut last = None;
        self.verdicts.finish(0, true, |result| last = Some(result));
        last
    }

    /// A faulty probe, and a quiet one behind it: what is said of the first.
    fn verdict(&mut self, fault: Segment, programs: &Programs) -> Option<(Probe, Verdict)> {
        self.pass(Some(fault), programs)?;
        self.pass(None, &Programs::default());
        let result = self.settled()?;
        Some((result.probe, result.verdict?))
    }

    fn probe(&mut self, fault: Option<Segment>, programs: &Programs) -> Probe {
        let mut now = 1_000_000 * MS + u64::from(self.seq) * INTERVAL_NS;
        let ahead = match self.clock {
            ClockRelation::Same => 0,
            // And it drifts, 20 ppm.
            ClockRelation::Separate => 7_000 * MS + u64::from(self.seq) * INTERVAL_NS / 50_000,
        };
        let mut probe = probe(self.seq, self.clock);
        for (k, point) in WHOLE.into_iter().enumerate() {
            if let Some(segment) = k.checked_sub(1).map(|before| SEGMENTS[before]) {
                now += self.took(segment, programs);
                now += fault
                    .filter(|fault| *fault == segment)
                    .map_or(0, |_| FAULT_NS);
            }
            let host = point.host().expect("a host");
            let on = if host == Host::Server {
                now + ahead
            } else {
                now
            };
            push(&mut probe.path, point, on, programs);
        }
        probe
    }

    fn took(&mut self, segment: Segment, programs: &Programs) -> u64 {
        let none = programs.outside.is_some() && is_softirq(segment);
        let wire = matches!(segment, Segment::LTxOutlink | Segment::LRxInlink);
        match (none, wire) {
            (true, _) => 0,
            (_, true) => 40 * US + self.random.below(2 * US),
            (_, false) => 2 * US + self.random.below(US),
        }
    }
}

fn is_softirq(segment: Segment) -> bool {
    use Segment as S;
    matches!(
        segment,
        S::RRxSoftirq | S::RRxNapi | S::LRxSoftirq | S::LRxNapi
    )
}

/// The stamps of one point: one for each device where a packet leaves.
fn push(path: &mut Vec<Stamp>, point: Point, ns: u64, programs: &Programs) {
    let host = point.host().expect("a host");
    let softirq = matches!(
        point,
        Point::RRxSoftirq | Point::RRxNapi | Point::LRxSoftirq | Point::LRxNapi
    );
    if programs.left_out.contains(&point) || programs.outside.is_some() && softirq {
        return;
    }
    let early_ns = if softirq && programs.polling {
        FAULT_NS + MS
    } else {
        0
    };
    let mut at = stamp(point, host, ns - early_ns);
    at.netns = Netns(1);
    at.ifindex = Ifindex(2);
    at.flags.direct = programs.outside == Some(true) && is_receive(point);
    path.push(at);
    // The packet goes on to other devices, all within the time of the last stamp.
    if matches!(point, Point::LTxDevout | Point::RTxDevout) {
        let queue = if host == Host::Client {
            Point::LTxDevqueue
        } else {
            Point::RTxDevqueue
        };
        for ifindex in 3..2 + programs.devices {
            at.ifindex = Ifindex(ifindex);
            path.push(Stamp { point: queue, ..at });
            let silent = programs.silent_last == Some(host) && ifindex == 1 + programs.devices;
            path.extend((!silent).then_some(at));
        }
    }
}

fn is_receive(point: Point) -> bool {
    matches!(point, Point::RRxDevrcv | Point::LRxIprcv)
}

/// Whether a name is no other host's or direction's than that of the fault.
fn is_right(named: Owner, fault: Segment) -> bool {
    let truth = fault.owner();
    match named {
        Owner::Wire => matches!(truth, Owner::WireOut | Owner::WireIn),
        Owner::WireOrRemote => matches!(truth, Owner::WireOut | Owner::WireIn | Owner::Remote),
        _ => named.same_host(truth),
    }
}

const CLOCKS: [ClockRelation; 2] = [ClockRelation::Same, ClockRelation::Separate];

#[test]
fn with_all_stamps_each_fault_is_surely_its_owners() {
    for clock in CLOCKS {
        let programs = Programs::default();
        let mut world = World::new(1, clock, &programs);
        for fault in SEGMENTS {
            let (_, verdict) = world.verdict(fault, &programs).expect("a verdict");
            let found = (verdict.segment, verdict.certainty, verdict.doubt);
            assert_eq!(found, (Some(fault), Certainty::Sure, None), "{clock:?}");
        }
    }
}

/// Each stamp of a full path in turn, in the probes of a fault alone and in all: of the segments that it
/// separates, none is sure if they have different owners; and no other host is sure.
#[test]
fn a_stamp_left_out_makes_what_it_separates_unsure() {
    for (clock, always) in CLOCKS.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        for (k, point) in WHOLE.into_iter().enumerate().take(WHOLE.len() - 1).skip(1) {
            let programs = Programs {
                left_out: vec![point],
                ..Programs::default()
            };
            let usual = if always {
                programs.clone()
            } else {
                Programs::default()
            };
            let mut world = World::new(2, clock, &usual);
            for fault in SEGMENTS {
                let (probe, verdict) = world.verdict(fault, &programs).expect("a verdict");
                let sure = verdict.certainty == Certainty::Sure;
                let what =
                    format!("{point:?} {fault:?} {clock:?} {always}: {verdict:?}\n{probe:?}");
                assert!(!sure || is_right(verdict.owner, fault), "{what}");
                let [before, after] = [SEGMENTS[k - 1], SEGMENTS[k]];
                let touched = [before, after].contains(&fault);
                if touched && before.owner() != after.owner() {
                    assert!(!sure, "{what}");
                    assert_eq!(
                        verdict.doubt.map(|d| d.unseen),
                        Some(Unseen::Stamp(point)),
                        "{what}"
                    );
                }
            }
        }
    }
}

/// The softirq's stamps belong together: without its entry, its wait is not told from its run; without both,
/// it is in the wire.
#[test]
fn without_softirq_stamps_neither_wire_nor_softirq_is_sure() {
    let without = [
        (Segment::RRxNapi, vec![Point::RRxNapi], Point::RRxNapi),
        (Segment::RRxSoftirq, vec![Point::RRxNapi], Point::RRxNapi),
        (
            Segment::RRxSoftirq,
            vec![Point::RRxSoftirq, Point::RRxNapi],
            Point::RRxSoftirq,
        ),
        (
            Segment::LTxOutlink,
            vec![Point::RRxSoftirq, Point::RRxNapi],
            Point::RRxSoftirq,
        ),
        (Segment::LRxNapi, vec![Point::LRxNapi], Point::LRxNapi),
        (Segment::LRxSoftirq, vec![Point::LRxNapi], Point::LRxNapi),
        (
            Segment::LRxSoftirq,
            vec![Point::LRxSoftirq, Point::LRxNapi],
            Point::LRxSoftirq,
        ),
        (
            Segment::LRxInlink,
            vec![Point::LRxSoftirq, Point::LRxNapi],
            Point::LRxSoftirq,
        ),
    ];
    for clock in CLOCKS {
        for (fault, left_out, missing) in without.clone() {
            let programs = Programs {
                left_out,
                ..Programs::default()
            };
            let mut world = World::new(3, clock, &Programs::default());
            let (_, verdict) = world.verdict(fault, &programs).expect("a verdict");
            let found = (verdict.certainty, verdict.doubt.map(|doubt| doubt.unseen));
            assert_eq!(
                found,
                (Certainty::Likely, Some(Unseen::Stamp(missing))),
                "{clock:?} {fault:?} {verdict:?}"
            );
        }
    }
}

/// A packet that was received outside a softirq waited for none, if that is said.
#[test]
fn a_direct_receive_leaves_the_wire_sure() {
    for clock in CLOCKS {
        for (said, certainty) in [(true, Certainty::Sure), (false, Certainty::Likely)] {
            let programs = Programs {
                outside: Some(said),
                ..Programs::default()
            };
            let mut world = World::new(4, clock, &programs);
            for fault in [Segment::LTxOutlink, Segment::LRxInlink] {
                let (_, verdict) = world.verdict(fault, &programs).expect("a verdict");
                let found = (verdict.segment, verdict.certainty);
                assert_eq!(found, (Some(fault), certainty), "{clock:?} {verdict:?}");
            }
        }
    }
}

/// The queue of a device below may have had the time, whatever the device above it said.
#[test]
fn a_device_that_hands_nothing_over_leaves_the_wire_unknown() {
    for clock in CLOCKS {
        for (host, fault) in [
            (Host::Client, Segment::LTxOutlink),
            (Host::Server, Segment::LRxInlink),
        ] {
            let programs = |silent_last| Programs {
                devices: 2,
                silent_last,
                ..Programs::default()
            };
            let mut world = World::new(5, clock, &programs(None));
            let (_, seen) = world.verdict(fault, &programs(None)).expect("a verdict");
            assert_eq!(seen.certainty, Certainty::Sure);
            let (_, unseen) = world
                .verdict(fault, &programs(Some(host)))
                .expect("a verdict");
            assert_eq!(unseen.certainty, Certainty::Undecided);
            let doubt = unseen.doubt.expect("a doubt");
            assert_eq!(
                (doubt.at.host, doubt.at.ifindex),
                (host, Ifindex(3)),
                "{doubt:?}"
            );
        }
    }
}

/// It may have come into the running poll late.
#[test]
fn a_poll_that_began_before_the_packet_left_is_not_sure() {
    for clock in CLOCKS {
        let programs = Programs {
            polling: true,
            ..Programs::default()
        };
        let mut world = World::new(6, clock, &Programs::default());
        for fault in [Segment::LTxOutlink, Segment::LRxInlink] {
            let (_, verdict) = world.verdict(fault, &programs).expect("a verdict");
            let found = (verdict.certainty, verdict.doubt.map(|doubt| doubt.unseen));
            let right = (Certainty::Likely, Some(Unseen::Arrival));
            assert_eq!(found, right, "{clock:?} {verdict:?}");
        }
    }
}

/// What the hosts say of their stamps.
#[test]
fn a_wire_beside_an_unseen_underlay_or_interrupts_is_not_sure() {
    let flagged = [
        (Point::LTxDevout, Segment::LTxOutlink, Unseen::Underlay),
        (Point::RRxDevrcv, Segment::LTxOutlink, Unseen::Underlay),
        (Point::RRxDevrcv, Segment::LTxOutlink, Unseen::Interrupts),
        (Point::RTxDevout, Segment::LRxInlink, Unseen::Underlay),
        (Point::LRxIprcv, Segment::LRxInlink, Unseen::Underlay),
        (Point::LRxIprcv, Segment::LRxInlink, Unseen::Interrupts),
    ];
    for (point, fault, unseen) in flagged {
        let programs = Programs::default();
        let mut world = World::new(6, ClockRelation::Same, &programs);
        let mut probe = world.probe(Some(fault), &programs);
        for stamp in probe.path.iter_mut().filter(|stamp| stamp.point == point) {
            stamp.flags.underlay_unseen = unseen == Unseen::Underlay;
            stamp.flags.interrupts_unknown = unseen == Unseen::Interrupts;
        }
        let found = breakdown(&probe, &mut world.wire);
        world.verdicts.push(ProbeResult {
            breakdown: found,
            ..ProbeResult::new(probe)
        });
        let verdict = world.settled().and_then(|result| result.verdict);
        let verdict = verdict.expect("a verdict");
        let found = (
            verdict.segment,
            verdict.certainty,
            verdict.doubt.map(|d| d.unseen),
        );
        assert_eq!(
            found,
            (Some(fault), Certainty::Likely, Some(unseen)),
            "{point:?}"
        );
    }
}

/// In the headline the reason stands behind the number, if it is mostly the same.
#[test]
fn the_headline_says_why_it_is_not_sure() {
    let doubt = example_doubt();
    let mut cause = Cause {
        owner: Owner::WireOut,
        segment: Some(Segment::LTxOutlink),
        count: 20,
        sure: 0,
        excess_ns: 100 * MS,
        min_ns: FAULT_NS,
        p50_ns: FAULT_NS,
        max_ns: FAULT_NS,
        cpu: None,
        at: None,
        on_way: None,
        doubt: Some((doubt, 19)),
    };
    let title = |cause| {
        let summary = Summary {
            counters: Counters {
                sent: 100,
                replied: 100,
                ..Counters::default()
            },
            causes: vec![cause],
            ..Summary::default()
        };
        Headline::new(&Run::default(), &summary, &example_names()).title
    };
    let all = title(cause);
    let why = "(not sure: no hand-over seen at eth0 in netns web)";
    assert!(all.ends_with(why), "{all}");
    cause.sure = 10;
    cause.doubt = Some((doubt, 8));
    let some = title(cause);
    assert!(some.ends_with("(10 not sure)"), "{some}");
}

/// Any points without stamps, always or once, any number of devices, any clock: no other host is sure.
#[test]
fn no_other_host_is_sure_whatever_was_not_seen() {
    let mut random = Random(0x5EED_0011);
    let (mut judged, mut sure, mut wrong) = (0, 0, 0);
    for seed in 1..=400 {
        let mut some = |one_in: u64| {
            let points = WHOLE.into_iter().filter(|_| random.below(one_in) == 0);
            let left_out = points.filter(|p| !matches!(p, Point::LTxUser | Point::LRxUser));
            let left_out = left_out.collect();
            Programs {
                left_out,
                devices: 1 + random.below(3) as u32,
                silent_last: [None, None, None, Some(Host::Client), Some(Host::Server)]
                    [random.below(5) as usize],
                outside: [None, None, Some(false), Some(true)][random.below(4) as usize],
                polling: random.below(8) == 0,
            }
        };
        let always = some(20);
        let once: Vec<Programs> = (0..20).map(|_| some(6)).collect();
        let mut world = World::new(seed, CLOCKS[seed as usize % 2], &always);
        for (k, once) in once.into_iter().enumerate() {
            let fault = SEGMENTS[(seed as usize * 7 + k) % SEGMENTS.len()];
            let programs = Programs {
                outside: always.outside.filter(|_| !is_softirq(fault)),
                left_out: [once.left_out, always.left_out.clone()].concat(),
                ..once
            };
            let Some((probe, verdict)) = world.verdict(fault, &programs) else {
                continue;
            };
            let is_right = is_right(verdict.owner, fault);
            let is_sure = verdict.certainty == Certainty::Sure;
            let named = verdict.certainty != Certainty::Undecided;
            judged += 1;
            sure += u32::from(is_sure);
            wrong += u32::from(named && !is_right);
            assert!(!is_sure || is_right, "{fault:?} {verdict:?}\n{probe:?}");
        }
    }
    println!("{judged} judged, {sure} sure and right, {wrong} likely and wrong");
    assert!(
        judged > 7_000 && sure > 1_500,
        "{judged} judged, {sure} sure"
    );
}

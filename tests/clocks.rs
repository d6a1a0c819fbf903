//! Two clocks on one kernel: the server's stamps are wrong by a known amount, so that what the
//! clock model says can be compared with what happened.

use super::harness::{Server, alone, client, wire};
use pingtrace::kernel::lab_clock::LabClock;
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::analysis::breakdown::{breakdown, breakdown_into};
use report::analysis::clock::{Event, WireSplit};
use report::analysis::verdict::{Baselines, ClockTrust, judge};
use report::format::json::{Line, parse_line};
use report::model::{
    Breakdown, ClockRelation, Direction, Host, Owner, Point, Probe, ProbeResult, Verdict,
};
use std::time::Duration;

const CLOCK: &str = "offset=3s,drift=100,step=6s:7ms";
const STEP_NS: f64 = 7e6;
const PROBES: u32 = 5_500;
/// One in this many probes is held up.
const EACH: u32 = 11;
/// Probes after which the base is known.
const LEARNING: usize = 200;
const SPIKE_NS: u64 = 150_000;
/// The wire's own delay in each direction, and what the machine adds at least.
const BASE_NS: u64 = 310_000;
/// Bounds that are off by a spike must not hold.
const WRONG_NS: f64 = SPIKE_NS as f64;
/// The clock is known only as well as the quickest of this many probes (half a second) shows it.
const RECENT: usize = 250;

/// From 0.2 to 5 ms, alternately on the way out and in.
fn spikes() -> Vec<Rule> {
    let rule = |k: u32| {
        let direction = if k.is_multiple_of(2) {
            Direction::Request
        } else {
            Direction::Reply
        };
        let delay = Duration::from_micros(u64::from(200 + 96 * k));
        let hit = (0..PROBES / EACH).filter(|n| n % 50 == k);
        let sequences: Vec<u32> = hit.map(|n| n * EACH + EACH - 1).collect();
        Rule::at(direction, sequences, Action::Delay(delay))
    };
    (0..50).map(rule).collect()
}

/// The same probe with the server's stamps on the client's clock.
fn on_one_clock(probe: &Probe, clock: &LabClock) -> Probe {
    let real = |shown: u64| {
        let wrong = |now: u64| clock.shown(now).wrapping_sub(now);
        (0..4).fold(shown, |guess, _| shown.wrapping_sub(wrong(guess)))
    };
    let mut probe = probe.clone();
    probe.clock = ClockRelation::Same;
    for stamp in &mut probe.path {
        if stamp.host == Host::Server {
            stamp.ns = real(stamp.ns);
        }
    }
    probe
}

/// A probe as the tool saw it, and as it was.
struct Seen {
    result: ProbeResult,
    truth: Breakdown,
    ways: Ways,
}

/// How long a probe was under way, and what was said of it.
#[derive(Clone, Copy)]
struct Ways {
    /// Time on the way out and in, ns, on one clock.
    out_ns: u64,
    in_ns: u64,
    /// Bounds of the queueing on the way out above its base, ns: a model's, with two clocks.
    bounds: (f64, f64),
}

/// The time between these points, on one clock.
fn between(probe: &Probe, from: Point, to: Point) -> Option<u64> {
    let start = probe.path.iter().rfind(|s| s.point == from)?.ns;
    let end = probe.path.iter().find(|s| s.point == to)?.ns;
    end.checked_sub(start)
}

/// All probes of a run, and the events of the clock.
fn compare(stdout: &str, clock: &LabClock) -> (Vec<Seen>, Vec<Event>) {
    let mut wire = WireSplit::new();
    let mut one_clock = WireSplit::new();
    let mut again = Breakdown::default();
    let (mut seen, mut events) = (Vec::new(), Vec::new());
    for line in stdout.lines() {
        let Ok(Line::Probe(read)) = parse_line(line) else {
            continue;
        };
        let result = read.result;
        if !breakdown_into(&result.probe, &mut wire, &mut again) {
            continue;
        }
        let Some(estimate) = wire.estimate() else {
            continue;
        };
        events.extend(estimate.event);
        let out = estimate.out_reported();
        let bounds = (out.lo_ns, out.hi_ns);
        let true_probe = on_one_clock(&result.probe, clock);
        let ways = (
            between(&true_probe, Point::LTxDevout, Point::RRxDevrcv),
            between(&true_probe, Point::RTxDevout, Point::LRxIprcv),
        );
        let truth = breakdown(&true_probe, &mut one_clock);
        if let (Some(truth), (Some(out_ns), Some(in_ns))) = (truth, ways) {
            let ways = Ways {
                out_ns,
                in_ns,
                bounds,
            };
            seen.push(Seen {
                result,
                truth,
                ways,
            });
        }
    }
    (seen, events)
}

/// What would be said with one clock.
fn true_verdicts(seen: &[Seen]) -> Vec<Option<Verdict>> {
    let mut baselines = Baselines::default();
    for seen in seen {
        baselines.learn(&seen.truth, 0);
    }
    let verdict = |seen: &Seen| judge(&seen.truth, &baselines, ClockTrust::Bounded);
    seen.iter().map(verdict).collect()
}

#[test]
fn directions_are_right_under_drift_and_a_step() {
    let _alone = alone();
    let (lab, wire) = wire(Plan::new(Duration::from_micros(300), spikes()));
    let server = Server::start(&lab.server.ns, &format!("--userid 7 --lab-clock {CLOCK}"));
    let mut clock: LabClock = CLOCK.parse().unwrap();
    clock.move_to(server.number_after("from "));
    let args = format!(
        "-c {} --userid 3 -i 2ms -C {PROBES} -o json -m 1us",
        lab.server.v4
    );
    let run = client(&lab.client.ns, &args);
    drop(wire);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let (seen, events) = compare(&run.stdout, &clock);
    let truth = true_verdicts(&seen);

    let mut tally = Tally::default();
    for (seen, truth) in seen.iter().zip(&truth).skip(LEARNING) {
        tally.count(seen, truth.as_ref());
    }
    let ways: Vec<Ways> = seen.iter().map(|seen| seen.ways).collect();
    let (held, exactly) = bounds_that_hold(&ways, 0.0);
    let wrong = [-WRONG_NS, WRONG_NS].map(|ns| bounds_that_hold(&ways, ns).0);
    let moves: Vec<&Event> = events.iter().filter(|e| moved_ns(e) >= WRONG_NS).collect();
    println!(
        "{} probes, bounds hold {held} ({exactly}), wrong ones {wrong:?}; {tally:?}; {events:?}",
        seen.len()
    );
    // What the machine adds hides some of them, and withdraws directions; none may be wrong.
    assert!(tally.spikes >= 100, "{tally:#?}");
    let told = tally.right + tally.withdrawn;
    assert!(told * 100 >= tally.spikes * 95, "{tally:#?}");
    assert!(tally.right * 2 >= tally.spikes, "{tally:#?}");
    assert!(tally.wrong.is_empty(), "{tally:#?}");
    assert!(held * 100 >= seen.len() * 95, "{held} of {}", seen.len());
    for wrong in wrong {
        assert!(wrong * 2 < seen.len(), "{wrong} of {}", seen.len());
    }
    // Less by as much as the probe that showed it was held up.
    assert!(
        matches!(moves[..], [Event::Step(ns)] if *ns > 0.0 && *ns < STEP_NS + WRONG_NS),
        "{events:#?}"
    );
}

/// By how much the clock or the path was found to have moved, ns.
///
/// Microseconds are no mistake of the model: where one way is quick and the other is not, and the
/// quickest round trip is longer than both bases together, the clock seems to move by the
/// difference.
fn moved_ns(event: &Event) -> f64 {
    match *event {
        Event::Rate(ns) | Event::Step(ns) => ns.abs(),
        Event::Path { out_ns, in_ns } => out_ns.abs() + in_ns.abs(),
    }
}

impl Ways {
    fn round_ns(&self) -> u64 {
        self.out_ns + self.in_ns
    }
}

/// What was said of the wire, beside what is true.
#[derive(Debug, Default)]
struct Tally {
    /// Probes that were held up in one direction, and clearly more than in the other.
    spikes: usize,
    /// Those of which the direction was named.
    right: usize,
    /// Those of which it was said that the wire made them slow, but not which way.
    withdrawn: usize,
    /// Probes of which a direction was named that was not the slow one: sequence number, said, true.
    wrong: Vec<(u32, Verdict, Option<Verdict>)>,
}

impl Tally {
    fn count(&mut self, seen: &Seen, truth: Option<&Verdict>) {
        let of_wire = |v: &&Verdict| {
            matches!(v.owner, Owner::WireOut | Owner::WireIn) && v.excess_ns > SPIKE_NS
        };
        let said = seen.result.verdict.as_ref().filter(of_wire);
        let meant = truth.filter(of_wire);
        let agree = said.zip(meant).is_some_and(|(s, m)| s.owner == m.owner);
        if let Some(meant) = meant.filter(|_| seen.is_one_sided()) {
            self.spikes += 1;
            // As good as right: the other way is a matter of a few nanoseconds at the limit.
            let at_limit = meant.excess_ns < SPIKE_NS + SPIKE_NS / 5;
            let right = agree || at_limit;
            let wire = |v: &Verdict| v.owner == Owner::Wire;
            let withdrawn = !right && seen.result.verdict.as_ref().is_some_and(wire);
            self.right += usize::from(right);
            self.withdrawn += usize::from(withdrawn);
        }
        // A false alarm, or the wrong direction.
        if let Some(said) = said.filter(|v| !agree && v.excess_ns > 2 * SPIKE_NS) {
            self.wrong
                .push((seen.result.probe.seq, *said, truth.copied()));
        }
    }
}

impl Seen {
    /// The excess in one direction is at least four times that in the other.
    fn is_one_sided(&self) -> bool {
        let excess = [self.ways.out_ns, self.ways.in_ns].map(|ns| ns.saturating_sub(BASE_NS));
        let [small, large] = [excess[0].min(excess[1]), excess[0].max(excess[1])];
        large >= 4 * small
    }
}

/// Probes whose queueing on the way out, moved by this many ns, lies in its bounds, to within what
/// the quickest round trip of the last [`RECENT`] was too long; and those for which it does exactly.
///
/// Queueing is what a way takes above its base. The wire's delays never change, so the base of a
/// way is the quickest of the whole run: the quickest so far is an estimate too, and later by
/// microseconds where the machine is busy. The model counts from the quickest round trip so far.
/// That is longer than both bases together, as no probe had both ways at their quickest; whose
/// the rest is nobody can see with two clocks, so either way may have it.
///
/// A clock is seen through probes, and each shows it to within its queueing. On a busy machine
/// there is none below 10 us for seconds. What the bounds say then rests on the rate, which
/// was learnt from intervals that are off by the rest too.
fn bounds_that_hold(ways: &[Ways], moved_ns: f64) -> (usize, usize) {
    let base_out = ways.iter().map(|ways| ways.out_ns).min().unwrap_or(0);
    let base_in = ways.iter().map(|ways| ways.in_ns).min().unwrap_or(0);
    let mut round = u64::MAX;
    let (mut held, mut exactly) = (0, 0);
    for (k, probe) in ways.iter().enumerate() {
        round = round.min(probe.round_ns());
        let recent = ways[..=k]
            .iter()
            .rev()
            .take(RECENT)
            .map(Ways::round_ns)
            .min();
        let shown = recent.map_or(0, |ns| ns - base_out - base_in) as f64;
        let most = (probe.out_ns - base_out) as f64;
        let least = most - (round - base_out - base_in) as f64;
        let holds = |by: f64| {
            probe.bounds.0 + moved_ns <= most + by && least - by <= probe.bounds.1 + moved_ns
        };
        held += usize::from(holds(shown));
        exactly += usize::from(holds(0.0));
    }
    (held, exactly)
}

#[test]
fn a_way_was_as_quick_before_it_was_seen_to_be() {
    let ways = |out_ns, in_ns, bounds| Ways {
        out_ns,
        in_ns,
        bounds,
    };
    // Both ways need 1 us. Only the last probe shows it of the way in, so that of the 2 us by
    // which the quickest round trip is too long each way may have had each part.
    let mut run = [
        ways(1_000, 3_000, (0.0, 0.0)),
        ways(5_000, 3_000, (2_000.0, 2_100.0)),
        ways(3_000, 1_000, (0.0, 0.0)),
    ];
    assert_eq!(bounds_that_hold(&run, 0.0), (3, 3));
    for (bounds, held, exactly) in [
        ((1_800.0, 1_900.0), 3, 2),
        ((3_900.0, 4_000.0), 3, 3),
        ((4_100.0, 4_200.0), 3, 2),
        ((6_100.0, 6_200.0), 2, 2),
    ] {
        run[1].bounds = bounds;
        assert_eq!(bounds_that_hold(&run, 0.0), (held, exactly), "{bounds:?}");
    }
    assert_eq!(bounds_that_hold(&run, 7_000.0), (0, 0));
}

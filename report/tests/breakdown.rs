//! The breakdown of probes, from data files: every file in `data/breakdown` is a case.
//!
//! A file is a sequence of probes that share one [`WireSplit`]:
//!
//! ```text
//! # why this case exists
//! probe separate
//!   client l_tx_user 1000
//!   ...
//! total 5000 unordered=1      (or: no total)
//!   l_tx_kern 100
//!   l_tx_outlink 500 bounds=400..900 merged clamped
//!   way between client and transit2 300 base=250 out=100..150 in=100..150
//! ```
//!
//! A probe without expectations only teaches the split; `again 20 1_000_000` is the probe before
//! twenty times more, a millisecond apart.

mod common;

use std::fmt::Write as _;
use std::fs;

use common::{Random, data, number, parse_stamp, probe, stamp};
use report::analysis::breakdown::{breakdown, breakdown_into};
use report::analysis::clock::WireSplit;
use report::model::{
    Breakdown, ClockRelation, Host, Ifindex, Netns, Point, Probe, Segment, WayPart,
};

/// One probe of a case, and what is expected of it, as text.
struct Step {
    probe: Probe,
    expected: String,
}

fn parse_case(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["probe", clock] => {
                let clock = match *clock {
                    "same" => ClockRelation::Same,
                    "separate" => ClockRelation::Separate,
                    other => panic!("unknown clock relation {other}"),
                };
                let probe = probe(steps.len() as u32, clock);
                steps.push(Step {
                    probe,
                    expected: String::new(),
                });
            }
            ["again", times, gap_ns] => {
                let last = steps.last().expect("probe first").probe.clone();
                for k in 1..=number(times) {
                    let mut probe = last.clone();
                    for stamp in &mut probe.path {
                        stamp.ns += k * number(gap_ns);
                    }
                    let expected = String::new();
                    steps.push(Step { probe, expected });
                }
            }
            [host, ..] if Host::from_name(host).is_some() => {
                steps
                    .last_mut()
                    .expect("probe first")
                    .probe
                    .path
                    .push(parse_stamp(line));
            }
            [segment, ns, flags @ ..] if Segment::from_name(segment).is_some() => {
                expect(
                    &mut steps,
                    &format!("  {segment} {} {}", number(ns), flags.join(" ")),
                );
            }
            ["total", ns, flags @ ..] => {
                expect(
                    &mut steps,
                    &format!("total {} {}", number(ns), flags.join(" ")),
                );
            }
            ["way", ..] => expect(
                &mut steps,
                &format!("  {}", words.join(" ").replace('_', "")),
            ),
            ["no", "total"] => expect(&mut steps, "no total"),
            _ => panic!("cannot read {line:?}"),
        }
    }
    steps
}

fn expect(steps: &mut [Step], line: &str) {
    let expected = &mut steps.last_mut().expect("probe first").expected;
    writeln!(expected, "{}", line.trim_end()).expect("string");
}

/// A breakdown in the words of a case.
fn describe(breakdown: Option<&Breakdown>) -> String {
    let Some(breakdown) = breakdown else {
        return "no total\n".into();
    };
    let mut text = format!("total {}", breakdown.total_ns);
    if breakdown.unordered > 0 {
        write!(text, " unordered={}", breakdown.unordered).expect("string");
    }
    for delay in &breakdown.delays {
        write!(text, "\n  {} {}", delay.segment.name(), delay.ns).expect("string");
        if let Some((lo, hi)) = delay.bounds {
            write!(text, " bounds={lo}..{hi}").expect("string");
        }
        if delay.merged {
            text.push_str(" merged");
        }
        if delay.clamped {
            text.push_str(" clamped");
        }
    }
    for part in &breakdown.way {
        let (words, ns, base_ns) = (part.of.words(), part.ns, part.base_ns);
        write!(text, "\n  way {words} {ns} base={base_ns}").expect("string");
        for (name, time) in ["out", "in"].into_iter().zip(part.directions) {
            let Some(time) = time else { continue };
            let (lo, hi) = time.bounds.unwrap_or((time.ns, time.ns));
            write!(text, " {name}={lo}..{hi}").expect("string");
        }
    }
    text.push('\n');
    text
}

#[test]
fn every_case() {
    let mut cases = 0;
    for entry in fs::read_dir(data("breakdown")).expect("data/breakdown") {
        let path = entry.expect("entry").path();
        let text = fs::read_to_string(&path).expect("case");
        let mut wire = WireSplit::new();
        for Step { probe, expected } in parse_case(&text) {
            let found = breakdown(&probe, &mut wire);
            if let Some(found) = &found {
                check_laws(&probe, found);
            }
            let found = describe(found.as_ref());
            let name = path.file_name().unwrap_or_default().display().to_string();
            assert!(
                expected.is_empty() || expected == found,
                "{name}, probe {}\nexpected:\n{expected}found:\n{found}",
                probe.seq
            );
            cases += 1;
        }
    }
    assert!(cases > 20, "only {cases} probes in data/breakdown");
}

/// What holds for every breakdown.
fn check_laws(probe: &Probe, breakdown: &Breakdown) {
    let sum: u64 = breakdown.delays.iter().map(|delay| delay.ns).sum();
    assert_eq!(sum, breakdown.response_ns(), "{probe:?}\n{breakdown:?}");
    let late = breakdown.late_ns().unwrap_or(0);
    assert_eq!(sum - late, breakdown.total_ns, "{probe:?}\n{breakdown:?}");
    let on_path = |segment: &Segment| *segment != Segment::Remote;
    let order: Vec<Segment> = breakdown
        .delays
        .iter()
        .map(|delay| delay.segment)
        .filter(on_path)
        .collect();
    assert!(
        order.is_sorted_by(|a, b| a < b),
        "each once, in path order: {order:?}"
    );
    let on_way = |part: &WayPart| part.base_ns <= part.ns;
    assert!(breakdown.way.iter().all(on_way), "{:?}", breakdown.way);
    for delay in &breakdown.delays {
        if let Some((lo, hi)) = delay.bounds {
            assert!(lo <= delay.ns && delay.ns <= hi, "{delay:?}");
            assert_eq!(probe.clock, ClockRelation::Separate);
        }
    }
}

/// The points of a whole probe with the host that stamps them.
fn whole_path() -> impl Iterator<Item = (Point, Host)> {
    Point::PATH.into_iter().map(|point| {
        (
            point,
            if point.name().starts_with('r') {
                Host::Server
            } else {
                Host::Client
            },
        )
    })
}

/// Any subset of the points, some doubled, mostly in order, sometimes a little or far off.
fn random_probe(random: &mut Random, seq: u32) -> Probe {
    let same = random.below(2) == 0;
    let mut probe = probe(
        seq,
        if same {
            ClockRelation::Same
        } else {
            ClockRelation::Separate
        },
    );
    let offset = if same { 0 } else { random.below(1 << 40) };
    let keep = 1 + random.below(10);
    let disorder = [0, 0, 3, 30][random.below(4) as usize];
    let mut now = 1_u64 << 41;
    for (point, host) in whole_path() {
        let ends = matches!(point, Point::LTxUser | Point::LRxUser);
        now += random.below(20_000);
        if random.below(10) >= keep && !(ends && random.below(100) > 0) {
            continue;
        }
        let mut ns = if host == Host::Server {
            now + offset
        } else {
            now
        };
        if random.below(100) < disorder {
            let reach = [900, 50_000, 1 << 41][random.below(3) as usize];
            ns = (ns + random.below(reach)).saturating_sub(random.below(reach));
        }
        for copy in 0..=random.below(8) / 7 {
            let mut stamp = stamp(point, host, ns + copy * random.below(3_000));
            (stamp.netns, stamp.ifindex) = (Netns(1), Ifindex(random.below(3) as u32));
            probe.path.push(stamp);
        }
    }
    for _ in 0..random.below(100) / 97 {
        let (a, b) = (random.below(16) as usize, random.below(16) as usize);
        if a.max(b) < probe.path.len() {
            probe.path.swap(a, b);
        }
    }
    probe
}

#[test]
fn segments_sum_to_the_total_whatever_the_stamps() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut wire = WireSplit::new();
    let mut reused = Breakdown::default();
    let (mut totals, mut unordered) = (0, 0);
    for seq in 0..100_000 {
        if seq % 100 == 0 {
            wire = WireSplit::new();
        }
        let probe = random_probe(&mut random, seq);
        let mut again = wire.clone();
        let found = breakdown(&probe, &mut wire);
        assert_eq!(
            breakdown_into(&probe, &mut again, &mut reused),
            found.is_some()
        );
        if let Some(found) = found {
            check_laws(&probe, &found);
            assert_eq!(found, reused);
            totals += 1;
            unordered += u32::from(found.unordered > 0);
        }
    }
    assert!(totals > 90_000, "{totals} probes had a total");
    assert!(
        unordered > 10_000,
        "{unordered} probes had stamps out of order"
    );
}

#[test]
fn the_servers_offset_changes_nothing() {
    let mut random = Random(42);
    let (mut wire, mut wire_moved) = (WireSplit::new(), WireSplit::new());
    for seq in 0..10_000 {
        let probe = random_probe(&mut random, seq);
        if probe.clock == ClockRelation::Same {
            continue;
        }
        let mut moved = probe.clone();
        for stamp in &mut moved.path {
            if stamp.host == Host::Server {
                stamp.ns += 123_456_789;
            }
        }
        assert_eq!(
            breakdown(&probe, &mut wire),
            breakdown(&moved, &mut wire_moved)
        );
    }
}

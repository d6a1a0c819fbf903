//! Runs that differ by nothing name no move, and those that differ by 20 % do: on made-up
//! probes that depend on their neighbours, as real ones do.

use report::analysis::confidence::MinEffect;
use report::analysis::diff::Diff;
use report::analysis::stats::Stats;
use report::model::{Breakdown, Delay, Saved, Segment};

/// Of each kind; every pair of them is compared.
const RUNS: u64 = 29;
const PAIRS: usize = (RUNS * (RUNS - 1) / 2) as usize;
/// Median of each segment, nanoseconds.
const SEGMENTS: [(Segment, f64); 3] = [
    (Segment::LTxKern, 10_000.0),
    (Segment::LTxOutlink, 100_000.0),
    (Segment::LRxTaskQueue, 20_000.0),
];

/// xorshift64*.
struct Random(u64);

impl Random {
    /// Above 0, up to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (bits + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Of standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// How probes vary. Deviations are of the natural logarithm.
struct Noise {
    probes: u32,
    /// Of each value alone.
    own: f64,
    /// The part that neighbours share, alike in all segments; it fades in this many probes.
    common: (f64, f64),
    /// Between runs, in all segments alike.
    runs: f64,
    /// One in this many probes begins a burst of this many, all of whose segments take three times as long.
    bursts: Option<(f64, f64)>,
}

const QUIET: Noise = Noise {
    probes: 1_500,
    own: 0.2,
    common: (0.04, 10.0),
    runs: 0.015,
    bursts: None,
};
const QUIET_AND_LONG: Noise = Noise {
    probes: 3_000,
    ..QUIET
};
/// 5 % of the probes are in bursts.
const BUSY: Noise = Noise {
    probes: 6_000,
    bursts: Some((200.0, 10.0)),
    ..QUIET
};
/// As slow a drift as is seen beside builds: runs differ by 12 %.
const DRIFTING: Noise = Noise {
    probes: 1_500,
    own: 0.3,
    common: (0.12, 300.0),
    runs: 0.1,
    bursts: Some((600.0, 60.0)),
};

impl Noise {
    /// A run in which one segment takes `factor` times as long.
    fn run(&self, seed: u64, slow: (Segment, f64)) -> Saved {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let run = self.runs * random.normal();
        let (deviation, length) = self.common;
        let fade = (-1.0 / length).exp();
        let mut common = deviation * random.normal();
        let mut burst = 0.0;
        let mut stats = Stats::new();
        for _ in 0..self.probes {
            common = fade * common + deviation * (1.0 - fade * fade).sqrt() * random.normal();
            burst -= 1.0;
            if let Some((every, length)) = self.bursts
                && burst <= 0.0
                && random.unit() * every < 1.0
            {
                burst = -length * random.unit().ln();
            }
            let held: f64 = if burst > 0.0 { 3.0 } else { 1.0 };
            let delays = SEGMENTS.map(|(segment, median)| {
                let factor = if segment == slow.0 { slow.1 } else { 1.0 };
                let logarithm = run + common + self.own * random.normal();
                delay(segment, median * factor * held * logarithm.exp())
            });
            stats.counters.sent += 1;
            stats.counters.replied += 1;
            stats.record(&Breakdown {
                total_ns: delays.iter().map(|delay| delay.ns).sum(),
                delays: delays.to_vec(),
                ..Breakdown::default()
            });
        }
        Saved {
            run: None,
            summary: stats.last_summary(1),
            earlier: 0,
        }
    }

    fn runs(&self, kind: u64, slow: (Segment, f64)) -> Vec<Saved> {
        let seed = |k: u64| 1_000 * kind + k + 1;
        (0..RUNS).map(|k| self.run(seed(k), slow)).collect()
    }
}

fn delay(segment: Segment, ns: f64) -> Delay {
    Delay {
        segment,
        ns: ns as u64,
        bounds: None,
        merged: false,
        clamped: false,
        doubt: None,
    }
}

fn moved(a: &Saved, b: &Saved) -> Vec<&'static str> {
    Diff::new(("a", a), ("b", b), MinEffect::default()).moved_segments()
}

/// Pairs of runs that differ by nothing, and those of which a move was named.
fn repetitions(noise: &Noise) -> usize {
    let runs = noise.runs(1, (Segment::LTxKern, 1.0));
    let pairs = (0..runs.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    let named = pairs.filter(|(a, b)| !moved(&runs[*a], &runs[*b]).is_empty());
    named.count()
}

/// Of as many pairs whose second run is slower, those of which that segment was named first.
fn found(noise: &Noise, slow: (Segment, f64)) -> usize {
    let before = noise.runs(2, (slow.0, 1.0));
    let after = noise.runs(3, slow);
    let pairs = (0..before.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    let named = pairs.filter(|(a, b)| {
        let moved = moved(&before[*a], &after[*b]);
        moved.first() == Some(&slow.0.name())
    });
    named.count()
}

fn rare(named: usize) -> bool {
    named * 20 <= PAIRS
}

fn nearly_always(found: usize) -> bool {
    found * 20 >= PAIRS * 19
}

#[test]
fn a_repetition_names_no_move() {
    for (kind, noise) in [
        ("quiet", &QUIET),
        ("quiet and long", &QUIET_AND_LONG),
        ("busy", &BUSY),
        ("drifting", &DRIFTING),
    ] {
        let named = repetitions(noise);
        println!("{kind}: {named} of {PAIRS}");
        assert!(rare(named), "{kind}: {named} of {PAIRS}");
    }
}

#[test]
fn a_segment_that_takes_20_percent_longer_or_shorter_is_named() {
    for (kind, noise, slow) in [
        ("quiet", &QUIET, (Segment::LTxOutlink, 1.2)),
        ("quiet", &QUIET, (Segment::LTxKern, 1.0 / 1.2)),
        ("long", &QUIET_AND_LONG, (Segment::LTxKern, 1.2)),
        ("busy", &BUSY, (Segment::LTxOutlink, 1.2)),
    ] {
        let found = found(noise, slow);
        println!("{kind} {slow:?}: {found} of {PAIRS}");
        assert!(nearly_always(found), "{kind} {slow:?}: {found} of {PAIRS}");
    }
}

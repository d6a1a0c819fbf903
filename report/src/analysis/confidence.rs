//! How sure the change of a percentile between two runs is.
//!
//! The question is whether it is more than what a repetition of the first run would have shown.
//! Its probes are no independent values: those close in time share caches, frequency and
//! other load, and a repetition finds all that in another state. Intervals from order statistics,
//! which take the probes for independent, exclude "no change" in half of the comparisons of a
//! run with its own repetition. What one run can tell of another is how much its own parts
//! differ (`Spread`). So, in natural logarithms, as delays vary in proportion:
//!
//! - `s²` is the variance of a percentile between the `n` parts of a run. What the sampling of so
//!   many values explains of it is known for a median (the normal approximation of the order
//!   statistics: H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1) and averages out;
//!   the rest is drift: of machines, it is about as large between runs as between parts of one.
//!   A 99th percentile jumps with the few slow probes that happen to be in a part, and all of its
//!   variance counts, three times, as bursts of slow probes hit a run or not.
//! - So the variance of the run's percentile is `s²/n + k (s² - sampling) + floor²`. The floor is what
//!   runs differ by however quiet they are: where their threads and buffers happened to be; of a
//!   wait for a CPU, whether the scheduler happened to choose one that slept.
//! - The variances of both runs add up, and the change is judged by Student's t, its degrees of
//!   freedom by Welch and Satterthwaite (B. L. Welch, Biometrika 34, 1947, p. 28).
//! - All comparisons of two runs hold at once with [`CONFIDENCE`]: each has its share of the error
//!   (Bonferroni).
//!
//! The constants were found with 108 runs of 3 and 10 s over a veth pair, half of them beside a busy
//! loop, all beside builds. Of like runs made after that (`scripts/bench.sh diff`, on a quiet machine),
//! 0 of 380 pairs name a move, beside a busy loop 10 of 380; and each of 400 pairs names a wire whose
//! delay rose by a fifth.

use hdrhistogram::Histogram;

use crate::analysis::clock::below;
use crate::analysis::quantile::{Quantile, at_rank};
use crate::model::Segment;

/// How sure it is that all changes of two runs lie within their intervals.
pub const CONFIDENCE: f64 = 0.95;
/// Parts of a run below which their variance says too little.
pub const MIN_PARTS: usize = 6;
/// A factor that is less sure than this, as a natural logarithm, has no bounds, unless it is further
/// from 1 than that: 100 to either side.
const VAGUE: f64 = 4.6;

/// How long a thread waits for its CPU differs most between runs.
const SCHEDULED: [Segment; 2] = [Segment::LTxLate, Segment::LRxTaskQueue];
/// By how much the variance that sampling explains is larger than that of independent values, where
/// neighbours share a little.
const NEIGHBOURS: f64 = 2.0;

/// Degrees of freedom of which Student's t is as good as normal.
const MANY: f64 = 1e6;

/// A percentile that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The median.
    P50,
    /// The 99th percentile.
    P99,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::P50, Self::P99];

    /// As a quantile.
    pub fn quantile(self) -> Quantile {
        match self {
            Self::P50 => Quantile::P50,
            Self::P99 => Quantile::P99,
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }

    /// By how much the variance between runs exceeds that between parts.
    fn drift(self) -> f64 {
        match self {
            Self::P50 => 1.0,
            Self::P99 => 3.0,
        }
    }

    /// Standard deviation between quiet runs, of one.
    fn floor(self, of: Option<Segment>) -> f64 {
        match self {
            Self::P50 if of.is_some_and(|segment| SCHEDULED.contains(&segment)) => 0.2,
            Self::P50 => 0.025,
            Self::P99 => 0.15,
        }
    }
}

/// Of the natural logarithm of a run's percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variance {
    value: f64,
    /// What of it comes from the run's parts; the floor is known.
    estimated: f64,
    /// Degrees of freedom of that.
    freedom: f64,
}

impl Variance {
    /// From the percentiles of a run's parts, and all of its values. `None` of too few parts.
    pub fn new(
        order: Order,
        of: Option<Segment>,
        parts: &[u64],
        all: &Histogram<u64>,
    ) -> Option<Self> {
        if parts.len() < MIN_PARTS {
            return None;
        }
        let n = parts.len() as f64;
        let between = variance(parts);
        let sampling = match order {
            Order::P50 => NEIGHBOURS * median_sampling(all, all.len() as f64 / n),
            Order::P99 => 0.0,
        };
        let estimated = between / n + order.drift() * (between - sampling).max(0.0);
        Some(Self {
            value: estimated + order.floor(of).powi(2),
            estimated,
            freedom: n - 1.0,
        })
    }
}

fn logarithm(ns: u64) -> f64 {
    (ns.max(1) as f64).ln()
}

fn variance(parts: &[u64]) -> f64 {
    let n = parts.len() as f64;
    let mean = parts.iter().map(|ns| logarithm(*ns)).sum::<f64>() / n;
    let squares = parts.iter().map(|ns| (logarithm(*ns) - mean).powi(2));
    squares.sum::<f64>() / (n - 1.0)
}

/// Variance of the logarithm of the median of this many independent values.
fn median_sampling(all: &Histogram<u64>, count: f64) -> f64 {
    let deviation = 0.5 / count.sqrt();
    let at = |part: f64| logarithm(at_rank(all, (part * all.len() as f64).ceil() as u64));
    let (low, high) = (at(0.5 - deviation), at((0.5 + deviation).min(1.0)));
    ((high - low) / 2.0).powi(2)
}

/// By how much a percentile differs between two runs, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// In the first run.
    pub from: u64,
    /// The second less the first.
    pub ns: i64,
    /// Not less than this. Absent where that is not known.
    pub lo: Option<i64>,
    /// As `lo`.
    pub hi: Option<i64>,
}

impl Change {
    /// From one percentile to another, each with its variance where that is known; one of
    /// `comparisons` that are to hold at once.
    pub fn between(
        (from, from_variance): (u64, Option<Variance>),
        (to, to_variance): (u64, Option<Variance>),
        comparisons: usize,
    ) -> Self {
        let variances = from_variance.zip(to_variance);
        let reach = variances
            .map(|(a, b)| reach(a, b, comparisons))
            .filter(|reach| *reach < VAGUE || (logarithm(to) - logarithm(from)).abs() > *reach);
        let bound = |factor: f64| less((to.max(1) as f64 * factor).round() as u64, from);
        Self {
            from,
            ns: less(to, from),
            lo: reach.map(|reach| bound((-reach).exp())),
            // A vague bound above would be all that is read of it.
            hi: reach
                .filter(|reach| *reach < VAGUE || to < from)
                .map(|reach| bound(reach.exp())),
        }
    }

    /// No change at all lies outside of the bounds, and the change is no smaller than one that matters.
    pub fn moved(&self, min: &MinEffect) -> bool {
        let sure = self.lo.is_some_and(|lo| lo > 0) || self.hi.is_some_and(|hi| hi < 0);
        sure && min.reached(self)
    }
}

fn less(to: u64, from: u64) -> i64 {
    let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    signed(to).saturating_sub(signed(from))
}

/// How far the logarithm of a factor between two runs reaches to each side.
fn reach(a: Variance, b: Variance, comparisons: usize) -> f64 {
    let sum = a.value + b.value;
    let share = |v: Variance| v.estimated.powi(2) / v.freedom;
    // At least that of the sum of estimates, as the floor is above 0.
    let freedom = (sum.powi(2) / (share(a) + share(b))).min(MANY);
    let tail = (1.0 - CONFIDENCE) / 2.0 / comparisons.max(1) as f64;
    student(tail, freedom) * sum.sqrt()
}

/// The smallest change that matters: it has to reach both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinEffect {
    /// Of the percentile in the first run.
    pub percent: f64,
    /// Nanoseconds.
    pub ns: u64,
}

impl Default for MinEffect {
    fn default() -> Self {
        Self {
            percent: 10.0,
            ns: 1_000,
        }
    }
}

impl MinEffect {
    fn reached(&self, change: &Change) -> bool {
        let ns = change.ns.unsigned_abs();
        ns >= self.ns && 100.0 * ns as f64 >= self.percent * change.from as f64
    }
}

/// The value that Student's t of 5 or more degrees of freedom exceeds with this probability, below
/// one half: M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 26.7.5.
fn student(tail: f64, freedom: f64) -> f64 {
    let z = normal(tail);
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    terms
        .iter()
        .rev()
        .fold(0.0, |sum, term| (sum + term) / freedom)
        + z
}

/// The value that a standard normal variable exceeds with this probability, below one half.
fn normal(tail: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    // Halved to the last digit of a double.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(-middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_max(100_000_000_000, 3).unwrap();
        values.for_each(|value| histogram.saturating_record(value));
        histogram
    }

    fn variance_of(parts: &[u64]) -> Option<Variance> {
        Variance::new(Order::P99, None, parts, &histogram(parts.iter().copied()))
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (tail, expected) in [(0.025, 1.959_964), (0.005, 2.575_829), (1e-6, 4.753_424)] {
            assert!((normal(tail) - expected).abs() < 1e-6, "{tail}");
        }
        for (tail, freedom, expected) in [
            (0.025, 5.0, 2.5706),
            (0.005, 5.0, 4.0321),
            (0.005, 10.0, 3.1693),
            (0.0005, 30.0, 3.646),
            (0.0005, 10.0, 4.5869),
        ] {
            let found = student(tail, freedom);
            assert!(
                (found / expected - 1.0).abs() < 0.01,
                "{tail} {freedom} {found}"
            );
        }
    }

    /// Medians of parts that differ by sampling alone have no drift.
    #[test]
    fn sampling_averages_out_and_drift_does_not() {
        let all = || histogram((1..=20_000).map(|k| 1_000 + k));
        // Of 1000 of these values, a median has a standard deviation of 0.0158 x 20 us: 316 ns.
        let sampled: Vec<u64> = (0..20).map(|k| 11_000 + 500 * (k % 2) - 250).collect();
        let value = |parts: &[u64]| {
            Variance::new(Order::P50, None, parts, &all())
                .unwrap()
                .value
        };
        let floor = Order::P50.floor(None).powi(2);
        assert!(value(&sampled) - floor < 1e-4, "{}", value(&sampled));
        let drifting: Vec<u64> = (0..20).map(|k| 11_000 + 3_000 * (k / 10)).collect();
        let between = variance(&drifting);
        assert!((0.9..1.1).contains(&(value(&drifting) / between)));
    }

    #[test]
    fn few_parts_have_no_bounds() {
        assert_eq!(variance_of(&[7; MIN_PARTS - 1]), None);
        let known = (7_000, variance_of(&[7_000; MIN_PARTS]));
        assert!(known.1.is_some());
        for (a, b) in [(known, (9_000, None)), ((5_000, None), known)] {
            let change = Change::between(a, b, 1);
            assert_eq!((change.lo, change.hi), (None, None));
            assert!(!change.moved(&MinEffect::default()));
        }
        let wild = variance_of(&[1, 1_000_000, 1, 1_000_000, 1, 1_000_000]);
        let change = Change::between((1_000, wild), (900_000, wild), 1);
        assert_eq!((change.lo, change.hi), (None, None));
        // However vague, it is far from what it was.
        let far = Change::between((1, wild), (u64::MAX / 4, wild), 1);
        assert!(far.moved(&MinEffect::default()), "{far:?}");
    }

    #[test]
    fn bounds_hold_all_comparisons_at_once() {
        let quiet = variance_of(&[10_000; 20]);
        let reach = |comparisons| {
            let change = Change::between((10_000, quiet), (10_000, quiet), comparisons);
            assert!(change.lo.unwrap() < 0 && change.hi.unwrap() > 0);
            change.hi.unwrap()
        };
        // Two deviations of 15 %, 1.96 of them for one comparison.
        assert!((5_100..5_200).contains(&reach(1)), "{}", reach(1));
        assert!(reach(34) > reach(1) * 3 / 2);
    }

    #[test]
    fn a_change_has_to_be_sure_and_to_matter() {
        let quiet = variance_of(&[10_000; 20]);
        let change = |from, to| Change::between((from, quiet), (to, quiet), 1);
        let min = MinEffect::default();
        assert!(change(10_000, 16_000).moved(&min));
        assert!(change(16_000, 10_000).moved(&min));
        // Not sure.
        assert!(!change(10_000, 12_500).moved(&min));
        // Sure, and too small.
        assert!(!change(1_000, 1_999).moved(&min));
        assert!(change(1_000, 2_000).moved(&min));
        let half = MinEffect {
            percent: 60.0,
            ns: 0,
        };
        assert!(!change(10_000, 15_999).moved(&half));
        assert!(change(10_000, 16_000).moved(&half));
        assert!(change(10, 16).moved(&half));
        assert!(!change(u64::MAX, u64::MAX).moved(&half));
        assert_eq!(change(0, 5_000).ns, 5_000);
        assert!(change(0, 5_000).moved(&min));
    }
}

//! How sure a quantile is: confidence intervals from order statistics.
//!
//! Of `n` independent values, the number below the true quantile `q` of order `p` is binomial
//! with `n` and `p`, whatever the distribution of the values. So the `l`-th and the `u`-th
//! smallest value enclose `q` with a probability that depends on `n`, `p`, `l` and `u` alone
//! (H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1; W. J. Conover,
//! Practical Nonparametric Statistics, 3rd ed., section 3.2). The ranks here leave at most half of
//! the error on each side, so the interval is never too short for its confidence.
//!
//! Two such intervals, each with half of the error, enclose both quantiles at once (Bonferroni),
//! and so the difference of their ends encloses that of the quantiles.
//!
//! A histogram tells values apart to three digits: the ends of an interval are widened to the ends
//! of their buckets. Values that are not independent, such as the delays of probes close in
//! time, make the true interval wider than this one.

use hdrhistogram::Histogram;

use crate::quantile::{Quantile, at_rank};

/// How sure a difference is at least.
pub const CONFIDENCE: f64 = 0.99;
/// The error of each side of the interval of one of two quantiles.
const TAIL: f64 = (1.0 - CONFIDENCE) / 4.0;

/// Bounds of a true quantile, nanoseconds. Absent where there are too few values for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// It is not below this.
    pub lo: Option<u64>,
    /// It is not above this.
    pub hi: Option<u64>,
}

/// By how much a quantile differs between two runs, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The second less the first.
    pub ns: i64,
    /// Absent where there are too few values for a bound.
    pub lo: Option<i64>,
    /// As `lo`.
    pub hi: Option<i64>,
}

impl Bounds {
    /// Of the quantile of this order with half of the error that a difference may have.
    pub fn of(histogram: &Histogram<u64>, order: Quantile) -> Self {
        let (lower, upper) = ranks(histogram.len(), order.part(), TAIL);
        let value = |rank| at_rank(histogram, rank);
        Self {
            lo: lower.map(|rank| histogram.lowest_equivalent(value(rank))),
            hi: upper.map(|rank| histogram.highest_equivalent(value(rank))),
        }
    }
}

impl Change {
    /// From one quantile to another; each is given with its bounds.
    pub fn between((from, from_bounds): (u64, Bounds), (to, to_bounds): (u64, Bounds)) -> Self {
        let less = |to: u64, from: u64| to.cast_signed().saturating_sub(from.cast_signed());
        let both = |to: Option<u64>, from: Option<u64>| Some(less(to?, from?));
        Self {
            ns: less(to, from),
            lo: both(to_bounds.lo, from_bounds.hi),
            hi: both(to_bounds.hi, from_bounds.lo),
        }
    }

    /// No change at all lies outside of the bounds.
    pub fn moved(&self) -> bool {
        self.lo.is_some_and(|lo| lo > 0) || self.hi.is_some_and(|hi| hi < 0)
    }
}

/// The largest rank whose value is above the quantile of order `p`, and the smallest whose value
/// is below it, with a probability of at most `tail` each; ranks of `n` values, from 1.
fn ranks(n: u64, p: f64, tail: f64) -> (Option<u64>, Option<u64>) {
    if n == 0 {
        return (None, None);
    }
    let (from, weights) = binomial(n, p);
    let total: f64 = weights.iter().sum();
    let cumulated = weights.iter().scan(0.0, |sum, weight| {
        *sum += weight;
        Some(*sum / total)
    });
    let cumulated: Vec<f64> = cumulated.collect();
    let lower = from + cumulated.partition_point(|below| *below <= tail) as u64;
    let upper = from + cumulated.partition_point(|below| *below < 1.0 - tail) as u64 + 1;
    (
        Some(lower).filter(|rank| *rank > 0),
        Some(upper).filter(|rank| *rank <= n),
    )
}

/// Weights in proportion to the binomial probabilities around the mode, and the number that the
/// first is for. What lies further than ten standard deviations out weighs nothing.
fn binomial(n: u64, p: f64) -> (u64, Vec<f64>) {
    let mode = ((n as f64 * p) as u64).min(n);
    let reach = (10.0 * (n as f64 * p * (1.0 - p)).sqrt()) as u64 + 20;
    let (from, to) = (mode.saturating_sub(reach), (mode + reach).min(n));
    let odds = p / (1.0 - p);
    let mut weights = vec![1.0; (to - from + 1) as usize];
    let middle = (mode - from) as usize;
    for k in mode..to {
        let at = (k - from) as usize;
        weights[at + 1] = weights[at] * (n - k) as f64 / (k + 1) as f64 * odds;
    }
    for at in (0..middle).rev() {
        let k = from + at as u64;
        weights[at] = weights[at + 1] * (k + 1) as f64 / (n - k) as f64 / odds;
    }
    (from, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P50: Quantile = Quantile::P50;
    const P99: Quantile = Quantile::P99;

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

        /// Exponential, ns: many short delays, few long ones.
        fn exponential(&mut self, mean_ns: f64) -> u64 {
            (-mean_ns * self.unit().ln()) as u64
        }
    }

    fn histogram(count: u64, mut value: impl FnMut() -> u64) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_max(100_000_000_000, 3).unwrap();
        (0..count).for_each(|_| histogram.saturating_record(value()));
        histogram
    }

    /// From the tables of the binomial distribution.
    #[test]
    fn ranks_are_those_of_the_tables() {
        let table = [
            (5, 0.5, (None, None)),
            (6, 0.5, (Some(1), Some(6))),
            (10, 0.5, (Some(2), Some(9))),
            (100, 0.5, (Some(40), Some(61))),
            (100, 0.9, (Some(84), Some(96))),
            (0, 0.5, (None, None)),
            (1, 0.5, (None, None)),
        ];
        for (n, p, expected) in table {
            assert_eq!(ranks(n, p, 0.025), expected, "{n} {p}");
        }
        // 0.99^n is below the tail of 0.0025 from n = 597 on.
        assert_eq!(ranks(596, 0.99, TAIL).1, None);
        assert_eq!(ranks(597, 0.99, TAIL).1, Some(597));
        let (lower, upper) = ranks(1_000_000_000, 0.5, 0.025);
        for (rank, normal) in [(lower, 499_969_010.0), (upper, 500_030_990.0)] {
            assert!((rank.unwrap() as f64 - normal).abs() < 20.0, "{rank:?}");
        }
    }

    /// How often of `trials` the bounds miss the true quantile.
    fn misses(trials: u32, count: u64, order: Quantile, seed: u64) -> u32 {
        let mut random = Random(seed);
        let mean = 100_000.0;
        let truth = (-mean * (1.0 - order.part()).ln()) as u64;
        let miss = |_: &u32| {
            let bounds = Bounds::of(&histogram(count, || random.exponential(mean)), order);
            bounds.lo.is_some_and(|lo| lo > truth) || bounds.hi.is_some_and(|hi| hi < truth)
        };
        (0..trials).filter(miss).count() as u32
    }

    /// At most 0.5 % are missed: more than 9 of 400 would be a chance of one in 10^4.
    #[test]
    fn bounds_cover_the_true_quantile() {
        for (order, count) in [(P50, 30), (P50, 1_000), (P99, 200), (P99, 1_500)] {
            let misses = misses(400, count, order, 0x5eed ^ count);
            assert!(misses <= 9, "{misses} of 400 missed, {order:?} of {count}");
        }
    }

    #[test]
    fn a_difference_is_covered_and_none_is_invented() {
        let mut random = Random(0xd1ff);
        let shift = 30_000_u64;
        let truth = shift.cast_signed();
        let (mut missed, mut invented, mut found) = (0, 0, 0);
        for _ in 0..100 {
            let mut sample = |shift: u64| {
                let values = histogram(1_000, || shift + random.exponential(100_000.0));
                (P50.of(&values), Bounds::of(&values, P50))
            };
            let (before, same, after) = (sample(0), sample(0), sample(shift));
            let change = Change::between(before, after);
            missed += u32::from(change.lo.unwrap() > truth || change.hi.unwrap() < truth);
            found += u32::from(change.moved());
            invented += u32::from(Change::between(before, same).moved());
        }
        assert!(missed <= 4, "{missed} of 100 missed");
        assert!(invented <= 2, "{invented} of 100 invented");
        assert!(found >= 95, "{found} of 100 found");
    }

    #[test]
    fn bounds_have_the_histograms_resolution() {
        let same = histogram(1_000, || 5_000_000);
        let Bounds { lo, hi } = Bounds::of(&same, P50);
        let (lo, hi) = (lo.unwrap(), hi.unwrap());
        assert!(
            lo <= 5_000_000 && 5_000_000 <= hi && hi - lo < 5_000,
            "{lo} to {hi}"
        );
        let change = Change::between(
            (5_000_000, Bounds::of(&same, P50)),
            (5_000_100, Bounds::of(&same, P50)),
        );
        assert!(!change.moved());
    }

    #[test]
    fn too_few_values_have_no_bounds() {
        let few = histogram(100, || 7);
        let Bounds { lo, hi } = Bounds::of(&few, P99);
        assert_eq!((lo, hi), (Some(7), None));
        assert_eq!(Bounds::of(&histogram(0, || 7), P50), Bounds::default());
        let from = (7, Bounds::of(&few, P99));
        let change = Change::between(
            from,
            (
                900,
                Bounds {
                    lo: Some(800),
                    hi: None,
                },
            ),
        );
        assert_eq!((change.lo, change.hi, change.moved()), (None, None, false));
    }
}

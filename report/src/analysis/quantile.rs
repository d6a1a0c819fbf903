//! Percentiles: one definition, in whole numbers, for tables, objectives, comparisons and pictures.
//!
//! The percentile of order `p` of `n` values is the smallest value that at least `p` of them do
//! not exceed: the value of rank `ceil(n p)` (nearest rank). The rank is computed without floating
//! point, because 99.9 / 100 is not 0.999 there, and the next rank of a thousand values is another value.

use std::str::FromStr;

use hdrhistogram::Histogram;

/// Parts of one that an order is counted in.
const WHOLE: u64 = 1_000_000_000;
/// Decimals of a percentage that make one part.
const DECIMALS: usize = 7;

/// The order of a quantile, exact: which part of the values does not exceed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantile {
    /// Of [`WHOLE`].
    parts: u64,
}

impl Quantile {
    /// The median.
    pub const P50: Self = Self::percent(50);
    /// The 90th percentile.
    pub const P90: Self = Self::percent(90);
    /// The 99th percentile.
    pub const P99: Self = Self::percent(99);
    /// The 99.9th percentile.
    pub const P999: Self = Self::basis_points(9_990);
    /// The 99.99th percentile.
    pub const P9999: Self = Self::basis_points(9_999);
    /// The largest value.
    pub const MAX: Self = Self::percent(100);

    const fn percent(percent: u64) -> Self {
        Self::basis_points(100 * percent)
    }

    const fn basis_points(points: u64) -> Self {
        Self {
            parts: points * (WHOLE / 10_000),
        }
    }

    /// As a part of one.
    pub fn part(self) -> f64 {
        self.parts as f64 / WHOLE as f64
    }

    /// Which of `n` values it is, from 1, the smallest first; 0 of none.
    pub fn rank(self, n: u64) -> u64 {
        // At most n, as no order is above 1.
        self.rank_of(u128::from(n)) as u64
    }

    fn rank_of(self, n: u128) -> u128 {
        // As n * parts / WHOLE, without the product of the whole n.
        let (whole, parts) = (u128::from(WHOLE), u128::from(self.parts));
        n / whole * parts + (n % whole * parts).div_ceil(whole)
    }

    /// The value, to the histogram's resolution: the upper end of its bucket. 0 of none.
    pub fn value(self, histogram: &Histogram<u64>) -> u64 {
        at_rank(histogram, self.rank(histogram.len()))
    }

    /// The first of these counts at which the sum of all up to it reaches the quantile.
    pub fn position(self, counts: impl Iterator<Item = u64> + Clone) -> Option<usize> {
        let counts = counts.map(u128::from);
        let rank = self.rank_of(counts.clone().sum());
        let mut below = 0;
        counts.into_iter().position(|count| {
            below += count;
            below >= rank && rank > 0
        })
    }
}

/// The value of this rank, from 1, the smallest first: the upper end of its bucket.
pub(crate) fn at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    // Half a rank below, so that rounding neither reaches the next rank nor misses this one.
    let quantile = (rank as f64 - 0.5) / histogram.len().max(1) as f64;
    histogram.value_at_quantile(quantile)
}

/// A percentage above 0 and below 100, such as `99.9`, with at most 7 decimals.
impl FromStr for Quantile {
    type Err = ();

    fn from_str(percent: &str) -> Result<Self, ()> {
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, ""));
        let is_number = !whole.is_empty() && decimals.len() <= DECIMALS;
        let digits = format!("{whole}{decimals:0<DECIMALS$}");
        if !is_number || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        let parts = digits.parse().map_err(drop)?;
        (0 < parts && parts < WHOLE)
            .then_some(Self { parts })
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_exact() {
        let p999: Quantile = "99.9".parse().unwrap();
        assert_eq!(p999, Quantile::P999);
        assert_eq!("99.990".parse(), Ok(Quantile::P9999));
        assert_eq!("50".parse(), Ok(Quantile::P50));
        for (n, rank) in [(0, 0), (1, 1), (999, 999), (1_000, 999), (1_001, 1_000)] {
            assert_eq!(p999.rank(n), rank, "of {n}");
        }
        assert_eq!(p999.rank(1_000_000_000_000), 999_000_000_000);
        assert_eq!(Quantile::MAX.rank(u64::MAX), u64::MAX);
        assert_eq!("0.0000001".parse::<Quantile>().unwrap().rank(10), 1);
    }

    #[test]
    fn orders_are_percentages_between_the_ends() {
        for wrong in [
            "",
            ".",
            ".5",
            "0",
            "0.0",
            "100",
            "1e1",
            "+5",
            "-5",
            "9 9",
            "inf",
            "5.12345678",
        ] {
            assert!(wrong.parse::<Quantile>().is_err(), "{wrong}");
        }
        assert!((Quantile::P999.part() - 0.999).abs() < 1e-12);
    }

    /// Each rank of a histogram is its own value, however many there are.
    #[test]
    fn a_histogram_has_the_value_of_the_rank() {
        for n in [1, 7, 1_000, 1_999] {
            let mut histogram = Histogram::<u64>::new(5).unwrap();
            (1..=n).for_each(|value| histogram.record(value).unwrap());
            for rank in 1..=n {
                assert_eq!(at_rank(&histogram, rank), rank, "of {n}");
            }
            for parts in (1..WHOLE).step_by(999_983) {
                let quantile = Quantile { parts };
                assert_eq!(quantile.value(&histogram), quantile.rank(n));
            }
        }
        assert_eq!(Quantile::P50.value(&Histogram::new(3).unwrap()), 0);
    }

    #[test]
    fn a_position_is_where_the_sum_reaches_the_rank() {
        let counts = [0, 50, 49, 0, 1];
        let at = |quantile: Quantile| quantile.position(counts.into_iter());
        assert_eq!(at(Quantile::P50), Some(1));
        assert_eq!((at(Quantile::P90), at(Quantile::P99)), (Some(2), Some(2)));
        assert_eq!((at(Quantile::P999), at(Quantile::MAX)), (Some(4), Some(4)));
        assert_eq!(Quantile::P50.position([0, 0].into_iter()), None);
    }
}

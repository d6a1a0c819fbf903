//! The distribution of one duration, in memory that does not grow with their number.

use hdrhistogram::Histogram;
use std::borrow::Cow;

use super::quantile::Quantile;
use crate::model::{DelayStat, Segment};

/// Largest delay that the histograms tell apart, nanoseconds: 100 s. Longer ones count as this in
/// the percentiles; minimum, mean and maximum are exact for all.
const LARGEST_NS: u64 = 100_000_000_000;

/// The distribution of one duration, nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    counts: Counts,
    sum: u128,
    min: u64,
    max: u64,
}

#[derive(Clone, Debug)]
enum Counts {
    /// A counter for each bucket.
    Dense(Box<Histogram<u64>>),
    /// For each bucket of a histogram of [`SPARSE_DIGITS`] in which values are, ascending: the lowest value that
    /// falls into it, and how many do.
    Sparse(Vec<(u64, u64)>),
}

/// Significant decimal digits of a sparse distribution.
const SPARSE_DIGITS: u8 = 1;

/// The lowest value of the same bucket, of 16 in each power of two.
const fn sparse_bucket(ns: u64) -> u64 {
    let shift = (ns | 16).ilog2() - 4;
    ns >> shift << shift
}

impl Distribution {
    /// Percentiles to this many significant decimal digits (0 to 5): about 230 kB for 3, 30 kB for
    /// 2.
    pub(crate) fn new(digits: u8) -> Self {
        let histogram = Histogram::new_with_max(LARGEST_NS, digits).expect("constant bounds");
        Self::of(Counts::Dense(Box::new(histogram)))
    }

    /// The same in memory that grows with the longest duration: for milliseconds 14 kB for 2 digits.
    pub(crate) fn growing(digits: u8) -> Self {
        let histogram = Histogram::new(digits).expect("a number of digits that there is");
        Self::of(Counts::Dense(Box::new(histogram)))
    }

    /// Percentiles to one digit, in memory that grows with the number of different values: some hundred bytes.
    pub(crate) fn sparse() -> Self {
        Self::of(Counts::Sparse(Vec::new()))
    }

    fn of(counts: Counts) -> Self {
        Self {
            counts,
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, ns: u64) {
        self.counts.add(ns.min(LARGEST_NS), 1);
        self.sum += u128::from(ns);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
    }

    /// Adds all values of another distribution of the same resolution.
    pub(crate) fn add(&mut self, other: &Self) {
        match (&mut self.counts, &other.counts) {
            (Counts::Dense(all), Counts::Dense(more)) => {
                all.add(&**more).expect("all have the same bounds, or grow");
            }
            (all, Counts::Sparse(more)) => more.iter().for_each(|(ns, count)| all.add(*ns, *count)),
            (Counts::Sparse(_), Counts::Dense(_)) => unreachable!("all have the same resolution"),
        }
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Forgets all values and keeps the memory.
    pub(crate) fn clear(&mut self) {
        match &mut self.counts {
            Counts::Dense(histogram) => histogram.reset(),
            Counts::Sparse(buckets) => buckets.clear(),
        }
        (self.sum, self.min, self.max) = (0, u64::MAX, 0);
    }

    /// All values.
    pub(crate) fn histogram(&self) -> Cow<'_, Histogram<u64>> {
        let buckets = match &self.counts {
            Counts::Dense(histogram) => return Cow::Borrowed(histogram),
            Counts::Sparse(buckets) => buckets,
        };
        let mut histogram = Histogram::new(SPARSE_DIGITS).expect("a number of digits there is");
        for (ns, count) in buckets {
            // It grows.
            let _ = histogram.record_n(*ns, *count);
        }
        Cow::Owned(histogram)
    }

    /// Values recorded.
    pub(crate) fn count(&self) -> u64 {
        match &self.counts {
            Counts::Dense(histogram) => histogram.len(),
            Counts::Sparse(buckets) => buckets.iter().map(|(_, count)| count).sum(),
        }
    }

    /// All values together, nanoseconds.
    pub(crate) fn sum_ns(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// A quantile, nanoseconds; 0 if nothing was recorded.
    pub(crate) fn quantile(&self, quantile: Quantile) -> u64 {
        self.quantile_of(&self.histogram(), quantile)
    }

    fn quantile_of(&self, histogram: &Histogram<u64>, quantile: Quantile) -> u64 {
        if histogram.is_empty() {
            return 0;
        }
        quantile.value(histogram).clamp(self.min, self.max)
    }

    /// Values above this one, as far as the histogram tells them apart.
    pub(crate) fn above(&self, ns: u64) -> u64 {
        self.count() - self.histogram().count_between(0, ns.min(LARGEST_NS))
    }

    /// In one line; `segment` is only the label.
    pub(crate) fn stat(&self, segment: Option<Segment>) -> DelayStat {
        let histogram = self.histogram();
        let count = histogram.len();
        let quantile = |quantile| self.quantile_of(&histogram, quantile);
        DelayStat {
            segment,
            count,
            min: if count == 0 { 0 } else { self.min },
            mean: self.sum as f64 / count.max(1) as f64,
            p50: quantile(Quantile::P50),
            p90: quantile(Quantile::P90),
            p99: quantile(Quantile::P99),
            p999: quantile(Quantile::P999),
            max: self.max,
        }
    }
}

impl Counts {
    /// Adds so many values of at most [`LARGEST_NS`].
    fn add(&mut self, ns: u64, count: u64) {
        let buckets = match self {
            Self::Dense(histogram) => {
                // It has room for that, or grows.
                let _ = histogram.record_n(ns, count);
                return;
            }
            Self::Sparse(buckets) => buckets,
        };
        let lowest = sparse_bucket(ns);
        match buckets.binary_search_by_key(&lowest, |(lowest, _)| *lowest) {
            Ok(at) => buckets[at].1 += count,
            Err(at) => buckets.insert(at, (lowest, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_distribution_is_a_histogram_of_one_digit() {
        let mut sparse = [Distribution::sparse(), Distribution::sparse()];
        let mut dense = Distribution::growing(SPARSE_DIGITS);
        let mut ns = 1_u64;
        for k in 0..2000_u64 {
            ns = ns.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(k) % (1 << (1 + k % 40));
            sparse[k as usize % 2].record(ns);
            dense.record(ns);
        }
        let [mut all, more] = sparse;
        all.add(&more);
        assert_eq!(all.stat(None), dense.stat(None));
        assert_eq!(*all.histogram(), *dense.histogram());
        assert_eq!((all.count(), all.above(1000)), (2000, dense.above(1000)));
        all.clear();
        assert_eq!(all.count(), 0);
    }
}

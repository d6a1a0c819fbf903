//! The distribution of one duration, in memory that does not grow with their number.

use hdrhistogram::Histogram;

use super::quantile::Quantile;
use crate::model::{DelayStat, Segment};

/// Largest delay that the histograms tell apart, nanoseconds: 100 s. Longer ones count as this in
/// the percentiles; minimum, mean and maximum are exact for all.
const LARGEST_NS: u64 = 100_000_000_000;

/// The distribution of one duration, nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    histogram: Histogram<u64>,
    sum: u128,
    min: u64,
    max: u64,
}

impl Distribution {
    /// Percentiles to this many significant decimal digits (0 to 5): about 230 kB for 3, 30 kB for
    /// 2.
    pub(crate) fn new(digits: u8) -> Self {
        Self::of(Histogram::new_with_max(LARGEST_NS, digits).expect("constant bounds"))
    }

    /// The same in memory that grows with the longest duration: for milliseconds 14 kB for 2 digits, 2 kB for 1.
    pub(crate) fn growing(digits: u8) -> Self {
        Self::of(Histogram::new(digits).expect("a number of digits that there is"))
    }

    fn of(histogram: Histogram<u64>) -> Self {
        Self {
            histogram,
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, ns: u64) {
        // It has room for that, or grows.
        let _ = self.histogram.record(ns.min(LARGEST_NS));
        self.sum += u128::from(ns);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
    }

    /// Adds all values of another distribution of the same resolution.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all have the same bounds, or grow");
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Forgets all values and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
        (self.sum, self.min, self.max) = (0, u64::MAX, 0);
    }

    /// All values.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Values recorded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// All values together, nanoseconds.
    pub(crate) fn sum_ns(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// A quantile, nanoseconds; 0 if nothing was recorded.
    pub(crate) fn quantile(&self, quantile: Quantile) -> u64 {
        if self.histogram.is_empty() {
            return 0;
        }
        quantile.value(&self.histogram).clamp(self.min, self.max)
    }

    /// Values above this one, as far as the histogram tells them apart.
    pub(crate) fn above(&self, ns: u64) -> u64 {
        self.count() - self.histogram.count_between(0, ns.min(LARGEST_NS))
    }

    /// In one line; `segment` is only the label.
    pub(crate) fn stat(&self, segment: Option<Segment>) -> DelayStat {
        let count = self.count();
        DelayStat {
            segment,
            count,
            min: if count == 0 { 0 } else { self.min },
            mean: self.sum as f64 / count.max(1) as f64,
            p50: self.quantile(Quantile::P50),
            p90: self.quantile(Quantile::P90),
            p99: self.quantile(Quantile::P99),
            p999: self.quantile(Quantile::P999),
            max: self.max,
        }
    }
}

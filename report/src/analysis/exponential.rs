//! A histogram whose bounds grow by a constant factor: what Prometheus calls a native histogram.
//!
//! Bucket `i` has the values above `2^((i-1)/8)` s, up to and including `2^(i/8)` s: each is 9 % wider than
//! the one below (schema 3), so a percentile interpolated in it is off by 4.5 % at most. Values are counted
//! where they belong when they are recorded, and nothing is converted later. One has memory for the buckets
//! between its smallest and its largest value alone, some hundred bytes, so a copy of it takes less than a
//! microsecond.

/// Buckets between two powers of two: `2^SCHEMA`.
const PER_OCTAVE: i32 = 1 << Exponential::SCHEMA;
/// Lower bounds of the buckets above a power of two, relative to it: `2^(k/8)`.
#[expect(clippy::approx_constant, reason = "roots of two, to the last bit")]
const BOUNDS: [f64; PER_OCTAVE as usize] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    1.414_213_562_373_095_1,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// The distribution of a delay, with buckets as Prometheus has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exponential {
    /// Index of the first of `counts`.
    first: i32,
    counts: Vec<u64>,
    /// Values below [`Exponential::ZERO_THRESHOLD_S`].
    zero: u64,
    count: u64,
    sum_ns: u128,
}

impl Exponential {
    /// Prometheus' number for the factor between two bounds: `2^(2^-3)`.
    pub const SCHEMA: i32 = 3;
    /// Values up to this are in the bucket of zero, seconds: a power of two below a nanosecond, so these are
    /// the zeros.
    pub const ZERO_THRESHOLD_S: f64 = 1.0 / (1_u64 << 30) as f64;

    /// Counts a value, nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += u128::from(ns);
        if ns == 0 {
            self.zero += 1;
        } else {
            *self.at(index(ns)) += 1;
        }
    }

    /// Adds all values of another one.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.zero += other.zero;
        for (index, count) in other.buckets() {
            *self.at(index) += count;
        }
    }

    /// The count of a bucket, which gets its place if it has none.
    fn at(&mut self, index: i32) -> &mut u64 {
        if self.counts.is_empty() {
            self.first = index;
        }
        if index < self.first {
            let missing = (self.first - index) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.first = index;
        }
        let place = (index - self.first) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        &mut self.counts[place]
    }

    /// Values recorded.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// All values together, seconds.
    pub const fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Values of 0.
    pub const fn zeros(&self) -> u64 {
        self.zero
    }

    /// The buckets with values, by index, from the smallest on.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> {
        let all = (self.first..).zip(self.counts.iter().copied());
        all.filter(|(_, count)| *count > 0)
    }

    /// Values up to and including `2^exponent` seconds: exact, as that is a bound.
    pub fn up_to(&self, exponent: i32) -> u64 {
        let last = exponent * PER_OCTAVE;
        let counts = self.buckets().take_while(|(index, _)| *index <= last);
        self.zero + counts.map(|(_, count)| count).sum::<u64>()
    }

    /// The bounds of the bucket that has a quantile, seconds; absent if nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> Option<(f64, f64)> {
        let rank = ((quantile * self.count as f64).ceil() as u64).max(1);
        let mut below = self.zero;
        if self.count > 0 && below >= rank {
            return Some((0.0, Self::ZERO_THRESHOLD_S));
        }
        let mut buckets = self.buckets();
        let bucket = buckets.find(|(_, count)| {
            below += count;
            below >= rank
        });
        bucket.map(|(index, _)| (bound(index - 1), bound(index)))
    }
}

/// The bucket of a value above 0, nanoseconds.
fn index(ns: u64) -> i32 {
    let (fraction, exponent) = libm::frexp(ns as f64 / 1e9);
    // The fraction is at least 0.5 and below 1.
    let place = BOUNDS.partition_point(|bound| *bound < 2.0 * fraction);
    (exponent - 1) * PER_OCTAVE + place as i32
}

/// The upper bound of a bucket, seconds.
fn bound(index: i32) -> f64 {
    let root = BOUNDS[index.rem_euclid(PER_OCTAVE) as usize];
    libm::ldexp(root, index.div_euclid(PER_OCTAVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recorded(values: &[u64]) -> Exponential {
        let mut histogram = Exponential::default();
        for ns in values {
            histogram.record(*ns);
        }
        histogram
    }

    #[test]
    fn the_bounds_are_roots_of_two() {
        for (k, bound) in BOUNDS.into_iter().enumerate() {
            assert!((bound - (k as f64 / 8.0).exp2()).abs() < 1e-15, "{k}");
        }
        const { assert!(Exponential::ZERO_THRESHOLD_S < 1e-9) };
        assert_eq!(
            bound(-240).to_bits(),
            Exponential::ZERO_THRESHOLD_S.to_bits()
        );
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_ends() {
        assert_eq!(index(1_000_000_000), 0);
        assert_eq!(index(1_000_000_001), 1);
        assert_eq!(index(999_999_999), 0);
        assert_eq!(index(500_000_000), -8);
        assert_eq!(index(1), -239);
    }

    #[test]
    fn nothing_and_zeros_have_their_quantiles() {
        assert_eq!(Exponential::default().quantile(0.5), None);
        let zeros = recorded(&[0, 0, 5]);
        assert_eq!((zeros.zeros(), zeros.count()), (2, 3));
        assert_eq!(
            zeros.quantile(0.5),
            Some((0.0, Exponential::ZERO_THRESHOLD_S))
        );
        assert!(zeros.quantile(1.0).unwrap().1 >= 5e-9);
    }

    proptest! {
        #[test]
        fn each_value_is_within_its_bucket(ns in 1..=u64::MAX) {
            let (index, s) = (index(ns), ns as f64 / 1e9);
            prop_assert!(bound(index - 1) < s && s <= bound(index), "{s} in {index}");
            prop_assert!(bound(index) / bound(index - 1) < 1.0906);
        }

        #[test]
        fn counts_and_sums_are_kept(
            mut one in proptest::collection::vec(0_u64..10_000_000_000, 0..100),
            other in proptest::collection::vec(0_u64..10_000_000_000, 0..100),
        ) {
            let mut both = recorded(&one);
            both.add(&recorded(&other));
            one.extend(&other);
            prop_assert_eq!(&both, &recorded(&one));
            let counted: u64 = both.buckets().map(|(_, count)| count).sum();
            prop_assert_eq!(counted + both.zeros(), one.len() as u64);
            let sum: u64 = one.iter().sum();
            prop_assert!((both.sum_s() - sum as f64 / 1e9).abs() < 1e-6);
            let mut before = 0;
            for exponent in -31..5 {
                let bound_ns = libm::ldexp(1e9, exponent);
                let exact = one.iter().filter(|ns| **ns as f64 <= bound_ns).count() as u64;
                prop_assert_eq!(both.up_to(exponent), exact, "2^{} s", exponent);
                prop_assert!(exact >= before);
                before = exact;
            }
        }

        #[test]
        fn a_quantile_is_that_of_the_values_within_a_bucket(
            mut values in proptest::collection::vec(1_u64..10_000_000_000, 1..200),
            quantile in 0.01_f64..1.0,
        ) {
            let (low, high) = recorded(&values).quantile(quantile).unwrap();
            values.sort_unstable();
            let rank = (quantile * values.len() as f64).ceil() as usize;
            let exact = values[rank - 1] as f64 / 1e9;
            prop_assert!(low < exact && exact <= high, "{exact} not in {low}..={high}");
        }
    }
}

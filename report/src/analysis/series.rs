//! Responses (totals without a schedule) over time, in bounded memory: when there are too many buckets,
//! pairs are merged.

use crate::model::Bucket;

/// Buckets kept at most.
const CAPACITY: usize = 1024;
/// Width of a bucket at the start of a run, nanoseconds.
const START_WIDTH_NS: u64 = 10_000_000;

/// A time series of responses, or totals, and losses.
#[derive(Clone, Debug)]
pub struct Series {
    width_ns: u64,
    buckets: Vec<Bucket>,
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

impl Series {
    /// Empty, with the narrowest buckets.
    pub fn new() -> Self {
        Self {
            width_ns: START_WIDTH_NS,
            buckets: Vec::new(),
        }
    }

    /// An answered probe: when it was sent, nanoseconds since the run's start, and what it took,
    /// nanoseconds.
    pub fn record(&mut self, since_start_ns: u64, total_ns: u64) {
        merge(
            self.bucket(since_start_ns),
            &Bucket {
                count: 1,
                lost: 0,
                min: total_ns,
                mean: total_ns as f64,
                max: total_ns,
            },
        );
    }

    /// A lost probe: when it was sent, nanoseconds since the run's start.
    pub fn lost(&mut self, since_start_ns: u64) {
        let bucket = self.bucket(since_start_ns);
        bucket.lost = bucket.lost.saturating_add(1);
    }

    /// A lost probe was answered after all: when it was sent, nanoseconds since the run's start.
    pub fn found(&mut self, since_start_ns: u64) {
        let bucket = self.bucket(since_start_ns);
        bucket.lost = bucket.lost.saturating_sub(1);
    }

    /// Width of a bucket in nanoseconds, and the buckets from the run's start: what a
    /// [`crate::model::Capture`] holds.
    pub fn snapshot(&self) -> (u64, Vec<Bucket>) {
        (self.width_ns, self.buckets.clone())
    }

    fn bucket(&mut self, since_start_ns: u64) -> &mut Bucket {
        while since_start_ns / self.width_ns >= CAPACITY as u64 {
            self.widen();
        }
        let index = (since_start_ns / self.width_ns) as usize;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, Bucket::default());
        }
        &mut self.buckets[index]
    }

    fn widen(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        let pairs = self.buckets.len().div_ceil(2);
        for pair in 0..pairs {
            let mut merged = self.buckets[2 * pair];
            if let Some(second) = self.buckets.get(2 * pair + 1) {
                merge(&mut merged, second);
            }
            self.buckets[pair] = merged;
        }
        self.buckets.truncate(pairs);
    }
}

fn merge(into: &mut Bucket, other: &Bucket) {
    into.lost = into.lost.saturating_add(other.lost);
    if other.count == 0 {
        return;
    }
    into.min = if into.count == 0 {
        other.min
    } else {
        into.min.min(other.min)
    };
    into.max = into.max.max(other.max);
    let count = into.count.saturating_add(other.count);
    into.mean += (other.mean - into.mean) * f64::from(other.count) / f64::from(count);
    into.count = count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_happened_in_them() {
        let mut series = Series::new();
        series.record(0, 100);
        series.record(9_999_999, 300);
        series.record(20_000_000, 50);
        series.lost(20_000_001);
        let (width, buckets) = series.snapshot();
        assert_eq!((width, buckets.len()), (10_000_000, 3));
        assert_eq!(
            buckets[0],
            Bucket {
                count: 2,
                lost: 0,
                min: 100,
                mean: 200.0,
                max: 300
            }
        );
        assert_eq!(buckets[1], Bucket::default());
        assert_eq!(
            buckets[2],
            Bucket {
                count: 1,
                lost: 1,
                min: 50,
                mean: 50.0,
                max: 50
            }
        );
    }

    #[test]
    fn a_long_run_keeps_its_sums_in_few_buckets() {
        let mut series = Series::new();
        for second in 0..100_000 {
            series.record(second * 1_000_000_000, second);
            if second % 10 == 0 {
                series.lost(second * 1_000_000_000);
            }
        }
        let (width, buckets) = series.snapshot();
        assert!(buckets.len() <= CAPACITY && buckets.len() > CAPACITY / 2);
        assert!(width * buckets.len() as u64 >= 100_000_000_000_000);
        assert_eq!(
            buckets.iter().map(|bucket| bucket.count).sum::<u32>(),
            100_000
        );
        assert_eq!(
            buckets.iter().map(|bucket| bucket.lost).sum::<u32>(),
            10_000
        );
        let sum: f64 = buckets
            .iter()
            .map(|bucket| bucket.mean * f64::from(bucket.count))
            .sum();
        assert!((sum / 4_999_950_000.0 - 1.0).abs() < 1e-9);
        assert_eq!(buckets.last().unwrap().max, 99_999);
    }

    #[test]
    fn the_end_of_time_is_in_some_bucket() {
        let mut series = Series::new();
        series.record(u64::MAX, 1);
        assert!(series.snapshot().1.len() <= CAPACITY);
    }
}

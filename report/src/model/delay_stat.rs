//! The distribution of a delay.

use super::segment::Segment;

/// Distribution of one segment (or of the total) over the probes that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayStat {
    /// The segment; absent for the total.
    pub segment: Option<Segment>,
    /// Probes that have the segment.
    pub count: u64,
    /// All in nanoseconds.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

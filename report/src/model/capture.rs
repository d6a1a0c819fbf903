//! What a picture of a run is drawn from.

use super::names::Names;
use super::probe_result::ProbeResult;
use super::run::Run;
use super::summary::Summary;

/// One bucket of the time series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Probes answered in this bucket.
    pub count: u32,
    /// Probes lost in this bucket.
    pub lost: u32,
    /// Smallest total, nanoseconds.
    pub min: u64,
    /// Mean total, nanoseconds.
    pub mean: f64,
    /// Largest total, nanoseconds.
    pub max: u64,
}

/// What a picture of a run is drawn from.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The run.
    pub run: Run,
    /// The slowest probes, slowest first.
    pub slowest: Vec<ProbeResult>,
    /// Its summary.
    pub summary: Summary,
    /// Totals over time: width of a bucket in nanoseconds, and the buckets from the run's start.
    pub series: (u64, Vec<Bucket>),
    /// Names for what the records mention.
    pub names: Names,
}

//! What a run's probes say.

pub mod blame;
pub mod breakdown;
pub mod causes;
pub mod clock;
pub mod confidence;
pub mod confusion;
pub mod diff;
pub mod headline;
pub mod hops;
pub mod jitter;
pub mod loss;
pub mod quantile;
pub mod series;
pub mod slo;
pub mod slowest;
pub(crate) mod spans;
pub mod stats;
pub mod usual;
pub mod verdict;

//! What a run's probes say, in the order of the flow. Pure: a saved run is analysed as the live one
//! was.

// One probe.
pub mod blame; // who had the CPU during a segment
pub mod breakdown; // the segments, from the stamps
pub mod clock; // the two directions of the wire between two clocks
pub mod loss; // where it was lost
pub mod path_change; // by the TTLs, another way than before
pub mod threshold; // from when on it is slow, where nobody gave a threshold
pub mod verdict; // what made it slow, and how sure that is

// Many probes, in flat memory.
pub mod causes; // what made the slow ones slow
mod distribution; // of one duration
pub mod exponential; // the same, with the buckets that Prometheus has
pub mod flows; // which way through the network
pub mod hops; // every device on the way
pub mod jitter; // how the delay varies from a probe to the next
pub mod moved; // counters that moved meanwhile
pub mod quantile; // of a distribution
pub mod series; // totals over time
pub mod slowest; // the slowest ones
pub(crate) mod spans; // percentiles of the parts of a run
pub mod stats; // all of it together
pub mod target_counts; // what metrics say of a target
pub mod way; // hosts on the way, and the wires between

// A run.
pub mod confusion; // its verdicts beside known faults
pub mod headline; // the answer in one sentence
pub mod slo; // whether it met its objectives

// Two runs.
pub mod confidence; // how sure a difference is
pub mod diff; // side by side

// Runs of many hosts.
pub mod mesh; // which host is slow for all its peers

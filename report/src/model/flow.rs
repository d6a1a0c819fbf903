//! The probes of one flow.

use serde::{Deserialize, Serialize};

use super::delay_stat::DelayStat;

/// What became of the probes of one flow of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowStat {
    /// Which, from 0.
    pub flow: u8,
    /// Probes answered.
    pub replied: u64,
    /// Probes not answered.
    pub lost: u64,
    /// Answered probes whose total is above the median of all flows, and above their 99th percentile.
    pub above: Above,
    /// The total of the answered ones; absent if none was.
    pub total: Option<DelayStat>,
}

/// Probes above percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
}

impl FlowStat {
    /// Probes of which it is known what became of them.
    pub fn sent(&self) -> u64 {
        self.replied + self.lost
    }
}

//! Counters of a host that moved while probes were slow or lost.

use serde::{Deserialize, Serialize};

use super::host::Host;

/// Where a counter is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterSource {
    /// What the kernel counts for every device (`ip -s -s link`).
    Link,
    /// What a driver counts (`ethtool -S`), allowances of a cloud among it.
    Ethtool,
    /// Queueing disciplines of a device (`tc -s qdisc`), those of one kind together.
    Qdisc,
    /// `/proc/net/softnet_stat`, all CPUs together.
    Softnet,
    /// `/proc/net/snmp`, `netstat` and `snmp6`, with the names of `nstat`.
    Protocol,
}

/// A counter of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KernelCounter {
    /// Where it is read.
    pub source: CounterSource,
    /// Of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What the source calls it.
    pub counter: String,
}

/// By how much a counter moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedCounter {
    /// Which.
    #[serde(flatten)]
    pub counter: KernelCounter,
    /// In the slow and lossy windows.
    pub inside: u64,
    /// Windows in which it moved.
    pub windows: u64,
    /// In the rest of the run.
    pub outside: u64,
}

/// The counters of a host that moved against their usual rate while probes were slow or lost. A window is a
/// sequence of intervals between two readings of the counters, each with a slow or lost probe in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Whose.
    pub host: Host,
    /// Slow and lossy windows.
    pub windows: u64,
    /// Time in them, ns.
    pub inside_ns: u64,
    /// The rest of the time in which counters were read, ns.
    pub outside_ns: u64,
    /// Those that moved: first what counts trouble, then by how far above the usual rate.
    pub counters: Vec<MovedCounter>,
    /// Further ones, for which the list has no room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
    /// Counters that once fell, by a reset or as they are none: by how much they moved is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fallen: u64,
    /// Slow and lost probes at whose time no counters were read, or that were judged too late.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

/// Whether a count is the one that an absent field stands for.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

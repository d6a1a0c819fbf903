//! A run: what was asked for, and what could be seen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU8;

use super::point::Point;
use super::summary::Summary;

/// One end of a run, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, if known; of the server the name as typed, with its zone.
    pub host: Option<String>,
    /// Address that the probes use.
    pub addr: Option<IpAddr>,
    /// Device that the probes leave by.
    pub dev: Option<String>,
    /// Hash of the kernel's boot id, where known.
    pub host_id: Option<u64>,
}

impl Endpoint {
    /// Its name and its address, if known: `web1 (10.0.0.2)`, `fe80::1%eth0`.
    pub fn label(&self) -> Option<String> {
        let is_in = |host: &str, addr: &str| host == addr || host.starts_with(&format!("{addr}%"));
        match (&self.host, self.addr.map(|addr| addr.to_string())) {
            (Some(host), Some(addr)) if !is_in(host, &addr) => Some(format!("{host} ({addr})")),
            (None, addr) => addr,
            (host, _) => host.clone(),
        }
    }
}

/// One of several hosts that a client probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// No other target of the client has it.
    pub name: String,
    /// What the user says about it.
    pub labels: BTreeMap<String, String>,
}

/// A run: its parameters, and the points that it can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Whose probes these are, if the client has several targets.
    pub target: Option<Target>,
    /// Wall-clock start, nanoseconds since the Unix epoch.
    pub start_unix_ns: i64,
    /// The same on the client's `CLOCK_MONOTONIC`, nanoseconds; absent in runs that older versions
    /// saved.
    pub start_ns: Option<u64>,
    /// The client's end.
    pub client: Endpoint,
    /// The server's end.
    pub server: Endpoint,
    /// How the server's stamps return: `inband`, `compact`, `v0`, `pingpong`.
    pub mode: String,
    /// Nanoseconds between probes; absent when adaptive.
    pub interval_ns: Option<u64>,
    /// Only probes with a response of at least this are recorded, nanoseconds.
    pub threshold_ns: u64,
    /// ICMP message size, bytes.
    pub size: usize,
    /// Flows over which the probes are spread, if they are several.
    pub flows: Option<NonZeroU8>,
    /// The points that this run can see, and by which hook (`tp_btf`, `fentry`, `socket filter`, ...).
    pub points: Vec<(Point, String)>,
}

/// The end of a saved run.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The run. Absent if its line is in a log file that was rotated away.
    pub run: Option<Run>,
    /// Its last summary, with histograms.
    pub summary: Summary,
    /// Runs in the file before this one.
    pub earlier: u64,
}

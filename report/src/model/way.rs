//! The way between client and server where hosts on it stamp probes too.

use super::host::Host;

/// What hosts on the way took of a probe's time, by their own clocks: exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The request was there, nanoseconds.
    pub request_ns: u64,
    /// The reply was there, nanoseconds.
    pub reply_ns: u64,
}

impl Kept {
    /// Both together.
    pub const fn sum_ns(self) -> u64 {
        self.request_ns.saturating_add(self.reply_ns)
    }
}

/// A part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stretch {
    /// A host on the way: from its first to its last stamp of a packet.
    Within(Host),
    /// The wire between two hosts that are neighbours among those that stamp, the nearer one first.
    Between(Host, Host),
    /// Everything behind the last host that stamps.
    Behind(Host),
}

impl Stretch {
    /// `in transit2`, `between transit2 and transit3`, `behind transit3`.
    pub fn words(self) -> String {
        match self {
            Self::Within(host) => format!("in {}", host.name()),
            Self::Between(near, far) => {
                format!("between {} and {}", near.name(), far.name())
            }
            Self::Behind(host) => format!("behind {}", host.name()),
        }
    }
}

/// Time in one direction of a part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WayTime {
    /// Nanoseconds.
    pub ns: u64,
    /// Bounds, nanoseconds, where it is an estimate: the clocks of two hosts are compared.
    pub bounds: Option<(u64, u64)>,
}

/// What a part of the way took of a probe's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WayPart {
    /// Which part.
    pub of: Stretch,
    /// Both directions together, nanoseconds: exact whatever the clocks.
    pub ns: u64,
    /// The shortest `ns` of earlier probes and this one.
    pub base_ns: u64,
    /// Out and in; between two hosts absent where only their sum is known, within one where it did not
    /// stamp that packet.
    pub directions: [Option<WayTime>; 2],
}

impl WayPart {
    /// Above the base, nanoseconds.
    pub const fn excess_ns(&self) -> u64 {
        self.ns.saturating_sub(self.base_ns)
    }
}

//! A probe, and what became of it.

use std::net::IpAddr;
use std::num::NonZeroU8;

use super::host_time::{ClientNs, ServerNs};
use super::point::Point;
use super::stamp::Stamp;

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Answered in time.
    Ok,
    /// Answered after the timeout.
    Late,
    /// Answered after it was reported as lost: this amends that report. Written as `late` in every format.
    Amended,
    /// Not answered.
    Lost,
    /// Given up because too many were in flight at once: whether it was answered is not known.
    Forgotten,
    /// A further answer to a probe that had one already.
    Dup,
}

impl Status {
    /// All statuses that have a name of their own.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Late, Self::Lost, Self::Forgotten, Self::Dup];

    /// Whether the probe counts as answered.
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Ok | Self::Late | Self::Amended)
    }

    /// Whether it was answered after the timeout.
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::Amended)
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Its name in every format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late | Self::Amended => "late",
            Self::Lost => "lost",
            Self::Forgotten => "forgotten",
            Self::Dup => "dup",
        }
    }
}

/// How the clocks of the two hosts relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClockRelation {
    /// Both ends run on one kernel: all stamps are on one clock.
    Same,
    /// Two kernels: only differences within one host are meaningful.
    Separate,
}

impl ClockRelation {
    /// A server's time on the client's clock, if they are one.
    pub fn on_client(self, time: ServerNs) -> Option<ClientNs> {
        (self == Self::Same).then_some(ClientNs(time.0))
    }

    /// A client's time on the server's clock, if they are one.
    pub fn on_server(self, time: ClientNs) -> Option<ServerNs> {
        (self == Self::Same).then_some(ServerNs(time.0))
    }
}

/// The time to live of a packet, or hop limit, with which it arrived: one less for each router that it passed.
pub type Ttl = NonZeroU8;

/// One probe and all that was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Sequence number, from 0.
    pub seq: u32,
    /// Wall-clock time of the send, nanoseconds since the Unix epoch.
    pub sent_unix_ns: i64,
    /// The host that is probed.
    pub peer: IpAddr,
    /// What became of it.
    pub status: Status,
    /// Which of the run's flows it belongs to, from 0: networks with several ways send the probes of a
    /// flow the same way.
    pub flow: u8,
    /// With which TTL its request and its reply arrived ([`Direction`](super::direction::Direction)), as
    /// far as that is known.
    pub ttl: [Option<Ttl>; 2],
    /// How the clocks in `path` relate.
    pub clock: ClockRelation,
    /// Stamps in path order: request direction first, then reply. A point can occur several times
    /// (one stamp a device and namespace crossed).
    pub path: Vec<Stamp>,
}

impl Probe {
    /// When it was sent, `CLOCK_MONOTONIC` of the client, nanoseconds; absent where that is unknown.
    pub fn sent_ns(&self) -> Option<u64> {
        let mut stamps = self.path.iter();
        let sent = stamps.find(|stamp| stamp.point == Point::LTxUser);
        sent.map(|stamp| stamp.ns)
    }
}

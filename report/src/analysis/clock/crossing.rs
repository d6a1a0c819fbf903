//! What a probe says of the two wires.

use crate::model::host_time::{ClientNs, ServerNs};
use crate::model::{ClockRelation, Kept};

/// The stamps that bracket the two wires of a probe, each on its host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The request leaves the client.
    pub left: ClientNs,
    /// The request arrives at the server.
    pub arrived: ServerNs,
    /// The reply leaves the server.
    pub returned: ServerNs,
    /// The reply arrives at the client.
    pub back: ClientNs,
}

/// From nanoseconds of each host's clock, in the order of the fields.
impl From<[u64; 4]> for Crossing {
    fn from([left, arrived, returned, back]: [u64; 4]) -> Self {
        Self {
            left: ClientNs(left),
            arrived: ServerNs(arrived),
            returned: ServerNs(returned),
            back: ClientNs(back),
        }
    }
}

impl Crossing {
    /// Time on both wires together, nanoseconds: exact whatever the clocks. Absent when the
    /// stamps contradict each other: the server would have kept the probe for longer than it was
    /// away.
    pub fn round_ns(&self) -> Option<u64> {
        let away = self.back.checked_since(self.left)?;
        away.checked_sub(self.returned.checked_since(self.arrived)?)
    }

    /// With the server's stamps moved by what hosts on the way kept: the wires are shorter by that.
    /// Absent if they cannot have had it for so long.
    pub fn without(self, kept: Kept) -> Option<Self> {
        let shorter = Self {
            arrived: ServerNs(self.arrived.0.checked_sub(kept.request_ns)?),
            returned: ServerNs(self.returned.0.checked_add(kept.reply_ns)?),
            ..self
        };
        shorter.round_ns().map(|_| shorter)
    }

    /// Time on each of them, out and in, nanoseconds, if the two clocks are one; absent when the
    /// stamps contradict each other.
    pub fn on_one_clock(&self, clock: ClockRelation) -> Option<(u64, u64)> {
        let out = clock.on_client(self.arrived)?.checked_since(self.left)?;
        let back = self.back.checked_since(clock.on_client(self.returned)?)?;
        Some((out, back))
    }

    /// Server's clock minus client's when the request arrived, less its time on the wire, modulo
    /// 2^64 nanoseconds: only the change from one probe to the next means anything.
    pub fn forth_ns(&self) -> u64 {
        self.arrived.0.wrapping_sub(self.left.0)
    }
}

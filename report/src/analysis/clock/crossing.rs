//! What a probe says of the two wires.

/// The stamps that bracket the two wires of a probe, each on its host's clock, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The request leaves the client; client's clock.
    pub left_ns: u64,
    /// The request arrives at the server; server's clock.
    pub arrived_ns: u64,
    /// The reply leaves the server; server's clock.
    pub returned_ns: u64,
    /// The reply arrives at the client; client's clock.
    pub back_ns: u64,
}

impl Crossing {
    /// Time on both wires together, nanoseconds: exact whatever the clocks. Absent when the
    /// stamps contradict each other: the server would have kept the probe for longer than it was
    /// away.
    pub fn round_ns(&self) -> Option<u64> {
        let away = self.back_ns.checked_sub(self.left_ns)?;
        let kept = self.returned_ns.checked_sub(self.arrived_ns)?;
        away.checked_sub(kept)
    }
}

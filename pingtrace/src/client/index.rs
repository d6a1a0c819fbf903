//! Which probe of a run is meant.

use crate::wire::number::Sequence;

/// A probe by its place in the order of sending, from 0. Unlike a [`Sequence`] it never wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeIndex(pub u64);

impl ProbeIndex {
    /// The youngest of the first `sent` probes with this sequence number.
    pub fn from_sequence(sequence: Sequence, sent: u64) -> Option<Self> {
        let back = Self(sent).sequence().since(sequence);
        if back == 0 {
            return None;
        }
        sent.checked_sub(u64::from(back)).map(Self)
    }

    /// The youngest of the first `sent` probes whose sequence number has these low 16 bits.
    pub fn from_low(low: u16, sent: u64) -> Option<Self> {
        let next = Self(sent).sequence();
        Self::from_sequence(next.back(next.low().wrapping_sub(low)), sent)
    }

    /// Its number on the wire.
    pub const fn sequence(self) -> Sequence {
        Sequence(self.0 as u32)
    }
}

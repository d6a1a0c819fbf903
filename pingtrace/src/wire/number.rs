//! Numbers with a meaning of their own: one is not taken for another.

use std::fmt;

/// A session, which its client chose at random; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The ICMP id of a flow: what fits of the session, plus the flow.
    pub fn id(self, flow: u8) -> u16 {
        (self.0 as u16).wrapping_add(flow.into())
    }
}

/// The sequence number of a probe on the wire, which wraps: it has distances, and no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sequence(pub u32);

impl Sequence {
    /// What fits into the ICMP sequence number.
    pub const fn low(self) -> u16 {
        self.0 as u16
    }

    /// That of the probe sent `by` before this one; after it if `by` is negative.
    #[must_use]
    pub fn back(self, by: impl Into<i32>) -> Self {
        Self(self.0.wrapping_sub(by.into().cast_unsigned()))
    }

    /// Those of this probe and of all after it, in order.
    pub fn onward(self) -> impl Iterator<Item = Self> {
        (0..).map(move |k| Self(self.0.wrapping_add(k)))
    }

    /// Probes sent from the other one to this one, modulo 2^32.
    pub const fn since(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

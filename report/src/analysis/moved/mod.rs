//! Counters that moved while probes were slow or lost.
//!
//! Counters are read every so often. An interval between two readings in which a slow or lost probe was under
//! way is *inside*, the others are *outside*, and neighbouring intervals inside are one window. A counter has
//! moved if it grew inside by clearly more than its usual rate, that outside, would bring ([`rule`]). So what
//! grows with every packet has not, as busy as the host may be.

mod rule;
mod tally;
mod words;

pub use tally::{CounterId, MovedTally};

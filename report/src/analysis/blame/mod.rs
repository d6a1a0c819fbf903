//! What had the CPU while a segment of a slow probe lasted: joins a probe's stamps with the recorder's
//! events on that CPU.
//!
//! At each moment of the segment's window the CPU belongs to one thing, and what is closest to the
//! hardware comes first: a hard interrupt, interrupts off, a softirq, a task that does not call the
//! scheduler, any task. A wait for a quota comes before all, because nothing that ran meanwhile caused
//! it. Time that the recorder did not see, and time in which the CPU was idle, is reported as
//! *unexplained* and attributed to nothing.

mod culprit;
mod join;
mod rank;
mod tally;
#[cfg(test)]
mod tests;
mod window;
mod wire;
mod words;

pub use join::{Span, join};
pub use tally::BlameTally;
pub use window::{Window, windows};
pub use wire::{from_wire, to_wire};

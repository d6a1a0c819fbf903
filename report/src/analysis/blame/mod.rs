//! Who had the CPU while a segment of a slow probe lasted: the join of a probe's stamps with what
//! a recorder saw on that CPU.
//!
//! At each moment of the segment's window the CPU belongs to one thing, and what is closer to the
//! hardware goes first: a hard interrupt, interrupts off, a softirq, a task that does not call the
//! scheduler, any task. A wait for a quota goes before all: nothing that ran meanwhile caused it. What the recorder did not see, and
//! the time in which the CPU was idle, is *unexplained*: it is said, and never given to anybody.

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

//! profile: which code had the CPUs, or what tasks waited for: stacks with their weights, as text,
//! as folded lines, and as the tree that a flame graph is drawn from.

mod context; // what kind of code a stack is of
mod flame; // the tree
mod folded; // lines for other programs
mod measure; // all stacks of a run
mod pprof; // a file for pprof
mod stack; // a row

pub use context::Context;
pub use flame::{Flame, Kind, Node};
pub use folded::{Folding, folded};
pub use measure::{Measure, Profile};
pub use pprof::{Taken, pprof};
pub use stack::{NO_STACK, Stack, UNKNOWN, function, stack_header};

//! `pingtrace profile`: which code has the CPUs, or what tasks wait for.
//!
//! On the CPU: a software clock of each CPU samples what it interrupts. Off the CPU: each switch keeps the
//! stacks of the task that leaves, and adds the time until that task is back. Stacks are counted in the
//! kernel and named while the processes are still there.

mod args;
mod names;
mod programs;
mod run;

pub use args::Args;
pub use run::run;

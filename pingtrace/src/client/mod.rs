//! The client: sends probes on schedule, and finds out what became of each.

mod args;
mod journey;
mod negotiation;
mod overflows;
pub mod plan;
mod refusals;
mod run;
pub mod schedule;
mod sender;
mod session;

pub use args::Args;
pub use run::run;

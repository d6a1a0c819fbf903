//! The client: sends probes on schedule, and finds out what became of each.

mod journey;
pub mod negotiation;
mod overflows;
pub mod plan;
mod refusals;
pub mod run;
pub mod schedule;
pub mod sender;
pub mod session;

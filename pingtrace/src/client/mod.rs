//! The client: sends probes on schedule, and finds out what became of each.

mod args;
mod core;
mod echo;
mod host_names;
mod index;
mod journey;
mod negotiation;
mod overflows;
pub mod plan;
mod receiver;
mod refusals;
mod run;
pub mod schedule;
mod sender;
mod session;
mod slot_stamps;
mod this_host;

pub use args::Args;
pub use run::run;

//! The client: sends probes on schedule, and finds out what became of each.

pub(crate) mod args;
pub(crate) mod core;
mod due;
mod echo;
pub(crate) mod host_names;
pub(crate) mod index;
mod joining;
pub(crate) mod journey;
mod key_check;
mod negotiation;
mod overflows;
pub mod plan;
mod receiver;
mod refusals;
mod run;
pub mod schedule;
mod sender;
mod session;
pub(crate) mod slot_stamps;
mod target;
pub(crate) mod target_list;
mod this_host;
mod warm_up;

pub use args::Args;
pub use run::run;

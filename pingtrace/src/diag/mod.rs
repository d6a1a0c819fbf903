//! The companions, subcommands that look at one host, and what they share. Each loads its own kernel
//! programs, turns what they saw into rows, and writes them to a sink.

mod args;
mod companions;

pub mod iofsstat;
pub mod irqoff;
pub mod memleak;
pub mod nosched;
pub mod profile;
pub mod runqlat;

pub(crate) mod cgroups;
mod floor;
mod monitor;
pub(crate) mod stolen;

pub mod trial;

pub use companions::Companion;

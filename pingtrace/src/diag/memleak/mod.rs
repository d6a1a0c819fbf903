//! `pingtrace memleak`: which allocator grows, and which code holds its objects.
//!
//! First the kernel's own accounting is read repeatedly, which costs nothing; only what grows
//! there, or what was asked for, is followed object by object. At the end both are compared: what
//! the tracker holds and the accounting does not was freed where no tracepoint is. Frees by RCU take
//! time to reach the accounting, so a suspected leak is checked again before it is reported.

mod args;
mod run;

mod findings;
mod monitor;
mod sites;

mod accounting;
mod follow;
mod pages;
mod programs;
mod reclaim;
pub(crate) mod tracker;

mod chart;

pub use args::Args;
pub(super) use follow::Follow;
pub(super) use programs::note;
pub use run::run;
pub(super) use tracker::{Options, Tracker};

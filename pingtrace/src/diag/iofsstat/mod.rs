//! `pingtrace iofsstat`: which process reads and writes which device and file.

mod args;
mod run;

mod cycle;
pub(crate) mod programs;

pub(crate) mod devices;
mod history;
mod names;

pub use args::{Args, Mode};
pub(super) use programs::Programs;
pub use run::run;

//! What is done with saved runs.

pub mod diff; // two of them side by side
pub mod files; // where they are
pub mod mesh; // those of many hosts
pub mod replay; // one of them again
mod span; // a part of the time of one

//! How to serve.

use crate::kernel::lab_clock::LabClock;
use std::time::Duration;

/// What a server can be told.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// When to end; never by itself if this is not given.
    pub time: Option<Duration>,
    /// The devices on which replies are stamped; all if there are none.
    pub interface: Vec<String>,
    /// Say what held up a slow segment that took this long.
    pub explain: Option<Duration>,
    /// Stamp in the own network namespace only.
    pub nslocal: bool,
    /// Host number in the stamps.
    pub userid: Option<u16>,
    /// Account for what the programs take.
    pub debug: bool,
    /// By how much the stamps are wrong on purpose.
    pub lab_clock: Option<LabClock>,
}

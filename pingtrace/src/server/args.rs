//! The options of a server.

use crate::kernel::lab_clock::LabClock;
use std::time::Duration;

/// The options of a server.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Duration of the server; endless if absent.
    pub time: Option<Duration>,
    /// The devices on which replies are stamped; all if there are none.
    pub interface: Vec<String>,
    /// Further UDP ports of tunnels.
    pub tunnel: Vec<u16>,
    /// Explain slow segments of at least this length.
    pub explain: Option<Duration>,
    /// Stamp in the own network namespace only.
    pub nslocal: bool,
    /// Host number in the stamps.
    pub userid: Option<u16>,
    /// Send no names of namespaces and devices.
    pub private: bool,
    /// Report whom the server serves each time this has passed; 0: never.
    pub stat_interval: Option<Duration>,
    /// Count the run times of the programs.
    pub debug: bool,
    /// The error of the stamps, in laboratories.
    pub lab_clock: Option<LabClock>,
}

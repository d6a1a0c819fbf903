//! What a run keeps beside what its kind does, as it was asked for: said before it is confined.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What was said so far.
static EXTRA: Mutex<Extra> = Mutex::new(Extra {
    read: Vec::new(),
    written: Vec::new(),
    accepts: false,
    takes_terminal: false,
    asks_drivers: false,
});

/// What is kept beside what the kind of run keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// Directories of files that are read.
    pub(super) read: Vec<PathBuf>,
    /// Directories of files that are written.
    pub(super) written: Vec<PathBuf>,
    /// Connections are accepted, on sockets that listen already.
    pub(super) accepts: bool,
    /// The settings of a terminal are changed.
    pub(super) takes_terminal: bool,
    /// Drivers of devices are asked what they count.
    pub(super) asks_drivers: bool,
}

/// Files of this directory will be read.
pub fn allow_reading(directory: &Path) {
    change(|extra| extra.read.push(directory.to_owned()));
}

/// Files of this directory will be written.
pub fn allow_writing(directory: &Path) {
    change(|extra| extra.written.push(directory.to_owned()));
}

/// Connections will be accepted on sockets that listen already.
pub fn allow_accepting() {
    change(|extra| extra.accepts = true);
}

/// The settings of the terminal will be changed, and given back.
pub fn allow_terminal() {
    change(|extra| extra.takes_terminal = true);
}

/// Drivers will be asked what they count, unless the run could also change their settings.
pub fn allow_drivers() {
    change(|extra| extra.asks_drivers = true);
}

/// What was said.
pub(super) fn taken() -> Extra {
    change(|extra| extra.clone())
}

fn change<T>(change: impl FnOnce(&mut Extra) -> T) -> T {
    change(&mut EXTRA.lock().unwrap_or_else(PoisonError::into_inner))
}

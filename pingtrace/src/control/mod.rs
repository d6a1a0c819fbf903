//! What signals ask a run to do, and what a service manager is told of it.

mod service;

pub use service::{Part, Pulse, Service};

use crate::units::monotonic_ns;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How soon a signal ends a wait.
const TICK: Duration = Duration::from_millis(50);
/// How often a wait checks whether it is over.
const ASK: Duration = Duration::from_millis(500);

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// Open files again: somebody moved the logs away, or wrote other keys.
    Reopen,
    /// End the run: the terminal is gone. Not under `nohup`.
    Stop,
}

impl Hangup {
    /// For a run with such files, or without.
    pub fn of_files(has_files: bool) -> Self {
        if has_files { Self::Reopen } else { Self::Stop }
    }
}

/// Flags set by signals: end the run; open files again; print the summary so far. And the service manager.
#[derive(Debug, Default)]
pub struct Control {
    /// Set by SIGINT, SIGTERM, or a SIGHUP that ends the run.
    pub stop: Arc<AtomicBool>,
    reopen: Arc<AtomicBool>,
    summary: Arc<AtomicBool>,
    signals: Vec<i32>,
    /// What [`Control::end`] makes readable.
    wakes: Mutex<Vec<UnixStream>>,
    part: Part,
}

/// What signals asked for since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// SIGHUP: open the logs, or the file of keys, again.
    pub reopen: bool,
    /// SIGQUIT or SIGUSR1: print the summary so far, and go on.
    pub summary: bool,
}

impl Control {
    /// Installs the signal handlers that set the flags; `service`: who is told of the run.
    pub fn by_signals(hangup: Hangup, service: &Service) -> Result<Self> {
        let mut control = Self {
            part: service.part(),
            ..Self::default()
        };
        let at_hangup = match hangup {
            Hangup::Reopen => Some(&control.reopen),
            Hangup::Stop => Some(&control.stop).filter(|_| !is_ignored(SIGHUP)),
        };
        let flags = [
            (SIGINT, Some(&control.stop)),
            (SIGTERM, Some(&control.stop)),
            (SIGHUP, at_hangup),
            (SIGQUIT, Some(&control.summary)),
            (SIGUSR1, Some(&control.summary)),
        ];
        let mut signals = Vec::new();
        for (signal, flag) in flags {
            let Some(flag) = flag else { continue };
            signal_hook::flag::register(signal, Arc::clone(flag)).context("handle signals")?;
            signals.push(signal);
        }
        control.signals = signals;
        Ok(control)
    }

    /// Whether the run is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes what was asked for since the last call; [`Part::reloaded`] says that files were opened again.
    pub fn asked(&self) -> Asked {
        let reopen = self.reopen.swap(false, Ordering::Relaxed);
        self.part.reloads(reopen);
        Asked {
            reopen,
            summary: self.summary.swap(false, Ordering::Relaxed),
        }
    }

    /// What the service manager is told of.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Ends the run, as SIGTERM does.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        for mut wake in wakes.iter() {
            // One that is full is readable already.
            let _ = wake.write(&[0]);
        }
    }

    /// A descriptor that becomes readable when any of the signals has set its flag, or the run is to end.
    pub fn wake(&self) -> Result<UnixStream> {
        let (read, write) = UnixStream::pair().context("make the signal pipe")?;
        read.set_nonblocking(true).context("make the signal pipe")?;
        for signal in &self.signals {
            let write = write.try_clone().context("make the signal pipe")?;
            signal_hook::low_level::pipe::register(*signal, write).context("handle signals")?;
        }
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.push(write);
        Ok(read)
    }

    /// Sleeps until then; `false` when the run is to end.
    pub fn sleep_until(&self, until: Instant) -> bool {
        loop {
            self.part.goes_on(monotonic_ns(), || None);
            let left = until.saturating_duration_since(Instant::now());
            if self.stopped() || left.is_zero() {
                return !self.stopped();
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// [`Self::sleep_until`], which also ends when `is_over`; that is checked twice a second.
    pub fn sleep_unless(&self, until: Instant, mut is_over: impl FnMut() -> bool) -> bool {
        loop {
            let next = until.min(Instant::now() + ASK);
            if !self.sleep_until(next) || is_over() {
                return false;
            }
            if next == until {
                return true;
            }
        }
    }
}

/// Whether this process was started with a signal ignored, as `nohup` does.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

/// The same, from the text of /proc/PID/status.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_was_ignored_from_the_start_is_known() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
    }
}

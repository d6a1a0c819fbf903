//! What signals ask a run to do.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How soon a signal ends a wait.
const TICK: Duration = Duration::from_millis(50);
/// How often a wait asks whether it is over.
const ASK: Duration = Duration::from_millis(500);

/// Set by signals: end the run; reopen the logs.
#[derive(Debug, Default)]
pub struct Control {
    /// SIGINT or SIGTERM came.
    pub stop: Arc<AtomicBool>,
    /// SIGHUP came.
    pub reopen: Arc<AtomicBool>,
}

impl Control {
    /// From now on signals set it.
    pub fn by_signals() -> Result<Self> {
        let control = Self::default();
        for (signal, flag) in [
            (SIGINT, &control.stop),
            (SIGTERM, &control.stop),
            (SIGHUP, &control.reopen),
        ] {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("handle signals")?;
        }
        Ok(control)
    }

    /// Whether the run is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps until then; `false` when the run is to end.
    pub fn sleep_until(&self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.stopped() || left.is_zero() {
                return !self.stopped();
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// The same, and ends too when `is_over`, which is asked twice a second.
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

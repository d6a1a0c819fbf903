//! The signals of a terminal: its size, and job control.

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::{flag, low_level};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What arrived since the last look.
#[derive(Debug)]
pub struct Signals {
    pipe: OwnedFd,
    /// SIGWINCH or SIGCONT: everything is drawn anew.
    redraw: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    /// Signals that end a program do so again.
    is_over: Arc<AtomicBool>,
}

impl Signals {
    /// Installs handlers. `alone`: nobody else handles those that end the run.
    pub fn install(alone: bool) -> Result<Self> {
        let flags = PipeFlags::NONBLOCK | PipeFlags::CLOEXEC;
        let (pipe, write) = pipe_with(flags).context("make the signal pipe (--live)")?;
        let signals = Self {
            pipe,
            redraw: Arc::default(),
            stop: Arc::default(),
            end: Arc::default(),
            is_over: Arc::default(),
        };
        let mut flags = vec![
            (SIGWINCH, &signals.redraw),
            (SIGCONT, &signals.redraw),
            (SIGTSTP, &signals.stop),
        ];
        if alone {
            flags.extend([SIGINT, SIGTERM, SIGHUP].map(|signal| (signal, &signals.end)));
        }
        for (signal, set) in flags {
            let install = || {
                flag::register_conditional_default(signal, Arc::clone(&signals.is_over))?;
                flag::register(signal, Arc::clone(set))?;
                low_level::pipe::register(signal, write.try_clone()?)
            };
            install().context("handle the signals of the terminal (--live)")?;
        }
        Ok(signals)
    }

    /// Whether everything is to be drawn anew.
    pub fn redraw(&self) -> bool {
        self.redraw.swap(false, Ordering::Relaxed)
    }

    /// Whether the process is to stop (Ctrl-Z).
    pub fn stop(&self) -> bool {
        self.stop.swap(false, Ordering::Relaxed)
    }

    /// Whether the view is to end.
    pub fn end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Makes it unreadable until the next signal.
    pub fn drain(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.pipe, &mut bytes).is_ok_and(|count| count > 0) {}
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl AsFd for Signals {
    /// Readable when a signal has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

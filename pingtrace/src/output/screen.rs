//! stdout and stderr: unbuffered, with their width and colours, and sharing one screen if both are
//! terminals. The last line of that screen may be the progress, which any other output removes first.

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use report::format::style::Style;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{isatty, tcgetpgrp};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use terminal_size::{Width, terminal_size_of};

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;
/// Moves to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Whether the progress is on the screen. Locked while something is written to the terminal; only
/// threads that do nothing but print wait for it.
static PROGRESS: Mutex<bool> = Mutex::new(false);

/// When text has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Everywhere, also in a file or a pipe
    Always,
    /// Nowhere
    Never,
}

impl Color {
    /// Makes [`Screen::style`] follow this choice.
    pub fn choose(self) {
        let choice = match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// The results.
    Stdout,
    /// Messages.
    Stderr,
}

impl Screen {
    /// Whether it is a terminal.
    pub fn is_terminal(self) -> bool {
        self.with(|fd| isatty(fd))
    }

    /// Whether its reader is gone: the other end of a pipe is closed, or the terminal hung up.
    pub fn is_abandoned(self) -> bool {
        self.with(|fd| {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
            poll(&mut fds, Some(&NOW)).is_ok_and(|ready| ready > 0)
                && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
        })
    }

    /// Width and colours of text there now: a terminal may be resized.
    pub fn style(self) -> Style {
        let choice = match self {
            Self::Stdout => AutoStream::choice(&io::stdout()),
            Self::Stderr => AutoStream::choice(&io::stderr()),
        };
        Style {
            width: self.columns(),
            color: choice != ColorChoice::Never,
        }
    }

    /// Of a terminal that says so.
    fn columns(self) -> Option<usize> {
        let size = self.with(|fd| isatty(fd).then(|| terminal_size_of(fd)).flatten());
        let (Width(columns), _) = size?;
        (columns > 0).then_some(usize::from(columns))
    }

    /// The descriptor, without the buffer that the standard library puts before it.
    fn with<T>(self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Stdout => f(io::stdout().as_fd()),
            Self::Stderr => f(io::stderr().as_fd()),
        }
    }

    /// Removes the progress until the guard is dropped; none if it is not a terminal.
    fn cleared(self) -> Option<MutexGuard<'static, bool>> {
        if !self.is_terminal() {
            return None;
        }
        let mut shown = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *shown) {
            let _ = Self::Stderr.with(|fd| write_some(fd, CLEAR.as_bytes()));
        }
        Some(shown)
    }
}

const NOW: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _clear = self.cleared();
        self.with(|fd| write_some(fd, bytes))
    }

    /// Nothing is buffered.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Like `write(2)`; waits if another process has made the descriptor non-blocking.
fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            result => return Ok(result?),
        }
    }
}

/// Whether there is a place for a progress line: stderr is a terminal, and this process is in
/// its foreground.
pub fn has_progress() -> bool {
    // Fails if it is not a terminal.
    let foreground = Screen::Stderr.with(|fd| tcgetpgrp(fd));
    foreground.is_ok_and(|group| group == getpgrp())
}

/// Replaces the progress line, cut to the terminal's width; an empty line removes it.
pub fn progress(line: &str) {
    let mut shown = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
    if line.is_empty() && !*shown || !has_progress() {
        return;
    }
    // The last column stays free: a full line makes some terminals wrap.
    let columns = Screen::Stderr.columns().unwrap_or(COLUMNS);
    let line: String = line.chars().take(columns.saturating_sub(1)).collect();
    let bytes = format!("{CLEAR}{line}");
    let written = Screen::Stderr.with(|fd| write_some(fd, bytes.as_bytes()));
    *shown = written.is_ok() && !line.is_empty();
}

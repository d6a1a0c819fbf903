//! The terminal of the live view: taken and given back, whatever ends the program.
//!
//! Lines and echo are off and the alternate screen is shown; signals of keys (Ctrl-C, Ctrl-Z) stay those of the
//! terminal. [`leave`] puts everything back, and can be called at any time by any thread: by the view's own at its
//! end, by a panic, and by the end of the program.

use crate::output::screen::Screen;
use anyhow::{Context, Result};
use ratatui_core::layout::Rect;
use ratatui_crossterm::crossterm::cursor::{Hide, Show};
use ratatui_crossterm::crossterm::queue;
use ratatui_crossterm::crossterm::style::ResetColor;
use ratatui_crossterm::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

/// The settings of the terminal as they were, while it is taken. Locked while something is written there.
static TAKEN: Mutex<Option<Termios>> = Mutex::new(None);
/// A terminal that takes nothing for so long is left as it is.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
const STEP: Duration = Duration::from_millis(10);
const STEPS: u32 = 100;

/// Takes the terminal, or takes it again after the process was stopped.
pub fn enter() -> Result<()> {
    give_back_at_panic();
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let stdout = io::stdout();
    let before = match taken.take() {
        Some(before) => before,
        None => tcgetattr(stdout.as_fd()).context("read the settings of the terminal (--live)")?,
    };
    let mut settings = before.clone();
    settings.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    tcsetattr(stdout.as_fd(), OptionalActions::Now, &settings)
        .context("change the settings of the terminal (--live)")?;
    *taken = Some(before);
    let mut bytes = Vec::new();
    queue!(bytes, EnterAlternateScreen, Hide).context("draw on the terminal (--live)")?;
    write_all(&bytes).context("draw on the terminal (--live)")
}

/// Gives the terminal back, if it is taken.
pub fn leave() {
    let Some(mut taken) = lock_in_time() else {
        return;
    };
    let Some(before) = taken.take() else { return };
    let mut bytes = Vec::new();
    // A vector takes everything; a terminal that is gone takes nothing.
    let _ = queue!(bytes, ResetColor, Show, LeaveAlternateScreen);
    let _ = write_all(&bytes);
    let _ = tcsetattr(io::stdout().as_fd(), OptionalActions::Now, &before);
}

/// Clears it.
pub fn clear() -> io::Result<()> {
    let mut frame = Frame::default();
    queue!(frame, Clear(ClearType::All))?;
    frame.flush()
}

/// Its size; nothing where it does not say.
pub fn area() -> Rect {
    let size = tcgetwinsize(io::stdout().as_fd());
    size.map_or(Rect::ZERO, |size| Rect::new(0, 0, size.ws_col, size.ws_row))
}

/// Another thread may be writing to a terminal that takes nothing more.
fn lock_in_time() -> Option<MutexGuard<'static, Option<Termios>>> {
    for _ in 0..STEPS {
        match TAKEN.try_lock() {
            Ok(taken) => return Some(taken),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(STEP),
        }
    }
    None
}

/// A panic's words are for the screen that was there before.
fn give_back_at_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave();
            others(panic);
        }));
    });
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        let mut ready = [PollFd::new(&stdout, PollFlags::OUT)];
        if poll(&mut ready, Some(&PATIENCE))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let written = Screen::Stdout.write(bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// What is drawn, until it is whole: then it is written at once, if the terminal is still taken.
#[derive(Debug, Default)]
pub struct Frame(Vec<u8>);

impl Write for Frame {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.0);
        let Some(taken) = lock_in_time() else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        taken.as_ref().map_or(Ok(()), |_| write_all(&bytes))
    }
}

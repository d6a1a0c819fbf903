//! Prints results to stdout or stderr on a thread of its own: a reader that stops reading, such as a
//! pager, delays neither the measurement nor the log. A reader that has left ends the printing and is not
//! an error; results that could not be written are counted, and the run goes on.

use crate::output::screen::Screen;
use crate::output::story;
use crate::output::stream::Stream;
use anyhow::{Context, Result, anyhow, bail};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Upper bound on results that wait for a slow reader; [`Full`] says what happens to further ones.
const QUEUE: usize = 16_384;
/// Upper bound on the delay of printed results.
const FLUSH: Duration = Duration::from_millis(100);
/// How often a quiet run checks whether its reader is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Upper bound on bytes written at once.
const BUFFER: usize = 1 << 16;

/// What happens to a result if too many are waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It is dropped and counted.
    Drop,
    /// It waits for the reader.
    Wait,
}

/// The printing thread.
pub struct Printer {
    full: Full,
    queue: SyncSender<String>,
    /// Lines that could not be written.
    thread: JoinHandle<u64>,
    dropped: u64,
    dropped_before: u64,
}

impl Printer {
    /// Prints to stdout; sets `abandoned` when its reader has left.
    pub fn stdout(full: Full, abandoned: Arc<AtomicBool>) -> Result<Self> {
        let out = Stream::new(Screen::Stdout, Screen::Stdout.is_terminal());
        let gone = || Screen::Stdout.is_abandoned();
        Self::start(full, move |results| {
            let lost = print_all(results, out, gone);
            abandoned.fetch_or(lost.is_err(), Ordering::Relaxed);
            lost.unwrap_or(0)
        })
    }

    /// Prints to stderr, whose lost lines are counted there.
    pub fn stderr(full: Full) -> Result<Self> {
        let out = Stream::new(story::Results, false);
        Self::start(full, |results| {
            print_all(results, out, || false).unwrap_or(0)
        })
    }

    fn start(
        full: Full,
        print: impl FnOnce(&Receiver<String>) -> u64 + Send + 'static,
    ) -> Result<Self> {
        let (queue, results) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("printer".into());
        let thread = thread.spawn(move || print(&results));
        Ok(Self {
            full,
            queue,
            thread: thread.context("start the printing thread")?,
            dropped: 0,
            dropped_before: 0,
        })
    }

    /// Prints a result; drops it if the reader has left.
    pub fn print(&mut self, result: String) {
        if self.full == Full::Wait {
            let _ = self.queue.send(result);
            return;
        }
        match self.queue.try_send(result) {
            Err(TrySendError::Full(_)) => self.dropped += 1,
            Ok(()) if self.dropped > 0 => {
                log::warn!(
                    "{} results were not printed: nobody read them",
                    self.dropped
                );
                self.dropped_before += std::mem::take(&mut self.dropped);
            }
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Prints the last result, and waits until all has been read.
    pub fn finish(self, last: String) -> Result<()> {
        let _ = self.queue.send(last);
        drop(self.queue);
        let printed = self.thread.join();
        let unwritten = printed.map_err(|_| anyhow!("the printing thread panicked"))?;
        if unwritten > 0 {
            bail!("{unwritten} lines could not be written to stdout");
        }
        let dropped = self.dropped + self.dropped_before;
        if dropped > 0 {
            bail!(
                "{dropped} results were not printed, for nobody read them; the statistics have them"
            );
        }
        Ok(())
    }
}

/// Writes all of a result to stdout.
pub fn to_stdout(result: &str) -> Result<()> {
    let mut out = Stream::new(Screen::Stdout, Screen::Stdout.is_terminal());
    match out.write(result.as_bytes()) {
        Some(why) if !out.is_abandoned() => bail!("write the result to stdout: {why}"),
        _ => Ok(()),
    }
}

/// Notes that the reader has left.
struct Abandoned;

/// Writes results until there are no more. Returns the number of lines that could not be written.
fn print_all<W: Write>(
    results: &Receiver<String>,
    mut out: Stream<W>,
    is_abandoned: impl Fn() -> bool,
) -> Result<u64, Abandoned> {
    let mut buffer = String::new();
    let mut due: Option<Instant> = None;
    loop {
        let wait = due.map_or(LOOK, |d| d.saturating_duration_since(Instant::now()));
        let result = results.recv_timeout(wait);
        let ended = result == Err(RecvTimeoutError::Disconnected);
        if let Ok(result) = &result {
            buffer.push_str(result);
            due.get_or_insert_with(|| Instant::now() + FLUSH);
        }
        if result.is_err() || buffer.len() >= BUFFER {
            if let Some(why) = out.write(buffer.as_bytes())
                && !out.is_abandoned()
            {
                log::warn!("stdout: {why}; lines that cannot be written are counted");
            }
            buffer.clear();
            due = None;
        }
        if out.is_abandoned() || result.is_err() && !ended && is_abandoned() {
            return Err(Abandoned);
        }
        if ended {
            return Ok(out.lost_lines());
        }
    }
}

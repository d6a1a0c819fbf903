//! Results for stdout or stderr, on a thread of their own: a reader that stops reading, such as a
//! pager, delays neither the measurement nor the log.

use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Results that wait for a slow reader; see [`Full`] for those behind them.
const QUEUE: usize = 16_384;
/// What is printed is seen after this long at the latest.
const FLUSH: Duration = Duration::from_millis(100);

/// What becomes of a result when too many wait already.
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
    thread: JoinHandle<io::Result<()>>,
    dropped: u64,
    dropped_before: u64,
}

impl Printer {
    /// Prints to `out`; sets `failed` when that does not work any more.
    pub fn start(
        out: impl Write + Send + 'static,
        full: Full,
        failed: Arc<AtomicBool>,
    ) -> Result<Self> {
        let (queue, results) = sync_channel(QUEUE);
        let print = move || {
            let printed = print_all(&results, out);
            failed.fetch_or(printed.is_err(), Ordering::Relaxed);
            unless_reader_left(printed)
        };
        let thread = thread::Builder::new().name("printer".into()).spawn(print);
        Ok(Self {
            full,
            queue,
            thread: thread.context("start the printing thread")?,
            dropped: 0,
            dropped_before: 0,
        })
    }

    /// Prints a result.
    pub fn print(&mut self, result: String) {
        if self.full == Full::Wait {
            // Of a thread that has ended, `finish` says why.
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
        printed
            .map_err(|_| anyhow!("the printing thread panicked"))?
            .context("write the result to stdout")?;
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
    let written = io::stdout().write_all(result.as_bytes());
    unless_reader_left(written).context("write the result to stdout")
}

/// A reader that leaves, such as `head`, has what it wanted: that is no error.
fn unless_reader_left(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn print_all(results: &Receiver<String>, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let mut due: Option<Instant> = None;
    loop {
        let wait = due.map_or(Duration::MAX, |d| {
            d.saturating_duration_since(Instant::now())
        });
        match results.recv_timeout(wait) {
            Ok(result) => {
                out.write_all(result.as_bytes())?;
                due.get_or_insert_with(|| Instant::now() + FLUSH);
            }
            Err(RecvTimeoutError::Timeout) => {
                out.flush()?;
                due = None;
            }
            Err(RecvTimeoutError::Disconnected) => return out.flush(),
        }
    }
}

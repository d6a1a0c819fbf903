//! The story of a run: what goes to stderr, on a thread of its own, so that whoever has something to
//! say waits for no reader. Lines that stderr refuses, or that too many others were before, are
//! counted and make the exit status 1; nothing ends because of them.

use crate::output::screen::{self, Screen};
use crate::output::stream::Stream;
use anyhow::{Context, Result};
use chrono::{DateTime, Local};
use flexi_logger::writers::LogWriter;
use flexi_logger::{DeferredNow, ErrorChannel, LogSpecification, Logger};
use log::{Level, LevelFilter, Record};
use report::printable::printable_lines;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait for a slow reader; those beyond are lost.
const QUEUE: usize = 16_384;
/// A run is long from then on: its lines carry date and time.
const LONG: Duration = Duration::from_secs(60);

/// From one progress line to the next.
const PROGRESS: Duration = Duration::from_secs(1);

/// What the thread is asked for.
enum Message {
    /// Whole lines.
    Lines(String),
    /// The progress; empty: none.
    Progress(String),
    /// An answer when all before it is done.
    Flush(SyncSender<()>),
}

static TELLER: OnceLock<SyncSender<Message>> = OnceLock::new();
/// Lines that nobody can have read.
static LOST: AtomicU64 = AtomicU64::new(0);
static DATED: AtomicBool = AtomicBool::new(false);
static STARTED: OnceLock<Instant> = OnceLock::new();

/// Sends the log's lines to stderr from now on, until the process ends.
pub fn start(level: LevelFilter) -> Result<()> {
    STARTED.get_or_init(Instant::now);
    let (queue, messages) = sync_channel(QUEUE);
    let thread = thread::Builder::new().name("story".into());
    thread
        .spawn(move || tell(&messages))
        .context("start the thread that writes to stderr")?;
    let _ = TELLER.set(queue);
    let logger = Logger::with(LogSpecification::builder().default(level).build());
    // The logger's own complaints would go to stderr, and panic where that cannot be written.
    let logger = logger.error_channel(ErrorChannel::DevNull);
    let handle = logger.log_to_writer(Box::new(Lines)).start();
    // Dropped, it would end the log.
    handle.map(std::mem::forget).context("start the logger")
}

/// From now on each line carries date and time: the run is a long one.
pub fn date_lines() {
    DATED.store(true, Ordering::Relaxed);
}

/// Writes these lines as they are; the last newline may be missing.
pub fn say(lines: impl Into<String>) {
    let mut lines = lines.into();
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
    let count = lines.matches('\n').count() as u64;
    let sent = |teller: &SyncSender<_>| teller.try_send(Message::Lines(lines)).is_ok();
    if !TELLER.get().is_some_and(sent) {
        LOST.fetch_add(count, Ordering::Relaxed);
    }
}

/// Rewrites the last line of a terminal at stderr in place; see [`screen::progress`].
pub fn progress(line: String) {
    // The next one comes soon.
    let _ = TELLER.get().map(|t| t.try_send(Message::Progress(line)));
}

/// When a progress line is to be rewritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    next: Option<Instant>,
}

impl Progress {
    /// True once a second, where there is a place for it; see [`screen::has_progress`].
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = Some(now + PROGRESS);
        screen::has_progress()
    }
}

/// Waits until all is written; the number of lines that could not be.
pub fn finish() -> u64 {
    progress(String::new());
    let (done, wait) = sync_channel(1);
    if let Some(teller) = TELLER.get()
        && teller.send(Message::Flush(done)).is_ok()
    {
        let _ = wait.recv();
    }
    LOST.load(Ordering::Relaxed)
}

fn tell(messages: &Receiver<Message>) {
    let mut stderr = Stream::new(Screen::Stderr, Screen::Stderr.is_terminal());
    let mut before = 0;
    while let Ok(message) = messages.recv() {
        match message {
            Message::Lines(lines) => {
                stderr.write(lines.as_bytes());
                LOST.fetch_add(stderr.lost_lines() - before, Ordering::Relaxed);
                before = stderr.lost_lines();
            }
            Message::Progress(line) => screen::progress(&line),
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// The log's end of the queue.
struct Lines;

impl LogWriter for Lines {
    fn write(&self, _now: &mut DeferredNow, record: &Record<'_>) -> io::Result<()> {
        let started = STARTED.get().copied().unwrap_or_else(Instant::now);
        let dated = DATED.load(Ordering::Relaxed) || started.elapsed() >= LONG;
        let when = dated.then(Local::now);
        // Names of devices, processes and files are in it.
        let text = printable_lines(&netns::without_numbers(&record.args().to_string()));
        say(line(record.level(), &text, when));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-11-28 09:14:07 pingtrace: warn: text`; information has no level.
fn line(level: Level, text: &str, when: Option<DateTime<Local>>) -> String {
    let when = when.map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M:%S ").to_string());
    match level {
        Level::Info => format!("{when}pingtrace: {text}"),
        level => {
            let level = level.as_str().to_ascii_lowercase();
            format!("{when}pingtrace: {level}: {text}")
        }
    }
}

/// stderr for text results, from a thread that may wait for a reader. What stderr refuses is counted
/// with the lines of the story.
#[derive(Clone, Copy, Debug)]
pub struct Results;

impl Write for Results {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines).into_owned();
        let sent = |teller: &SyncSender<_>| teller.send(Message::Lines(text)).is_ok();
        if !TELLER.get().is_some_and(sent) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn lines_of_long_runs_carry_date_and_time() {
        let when = Local.with_ymd_and_hms(2026, 11, 28, 9, 14, 7).single();
        let dated = line(Level::Warn, "late", when);
        assert_eq!(dated, "2026-11-28 09:14:07 pingtrace: warn: late");
        assert_eq!(line(Level::Info, "serving", None), "pingtrace: serving");
    }
}

//! The messages of a run, written to stderr on a thread of its own, so that no caller waits for a reader.
//! Lines that stderr refuses, or for which there is no room, are counted and make the exit status 1;
//! nothing ends because of them.

use crate::output::screen::{self, Screen};
use crate::output::stream::Stream;
use anyhow::{Context, Result};
use chrono::{DateTime, Local};
use flexi_logger::writers::LogWriter;
use flexi_logger::{DeferredNow, ErrorChannel, LogSpecification, Logger};
use log::{Level, LevelFilter, Record};
use report::printable::printable_lines;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Upper bound on lines that wait for a slow reader; further ones are lost.
const QUEUE: usize = 16_384;
/// From this duration on, the lines of a run carry date and time.
const LONG: Duration = Duration::from_secs(60);

/// Time between two progress lines.
const PROGRESS: Duration = Duration::from_secs(1);

/// Takes lines in the place of stderr.
type Cover = Box<dyn Fn(&str) + Send>;

/// A request to the thread.
enum Message {
    /// Whole lines.
    Lines(String),
    /// The progress; empty: none.
    Progress(String),
    /// From now on lines go there, while the terminal at stderr shows something else; `None`: to stderr again, those
    /// first that were kept.
    Cover(Option<Cover>),
    /// Answers when all earlier requests are done.
    Flush(SyncSender<()>),
}

static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();
/// Lines that were lost.
static LOST: AtomicU64 = AtomicU64::new(0);
static DATED: AtomicBool = AtomicBool::new(false);
static STARTED: OnceLock<Instant> = OnceLock::new();

/// Writes the log's lines to stderr, until the process ends.
pub fn start(level: LevelFilter) -> Result<()> {
    STARTED.get_or_init(Instant::now);
    let (queue, messages) = sync_channel(QUEUE);
    let thread = thread::Builder::new().name("story".into());
    thread
        .spawn(move || write_messages(&messages))
        .context("start the thread that writes to stderr")?;
    let _ = WRITER.set(queue);
    let logger = Logger::with(LogSpecification::builder().default(level).build());
    // The logger would write its own errors to stderr, and panic if that cannot be written.
    let logger = logger.error_channel(ErrorChannel::DevNull);
    let handle = logger.log_to_writer(Box::new(Lines)).start();
    // Dropped, it would end the log.
    handle.map(std::mem::forget).context("start the logger")
}

/// Makes each line carry date and time, for a long run.
pub fn date_lines() {
    DATED.store(true, Ordering::Relaxed);
}

thread_local! {
    /// What the lines of this thread are about.
    static SUBJECT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// As long as it lives, the lines of this thread are about one thing.
pub struct About(());

/// Begins each line of this thread with what it is about.
pub fn about(what: &Arc<str>) -> About {
    SUBJECT.replace(Some(Arc::clone(what)));
    About(())
}

impl Drop for About {
    fn drop(&mut self) {
        SUBJECT.take();
    }
}

/// Prints lines to stderr as they are; the last newline may be missing.
pub fn print(lines: impl Into<String>) {
    let mut lines = lines.into();
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
    let count = lines.matches('\n').count() as u64;
    let sent = |writer: &SyncSender<_>| writer.try_send(Message::Lines(lines)).is_ok();
    if !WRITER.get().is_some_and(sent) {
        LOST.fetch_add(count, Ordering::Relaxed);
    }
}

/// Rewrites the last line of a terminal at stderr in place; see [`screen::progress`].
pub fn progress(line: String) {
    // The next progress line follows soon.
    let _ = WRITER.get().map(|t| t.try_send(Message::Progress(line)));
}

/// Passes lines to the view that covers the terminal at stderr, and keeps them; they are written after [`uncover`].
pub fn cover(take: impl Fn(&str) + Send + 'static) {
    if Screen::Stderr.is_terminal() {
        let _ = WRITER
            .get()
            .map(|t| t.send(Message::Cover(Some(Box::new(take)))));
    }
}

/// Lines go to stderr again.
pub fn uncover() {
    let _ = WRITER.get().map(|t| t.send(Message::Cover(None)));
}

/// Decides when the progress line is rewritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    next: Option<Instant>,
}

impl Progress {
    /// True once a second if there is a place for it; see [`screen::has_progress`].
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = Some(now + PROGRESS);
        screen::has_progress()
    }
}

/// Waits until all is written. Returns the number of lines that were lost.
pub fn finish() -> u64 {
    progress(String::new());
    let (done, wait) = sync_channel(1);
    if let Some(writer) = WRITER.get()
        && writer.send(Message::Flush(done)).is_ok()
    {
        let _ = wait.recv();
    }
    LOST.load(Ordering::Relaxed)
}

fn write_messages(messages: &Receiver<Message>) {
    let mut stderr = Stream::new(Screen::Stderr, Screen::Stderr.is_terminal());
    let mut before = 0;
    let mut cover: Option<Cover> = None;
    let mut kept = Kept::default();
    while let Ok(message) = messages.recv() {
        let message = match (message, &cover) {
            (Message::Lines(lines), Some(cover)) => {
                cover(&lines);
                kept.push(lines);
                continue;
            }
            (Message::Cover(next), _) => {
                cover = next;
                if cover.is_some() {
                    continue;
                }
                Message::Lines(kept.take())
            }
            (message, _) => message,
        };
        match message {
            Message::Lines(lines) => {
                stderr.write(lines.as_bytes());
                LOST.fetch_add(stderr.lost_lines() - before, Ordering::Relaxed);
                before = stderr.lost_lines();
            }
            Message::Progress(line) => screen::progress(&line),
            Message::Flush(done) => drop(done.send(())),
            Message::Cover(_) => {}
        }
    }
}

/// Lines that wait until the terminal is uncovered.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    /// Earlier ones, for which there was no room.
    gone: u64,
}

impl Kept {
    /// At most so many.
    const MAX: usize = 1000;

    fn push(&mut self, lines: String) {
        self.lines.push_back(lines);
        if self.lines.len() > Self::MAX {
            self.lines.pop_front();
            self.gone += 1;
        }
    }

    fn take(&mut self) -> String {
        let mut text: String = std::mem::take(&mut self.lines).into_iter().collect();
        if self.gone > 0 {
            let gone = std::mem::take(&mut self.gone);
            text.insert_str(
                0,
                &format!("pingtrace: {gone} earlier messages were shown in the live view only\n"),
            );
        }
        text
    }
}

/// The log's end of the queue.
struct Lines;

impl LogWriter for Lines {
    fn write(&self, _now: &mut DeferredNow, record: &Record<'_>) -> io::Result<()> {
        let started = STARTED.get().copied().unwrap_or_else(Instant::now);
        let dated = DATED.load(Ordering::Relaxed) || started.elapsed() >= LONG;
        let when = dated.then(Local::now);
        // The text can contain names of devices, processes and files.
        let text = SUBJECT.with_borrow(|subject| match subject {
            Some(subject) => format!("{subject}: {}", record.args()),
            None => record.args().to_string(),
        });
        let text = printable_lines(&netns::without_numbers(&text));
        print(line(record.level(), &text, when));
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

/// Text results for stderr, from a thread that may wait for a reader. Refused lines are counted with
/// those of the messages.
#[derive(Clone, Copy, Debug)]
pub struct Results;

impl Write for Results {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines).into_owned();
        let sent = |writer: &SyncSender<_>| writer.send(Message::Lines(text)).is_ok();
        if !WRITER.get().is_some_and(sent) {
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

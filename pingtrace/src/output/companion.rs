//! Writes the rows of a companion. Printing and logging wait for nobody: what is not read in time is
//! dropped and counted.

use crate::control::Control;
use crate::options::{Origin, Output};
use crate::output::destinations::{self, Destinations};
use crate::output::entry::Entry;
use crate::output::story::{self, Progress};
use crate::units::Time;
use anyhow::Result;
use report::companion::{self, Chart, Row, Summary};
use report::draw;

/// Where the rows of a companion go.
pub struct Sink {
    to: Destinations,
    start: Time,
    companion: &'static str,
    progress: Progress,
}

impl Sink {
    /// Opens everything that is to be written. `header` is the table's first line or lines, and
    /// stands in text once, and once at the head of each log file.
    pub fn open(output: &Output, companion: &'static str, header: &str) -> Result<Self> {
        Ok(Self {
            to: Destinations::open(output, Origin::Companion(companion), header)?,
            start: Time::now(),
            companion,
            progress: Progress::default(),
        })
    }

    /// Whether there will be a picture: what is only needed for that need not be kept else.
    pub fn draws(&self) -> bool {
        self.to.draws()
    }

    /// Nobody reads stdout any more.
    pub fn failed(&self) -> bool {
        self.to.failed()
    }

    /// When it was opened.
    pub fn start(&self) -> Time {
        self.start
    }

    /// Writes a row everywhere.
    pub fn row(&mut self, row: &Row) {
        self.to.write(&Entry::Row(row));
    }

    /// Writes a line that is no row, such as the header of one of several tables, where text goes.
    pub fn heading(&mut self, line: &str) {
        self.to.write(&Entry::Heading(line));
    }

    /// Opens the log anew if that was asked for since the last call; true if the summary so far was.
    pub fn housekeep(&mut self, control: &Control) -> bool {
        let asked = control.asked();
        if asked.reopen {
            self.to.reopen();
        }
        asked.summary
    }

    /// Shows on a terminal how far the companion is, at most once a second. `scrolls`: its rows come
    /// so often that they show it.
    pub fn progress(&mut self, scrolls: bool, line: impl FnOnce() -> String) {
        if scrolls && self.to.scrolls() || !self.progress.is_due() {
            return;
        }
        story::progress(format!("{}: {}", self.companion, line()));
    }

    /// Prints the summary as it would be now to stderr.
    pub fn say_so_far(&self, summary: Summary) {
        destinations::say(&Entry::Row(&Row::Summary(self.complete(summary))));
    }

    /// With what the sink knows.
    fn complete(&self, summary: Summary) -> Summary {
        let now = Time::now();
        Summary {
            companion: self.companion,
            time: companion::Time(now.unix_ns),
            elapsed_ns: now.ns - self.start.ns,
            ..summary
        }
    }

    /// Writes the last row and the picture. Whatever fails, the rest is written.
    pub fn finish(self, summary: Summary, chart: impl FnOnce() -> Chart) -> Result<()> {
        let summary = Row::Summary(self.complete(summary));
        self.to.finish(&[Entry::Row(&summary)], |path| {
            Ok(draw::write(draw::Picture::Companion(&chart()), path)?)
        })
    }
}

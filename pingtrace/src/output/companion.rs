//! Writes the rows of a companion. Printing and logging never block: what is not read in time is dropped
//! and counted.

use crate::control::Control;
use crate::options::{Origin, Output};
use crate::output::destinations::{self, Destinations};
use crate::output::entry::Entry;
use crate::output::story::{self, Progress};
use crate::units::Time;
use anyhow::Result;
use report::companion::{self, Chart, Row, Summary};
use report::draw;
use std::cell::LazyCell;
use std::path::{Path, PathBuf};

/// Where the rows of a companion go.
pub struct Sink {
    to: Destinations,
    start: Time,
    companion: &'static str,
    progress: Progress,
}

impl Sink {
    /// Opens all outputs. `header` is the first line or lines of the table: written once to text, and once
    /// at the head of each log file.
    pub fn open(output: &Output, companion: &'static str, header: &str) -> Result<Self> {
        Ok(Self {
            to: Destinations::open(output, Origin::Companion(companion), header)?,
            start: Time::now(),
            companion,
            progress: Progress::default(),
        })
    }

    /// Whether a picture will be drawn; if not, what only a picture needs is not kept.
    pub fn draws(&self) -> bool {
        self.to.draws()
    }

    /// Where files are written.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.to.directories()
    }

    /// Whether the reader of stdout has left and nothing else is written.
    pub fn failed(&self) -> bool {
        self.to.failed()
    }

    /// When it was opened.
    pub fn start(&self) -> Time {
        self.start
    }

    /// Writes a row to every output.
    pub fn row(&mut self, row: &Row) {
        self.to.write(&Entry::Row(row));
    }

    /// Writes a line that is not a row, such as the header of one of several tables, to the text outputs.
    pub fn heading(&mut self, line: &str) {
        self.to.write(&Entry::Heading(line));
    }

    /// Reopens the log if SIGHUP asked for it since the last call. Returns whether the summary so far was
    /// asked for.
    pub fn housekeep(&mut self, control: &Control) -> bool {
        let asked = control.asked();
        if asked.reopen {
            self.to.reopen();
            control.part().reloaded();
        }
        asked.summary
    }

    /// Shows the progress on a terminal, at most once a second. `scrolls`: the rows come so often that
    /// they show it.
    pub fn progress(&mut self, scrolls: bool, line: impl FnOnce() -> String) {
        if scrolls && self.to.scrolls() || !self.progress.is_due() {
            return;
        }
        story::progress(format!("{}: {}", self.companion, line()));
    }

    /// Prints the summary as it would be now to stderr.
    pub fn report_so_far(&self, summary: Summary) {
        destinations::print_to_stderr(&Entry::Row(&Row::Summary(self.complete(summary))));
    }

    /// Adds what the sink knows to a summary.
    fn complete(&self, summary: Summary) -> Summary {
        let now = Time::now();
        Summary {
            companion: self.companion,
            time: companion::Time(now.unix_ns),
            elapsed_ns: now.ns - self.start.ns,
            ..summary
        }
    }

    /// Writes the last row and the picture; if one fails, the other is written all the same.
    pub fn finish(self, summary: Summary, chart: impl FnOnce() -> Chart) -> Result<()> {
        let chart = LazyCell::new(chart);
        self.finish_with(summary, |path| {
            Ok(draw::write(draw::Picture::Companion(&chart), path)?)
        })
    }

    /// The same with another picture than a chart.
    pub fn finish_with(self, summary: Summary, draw: impl Fn(&Path) -> Result<()>) -> Result<()> {
        let summary = Row::Summary(self.complete(summary));
        self.to.finish(&[Entry::Row(&summary)], draw)
    }

    /// The same with lines for another program, which the summary is no part of: it goes to stderr.
    pub fn finish_apart(
        self,
        summary: Summary,
        lines: &str,
        draw: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        self.report_so_far(summary);
        self.to.finish(&[Entry::Heading(lines)], draw)
    }
}

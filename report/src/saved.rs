//! A saved run: what `-o json` wrote, or the log's FILE.stat. Of several runs in one file, the last.

use std::io::{self, BufRead};

use crate::json::{self, Line};
use crate::model::{Run, Summary};

/// The end of a saved run.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The run. Absent if its line is in a log file that was rotated away.
    pub run: Option<Run>,
    /// Its last summary, with histograms.
    pub summary: Summary,
    /// Runs in the file before this one.
    pub earlier: u64,
}

/// Why a saved run could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("line {line}: {why}")]
    Read {
        /// From 1.
        line: usize,
        /// What the system says.
        why: io::Error,
    },
    /// A line is not what the schema says, or of a later version of it.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: json::Error,
    },
    /// No final statistics with histograms.
    #[error(
        "no final statistics: the {0}run was killed, still goes on, or was written by a version that did not save its distributions; the run ends them with SIGINT, SIGTERM, -C or -t"
    )]
    NoEnd(&'static str),
    /// No probe was answered.
    #[error("no probe was answered, so there is no delay to compare")]
    Unanswered,
}

/// Reads JSON lines to their end.
pub fn read(lines: impl BufRead) -> Result<Saved, Error> {
    let mut run: Option<Run> = None;
    let mut end: Option<Summary> = None;
    let mut earlier = 0;
    for (index, text) in lines.lines().enumerate() {
        let line = index + 1;
        let text = text.map_err(|why| Error::Read { line, why })?;
        match json::parse_line(&text).map_err(|why| Error::Line { line, why })? {
            // A run repeats its line when its mode changes.
            Line::Run(new) => {
                let starts = run.as_ref().map(|run| run.start_unix_ns) != Some(new.start_unix_ns);
                if starts && (run.is_some() || end.is_some()) {
                    earlier += 1;
                    end = None;
                }
                run = Some(new);
            }
            Line::Stat { summary, .. } => end = Some(summary),
            Line::Probe(_) | Line::Interval { .. } | Line::Other => {}
        }
    }
    let last = if earlier > 0 { "last " } else { "" };
    let summary = end.ok_or(Error::NoEnd(last))?;
    if summary.counters.replied == 0 {
        return Err(Error::Unanswered);
    }
    if summary.histograms.is_empty() {
        return Err(Error::NoEnd(last));
    }
    Ok(Saved {
        run,
        summary,
        earlier,
    })
}

//! A saved run: what `-o json` wrote, or the log's FILE.seq and FILE.stat. Of several runs in one
//! file, the last.

use std::io::{self, BufRead};

use crate::json::{self, Line};
use crate::model::{Names, Probe, Record, Run, Summary};
use crate::spans::Spans;

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
    let mut scan = Scan::default();
    scan.read(lines)?;
    let last = if scan.earlier > 0 { "last " } else { "" };
    let (_, mut summary) = scan.stat.ok_or(Error::NoEnd(last))?;
    if summary.counters.replied == 0 {
        return Err(Error::Unanswered);
    }
    if summary.histograms.is_empty() {
        return Err(Error::NoEnd(last));
    }
    if summary.spreads.is_empty() && scan.answered == summary.counters.replied {
        // Of a version that did not save them, and every probe is there.
        let of = summary.delays.iter().map(|stat| stat.segment);
        summary.spreads = of.map(|of| scan.spans.spread(of)).collect();
    }
    Ok(Saved {
        run: scan.run,
        summary,
        earlier: scan.earlier,
    })
}

/// What one or several files, the oldest first, have of their last run; all but the probes.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Its last `run` line, as a run repeats the line when its mode changes. Absent if the line is
    /// in a log file that was rotated away.
    pub run: Option<Run>,
    /// Its last statistics, and when they were written, nanoseconds since the Unix epoch.
    pub stat: Option<(i64, Summary)>,
    /// Runs before this one.
    pub earlier: u64,
    /// Its first `run` line came before its first probe: it was not rotated away.
    pub from_the_start: bool,
    /// Its recorded probes.
    pub recorded: u64,
    /// Those that were answered.
    pub answered: u64,
    /// How the delays of those varied.
    spans: Spans,
    /// Its first recorded probe.
    pub first: Option<Probe>,
    /// The names of namespaces and devices; of several for one, the first.
    pub names: Names,
    /// Lines of each file: before this run, and in all.
    pub lines: Vec<(usize, usize)>,
}

impl Scan {
    /// Reads a file to its end.
    pub fn read(&mut self, lines: impl BufRead) -> Result<(), Error> {
        self.lines.push((0, 0));
        for line in parsed(lines) {
            self.line(line?);
            if let Some((_, lines)) = self.lines.last_mut() {
                *lines += 1;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Run(new) => {
                if !self.is_of(&new) {
                    self.start_anew();
                }
                self.from_the_start |= self.recorded == 0;
                self.run = Some(new);
            }
            Line::Stat {
                time_unix_ns,
                summary,
            } => self.stat = Some((time_unix_ns, summary)),
            Line::Probe(read) => {
                self.recorded += 1;
                self.first.get_or_insert_with(|| read.record.probe.clone());
                let answered = read.record.probe.status.is_answered();
                self.answered += u64::from(answered);
                if let Some(breakdown) = &read.record.breakdown {
                    self.spans.record(breakdown);
                }
                self.names.add(read.names);
            }
            Line::Interval { .. } | Line::Other => {}
        }
    }

    /// Whether what came so far, if anything, belongs to this run.
    fn is_of(&self, run: &Run) -> bool {
        let start = run.start_unix_ns;
        match (&self.run, &self.first) {
            (Some(known), _) => known.start_unix_ns == start,
            (None, Some(first)) => first.sent_unix_ns >= start,
            (None, None) => self.stat.is_none(),
        }
    }

    /// What came so far belongs to an earlier run.
    fn start_anew(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        for (before, all) in &mut lines {
            *before = *all;
        }
        *self = Self {
            earlier: self.earlier + 1,
            lines,
            ..Self::default()
        };
    }

    /// The last statistics, if the run came to its end.
    pub fn end(&self) -> Option<&(i64, Summary)> {
        self.stat
            .as_ref()
            .filter(|(_, end)| end.delays.len() == end.histograms.len())
    }
}

/// The recorded probes of a file that was scanned, in the order in which they were written; of its
/// lines only those behind `before` and up to `all` ([`Scan::lines`]).
pub fn records(
    lines: impl BufRead,
    (before, all): (usize, usize),
) -> impl Iterator<Item = Result<Record, Error>> {
    let lines = numbered(lines).take(all).skip(before);
    lines.filter_map(|line| match line.and_then(parse) {
        Ok(Line::Probe(read)) => Some(Ok(read.record)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

fn parsed(lines: impl BufRead) -> impl Iterator<Item = Result<Line, Error>> {
    numbered(lines).map(|line| line.and_then(parse))
}

/// The lines with their numbers, from 1.
fn numbered(lines: impl BufRead) -> impl Iterator<Item = Result<(usize, String), Error>> {
    (1..).zip(lines.lines()).map(|(line, text)| {
        let text = text.map_err(|why| Error::Read { line, why })?;
        Ok((line, text))
    })
}

fn parse((line, text): (usize, String)) -> Result<Line, Error> {
    json::parse_line(&text).map_err(|why| Error::Line { line, why })
}

//! A saved run: what `-o json` wrote, or the log's FILE.seq and FILE.stat. Of several runs in one
//! file, the last.
//!
//! Files come from anywhere: the length of a line is bounded, and memory does not grow with the file. If
//! a file ends inside a line, or was cut off there and written on, its other lines count.

use crate::analysis::spans::Spans;
use crate::format::json::{self, Line, Part, ProbeRead, Shapes, Short};
use crate::model::{Names, Probe, ProbeResult, Run, Saved, Summary};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, ErrorKind, Read as _};

impl TryFrom<Scan> for Saved {
    type Error = Error;

    /// The end of the run that was read.
    fn try_from(scan: Scan) -> Result<Self, Error> {
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
        Ok(Self {
            run: scan.run,
            summary,
            earlier: scan.earlier,
        })
    }
}

/// Upper bound on the length of a line, bytes: no line of a run is a tenth as long.
const MAX_LINE: usize = 4 << 20;

/// Upper bound on the targets that are told apart.
const MAX_TARGETS: usize = 1 << 16;

/// Upper bound on the names of namespaces and devices that are kept.
const MAX_NAMES: usize = 1 << 16;

/// Why a saved run could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("line {line}: {why}")]
    Read {
        /// From 1.
        line: usize,
        /// The system's message.
        why: io::Error,
    },
    /// A line is longer than any of a run.
    #[error(
        "line {line} is longer than {} MiB, as no line of a run is: is it a saved run?",
        MAX_LINE >> 20
    )]
    Long {
        /// From 1.
        line: usize,
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
    scan.try_into()
}

/// What one or several files, the oldest first, contain of their last run, without the probes.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Only lines of this target count, and lines without one.
    pub target: Option<String>,
    /// Whether probes behind the first one are passed over, not read.
    probes: Probes,
    /// The targets of the runs.
    pub targets: BTreeSet<String>,
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
    /// Where it was cut off: which file, from 0, and which of its lines, from 1. Of several, the last.
    pub cut: Option<(usize, usize)>,
}

/// Which probes of a run are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probes {
    /// All.
    #[default]
    All,
    /// The first one, which tells whose the lines before a `run` line are: nearly all of a file is probes, and
    /// its statistics are of them.
    First,
}

impl Scan {
    /// Of a target's lines, if its name is given, and of those without one.
    pub fn of_target(target: Option<&str>, probes: Probes) -> Self {
        Self {
            target: target.map(str::to_owned),
            probes,
            ..Self::default()
        }
    }

    /// Whether the statistics at its end say how the delays varied; those of early versions do not, and it must
    /// be learnt from all probes.
    pub fn has_spreads(&self) -> bool {
        let summary = self.stat.as_ref().map(|(_, summary)| summary);
        summary.is_none_or(|summary| !summary.spreads.is_empty())
    }

    /// Reads a file to its end.
    pub fn read(&mut self, lines: impl BufRead) -> Result<(), Error> {
        let file = self.lines.len();
        self.lines.push((0, 0));
        let target = self.target.clone();
        let mut lines = Lines::of(lines, target);
        while let Some(line) = lines.next() {
            let (number, line) = line?;
            if let Some((_, lines)) = self.lines.last_mut() {
                *lines = number - 1;
            }
            match line {
                Some(Line::Short(short)) => self.count(lines.is_answered(number, &short)?),
                Some(line) => self.line(line),
                None => self.cut = Some((file, number)),
            }
            lines.pass_probes = self.probes == Probes::First && self.first.is_some();
            // Statistics say how the delays varied wherever there are probes in short.
            lines.whole_shorts = self.first.is_none();
            if let Some((_, lines)) = self.lines.last_mut() {
                *lines = number;
            }
        }
        self.targets.append(&mut lines.others);
        Ok(())
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Run(new, part) => {
                let target = new.target.iter().map(|target| target.name.clone());
                if self.targets.len() < MAX_TARGETS {
                    self.targets.extend(target);
                }
                if !self.is_of(&new) {
                    self.start_anew();
                }
                if self.run.is_none() {
                    self.from_the_start = part == Part::First && self.recorded == 0;
                }
                self.run = Some(new);
            }
            Line::Stat {
                time_unix_ns,
                summary,
            } => self.stat = Some((time_unix_ns, summary)),
            Line::Probe(read) => {
                self.count(read.result.probe.status.is_answered());
                self.first.get_or_insert_with(|| read.result.probe.clone());
                if let Some(breakdown) = &read.result.breakdown {
                    self.spans.record(breakdown);
                }
                self.learn_names(read.names);
            }
            Line::Shape(shape) => self.learn_names(shape.names),
            Line::Interval { .. } | Line::Short(_) | Line::Other => {}
        }
    }

    fn count(&mut self, answered: bool) {
        self.recorded += 1;
        self.answered += u64::from(answered);
    }

    fn learn_names(&mut self, names: Names) {
        if self.names.netns.len().max(self.names.device.len()) < MAX_NAMES {
            self.names.add(names);
        }
    }

    /// Whether the lines so far, if any, belong to this run.
    fn is_of(&self, run: &Run) -> bool {
        let start = run.start_unix_ns;
        match (&self.run, &self.first) {
            (Some(known), _) => known.start_unix_ns == start,
            (None, Some(first)) => first.sent_unix_ns >= start,
            (None, None) => self.stat.is_none(),
        }
    }

    /// The lines so far belong to an earlier run.
    fn start_anew(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        for (before, all) in &mut lines {
            *before = *all;
        }
        *self = Self {
            target: self.target.take(),
            probes: self.probes,
            targets: std::mem::take(&mut self.targets),
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
            .filter(|(_, end)| end.counters.replied == 0 || !end.delays.is_empty())
    }
}

/// A target's last run, and its last statistics with the time of their writing, nanoseconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Absent if its line is in a log file that was rotated away.
    pub run: Option<Run>,
    /// Without histograms. Absent if the run wrote none yet.
    pub stat: Option<(i64, Summary)>,
}

/// What became of each target in the end, by name; none: of the only one.
#[derive(Clone, Debug, Default)]
pub struct Ends(pub BTreeMap<Option<String>, End>);

impl Ends {
    /// Reads a file to its end; of several the oldest first.
    pub fn read(&mut self, from: impl BufRead) -> Result<(), Error> {
        let mut lines = Lines::of(from, None);
        lines.pass_probes = true;
        while let Some(line) = lines.next() {
            let (_, line) = line?;
            match line {
                Some(Line::Run(run, _)) => {
                    let target = run.target.as_ref().map(|target| target.name.clone());
                    let end = self.end(target);
                    let start = |run: &Run| run.start_unix_ns;
                    if end.run.as_ref().map(start) != Some(start(&run)) {
                        end.stat = None;
                    }
                    end.run = Some(run);
                }
                Some(Line::Stat {
                    time_unix_ns,
                    mut summary,
                }) => {
                    summary.histograms = Vec::new();
                    summary.spreads = Vec::new();
                    let target = str::from_utf8(&lines.text).ok().and_then(json::target_of);
                    self.end(target).stat = Some((time_unix_ns, summary));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, target: Option<String>) -> &mut End {
        self.0.entry(target).or_default()
    }
}

/// The recorded probes of a file that was scanned, in the order in which they were written; of its
/// lines only those behind `before` and up to `all` ([`Scan::lines`]).
pub fn results(
    lines: impl BufRead,
    (before, all): (usize, usize),
    target: Option<String>,
) -> impl Iterator<Item = Result<ProbeResult, Error>> {
    let mut lines = Lines::of(lines, target);
    lines.last = Some(all);
    lines.whole_shorts = true;
    lines.filter_map(move |line| match line {
        Ok((number, Some(Line::Probe(read)))) if number > before => Some(Ok(read.result)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// The next item of a file.
enum Next {
    Line(Box<Line>),
    /// A line that ends too early.
    Cut,
    /// One of another target, or a probe that is passed over.
    Other,
    End,
}

/// The lines of a file with their numbers, from 1; none for one that was cut off. Empty lines are left
/// out, and nothing comes behind an error.
struct Lines<R> {
    from: R,
    /// Lines of another target count as empty.
    target: Option<String>,
    /// The others.
    others: BTreeSet<String>,
    /// Whole lines of probes count as empty, and are not parsed.
    pass_probes: bool,
    /// Probes in short become whole ones.
    whole_shorts: bool,
    shapes: Shapes,
    text: Vec<u8>,
    number: usize,
    /// Lines behind this one are not read.
    last: Option<usize>,
    over: bool,
}

impl<R: BufRead> Lines<R> {
    fn of(from: R, target: Option<String>) -> Self {
        Self {
            from,
            target,
            others: BTreeSet::new(),
            pass_probes: false,
            whole_shorts: false,
            shapes: Shapes::default(),
            text: Vec::new(),
            number: 0,
            last: None,
            over: false,
        }
    }

    fn read(&mut self) -> Result<Next, Error> {
        let line = self.number;
        self.text.clear();
        let mut limited = (&mut self.from).take(MAX_LINE as u64 + 1);
        match limited.read_until(b'\n', &mut self.text) {
            Ok(0) => return Ok(Next::End),
            Ok(_) if self.text.len() > MAX_LINE => return Err(Error::Long { line }),
            Ok(_) => {}
            // The rest of a compressed file is missing.
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => {
                self.over = true;
                return Ok(Next::Cut);
            }
            Err(why) => return Err(Error::Read { line, why }),
        }
        self.parse()
    }

    fn parse(&mut self) -> Result<Next, Error> {
        let line = self.number;
        let is_short = json::is_short(&self.text);
        let is_probe = is_short || json::is_probe(&self.text);
        if self.pass_probes && is_probe && self.text.ends_with(b"\n") {
            return Ok(Next::Other);
        }
        // Blocks that a file system had not written when the power went are zeros.
        if self.text.starts_with(&[0]) {
            return Ok(Next::Cut);
        }
        let text = match str::from_utf8(&self.text) {
            Ok(text) => text,
            Err(_) if !self.text.ends_with(b"\n") => return Ok(Next::Cut),
            Err(why) => {
                let why = io::Error::new(ErrorKind::InvalidData, why);
                return Err(Error::Read { line, why });
            }
        };
        // Whose a probe in short is, its shape says.
        if let Some(target) = self.target.as_ref().filter(|_| !is_short)
            && let Some(other) = json::target_of(text)
            && other != *target
        {
            if self.others.len() < MAX_TARGETS {
                self.others.insert(other);
            }
            if !json::is_shape(text) {
                return Ok(Next::Other);
            }
        }
        if is_short
            && !self.whole_shorts
            && let Some(short) = Short::counted(text)
        {
            return self.pass_on(Line::Short(short));
        }
        match json::parse_line(text.trim_end_matches(['\r', '\n'])) {
            Ok(read) => self.pass_on(read),
            Err(why) if why.is_cut() => Ok(Next::Cut),
            Err(why) => Err(Error::Line { line, why }),
        }
    }

    /// The line, or what it means with the shapes so far.
    fn pass_on(&mut self, read: Line) -> Result<Next, Error> {
        let line = self.number;
        let wrong = |why| Error::Line { line, why };
        let read = match read {
            Line::Shape(shape) => {
                self.shapes.learn(&shape);
                Line::Shape(shape)
            }
            Line::Short(short) => {
                let (target, _) = self.shapes.known(&short).map_err(wrong)?;
                if self.target.is_some() && target.is_some() && self.target.as_deref() != target {
                    return Ok(Next::Other);
                }
                if self.whole_shorts {
                    let result = self.shapes.whole(&short).map_err(wrong)?;
                    let names = Names::default();
                    Line::Probe(Box::new(ProbeRead { result, names }))
                } else {
                    Line::Short(short)
                }
            }
            read => read,
        };
        Ok(Next::Line(Box::new(read)))
    }

    /// Whether a probe in short was answered.
    fn is_answered(&self, line: usize, short: &Short) -> Result<bool, Error> {
        let known = self.shapes.known(short);
        let (_, status) = known.map_err(|why| Error::Line { line, why })?;
        Ok(status.is_answered())
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(usize, Option<Line>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over && self.last.is_none_or(|last| self.number < last) {
            self.number += 1;
            let next = self.read();
            self.over |= matches!(next, Ok(Next::End) | Err(_));
            let is_left_out = matches!(next, Ok(Next::Other)) || self.text.trim_ascii().is_empty();
            if is_left_out && !self.over {
                continue;
            }
            return match next {
                Ok(Next::Line(line)) => Some(Ok((self.number, Some(*line)))),
                Ok(Next::Cut) => Some(Ok((self.number, None))),
                Ok(Next::End | Next::Other) => None,
                Err(error) => Some(Err(error)),
            };
        }
        None
    }
}

//! The entries that are written, of runs and companions, and their forms: text and JSON.

use report::analysis::hops::HopStats;
use report::companion::Row;
use report::format::json::Part;
use report::format::style::Style;
use report::format::{csv, json, text};
use report::model::{Names, OwnCost, ProbeResult, Run, Summary, Target};

/// One thing that is written.
pub enum Entry<'a> {
    /// A run began, or its mode changed.
    Run(&'a Run),
    /// A recorded probe.
    Probe(&'a ProbeResult, About<'a>),
    /// Statistics of an interval.
    Interval(Statistics<'a>, Shown),
    /// Statistics of the run so far, for the log.
    SoFar(Statistics<'a>),
    /// Statistics of the whole run.
    Summary(Statistics<'a>),
    /// The same of one of many targets: text has a line for it in a table at the end.
    Brief(Statistics<'a>),
    /// What a client with several targets cost.
    Cost(&'a Cost),
    /// Statistics of hops.
    Hops(&'a HopStats, About<'a>),
    /// A JSON line about a capture that did not take place.
    NoCapture(&'a str),
    /// A row of a companion.
    Row(&'a Row),
    /// A line of a companion that is not a row, such as the header of one of several tables.
    Heading(&'a str),
}

/// The context of a run's entries.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The run.
    pub run: &'a Run,
    /// Names of its namespaces and devices.
    pub names: &'a Names,
    /// Hops are shown.
    pub hops: bool,
}

/// Statistics of a run, or of a part of it.
#[derive(Clone, Copy)]
pub struct Statistics<'a> {
    /// The numbers.
    pub summary: &'a Summary,
    /// Of this run.
    pub about: About<'a>,
    /// Time of the statistics, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
}

/// What a run with several targets cost.
pub struct Cost {
    /// The cost.
    pub own: OwnCost,
    /// In this time, nanoseconds.
    pub elapsed_ns: u64,
    /// Until this time, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
}

/// Where an entry is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In the log alone.
    Logged,
    /// Also on stdout.
    Printed,
}

/// One of the log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// FILE.seq: the run's probes.
    Sequence,
    /// FILE.stat: the run's statistics.
    Statistics,
    /// FILE: a companion's rows.
    Rows,
}

impl Entry<'_> {
    /// Whole lines of text, before width and colours are applied.
    pub fn text(&self, style: &Style) -> Option<String> {
        Some(match self {
            Self::Probe(result, About { run, names, hops }) => {
                let mut lines = text::probe_line(result, run, names, style) + "\n";
                if *hops {
                    lines += &text::hops(result, names);
                }
                lines
            }
            Self::Interval(of, _) => text::interval(of.summary, of.time_unix_ns, of.about.run),
            Self::Summary(of) => {
                let About { run, names, .. } = of.about;
                text::summary(run, of.summary, names, style)
            }
            Self::Hops(hops, about) => {
                format!("\n{}", text::hop_table(hops, about.names, style))
            }
            Self::Cost(cost) => text::own_cost(&cost.own, cost.elapsed_ns, [].into_iter()),
            Self::Row(row) => row.text(),
            Self::Heading(line) => (*line).to_owned(),
            Self::Run(_) | Self::SoFar(_) | Self::Brief(_) | Self::NoCapture(_) => return None,
        })
    }

    /// JSON lines.
    pub fn json(&self) -> Option<String> {
        let line = match self {
            Self::Run(run) => json::run_line(run, Part::First),
            Self::Probe(result, about) => json::probe_line(result, about.names),
            Self::Interval(of, _) => {
                json::interval_line(of.summary, of.about.names, of.time_unix_ns)
            }
            Self::SoFar(of) | Self::Summary(of) | Self::Brief(of) => {
                json::stat_line(of.about.run, of.summary, of.about.names, of.time_unix_ns)
            }
            Self::Hops(hops, about) => json::hops_line(hops, about.names),
            Self::NoCapture(line) => (*line).to_owned(),
            Self::Cost(cost) => json::cost_line(&cost.own, cost.elapsed_ns, cost.time_unix_ns),
            Self::Row(row) => row.json(),
            Self::Heading(_) => return None,
        };
        let line = match self.target() {
            Some(target) => json::of_target(&line, &target.name),
            None => line,
        };
        Some(line + "\n")
    }

    /// A row of a table.
    pub fn csv(&self) -> Option<String> {
        match self {
            Self::Probe(result, about) => Some(csv::probe(result, about.run)),
            _ => None,
        }
    }

    /// Whose entry it is, if the client has several targets; the line of a run says it itself.
    fn target(&self) -> Option<&Target> {
        match self {
            Self::Probe(_, about) | Self::Hops(_, about) => about.run.target.as_ref(),
            Self::Interval(of, _) | Self::SoFar(of) | Self::Summary(of) | Self::Brief(of) => {
                of.about.run.target.as_ref()
            }
            Self::Run(_) | Self::NoCapture(_) | Self::Cost(_) | Self::Row(_) | Self::Heading(_) => {
                None
            }
        }
    }

    /// The new head of log files begun from now on, if the entry changes it, and whose part of the head it is:
    /// a target's name, or nobody's.
    pub fn header(&self) -> Option<(&str, String)> {
        match self {
            Self::Run(run) => {
                let target = run.target.as_ref().map_or("", |target| &target.name);
                Some((target, json::run_line(run, Part::Continued) + "\n"))
            }
            _ => None,
        }
    }

    /// The log files to which it belongs.
    pub fn log_files(&self) -> &'static [LogFile] {
        match self {
            Self::Run(_) | Self::NoCapture(_) => &[LogFile::Sequence, LogFile::Statistics],
            Self::Probe(..) | Self::Hops(..) => &[LogFile::Sequence],
            Self::Interval(..)
            | Self::SoFar(_)
            | Self::Summary(_)
            | Self::Brief(_)
            | Self::Cost(_) => &[LogFile::Statistics],
            Self::Row(_) | Self::Heading(_) => &[LogFile::Rows],
        }
    }

    /// Whether it is printed as well.
    pub fn is_printed(&self) -> bool {
        !matches!(self, Self::Interval(_, Shown::Logged) | Self::SoFar(_))
    }
}

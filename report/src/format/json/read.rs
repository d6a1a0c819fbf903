//! Lines read back.

use serde::Deserialize;

use super::error::{Error, VERSION};
use super::probe::{ProbeLine, ProbeRead};
use super::run::{Part, RunLine};
use super::stat::StatLine;
use crate::model::{Run, Summary};

/// A line read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The start of a run.
    Run(Run, Part),
    /// A recorded probe.
    Probe(Box<ProbeRead>),
    /// A summary.
    Stat {
        /// When it was written, nanoseconds since the Unix epoch.
        time_unix_ns: i64,
        /// The summary; means are rounded to nanoseconds, rates to 0.0001 ppm.
        summary: Summary,
    },
    /// A summary of one interval alone.
    Interval {
        /// When it ended, nanoseconds since the Unix epoch.
        time_unix_ns: i64,
        /// The summary; means are rounded to nanoseconds.
        summary: Summary,
    },
    /// Statistics of hops, a tick without a capture, or a line of a companion: not read back.
    Other,
}

/// Whose line it is, where the client has several targets.
pub fn target_of(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Tag {
        target: Option<String>,
    }
    serde_json::from_str::<Tag>(line).ok()?.target
}

/// Reads a line that one of the functions above wrote, or [`Line::Other`].
pub fn parse_line(line: &str) -> Result<Line, Error> {
    let read = serde_json::from_str(line).map_err(|error| match serde_json::from_str(line) {
        // A later version may look different in every other respect.
        Ok(Version { version }) if version > VERSION => Error::Version(version),
        _ => error.into(),
    })?;
    plausible(&read).map_err(Error::Implausible)?;
    Ok(match read {
        Read::Run(run) if run.version > VERSION => return Err(Error::Version(run.version)),
        Read::Run(run) => {
            let part = if run.continued {
                Part::Continued
            } else {
                Part::First
            };
            Line::Run(run.into(), part)
        }
        Read::Probe(probe) => Line::Probe(Box::new((*probe).into())),
        Read::Stat(stat) => Line::Stat {
            time_unix_ns: stat.time.0,
            summary: stat.into(),
        },
        Read::Interval(stat) => Line::Interval {
            time_unix_ns: stat.time.0,
            summary: stat.into(),
        },
        Read::Other => Line::Other,
    })
}

/// Checks that a run can have written this, so that later code can rely on it.
fn plausible(read: &Read) -> Result<(), String> {
    match read {
        Read::Run(run) if run.interval_ns == Some(0) => {
            Err("an interval of 0 ns, which would be a flood".to_owned())
        }
        Read::Run(_) | Read::Other => Ok(()),
        Read::Probe(probe) => probe.plausible(),
        Read::Stat(stat) | Read::Interval(stat) => stat.plausible(),
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Read {
    Run(RunLine<'static>),
    Probe(Box<ProbeLine<'static>>),
    Stat(StatLine<'static>),
    Interval(StatLine<'static>),
    #[serde(other)]
    Other,
}

/// All that can be relied on in a `run` line of whatever version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

//! Lines read back.

use serde::Deserialize;

use super::error::{Error, VERSION};
use super::probe::{ProbeLine, ProbeRead, plausible};
use super::run::{Part, RunLine};
use super::short::{Shape, ShapeLine, Short, ShortLine, is_short};
use super::stat::StatLine;
use crate::model::{Run, Summary};

/// A line read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The start of a run.
    Run(Run, Part),
    /// A recorded probe.
    Probe(Box<ProbeRead>),
    /// What probes in short have in common.
    Shape(Box<Shape>),
    /// A recorded probe in short.
    Short(Short),
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

/// Whether later lines need this one, whosever it is.
pub(crate) fn is_shape(line: &str) -> bool {
    !is_probe(line.as_bytes())
        && serde_json::from_str::<Tag>(line).is_ok_and(|tag| matches!(tag.kind, Kind::Shape))
}

/// Whether a line begins as [`super::probe_line`] begins one: all but a few lines of a run.
pub(crate) fn is_probe(line: &[u8]) -> bool {
    line.starts_with(br#"{"type":"probe","#)
}

/// Reads a line that one of the functions above wrote, or [`Line::Other`].
pub fn parse_line(line: &str) -> Result<Line, Error> {
    let read = read(line).map_err(|error| why_unreadable(line, error))?;
    check(&read).map_err(Error::Implausible)?;
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
        Read::Probe(probe) => {
            let read = ProbeRead::from(*probe);
            plausible(&read.result).map_err(Error::Implausible)?;
            Line::Probe(Box::new(read))
        }
        Read::Shape(shape) => Line::Shape(Box::new((*shape).try_into()?)),
        Read::Short(short) => Line::Short(short.into()),
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

/// What is wrong with a line that could not be read for this error. That it is no JSON comes first: a number that is
/// passed over is called invalid where it is cut off.
fn why_unreadable(line: &str, error: serde_json::Error) -> Error {
    // A later version may look different in every other respect.
    if let Ok(Version { version }) = serde_json::from_str(line)
        && version > VERSION
    {
        return Error::Version(version);
    }
    let json: Result<serde_json::Value, _> = serde_json::from_str(line);
    json.err().unwrap_or(error).into()
}

/// Checks that a run can have written this, so that later code can rely on it.
fn check(read: &Read) -> Result<(), String> {
    match read {
        Read::Run(run) if run.interval_ns == Some(0) => {
            Err("an interval of 0 ns, which would be a flood".to_owned())
        }
        Read::Stat(stat) | Read::Interval(stat) => stat.plausible(),
        // Probes are checked once they are whole.
        Read::Run(_) | Read::Probe(_) | Read::Shape(_) | Read::Short(_) | Read::Other => Ok(()),
    }
}

/// Reads a line in two steps, as serde would copy an enum with the tag inside before it reads it.
fn read(line: &str) -> Result<Read<'_>, serde_json::Error> {
    let kind = match line.as_bytes() {
        line if is_probe(line) => Kind::Probe,
        line if is_short(line) => Kind::Short,
        _ => serde_json::from_str::<Tag>(line)?.kind,
    };
    Ok(match kind {
        Kind::Run => Read::Run(serde_json::from_str(line)?),
        Kind::Probe => Read::Probe(serde_json::from_str(line)?),
        Kind::Shape => Read::Shape(serde_json::from_str(line)?),
        Kind::Short => Read::Short(serde_json::from_str(line)?),
        Kind::Stat => Read::Stat(serde_json::from_str(line)?),
        Kind::Interval => Read::Interval(serde_json::from_str(line)?),
        Kind::Other => Read::Other,
    })
}

#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Run,
    Probe,
    Shape,
    Short,
    Stat,
    Interval,
    #[serde(other)]
    Other,
}

enum Read<'a> {
    Run(RunLine<'a>),
    Probe(Box<ProbeLine<'a>>),
    Shape(Box<ShapeLine<'a>>),
    Short(ShortLine),
    Stat(StatLine<'a>),
    Interval(StatLine<'a>),
    Other,
}

/// All that can be relied on in a `run` line of whatever version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

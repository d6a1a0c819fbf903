//! A run as JSON, one object a line, written and read. The schema is
//! `schema/pingtrace.schema.json`, and a test holds the two together.
//!
//! Times are integer nanoseconds; a missing value is absent. Wall-clock times are RFC 3339 in UTC
//! with microseconds, so that a probe read back has its send time to the microsecond.

mod probe;
mod stat;
mod value;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::analysis::headline::Headline;
use crate::analysis::hops::{HopStat, HopStats};
use crate::model::{Endpoint, Host, Names, Point, Record, Run, Summary};
use crate::printable::{printable, printable_json};
use probe::ProbeLine;
use stat::StatLine;
pub(crate) use value::Hdr;
use value::{Hex, Numbers, Place, Time, is_default};

/// Version of the format, in the `run` line.
pub const VERSION: u32 = 1;

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not what the schema says.
    #[error("read JSON line: {}", shortened(.0))]
    Json(#[from] serde_json::Error),
    /// Written by a later version of the format.
    #[error("read JSON line: format version {0}, this reads up to {VERSION}")]
    Version(u32),
    /// A value that no run has.
    #[error("read JSON line: {0}")]
    Implausible(String),
}

/// Longest text of an error, which can quote a value of any length, in characters.
const MAX_ERROR: usize = 200;

/// An error in one line, of which the middle is left out if it is long.
fn shortened(error: &serde_json::Error) -> String {
    let text: Vec<char> = printable(&error.to_string()).chars().collect();
    let (start, end) = (MAX_ERROR / 2, text.len().saturating_sub(MAX_ERROR / 2));
    if start >= end {
        return text.iter().collect();
    }
    let [start, end]: [String; 2] = [&text[..start], &text[end..]].map(|t| t.iter().collect());
    format!("{start} ... {end}")
}

impl Error {
    /// The line ends too early: whoever wrote it did not get further.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Json(error) if error.is_eof())
    }
}

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

/// A probe read back.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeRead {
    /// The probe, its breakdown, and what made it slow.
    pub record: Record,
    /// The names that the line had for its stamps' namespaces and devices.
    pub names: Names,
}

/// Which part of a run's output a `run` line stands at the head of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first, or the only one; also where the line is repeated as the mode changed.
    First,
    /// A further one: a log file that was begun while the run went on.
    Continued,
}

/// The line that starts a run, or this part of it.
pub fn run_line(run: &Run, part: Part) -> String {
    write(&Written::Run(RunLine {
        continued: part == Part::Continued,
        version: VERSION,
        tool: concat!("pingtrace ", env!("CARGO_PKG_VERSION")).into(),
        start: Time(run.start_unix_ns),
        start_ns: run.start_ns,
        client: EndpointLine::from(&run.client),
        server: EndpointLine::from(&run.server),
        mode: Cow::Borrowed(&run.mode),
        interval_ns: run.interval_ns,
        threshold_ns: run.threshold_ns,
        size: run.size,
        points: run
            .points
            .iter()
            .map(|(point, hook)| Hook {
                point: *point,
                hook: Cow::Borrowed(hook),
            })
            .collect(),
    }))
}

/// The line of a recorded probe.
pub fn probe_line(record: &Record, names: &Names) -> String {
    write(&Written::Probe(ProbeLine::new(record, names)))
}

/// The line of a summary with its headline, written at this time, nanoseconds since the Unix epoch.
pub fn stat_line(run: &Run, summary: &Summary, names: &Names, time_unix_ns: i64) -> String {
    let headline = Headline::new(run, summary, names);
    let line = StatLine::new(summary, Some(&headline), names, time_unix_ns);
    write(&Written::Stat(line))
}

/// The line of one interval alone, which ended at this time, nanoseconds since the Unix epoch.
pub fn interval_line(summary: &Summary, names: &Names, time_unix_ns: i64) -> String {
    let line = StatLine::new(summary, None, names, time_unix_ns);
    write(&Written::Interval(line))
}

/// The line of a run's hops.
pub fn hops_line(hops: &HopStats, names: &Names) -> String {
    let stats = hops.hops();
    write(&Written::Hops(HopsLine {
        hops: stats.iter().map(|hop| HopLine::new(hop, names)).collect(),
        overflow: hops.overflow(),
        unordered: hops.unordered(),
    }))
}

/// A tick of a schedule that gave no capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoCapture {
    /// It began, or was to begin, and failed.
    Failed,
    /// Another one was still running.
    Skipped,
}

/// The line of a tick without a capture, at this time, nanoseconds since the Unix epoch, and why.
pub fn no_capture_line(what: NoCapture, reason: &str, time_unix_ns: i64) -> String {
    write(&Written::Capture(CaptureLine {
        time: Time(time_unix_ns),
        status: what,
        reason,
    }))
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

/// Whether a run can have said this; else why not. What is checked here need not be doubted later.
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

fn write(line: &Written) -> String {
    to_string(line)
}

/// A value as JSON that may reach a terminal.
pub(crate) fn to_string(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("keys are strings and nothing else can fail");
    printable_json(json)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written<'a> {
    Run(RunLine<'a>),
    Probe(ProbeLine<'a>),
    Stat(StatLine<'a>),
    Interval(StatLine<'a>),
    Hops(HopsLine<'a>),
    Capture(CaptureLine<'a>),
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

#[derive(Serialize, Deserialize)]
struct RunLine<'a> {
    version: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    continued: bool,
    tool: Cow<'a, str>,
    start: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    client: EndpointLine<'a>,
    server: EndpointLine<'a>,
    mode: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ns: Option<u64>,
    threshold_ns: u64,
    size: usize,
    points: Vec<Hook<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Hook<'a> {
    point: Point,
    hook: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct EndpointLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<Cow<'a, str>>,
    /// 16 hexadecimal digits: a number of 64 bits does not survive every JSON reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_id: Option<Hex>,
}

#[derive(Serialize)]
struct CaptureLine<'a> {
    time: Time,
    status: NoCapture,
    reason: &'a str,
}

#[derive(Serialize)]
struct HopsLine<'a> {
    hops: Vec<HopLine<'a>>,
    overflow: u64,
    unordered: u64,
}

#[derive(Serialize)]
struct HopLine<'a> {
    direction: &'static str,
    index: u16,
    point: Point,
    host: Host,
    #[serde(flatten)]
    place: Place<'a>,
    seen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_previous: Option<Numbers>,
}

impl<'a> From<&'a Endpoint> for EndpointLine<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            host: endpoint.host.as_deref().map(Cow::Borrowed),
            addr: endpoint.addr,
            dev: endpoint.dev.as_deref().map(Cow::Borrowed),
            host_id: endpoint.host_id.map(Hex),
        }
    }
}

impl From<EndpointLine<'_>> for Endpoint {
    fn from(line: EndpointLine) -> Self {
        Self {
            host: line.host.map(Cow::into_owned),
            addr: line.addr,
            dev: line.dev.map(Cow::into_owned),
            host_id: line.host_id.map(|hex| hex.0),
        }
    }
}

impl From<RunLine<'_>> for Run {
    fn from(line: RunLine) -> Self {
        Self {
            start_unix_ns: line.start.0,
            start_ns: line.start_ns,
            client: line.client.into(),
            server: line.server.into(),
            mode: line.mode.into_owned(),
            interval_ns: line.interval_ns,
            threshold_ns: line.threshold_ns,
            size: line.size,
            points: line
                .points
                .into_iter()
                .map(|Hook { point, hook }| (point, hook.into_owned()))
                .collect(),
        }
    }
}

impl<'a> HopLine<'a> {
    fn new(hop: &HopStat, names: &'a Names) -> Self {
        let key = hop.key;
        Self {
            direction: if key.reply { "reply" } else { "request" },
            index: key.index,
            point: key.point,
            host: key.host,
            place: Place::new(key.host, key.netns, key.ifindex, names),
            seen: hop.seen,
            since_previous: hop.since_previous.as_ref().map(Numbers::from),
        }
    }
}

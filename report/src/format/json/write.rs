//! Lines written.

use serde::Serialize;

use super::hops::HopsLine;
use super::probe::ProbeLine;
use super::run::{Part, RunLine};
use super::stat::StatLine;
use super::value::Time;
use crate::analysis::headline::Headline;
use crate::analysis::hops::HopStats;
use crate::model::{Names, OwnCost, ProbeResult, Run, Summary};
use crate::printable::printable_json;

/// The line that starts a run, or this part of it.
pub fn run_line(run: &Run, part: Part) -> String {
    to_string(&Written::Run(RunLine::new(run, part)))
}

/// The line of a recorded probe.
pub fn probe_line(result: &ProbeResult, names: &Names) -> String {
    to_string(&Written::Probe(ProbeLine::new(result, names)))
}

/// The line of a summary with its headline, written at this time, nanoseconds since the Unix epoch.
pub fn stat_line(run: &Run, summary: &Summary, names: &Names, time_unix_ns: i64) -> String {
    let headline = Headline::new(run, summary, names);
    let line = StatLine::new(summary, Some(&headline), names, time_unix_ns);
    to_string(&Written::Stat(line))
}

/// The line of one interval alone, which ended at this time, nanoseconds since the Unix epoch.
pub fn interval_line(summary: &Summary, names: &Names, time_unix_ns: i64) -> String {
    let line = StatLine::new(summary, None, names, time_unix_ns);
    to_string(&Written::Interval(line))
}

/// The same line as one of a target's, where the client has several.
pub fn of_target(line: &str, target: &str) -> String {
    let fields = line.strip_suffix('}').unwrap_or(line);
    format!("{fields},\"target\":{}}}", to_string(&target))
}

/// The line of a run's hops.
pub fn hops_line(hops: &HopStats, names: &Names) -> String {
    to_string(&Written::Hops(HopsLine::new(hops, names)))
}

/// The line of what a client with several targets cost, at this time, nanoseconds since the Unix epoch.
pub fn cost_line(own: &OwnCost, elapsed_ns: u64, time_unix_ns: i64) -> String {
    to_string(&Written::Cost(CostLine {
        time: Time(time_unix_ns),
        elapsed_ns,
        own,
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
    to_string(&Written::Capture(CaptureLine {
        time: Time(time_unix_ns),
        status: what,
        reason,
    }))
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
    Cost(CostLine<'a>),
}

#[derive(Serialize)]
struct CostLine<'a> {
    time: Time,
    elapsed_ns: u64,
    #[serde(rename = "self")]
    own: &'a OwnCost,
}

#[derive(Serialize)]
struct CaptureLine<'a> {
    time: Time,
    status: NoCapture,
    reason: &'a str,
}

/// A value as JSON that may reach a terminal.
pub(crate) fn to_string(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("keys are strings and nothing else can fail");
    printable_json(json)
}

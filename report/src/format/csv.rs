//! A run as a table: a row for each recorded probe (RFC 4180), a column for each segment.
//!
//! Times are nanoseconds; a cell is empty where there is nothing to say, so a segment without stamps is not one
//! that took no time.

use crate::model::{Breakdown, ProbeResult, Run, Segment};
use chrono::{DateTime, SecondsFormat, Utc};

/// The columns before those of the segments.
const COLUMNS: [&str; 13] = [
    "target",
    "seq",
    "time",
    "peer",
    "flow",
    "status",
    "total_ns",
    "response_ns",
    "owner",
    "segment",
    "certainty",
    "excess_ns",
    "lost_at",
];

/// The segments of a breakdown.
fn segments() -> impl Iterator<Item = Segment> {
    let all = Segment::ALL.into_iter();
    all.filter(|segment| *segment != Segment::Response)
}

/// The first row: the names of the columns.
pub fn header() -> String {
    let segments = segments().map(|segment| format!("{}_ns", segment.name()));
    row(COLUMNS.into_iter().map(str::to_owned).chain(segments))
}

/// The row of a probe.
pub fn probe(result: &ProbeResult, run: &Run) -> String {
    let ProbeResult {
        probe,
        breakdown,
        verdict,
        loss,
        ..
    } = result;
    let breakdown = breakdown.as_ref();
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let verdict = verdict.as_ref();
    let said = [
        text(run.target.as_ref().map(|target| target.name.as_str())),
        probe.seq.to_string(),
        DateTime::<Utc>::from_timestamp_nanos(probe.sent_unix_ns)
            .to_rfc3339_opts(SecondsFormat::Nanos, true),
        probe.peer.to_string(),
        probe.flow.to_string(),
        text(Some(probe.status.name())),
        number(breakdown.map(|b| b.total_ns)),
        number(
            breakdown
                .filter(|b| b.late_ns().is_some())
                .map(Breakdown::response_ns),
        ),
        text(verdict.map(|v| v.owner.name())),
        text(verdict.and_then(|v| v.segment).map(Segment::name)),
        text(verdict.map(|v| v.certainty.name())),
        number(verdict.map(|v| v.excess_ns)),
        text(loss.as_ref().map(|loss| loss.place.name())),
    ];
    let delay = |segment| {
        let mut delays = breakdown?.delays.iter();
        delays
            .find(|delay| delay.segment == segment)
            .map(|delay| delay.ns)
    };
    row(said
        .into_iter()
        .chain(segments().map(|segment| number(delay(segment)))))
}

/// Cells in one row, quoted where they have to be.
fn row(cells: impl Iterator<Item = String>) -> String {
    let mut writer = csv::WriterBuilder::new()
        .buffer_capacity(1024)
        .from_writer(Vec::new());
    // A vector takes everything.
    let _ = writer.write_record(cells);
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

//! What the companions find: rows of text and JSON lines, one enum for all of them, and the chart
//! that a companion's picture is drawn from.
//!
//! Times are integer nanoseconds and sizes bytes; what is unknown is absent in JSON and `-` in
//! text. Every companion ends with a [`Summary`], which says what was lost.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use serde::{Serialize, Serializer};

mod chart;
mod event;
pub mod iofsstat;
mod memleak;
mod tally;
mod waits;

pub use crate::units::Unit;
pub use chart::{Bar, Bars, Chart, Histogram, Mark, Panel, Series, Stacked, Timeline};
pub use event::{
    Class, Event, Frame, Kind, Ran, beyond_interrupt, beyond_tracing, event_header, function_of,
};
pub use memleak::{Cohort, Site, Verdict, memleak_header};
pub use tally::Tally;
pub use waits::{Form, Group, Lengths, Waits};

/// A row of any companion.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Row {
    /// irqoff, nosched, runqlat: something took longer than the threshold.
    Event(Box<Event>),
    /// runqlat: how long everyone, a process or a cgroup waited.
    Waits(Box<Waits>),
    /// runqlat: how long the run queue of a CPU was.
    Lengths(Lengths),
    /// iofsstat: a device in a cycle.
    Device(iofsstat::Device),
    /// iofsstat: what a process did in a cycle.
    Io(iofsstat::Io),
    /// memleak: the answer.
    Verdict(Verdict),
    /// memleak: who holds memory.
    Site(Box<Site>),
    /// The end of any companion.
    Summary(Summary),
}

impl Row {
    /// The row as a JSON line, without the newline.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("keys are strings and nothing else can fail")
    }

    /// The row as text, each line with its newline.
    pub fn text(&self) -> String {
        match self {
            Self::Event(event) => event.text(),
            Self::Waits(waits) => waits.text(),
            Self::Lengths(lengths) => lengths.text(),
            Self::Device(device) => device.text(),
            Self::Io(io) => io.text(),
            Self::Verdict(verdict) => verdict.text(),
            Self::Site(site) => site.text(),
            Self::Summary(summary) => summary.text(),
        }
    }
}

/// What a companion did, in its own words, and what it could not see.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The subcommand's name.
    pub companion: &'static str,
    /// When it was written.
    pub time: Time,
    /// How long was looked, ns.
    pub elapsed_ns: u64,
    /// One sentence that answers the question, if there is an answer.
    pub headline: String,
    /// What was counted, by name, in order.
    #[serde(serialize_with = "as_map")]
    pub counts: Vec<(String, u64)>,
    /// What happened and could not be shown: overwritten, refused, truncated.
    pub lost: u64,
    /// Of what `lost` consists, by name.
    #[serde(serialize_with = "as_map")]
    pub losses: Vec<(String, u64)>,
    /// What a reader has to know to read the rows right.
    pub notes: Vec<String>,
}

fn as_map<S: Serializer>(pairs: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, count)| (name, count)))
}

impl Summary {
    fn text(&self) -> String {
        let mut text = format!(
            "-- {} for {:.1} s",
            self.companion,
            self.elapsed_ns as f64 / 1e9
        );
        for (name, count) in &self.counts {
            let _ = write!(text, ", {count} {name}");
        }
        let _ = write!(text, ", {} lost", self.lost);
        let losses: Vec<String> = self
            .losses
            .iter()
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        if !losses.is_empty() {
            let _ = write!(text, " ({})", losses.join(", "));
        }
        let more = self
            .notes
            .iter()
            .chain(Some(&self.headline))
            .filter(|line| !line.is_empty());
        more.fold(text + "\n", |text, line| text + line + "\n")
    }
}

/// A moment, nanoseconds since the Unix epoch; RFC 3339 in UTC with microseconds in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    /// Local date and time with microseconds, for people.
    pub fn text(self) -> String {
        let utc = chrono::DateTime::from_timestamp_nanos(self.0);
        utc.with_timezone(&chrono::Local)
            .format("%Y-%m-%d_%H:%M:%S%.6f")
            .to_string()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let utc = chrono::DateTime::from_timestamp_nanos(self.0);
        serializer.serialize_str(&utc.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

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
pub mod memleak;
mod tally;
mod waits;

use crate::printable::printable_lines;
pub use crate::units::Unit;
pub use chart::{Bar, Bars, Chart, Histogram, Mark, Panel, Series, Stacked, Timeline};
pub use event::{
    Class, Event, Frame, Kind, Ran, beyond_interrupt, beyond_tracing, event_header, function_of,
};
pub use memleak::rows::{Cohort, Site, Verdict, memleak_header};
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
    Device(iofsstat::rows::Device),
    /// iofsstat: what a process did in a cycle.
    Io(iofsstat::rows::Io),
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
        crate::format::json::to_string(self)
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
        more.fold(text + "\n", |text, line| {
            text + &printable_lines(line) + "\n"
        })
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

#[cfg(test)]
mod tests {
    use super::iofsstat::rows::{File, Io, Of, Pages, Part, Who};
    use super::waits::Form;
    use super::*;
    use crate::companion::memleak::{Allocator, Leak};

    const EVIL: &str = "\x1b]0;x\x07\u{9b}2J\n\u{202e}";

    fn event(companion: Kind, class: Class) -> Row {
        let evil = || EVIL.to_owned();
        let ran = Ran {
            comm: evil(),
            tid: 3,
            ns: 9,
        };
        let frame = Frame {
            address: 7,
            name: Some(evil()),
        };
        Row::Event(Box::new(Event {
            companion,
            time: Time(0),
            cpu: 0,
            comm: evil(),
            tid: 2,
            lat_ns: 5,
            most_ns: None,
            class,
            vector: Some(evil()),
            victim: Some((evil(), 4)),
            nr_running: None,
            quota_ns: None,
            ran: vec![ran],
            stack: vec![frame],
            container: Some(evil()),
        }))
    }

    fn waits(pid: Option<u32>) -> Row {
        let group = Group {
            pid,
            comm: Some(EVIL.to_owned()),
            cgroup: Some(EVIL.to_owned()),
            container: Some(EVIL.to_owned()),
        };
        let time = (Time(0), 1_000);
        Row::Waits(Box::new(Waits::new(
            group,
            time,
            Form::Log2,
            vec![(1, 2, 3)],
        )))
    }

    fn io(of: Of) -> Row {
        Row::Io(Io {
            companion: "iofsstat",
            time: Time(0),
            cycle_ns: 1,
            dev: EVIL.to_owned(),
            who: Some(Who {
                comm: EVIL.to_owned(),
                pid: 1,
                tgid: 1,
                container: Some(EVIL.to_owned()),
            }),
            rd_count: 0,
            rd_bytes: 0,
            wr_count: 0,
            wr_bytes: 0,
            of,
        })
    }

    fn rows() -> Vec<Row> {
        let file = Some(EVIL.to_owned());
        let part = Part {
            via: EVIL.to_owned(),
            via_pid: 1,
            pages: Pages::File,
            file: file.clone(),
            inode: None,
        };
        let verdict = Verdict {
            companion: "memleak",
            time: Time(0),
            leak: Leak::Yes,
            confidence: Some(0.5),
            may_be_cache: false,
            what: EVIL.to_owned(),
        };
        let site = Site {
            companion: "memleak",
            alloc: Allocator::Slab,
            cache: Some(EVIL.to_owned()),
            site: Frame {
                address: 1,
                name: Some(EVIL.to_owned()),
            },
            live: 0,
            bytes: 0,
            allocs: 0,
            reused: 0,
            age_max_ns: None,
            slope_bytes_per_s: None,
            cohorts: Vec::new(),
            stack: Vec::new(),
            stack_live: None,
        };
        let summary = Summary {
            headline: EVIL.replace('\n', ""),
            notes: vec![EVIL.replace('\n', "")],
            ..Summary::default()
        };
        vec![
            event(Kind::Irqoff, Class::Hardirq),
            event(Kind::Nosched, Class::Hard),
            event(Kind::Runqlat, Class::Cpu),
            waits(Some(1)),
            waits(None),
            io(Of::File(File { file, inode: 1 })),
            io(Of::Part(part)),
            Row::Verdict(verdict),
            Row::Site(Box::new(site)),
            Row::Summary(summary),
        ]
    }

    #[test]
    fn names_in_rows_do_not_act_on_a_terminal() {
        for row in rows() {
            let (text, json) = (row.text(), row.json());
            for shown in [&text, &json] {
                let acts = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
                assert!(!shown.contains(acts), "{shown:?}");
            }
            assert!(text.contains("\\x1b]0;x\\x07\\x9b2J"), "{text}");
            if let Row::Event(event) = row {
                let label = event.label();
                assert!(
                    !label.contains(|c: char| c.is_control() && c != '\n'),
                    "{label:?}"
                );
            }
        }
    }
}

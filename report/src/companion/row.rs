//! A row of any companion.

use serde::Serialize;

use super::event::Event;
use super::iofsstat::rows::{Device, Io};
use super::memleak::{Site, Verdict};
use super::profile::Stack;
use super::summary::Summary;
use super::waits::{Lengths, Waits};
use crate::format::json::to_string;

/// A row of any companion.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Row {
    /// irqoff, nosched, runqlat: something took longer than the threshold.
    Event(Box<Event>),
    /// runqlat: the wait times of all tasks, a process or a cgroup.
    Waits(Box<Waits>),
    /// runqlat: how long the run queue of a CPU was.
    Lengths(Lengths),
    /// iofsstat: a device in a cycle.
    Device(Device),
    /// iofsstat: the requests or calls of a process in a cycle.
    Io(Io),
    /// memleak: the verdict.
    Verdict(Verdict),
    /// memleak: a site that holds memory.
    Site(Box<Site>),
    /// profile: a stack and its weight.
    Stack(Box<Stack>),
    /// The end of any companion.
    Summary(Summary),
}

impl Row {
    /// The row as a JSON line, without the newline.
    pub fn json(&self) -> String {
        to_string(self)
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
            Self::Stack(stack) => stack.text(),
            Self::Summary(summary) => summary.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companion::iofsstat::rows::{File, Io, Of, Pages, Part, Who};
    use crate::companion::memleak::{Allocator, Leak};
    use crate::companion::profile::Context;
    use crate::companion::{Form, Frame, Group, Kind, Ran, Time};
    use crate::model::Class;

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
        let stack = Stack {
            companion: "profile",
            comm: EVIL.to_owned(),
            pid: 1,
            context: Context::Task,
            count: 1,
            ns: 1,
            share: 1.0,
            kernel: vec![EVIL.to_owned()],
            user: vec![EVIL.to_owned()],
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
            Row::Stack(Box::new(stack)),
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

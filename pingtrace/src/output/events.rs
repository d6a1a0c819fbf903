//! Events for the system's log: slow and lost probes, and the rows of a companion, as the JSON lines that
//! they are on stdout. To journald with fields to search by, or to whoever reads /dev/log.
//!
//! Nothing waits long for a reader: after the first event that finds no place within [`PATIENCE`] the others
//! are tried once, until one finds it again. Lost events are counted.

use crate::output::entry::Entry;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};
use netns::reason;
use report::model::{ProbeResult, Run};
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// Where journald reads its own protocol.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Where the system's log is read.
const SYSLOG: &str = "/dev/log";
/// An event waits this long for its reader.
const PATIENCE: Duration = Duration::from_millis(100);
/// What the program is called there.
const IDENTIFIER: &str = "pingtrace";
/// The syslog facility of daemons.
const FACILITY: u8 = 3;

/// Who reads the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// systemd-journald.
    Journald,
    /// Who reads /dev/log.
    Syslog,
}

/// A socket to the system's log.
#[derive(Debug)]
pub struct Events {
    reader: Reader,
    path: PathBuf,
    socket: UnixDatagram,
    /// The last event found no place.
    full: bool,
    lost: u64,
}

/// How bad an event is, as syslog has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Priority {
    Warning = 4,
    Notice = 5,
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
struct Event<'a> {
    priority: Priority,
    /// A JSON line.
    line: &'a str,
    /// What it is searched by, in journald.
    fields: Vec<(&'static str, String)>,
}

impl Events {
    /// Fails if nobody reads there.
    pub fn open(reader: Reader) -> Result<Self> {
        let path = match reader {
            Reader::Journald => JOURNAL,
            Reader::Syslog => SYSLOG,
        };
        Self::to(reader, path.into())
    }

    fn to(reader: Reader, path: PathBuf) -> Result<Self> {
        let socket = UnixDatagram::unbound().context("make a socket for events")?;
        let trial = UnixDatagram::unbound().and_then(|trial| trial.connect(&path));
        trial.with_context(|| {
            let (option, who) = match reader {
                Reader::Journald => ("journald", "systemd-journald"),
                Reader::Syslog => ("syslog", "a syslog daemon or systemd-journald"),
            };
            format!(
                "send events to {} (-o {option}): {who} must run",
                path.display()
            )
        })?;
        socket
            .set_write_timeout(Some(PATIENCE))
            .context("limit the wait for the log")?;
        Ok(Self {
            reader,
            path,
            socket,
            full: false,
            lost: 0,
        })
    }

    /// Sends an entry if it is an event; `json` is the entry as JSON.
    pub fn write(&mut self, entry: &Entry<'_>, json: Option<&str>) {
        let Some(event) = json.and_then(|json| event(entry, json)) else {
            return;
        };
        let message = match self.reader {
            Reader::Journald => event.for_journald(),
            Reader::Syslog => event.for_syslog(Local::now(), std::process::id()),
        };
        if let Err(e) = self.send(&message) {
            if self.lost == 0 {
                let (path, why) = (self.path.display(), reason(&e));
                log::warn!("{path}: {why}; events that cannot be sent are counted");
            }
            self.lost += 1;
        }
    }

    /// By name each time, as the reader may be another one by now.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(message, &self.path).map(drop);
        let full = matches!(&sent, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        if full != self.full {
            self.full = full;
            self.socket.set_nonblocking(full)?;
        }
        sent
    }

    /// Fails if an event could not be sent.
    pub fn finish(self) -> Result<()> {
        if self.lost > 0 {
            bail!(
                "{} events could not be sent to {}",
                self.lost,
                self.path.display()
            );
        }
        Ok(())
    }
}

/// Whether an entry is an event, and which.
fn event<'a>(entry: &Entry<'_>, json: &'a str) -> Option<Event<'a>> {
    let line = json.trim_end();
    let (priority, fields) = match entry {
        Entry::Probe(result, about) => of_probe(result, about.run)?,
        Entry::Row(_) => (Priority::Notice, Vec::new()),
        _ => return None,
    };
    Some(Event {
        priority,
        line,
        fields,
    })
}

/// A probe that was lost, late or slow; without a threshold, slow is what has a verdict.
fn of_probe(result: &ProbeResult, run: &Run) -> Option<(Priority, Vec<(&'static str, String)>)> {
    let ProbeResult { probe, verdict, .. } = result;
    let answered = probe.status.is_answered();
    let is_slow = answered && (run.threshold_ns > 0 || verdict.is_some());
    let (priority, kind) = match &result.loss {
        Some(_) => (Priority::Warning, "lost"),
        None if probe.status.is_late() => (Priority::Warning, "late"),
        None if is_slow => (Priority::Notice, "slow"),
        None => return None,
    };
    let target = run.server.label().unwrap_or_else(|| probe.peer.to_string());
    let mut fields = vec![
        ("PINGTRACE_TARGET", target),
        ("PINGTRACE_EVENT", kind.to_owned()),
        ("PINGTRACE_SEQUENCE", probe.seq.to_string()),
    ];
    if let Some(verdict) = verdict {
        fields.push(("PINGTRACE_OWNER", verdict.owner.name().to_owned()));
        let segment = verdict.segment;
        fields.extend(segment.map(|s| ("PINGTRACE_SEGMENT", s.name().to_owned())));
        fields.push(("PINGTRACE_CERTAINTY", verdict.certainty.name().to_owned()));
    }
    if let Some(loss) = &result.loss {
        fields.push(("PINGTRACE_PLACE", loss.place.name().to_owned()));
        let drop = loss.drop.as_ref();
        fields.extend(drop.map(|drop| ("PINGTRACE_REASON", drop.reason.to_string())));
    }
    Some((priority, fields))
}

impl Event<'_> {
    /// In journald's own protocol: systemd, `docs/JOURNAL_NATIVE_PROTOCOL.md`.
    fn for_journald(&self) -> Vec<u8> {
        let priority = (self.priority as u8).to_string();
        let mut message = Vec::new();
        let mut field = |name: &str, value: &str| {
            message.extend(name.as_bytes());
            if value.contains('\n') {
                message.push(b'\n');
                message.extend((value.len() as u64).to_le_bytes());
            } else {
                message.push(b'=');
            }
            message.extend(value.as_bytes());
            message.push(b'\n');
        };
        field("MESSAGE", self.line);
        field("PRIORITY", &priority);
        field("SYSLOG_IDENTIFIER", IDENTIFIER);
        for (name, value) in &self.fields {
            field(name, value);
        }
        message
    }

    /// As `syslog(3)` writes it: RFC 3164 without the host, which is this one.
    fn for_syslog(&self, now: DateTime<Local>, pid: u32) -> Vec<u8> {
        let priority = FACILITY << 3 | self.priority as u8;
        let now = now.format("%b %e %H:%M:%S");
        let mut message = String::new();
        let _ = write!(
            message,
            "<{priority}>{now} {IDENTIFIER}[{pid}]: {}",
            self.line
        );
        message.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::entry::About;
    use chrono::TimeZone as _;
    use report::model::{
        Certainty, ClockRelation, Loss, Names, Owner, Place, Probe, Segment, Status, Verdict,
    };
    use std::os::unix::net::UnixDatagram;
    use tempfile::TempDir;

    fn result(status: Status) -> ProbeResult {
        ProbeResult::new(Probe {
            seq: 17,
            sent_unix_ns: 0,
            peer: "10.0.0.2".parse().unwrap(),
            status,
            flow: 0,
            ttl: [None; 2],
            clock: ClockRelation::Same,
            path: Vec::new(),
        })
    }

    fn slow() -> ProbeResult {
        ProbeResult {
            verdict: Some(Verdict {
                owner: Owner::Remote,
                segment: Some(Segment::RRxSoftirq),
                excess_ns: 1,
                bounds: None,
                certainty: Certainty::Sure,
                cpu: None,
                at: None,
                on_way: None,
                doubt: None,
            }),
            ..result(Status::Ok)
        }
    }

    fn lost() -> ProbeResult {
        ProbeResult {
            loss: Some(Loss {
                place: Place::WireOut,
                last: None,
                device: None,
                drop: None,
                error: None,
            }),
            ..result(Status::Lost)
        }
    }

    fn event_of(result: &ProbeResult, threshold_ns: u64) -> Option<Vec<u8>> {
        let run = Run {
            threshold_ns,
            ..Run::default()
        };
        let about = About {
            run: &run,
            names: &Names::default(),
            hops: false,
        };
        let event = event(&Entry::Probe(result, about), "{\"a\":1}\n")?;
        Some(event.for_journald())
    }

    #[test]
    fn slow_late_and_lost_probes_are_events() {
        let slow = String::from_utf8(event_of(&slow(), 0).unwrap()).unwrap();
        assert_eq!(
            slow,
            "MESSAGE={\"a\":1}\nPRIORITY=5\nSYSLOG_IDENTIFIER=pingtrace\nPINGTRACE_TARGET=10.0.0.2\n\
             PINGTRACE_EVENT=slow\nPINGTRACE_SEQUENCE=17\nPINGTRACE_OWNER=remote\n\
             PINGTRACE_SEGMENT=r_rx_softirq\nPINGTRACE_CERTAINTY=sure\n"
        );
        let lost = String::from_utf8(event_of(&lost(), 0).unwrap()).unwrap();
        assert!(lost.contains("PRIORITY=4\n") && lost.contains("PINGTRACE_PLACE=wire_out\n"));
        let late = String::from_utf8(event_of(&result(Status::Late), 0).unwrap()).unwrap();
        assert!(late.contains("PINGTRACE_EVENT=late\n"));
        // Without a threshold every probe is recorded, and a usual one is no event.
        assert_eq!(event_of(&result(Status::Ok), 0), None);
        assert!(event_of(&result(Status::Ok), 1).is_some());
        assert_eq!(event_of(&result(Status::Dup), 1), None);
    }

    #[test]
    fn a_field_with_a_line_end_has_its_length() {
        let event = Event {
            priority: Priority::Notice,
            line: "x",
            fields: vec![("PINGTRACE_TARGET", "a\nPRIORITY=0".to_owned())],
        };
        let message = event.for_journald();
        let end = b"PINGTRACE_TARGET\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n";
        assert!(message.ends_with(end), "{message:?}");
    }

    #[test]
    fn syslog_has_facility_and_severity() {
        let event = Event {
            priority: Priority::Warning,
            line: "{}",
            fields: Vec::new(),
        };
        let now = Local.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).unwrap();
        let message = String::from_utf8(event.for_syslog(now, 42)).unwrap();
        assert_eq!(message, "<28>Mar  4 05:06:07 pingtrace[42]: {}");
    }

    #[test]
    fn events_that_nobody_reads_are_counted_and_nothing_waits() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("socket");
        let refused = Events::to(Reader::Journald, path.clone()).unwrap_err();
        assert!(format!("{refused:#}").contains("systemd-journald must run"));
        let reader = UnixDatagram::bind(&path).unwrap();
        let mut events = Events::to(Reader::Syslog, path.clone()).unwrap();
        let run = Run::default();
        let write = |events: &mut Events| {
            let about = About {
                run: &run,
                names: &Names::default(),
                hops: false,
            };
            events.write(&Entry::Probe(&lost(), about), Some("{}\n"));
        };
        // As many as fit into the socket, and some more.
        let mut written = 0_u64;
        while events.lost < 3 {
            write(&mut events);
            written += 1;
        }
        reader.set_nonblocking(true).unwrap();
        let mut buffer = [0; 100];
        let mut received = 0;
        while reader.recv(&mut buffer).is_ok() {
            received += 1;
        }
        assert_eq!(received + events.lost, written);
        // Another reader in its place is found.
        drop(reader);
        std::fs::remove_file(&path).unwrap();
        let reader = UnixDatagram::bind(&path).unwrap();
        write(&mut events);
        assert!(reader.recv(&mut buffer).is_ok());
        assert!(!events.full);
        let lost = events.finish().unwrap_err().to_string();
        assert!(lost.starts_with("3 events"), "{lost}");
    }
}

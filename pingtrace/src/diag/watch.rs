//! What irqoff, nosched and runqlat have in common: they look at the recorder's rings some times
//! a second, make events of what is in them, and end after a time or by a signal.

use super::{Results, Sink};
use crate::control::Control;
use crate::host;
use crate::recorder::{Memory, Reader, Record, Recorder};
use crate::symbols::Symbols;
use crate::units::{self, Time};
use anyhow::Result;
use bpf::recorder::types::{pt_record_type, pt_ring_of};
use report::companion::{self, Event, Frame, Kind, Ran, Row, Summary, Tally, beyond_interrupt};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two looks at the rings; the ring of switches holds four times as much at 10 000 a
/// second.
const POLL: Duration = Duration::from_millis(100);
/// Who ran instead: so many at most.
const RAN: usize = 5;

// A doc comment would be the help of the subcommand.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the subcommand"
)]
pub struct Common {
    /// Stop after this time; a plain number is in s [default: endless]
    #[arg(value_name = "DURATION", value_parser = units::seconds)]
    pub duration: Option<Duration>,

    /// The same as DURATION
    #[arg(short = 'T', long, value_name = "SECS", value_parser = units::seconds, conflicts_with = "duration")]
    pub time: Option<Duration>,

    #[command(flatten)]
    pub results: Results,
}

/// A companion at work.
pub struct Watch<'a> {
    kind: Kind,
    recorder: Recorder<'a>,
    memory: std::sync::Arc<Memory>,
    reader: Reader,
    symbols: Symbols,
    sink: Sink,
    tally: Tally,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

impl<'a> Watch<'a> {
    /// Opens the outputs, and attaches the recorder.
    pub fn start(
        kind: Kind,
        common: &Common,
        mut recorder: Recorder<'a>,
        threshold: Duration,
        rings: &[pt_ring_of],
    ) -> Result<Self> {
        let header = companion::event_header(kind);
        let sink = Sink::open(&common.results, kind.name(), &header)?;
        let memory = recorder.memory();
        let reader = Reader::new(&memory, rings);
        recorder.attach()?;
        let start = companion::Time(sink.start().unix_ns);
        Ok(Self {
            kind,
            memory,
            reader,
            symbols: Symbols::default(),
            tally: Tally::new(kind, threshold.as_nanos() as u64, start),
            notes: Vec::new(),
            recorder,
            sink,
        })
    }

    /// Until the time is over or a signal comes. `find` makes events of new records.
    pub fn run(
        mut self,
        common: &Common,
        control: &Control,
        mut find: impl FnMut(&Self, Vec<Record>) -> Vec<Event>,
    ) -> Result<()> {
        let end = common.duration.or(common.time).map(|t| Instant::now() + t);
        let mut next = Instant::now();
        loop {
            next += POLL;
            let until = end.map_or(next, |end| end.min(next));
            let goes_on = control.sleep_until(until) && !self.sink.failed();
            let records = self.reader.read(&self.memory);
            for event in find(&self, records) {
                self.tally.add(&event);
                self.sink.row(&Row::Event(Box::new(event)))?;
            }
            self.sink.housekeep(control);
            if !goes_on || end.is_some_and(|end| Instant::now() >= end) {
                return self.finish();
            }
        }
    }

    fn finish(self) -> Result<()> {
        let overwritten = self.reader.overwritten;
        let refused = self.recorder.refused();
        let losses = [("overwritten", overwritten), ("no room in a map", refused)];
        let summary = Summary {
            headline: self.tally.headline(),
            counts: self.tally.counts(),
            lost: overwritten + refused,
            losses: losses.map(|(name, n)| (name.to_owned(), n)).to_vec(),
            notes: self.notes,
            ..Summary::default()
        };
        let tally = self.tally;
        let end = companion::Time(Time::now().unix_ns);
        self.sink.finish(summary, || {
            tally.chart(&host::name().unwrap_or_default(), end)
        })
    }

    /// The recorder.
    pub fn recorder(&self) -> &Recorder<'a> {
        &self.recorder
    }

    /// The recorder's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The stack of a record, without the interrupt that took it.
    pub fn stack(&self, record: &Record) -> Vec<Frame> {
        beyond_interrupt(self.symbols.kernel(&self.memory.stack(record)))
    }

    /// Who had the CPU from `from_ns` to `to_ns`, the longest first; the idle task is nobody.
    pub fn ran(&self, cpu: u32, from_ns: u64, to_ns: u64, but: u32) -> Vec<Ran> {
        let mut switches = Vec::new();
        self.memory
            .read(cpu, pt_ring_of::PT_RING_SWITCH.0 as usize, 0, &mut switches);
        let mut ran: HashMap<u32, Ran> = HashMap::new();
        for record in &switches {
            let begin = record.begin_ns().max(from_ns);
            let ns = record.event.end_ns.min(to_ns).saturating_sub(begin);
            let tid = record.event.tid;
            if ns > 0 && tid != 0 && tid != but {
                let comm = record.comm();
                ran.entry(tid).or_insert(Ran { comm, tid, ns: 0 }).ns += ns;
            }
        }
        let mut ran: Vec<Ran> = ran.into_values().collect();
        ran.sort_by_key(|ran| std::cmp::Reverse(ran.ns));
        ran.truncate(RAN);
        ran
    }

    /// What all events have in common.
    pub fn event(&self, record: &Record, class: companion::Class, lat_ns: u64) -> Event {
        let tid = record.event.tid;
        Event {
            companion: self.kind,
            time: companion::Time(unix_ns(record.event.end_ns)),
            cpu: record.cpu,
            comm: record.comm(),
            tid,
            lat_ns,
            most_ns: None,
            class,
            vector: None,
            victim: None,
            nr_running: None,
            ran: Vec::new(),
            stack: Vec::new(),
            container: (tid != 0).then(|| netns::container_of(tid)).flatten(),
        }
    }
}

/// Whether a record is of this type.
pub fn is(record: &Record, kind: pt_record_type) -> bool {
    u32::from(record.event.r#type) == kind.0
}

/// A moment of `CLOCK_MONOTONIC` as nanoseconds since the Unix epoch.
fn unix_ns(ns: u64) -> i64 {
    let now = Time::now();
    now.unix_ns - now.ns.saturating_sub(ns).cast_signed()
}

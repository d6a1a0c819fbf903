//! What irqoff, nosched and runqlat share: a [`Monitor`] reads the recorder's rings several times a
//! second, hands [`Snapshot`]s of them to a [`Detector`], and ends after a time or by a signal.
//!
//! What explains an event can be written after it: which task got the CPU, or how long the interrupt
//! took in which a timer was late. So events are examined when they are [`SETTLE`] old.

use super::args::Watching;
use super::floor;
use crate::control::Control;
use crate::kernel::confine::{Mode, confine};
use crate::kernel::host;
use crate::kernel::ids::Ids;
use crate::kernel::recorder::{self, CpuEvent, Memory, Reader, Recorder};
use crate::kernel::symbols::Symbols;
use crate::output::companion::Sink;
use crate::units::{Time, monotonic_ns};
use anyhow::Result;
use bpf::recorder::types::{pt_event_type, pt_ring_of};
use report::companion;
use report::companion::{
    Event, Frame, Kind, Panel, Ran, Row, Summary, Tally, beyond_interrupt, beyond_tracing,
};
use report::model::Class;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Time between two readings of the rings; the ring of switches holds four times as much at 10 000
/// switches a second.
const POLL: Duration = Duration::from_millis(100);
/// Age at which an event is examined.
const SETTLE: Duration = Duration::from_millis(20);
/// How long examined events are kept, as they can explain others.
const KEEP: Duration = Duration::from_millis(50);
/// Upper bound on the tasks listed as having run instead.
const RAN: usize = 5;

/// A running companion: its recorder, its outputs and its tally.
pub struct Monitor<'a> {
    kind: Kind,
    recorder: Recorder<'a>,
    memory: std::sync::Arc<Memory>,
    reader: Reader,
    symbols: Symbols,
    sink: Sink,
    tally: Tally,
    floor: String,
    unexplained: Cell<u64>,
    ids: RefCell<Ids>,
}

/// What one companion finds in snapshots.
pub trait Detector {
    /// Events found in the snapshot.
    fn events(&mut self, monitor: &Monitor<'_>, snapshot: &Snapshot<'_>) -> Vec<Event>;

    /// Further rows; `last`: at the end.
    fn rows(&mut self, _watch: &Monitor<'_>, _last: bool) -> Result<Vec<Row>> {
        Ok(Vec::new())
    }

    /// Further parts of the picture, at the end.
    fn panels(&mut self) -> Vec<Panel> {
        Vec::new()
    }

    /// Why no more events can come, such as the end of the process that was asked for.
    fn over(&self) -> Option<String> {
        None
    }

    /// What a reader of the results has to know.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The recorder's events at one moment.
pub struct Snapshot<'m> {
    /// Events to examine, in the order of their end.
    pub new: Vec<CpuEvent>,
    /// Events shortly before and after, which may explain them.
    around: Vec<CpuEvent>,
    memory: &'m Memory,
    switches: OnceCell<Vec<Vec<CpuEvent>>>,
}

impl Snapshot<'_> {
    /// The new events and those around them.
    pub fn all(&self) -> impl Iterator<Item = &CpuEvent> {
        self.new.iter().chain(&self.around)
    }

    /// All switches of a CPU that are still in its ring, the oldest first.
    pub fn switches(&self, cpu: u32) -> &[CpuEvent] {
        &self.every_switch()[cpu as usize]
    }

    /// [`Self::switches`] of each CPU.
    pub fn every_switch(&self) -> &[Vec<CpuEvent>] {
        let ring = pt_ring_of::PT_RING_SWITCH.0 as usize;
        self.switches.get_or_init(|| {
            let of_cpu = |cpu| {
                let mut switches = Vec::new();
                self.memory.read(cpu, ring, 0, &mut switches);
                switches
            };
            (0..self.memory.cpus()).map(of_cpu).collect()
        })
    }
}

impl<'a> Monitor<'a> {
    /// Opens the outputs and attaches the recorder.
    pub fn start(
        kind: Kind,
        watching: &Watching,
        mut recorder: Recorder<'a>,
        rings: &[pt_ring_of],
    ) -> Result<Self> {
        let threshold = watching.threshold;
        let floor = floor::check(kind, threshold)?;
        let header = companion::event_header(kind);
        let sink = Sink::open(&watching.common.output, kind.name(), &header)?;
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
            floor,
            unexplained: Cell::new(0),
            ids: RefCell::new(Ids::read()?),
            recorder,
            sink,
        })
    }

    /// Runs until the duration is over or a signal ends it.
    pub fn run(
        mut self,
        watching: &Watching,
        control: &Control,
        mut detector: impl Detector,
    ) -> Result<()> {
        confine(Mode::Watch, &self.sink.directories(), &[])?;
        let time = watching.time();
        control
            .part()
            .begins(&format!("{}: watches", self.kind.name()));
        let (start, end) = (Instant::now(), time.map(|t| Instant::now() + t));
        let takes = time.map_or("Until SIGINT.".to_owned(), |t| format!("Takes {t:?}."));
        log::info!("{}: watching. {} {takes}", self.kind.name(), self.floor);
        let mut next = Instant::now();
        let (mut old, mut unsettled) = (Vec::new(), Vec::new());
        loop {
            next += POLL;
            let until = end.map_or(next, |end| end.min(next));
            let over = detector.over();
            let goes_on = over.is_none() && control.sleep_until(until) && !self.sink.failed();
            if let Some(why) = over {
                log::warn!("{why}");
            }
            let last = !goes_on || end.is_some_and(|end| Instant::now() >= end);
            self.detect(&mut detector, (&mut old, &mut unsettled), last);
            for row in detector.rows(&self, last)? {
                self.sink.row(&row);
            }
            if self.sink.housekeep(control) {
                self.sink.report_so_far(self.summary(&detector));
            }
            if last {
                control.part().stops();
                return self.finish(&mut detector);
            }
            let events = self.tally.events();
            self.sink.progress(false, || match time {
                Some(time) => format!("{} of {time:?}, {events} events", seconds(start.elapsed())),
                None => format!("{}, {events} events", seconds(start.elapsed())),
            });
        }
    }

    /// Examines the events that are old enough; at the end, all of them.
    fn detect(
        &mut self,
        detector: &mut impl Detector,
        (old, unsettled): (&mut Vec<CpuEvent>, &mut Vec<CpuEvent>),
        last: bool,
    ) {
        let now = monotonic_ns();
        unsettled.append(&mut self.reader.read(&self.memory));
        unsettled.sort_by_key(|record| record.event.end_ns);
        let settled = now - SETTLE.as_nanos() as u64;
        let count = unsettled.partition_point(|r| last || r.event.end_ns <= settled);
        let new: Vec<CpuEvent> = unsettled.drain(..count).collect();
        let memory = std::sync::Arc::clone(&self.memory);
        let snapshot = Snapshot {
            new,
            around: [&**old, &**unsettled].concat(),
            memory: &memory,
            switches: OnceCell::new(),
        };
        for event in detector.events(self, &snapshot) {
            self.tally.add(&event);
            self.sink.row(&Row::Event(Box::new(event)));
        }
        old.extend(snapshot.new);
        old.retain(|record| record.event.end_ns + KEEP.as_nanos() as u64 > now);
    }

    /// The summary so far.
    fn summary(&self, detector: &impl Detector) -> Summary {
        let losses = [
            ("overwritten", self.reader.overwritten),
            ("no room in a map", self.recorder.refused()),
            ("stacks not taken", self.memory.refused_stacks()),
            (
                "events whose beginning was overwritten",
                self.unexplained.get(),
            ),
        ];
        let missing = self.recorder.missing();
        let missing = (!missing.is_empty())
            .then(|| format!("This kernel does not trace {}.", missing.join(", ")));
        let mut notes = vec![self.floor.clone()];
        notes.extend(missing);
        notes.extend(detector.notes());
        Summary {
            headline: self.tally.headline(),
            counts: self.tally.counts(),
            lost: losses.iter().map(|(_, n)| n).sum(),
            losses: losses.map(|(name, n)| (name.to_owned(), n)).to_vec(),
            notes,
            ..Summary::default()
        }
    }

    fn finish(self, detector: &mut impl Detector) -> Result<()> {
        let summary = self.summary(detector);
        let tally = self.tally;
        let end = companion::Time(Time::now().unix_ns);
        self.sink.finish(summary, || {
            let mut chart = tally.chart(&host::name().unwrap_or_default(), end);
            chart.panels.append(&mut detector.panels());
            chart
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

    /// The stack of an event, without the interrupt that took it. `None` if it was not taken or was
    /// overwritten; empty if the interrupt hit user code.
    pub fn stack(&self, record: &CpuEvent) -> Option<Vec<Frame>> {
        let stack = self.memory.stack(record);
        (!stack.is_empty()).then(|| beyond_tracing(beyond_interrupt(self.symbols.kernel(&stack))))
    }

    /// The tasks that had the CPU from `from_ns` to `to_ns` (`CLOCK_MONOTONIC`), the longest first,
    /// without the idle task and the task `but`.
    pub fn ran(
        &self,
        snapshot: &Snapshot<'_>,
        cpu: u32,
        (from_ns, to_ns): (u64, u64),
        but: u32,
    ) -> Vec<Ran> {
        let switches = snapshot.switches(cpu);
        if switches
            .first()
            .is_none_or(|first| first.begin_ns() > from_ns)
        {
            self.unexplained.set(self.unexplained.get() + 1);
        }
        let mut ran: HashMap<u32, Ran> = HashMap::new();
        for record in switches {
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
        for ran in &mut ran {
            ran.tid = self.number(ran.tid);
        }
        ran
    }

    /// The number of a task where /proc shows it, else the kernel's.
    pub fn number(&self, kernel: u32) -> u32 {
        self.ids.borrow_mut().number(kernel)
    }

    /// The container of a task that runs, and that /proc shows.
    pub fn container(&self, kernel: u32) -> Option<String> {
        netns::container_of(self.ids.borrow_mut().shown(kernel)?)
    }

    /// An event with the fields that all companions fill in.
    pub fn event(&self, record: &CpuEvent, class: Class, lat_ns: u64) -> Event {
        let tid = record.event.tid;
        Event {
            companion: self.kind,
            time: companion::Time(unix_ns(record.event.end_ns)),
            cpu: record.cpu,
            comm: record.comm(),
            tid: self.number(tid),
            lat_ns,
            most_ns: None,
            class,
            vector: None,
            victim: None,
            nr_running: None,
            quota_ns: None,
            ran: Vec::new(),
            stack: Vec::new(),
            container: self.container(tid),
        }
    }
}

/// Whole seconds.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// Interrupts each online CPU `hz` times a second, as long as the result lives.
pub fn tick(hz: Option<u32>) -> Result<Vec<OwnedFd>> {
    let Some(hz) = hz else {
        return Ok(Vec::new());
    };
    recorder::tick(&host::online_cpus()?, hz)
}

/// Whether an event is of this type.
pub fn is(record: &CpuEvent, kind: pt_event_type) -> bool {
    u32::from(record.event.r#type) == kind.0
}

/// Converts `CLOCK_MONOTONIC` to nanoseconds since the Unix epoch.
fn unix_ns(ns: u64) -> i64 {
    let now = Time::now();
    now.unix_ns - now.ns.saturating_sub(ns).cast_signed()
}

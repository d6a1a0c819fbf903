//! `pingtrace irqoff`: what kept interrupts off.
//!
//! If a timer expires late, interrupts were off when it was due. This method needs no PMU, no kernel
//! option and no timer of its own, never over-reports, and gives the stack of the code that turned
//! interrupts on again. It under-reports by the time before the timer was due; the upper bound (MAX)
//! is the time since the timer before. More timers (`--arm`) make it more precise.
//!
//! A timer is also late if the hypervisor or the firmware had the CPU. Then its interrupt comes at any
//! instruction, not right after the one that turns interrupts on, and the task there is not the
//! culprit. This is checked on x86; elsewhere only `/proc/stat` reports stolen time.

use super::args::Watching;
use super::monitor::{self, Detector, Monitor, Snapshot};
use super::stolen::Stolen;
use crate::control::Control;
use crate::kernel::object::Storage;
use crate::kernel::recorder::{self, CpuEvent, Recorder, Setup};
use anyhow::Result;
use bpf::recorder::types::{pt_event_flag, pt_event_type, pt_ring_of};
use report::companion::{Event, Kind};
use report::model::Class;
use std::time::Duration;

/// Find what keeps interrupts off, and interrupts and softirqs that run or wait long
///
/// A row gives time, CPU, task, the least (LAT) and the greatest (MAX) possible length, and a class:
/// irqoff (hard interrupts were off; the stack is of the code that turned them on again), hardirq (a
/// handler ran), `softirq_delay` (from raise to entry), `softirq_run`, stolen (/proc/stat says that
/// the hypervisor ran something else), or outside (interrupts were not off: probably the hypervisor
/// or the firmware had the CPU). Time in which the CPU is idle is not reported.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) watching: Watching,

    /// Report softirqs too: how long they waited, and how long they ran
    #[arg(long)]
    softirq: bool,

    /// Interrupt each CPU by a timer this many times a second: then only sections shorter than the
    /// time between two interrupts are missed
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    arm: Option<u32>,
}

/// Runs until the duration is over or a signal ends it.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let mut storage = Storage::uninit();
    let setup = setup(args.watching.threshold, args.softirq);
    let recorder = Recorder::load(&mut storage, &setup)?;
    let rings = [pt_ring_of::PT_RING_SOFTIRQ, pt_ring_of::PT_RING_HARDIRQ];
    let monitor = Monitor::start(Kind::Irqoff, &args.watching, recorder, &rings)?;
    let _ticks = monitor::tick(args.arm)?;
    let detector = IrqoffDetector {
        limit_ns: args.watching.threshold.as_nanos() as u64,
        stolen: Stolen::new(),
    };
    monitor.run(&args.watching, control, detector)
}

/// What is recorded of what takes at least `limit`.
pub(super) fn setup(limit: Duration, softirqs: bool) -> Setup {
    let limit = Some(limit);
    Setup {
        late: limit,
        irqs: limit,
        softirqs: limit.filter(|_| softirqs),
        ..Setup::default()
    }
}

struct IrqoffDetector {
    limit_ns: u64,
    stolen: Stolen,
}

impl Detector for IrqoffDetector {
    fn events(&mut self, monitor: &Monitor<'_>, snapshot: &Snapshot<'_>) -> Vec<Event> {
        self.stolen.update();
        let mut events = Vec::new();
        for record in &snapshot.new {
            match pt_event_type(u32::from(record.event.r#type)) {
                pt_event_type::PT_LATE if !is_repeated(record, snapshot) => {
                    events.push(self.late(monitor, record));
                }
                pt_event_type::PT_IRQ => {
                    let mut found = monitor.event(record, Class::Hardirq, record.event.ns);
                    found.vector = Some(recorder::irq_name(record));
                    events.push(found);
                }
                pt_event_type::PT_SOFTIRQ => {
                    events.extend(softirq((monitor, snapshot), record, self.limit_ns));
                }
                _ => {}
            }
        }
        events
    }
}

impl IrqoffDetector {
    fn late(&self, monitor: &Monitor<'_>, record: &CpuEvent) -> Event {
        let ns = record.event.ns;
        let has = |flag: pt_event_flag| u32::from(record.event.flags) & flag.0 != 0;
        let class = match self.stolen.explains(record.cpu, ns) {
            _ if has(pt_event_flag::PT_ENABLED) => Class::Irqoff,
            true => Class::Stolen,
            false if has(pt_event_flag::PT_ENTRY) => Class::Outside,
            false => Class::Irqoff,
        };
        let mut event = monitor.event(record, class, ns);
        event.most_ns = Some(ns + record.event.wait_ns);
        if class == Class::Irqoff {
            event.stack = monitor.stack(record).unwrap_or_default();
        }
        event
    }
}

/// Whether another row covers this late timer: a handler delayed it, or another timer of the same
/// section was later still.
fn is_repeated(record: &CpuEvent, snapshot: &Snapshot<'_>) -> bool {
    let overlap = |other: &CpuEvent| {
        let begin = record.begin_ns().max(other.begin_ns());
        record
            .event
            .end_ns
            .min(other.event.end_ns)
            .saturating_sub(begin)
    };
    let explains = |other: &CpuEvent| {
        let much = overlap(other) * 2 > record.event.ns;
        let same = std::ptr::eq(other, record);
        let later = other.event.ns > record.event.ns
            || (other.event.ns == record.event.ns && other.event.end_ns < record.event.end_ns);
        let late = monitor::is(other, pt_event_type::PT_LATE) && later;
        !same
            && other.cpu == record.cpu
            && much
            && (monitor::is(other, pt_event_type::PT_IRQ) || late)
    };
    snapshot.all().any(explains)
}

fn softirq(
    (monitor, snapshot): (&Monitor<'_>, &Snapshot<'_>),
    record: &CpuEvent,
    limit_ns: u64,
) -> Vec<Event> {
    let event = &record.event;
    let vector = Some(recorder::softirq_name(event.other));
    let mut events = Vec::new();
    if event.wait_ns >= limit_ns {
        let entry = record.begin_ns();
        let mut found = monitor.event(record, Class::SoftirqDelay, event.wait_ns);
        found.ran = monitor.ran(snapshot, record.cpu, (entry - event.wait_ns, entry), 0);
        found.vector.clone_from(&vector);
        events.push(found);
    }
    if event.ns >= limit_ns {
        let mut found = monitor.event(record, Class::SoftirqRun, event.ns);
        found.vector = vector;
        events.push(found);
    }
    events
}

//! `pingtrace nosched`: kernel code that goes on although another task is to run.
//!
//! Measured is the time from when the scheduler is to be called on a CPU until it is called there.
//! Linux 6.17 to 6.19 trace both. Elsewhere the flag of the running thread is sampled at the end of
//! interrupts, softirqs and timers, and the next switch ends the time: its beginning is known only to
//! lie between two samples.

use super::args::Watching;
use super::monitor::{self, Detector, Monitor, Snapshot};
use super::stolen::Stolen;
use crate::control::Control;
use crate::kernel::object::Storage;
use crate::kernel::privileges::REAL_TIME;
use crate::kernel::recorder::{CpuEvent, Hook, Recorder, Setup, comm};
use anyhow::{Result, bail};
use bpf::recorder::types::{pt_event_flag, pt_event_type, pt_ring_of};
use report::companion::{Event, Kind};
use report::model::Class;
use std::time::Duration;

/// Upper bound on the time from the call of the scheduler to its switch, ns; later switches belong
/// to another call.
const CALL_NS: u64 = 1_000_000;

/// Find what keeps the scheduler waiting: kernel code that goes on although another task is to run
///
/// A row gives time, CPU, task, how long the scheduler was not called after it should have been, and
/// the task that got the CPU then (VICTIM). Class hard: the scheduler should have been called at once;
/// lazy: by design it may take until the next tick (kernels with lazy preemption); stolen, outside:
/// the task was in user code, where nothing delays the scheduler, so the hypervisor or the firmware
/// had the CPU. The stack shows where the kernel was meanwhile, or where it called the scheduler at last.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) watching: Watching,

    /// Interrupt each CPU by a timer this many times a second: gives more stacks from within, and a
    /// smaller error where the flag is sampled
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    arm: Option<u32>,

    /// Sample the flag at interrupts, softirqs and timers even if this kernel traces it; costs less
    #[arg(long)]
    sampled: bool,
}

/// Runs until the duration is over or a signal ends it.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let mut storage = Storage::uninit();
    let setup = setup(args.watching.threshold, args.sampled);
    let recorder = Recorder::load(&mut storage, &setup)?;
    let rings = [pt_ring_of::PT_RING_EVENT, pt_ring_of::PT_RING_HARDIRQ];
    let monitor = Monitor::start(Kind::Nosched, &args.watching, recorder, &rings)?;
    if monitor.recorder().reschedules() == Hook::None {
        bail!("nosched: {}", unseen());
    }
    let _ticks = monitor::tick(args.arm)?;
    let detector = NoschedDetector {
        sampled: monitor.recorder().reschedules() == Hook::Sampled,
        separates_lazy: monitor.recorder().separates_lazy(),
        stolen: Stolen::new(),
    };
    monitor.run(&args.watching, control, detector)
}

/// What is recorded of what takes at least `limit`.
pub(super) fn setup(limit: Duration, sampled: bool) -> Setup {
    Setup {
        reschedules: Some(limit),
        sampled,
        ..Setup::default()
    }
}

/// Why no reschedule is seen here.
pub(super) fn unseen() -> String {
    format!(
        "this kernel does not trace when the scheduler is to be called (Linux 6.17 to 6.19), \
         and which flag says so was not found out: needs root, or {REAL_TIME}; --debug says more"
    )
}

struct NoschedDetector {
    sampled: bool,
    separates_lazy: bool,
    stolen: Stolen,
}

impl Detector for NoschedDetector {
    fn events(&mut self, monitor: &Monitor<'_>, snapshot: &Snapshot<'_>) -> Vec<Event> {
        self.stolen.update();
        // The idle task delays nobody: it wakes from a halt.
        let found = snapshot.new.iter().filter(|record| {
            monitor::is(record, pt_event_type::PT_RESCHED) && record.event.tid != 0
        });
        found
            .map(|record| self.event(monitor, snapshot, record))
            .collect()
    }

    fn notes(&self) -> Vec<String> {
        let sampled = "When a reschedule is asked for is not traced here (that is Linux 6.17 to 6.19, \
                       without --sampled): the flag was sampled at the end of interrupts, softirqs and \
                       timers, so it began between LAT and MAX before its end, and what is shorter \
                       than from one of them to the next may be missed. Lazy ones are not seen.";
        let untold = format!(
            "Lazy reschedules are shown as hard ones: which flag is which was not found out (needs \
             root, or {REAL_TIME}; --debug says more)."
        );
        let notes = [
            (self.sampled, sampled.to_owned()),
            (!self.separates_lazy, untold),
        ];
        let said = notes.into_iter().filter(|(is_so, _)| *is_so);
        said.map(|(_, note)| note).collect()
    }
}

impl NoschedDetector {
    fn event(&self, monitor: &Monitor<'_>, snapshot: &Snapshot<'_>, record: &CpuEvent) -> Event {
        let within = |sample: &&CpuEvent| {
            let at = sample.event.end_ns;
            monitor::is(sample, pt_event_type::PT_SAMPLE)
                && sample.cpu == record.cpu
                && (record.begin_ns()..=record.event.end_ns).contains(&at)
        };
        let mut samples: Vec<&CpuEvent> = snapshot.all().filter(within).collect();
        samples.sort_by_key(|sample| sample.event.end_ns);
        let stacks = samples
            .into_iter()
            .filter_map(|sample| monitor.stack(sample));
        // The first stack in the kernel; if all are empty, the task was in user code.
        let mut stacks: Vec<_> = stacks.collect();
        stacks.sort_by_key(Vec::is_empty);
        let stack = stacks.into_iter().next().or_else(|| monitor.stack(record));
        let class = self.class(record, stack.as_ref().is_some_and(Vec::is_empty));
        Event {
            most_ns: self.sampled.then(|| record.event.ns + record.event.wait_ns),
            victim: victim(monitor, snapshot, record),
            stack: stack.unwrap_or_default(),
            ..monitor.event(record, class, record.event.ns)
        }
    }

    fn class(&self, record: &CpuEvent, in_user_code: bool) -> Class {
        let lazy = u32::from(record.event.flags) & pt_event_flag::PT_LAZY.0 != 0;
        match in_user_code {
            true if self.stolen.explains(record.cpu, record.event.ns) => Class::Stolen,
            true if !lazy => Class::Outside,
            _ if lazy => Class::Lazy,
            _ => Class::Hard,
        }
    }
}

/// The task that got the CPU then; `None` if the same task went on or no other was waiting any more.
fn victim(
    monitor: &Monitor<'_>,
    snapshot: &Snapshot<'_>,
    record: &CpuEvent,
) -> Option<(String, u32)> {
    let switches = snapshot.switches(record.cpu);
    let after = switches.partition_point(|s| s.event.end_ns < record.event.end_ns);
    let switch = switches.get(after)?;
    let tid = switch.event.other;
    if tid == 0 || switch.event.end_ns > record.event.end_ns + CALL_NS {
        return None;
    }
    let name = switches.get(after + 1).map_or_else(
        || comm(&monitor.memory().cpu(record.cpu).comm),
        CpuEvent::comm,
    );
    Some((name, monitor.number(tid)))
}

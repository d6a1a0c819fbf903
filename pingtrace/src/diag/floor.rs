//! The shortest threshold that this machine can resolve: for a moment everything is recorded, however
//! short, while one thread sleeps, another is busy and the clock ticks. A report cannot be told from
//! what is common then.

use crate::kernel::ids::Ids;
use crate::kernel::object::Storage;
use crate::kernel::recorder::{self, CpuEvent, Reader, Recorder, Setup};
use crate::kernel::thread::{Priority, pin, prioritise};
use crate::units::{monotonic_ns, sleep_until};
use anyhow::{Context, Result, bail};
use bpf::recorder::types::{pt_event_type, pt_ring_of};
use report::companion::Kind;
use report::units::duration;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// Length of the measurement.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two sleeps, and between two ticks of the armed clock.
const SLEEP: Duration = Duration::from_millis(1);
/// With fewer events the median means nothing.
const FEW: usize = 10;
/// A threshold of this many medians is resolved.
const MARGIN: u64 = 2;
/// Lower bound of every threshold, ns: the recorder itself takes that long.
const MIN_NS: u64 = 5_000;

/// What is measured: how it is recorded, and as which type of event.
struct Measure {
    what: &'static str,
    setup: Setup,
    record: pt_event_type,
    ring: pt_ring_of,
}

/// Says from which threshold on this machine resolves; an error if this one is below.
pub fn check(kind: Kind, threshold: Duration) -> Result<String> {
    let measure = Measure::new(kind);
    let baseline = measure
        .baseline_ns()
        .context("measure what can be resolved")?;
    let Some(baseline) = baseline.or((threshold.as_nanos() < MIN_NS.into()).then_some(0)) else {
        return Ok(format!(
            "What threshold can be resolved here is unknown: too few {} in {LOOK:?}.",
            measure.what
        ));
    };
    let floor = (baseline * MARGIN).max(MIN_NS).next_multiple_of(1_000);
    let (baseline, min) = (duration(baseline), floor / 1_000);
    let what = measure.what;
    if threshold < Duration::from_nanos(floor) {
        let threshold = duration(threshold.as_nanos() as u64);
        bail!(
            "threshold {threshold} (-t) is below the {min} us that this machine can resolve now \
             ({what} of {baseline} are usual): use -t {min}us or more"
        );
    }
    Ok(format!(
        "Thresholds from {min} us on can be resolved here ({what} of {baseline} are usual)."
    ))
}

impl Measure {
    fn new(kind: Kind) -> Self {
        let everything = Some(Duration::from_nanos(1));
        let setup = Setup::default();
        match kind {
            Kind::Irqoff => Self {
                what: "delays of a timer",
                setup: Setup {
                    late: everything,
                    ..setup
                },
                record: pt_event_type::PT_LATE,
                ring: pt_ring_of::PT_RING_HARDIRQ,
            },
            Kind::Nosched => Self {
                what: "delays of a reschedule",
                setup: Setup {
                    reschedules: everything,
                    ..setup
                },
                record: pt_event_type::PT_RESCHED,
                ring: pt_ring_of::PT_RING_EVENT,
            },
            Kind::Runqlat => Self {
                what: "waits for a free CPU",
                setup: Setup {
                    waits: Some(Duration::ZERO),
                    ..setup
                },
                record: pt_event_type::PT_WAIT,
                ring: pt_ring_of::PT_RING_EVENT,
            },
        }
    }

    /// The median, ns; `None` if there were too few events.
    fn baseline_ns(&self) -> Result<Option<u64>> {
        let mut storage = Storage::uninit();
        let mut recorder = Recorder::load(&mut storage, &self.setup)?;
        let memory = recorder.memory();
        recorder.attach()?;
        let mut reader = Reader::new(&memory, &[self.ring]);
        let cpu = rustix::thread::sched_getcpu();
        let _ticks = recorder::tick(&[cpu as u32], (1_000 / SLEEP.as_millis()) as u32)?;
        let slept = sleep_beside_a_hog(cpu)?;
        let mine = |record: &&CpuEvent| {
            let of_type = u32::from(record.event.r#type) == self.record.0;
            let sleeper = self.record != pt_event_type::PT_WAIT || record.event.tid == slept;
            record.cpu as usize == cpu && of_type && sleeper
        };
        let records = reader.read(&memory);
        let mut all: Vec<u64> = records.iter().filter(mine).map(|r| r.event.ns).collect();
        all.sort_unstable();
        Ok((all.len() >= FEW).then(|| all[all.len() / 2]))
    }
}

/// For [`LOOK`], one thread keeps the CPU busy, and another sleeps and wakes; the kernel's number of
/// the sleeper, which has priority over the busy one if this process may give it.
fn sleep_beside_a_hog(cpu: usize) -> Result<u32> {
    let end = monotonic_ns() + LOOK.as_nanos() as u64;
    let spin = || {
        let pinned = pin(cpu);
        while pinned.is_ok() && monotonic_ns() < end {
            std::hint::spin_loop();
        }
        pinned
    };
    let sleep = || -> Result<u32> {
        pin(cpu)?;
        // Without the privilege it waits for the busy one as any other thread would.
        let _ = prioritise(Priority::Fifo(1));
        while monotonic_ns() < end {
            sleep_until(monotonic_ns() + SLEEP.as_nanos() as u64);
        }
        Ids::read().and_then(|ids| ids.thread())
    };
    thread::scope(|scope| -> Result<u32> {
        let hog = thread::Builder::new().spawn_scoped(scope, spin)?;
        let sleeper = thread::Builder::new().spawn_scoped(scope, sleep)?;
        let slept = sleeper.join();
        hog.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        slept.unwrap_or_else(|panic| resume_unwind(panic))
    })
    .context("start a thread")
}

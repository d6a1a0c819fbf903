//! `pingtrace irqoff`: what held up interrupts.
//!
//! A timer that expires late found interrupts off when it was due. That needs no PMU, no kernel
//! option and no clock of our own, never over-reports, and gives the stack of whoever turned them
//! on again. It under-reports by what lay before the timer was due; the bracket says how much at
//! most. More timers, more precision: see `--arm`.

use super::watch::{self, Common, Watch};
use crate::control::Control;
use crate::recorder::{Record, Recorder, Setup, Storage};
use crate::units;
use anyhow::Result;
use bpf::recorder::types::{pt_record_flag, pt_record_type, pt_ring_of, pt_vector};
use report::companion::{Class, Event, Kind};
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Find what keeps interrupts off, and interrupts and softirqs that run or wait long
///
/// A row says when, on which CPU and in which task, for how long at least (LAT) and at most (MAX),
/// and of what class: irqoff (hard interrupts were off; the stack is of whoever turned them on
/// again), hardirq (a handler ran), `softirq_delay` (from raise to entry), `softirq_run`, or stolen
/// (the hypervisor ran something else). Time in which the CPU is idle is nobody's.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("log", |arg| arg.short('f')))]
pub struct Args {
    /// Report what takes at least this long; a plain number is in ms, also 200us
    #[arg(short = 't', long, value_name = "THRESH", default_value = "10ms", value_parser = units::milliseconds)]
    threshold: Duration,

    /// Softirqs too: how long they waited, and ran
    #[arg(long)]
    softirq: bool,

    /// Take so many samples a second on each CPU: a section is then missed only if it is shorter
    /// than the time between two. Each costs about a timer interrupt
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    arm: Option<u32>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would be the help")]
    common: Common,
}

impl Args {
    /// Whether libbpf's messages are wanted.
    pub fn debug(&self) -> bool {
        self.common.results.debug
    }
}

/// Watches until it is told to stop.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let mut storage = Storage::uninit();
    let limit = Some(args.threshold);
    let setup = Setup {
        late: limit,
        irqs: limit,
        softirqs: limit.filter(|_| args.softirq),
        ..Setup::default()
    };
    let recorder = Recorder::load(&mut storage, &setup)?;
    let rings = [pt_ring_of::PT_RING_SOFTIRQ, pt_ring_of::PT_RING_HARDIRQ];
    let watch = Watch::start(Kind::Irqoff, &args.common, recorder, args.threshold, &rings)?;
    let cpus: Vec<u32> = (0..watch.memory().cpus()).collect();
    let _armed = args
        .arm
        .map(|hz| watch.recorder().arm(&cpus, hz))
        .transpose()?;
    let mut stolen = Stolen::new();
    watch.run(&args.common, control, move |watch, records| {
        stolen.look();
        let limit_ns = args.threshold.as_nanos() as u64;
        events(watch, &records, limit_ns, &stolen)
    })
}

fn events(watch: &Watch<'_>, records: &[Record], limit_ns: u64, stolen: &Stolen) -> Vec<Event> {
    let mut events = Vec::new();
    for record in records {
        let event = &record.event;
        match pt_record_type(u32::from(event.r#type)) {
            pt_record_type::PT_LATE if !is_repeated(record, records) => {
                events.push(late(watch, record, stolen));
            }
            pt_record_type::PT_IRQ => {
                let mut found = watch.event(record, Class::Hardirq, event.ns);
                found.vector = Some(irq_name(record));
                events.push(found);
            }
            pt_record_type::PT_SOFTIRQ => events.extend(softirq(watch, record, limit_ns)),
            _ => {}
        }
    }
    events
}

/// Late because of a handler, which has a row of its own, or another timer of the same section was
/// later still.
fn is_repeated(record: &Record, records: &[Record]) -> bool {
    let overlap = |other: &Record| {
        let begin = record.begin_ns().max(other.begin_ns());
        record
            .event
            .end_ns
            .min(other.event.end_ns)
            .saturating_sub(begin)
    };
    let explains = |other: &&Record| {
        let much = overlap(other) * 2 > record.event.ns;
        let same = std::ptr::eq(*other, record);
        let later = other.event.ns > record.event.ns
            || (other.event.ns == record.event.ns && other.event.end_ns < record.event.end_ns);
        let late = watch::is(other, pt_record_type::PT_LATE) && later;
        !same
            && other.cpu == record.cpu
            && much
            && (watch::is(other, pt_record_type::PT_IRQ) || late)
    };
    records.iter().any(|other| explains(&other))
}

fn late(watch: &Watch<'_>, record: &Record, stolen: &Stolen) -> Event {
    let ns = record.event.ns;
    let class = if stolen.ns(record.cpu) * 2 >= ns {
        Class::Stolen
    } else {
        Class::Irqoff
    };
    let mut event = watch.event(record, class, ns);
    event.most_ns = Some(ns + record.event.wait_ns);
    if class == Class::Irqoff {
        event.stack = watch.stack(record);
    }
    event
}

fn softirq(watch: &Watch<'_>, record: &Record, limit_ns: u64) -> Vec<Event> {
    const NAMES: [&str; 10] = [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER",
        "RCU",
    ];
    let event = &record.event;
    let vector = NAMES
        .get(event.other as usize)
        .map(|name| (*name).to_owned());
    let mut events = Vec::new();
    if event.wait_ns >= limit_ns {
        let entry = record.begin_ns();
        let mut found = watch.event(record, Class::SoftirqDelay, event.wait_ns);
        found.ran = watch.ran(record.cpu, entry - event.wait_ns, entry, 0);
        found.vector.clone_from(&vector);
        events.push(found);
    }
    if event.ns >= limit_ns {
        let mut found = watch.event(record, Class::SoftirqRun, event.ns);
        found.vector = vector;
        events.push(found);
    }
    events
}

/// The device or purpose of an interrupt.
fn irq_name(record: &Record) -> String {
    let number = record.event.other;
    if u32::from(record.event.flags) & pt_record_flag::PT_VECTOR.0 != 0 {
        return match pt_vector(number) {
            pt_vector::PT_LOCAL_TIMER => "local_timer".to_owned(),
            pt_vector::PT_CALL_FUNCTION => "call_function".to_owned(),
            _ => "call_function_single".to_owned(),
        };
    }
    let actions = fs::read_to_string(format!("/sys/kernel/irq/{number}/actions"));
    match actions.as_deref().map(str::trim) {
        Ok(name) if !name.is_empty() => format!("{number}:{name}"),
        _ => number.to_string(),
    }
}

/// Time that the hypervisor took since the last look but one, by CPU (proc(5), /proc/stat).
struct Stolen {
    before: HashMap<u32, u64>,
    taken_ns: HashMap<u32, u64>,
}

impl Stolen {
    fn new() -> Self {
        Self {
            before: read_steal(),
            taken_ns: HashMap::new(),
        }
    }

    fn look(&mut self) {
        let now = read_steal();
        let taken = |(cpu, ns): (&u32, &u64)| {
            let before = self.before.get(cpu).copied().unwrap_or(*ns);
            (*cpu, ns.saturating_sub(before))
        };
        self.taken_ns = now.iter().map(taken).collect();
        self.before = now;
    }

    fn ns(&self, cpu: u32) -> u64 {
        self.taken_ns.get(&cpu).copied().unwrap_or(0)
    }
}

/// Nanoseconds by CPU.
fn read_steal() -> HashMap<u32, u64> {
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_whitespace();
        let cpu = words.next()?.parse().ok()?;
        let steal: u64 = words.nth(7)?.parse().ok()?;
        Some((cpu, steal * tick_ns))
    };
    stat.lines().filter_map(line).collect()
}

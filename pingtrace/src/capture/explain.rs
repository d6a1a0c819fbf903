//! `--explain`: the blame for slow probes. A recorder runs beside the probes. When a probe was slow, the
//! recorder's events on the CPUs of its stamps are joined with the stamps. Each end does that for its own
//! host by its own clock, so the clocks need not agree.

use crate::control::Pulse;
use crate::kernel::ids::Ids;
use crate::kernel::object::Storage;
use crate::kernel::privileges::REAL_TIME;
use crate::kernel::recorder::{self, CpuEvent, Hook, Memory, Recorder, Setup};
use crate::kernel::symbols::Symbols;
use crate::units::{monotonic_ns, thread_cpu_ns};
use crate::wire::number::{Sequence, SessionId};
use anyhow::{Context, Result};
use bpf::recorder::types::{pt_event_flag, pt_event_type};
use report::analysis::blame::{Span, Window, join};
use report::companion::{beyond_interrupt, function_of};
use report::model::{Blame, Class};
use std::collections::BTreeMap;
use std::iter;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Limits from which on the recorder keeps an event: below the shortest segment that is explained.
const WAIT: Duration = Duration::from_micros(50);
const LATE: Duration = Duration::from_micros(100);
const IRQ: Duration = Duration::from_micros(20);
/// Explaining takes at most this part of a CPU, and this much at once, ns.
const SHARE: u64 = 20;
const BURST_NS: u64 = 20_000_000;
/// Timers a second on a CPU that receives probes.
const TICKS: u32 = 1000;
/// Upper bound on slow probes that wait for the explaining thread.
const QUEUE: usize = 256;
/// Upper bound on the wait for answers at the end of a run.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The probe that a question is about.
pub type Asked = (SessionId, Sequence);

/// Explains slow probes of this host.
pub struct Explainer {
    memory: Arc<Memory>,
    symbols: Symbols,
    ids: Ids,
    min_ns: u64,
    /// This process, as the kernel numbers it.
    tgid: u32,
    /// Until when the share of a CPU is used up, `CLOCK_MONOTONIC` ns.
    used_ns: u64,
    /// Slow probes that were not explained because there were too many.
    pub skipped: u64,
    /// The last CPU that was read: probes that one stall made slow follow one another.
    seen: Seen,
}

/// What a CPU did.
#[derive(Default)]
struct Seen {
    cpu: u16,
    /// From when on the spans are complete, `CLOCK_MONOTONIC` ns.
    from_ns: u64,
    /// Until when they are complete, ns.
    to_ns: u64,
    spans: Vec<Span>,
}

impl Seen {
    fn covers(&self, window: &Window) -> bool {
        self.cpu == window.cpu && self.from_ns <= window.from_ns && window.to_ns < self.to_ns
    }
}

/// Timers on the CPUs that receive probes. One that expires late shows since when interrupts were off there,
/// and those that are there anyway, on an idle CPU or at each tick, are too few for that.
#[derive(Default)]
pub struct Ticks(BTreeMap<u32, Vec<OwnedFd>>);

impl Ticks {
    /// Starts those of new CPUs; all end with this value.
    pub fn start(&mut self, cpus: impl Iterator<Item = u32>) {
        for cpu in cpus {
            self.0.entry(cpu).or_insert_with(|| {
                let ticks = recorder::tick(&[cpu], TICKS);
                let refused = |e| log::warn!("--explain: interrupts off on CPU {cpu}: {e:#}");
                ticks.map_err(refused).unwrap_or_default()
            });
        }
    }
}

/// The running recorder, and what an explainer of it needs.
pub struct Start<'a> {
    /// Records as long as it lives.
    pub recorder: Recorder<'a>,
    min: Duration,
    tgid: u32,
}

impl<'a> Start<'a> {
    /// Starts to record, to explain segments of at least this length.
    pub fn record(storage: &'a mut Storage, min: Duration) -> Result<Self> {
        let setup = Setup {
            waits: Some(WAIT),
            reschedules: Some(WAIT),
            sampled: true,
            softirqs: Some(WAIT),
            late: Some(LATE),
            irqs: Some(IRQ),
            ..Setup::default()
        };
        let mut recorder = Recorder::load(storage, &setup)?;
        recorder.attach()?;
        if recorder.reschedules() == Hook::None {
            log::warn!(
                "--explain: who does not call the scheduler cannot be seen: needs root, or {REAL_TIME}"
            );
        }
        Ok(Self {
            tgid: recorder.own_tgid(),
            recorder,
            min,
        })
    }

    /// An explainer that runs in the calling thread.
    pub fn explainer(&self) -> Explainer {
        Explainer::new(self.recorder.memory(), self.min, self.tgid)
    }

    /// An explainer in a thread of its own, because the receiving thread has no time for it.
    pub fn in_background(&self, pulse: Pulse) -> Result<Background> {
        let (memory, min, tgid) = (self.recorder.memory(), self.min, self.tgid);
        let (queue, slow) = sync_channel::<(Asked, Vec<Window>)>(QUEUE);
        let (done, results) = channel();
        let (ready, started) = channel();
        let explain = move || {
            let mut explainer = Explainer::new(memory, min, tgid);
            let _ = ready.send(());
            while let Ok((probe, windows)) = pulse.awaits(|| slow.recv()) {
                let blame = explainer.blame(&windows);
                if !blame.is_empty() {
                    // The receiver of the answer may have ended.
                    let _ = done.send((probe, blame));
                }
            }
        };
        let thread = thread::Builder::new().name("explainer".into());
        thread
            .spawn(explain)
            .context("start the explaining thread")?;
        // Reading the kernel's symbols would disturb the first probes.
        started.recv().context("start the explaining thread")?;
        Ok(Background {
            min_ns: min.as_nanos() as u64,
            queue,
            results,
        })
    }
}

/// An explainer in a thread of its own, which ends when this is dropped. It answers in the order of
/// the questions; questions beyond `QUEUE` have no answer.
pub struct Background {
    min_ns: u64,
    queue: SyncSender<(Asked, Vec<Window>)>,
    results: Receiver<(Asked, Vec<Blame>)>,
}

impl Background {
    /// Shorter segments are not explained, ns.
    pub fn min_ns(&self) -> u64 {
        self.min_ns
    }

    /// Asks what had the CPU in these windows of a probe.
    pub fn ask(&self, probe: Asked, windows: Vec<Window>) {
        // A question without room has no answer, and counts as not explained.
        let _ = self.queue.try_send((probe, windows));
    }

    /// The answers so far.
    pub fn answers(&self) -> impl Iterator<Item = (Asked, Vec<Blame>)> {
        self.results.try_iter()
    }

    /// The answers to all questions, if they arrive soon.
    pub fn last_answers(self) -> impl Iterator<Item = (Asked, Vec<Blame>)> {
        let Self { queue, results, .. } = self;
        drop(queue);
        let deadline = Instant::now() + LAST_ANSWERS;
        iter::from_fn(move || {
            let left = deadline.saturating_duration_since(Instant::now());
            results.recv_timeout(left).ok()
        })
    }
}

impl Explainer {
    fn new(memory: Arc<Memory>, min: Duration, tgid: u32) -> Self {
        let symbols = Symbols::default();
        // Reads the table now, not when the first probe is slow.
        symbols.kernel(&[u64::MAX]);
        Self {
            memory,
            symbols,
            ids: Ids::read().unwrap_or_else(|e| {
                log::warn!("--explain: tasks have the kernel's numbers, not those of /proc: {e:#}");
                Ids::default()
            }),
            min_ns: min.as_nanos() as u64,
            tgid,
            used_ns: 0,
            skipped: 0,
            seen: Seen::default(),
        }
    }

    /// Shorter segments are not explained, ns.
    pub fn min_ns(&self) -> u64 {
        self.min_ns
    }

    /// What had the CPU in each of these windows; empty if explaining would exceed its share of a CPU.
    pub fn blame(&mut self, windows: &[Window]) -> Vec<Blame> {
        let now = monotonic_ns();
        self.used_ns = self.used_ns.max(now.saturating_sub(BURST_NS * SHARE));
        if self.used_ns > now {
            self.skipped += 1;
            return Vec::new();
        }
        // CPU time counts, as time off the CPU costs nothing, and faults cause much of it.
        // The names of newly loaded code are read by the keeper, and have bounds of their own.
        let begin = thread_cpu_ns();
        let one = |window: &Window| {
            if !self.seen.covers(window) {
                self.seen = self.look(window);
            }
            let mut blame = join(&self.seen.spans, window);
            for part in &mut blame.parts {
                part.tid = self.ids.number(part.tid);
            }
            blame
        };
        let blame = windows.iter().map(one).collect();
        self.used_ns += (thread_cpu_ns() - begin) * SHARE;
        blame
    }

    /// The recorder's events on the CPU of a window since its beginning.
    fn look(&self, window: &Window) -> Seen {
        let cpu = u32::from(window.cpu);
        let to_ns = monotonic_ns();
        let mut records = Vec::new();
        for ring in 0..recorder::RINGS {
            self.memory.since(cpu, ring, window.from_ns, &mut records);
        }
        let samples: Vec<&CpuEvent> = records
            .iter()
            .filter(|r| is(r, pt_event_type::PT_SAMPLE))
            .collect();
        let spans = records.iter().filter_map(|record| self.span(record));
        let mut spans: Vec<Span> = spans.chain(self.running(cpu)).collect();
        for sample in samples {
            let at = sample.event.end_ns;
            let function = self.function(sample);
            let hit = |span: &&mut Span| {
                span.tid == sample.event.tid && span.from_ns <= at && at <= span.to_ns
            };
            let unnamed = spans
                .iter_mut()
                .filter(hit)
                .filter(|s| s.function.is_none());
            unnamed.for_each(|span| span.function.clone_from(&function));
        }
        Seen {
            cpu: window.cpu,
            from_ns: window.from_ns,
            to_ns,
            spans,
        }
    }

    fn span(&self, record: &CpuEvent) -> Option<Span> {
        let event = &record.event;
        let flagged = |flag: pt_event_flag| u32::from(event.flags) & flag.0 != 0;
        let (class, who) = match pt_event_type(u32::from(event.r#type)) {
            pt_event_type::PT_SWITCH if event.tid != 0 => (self.task(event.tgid), record.comm()),
            pt_event_type::PT_WAIT if event.tgid == self.tgid && event.wait_ns > 0 => {
                (Class::Quota, record.comm())
            }
            pt_event_type::PT_RESCHED if flagged(pt_event_flag::PT_LAZY) => {
                (Class::Lazy, record.comm())
            }
            pt_event_type::PT_RESCHED => (Class::Hard, record.comm()),
            pt_event_type::PT_SOFTIRQ => (Class::SoftirqRun, recorder::softirq_name(event.other)),
            pt_event_type::PT_IRQ => (Class::Hardirq, recorder::irq_name(record)),
            pt_event_type::PT_LATE
                if flagged(pt_event_flag::PT_ENTRY) && !flagged(pt_event_flag::PT_ENABLED) =>
            {
                (Class::Outside, record.comm())
            }
            pt_event_type::PT_LATE => (Class::Irqoff, record.comm()),
            _ => return None,
        };
        let to_ns = match class {
            Class::Quota => record.begin_ns() + event.wait_ns,
            _ => event.end_ns,
        };
        let function = self.function(record);
        // User code cannot delay the scheduler, and the idle task is nobody's fault.
        let is_resched = matches!(class, Class::Hard | Class::Lazy);
        if is_resched && (event.tid == 0 || function.is_none()) {
            return None;
        }
        Some(Span {
            from_ns: record.begin_ns(),
            to_ns,
            class,
            who,
            tid: event.tid,
            function,
        })
    }

    /// The task that still has the CPU.
    fn running(&self, cpu: u32) -> Option<Span> {
        let state = self.memory.cpu(cpu);
        (state.tid != 0 && state.since_ns != 0).then(|| Span {
            from_ns: state.since_ns,
            to_ns: u64::MAX,
            class: self.task(state.tgid),
            who: recorder::comm(&state.comm),
            tid: state.tid,
            function: None,
        })
    }

    fn task(&self, tgid: u32) -> Class {
        if tgid == self.tgid {
            Class::Own
        } else {
            Class::Cpu
        }
    }

    fn function(&self, record: &CpuEvent) -> Option<String> {
        let addresses = self.memory.stack(record);
        if addresses.is_empty() {
            return None;
        }
        let frames = self.symbols.kernel_at(record.event.end_ns, &addresses);
        let stack = beyond_interrupt(frames);
        function_of(&stack).map(str::to_owned)
    }
}

fn is(record: &CpuEvent, kind: pt_event_type) -> bool {
    u32::from(record.event.r#type) == kind.0
}

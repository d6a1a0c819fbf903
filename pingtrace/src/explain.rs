//! `--explain`: the blame for slow probes. A recorder runs beside the probes; when one was slow,
//! what it saw on the CPUs of the probe's stamps is joined with them. Each end does that for its
//! own host by its own clock, so the clocks need not agree.

use crate::recorder::{self, Hook, Memory, Record, Recorder, Setup, Storage};
use crate::symbols::Symbols;
use anyhow::Result;
use bpf::recorder::types::{pt_record_flag, pt_record_type};
use report::blame::{Blame, Span, Window, join};
use report::companion::{Class, beyond_interrupt, function_of};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// What the recorder keeps: shorter than a segment that is worth explaining.
const WAIT: Duration = Duration::from_micros(50);
const LATE: Duration = Duration::from_micros(100);
const IRQ: Duration = Duration::from_micros(20);
/// Probes that are explained a second, at most: reading the rings takes some 100 us.
const MOST_A_SECOND: u64 = 500;

/// Explains slow probes of this host.
pub struct Explainer<'a> {
    recorder: Recorder<'a>,
    memory: Arc<Memory>,
    symbols: Symbols,
    least_ns: u64,
    tgid: u32,
    /// When the next may be explained, `CLOCK_MONOTONIC` ns.
    next_ns: Cell<u64>,
    skipped: Cell<u64>,
}

impl<'a> Explainer<'a> {
    /// Records from now on, to explain segments of at least so long.
    pub fn start(storage: &'a mut Storage, least: Duration) -> Result<Self> {
        let setup = Setup {
            waits: Some(WAIT),
            reschedules: Some(WAIT),
            softirqs: Some(WAIT),
            late: Some(LATE),
            irqs: Some(IRQ),
            ..Setup::default()
        };
        let mut recorder = Recorder::load(storage, &setup)?;
        recorder.attach()?;
        let symbols = Symbols::default();
        // Reads the table now, not when the first probe is slow.
        symbols.kernel(&[u64::MAX]);
        if recorder.reschedules() == Hook::None {
            log::warn!("--explain: this kernel does not show who does not call the scheduler");
        }
        Ok(Self {
            memory: recorder.memory(),
            tgid: recorder.own_tgid(),
            recorder,
            symbols,
            least_ns: least.as_nanos() as u64,
            next_ns: Cell::new(0),
            skipped: Cell::new(0),
        })
    }

    /// What is shorter is not explained, ns.
    pub fn least_ns(&self) -> u64 {
        self.least_ns
    }

    /// Slow probes that were not explained because there were too many.
    pub fn skipped(&self) -> u64 {
        self.skipped.get()
    }

    /// The recorder's programs, for their cost.
    pub fn programs(&self) -> crate::meter::Programs {
        self.recorder.programs()
    }

    /// Who had the CPU in each of these windows, at `now_ns`.
    pub fn blame(&self, windows: &[Window], now_ns: u64) -> Vec<Blame> {
        if windows.is_empty() {
            return Vec::new();
        }
        let next = self.next_ns.get().max(now_ns.saturating_sub(100_000_000));
        if next > now_ns {
            self.skipped.set(self.skipped.get() + 1);
            return Vec::new();
        }
        self.next_ns.set(next + 1_000_000_000 / MOST_A_SECOND);
        let one = |window: &Window| join(&self.spans(window), window);
        windows.iter().map(one).collect()
    }

    /// What the recorder saw on the CPU of a window, meanwhile.
    fn spans(&self, window: &Window) -> Vec<Span> {
        let cpu = u32::from(window.cpu);
        let mut records = Vec::new();
        for ring in 0..recorder::RINGS {
            self.memory.read(cpu, ring, 0, &mut records);
        }
        records.retain(|record| {
            record.event.end_ns >= window.from_ns && record.begin_ns() <= window.to_ns
        });
        let samples: Vec<&Record> = records
            .iter()
            .filter(|r| is(r, pt_record_type::PT_SAMPLE))
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
        spans
    }

    fn span(&self, record: &Record) -> Option<Span> {
        let event = &record.event;
        let flagged = |flag: pt_record_flag| u32::from(event.flags) & flag.0 != 0;
        let (class, who) = match pt_record_type(u32::from(event.r#type)) {
            pt_record_type::PT_SWITCH if event.tid != 0 => (self.task(event.tgid), record.comm()),
            pt_record_type::PT_WAIT if event.tgid == self.tgid && event.wait_ns > 0 => {
                (Class::Quota, record.comm())
            }
            pt_record_type::PT_RESCHED if flagged(pt_record_flag::PT_LAZY) => {
                (Class::Lazy, record.comm())
            }
            pt_record_type::PT_RESCHED => (Class::Hard, record.comm()),
            pt_record_type::PT_SOFTIRQ => (Class::SoftirqRun, recorder::softirq_name(event.other)),
            pt_record_type::PT_IRQ => (Class::Hardirq, recorder::irq_name(record)),
            pt_record_type::PT_LATE
                if flagged(pt_record_flag::PT_ENTRY) && !flagged(pt_record_flag::PT_ENABLED) =>
            {
                (Class::Outside, record.comm())
            }
            pt_record_type::PT_LATE => (Class::Irqoff, record.comm()),
            _ => return None,
        };
        let to_ns = match class {
            Class::Quota => record.begin_ns() + event.wait_ns,
            _ => event.end_ns,
        };
        Some(Span {
            from_ns: record.begin_ns(),
            to_ns,
            class,
            who,
            tid: event.tid,
            function: self.function(record),
        })
    }

    /// Who has the CPU, and has not left it yet.
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

    fn function(&self, record: &Record) -> Option<String> {
        let addresses = self.memory.stack(record);
        if addresses.is_empty() {
            return None;
        }
        let stack = beyond_interrupt(self.symbols.kernel(&addresses));
        function_of(&stack).map(str::to_owned)
    }
}

fn is(record: &Record, kind: pt_record_type) -> bool {
    u32::from(record.event.r#type) == kind.0
}

//! Rows of irqoff, nosched and runqlat: something on a CPU took longer than it may.

use super::time::Time;
use crate::model::Class;
use crate::printable::printable;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Which companion saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Interrupts or softirqs were delayed, or ran long.
    Irqoff,
    /// The kernel ran on although another task was to run.
    Nosched,
    /// A task waited for its CPU.
    Runqlat,
}

impl Kind {
    /// The subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::Irqoff => "irqoff",
            Self::Nosched => "nosched",
            Self::Runqlat => "runqlat",
        }
    }
}

/// A task that ran while another one waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// Its name.
    pub comm: String,
    /// Its thread id.
    pub tid: u32,
    /// How long, ns.
    pub ns: u64,
}

/// A place in code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its address.
    pub address: u64,
    /// `function+0x12`, if it could be named.
    pub name: Option<String>,
}

impl Frame {
    /// A stack in text, a frame a line.
    pub(super) fn lines(stack: &[Self]) -> String {
        stack.iter().fold(String::new(), |mut lines, frame| {
            let name = printable(frame.name.as_deref().unwrap_or("?"));
            let _ = writeln!(lines, "    <{:#018x}> {name}", frame.address);
            lines
        })
    }
}

/// The name, or else the address.
impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.name {
            Some(name) => serializer.serialize_str(name),
            None => serializer.collect_str(&format_args!("{:#x}", self.address)),
        }
    }
}

/// Something took longer than the threshold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The companion.
    pub companion: Kind,
    /// When it ended.
    pub time: Time,
    /// Where.
    pub cpu: u32,
    /// irqoff, nosched: the task that ran; runqlat: the task that waited.
    pub comm: String,
    /// Its thread id in the initial PID namespace.
    pub tid: u32,
    /// How long, ns.
    pub lat_ns: u64,
    /// Upper bound, ns, where only a bracket is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_ns: Option<u64>,
    /// What it was.
    pub class: Class,
    /// Of class `hardirq` and softirqs: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    /// nosched: the task that was to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub victim: Option<(String, u32)>,
    /// runqlat: runnable tasks on that CPU when it got it, itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nr_running: Option<u32>,
    /// runqlat: how much of it was for the quota of the cgroup, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_ns: Option<u64>,
    /// runqlat, softirqs that waited: the tasks that ran instead, the longest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ran: Vec<Ran>,
    /// Where the kernel was, the innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<Frame>,
    /// Container of the task, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Header of the text rows of a companion, with its newline.
pub fn event_header(companion: Kind) -> String {
    let own = match companion {
        Kind::Irqoff => "   MAX(us) CLASS",
        Kind::Nosched => "CLASS VICTIM",
        Kind::Runqlat => "CLASS NR_RUNNING",
    };
    let time = format!("TIME({})", companion.name());
    format!("{time:<26} CPU {:<16}     TID    LAT(us) {own}\n", "COMM")
}

/// A stack without the program that took it, at a tracepoint (`kernel/trace/bpf_trace.c`).
pub fn beyond_tracing(mut stack: Vec<Frame>) -> Vec<Frame> {
    let tracing = |frame: &Frame| {
        let name = frame.name.as_deref().unwrap_or_default();
        ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"]
            .iter()
            .any(|own| name.starts_with(own))
    };
    let own = stack.iter().position(|frame| !tracing(frame));
    stack.drain(..own.unwrap_or(0));
    stack
}

/// The interrupted part of a stack: the frames beyond the entry of the interrupt, if the stack has it
/// (arch/x86/entry, arch/arm64/kernel/entry.S). Empty if user code was interrupted.
pub fn beyond_interrupt(stack: Vec<Frame>) -> Vec<Frame> {
    let is_entry = |frame: &Frame| {
        let name = frame.name.as_deref().unwrap_or_default();
        name.starts_with("asm_sysvec_")
            || name.starts_with("asm_common_interrupt")
            || name.starts_with("el1h_64_irq+")
            || name.starts_with("el0t_64_irq+")
    };
    match stack.iter().position(is_entry) {
        Some(entry) => stack[entry + 1..].to_vec(),
        None => stack,
    }
}

/// Functions that do not identify the culprit: they turn interrupts on again, or call the scheduler.
const UNLOCKS: [&str; 9] = [
    "_raw_spin_unlock",
    "_raw_read_unlock",
    "_raw_write_unlock",
    "__local_bh_enable",
    "preempt_schedule",
    "__schedule",
    "__cond_resched",
    "irqentry_exit",
    "exit_to_user_mode",
];

/// The innermost function of a stack that may be the culprit.
pub fn function_of(stack: &[Frame]) -> Option<&str> {
    let names = stack.iter().filter_map(|frame| frame.name.as_deref());
    let functions = names.filter_map(|name| name.split('+').next());
    let telling = |name: &&str| !UNLOCKS.iter().any(|unlock| name.starts_with(unlock));
    functions.filter(|name| *name != "schedule").find(telling)
}

impl Event {
    /// The culprit by this row.
    pub fn culprit(&self) -> String {
        let task = || task(&self.comm, self.tid);
        match self.class {
            Class::Hardirq | Class::SoftirqRun => {
                let vector = self.vector.as_deref().map(printable);
                vector.map_or_else(task, Cow::into_owned)
            }
            Class::Stolen => "the hypervisor".to_owned(),
            Class::Outside => "nothing in this kernel".to_owned(),
            Class::Quota | Class::Own => task(),
            Class::SoftirqDelay | Class::Cpu => {
                let longest = self.ran.first();
                longest.map_or_else(task, |ran| ran.task() + " ran")
            }
            Class::Irqoff | Class::Hard | Class::Lazy => match function_of(&self.stack) {
                Some(function) => format!("{} in {}", task(), printable(function)),
                None => task(),
            },
        }
    }

    /// The text in a picture: the culprit, and below it the stack or the tasks that ran instead.
    pub(super) fn label(&self) -> String {
        let mut label = self.culprit() + "\n";
        for ran in &self.ran {
            let _ = writeln!(label, "{} {} us", ran.task(), us(ran.ns));
        }
        label + &Frame::lines(&self.stack)
    }

    /// A row, and what belongs to it indented below.
    pub(super) fn text(&self) -> String {
        let (time, us) = (self.time.text(), us(self.lat_ns));
        let mut text = format!(
            "{time:<26} {:>3} {:<16} {:>7} {us:>10} ",
            self.cpu,
            printable(&self.comm),
            self.tid
        );
        text += &match self.companion {
            Kind::Irqoff => self.irqoff_columns(),
            Kind::Nosched => self.nosched_columns(),
            Kind::Runqlat => self.runqlat_columns(),
        };
        if let Some(container) = &self.container {
            let _ = write!(text, " [containerId:{}]", printable(container));
        }
        text.push('\n');
        for ran in &self.ran {
            let _ = writeln!(
                text,
                "    ran instead: {} {} us",
                ran.task(),
                self::us(ran.ns)
            );
        }
        text + &Frame::lines(&self.stack)
    }

    fn irqoff_columns(&self) -> String {
        let max = self.most_ns.map_or("-".to_owned(), us);
        let class = self.class.name();
        match &self.vector {
            Some(vector) => format!("{max:>10} {class} {}", printable(vector)),
            None => format!("{max:>10} {class}"),
        }
    }

    fn nosched_columns(&self) -> String {
        let victim = self.victim.as_ref();
        let victim = victim.map_or("-".to_owned(), |(comm, tid)| task(comm, *tid));
        format!("{:<5} {victim}", self.class.name())
    }

    fn runqlat_columns(&self) -> String {
        let runnable = self.nr_running.map_or("-".to_owned(), |n| n.to_string());
        format!("{:<5} {runnable:>10}", self.class.name())
    }
}

impl Ran {
    /// For people.
    fn task(&self) -> String {
        task(&self.comm, self.tid)
    }
}

fn task(comm: &str, tid: u32) -> String {
    format!("{}/{tid}", printable(comm))
}

fn us(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

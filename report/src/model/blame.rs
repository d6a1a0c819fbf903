//! What had the CPU while a segment lasted.

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::segment::Segment;

/// What took the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Hard interrupts were off.
    Irqoff,
    /// A hard interrupt's handler ran.
    Hardirq,
    /// A softirq waited from its raise to its entry.
    SoftirqDelay,
    /// A softirq ran.
    SoftirqRun,
    /// The hypervisor ran something else.
    Stolen,
    /// Nothing in this kernel had interrupts off: probably the hypervisor or the firmware, or a trap that
    /// nothing traces.
    Outside,
    /// `need_resched` was set, and the kernel did not call the scheduler.
    Hard,
    /// A lazy reschedule was requested: by design it may take until the next tick.
    Lazy,
    /// Others had the CPU.
    Cpu,
    /// The cgroup's quota was used up.
    Quota,
    /// The thread itself had the CPU.
    Own,
}

impl Class {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Irqoff => "interrupts off",
            Self::Hardirq => "hard interrupt",
            Self::SoftirqDelay => "softirq waited",
            Self::SoftirqRun => "softirq ran",
            Self::Stolen => "vCPU stolen",
            Self::Outside => "held up from outside (hypervisor or firmware)",
            Self::Hard => "did not schedule",
            Self::Lazy => "did not schedule (lazy)",
            Self::Cpu => "CPU taken",
            Self::Quota => "quota used up",
            Self::Own => "ran itself",
        }
    }

    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
        Self::deserialize(name).ok()
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Irqoff => "irqoff",
            Self::Hardirq => "hardirq",
            Self::SoftirqDelay => "softirq_delay",
            Self::SoftirqRun => "softirq_run",
            Self::Stolen => "stolen",
            Self::Outside => "outside",
            Self::Hard => "hard",
            Self::Lazy => "lazy",
            Self::Cpu => "cpu",
            Self::Quota => "quota",
            Self::Own => "own",
        }
    }
}

/// A part of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it was.
    pub class: Class,
    /// A task's name, or which interrupt or softirq.
    #[serde(rename = "comm")]
    pub who: String,
    /// The task; 0 where there is none.
    pub tid: u32,
    /// How long, ns.
    pub ns: u64,
    /// Where the kernel was, if that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// What had the CPU during a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    /// The segment.
    pub segment: Segment,
    /// On which host.
    pub host: Host,
    /// The CPU.
    pub cpu: u16,
    /// How long the segment took, ns.
    pub window_ns: u64,
    /// What is explained, the longest first.
    pub parts: Vec<Part>,
    /// In their order: from (ns since the segment began), for how long, and which of the parts.
    /// Empty for another host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lane: Vec<(u64, u64, usize)>,
}

/// A culprit of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlameCount {
    /// On which host.
    pub host: Host,
    /// In which segment.
    pub segment: Segment,
    /// What it was.
    pub class: Class,
    /// A task's name, or which interrupt or softirq.
    #[serde(rename = "comm")]
    pub who: String,
    /// The task, where it was always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Number of probes.
    pub probes: u64,
    /// Time in all of them, ns.
    pub ns: u64,
}

/// What was to blame over a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlameSummary {
    /// Probes with a blame.
    pub probes: u64,
    /// Of these, probes without an explanation.
    pub unexplained: u64,
    /// Slow probes that were not explained: too many at once.
    #[serde(default)]
    pub skipped: u64,
    /// Those with the most time first.
    pub culprits: Vec<BlameCount>,
}

impl BlameSummary {
    /// Nothing was to be explained.
    pub fn is_empty(&self) -> bool {
        self.probes == 0 && self.skipped == 0
    }

    /// The largest of its counts of probes.
    pub(crate) fn largest(&self) -> u64 {
        let of_culprits = self.culprits.iter().map(|culprit| culprit.probes);
        let others = [self.probes, self.unexplained, self.skipped];
        of_culprits.chain(others).max().unwrap_or(0)
    }
}

//! What a page is made from.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::analysis::exponential::Exponential;
use crate::analysis::target_counts::TargetCounts;
use crate::model::{Class, ClockSummary, Counters, LossCount, ProgramCost, Segment};

/// One target, at one time.
#[derive(Clone, Debug, Default)]
pub struct TargetView {
    /// Its name, as the user gave it.
    pub name: String,
    /// The user's labels for it.
    pub labels: BTreeMap<String, String>,
    /// The session of its probes.
    pub session: u32,
    /// The probes since the start, or since the last view; what all targets have together goes to [`NodeTotals::count`].
    pub counts: TargetCounts,
    /// The losses of `counts`, with the names of their reasons.
    pub losses: Vec<LossCount>,
    /// The run's counters.
    pub counters: Counters,
    /// The server's clock; absent where both ends have one, or nothing is known of it.
    pub clock: Option<ClockSummary>,
    /// The programs in the kernel, if their run times are counted.
    pub programs: Vec<ProgramCost>,
}

/// The server, at one time. Counts of 0 can be left out.
#[derive(Clone, Debug, Default)]
pub struct ServerView {
    /// Stamps sent, by the way in which they were.
    pub stamps: Vec<(&'static str, u64)>,
    /// Stamp packets that were not sent, by reason.
    pub withheld: Vec<(&'static str, u64)>,
    /// What was lost or refused, by kind.
    pub lost: Vec<(&'static str, u64)>,
    /// Clients that are remembered.
    pub clients: u64,
    /// When its programs are attached.
    pub arming: ArmingView,
}

/// How a server was armed, that is, its programs attached, so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArmingView {
    /// It is.
    pub is_armed: bool,
    /// How often a request armed it.
    pub times: u64,
    /// How long it was, nanoseconds.
    pub ns: u64,
    /// Requests that came before the programs were attached.
    pub unseen: u64,
}

/// What this process costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time, user and system, nanoseconds.
    pub cpu_ns: u64,
    /// Memory, bytes.
    pub resident_bytes: u64,
    /// When it began, seconds since the Unix epoch.
    pub start_s: f64,
}

/// Everything that a page says.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// Version of the program.
    pub version: &'a str,
    /// Release of the kernel.
    pub kernel: &'a str,
    /// The cost of the process.
    pub process: Process,
    /// The targets, in an order that stays.
    pub targets: &'a [&'a TargetView],
    /// What all targets have together, with those that are no more.
    pub totals: &'a NodeTotals,
    /// The server, if this process is one.
    pub server: Option<&'a ServerView>,
}

/// What is counted for all targets together.
#[derive(Clone, Debug, Default)]
pub struct NodeTotals {
    /// Delays by segment.
    pub segments: BTreeMap<Segment, Exponential>,
    /// How late probes left.
    pub slip: Exponential,
    /// Probes that were sent to warm up, or to wake servers: no result counts them.
    pub uncounted: u64,
    /// Irregularities, by their names in JSON.
    pub irregularities: BTreeMap<String, u64>,
    /// Events of the servers' clocks.
    pub clock_events: BTreeMap<&'static str, u64>,
    /// As in [`TargetCounts`].
    pub blame_ns: BTreeMap<(bool, Class), u64>,
}

/// Counters that other families have, or that are none.
const NOT_IRREGULAR: [&str; 10] = [
    "warm_up",
    "sent",
    "replied",
    "late",
    "lost",
    "lost_out",
    "lost_in",
    "forgotten",
    "in_flight",
    "recorded",
];

impl NodeTotals {
    /// Adds what was counted of a target, once.
    pub fn count(&mut self, counts: &TargetCounts) {
        for (segment, delays) in counts.segments() {
            self.segments.entry(segment).or_default().add(delays);
        }
        self.slip.add(&counts.slip);
        for (of, ns) in &counts.blame_ns {
            let all = self.blame_ns.entry(*of).or_default();
            *all = all.saturating_add(*ns);
        }
    }

    /// Adds the counters of a target, and its clock's.
    pub fn add(&mut self, target: &TargetView) {
        self.uncounted += target.counters.warm_up;
        for (name, count) in irregularities(&target.counters) {
            self.irregularities
                .entry(name)
                .or_default()
                .add_assign(count);
        }
        if let Some(clock) = &target.clock {
            let counts = clock.counts;
            for (event, count) in [
                ("rate", counts.rate),
                ("step", counts.step),
                ("path", counts.path),
                ("glitch", counts.glitches),
            ] {
                self.clock_events
                    .entry(event)
                    .or_default()
                    .add_assign(count);
            }
        }
    }
}

/// Counters that are 0 in a run without trouble, and are not, by their names in JSON.
fn irregularities(counters: &Counters) -> impl Iterator<Item = (String, u64)> {
    let all = serde_json::to_value(counters).unwrap_or_default();
    let all = match all {
        serde_json::Value::Object(all) => all,
        _ => serde_json::Map::default(),
    };
    let counts = all
        .into_iter()
        .filter_map(|(name, count)| Some((name, count.as_u64()?)));
    counts.filter(|(name, count)| *count > 0 && !NOT_IRREGULAR.contains(&name.as_str()))
}

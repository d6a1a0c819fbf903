//! Where a probe's time went.

use super::doubt::Doubt;
use super::segment::Segment;
use super::way::{Kept, WayPart};
use serde::{Deserialize, Serialize};

/// The time that a probe spent in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delay {
    /// Which segment.
    pub segment: Segment,
    /// Nanoseconds.
    pub ns: u64,
    /// Bounds, nanoseconds, where `ns` is an estimate (the wire split between two clocks).
    pub bounds: Option<(u64, u64)>,
    /// Points inside were missing: neighbouring segments of the same owner are included.
    pub merged: bool,
    /// A softirq or NAPI span reached back before the packet's arrival and was cut.
    pub clamped: bool,
    /// Why it is not sure that all of it is the segment's owner's; absent: nothing is unsure.
    pub doubt: Option<Doubt>,
}

/// What qualifies the time of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It is an estimate with bounds.
    Estimated,
    /// Points inside were missing.
    Merged,
    /// It was cut at the packet's arrival.
    Clamped,
    /// Part of it may be another owner's.
    Doubtful,
}

impl Mark {
    /// All marks.
    pub const ALL: [Self; 4] = [Self::Estimated, Self::Merged, Self::Clamped, Self::Doubtful];

    /// What stands behind the name or the time of the segment.
    pub const fn symbol(self) -> char {
        match self {
            Self::Estimated => '~',
            Self::Merged => '*',
            Self::Clamped => '!',
            Self::Doubtful => '?',
        }
    }

    /// What it means, without its symbol.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Estimated => {
                "estimate, as the hosts have a clock each; out and in together are exact"
            }
            Self::Merged => "includes a neighbour whose point was missing",
            Self::Clamped => "only the part above the wire's base; the rest is counted as wire",
            Self::Doubtful => "part of it may be another owner's: not everything was seen",
        }
    }

    /// Whether a delay has it.
    pub const fn is_on(self, delay: &Delay) -> bool {
        match self {
            Self::Estimated => delay.bounds.is_some(),
            Self::Merged => delay.merged,
            Self::Clamped => delay.clamped,
            Self::Doubtful => delay.doubt.is_some(),
        }
    }
}

/// Which segments were ever estimated, merged or clamped: what a summary must explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks([u32; Mark::ALL.len()]);

impl Marks {
    /// Those of one segment of a probe.
    pub fn from_delay(delay: &Delay) -> Self {
        let mut marks = Self::default();
        marks.note(delay);
        marks
    }

    /// Notes the marks of one segment of a probe.
    pub fn note(&mut self, delay: &Delay) {
        let marks = Mark::ALL.into_iter().filter(|mark| mark.is_on(delay));
        marks.for_each(|mark| self.add(delay.segment, mark));
    }

    /// Notes a mark of a segment.
    pub fn add(&mut self, segment: Segment, mark: Mark) {
        self.0[mark as usize] |= 1 << segment as u32;
    }

    /// Those of a single segment.
    #[must_use]
    pub fn for_segment(self, segment: Segment) -> Self {
        let bit = 1 << segment as u32;
        Self(self.0.map(|segments| segments & bit))
    }

    /// Those that some segment has.
    pub fn used(self) -> impl Iterator<Item = Mark> {
        let is_used = move |mark: &Mark| self.0[*mark as usize] != 0;
        Mark::ALL.into_iter().filter(is_used)
    }

    /// Their symbols.
    pub fn symbols(self) -> String {
        self.used().map(Mark::symbol).collect()
    }
}

/// A probe's total, split into segments that sum to it exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Breakdown {
    /// `l_rx_user` minus `l_tx_user`, nanoseconds.
    pub total_ns: u64,
    /// The segments in path order, each at most once; the `ns` of all but [`Segment::LTxLate`] sum
    /// to `total_ns`.
    pub delays: Vec<Delay>,
    /// Stamps that contradicted their neighbours by more than the clock's granularity and were left out.
    pub unordered: u32,
    /// Both wires together, where the hosts have a clock each.
    pub wire: Option<WireExcess>,
    /// The parts of the way from client to server, from the client on, where hosts on it stamp too.
    pub way: Vec<WayPart>,
}

impl Breakdown {
    /// How late the probe left, nanoseconds after its time in the schedule; absent without a schedule.
    pub fn late_ns(&self) -> Option<u64> {
        let late = self.delays.first()?;
        (late.segment == Segment::LTxLate).then_some(late.ns)
    }

    /// From when the probe was due to the arrival of its answer, nanoseconds; the total without a
    /// schedule.
    pub fn response_ns(&self) -> u64 {
        self.total_ns.saturating_add(self.late_ns().unwrap_or(0))
    }

    /// The total, and where there is a schedule the response, nanoseconds, as `DelayStat` names
    /// them.
    pub fn sums(&self) -> impl Iterator<Item = (Option<Segment>, u64)> {
        let response = self.late_ns().map(|_| self.response_ns());
        let response = response.map(|ns| (Some(Segment::Response), ns));
        [(None, self.total_ns)].into_iter().chain(response)
    }
}

/// What is known of both wires together, whatever the offset of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WireExcess {
    /// Time on the way out without any queueing, as far as it can be known, nanoseconds.
    pub base_out_ns: u64,
    /// The same on the way in.
    pub base_in_ns: u64,
    /// Time above both, nanoseconds.
    pub excess_ns: u64,
    /// Time in hosts on the way above the least that they need; not part of `excess_ns`.
    pub kept: Kept,
    /// Error of `excess_ns` in each direction, nanoseconds.
    pub margin_ns: u64,
    /// Sum of the clocks' unpredicted moves since the run's start, nanoseconds.
    pub moved_ns: u64,
    /// The probe agrees with the clock model: the clocks are as predicted, to within the probe's excess.
    pub shows_clock: bool,
}

impl WireExcess {
    /// The excess is no smaller, nanoseconds.
    pub fn min_ns(&self) -> u64 {
        self.excess_ns.saturating_sub(self.margin_ns)
    }

    /// The excess is no larger, nanoseconds.
    pub fn max_ns(&self) -> u64 {
        self.excess_ns.saturating_add(self.margin_ns)
    }
}

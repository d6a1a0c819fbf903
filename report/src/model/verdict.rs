//! What makes probes slow: of one, and of all of a run.

use super::doubt::Doubt;
use super::segment::{Owner, Segment};
use super::stamp::AtDevice;
use super::way::Stretch;

/// How sure a verdict is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub enum Certainty {
    /// Whatever the bounds of the estimates allow.
    Sure,
    /// If what was not seen did not take the time.
    Likely,
    /// If the clocks did not move before the next quiet probe, which has not come.
    Provisional,
    /// The bounds support no name, or too little was seen.
    Undecided,
}

impl Certainty {
    /// All certainties.
    pub const ALL: [Self; 4] = [Self::Sure, Self::Likely, Self::Provisional, Self::Undecided];

    /// The certainty with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// What it says of a verdict.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sure => "the owner is so, whatever the bounds of the estimates allow",
            Self::Likely => "so unless something took the time that was not seen",
            Self::Provisional => "so unless a clock moved since the last quiet probe",
            Self::Undecided => {
                "the bounds of the estimates, or what was not seen, support no owner"
            }
        }
    }

    /// Its name in every format.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What made a probe slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Who.
    pub owner: Owner,
    /// In which segment; absent for the wire without a direction, and where it is undecided.
    pub segment: Option<Segment>,
    /// By how much it exceeded its baseline, nanoseconds; of all segments where it is undecided.
    pub excess_ns: u64,
    /// Bounds of the excess, nanoseconds, where it is an estimate.
    pub bounds: Option<(u64, u64)>,
    /// How sure that is.
    pub certainty: Certainty,
    /// CPU of the stamp that ends the segment.
    pub cpu: Option<u16>,
    /// The device at which most of the segment's time went by.
    pub at: Option<AtDevice>,
    /// The part of the way that took most of a wire's time.
    pub on_way: Option<Stretch>,
    /// What was not seen, so that it is not sure.
    pub doubt: Option<Doubt>,
}

impl Verdict {
    /// No name.
    pub(crate) const UNDECIDED: Self = Self {
        owner: Owner::Unknown,
        segment: None,
        excess_ns: 0,
        bounds: None,
        certainty: Certainty::Undecided,
        cpu: None,
        at: None,
        on_way: None,
        doubt: None,
    };
}

/// The slow probes of which one segment was the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who.
    pub owner: Owner,
    /// Which segment; absent for the wire without a direction, and where it is undecided.
    pub segment: Option<Segment>,
    /// Probes.
    pub count: u64,
    /// Those of which it is sure.
    pub sure: u64,
    /// What it took above the segment's baseline in all of them, nanoseconds.
    pub excess_ns: u64,
    /// Smallest excess over the segment's baseline, nanoseconds.
    pub min_ns: u64,
    /// Median excess, nanoseconds.
    pub p50_ns: u64,
    /// Largest excess, nanoseconds.
    pub max_ns: u64,
    /// The CPU that was concerned most often, and how often.
    pub cpu: Option<(u16, u64)>,
    /// The device that was concerned most often, and how often.
    pub at: Option<(AtDevice, u64)>,
    /// The part of the way that was concerned most often, and how often.
    pub on_way: Option<(Stretch, u64)>,
    /// What was not seen most often, and how often.
    pub doubt: Option<(Doubt, u64)>,
}

impl Cause {
    /// Who, for people.
    pub fn owner_label(&self) -> &'static str {
        match (self.owner, self.segment) {
            (Owner::Unknown, None) => "undecided",
            (owner, _) => owner.label(),
        }
    }

    /// The CPU, if it was the same one nine times out of ten.
    pub fn one_cpu(&self) -> Option<u16> {
        one(self.cpu, self.count)
    }

    /// The device, if it was the same one nine times out of ten.
    pub fn one_device(&self) -> Option<AtDevice> {
        one(self.at, self.count)
    }

    /// The part of the way, if it was the same one nine times out of ten.
    pub fn one_stretch(&self) -> Option<Stretch> {
        one(self.on_way, self.count)
    }

    /// Those of which it is not sure.
    pub const fn unsure(&self) -> u64 {
        self.count.saturating_sub(self.sure)
    }

    /// Why it is not sure of them, if it was the same nine times out of ten.
    pub fn one_doubt(&self) -> Option<Doubt> {
        one(self.doubt, self.unsure())
    }
}

/// The most frequent one, if it was that one nine times out of ten.
fn one<T>(max: Option<(T, u64)>, all: u64) -> Option<T> {
    let (of, count) = max?;
    (count >= all - all / 10).then_some(of)
}

//! What makes probes slow: of one, and of all of a run.

use super::segment::{Owner, Segment};
use super::stamp::AtDevice;

/// How sure a verdict is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::EnumString, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub enum Certainty {
    /// Whatever the bounds of the estimates allow.
    Sure,
    /// If the clocks did not move before the next quiet probe, which has not come.
    Provisional,
    /// The bounds support no name.
    Undecided,
}

impl Certainty {
    /// All certainties.
    pub const ALL: [Self; 3] = [Self::Sure, Self::Provisional, Self::Undecided];

    /// The certainty with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// What it says of a verdict.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sure => "the owner is so, whatever the bounds of the estimates allow",
            Self::Provisional => "so unless a clock moved since the last quiet probe",
            Self::Undecided => "the bounds of the estimates support no owner",
        }
    }

    /// Its name in every format.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What made a probe slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Cause {
    /// The CPU, if it was the same one nine times out of ten.
    pub fn one_cpu(&self) -> Option<u16> {
        self.one(self.cpu)
    }

    /// The device, if it was the same one nine times out of ten.
    pub fn one_device(&self) -> Option<AtDevice> {
        self.one(self.at)
    }

    fn one<T>(&self, max: Option<(T, u64)>) -> Option<T> {
        let (of, count) = max?;
        (count >= self.count - self.count / 10).then_some(of)
    }
}

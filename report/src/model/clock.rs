//! What is known of the server's clock.

/// How well the server's clock is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Fewer than three probes: nothing is known of the directions.
    Init,
    /// The clock was slewed or stepped, and has not been seen at rest yet.
    Relock,
    /// Known within the bounds that each estimate gives.
    Lock,
}

impl State {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Init, Self::Relock, Self::Lock];

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name in every machine-readable format.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Init => "not known yet",
            Self::Relock => "changed, not found again yet",
            Self::Lock => "locked",
        }
    }
}

/// Events and doubts of a model so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `Event::Rate`.
    pub rate: u64,
    /// `Event::Step`.
    pub step: u64,
    /// `Event::Path`.
    pub path: u64,
    /// Probes with bad stamps: `Glitch::TooShort`, and `Glitch::Unconfirmed` without a step.
    pub glitches: u64,
}

/// What is known of the server's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockSummary {
    /// How well it is known.
    pub state: State,
    /// By how much it runs faster than the client's, parts per million.
    pub rate_ppm: f64,
    /// Standard deviation of `rate_ppm`.
    pub rate_sd_ppm: f64,
    /// What it and the path did.
    pub counts: Counts,
    /// Time since the last quiet probe, nanoseconds: how long it may have done something unseen.
    pub in_base_age_ns: Option<u64>,
}

//! How the program ends: its exit status, and a command line that makes no sense.

use report::analysis::slo::Judged;

/// Exit status when the run failed.
pub const FAILED: u8 = 1;
/// Exit status when the command line makes no sense.
pub const USAGE: u8 = 2;
/// Exit status when no probe was answered.
pub const UNANSWERED: u8 = 3;
/// Exit status when an objective was missed.
pub const MISSED: u8 = 4;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one probe was answered.
    Answered,
    /// None was.
    Unanswered,
    /// At least one was, and an objective was missed.
    Missed,
}

impl Outcome {
    /// Names the objectives that were missed.
    #[must_use]
    pub fn judged(self, objectives: &[Judged]) -> Self {
        let mut outcome = self;
        for judged in objectives.iter().filter(|judged| !judged.met) {
            log::error!("objective missed: {judged}");
            if self == Self::Answered {
                outcome = Self::Missed;
            }
        }
        outcome
    }
}

/// What was typed cannot be done on any host.
#[derive(Clone, Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

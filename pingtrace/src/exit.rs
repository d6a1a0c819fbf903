//! How the program ends: exit statuses, and errors of the command line.

use anyhow::Result;
use report::model::Judged;

/// Exit status when the run failed.
pub const FAILED: u8 = 1;
/// Exit status after a usage error.
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
    /// No probe was answered.
    Unanswered,
    /// At least one probe was answered, and an objective was missed.
    Missed,
}

impl Outcome {
    /// Of several targets: the first error if none worked, else the other errors are told and what the rest gave
    /// counts.
    pub fn of_all(each: impl Iterator<Item = Result<Self>>) -> Result<Self> {
        let (mut outcome, mut error) = (None, None);
        for result in each {
            match result {
                Ok(Self::Missed) => outcome = Some(Self::Missed),
                Ok(Self::Answered) if outcome != Some(Self::Missed) => {
                    outcome = Some(Self::Answered);
                }
                Ok(other) => outcome = outcome.or(Some(other)),
                Err(e) => {
                    if let Some(e) = error.replace(e) {
                        log::error!("{e:#}");
                    }
                }
            }
        }
        match (outcome, error) {
            (None, Some(e)) => Err(e),
            (outcome, error) => {
                if let Some(e) = error {
                    log::error!("{e:#}");
                }
                Ok(outcome.unwrap_or(Self::Unanswered))
            }
        }
    }

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

/// A usage error: what was typed is impossible on any host.
#[derive(Clone, Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

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
    /// Of several targets, and whether each missed an objective: the first error if none worked, else the other
    /// errors are told and what the rest gave counts. If one answered, an objective that another missed counts, whether
    /// that one answered or not.
    pub fn of_all(each: impl Iterator<Item = Result<(Self, bool)>>) -> Result<Self> {
        let (mut outcome, mut error, mut has_missed) = (None, None, false);
        for result in each {
            match result {
                Ok((one, misses)) => {
                    let answered = outcome == Some(Self::Answered) || one != Self::Unanswered;
                    outcome = Some(if answered { Self::Answered } else { one });
                    has_missed |= misses;
                }
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
                Ok(match outcome.unwrap_or(Self::Unanswered) {
                    Self::Answered if has_missed => Self::Missed,
                    outcome => outcome,
                })
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

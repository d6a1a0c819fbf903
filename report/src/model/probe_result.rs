//! A probe that was recorded, and all that is said of it.

use super::blame::Blame;
use super::breakdown::Breakdown;
use super::loss::Loss;
use super::probe::Probe;
use super::verdict::Verdict;

/// The result of a probe: where its time went, or where it was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// The probe.
    pub probe: Probe,
    /// Absent for a lost probe.
    pub breakdown: Option<Breakdown>,
    /// What made it slow; absent if nothing took longer than usual.
    pub verdict: Option<Verdict>,
    /// Where a lost probe was lost.
    pub loss: Option<Loss>,
    /// What had the CPU during each slow segment; empty without `--explain`.
    pub blame: Vec<Blame>,
}

impl ProbeResult {
    /// A probe of which nothing else is known.
    pub const fn new(probe: Probe) -> Self {
        Self {
            probe,
            breakdown: None,
            verdict: None,
            loss: None,
            blame: Vec::new(),
        }
    }
}

//! What the tool itself costs.

use serde::{Deserialize, Serialize};

/// The cost of one kernel program, by the kernel's own accounting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// Run time in all, nanoseconds, with the accounting itself.
    pub ns: u64,
}

/// The cost of pingtrace itself within a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCost {
    /// CPU time of the process, user and system, nanoseconds.
    pub cpu_ns: u64,
    /// Probes whose stamps can be collected at once.
    pub records: u32,
    /// The largest number of slots in use at once since the start; of a server, those in use now.
    pub most_in_use: u32,
    /// Slots that were reused before the state of their probe was final.
    pub evicted: u64,
    /// Programs in the kernel, if they were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramCost>,
}

impl OwnCost {
    /// The cost since `earlier`, a reading of the same programs.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let program = |now: &ProgramCost| {
            let before = earlier.programs.iter().find(|p| p.program == now.program);
            let before = before.cloned().unwrap_or_default();
            ProgramCost {
                program: now.program.clone(),
                runs: now.runs - before.runs,
                ns: now.ns - before.ns,
            }
        };
        Self {
            cpu_ns: self.cpu_ns - earlier.cpu_ns,
            evicted: self.evicted - earlier.evicted,
            programs: self.programs.iter().map(program).collect(),
            ..*self
        }
    }
}

//! What the tool itself costs.

use serde::{Deserialize, Serialize};

/// What one program in the kernel cost, by the kernel's own count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// How long in all, nanoseconds, with the counting itself.
    pub ns: u64,
}

/// What the tool itself cost within a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCost {
    /// CPU time of the process, user and system, nanoseconds.
    pub cpu_ns: u64,
    /// Probes whose stamps can be collected at once.
    pub records: u32,
    /// Most records that were in use at once since the start; of a server, those in use now.
    pub most_in_use: u32,
    /// Records that were reused before their probe had its fate.
    pub evicted: u64,
    /// Programs in the kernel, if they were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramCost>,
}

impl OwnCost {
    /// What it cost since `earlier`, a reading of the same programs.
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

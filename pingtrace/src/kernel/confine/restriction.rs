//! What a thread is left with.

use super::lists::{Mode, PROGRAMS};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a thread is left with.
pub(super) struct Restriction {
    capabilities: CapabilitySet,
}

impl Restriction {
    /// That of all threads but the keeper.
    pub(super) fn new(mode: Mode, written: &[PathBuf]) -> Self {
        let mut capabilities = mode.capabilities();
        if written.iter().any(|directory| is_foreign(directory)) {
            capabilities |= CapabilitySet::DAC_OVERRIDE;
        }
        Self { capabilities }
    }

    /// The keeper's.
    pub(super) fn of_keeper(mode: Mode) -> Self {
        Self {
            capabilities: mode.of_keeper(),
        }
    }

    /// Restricts the calling thread; also in a signal handler, so only by system calls.
    pub(super) fn apply(&self) -> rustix::io::Result<()> {
        let held = capabilities(None)?.permitted;
        let mut left = held & self.capabilities;
        // The kernel takes CAP_SYS_ADMIN for CAP_BPF and CAP_PERFMON, and a container may have only that.
        if !left.contains(self.capabilities & PROGRAMS) {
            left |= held & CapabilitySet::SYS_ADMIN;
        }
        let sets = CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets)
    }
}

/// Whether files of a directory are rotated by a right that its owner does not need.
fn is_foreign(directory: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::metadata(directory).is_ok_and(|meta| meta.uid() != me)
}

//! The files that a run keeps (Landlock): it writes in the directories of its own, and reads there, where its
//! keys are, and where the system's are.

#![expect(
    unsafe_code,
    reason = "the crate can restrict only the calling thread, and allocates"
)]

use super::lists::Mode;
use anyhow::{Context, Result};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    path_beneath_rules,
};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// Rights that later kernels know are not asked for: those of this version are all that writing needs.
const VERSION: ABI = ABI::V3;
/// Where the system's files are: kernel, settings, time zones, and libraries and sockets that look up names.
const SYSTEM: [&str; 10] = [
    "/proc", "/sys", "/dev", "/etc", "/run", "/usr", "/lib", "/lib64", "/var/lib", "/var/log",
];
/// Where time zones are.
const ZONES: [&str; 2] = ["/etc/localtime", "/usr/share/zoneinfo"];

/// The rules.
pub(super) struct Files(OwnedFd);

impl Files {
    /// `None` on a kernel without Landlock.
    pub(super) fn new(
        mode: Mode,
        written: &[PathBuf],
        read_too: &[PathBuf],
    ) -> Result<Option<Self>> {
        let system: &[&str] = if mode.measures() { &SYSTEM } else { &ZONES };
        let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let write =
            AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
        let rules = || -> Result<Option<OwnedFd>, landlock::RulesetError> {
            let ruleset = Ruleset::default()
                .handle_access(AccessFs::from_all(VERSION))?
                .create()?
                .add_rules(path_beneath_rules(system, read))?
                .add_rules(path_beneath_rules(read_too, read))?
                .add_rules(path_beneath_rules(written, read | write))?;
            Ok(ruleset.into())
        };
        Ok(rules().context("make the rules for files")?.map(Self))
    }

    /// Restricts the calling thread; whether that worked.
    pub(super) fn restrict(&self) -> bool {
        // SAFETY: numbers.
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) == 0 }
    }
}

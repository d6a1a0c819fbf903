//! What each kind of run keeps.

use rustix::thread::CapabilitySet;

/// Reading the programs' maps, and attaching programs that are loaded.
pub(super) const PROGRAMS: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `-c`.
    Client,
    /// `-s`.
    Server {
        /// It sends names of namespaces and devices.
        names: bool,
    },
    /// agent: both.
    Agent,
    /// `--schedule`: each capture starts anew.
    Schedule,
    /// irqoff, nosched, runqlat.
    Watch,
    /// memleak: follows what begins to grow, and names functions of processes.
    Memleak,
    /// profile: names functions of processes.
    Profile,
    /// iofsstat.
    Iofsstat,
    /// replay, diff: their files are open.
    Saved,
    /// selftest: builds laboratories, and starts both ends.
    Selftest,
}

impl Mode {
    /// What its threads keep.
    pub(super) const fn capabilities(self) -> CapabilitySet {
        match self {
            // A device that comes back is bound to anew (-I).
            Self::Client => PROGRAMS.union(CapabilitySet::NET_RAW),
            // Devices that come back are stamped again; a socket for each address that was probed.
            Self::Server { .. } | Self::Agent => {
                let devices = CapabilitySet::NET_ADMIN;
                PROGRAMS.union(devices).union(CapabilitySet::NET_RAW)
            }
            Self::Schedule => PROGRAMS
                .union(CapabilitySet::NET_RAW)
                .union(CapabilitySet::NET_ADMIN)
                .union(CapabilitySet::SYS_NICE),
            Self::Watch | Self::Iofsstat => PROGRAMS,
            Self::Saved => CapabilitySet::empty(),
            // Its own, and what the client and the server begin with.
            Self::Selftest => Self::Schedule
                .capabilities()
                .union(CapabilitySet::SYS_ADMIN)
                .union(CapabilitySet::SYS_PTRACE)
                .union(CapabilitySet::SYSLOG),
            // Maps and files of processes.
            Self::Memleak | Self::Profile => PROGRAMS
                .union(CapabilitySet::SYS_PTRACE)
                .union(CapabilitySet::SYS_ADMIN)
                .union(CapabilitySet::DAC_READ_SEARCH),
        }
    }

    /// Whether its threads, but the keeper, are restricted to files. Landlock refuses /proc/PID/maps and files
    /// of all other processes, which memleak and profile name functions by, and to mount, as a laboratory does.
    pub(super) const fn confines_files(self) -> bool {
        !matches!(self, Self::Memleak | Self::Profile | Self::Selftest)
    }

    /// Whether it has something to do with the kernel: programs and sockets.
    pub(super) const fn measures(self) -> bool {
        !matches!(self, Self::Saved)
    }

    /// What the keeper keeps, if there is one.
    pub(super) const fn of_keeper(self) -> Option<CapabilitySet> {
        // /proc/kallsyms with addresses; the lengths of BPF programs.
        let symbols = CapabilitySet::SYSLOG
            .union(CapabilitySet::SYS_ADMIN)
            .union(CapabilitySet::BPF);
        // /proc/PID/ns/net of any process; entering a namespace.
        let namespaces = CapabilitySet::SYS_PTRACE.union(CapabilitySet::SYS_ADMIN);
        match self {
            Self::Client | Self::Agent | Self::Schedule | Self::Server { names: true } => {
                Some(namespaces.union(symbols))
            }
            Self::Server { names: false }
            | Self::Watch
            | Self::Iofsstat
            | Self::Memleak
            | Self::Profile => Some(symbols),
            Self::Saved | Self::Selftest => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The capabilities that a row of docs/privileges.md names as kept.
    fn documented(run: &str) -> BTreeSet<String> {
        let page = include_str!("../../../../docs/privileges.md");
        let row = page.lines().find(|l| l.starts_with(&format!("| {run} |")));
        let kept = row.unwrap_or_else(|| panic!("no row '{run}'")).split('|');
        let kept = kept.clone().nth(2).unwrap().split(',');
        let kept = kept.map(|name| name.trim().to_owned());
        kept.filter(|name| name != "none").collect()
    }

    #[test]
    fn the_documentation_names_the_same() {
        for (run, mode) in [
            ("client", Mode::Client),
            ("agent", Mode::Agent),
            ("server", Mode::Server { names: true }),
            ("server", Mode::Server { names: false }),
            ("schedule", Mode::Schedule),
            ("irqoff, nosched, runqlat", Mode::Watch),
            ("iofsstat", Mode::Iofsstat),
            ("memleak", Mode::Memleak),
            ("profile", Mode::Profile),
            ("replay, diff, mesh", Mode::Saved),
            ("selftest", Mode::Selftest),
        ] {
            let kept = mode.capabilities();
            let names = kept.iter_names().map(|(name, _)| format!("CAP_{name}"));
            assert_eq!(documented(run), names.collect(), "{run}");
        }
    }
}

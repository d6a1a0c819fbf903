//! What needs which capability: one list, checked before anything is tried, and said in one voice.

use anyhow::{Result, bail};
use rustix::thread::{CapabilitySet, capabilities};
use std::fmt;

/// Capabilities, and what they are for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    capabilities: CapabilitySet,
    /// Empty where their names say it.
    purpose: &'static str,
}

/// A raw ICMP socket.
pub const PROBES: Need = Need::new(CapabilitySet::NET_RAW, "probes");
/// Loading and attaching BPF programs.
pub const PROGRAMS: Need = Need::new(CapabilitySet::BPF.union(CapabilitySet::PERFMON), "");
/// Attaching programs to devices, and making devices.
pub const DEVICES: Need = Need::new(CapabilitySet::NET_ADMIN, "devices");
/// Making and entering namespaces.
const NAMESPACES: Need = Need::new(CapabilitySet::SYS_ADMIN, "namespaces");
/// Real-time threads: which flag of a thread calls the scheduler is found out with one.
pub const REAL_TIME: Need = Need::new(CapabilitySet::SYS_NICE, "real-time threads");
/// The kernel's accounting of BPF programs.
pub const RUN_TIMES: Need = Need::new(CapabilitySet::SYS_ADMIN, "run times of programs");

/// What a part of the program cannot do without, and what makes its results better.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    needed: &'static [Need],
    useful: &'static [Need],
}

/// A server; it sends packets with stamps where it may not stamp the replies of a device.
pub const SERVER: Needs = Needs {
    needed: &[PROGRAMS],
    useful: &[DEVICES, PROBES],
};
/// A client; without programs it has the time stamps of the kernel's sockets.
pub const CLIENT: Needs = Needs {
    needed: &[PROBES],
    useful: &[PROGRAMS],
};
/// Whatever loads programs.
pub const OBJECT: Needs = Needs {
    needed: &[PROGRAMS],
    useful: &[],
};
/// The self-test.
pub const SELFTEST: Needs = Needs {
    needed: &[NAMESPACES, DEVICES, PROBES, PROGRAMS, REAL_TIME],
    useful: &[],
};

impl Need {
    const fn new(capabilities: CapabilitySet, purpose: &'static str) -> Self {
        Self {
            capabilities,
            purpose,
        }
    }

    /// What of it is not held; `None` if all is.
    fn missing(self, held: CapabilitySet) -> Option<Self> {
        let capabilities = self.capabilities.difference(held);
        (!capabilities.is_empty()).then_some(Self {
            capabilities,
            ..self
        })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.capabilities.iter_names();
        let mut names: Vec<_> = names.map(|(name, _)| format!("CAP_{name}")).collect();
        names.sort_unstable();
        f.write_str(&names.join(" and "))?;
        match self.purpose {
            "" => Ok(()),
            purpose => write!(f, " ({purpose})"),
        }
    }
}

impl Needs {
    /// Fails if this process lacks what is needed for `what`. Where that cannot be read, the attempt
    /// itself will tell.
    pub fn check(&self, what: &str) -> Result<()> {
        capabilities(None).map_or(Ok(()), |sets| self.check_held(what, sets.effective))
    }

    fn check_held(&self, what: &str, mut held: CapabilitySet) -> Result<()> {
        if held.contains(CapabilitySet::SYS_ADMIN) {
            held |= PROGRAMS.capabilities;
        }
        let missing = |needs: &[Need]| {
            let missing = needs.iter().filter_map(|need| need.missing(held));
            let words: Vec<_> = missing.map(|need| need.to_string()).collect();
            words.join(", ")
        };
        let (needed, useful) = (missing(self.needed), missing(self.useful));
        if needed.is_empty() {
            return Ok(());
        }
        let also = match &*useful {
            "" => String::new(),
            useful => format!("; {useful} would be of use too"),
        };
        bail!("not permitted: {what} needs root: {needed} missing{also}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_missing_is_named_with_its_purpose() {
        let says = |needs: Needs, held| needs.check_held("it", held).unwrap_err().to_string();
        assert_eq!(
            says(SERVER, CapabilitySet::NET_RAW | CapabilitySet::BPF),
            "not permitted: it needs root: CAP_PERFMON missing; CAP_NET_ADMIN (devices) would be of use too"
        );
        assert_eq!(
            says(CLIENT, PROGRAMS.capabilities),
            "not permitted: it needs root: CAP_NET_RAW (probes) missing"
        );
        assert_eq!(
            says(OBJECT, CapabilitySet::empty()),
            "not permitted: it needs root: CAP_BPF and CAP_PERFMON missing"
        );
    }

    #[test]
    fn what_only_helps_is_not_needed() {
        let check = |needs: Needs, held| needs.check_held("it", held);
        check(SERVER, PROGRAMS.capabilities).unwrap();
        check(CLIENT, CapabilitySet::NET_RAW).unwrap();
        // The kernel takes CAP_SYS_ADMIN for CAP_BPF and CAP_PERFMON.
        check(SERVER, CapabilitySet::SYS_ADMIN).unwrap();
        check(SELFTEST, CapabilitySet::all()).unwrap();
        check(SELFTEST, CapabilitySet::SYS_ADMIN).unwrap_err();
    }

    /// The capabilities that a row of docs/kernels.md names.
    fn documented(row: &str) -> BTreeSet<String> {
        let page = include_str!("../../../docs/kernels.md");
        let line = page.lines().find(|l| l.starts_with(&format!("| {row} |")));
        let line = line.unwrap_or_else(|| panic!("no row '{row}'"));
        let words = line.split(|c: char| c != '_' && !c.is_ascii_uppercase());
        let names = words.filter(|word| word.starts_with("CAP_"));
        names.map(str::to_owned).collect()
    }

    #[test]
    fn the_documentation_names_the_same() {
        let names = |needs: &[&[Need]]| -> BTreeSet<String> {
            let needs = needs.iter().copied().flatten();
            let each = needs.flat_map(|need| need.capabilities.iter_names());
            each.map(|(name, _)| format!("CAP_{name}")).collect()
        };
        let rows = [
            ("a server", names(&[SERVER.needed, SERVER.useful])),
            (
                "a client with all points",
                names(&[CLIENT.needed, CLIENT.useful]),
            ),
            ("a client without BPF", names(&[CLIENT.needed])),
            (
                "irqoff, runqlat, iofsstat, memleak",
                names(&[OBJECT.needed]),
            ),
            (
                "nosched, `--explain`",
                names(&[OBJECT.needed, &[REAL_TIME]]),
            ),
            (
                "`--debug`: the cost of each program",
                names(&[&[RUN_TIMES]]),
            ),
            ("`selftest`", names(&[SELFTEST.needed])),
        ];
        for (row, names) in rows {
            assert_eq!(documented(row), names, "{row}");
        }
    }
}

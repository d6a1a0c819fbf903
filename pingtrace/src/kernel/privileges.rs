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
/// Addresses of /proc/kallsyms.
const SYMBOLS: Need = Need::new(CapabilitySet::SYSLOG, "names of kernel functions");
/// Namespaces and files of other users' processes.
const PROCESSES: Need = Need::new(CapabilitySet::SYS_PTRACE, "other users' processes");

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

/// Whatever can be missing, by what it is missing for.
const EVERYTHING: [(&str, Needs); 7] = [
    ("a client", CLIENT),
    ("a server", SERVER),
    ("the companions", OBJECT),
    ("nosched and --explain", only(&[REAL_TIME])),
    ("doctor and --debug", only(&[RUN_TIMES])),
    (
        "names",
        Needs {
            needed: &[],
            useful: &[NAMESPACES, PROCESSES, SYMBOLS],
        },
    ),
    ("selftest", SELFTEST),
];

const fn only(needed: &'static [Need]) -> Needs {
    Needs {
        needed,
        useful: &[],
    }
}

/// A capability, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// `CAP_BPF`
    pub capability: String,
    /// Whether it is held, or one that includes it.
    pub is_held: bool,
    /// What cannot do without it.
    pub needed_by: Vec<&'static str>,
    /// What is better with it.
    pub useful_to: Vec<&'static str>,
}

/// Every capability that anything here uses.
pub fn uses(held: CapabilitySet) -> Vec<Use> {
    let held = with_included(held);
    let all = EVERYTHING
        .iter()
        .flat_map(|(_, needs)| [needs.needed, needs.useful]);
    let all = all
        .flatten()
        .fold(CapabilitySet::empty(), |all, need| all | need.capabilities);
    let has = |needs: &[Need], capability| {
        needs
            .iter()
            .any(|need| need.capabilities.contains(capability))
    };
    let one = |(name, capability)| Use {
        capability: format!("CAP_{name}"),
        is_held: held.contains(capability),
        needed_by: users(|needs| has(needs.needed, capability)),
        useful_to: users(|needs| has(needs.useful, capability)),
    };
    all.iter_names().map(one).collect()
}

fn users(is_user: impl Fn(&Needs) -> bool) -> Vec<&'static str> {
    let all = EVERYTHING.iter().filter(|(_, needs)| is_user(needs));
    all.map(|(name, _)| *name).collect()
}

/// What this process holds; `None` where that cannot be read.
pub fn held() -> Option<CapabilitySet> {
    capabilities(None).ok().map(|sets| sets.effective)
}

/// The kernel takes one capability for others.
fn with_included(held: CapabilitySet) -> CapabilitySet {
    if held.contains(CapabilitySet::SYS_ADMIN) {
        held | PROGRAMS.capabilities
    } else {
        held
    }
}

impl Need {
    /// Whether all of it is held.
    pub fn is_held(self) -> bool {
        held().is_some_and(|held| self.missing(with_included(held)).is_none())
    }

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
        held().map_or(Ok(()), |held| self.check_held(what, held))
    }

    fn check_held(&self, what: &str, held: CapabilitySet) -> Result<()> {
        let held = with_included(held);
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

    #[test]
    fn every_capability_is_listed_with_what_uses_it() {
        let find = |held, name: &str| {
            let mut uses = uses(held).into_iter();
            uses.find(|each| each.capability == name).unwrap()
        };
        let bpf = find(CapabilitySet::empty(), "CAP_BPF");
        assert!(!bpf.is_held);
        assert_eq!(bpf.needed_by, ["a server", "the companions", "selftest"]);
        assert_eq!(bpf.useful_to, ["a client"]);
        assert!(find(CapabilitySet::SYS_ADMIN, "CAP_BPF").is_held);
        assert_eq!(
            find(CapabilitySet::all(), "CAP_SYSLOG").useful_to,
            ["names"]
        );
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
                "irqoff, runqlat, iofsstat, memleak, profile",
                names(&[OBJECT.needed]),
            ),
            (
                "nosched, `--explain`",
                names(&[OBJECT.needed, &[REAL_TIME]]),
            ),
            (
                "`--debug`, `doctor`: the cost of each program",
                names(&[&[RUN_TIMES]]),
            ),
            ("`selftest`", names(&[SELFTEST.needed])),
        ];
        for (row, names) in rows {
            assert_eq!(documented(row), names, "{row}");
        }
    }
}

//! The answer, as data.

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Problem {
    /// High 99th percentiles.
    Slow,
    /// Lost probes.
    Lossy,
}

/// What the pairs of a host in a role, as client or as server, have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Its pairs.
    pub pairs: usize,
    /// Those that are worse by themselves.
    pub bad: usize,
    /// Of slowness the 99th percentile of the typical pair, nanoseconds; of loss the part lost, without the worst
    /// quarter of the pairs.
    pub value: f64,
    /// The same of the typical host.
    pub usual: f64,
    /// From this value on the host is an exception.
    pub threshold: f64,
    /// It is one.
    pub named: bool,
}

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A host.
    Node(usize),
    /// Hosts that have a label in common, with hosts that do not.
    Group {
        /// The label's value.
        name: String,
        /// The hosts.
        members: Vec<usize>,
        /// How many of them are exceptions.
        bad: usize,
    },
    /// The same hosts among themselves.
    Inside {
        /// The label's value.
        name: String,
        /// The hosts.
        members: Vec<usize>,
    },
}

/// Where it is, by the owners of slow or lost probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Part {
    /// The host itself.
    Host,
    /// The wire to it: its NIC, its port, the network there.
    Link,
    /// One of the two: each has a part.
    HostOrLink,
    /// The other hosts: what the table says of this one is doubtful.
    Peers,
    /// Too few probes have an owner.
    Unknown,
}

/// Which packets it concerns, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Direct {
    /// Those that it receives.
    Receiving,
    /// Those that it sends.
    Sending,
    /// Both.
    Both,
    /// Too few probes say so.
    Unknown,
}

/// Slow or lost probes of the pairs in question, by owner as seen from the host that is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// By this host itself.
    pub own: u64,
    /// By the wire.
    pub wire: u64,
    /// By the hosts at the other end.
    pub peers: u64,
    /// Not known, or not for sure.
    pub unknown: u64,
    /// Of `own` and `wire`: on the way to this host.
    pub receiving: u64,
    /// On the way from it.
    pub sending: u64,
}

/// Something that stands out.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Who.
    pub subject: Subject,
    /// What is wrong.
    pub problem: Problem,
    /// As client and as server, where that is so; of hosts that have a label in common the largest of each.
    pub effects: [Option<Effect>; 2],
    /// What slow or lost probes say of it.
    pub evidence: Evidence,
    /// Where it is.
    pub part: Part,
    /// Which packets it concerns.
    pub direct: Direct,
}

/// Why nobody is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No host has as many peers as it takes to tell it from them.
    FewPeers,
    /// So many hosts differ from the others that they are no exceptions.
    Divided {
        /// How many.
        nodes: usize,
    },
}

/// How a host is among the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// As client and as server; absent if it has no pair of which that is known.
    pub slow: [Option<Effect>; 2],
    /// The same of loss.
    pub lossy: [Option<Effect>; 2],
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What stands out, the worst first.
    pub findings: Vec<Finding>,
    /// Why nothing can be said, where that is so.
    pub unknown: Option<Unknown>,
    /// Pairs that are slower than their hosts explain, the worst first.
    pub odd_pairs: Vec<usize>,
}

/// Probes with an owner that it takes to say whose they are.
pub(super) const MIN_EVIDENCE: u64 = 10;

impl Effect {
    /// How bad it is: 1 at the threshold.
    pub fn score(&self) -> f64 {
        if self.threshold <= 0.0 {
            return 0.0;
        }
        self.value / self.threshold
    }
}

impl Standing {
    /// How bad it is at its worst, 1 at a threshold.
    pub fn score(&self) -> f64 {
        let all = self.slow.iter().chain(&self.lossy).flatten();
        all.map(Effect::score).fold(0.0, f64::max)
    }

    /// What is wrong with the host.
    pub fn of(&self, problem: Problem) -> &[Option<Effect>; 2] {
        match problem {
            Problem::Slow => &self.slow,
            Problem::Lossy => &self.lossy,
        }
    }

    /// Whether it is an exception.
    pub fn is_named(&self, problem: Problem) -> bool {
        self.of(problem).iter().flatten().any(|effect| effect.named)
    }
}

impl Finding {
    /// Whether the owners of the probes confirm what the table says.
    pub fn is_sure(&self) -> bool {
        matches!(self.part, Part::Host | Part::Link)
            && self.evidence.unknown <= self.evidence.known()
    }

    /// The hosts.
    pub fn members(&self) -> &[usize] {
        match &self.subject {
            Subject::Node(node) => std::slice::from_ref(node),
            Subject::Group { members, .. } | Subject::Inside { members, .. } => members,
        }
    }

    /// How bad it is at its worst, 1 at a threshold.
    pub fn score(&self) -> f64 {
        let all = self.effects.iter().flatten();
        all.map(Effect::score).fold(0.0, f64::max)
    }
}

impl Evidence {
    /// Probes of which an owner is known.
    pub fn known(&self) -> u64 {
        self.own + self.wire + self.peers
    }

    /// Where it is.
    pub fn part(&self) -> Part {
        let known = self.known();
        let is_most = |part: u64| 3 * part >= 2 * known;
        match () {
            () if known < MIN_EVIDENCE => Part::Unknown,
            () if is_most(self.own) => Part::Host,
            () if is_most(self.wire) => Part::Link,
            () if is_most(self.own + self.wire) => Part::HostOrLink,
            () => Part::Peers,
        }
    }

    /// Which packets it concerns.
    pub fn direct(&self) -> Direct {
        let both = self.receiving + self.sending;
        match () {
            () if both < MIN_EVIDENCE => Direct::Unknown,
            () if 3 * self.receiving >= 2 * both => Direct::Receiving,
            () if 3 * self.sending >= 2 * both => Direct::Sending,
            () => Direct::Both,
        }
    }
}

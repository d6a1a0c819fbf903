//! What is to be injected where, and how often.

use super::inject::burn::{Hits, Site, Softirq};
use super::inject::forwarder::{Action, Plan, Rule};
use report::analysis::confusion::Topology;
use report::model::{Direction, Segment};
use std::time::Duration;

pub const MS: Duration = Duration::from_millis(1);
/// Between two probes.
pub const INTERVAL: Duration = Duration::from_millis(8);
/// The wire's own delay in each direction.
pub const BASE: Duration = MS;
/// Length of a fault that is tied to a probe.
pub const EACH: Duration = Duration::from_millis(3);
/// Probes at the start from which baselines are learnt.
pub const LEARNING: u32 = 150;
/// One in this many probes is hit, so that the effect of a fault is over before the next.
pub const SPACING: u32 = 3;
/// Requests from one round to the next.
pub const ROUND: u64 = 5;

const BY_SEQUENCE: [(Option<Segment>, Means); 8] = [
    (Some(Segment::LTxKern), Means::Burn(Site::ClientEgress)),
    (Some(Segment::LTxOutlink), Means::Wire(Direction::Request)),
    (Some(Segment::RRxKern), Means::Burn(Site::ServerIngress)),
    (Some(Segment::RTxKern), Means::Burn(Site::ServerEgress)),
    (Some(Segment::LRxInlink), Means::Wire(Direction::Reply)),
    (Some(Segment::LRxKern), Means::Burn(Site::ClientIngress)),
    (Some(Segment::LRxTaskWaking), Means::Burn(Site::WakeUp)),
    (None, Means::Nothing),
];

#[derive(Clone, Copy)]
pub enum Means {
    Burn(Site),
    Wire(Direction),
    Nothing,
}

/// A place that a probe passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    ClientSends,
    ServerReceives,
    ClientReceives,
}

/// Full queues at the two ends, and at the bridge between them.
pub const END_QUEUES: usize = 2;
pub const BRIDGE_QUEUES: usize = 2;
/// Faults of `slow_receivers`.
pub const RECEIVERS: usize = 2;

pub const ON_ANOTHER_CPU: [(Segment, Place, Softirq); 4] = [
    (Segment::RRxSoftirq, Place::ServerReceives, Softirq::Other),
    (Segment::RRxNapi, Place::ServerReceives, Softirq::NetRx),
    (Segment::LRxSoftirq, Place::ClientReceives, Softirq::Other),
    (Segment::LRxNapi, Place::ClientReceives, Softirq::NetRx),
];

/// What is tested, and how often each fault hits.
#[derive(Clone, Copy)]
pub struct Test {
    pub topology: Topology,
    pub trials: u32,
}

impl Test {
    /// Faults that hit probes by their sequence numbers, in this order.
    pub fn by_sequence(self) -> &'static [(Option<Segment>, Means)] {
        match self.topology {
            Topology::Cable => &BY_SEQUENCE,
            Topology::Overlay => &[(None, Means::Nothing)],
        }
    }

    /// The probes of the fault at this place in [`by_sequence`](Self::by_sequence).
    pub fn hits(self, fault: usize) -> Hits {
        Hits {
            range: LEARNING + fault as u32 * SPACING..self.end_of_sequences(),
            step: self.by_sequence().len() as u32 * SPACING,
        }
    }

    pub fn end_of_sequences(self) -> u32 {
        LEARNING + self.trials * self.by_sequence().len() as u32 * SPACING
    }

    /// Requests that `inject` takes: for the faults by sequence number, and for the rounds of each
    /// fault that is not tied to a probe.
    pub fn requests(self, on_two_cpus: bool) -> u64 {
        let others = if on_two_cpus { ON_ANOTHER_CPU.len() } else { 0 };
        let faults = match self.topology {
            Topology::Cable => END_QUEUES + others + RECEIVERS,
            Topology::Overlay => END_QUEUES + BRIDGE_QUEUES,
        };
        let each = (u64::from(self.rounds()) + 1) * ROUND;
        u64::from(self.end_of_sequences()) + faults as u64 * each
    }

    /// Rounds of each fault: a quarter more than the trials, as some are disturbed.
    pub fn rounds(self) -> u32 {
        self.trials + self.trials / 4 + 2
    }

    /// What the wire is to do.
    pub fn wire(self) -> Plan {
        let rule = |(fault, (_, means)): (usize, &(_, Means))| match means {
            Means::Wire(direction) => {
                let sequences: Vec<u32> = self.hits(fault).sequences().collect();
                Some(Rule::at(*direction, sequences, Action::Delay(EACH)))
            }
            _ => None,
        };
        let faults = self.by_sequence().iter().enumerate();
        Plan::new(BASE, faults.filter_map(rule).collect::<Vec<_>>())
    }

    /// Which probes are to be held up where.
    pub fn chosen(self) -> Vec<(Site, Hits)> {
        let site = |(fault, (_, means)): (usize, &(_, Means))| match means {
            Means::Burn(site) => Some((*site, self.hits(fault))),
            _ => None,
        };
        let faults = self.by_sequence().iter().enumerate();
        faults.filter_map(site).collect()
    }
}

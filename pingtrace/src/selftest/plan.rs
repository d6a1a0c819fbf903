//! What is to be injected where, and how often.

use super::inject::burn::{Hits, Site, Softirq};
use super::inject::forwarder::{Action, Plan, Rule};
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

/// Faults that hit probes by their sequence numbers, in this order.
pub const BY_SEQUENCE: [(Option<Segment>, Means); 8] = [
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

/// Faults of `full_queues` and of `slow_receivers`.
pub const QUEUES: usize = 2;
pub const RECEIVERS: usize = 2;

pub const ON_ANOTHER_CPU: [(Segment, Place, Softirq); 4] = [
    (Segment::RRxSoftirq, Place::ServerReceives, Softirq::Other),
    (Segment::RRxNapi, Place::ServerReceives, Softirq::NetRx),
    (Segment::LRxSoftirq, Place::ClientReceives, Softirq::Other),
    (Segment::LRxNapi, Place::ClientReceives, Softirq::NetRx),
];

/// The probes of the fault at this place in [`BY_SEQUENCE`].
pub fn hits(fault: usize, trials: u32) -> Hits {
    let step = BY_SEQUENCE.len() as u32 * SPACING;
    Hits {
        range: LEARNING + fault as u32 * SPACING..end_of_sequences(trials),
        step,
    }
}

pub fn end_of_sequences(trials: u32) -> u32 {
    LEARNING + trials * BY_SEQUENCE.len() as u32 * SPACING
}

/// Requests that `inject` takes: for the faults by sequence number, and for the rounds of each fault
/// that is not tied to a probe.
pub fn requests(trials: u32, on_two_cpus: bool) -> u64 {
    let others = if on_two_cpus { ON_ANOTHER_CPU.len() } else { 0 };
    let faults = QUEUES + others + RECEIVERS;
    let each = (u64::from(number_of_rounds(trials)) + 1) * ROUND;
    u64::from(end_of_sequences(trials)) + faults as u64 * each
}

/// Rounds of each fault: a quarter more than the trials, as some are disturbed.
pub fn number_of_rounds(trials: u32) -> u32 {
    trials + trials / 4 + 2
}

/// What the wire is to do.
pub fn wire(trials: u32) -> Plan {
    let rule = |(fault, (_, means)): (usize, &(_, Means))| match means {
        Means::Wire(direction) => {
            let sequences: Vec<u32> = hits(fault, trials).sequences().collect();
            Some(Rule::at(*direction, sequences, Action::Delay(EACH)))
        }
        _ => None,
    };
    let rules: Vec<Rule> = BY_SEQUENCE.iter().enumerate().filter_map(rule).collect();
    Plan::new(BASE, rules)
}

/// Which probes are to be held up where.
pub fn chosen(trials: u32) -> Vec<(Site, Hits)> {
    let site = |(fault, (_, means)): (usize, &(_, Means))| match means {
        Means::Burn(site) => Some((*site, hits(fault, trials))),
        _ => None,
    };
    BY_SEQUENCE.iter().enumerate().filter_map(site).collect()
}

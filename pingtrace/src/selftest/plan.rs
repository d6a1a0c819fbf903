//! What is to be injected where, and how often.

use super::inject::burn::{self, Hits, Long, Site};
use super::inject::forwarder::{Action, Plan, Rule};
use report::analysis::confusion::Setup;
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
pub const ROUND: u32 = 5;

/// A place that a probe passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    ClientSends,
    ServerReceives,
    ClientReceives,
}

/// How a fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    // Tied to probes by their sequence numbers:
    Burn(Site),
    Wire(Direction),
    Nothing,
    // In rounds:
    Queue,
    Cpu(Place, Long),
    Hog,
    Freeze,
}

/// A row of the matrix: the segment in which a fault is injected, if any.
pub type Row = (Option<Segment>, Means);

/// In path order.
const CABLE: [Row; 16] = {
    use Place::{ClientReceives, ServerReceives};
    [
        (Some(Segment::LTxKern), Means::Burn(Site::ClientEgress)),
        (Some(Segment::LTxQdisc), Means::Queue),
        (Some(Segment::LTxOutlink), Means::Wire(Direction::Request)),
        (
            Some(Segment::RRxSoftirq),
            Means::Cpu(ServerReceives, Long::Softirq),
        ),
        (
            Some(Segment::RRxNapi),
            Means::Cpu(ServerReceives, Long::NetRx),
        ),
        (Some(Segment::RRxKern), Means::Burn(Site::ServerIngress)),
        (Some(Segment::RTxKern), Means::Burn(Site::ServerEgress)),
        (Some(Segment::RTxQdisc), Means::Queue),
        (Some(Segment::LRxInlink), Means::Wire(Direction::Reply)),
        (
            Some(Segment::LRxSoftirq),
            Means::Cpu(ClientReceives, Long::Softirq),
        ),
        (
            Some(Segment::LRxNapi),
            Means::Cpu(ClientReceives, Long::NetRx),
        ),
        (Some(Segment::LRxKern), Means::Burn(Site::ClientIngress)),
        (Some(Segment::LRxTaskWaking), Means::Burn(Site::WakeUp)),
        (Some(Segment::LRxTaskQueue), Means::Hog),
        (Some(Segment::LRxTaskRun), Means::Freeze),
        (None, Means::Nothing),
    ]
};

const EXPLAINED: [Row; 3] = [
    (
        Some(Segment::RRxSoftirq),
        Means::Cpu(Place::ServerReceives, Long::IrqsOff),
    ),
    (
        Some(Segment::LRxSoftirq),
        Means::Cpu(Place::ClientReceives, Long::IrqsOff),
    ),
    (None, Means::Nothing),
];

const OVERLAY: [Row; 5] = [
    (Some(Segment::LTxPath), Means::Queue),
    (Some(Segment::LTxOutlink), Means::Queue),
    (Some(Segment::RTxQdisc), Means::Queue),
    (Some(Segment::LRxInlink), Means::Queue),
    (None, Means::Nothing),
];

/// What is tested in a setup.
pub fn rows(setup: Setup) -> &'static [Row] {
    match setup {
        Setup::Cable => &CABLE,
        Setup::Explained => &EXPLAINED,
        Setup::Overlay => &OVERLAY,
    }
}

impl Means {
    /// Why such a fault cannot be injected here.
    pub fn is_missing(self, another_cpu: Option<usize>) -> Option<&'static str> {
        match self {
            Self::Burn(Site::WakeUp) if !burn::can_delay_wake_ups() => {
                Some("no sk_data_ready tracepoint")
            }
            Self::Cpu(..) if another_cpu.is_none() => Some("needs two CPUs"),
            _ => None,
        }
    }

    fn is_by_sequence(self) -> bool {
        matches!(self, Self::Burn(_) | Self::Wire(_) | Self::Nothing)
    }
}

/// Injections for some rows: enough for so many trials of each, and a quarter more, as some are disturbed.
pub struct Pass {
    rows: Vec<Row>,
    count: u32,
    /// The first sequence number that is hit.
    first: u32,
}

impl Pass {
    pub fn new(rows: &[Row], trials: u32, first: u32) -> Self {
        Self {
            rows: rows.to_vec(),
            count: trials + trials / 4 + 2,
            first,
        }
    }

    /// Rounds of each fault that is not tied to probes.
    pub fn rounds(&self) -> u32 {
        self.count
    }

    pub fn in_rounds(&self) -> impl Iterator<Item = Row> {
        self.rows
            .iter()
            .copied()
            .filter(|row| !row.1.is_by_sequence())
    }

    /// The rows of which faults are tied to probes, and the probes that they hit in turns.
    pub fn by_sequence(&self) -> impl Iterator<Item = (Row, Hits)> {
        let rows = self.rows.iter().filter(|row| row.1.is_by_sequence());
        let hits = |turn: usize| Hits {
            range: self.first + turn as u32 * SPACING..self.end_of_sequences(),
            step: self.turns() * SPACING,
        };
        rows.enumerate().map(move |(turn, row)| (*row, hits(turn)))
    }

    fn turns(&self) -> u32 {
        self.rows
            .iter()
            .filter(|row| row.1.is_by_sequence())
            .count() as u32
    }

    pub fn end_of_sequences(&self) -> u32 {
        self.first + self.count * self.turns() * SPACING
    }

    /// The number of the request at which it ends.
    pub fn end(&self) -> u32 {
        self.end_of_sequences() + self.in_rounds().count() as u32 * (self.count + 1) * ROUND
    }

    /// What the wire is to do.
    pub fn wire(&self) -> Plan {
        let rule = |((_, means), hits): (Row, Hits)| match means {
            Means::Wire(direction) => {
                let sequences: Vec<u32> = hits.sequences().collect();
                Some(Rule::at(direction, sequences, Action::Delay(EACH)))
            }
            _ => None,
        };
        Plan::new(
            BASE,
            self.by_sequence().filter_map(rule).collect::<Vec<_>>(),
        )
    }

    /// Which probes are to be held up where.
    pub fn chosen(&self) -> Vec<(Site, Hits)> {
        let site = |((_, means), hits): (Row, Hits)| match means {
            Means::Burn(site) => Some((site, hits)),
            _ => None,
        };
        self.by_sequence().filter_map(site).collect()
    }
}

//! Hosts that probe each other.

use std::collections::BTreeMap;

use super::direction::Direction;
use super::loss::Place;
use super::segment::{Owner, Segment};

/// Hosts, and what each measured of others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    /// The hosts, by name.
    pub nodes: Vec<Node>,
    /// At most one for each client and server, in the order of both.
    pub cells: Vec<Cell>,
    /// When the first and the last of it was measured, nanoseconds since the Unix epoch.
    pub span_unix_ns: Option<(i64, i64)>,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// No other host has it.
    pub name: String,
    /// What it has in common with others: its rack.
    pub group: Option<String>,
    /// Its own results are there, whether it probes anybody or not.
    pub measures: bool,
}

/// What the probes of one host say of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The client: its place among the hosts.
    pub from: usize,
    /// The server.
    pub to: usize,
    /// Probes.
    pub sent: u64,
    /// Those that were lost.
    pub lost: u64,
    /// The 99th percentile of the total, nanoseconds; absent if no probe was answered.
    pub p99_ns: Option<u64>,
    /// Where slow probes lost their time.
    pub slow: Faults,
    /// Where probes were lost.
    pub losses: Faults,
}

/// At which part of the way between two hosts something was wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The host that probes.
    Client,
    /// The network.
    Wire,
    /// The host that is probed.
    Server,
    /// Not known, or not for sure.
    Unknown,
}

impl Side {
    /// Its name in every format.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whose a segment is.
    pub const fn of_owner(owner: Owner) -> Self {
        match owner {
            Owner::Local | Owner::Receiver => Self::Client,
            Owner::WireOut | Owner::WireIn | Owner::Wire => Self::Wire,
            Owner::Remote => Self::Server,
            Owner::WireOrRemote | Owner::Unknown => Self::Unknown,
        }
    }

    /// Whose a place of loss is.
    pub const fn of_place(place: Place) -> Self {
        match place {
            Place::ClientSend
            | Place::ClientQueue
            | Place::ClientDriver
            | Place::ClientForward
            | Place::ClientReceive
            | Place::Socket => Self::Client,
            Place::WireOut | Place::WireIn => Self::Wire,
            Place::ServerReceive | Place::ServerReply => Self::Server,
            Place::NoWord | Place::Unknown => Self::Unknown,
        }
    }
}

/// Probes by the side at which something was wrong with them, and with the request or the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub BTreeMap<(Side, Option<Direction>), u64>);

impl Faults {
    /// Adds probes.
    pub fn add(&mut self, side: Side, direction: Option<Direction>, probes: u64) {
        if probes > 0 {
            let count = self.0.entry((side, direction)).or_default();
            *count = count.saturating_add(probes);
        }
    }

    /// Adds probes that were slow: those that were so for `sure`, and others.
    pub fn add_slow(&mut self, owner: Owner, segment: Option<Segment>, sure: u64, others: u64) {
        let direction = segment.and_then(direction).or(match owner {
            Owner::WireOut => Some(Direction::Request),
            Owner::WireIn => Some(Direction::Reply),
            _ => None,
        });
        self.add(Side::of_owner(owner), direction, sure);
        self.add(Side::Unknown, None, others);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for ((side, direction), probes) in &other.0 {
            self.add(*side, *direction, *probes);
        }
    }

    /// Probes of one side.
    pub fn of(&self, side: Side) -> u64 {
        let of = self.0.iter().filter(|((other, _), _)| *other == side);
        of.map(|(_, probes)| probes).sum()
    }

    /// The side that has at least two thirds of those of which it is known.
    pub fn main(&self) -> Option<Side> {
        let sides = [Side::Client, Side::Wire, Side::Server];
        let known: u64 = sides.iter().map(|side| self.of(*side)).sum();
        let is_main = |side: &Side| known > 0 && 3 * self.of(*side) >= 2 * known;
        sides.into_iter().find(is_main)
    }
}

/// Which packet is in a segment.
fn direction(segment: Segment) -> Option<Direction> {
    match segment {
        Segment::LTxLate
        | Segment::LTxKern
        | Segment::LTxQdisc
        | Segment::LTxPath
        | Segment::LTxOutlink
        | Segment::RRxSoftirq
        | Segment::RRxNapi
        | Segment::RRxKern => Some(Direction::Request),
        Segment::RTxKern
        | Segment::RTxQdisc
        | Segment::LRxInlink
        | Segment::LRxSoftirq
        | Segment::LRxNapi
        | Segment::LRxKern
        | Segment::LRxTaskWaking
        | Segment::LRxTaskQueue
        | Segment::LRxTaskRun => Some(Direction::Reply),
        Segment::Response | Segment::Remote | Segment::Unattributed => None,
    }
}

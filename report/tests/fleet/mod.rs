//! Fleets whose bad hosts are known: what hosts would measure of each other, from chance that is the same in every
//! run.

#![allow(dead_code)]

use report::model::{Cell, Direction, Faults, Mesh, Node, Side};

use crate::common::Random;

/// What is wrong with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What it receives takes longer.
    Receives,
    /// What it sends takes longer.
    Sends,
    /// It probes late itself; others find nothing.
    Probes,
    /// Its link loses one probe of fifty.
    Loses,
}

/// A fleet.
pub struct Fleet {
    /// Hosts.
    pub nodes: usize,
    /// Each probes so many next ones; none: all others.
    pub ring: Option<usize>,
    /// Standard deviation of the logarithm of a pair's 99th percentile.
    pub noise: f64,
    /// How much the hosts differ anyway, likewise.
    pub spread: f64,
    /// Probes of a pair.
    pub probes: u64,
    /// By how much a bad host is slower.
    pub factor: f64,
    /// Probes of a bad pair have an owner.
    pub owners: bool,
    /// Hosts of a rack; none: no racks.
    pub rack: Option<usize>,
    /// The bad hosts.
    pub bad: Vec<(usize, Fault)>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            nodes: 200,
            ring: None,
            noise: 0.2,
            spread: 0.1,
            probes: 900,
            factor: 10.0,
            owners: true,
            rack: None,
            bad: Vec::new(),
        }
    }
}

impl Fleet {
    /// Its name of a host.
    pub fn name(node: usize) -> String {
        format!("n{node:03}")
    }

    fn faults_of(&self, node: usize) -> impl Iterator<Item = Fault> {
        let bad = self.bad.iter().filter(move |(bad, _)| *bad == node);
        bad.map(|(_, fault)| *fault)
    }

    /// What they measure.
    pub fn mesh(&self, seed: u64) -> Mesh {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let nodes = (0..self.nodes).map(|node| Node {
            name: Self::name(node),
            group: self.rack.map(|size| format!("r{:02}", node / size)),
            measures: true,
        });
        let hosts: Vec<f64> = (0..self.nodes)
            .map(|_| self.spread * normal(&mut random))
            .collect();
        let mut cells = Vec::new();
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                let distance = (to + self.nodes - from) % self.nodes;
                if distance > 0 && self.ring.is_none_or(|ring| distance <= ring) {
                    cells.push(self.cell((from, to), hosts[from] + hosts[to], &mut random));
                }
            }
        }
        Mesh {
            nodes: nodes.collect(),
            cells,
            span_unix_ns: None,
        }
    }

    fn cell(&self, (from, to): (usize, usize), hosts: f64, random: &mut Random) -> Cell {
        let mut slow = Faults::default();
        let mut losses = Faults::default();
        let mut factor = 1.0;
        // What happens anyway, anywhere.
        for _ in 0..random.below(4) {
            let side = [Side::Client, Side::Wire, Side::Server, Side::Unknown];
            slow.add(side[random.below(4) as usize], None, 1);
        }
        let mut lost = u64::from(random.below(200) == 0);
        losses.add(Side::Wire, Some(Direction::Request), lost);
        let roles = [(from, Side::Client), (to, Side::Server)];
        for (node, side) in roles {
            let [out, back] = match side {
                Side::Client => [Direction::Request, Direction::Reply],
                _ => [Direction::Reply, Direction::Request],
            };
            for fault in self.faults_of(node) {
                let direction = match fault {
                    Fault::Receives => back,
                    Fault::Sends => out,
                    Fault::Probes if side == Side::Client => out,
                    Fault::Probes => continue,
                    Fault::Loses => {
                        let more =
                            (0..self.probes).filter(|_| random.below(50) == 0).count() as u64;
                        losses.add(Side::Wire, Some(back), more);
                        lost += more;
                        continue;
                    }
                };
                factor *= self.factor;
                if self.owners {
                    slow.add(side, Some(direction), self.probes / 50);
                    slow.add(Side::Unknown, None, self.probes / 400);
                }
            }
        }
        let value = hosts + self.noise * normal(random);
        Cell {
            from,
            to,
            sent: self.probes,
            lost: lost.min(self.probes),
            p99_ns: Some((200e3 * factor * value.exp()) as u64),
            slow,
            losses,
        }
    }
}

/// From a normal distribution, by the sum of twelve uniform ones.
fn normal(random: &mut Random) -> f64 {
    let sum: u64 = (0..12).map(|_| random.below(1 << 20)).sum();
    sum as f64 / f64::from(1 << 20) - 6.0
}

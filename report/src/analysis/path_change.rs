//! Changes of the path that the TTLs of arriving packets show.
//!
//! Each router takes one off, so a packet of a flow that arrives with another TTL than the ones before came
//! another way, or from another host. Unlike a longer base round trip this shows at once, in either
//! direction alone, and also on a path that is as quick as the one before. A path of as many routers does
//! not show.

use crate::model::{Direction, Probe, Ttl};
use std::fmt;

/// Hosts begin with a TTL of 64, 128 or 255: a larger difference is another host's choice.
const MAX_HOPS: i16 = 31;
const MIN_HOPS: i16 = -MAX_HOPS;

/// The TTLs with which the packets of each flow arrived last.
#[derive(Clone, Debug, Default)]
pub struct Paths(Vec<Last>);

/// The youngest probe of a flow that was answered, and the last TTL of each direction.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    seq: u32,
    ttl: [Option<Ttl>; 2],
}

/// The packets of one direction came another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// The flow, if there are several.
    pub flow: Option<u8>,
    /// Which packets.
    pub direction: Direction,
    /// The TTL with which they arrived.
    pub before: Ttl,
    /// The TTL with which they arrive now.
    pub now: Ttl,
}

impl Paths {
    /// What changed with this answered probe. One that was overtaken by a younger one of its flow says nothing.
    pub fn observe(&mut self, probe: &Probe) -> impl Iterator<Item = PathChange> + use<> {
        let flow = usize::from(probe.flow);
        let none = Last {
            seq: probe.seq,
            ..Last::default()
        };
        if self.0.len() <= flow {
            self.0.resize(flow + 1, none);
        }
        let several = self.0.len() > 1;
        let last = &mut self.0[flow];
        let is_overtaken = last.seq.wrapping_sub(probe.seq).cast_signed() > 0;
        let ttl = if is_overtaken { [None; 2] } else { probe.ttl };
        if !is_overtaken {
            last.seq = probe.seq;
        }
        let changes = Direction::ALL.map(|direction| {
            let now = ttl[direction as usize]?;
            let before = last.ttl[direction as usize].replace(now)?;
            (before != now).then_some(PathChange {
                flow: several.then_some(probe.flow),
                direction,
                before,
                now,
            })
        });
        changes.into_iter().flatten()
    }
}

impl fmt::Display for PathChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flow,
            direction,
            before,
            now,
        } = self;
        let hops = i16::from(before.get()) - i16::from(now.get());
        let what = match hops {
            1..=MAX_HOPS => "became longer",
            MIN_HOPS..=-1 => "became shorter",
            _ => "changed",
        };
        let way = match direction {
            Direction::Request => "out",
            Direction::Reply => "in",
        };
        write!(f, "the path {way} {what}: ")?;
        if let Some(flow) = flow {
            write!(f, "flow {flow}, ")?;
        }
        write!(f, "TTL {now} on arrival, not {before}")?;
        match hops.abs() {
            1 => write!(f, " ({hops:+} hop)"),
            2..=MAX_HOPS => write!(f, " ({hops:+} hops)"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClockRelation, Status};

    fn probe(seq: u32, flow: u8, request: u8, reply: u8) -> Probe {
        Probe {
            seq,
            sent_unix_ns: 0,
            peer: [10, 0, 0, 2].into(),
            flow,
            ttl: [request, reply].map(Ttl::new),
            status: Status::Ok,
            clock: ClockRelation::Separate,
            path: Vec::new(),
        }
    }

    fn said(probes: &[Probe]) -> Vec<String> {
        let mut paths = Paths::default();
        let changes = probes.iter().flat_map(|probe| paths.observe(probe));
        changes.map(|change| change.to_string()).collect()
    }

    #[test]
    fn each_direction_has_its_own_path() {
        let probes = [(64, 64), (64, 64), (63, 64), (63, 62), (64, 255), (64, 255)];
        let probes: Vec<Probe> = (0..)
            .zip(probes)
            .map(|(k, (out, back))| probe(k, 0, out, back))
            .collect();
        let expected = [
            "the path out became longer: TTL 63 on arrival, not 64 (+1 hop)",
            "the path in became longer: TTL 62 on arrival, not 64 (+2 hops)",
            "the path out became shorter: TTL 64 on arrival, not 63 (-1 hop)",
            "the path in changed: TTL 255 on arrival, not 62",
        ];
        assert_eq!(said(&probes), expected);
    }

    #[test]
    fn flows_may_have_paths_of_their_own() {
        let ways = [(0, 63), (1, 61), (0, 63), (1, 61), (0, 63), (1, 60)];
        let probes: Vec<Probe> = (0..)
            .zip(ways)
            .map(|(k, (flow, ttl))| probe(k, flow, ttl, 64))
            .collect();
        let expected = ["the path out became longer: flow 1, TTL 60 on arrival, not 61 (+1 hop)"];
        assert_eq!(said(&probes), expected);
    }

    #[test]
    fn what_is_not_known_or_overtaken_changes_nothing() {
        let probes = [(1, 63), (2, 0), (3, 63), (5, 62), (4, 63), (6, 62)];
        let probes: Vec<Probe> = probes.map(|(seq, ttl)| probe(seq, 0, ttl, 0)).into();
        let expected = ["the path out became longer: TTL 62 on arrival, not 63 (+1 hop)"];
        assert_eq!(said(&probes), expected);
    }
}

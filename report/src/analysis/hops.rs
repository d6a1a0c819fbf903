//! Statistics of the hops of a path: every device that probes cross, in every namespace.

use std::collections::HashMap;

use crate::analysis::distribution::Distribution;
use crate::analysis::way::WayStats;
use crate::model::{
    ClockRelation, DelayStat, Direction, Host, Ifindex, Netns, Point, Probe, Stamp,
};

/// Upper bound on hops: a path has about ten, but one that keeps changing has ever more.
const CAPACITY: usize = 128;

/// The key of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopKey {
    /// Of the packet that crosses it.
    pub direction: Direction,
    /// On which host.
    pub host: Host,
    /// Position among the hops of its direction on that host, from 0.
    pub index: u16,
    /// Inode of the network namespace; 0 where the point has none.
    pub netns: Netns,
    /// Network device; 0 where the point has none.
    pub ifindex: Ifindex,
    /// What happened there.
    pub point: Point,
}

/// One hop of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct HopStat {
    /// Which hop.
    pub key: HopKey,
    /// Probes that crossed it.
    pub seen: u64,
    /// Nanoseconds since the previous hop; absent where that is on another clock, or was never
    /// seen in order.
    pub since_previous: Option<DelayStat>,
}

#[derive(Clone, Debug, Default)]
struct Hop {
    seen: u64,
    /// Largest position in the whole path: where the hop is when no other is missing.
    position: usize,
    since_previous: Option<Distribution>,
}

/// Statistics of all hops of a run, in bounded memory. Hops are the stamps at devices, and
/// user space at both ends.
#[derive(Clone, Debug, Default)]
pub struct HopStats {
    hops: HashMap<HopKey, Hop>,
    overflow: u64,
    unordered: u64,
    /// The parts of the way; counted by the caller.
    pub way: WayStats,
}

impl HopStats {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the hops of a probe, and the time between those on one clock.
    pub fn record(&mut self, probe: &Probe) {
        let path: Vec<&Stamp> = probe
            .path
            .iter()
            .filter(|stamp| is_hop(stamp.point))
            .collect();
        for (position, stamp) in path.iter().enumerate() {
            let before = &path[..position];
            let comparable = before.last().filter(|previous| {
                probe.clock == ClockRelation::Same || previous.host == stamp.host
            });
            let since = comparable.map(|previous| stamp.ns.wrapping_sub(previous.ns) as i64);
            if let Some(hop) = self.hop(key(before, stamp)) {
                hop.seen += 1;
                hop.position = hop.position.max(position);
                self.unordered += u64::from(!hop.record(since));
            }
        }
    }

    /// The hop with this key, unless there are too many.
    fn hop(&mut self, key: HopKey) -> Option<&mut Hop> {
        if self.hops.len() >= CAPACITY && !self.hops.contains_key(&key) {
            self.overflow += 1;
            return None;
        }
        Some(self.hops.entry(key).or_default())
    }

    /// The hops in path order.
    pub fn hops(&self) -> Vec<HopStat> {
        let mut hops: Vec<(&HopKey, &Hop)> = self.hops.iter().collect();
        hops.sort_unstable_by_key(|(key, hop)| (key.direction, hop.position, **key));
        let stat = |(key, hop): (&HopKey, &Hop)| HopStat {
            key: *key,
            seen: hop.seen,
            since_previous: hop.since_previous.as_ref().map(|times| times.stat(None)),
        };
        hops.into_iter().map(stat).collect()
    }

    /// Stamps that were not counted because there were too many different hops.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Stamps earlier than the hop before them, on one clock: counted as seen, without a time.
    pub fn unordered(&self) -> u64 {
        self.unordered
    }
}

impl Hop {
    /// Percentiles to this many significant decimal digits: hops are many.
    const DIGITS: u8 = 2;

    /// Counts the time since the previous hop, nanoseconds, if known; false if it is negative.
    fn record(&mut self, since: Option<i64>) -> bool {
        let Some(since) = since else { return true };
        let Ok(ns) = u64::try_from(since) else {
            return false;
        };
        self.since_previous
            .get_or_insert_with(|| Distribution::new(Self::DIGITS))
            .record(ns);
        true
    }
}

/// The key of a stamp, after those before it.
fn key(before: &[&Stamp], stamp: &Stamp) -> HopKey {
    let Stamp {
        point,
        host,
        ifindex,
        netns,
        ..
    } = *stamp;
    let direction = point.direction();
    let alike = before
        .iter()
        .filter(|other| other.host == host && other.point.direction() == direction);
    HopKey {
        direction,
        host,
        index: alike.count() as u16,
        netns,
        ifindex,
        point,
    }
}

fn is_hop(point: Point) -> bool {
    point.is_device() || matches!(point, Point::LTxUser | Point::LRxUser)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::{StampFlags, Status};

    fn probe(path: Vec<Stamp>) -> Probe {
        Probe {
            seq: 0,
            sent_unix_ns: 0,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            status: Status::Ok,
            flow: 0,
            ttl: [None; 2],
            clock: ClockRelation::Separate,
            path,
        }
    }

    fn stamp(point: Point, host: Host, ns: u64, ifindex: u32) -> Stamp {
        Stamp {
            point,
            host,
            ns,
            cpu: None,
            ifindex: Ifindex(ifindex),
            netns: Netns(1),
            flags: StampFlags::default(),
        }
    }

    #[test]
    fn times_are_between_hops_of_one_clock() {
        let mut stats = HopStats::new();
        stats.record(&probe(vec![
            stamp(Point::LTxUser, Host::Client, 100, 0),
            stamp(Point::LTxDevout, Host::Client, 150, 2),
            stamp(Point::LTxDevout, Host::Client, 250, 3),
            stamp(Point::RRxNapi, Host::Server, 5, 0),
            stamp(Point::RRxDevrcv, Host::Server, 7, 4),
            stamp(Point::LRxIprcv, Host::Client, 900, 3),
            stamp(Point::LRxUser, Host::Client, 890, 0),
        ]));
        let found: Vec<_> = stats
            .hops()
            .iter()
            .map(|hop| {
                (
                    hop.key.index,
                    hop.key.point,
                    hop.since_previous.as_ref().map(|s| s.max),
                )
            })
            .collect();
        let expected = [
            (0, Point::LTxUser, None),
            (1, Point::LTxDevout, Some(50)),
            (2, Point::LTxDevout, Some(100)),
            (0, Point::RRxDevrcv, None),
            (0, Point::LRxIprcv, None),
            (1, Point::LRxUser, None),
        ];
        assert_eq!(found, expected);
        assert_eq!((stats.unordered(), stats.overflow()), (1, 0));
    }

    #[test]
    fn a_path_that_keeps_changing_overflows_and_says_so() {
        let mut stats = HopStats::new();
        for ifindex in 0..CAPACITY as u32 + 5 {
            stats.record(&probe(vec![stamp(
                Point::LTxDevout,
                Host::Client,
                1,
                ifindex,
            )]));
        }
        assert_eq!((stats.hops().len(), stats.overflow()), (CAPACITY, 5));
    }
}

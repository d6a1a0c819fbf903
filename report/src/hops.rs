//! Statistics of the hops of a path: every device that probes cross, in every namespace.

use std::collections::HashMap;

use crate::model::{ClockRelation, DelayStat, Host, Point, Probe, Stamp};
use crate::stats::Distribution;

/// Hops kept at most; a path has some ten, a path that keeps changing has no end of them.
const CAPACITY: usize = 128;

/// What tells one hop from another. Ordered as probes cross them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopKey {
    /// On the reply's way, else on the request's.
    pub reply: bool,
    /// Position in its direction, from 0.
    pub index: u16,
    /// On which host.
    pub host: Host,
    /// Inode of the network namespace; 0 where the point has none.
    pub netns: u32,
    /// Network device; 0 where the point has none.
    pub ifindex: u32,
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
    since_previous: Option<Distribution>,
}

/// Statistics of all hops of a run, in bounded memory. Hops are the stamps at devices, and user
/// space at both ends.
#[derive(Clone, Debug, Default)]
pub struct HopStats {
    hops: HashMap<HopKey, Hop>,
    overflow: u64,
    unordered: u64,
}

impl HopStats {
    /// Percentiles to this many significant decimal digits: hops are many.
    const DIGITS: u8 = 2;

    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the hops of a probe, and the time between those on one clock.
    pub fn record(&mut self, probe: &Probe) {
        let mut previous: Option<&Stamp> = None;
        let mut index = [0_u16; 2];
        for stamp in probe.path.iter().filter(|stamp| is_hop(stamp.point)) {
            let reply = stamp.point.is_reply();
            let position = &mut index[usize::from(reply)];
            let Stamp {
                point,
                host,
                ifindex,
                netns,
                ..
            } = *stamp;
            let key = HopKey {
                reply,
                index: *position,
                host,
                netns,
                ifindex,
                point,
            };
            *position = position.saturating_add(1);
            let comparable = previous.filter(|previous| {
                probe.clock == ClockRelation::Same || previous.host == stamp.host
            });
            self.count(
                key,
                comparable.map(|previous| stamp.ns.wrapping_sub(previous.ns) as i64),
            );
            previous = Some(stamp);
        }
    }

    /// `since` is the time since the previous hop, nanoseconds; absent across clocks.
    fn count(&mut self, key: HopKey, since: Option<i64>) {
        if self.hops.len() >= CAPACITY && !self.hops.contains_key(&key) {
            self.overflow += 1;
            return;
        }
        let hop = self.hops.entry(key).or_default();
        hop.seen += 1;
        let Some(since) = since else { return };
        if let Ok(ns) = u64::try_from(since) {
            let times = hop
                .since_previous
                .get_or_insert_with(|| Distribution::new(Self::DIGITS));
            times.record(ns);
        } else {
            self.unordered += 1;
        }
    }

    /// The hops in path order.
    pub fn hops(&self) -> Vec<HopStat> {
        let mut hops: Vec<HopStat> = self
            .hops
            .iter()
            .map(|(&key, hop)| HopStat {
                key,
                seen: hop.seen,
                since_previous: hop.since_previous.as_ref().map(|times| times.stat(None)),
            })
            .collect();
        hops.sort_unstable_by_key(|hop| hop.key);
        hops
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

fn is_hop(point: Point) -> bool {
    point.is_device() || matches!(point, Point::LTxUser | Point::LRxUser)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::Status;

    fn probe(path: Vec<Stamp>) -> Probe {
        Probe {
            seq: 0,
            sent_unix_ns: 0,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            status: Status::Ok,
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
            ifindex,
            netns: 1,
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
            (3, Point::RRxDevrcv, None),
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

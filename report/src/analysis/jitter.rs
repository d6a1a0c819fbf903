//! Delay variation: by how much the delay of a probe differs from that of the probe before it.
//!
//! For each trip of a probe (out, in, and both), the difference `D` between the delays of two consecutive
//! sequence numbers that were both answered is the IP packet delay variation of RFC 3393, with
//! "consecutive" as its selection function. Across two hosts each delay contains the offset of
//! their clocks, which cancels in `D`; what is left of the clocks is their drift over one
//! interval (20 ns at 20 ppm and 1 ms).
//!
//! Two figures come of it: the distribution of |`D`|, and the smoothed mean deviation of RFC 3550,
//! section 6.4.1: `J += (|D| - J) / 16`.
//!
//! A pair is complete when the second of the two is answered, in whatever order they were:
//! reordered replies lose no pair as long as they are less than [`REMEMBERED`] probes apart. A
//! lost probe has no delay, and so neither of its two pairs.

use crate::model::{Host, Point, Probe, Stamp, Trip};

/// Answered probes whose delays are kept, for the neighbour that is not answered yet.
const REMEMBERED: usize = 64;
/// The same of one of many targets, whose probes are far apart: where theirs are not, reordered replies lose more pairs.
const REMEMBERED_OF_MANY: usize = 4;

/// The delays of one probe, nanoseconds, by [`Trip`]; across two clocks with their offset,
/// so that only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays([Option<i64>; Trip::ALL.len()]);

impl Delays {
    /// From the stamps of an answered probe. A host whose two stamps contradict each other gives
    /// no delay.
    pub fn from_probe(probe: &Probe) -> Self {
        let Ends {
            user: (sent, received),
            client: (left, back),
            server: (arrived, returned),
        } = Ends::from_path(&probe.path);
        let between = |from: Option<u64>, to: Option<u64>| {
            from.zip(to)
                .map(|(from, to)| to.wrapping_sub(from).cast_signed())
        };
        let turned = |from: Option<u64>, to: Option<u64>| from.zip(to).is_none_or(|(f, t)| f <= t);
        let sane = turned(left, back) && turned(arrived, returned);
        Self([
            between(left, arrived).filter(|_| sane),
            between(returned, back).filter(|_| sane),
            between(sent, received),
        ])
    }

    /// |`D`| of two consecutive probes, nanoseconds.
    fn apart(self, other: Self, trip: Trip) -> Option<u64> {
        let [one, two] = [self, other].map(|delays| delays.0[trip as usize]);
        one.zip(two).map(|(one, two)| one.abs_diff(two))
    }
}

/// The stamps that the delays are taken between.
#[derive(Default)]
struct Ends {
    user: (Option<u64>, Option<u64>),
    client: (Option<u64>, Option<u64>),
    server: (Option<u64>, Option<u64>),
}

impl Ends {
    /// The last of a driver's hand-overs counts, the first of everything else.
    fn from_path(path: &[Stamp]) -> Self {
        let mut ends = Self::default();
        for stamp in path {
            let (slot, last) = match (stamp.host, stamp.point) {
                (Host::Client, Point::LTxUser) => (&mut ends.user.0, false),
                (Host::Client, Point::LRxUser) => (&mut ends.user.1, false),
                (Host::Client, Point::LTxDevout) => (&mut ends.client.0, true),
                (Host::Client, Point::LRxIprcv) => (&mut ends.client.1, false),
                (Host::Server, Point::RRxDevrcv) => (&mut ends.server.0, false),
                (Host::Server, Point::RTxDevout) => (&mut ends.server.1, true),
                _ => continue,
            };
            if last || slot.is_none() {
                *slot = Some(stamp.ns);
            }
        }
        ends
    }
}

/// Finds the pairs of a run, and smooths their differences.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// By sequence number modulo their number.
    recent: Box<[Option<(u32, Delays)>]>,
    /// `J` of RFC 3550, nanoseconds, by [`Trip`].
    smoothed: [f64; Trip::ALL.len()],
}

impl Pairs {
    /// No probe yet; `J` is 0.
    pub(crate) fn new() -> Self {
        Self::remembering(REMEMBERED)
    }

    /// The same of one of many targets, in less memory.
    pub(crate) fn of_one_of_many() -> Self {
        Self::remembering(REMEMBERED_OF_MANY)
    }

    fn remembering(probes: usize) -> Self {
        Self {
            recent: vec![None; probes].into(),
            smoothed: [0.0; Trip::ALL.len()],
        }
    }

    /// An answered probe: gives |`D`| of the pairs that it completes to `each`, nanoseconds.
    pub(crate) fn answered(
        &mut self,
        sequence: u32,
        delays: Delays,
        mut each: impl FnMut(Trip, u64),
    ) {
        for neighbour in [sequence.wrapping_sub(1), sequence.wrapping_add(1)] {
            let Some(other) = self.delays(neighbour) else {
                continue;
            };
            for trip in Trip::ALL {
                if let Some(ns) = delays.apart(other, trip) {
                    let smoothed = &mut self.smoothed[trip as usize];
                    *smoothed += (ns as f64 - *smoothed) / 16.0;
                    each(trip, ns);
                }
            }
        }
        let place = self.place(sequence);
        self.recent[place] = Some((sequence, delays));
    }

    fn place(&self, sequence: u32) -> usize {
        sequence as usize % self.recent.len()
    }

    fn delays(&self, sequence: u32) -> Option<Delays> {
        self.recent[self.place(sequence)]
            .filter(|(its, _)| *its == sequence)
            .map(|(_, delays)| delays)
    }

    /// `J` of RFC 3550, nanoseconds.
    pub(crate) fn smoothed_ns(&self, trip: Trip) -> u64 {
        self.smoothed[trip as usize].round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClockRelation, Ifindex, Netns, StampFlags, Status};

    /// The server's clock is `offset` ahead; 500 ns between a driver and user space.
    fn probe(seq: u32, out: u64, back: u64, offset: u64) -> Probe {
        let sent = 1_000_000_000 + u64::from(seq) * 1_000_000;
        let stamp = |point, host, ns| Stamp {
            point,
            host,
            ns,
            cpu: None,
            ifindex: Ifindex(0),
            netns: Netns(0),
            flags: StampFlags::default(),
        };
        let (client, server) = (Host::Client, Host::Server);
        let returned = sent + 500 + out + 10_000;
        Probe {
            seq,
            sent_unix_ns: 0,
            peer: [10, 0, 0, 2].into(),
            status: Status::Ok,
            flow: 0,
            ttl: [None; 2],
            clock: ClockRelation::Separate,
            path: vec![
                stamp(Point::LTxUser, client, sent),
                stamp(Point::LTxDevout, client, sent + 100),
                stamp(Point::LTxDevout, client, sent + 500),
                stamp(Point::RRxDevrcv, server, sent + 500 + out + offset),
                stamp(Point::RTxDevout, server, returned + offset),
                stamp(Point::LRxIprcv, client, returned + back),
                stamp(Point::LRxUser, client, returned + back + 500),
            ],
        }
    }

    /// The pairs of these probes, in order.
    fn pairs(probes: &[Probe]) -> Vec<(Trip, u64)> {
        let mut pairs = Pairs::new();
        let mut found = Vec::new();
        for probe in probes {
            pairs.answered(probe.seq, Delays::from_probe(probe), |trip, ns| {
                found.push((trip, ns));
            });
        }
        found
    }

    fn differences(trip: Trip, pairs: &[(Trip, u64)]) -> Vec<u64> {
        let pairs = pairs.iter().filter(|(its, _)| *its == trip);
        pairs.map(|(_, ns)| *ns).collect()
    }

    #[test]
    fn each_direction_has_its_own_differences_whatever_the_offset() {
        for offset in [0, 77_000_000_000, u64::MAX / 3] {
            let found = pairs(&[
                probe(0, 1_000, 2_000, offset),
                probe(1, 1_700, 2_000, offset),
                probe(2, 1_200, 2_300, offset),
            ]);
            assert_eq!(differences(Trip::Out, &found), [700, 500]);
            assert_eq!(differences(Trip::In, &found), [0, 300]);
            assert_eq!(differences(Trip::Round, &found), [700, 200]);
        }
    }

    #[test]
    fn a_gap_is_no_pair_and_reordering_loses_none() {
        let in_order: Vec<_> = (0..6)
            .map(|k| probe(k, 1_000 + 10 * u64::from(k * k), 0, 5))
            .collect();
        let round = |order: &[usize]| {
            let probes: Vec<_> = order.iter().map(|k| in_order[*k].clone()).collect();
            let mut round = differences(Trip::Round, &pairs(&probes));
            round.sort_unstable();
            round
        };
        assert_eq!(round(&[0, 1, 2, 3, 4, 5]), [10, 30, 50, 70, 90]);
        assert_eq!(round(&[1, 0, 5, 3, 2, 4]), [10, 30, 50, 70, 90]);
        assert_eq!(round(&[0, 1, 3, 4, 5]), [10, 70, 90]);
        assert_eq!(round(&[0, 2, 4]), [0; 0]);
        let wrapped = [probe(0, 1_000, 0, 5), probe(0, 1_400, 0, 5)];
        let [mut last, first] = wrapped;
        last.seq = u32::MAX;
        assert_eq!(differences(Trip::Out, &pairs(&[last, first])), [400]);
    }

    #[test]
    fn a_probe_of_long_ago_is_no_neighbour() {
        let found = pairs(&[
            probe(0, 1_000, 0, 0),
            probe(64, 1_000, 0, 0),
            probe(1, 9_000, 0, 0),
        ]);
        assert_eq!(found, []);
    }

    #[test]
    fn stamps_that_contradict_each_other_have_no_one_way_delay() {
        let mut odd = probe(1, 1_000, 0, 0);
        odd.path[4].ns = odd.path[3].ns - 1;
        let found = pairs(&[probe(0, 1_000, 0, 0), odd]);
        assert_eq!(found, [(Trip::Round, 0)]);
        let mut alone = probe(1, 1_200, 0, 0);
        alone.path.retain(|stamp| stamp.host == Host::Client);
        let found = pairs(&[probe(0, 1_000, 0, 0), alone]);
        assert_eq!(found, [(Trip::Round, 200)]);
    }

    /// The recurrence of RFC 3550, appendix A.8, in its own terms.
    #[test]
    fn the_smoothed_jitter_is_that_of_the_rfc() {
        let mut pairs = Pairs::new();
        let mut expected = 0.0_f64;
        let mut before = None;
        for k in 0..1_000_u32 {
            let out = 1_000 + u64::from(k * 7_919 % 613);
            pairs.answered(k, Delays::from_probe(&probe(k, out, 0, 0)), |_, _| ());
            if let Some(before) = before.replace(out) {
                expected += (out.abs_diff(before) as f64 - expected) / 16.0;
            }
        }
        assert_eq!(pairs.smoothed_ns(Trip::Out), expected.round() as u64);
        assert_eq!(pairs.smoothed_ns(Trip::In), 0);
    }
}

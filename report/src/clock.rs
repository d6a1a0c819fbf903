//! The time on the wire between two hosts: how much, in which direction, and how sure.
//!
//! Only differences within one host mean anything when the hosts have a clock each. With `F` the
//! request's arrival minus its departure and `B` the reply's, both across the two clocks,
//! `R = F + B` is free of offset and drift and so exact; its split into the two directions is an
//! estimate. [`WireSplit`] is the one place where that estimate is made.
//!
//! The split here is provisional, until the clock model takes its place: it assumes a base path
//! that is equal in both directions and clocks that do not drift. `F` above its minimum is
//! queueing on the way out, limited by `X = R - min R`, which is certain; the rest of `X` is
//! queueing on the way in. Drift therefore moves time between the two directions and never adds
//! any. The bounds of each direction are half of `min R`, and that plus all of `X`: they cover
//! every way to share `X`, and leave out only the asymmetry of the base path, which no
//! measurement can see.

use crate::model::ClockRelation;

/// The stamps that bracket the two wires of a probe, each on its host's clock, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The request leaves the client; client's clock.
    pub left_ns: u64,
    /// The request arrives at the server; server's clock.
    pub arrived_ns: u64,
    /// The reply leaves the server; server's clock.
    pub returned_ns: u64,
    /// The reply arrives at the client; client's clock.
    pub back_ns: u64,
}

impl Crossing {
    /// Time on both wires together, nanoseconds: exact whatever the clocks. Absent when the
    /// stamps contradict each other: the server would have kept the probe for longer than it was
    /// away.
    pub fn round_ns(&self) -> Option<u64> {
        let away = self.back_ns.checked_sub(self.left_ns)?;
        let kept = self.returned_ns.checked_sub(self.arrived_ns)?;
        away.checked_sub(kept)
    }
}

/// Time on the wire in one direction, and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Nanoseconds.
    pub ns: u64,
    /// Bounds, nanoseconds, where `ns` is an estimate.
    pub bounds: Option<(u64, u64)>,
    /// The smallest `ns` seen in this direction so far, this probe included: the path needs
    /// that long without any queueing. A first probe is its own base.
    pub base_ns: u64,
}

/// What earlier probes of one run say about the wire. One per client, server and path.
#[derive(Clone, Debug, Default)]
pub struct WireSplit {
    /// Smallest request difference across the clocks, nanoseconds.
    least_out: Option<i128>,
    /// Smallest wire total, nanoseconds.
    least_round: Option<u64>,
    /// Smallest time of each direction, nanoseconds.
    base_out: Option<u64>,
    base_in: Option<u64>,
    /// Smallest time from departure to return where nothing is known of the server, nanoseconds.
    base_unsplit: Option<u64>,
}

impl WireSplit {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The two directions of a crossing, out and in; they sum to [`Crossing::round_ns`] exactly.
    /// On one clock both are exact. Absent when the stamps contradict each other.
    pub fn split(&mut self, crossing: &Crossing, clock: ClockRelation) -> Option<(Leg, Leg)> {
        let round = crossing.round_ns()?;
        match clock {
            ClockRelation::Same => {
                let out = crossing.arrived_ns.checked_sub(crossing.left_ns)?;
                let back = crossing.back_ns.checked_sub(crossing.returned_ns)?;
                Some(self.legs((out, None), (back, None)))
            }
            ClockRelation::Separate => Some(self.estimate(crossing, round)),
        }
    }

    /// A departure and a return with no stamp between them: one exact span, nanoseconds.
    pub fn unsplit(&mut self, ns: u64) -> Leg {
        let base_ns = least(&mut self.base_unsplit, ns);
        Leg {
            ns,
            bounds: None,
            base_ns,
        }
    }

    fn estimate(&mut self, crossing: &Crossing, round: u64) -> (Leg, Leg) {
        let forth = i128::from(crossing.arrived_ns) - i128::from(crossing.left_ns);
        let least_forth = least(&mut self.least_out, forth);
        let least_round = least(&mut self.least_round, round);
        let excess = round - least_round;
        let queued_out = (forth - least_forth).min(i128::from(excess)) as u64;
        let half = least_round / 2;
        let rest = least_round - half;
        let out = half + queued_out;
        self.legs(
            (out, Some((half, half + excess))),
            (round - out, Some((rest, rest + excess))),
        )
    }

    fn legs(
        &mut self,
        (out, out_bounds): (u64, Option<(u64, u64)>),
        (back, back_bounds): (u64, Option<(u64, u64)>),
    ) -> (Leg, Leg) {
        let leg = |ns, bounds, base_ns| Leg {
            ns,
            bounds,
            base_ns,
        };
        (
            leg(out, out_bounds, least(&mut self.base_out, out)),
            leg(back, back_bounds, least(&mut self.base_in, back)),
        )
    }
}

/// Whether the directions of an earlier probe can be relied on by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// No quiet probe since.
    Pending,
    /// A later quiet probe found the clock where it should be.
    Confirmed,
    /// The clock changed before that.
    Withdrawn,
}
impl WireSplit {
    /// The provisional split takes the clocks for steady.
    pub fn confirmation(&self, _of: &crate::model::WireExcess) -> Confirmation {
        Confirmation::Confirmed
    }
}

/// Lowers a running minimum to `value` if that is less, and returns it.
fn least<T: Copy + Ord>(minimum: &mut Option<T>, value: T) -> T {
    let least = minimum.map_or(value, |minimum| minimum.min(value));
    *minimum = Some(least);
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crossing with this time on each wire, 10 us at the server, whose clock is `offset` ahead.
    fn crossing(out: u64, back: u64, offset: i64) -> Crossing {
        let left_ns = 1_000_000_000_u64;
        let arrived_ns = (left_ns + out).wrapping_add_signed(offset);
        Crossing {
            left_ns,
            arrived_ns,
            returned_ns: arrived_ns + 10_000,
            back_ns: left_ns + out + 10_000 + back,
        }
    }

    #[test]
    fn one_clock_is_exact() {
        let mut wire = WireSplit::new();
        let (out, back) = wire
            .split(&crossing(700, 300, 0), ClockRelation::Same)
            .unwrap();
        assert_eq!((out.ns, out.bounds, out.base_ns), (700, None, 700));
        assert_eq!((back.ns, back.bounds, back.base_ns), (300, None, 300));
    }

    #[test]
    fn excess_goes_where_it_arose_whatever_the_offset() {
        for offset in [-900_000_000, 0, 7_000_000_000] {
            let mut wire = WireSplit::new();
            let mut split = |out, back| {
                wire.split(&crossing(out, back, offset), ClockRelation::Separate)
                    .unwrap()
            };
            split(500, 500);
            let (out, back) = split(2_500, 500);
            assert_eq!((out.ns, out.bounds), (2_500, Some((500, 2_500))));
            assert_eq!((back.ns, back.bounds), (500, Some((500, 2_500))));
            let (out, back) = split(500, 1_500);
            assert_eq!((out.ns, back.ns), (500, 1_500));
            assert_eq!((out.base_ns, back.base_ns), (500, 500));
        }
    }

    #[test]
    fn the_sum_is_exact_under_drift() {
        let mut wire = WireSplit::new();
        for k in 0_u64..1_000 {
            let crossing = crossing(500 + k * 7 % 90, 501 + k * 3 % 70, (k * 100) as i64);
            let (out, back) = wire.split(&crossing, ClockRelation::Separate).unwrap();
            assert_eq!(Some(out.ns + back.ns), crossing.round_ns());
            for leg in [out, back] {
                let (lo, hi) = leg.bounds.unwrap();
                assert!(lo <= leg.ns && leg.ns <= hi);
                assert!(leg.base_ns <= leg.ns);
            }
        }
    }

    #[test]
    fn a_server_that_kept_the_probe_too_long_is_a_contradiction() {
        let impossible = Crossing {
            left_ns: 10,
            arrived_ns: 0,
            returned_ns: 100,
            back_ns: 50,
        };
        assert_eq!(
            WireSplit::new().split(&impossible, ClockRelation::Separate),
            None
        );
    }
}

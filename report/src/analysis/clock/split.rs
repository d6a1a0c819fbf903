//! The split of the time on the wire into its two directions.

use super::crossing::Crossing;
use super::estimate::Estimate;
use super::filter::ClockModel;
use crate::model::host_time::ClientNs;
use crate::model::{ClockRelation, ClockSummary, Direction, Kept, Stretch, WireExcess};
use std::net::IpAddr;

/// Time on the wire in one direction, and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Nanoseconds.
    pub ns: u64,
    /// Bounds, nanoseconds, where `ns` is an estimate: how the excess over the base can be shared.
    /// One direction is at its lower bound where the other is at its upper.
    pub bounds: Option<(u64, u64)>,
    /// Time without any queueing, nanoseconds: on one clock the smallest `ns` seen in this direction so
    /// far, this probe included; else half of the base round trip.
    pub base_ns: u64,
}

/// What earlier probes of one run say about the wire. One per client, server and path.
#[derive(Clone, Debug, Default)]
pub struct WireSplit {
    peer: Option<IpAddr>,
    /// Present once a probe crossed between two clocks.
    clock: Option<ClockModel>,
    /// Of the present probe.
    estimate: Option<Estimate>,
    excess: Option<WireExcess>,
    /// Smallest time of each direction, nanoseconds.
    base: [Option<u64>; 2],
    /// Smallest time from departure to return where nothing is known of the server, nanoseconds.
    base_unsplit: Option<u64>,
    /// Smallest time in hosts on the way, nanoseconds, of probes that had any.
    base_kept: [Option<u64>; 2],
    /// The same between neighbours where hosts on the way stamp too.
    parts: Vec<(Stretch, Self)>,
}

/// Upper bound on parts of the way: 16 hosts, and what is between them while some lack stamps.
const MAX_PARTS: usize = 64;

impl WireSplit {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next probe is one to this peer. What is known of another peer is forgotten.
    pub fn start_probe(&mut self, peer: IpAddr) {
        if self.peer.is_some_and(|known| known != peer) {
            *self = Self {
                clock: self.clock.as_ref().map(ClockModel::of_another),
                ..Self::new()
            };
        }
        self.peer = Some(peer);
        (self.estimate, self.excess) = (None, None);
    }

    /// How the excess of the present probe was shared; absent on one clock, and without stamps of
    /// the server.
    pub fn estimate(&self) -> Option<&Estimate> {
        self.estimate.as_ref()
    }

    /// What is known of both wires of the present probe together; absent as [`Self::estimate`] is.
    pub fn excess(&self) -> Option<WireExcess> {
        self.excess
    }

    /// The model of the server's clock; absent while no probe crossed between two clocks.
    pub fn clock(&self) -> Option<&ClockModel> {
        self.clock.as_ref()
    }

    /// What is known of the server's clock at this time of the client's.
    pub fn summary(&self, now: ClientNs) -> Option<ClockSummary> {
        let clock = self.clock.as_ref()?;
        Some(ClockSummary {
            state: clock.state(),
            rate_ppm: clock.rate_ppm(),
            rate_sd_ppm: clock.rate_sd_ppm(),
            counts: clock.counts(),
            in_base_age_ns: clock.in_base().map(|at| now.since(at)),
        })
    }

    /// The two directions of a crossing, out and in, of which hosts on the way `kept` a part; they sum to the
    /// time on both wires exactly. On one clock both are exact. Absent when the stamps contradict each other.
    pub fn split(
        &mut self,
        crossing: &Crossing,
        kept: Kept,
        clock: ClockRelation,
    ) -> Option<(Leg, Leg)> {
        match clock {
            ClockRelation::Same => {
                crossing.round_ns()?;
                let (out, back) = crossing.on_one_clock(clock)?;
                Some((
                    self.one_way(Direction::Request, out),
                    self.one_way(Direction::Reply, back),
                ))
            }
            ClockRelation::Separate => self.estimated(crossing, kept),
        }
    }

    /// Hosts on the way are not part of what the clock is learnt from.
    fn estimated(&mut self, crossing: &Crossing, kept: Kept) -> Option<(Leg, Leg)> {
        let (wires, kept) = match crossing.without(kept) {
            Some(without) => (without, kept),
            None => (*crossing, Kept::default()),
        };
        let round = wires.round_ns()?;
        let estimate = self.clock.get_or_insert_default().update(&wires);
        let (out, back) = share(round, &estimate);
        let kept_ns = [kept.request_ns, kept.reply_ns];
        let mut bases = self.base_kept.iter_mut().zip(kept_ns);
        let base = std::array::from_fn(|_| bases.next().map_or(0, |(min, ns)| base_kept(min, ns)));
        let [base_out, base_in]: [u64; 2] = base;
        self.estimate = Some(estimate);
        self.excess = Some(WireExcess {
            base_out_ns: out.base_ns + base_out,
            base_in_ns: back.base_ns + base_in,
            excess_ns: round - out.base_ns - back.base_ns,
            kept: Kept {
                request_ns: kept.request_ns - base_out,
                reply_ns: kept.reply_ns - base_in,
            },
            margin_ns: (2.0 * estimate.margin_ns).ceil() as u64,
            moved_ns: estimate.moved_ns.ceil() as u64,
            shows_clock: estimate.glitch.is_none(),
        });
        Some((out.and(kept.request_ns), back.and(kept.reply_ns)))
    }

    /// A departure and a return with no stamp of the server between them: one exact span, nanoseconds.
    pub fn unsplit(&mut self, ns: u64, kept: Kept) -> Leg {
        let kept_ns = Some(kept.sum_ns()).filter(|kept| *kept <= ns).unwrap_or(0);
        exact(ns - kept_ns, &mut self.base_unsplit).and(kept_ns)
    }

    /// One direction by one clock: exact.
    pub fn one_way(&mut self, direction: Direction, ns: u64) -> Leg {
        exact(ns, &mut self.base[direction as usize])
    }

    /// What is known of a part of the way; absent if there are too many.
    pub fn part(&mut self, of: Stretch) -> Option<&mut Self> {
        let known = self.parts.iter().position(|(known, _)| *known == of);
        if known.is_none() && self.parts.len() < MAX_PARTS {
            self.parts.push((of, Self::new()));
        }
        let at = known.unwrap_or(self.parts.len().checked_sub(1)?);
        let (found, part) = &mut self.parts[at];
        (*found == of).then_some(part)
    }
}

impl Leg {
    /// With what hosts on the way kept, nanoseconds.
    fn and(self, kept_ns: u64) -> Self {
        Self {
            ns: self.ns + kept_ns,
            bounds: self.bounds.map(|(lo, hi)| (lo + kept_ns, hi + kept_ns)),
            base_ns: self.base_ns + kept_ns,
        }
    }
}

/// The least that hosts on the way ever needed, nanoseconds. Probes without their stamps say nothing.
fn base_kept(min: &mut Option<u64>, ns: u64) -> u64 {
    if ns == 0 { 0 } else { keep_min(min, ns) }
}

fn exact(ns: u64, base: &mut Option<u64>) -> Leg {
    Leg {
        ns,
        bounds: None,
        base_ns: keep_min(base, ns),
    }
}

/// Shares a time on both wires, nanoseconds, to the nanosecond.
fn share(round: u64, estimate: &Estimate) -> (Leg, Leg) {
    let base = (estimate.base_ns.round() as u64).min(round);
    let excess = round - base;
    let out = estimate.out_reported();
    let queued = (out.ns.round() as u64).min(excess);
    let low = (out.lo_ns.floor() as u64).min(queued);
    let high = (out.hi_ns.ceil() as u64).clamp(queued, excess);
    let leg = |base_ns, queued, low, high| Leg {
        ns: base_ns + queued,
        bounds: Some((base_ns + low, base_ns + high)),
        base_ns,
    };
    let half = base / 2;
    (
        leg(half, queued, low, high),
        leg(base - half, excess - queued, excess - high, excess - low),
    )
}

/// Lowers a running minimum to `value` if that is less, and returns it.
fn keep_min<T: Copy + Ord>(minimum: &mut Option<T>, value: T) -> T {
    let min = minimum.map_or(value, |minimum| minimum.min(value));
    *minimum = Some(min);
    min
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    /// A crossing with this time on each wire, 10 us at the server, whose clock is `offset` ahead.
    fn crossing(out: u64, back: u64, offset: i64) -> Crossing {
        let left_ns = 1_000_000_000_u64;
        let arrived_ns = (left_ns + out).wrapping_add_signed(offset);
        let back_ns = left_ns + out + 10_000 + back;
        [left_ns, arrived_ns, arrived_ns + 10_000, back_ns].into()
    }

    #[test]
    fn one_clock_is_exact() {
        let mut wire = WireSplit::new();
        let (out, back) = wire
            .split(&crossing(700, 300, 0), Kept::default(), ClockRelation::Same)
            .unwrap();
        assert_eq!((out.ns, out.bounds, out.base_ns), (700, None, 700));
        assert_eq!((back.ns, back.bounds, back.base_ns), (300, None, 300));
    }

    /// After many quiet probes, a millisecond apart: 500 ns each way.
    fn settled(
        offset: i64,
    ) -> (
        WireSplit,
        impl FnMut(&mut WireSplit, u64, u64) -> (Leg, Leg),
    ) {
        let mut at = 0;
        let mut split = move |wire: &mut WireSplit, out, back| {
            at += 1_000_000;
            let Crossing {
                left,
                arrived,
                returned,
                back,
            } = crossing(out, back, offset);
            let crossing = [left.0, arrived.0, returned.0, back.0].map(|ns| ns + at);
            let crossing = Crossing::from(crossing);
            wire.split(&crossing, Kept::default(), ClockRelation::Separate)
                .unwrap()
        };
        let mut wire = WireSplit::new();
        for _ in 0..20 {
            split(&mut wire, 500, 500);
        }
        (wire, split)
    }

    #[test]
    fn excess_goes_where_it_arose_whatever_the_offset() {
        for offset in [-900_000_000, 0, 7_000_000_000] {
            let (mut wire, mut split) = settled(offset);
            let near = |leg: Leg, ns: u64| {
                let (lo, hi) = leg.bounds.unwrap();
                assert!(leg.ns.abs_diff(ns) < 100, "{leg:?} for {ns}");
                assert!(lo <= ns && ns <= hi && hi - lo < 2_000, "{leg:?} for {ns}");
                assert_eq!(leg.base_ns, 500);
            };
            let (out, back) = split(&mut wire, 50_500, 500);
            near(out, 50_500);
            near(back, 500);
            let (out, back) = split(&mut wire, 500, 70_500);
            near(out, 500);
            near(back, 70_500);
            assert_eq!(wire.estimate().unwrap().state, State::Lock);
        }
    }

    #[test]
    fn the_sum_is_exact_under_drift() {
        let mut wire = WireSplit::new();
        for k in 0_u64..1_000 {
            let crossing = crossing(500 + k * 7 % 90, 501 + k * 3 % 70, (k * 100) as i64);
            let (out, back) = wire
                .split(&crossing, Kept::default(), ClockRelation::Separate)
                .unwrap();
            assert_eq!(Some(out.ns + back.ns), crossing.round_ns());
            let bounds = [out, back].map(|leg| leg.bounds.unwrap());
            for (leg, (lo, hi)) in [out, back].into_iter().zip(bounds) {
                assert!(leg.base_ns <= lo && lo <= leg.ns && leg.ns <= hi);
            }
            assert_eq!(bounds[0].0 + bounds[1].1, out.ns + back.ns);
            assert_eq!(bounds[0].1 + bounds[1].0, out.ns + back.ns);
        }
    }

    #[test]
    fn another_peer_has_another_clock() {
        let (mut wire, mut split) = settled(0);
        let peer = |last| IpAddr::from([10, 0, 0, last]);
        wire.start_probe(peer(1));
        split(&mut wire, 500, 500);
        wire.start_probe(peer(1));
        assert_eq!(wire.estimate(), None);
        assert_eq!(wire.summary(ClientNs(0)).unwrap().state, State::Lock);
        split(&mut wire, 500, 500);
        let of = wire.excess().unwrap();
        wire.start_probe(peer(2));
        assert_eq!(wire.excess(), None);
        assert_eq!(wire.summary(ClientNs(0)).unwrap().state, State::Init);
        split(&mut wire, 9_500, 500);
        assert_eq!(wire.excess().unwrap().excess_ns, 0);
        assert!(wire.excess().unwrap().moved_ns - of.moved_ns >= 1_000_000_000_000_000);
        assert_eq!(wire.summary(ClientNs(0)).unwrap().state, State::Init);
    }

    #[test]
    fn the_summary_knows_how_old_its_knowledge_is() {
        let (mut wire, mut split) = settled(0);
        assert_eq!(
            wire.summary(ClientNs(1_021_011_000))
                .unwrap()
                .in_base_age_ns,
            Some(1_000_000)
        );
        split(&mut wire, 900_500, 500);
        assert_eq!(
            wire.summary(ClientNs(1_022_011_000))
                .unwrap()
                .in_base_age_ns,
            Some(2_000_000)
        );
    }

    #[test]
    fn a_server_that_kept_the_probe_too_long_is_a_contradiction() {
        let impossible = Crossing::from([10, 0, 100, 50]);
        assert_eq!(
            WireSplit::new().split(&impossible, Kept::default(), ClockRelation::Separate),
            None
        );
    }
}

//! The base round trip: the shortest one lately, and how sure that is.

/// Round trips remembered; their spread tells how far the shortest may be above the path's own.
const KEPT: usize = 8;
/// A generation of the memory, seconds: a round trip is forgotten after one to two of them.
const GENERATION_S: f64 = 1_800.0;
/// While fewer than [`KEPT`] are known: of the base, and nanoseconds, each over their number.
const FEW_SHARE: f64 = 0.2;
const FEW_NS: f64 = 5_000.0;
/// Smallest margin, nanoseconds.
const LEAST_MARGIN_NS: f64 = 100.0;

/// The smallest of many values, in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Smallest {
    values: [f64; KEPT],
    count: usize,
}

impl Smallest {
    pub(super) fn push(&mut self, value: f64) {
        let sorted = &self.values[..self.count];
        let place = sorted.partition_point(|&kept| kept <= value);
        if place == KEPT {
            return;
        }
        self.count = (self.count + 1).min(KEPT);
        self.values.copy_within(place..self.count - 1, place + 1);
        self.values[place] = value;
    }

    pub(super) fn as_slice(&self) -> &[f64] {
        &self.values[..self.count]
    }
}

/// The base round trip of a path: the shortest of the last half to whole hour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BaseRtt {
    recent: Smallest,
    before: Smallest,
    /// When `recent` began, seconds.
    since_s: f64,
    /// The shortest, nanoseconds; 0 while nothing is known.
    pub rtt_ns: f64,
    /// Half of what `rtt_ns` may be too much, nanoseconds: half the spread of the shortest eight.
    pub margin_ns: f64,
}

impl BaseRtt {
    pub(super) fn push(&mut self, at_s: f64, rtt_ns: f64) {
        if self.recent.count == 0 || at_s - self.since_s > GENERATION_S {
            self.before = self.recent;
            self.recent = Smallest::default();
            self.since_s = at_s;
        }
        self.recent.push(rtt_ns);
        self.refresh();
    }

    /// Forgets all others: the path is another one now.
    pub(super) fn replace(&mut self, shortest: Smallest) {
        self.recent = shortest;
        self.before = Smallest::default();
        self.refresh();
    }

    fn refresh(&mut self) {
        let mut all = self.recent;
        for &rtt in self.before.as_slice() {
            all.push(rtt);
        }
        let (min, max) = (all.values[0], all.values[all.count - 1]);
        let mut spread = max - min;
        if all.count < KEPT {
            let few = (FEW_SHARE * min.max(0.0)).max(FEW_NS) / all.count as f64;
            spread = spread.max(few);
        }
        self.rtt_ns = min;
        self.margin_ns = 0.5 * spread + LEAST_MARGIN_NS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_in_order() {
        let mut smallest = Smallest::default();
        for value in [9, 3, 7, 3, 11, 1, 8, 2, 10, 6, 4, 1] {
            smallest.push(f64::from(value));
        }
        assert_eq!(
            smallest.as_slice(),
            [1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 6.0, 7.0]
        );
    }

    #[test]
    fn the_margin_shrinks_as_round_trips_agree() {
        let mut base = BaseRtt::default();
        base.push(0.0, 100_000.0);
        assert_eq!((base.rtt_ns, base.margin_ns), (100_000.0, 10_100.0));
        for k in 1..8 {
            base.push(f64::from(k), 100_000.0 + f64::from(k));
        }
        assert_eq!((base.rtt_ns, base.margin_ns), (100_000.0, 103.5));
    }

    #[test]
    fn a_round_trip_is_forgotten_in_the_second_generation() {
        let mut base = BaseRtt::default();
        base.push(0.0, 50_000.0);
        base.push(GENERATION_S + 1.0, 80_000.0);
        assert!(base.rtt_ns < 50_001.0);
        base.push(2.0 * GENERATION_S + 2.0, 80_000.0);
        assert!(base.rtt_ns > 79_999.0);
    }
}

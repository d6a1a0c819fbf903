//! When the probes of each target are due.
//!
//! Probe k is due at start + k x interval, and the starts of many targets are spread over the interval. A target that
//! joins a run would wait for its start up to an interval: its first probe leaves ahead, so that it is known at once
//! whether it answers, and its schedule goes on from the start.

use super::index::ProbeIndex;

/// Lower bound on the time between the first probes of two targets that join one after the other, ns.
const APART_NS: u64 = 100_000;

/// The schedule of one target, `CLOCK_MONOTONIC` ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When its first probe leaves: at the start of the schedule, or before.
    pub first_ns: u64,
    /// Start of the schedule: probe k is due so many intervals later.
    pub start_ns: u64,
}

impl Due {
    /// When a probe is to leave, with this interval; 0 without a schedule.
    pub const fn leaves_ns(&self, index: ProbeIndex, interval_ns: u64) -> u64 {
        match index.0 {
            0 => self.first_ns,
            k => self.start_ns + k * interval_ns,
        }
    }
}

/// Gives each target its place in time.
#[derive(Debug, Default)]
pub struct Phases {
    /// Targets so far.
    count: u32,
    /// The first probe of the last target that joined later.
    last_ns: u64,
    /// Whoever joins from now on joins later, and sends its first probe ahead.
    pub has_begun: bool,
}

impl Phases {
    /// Those of the next target, which can send its first probe from `ready_ns` on.
    pub fn next(&mut self, ready_ns: u64, interval_ns: u64) -> Due {
        let phase_ns = phase_ns(self.count, interval_ns);
        self.count += 1;
        if !self.has_begun {
            let start_ns = ready_ns + phase_ns;
            return Due {
                first_ns: start_ns,
                start_ns,
            };
        }
        self.last_ns = ready_ns.max(self.last_ns + APART_NS);
        Due {
            first_ns: self.last_ns,
            start_ns: self.last_ns + phase_ns,
        }
    }
}

/// How much later than the first target this one begins, ns: they are spread over the interval, evenly for any
/// number of them (multiples of the golden ratio, modulo 1).
fn phase_ns(number: u32, interval_ns: u64) -> u64 {
    /// 2^64 / 1.618...
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = u128::from(u64::from(number).wrapping_mul(STEP));
    ((part * u128::from(interval_ns)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MS: u64 = S / 1000;

    #[test]
    fn phases_are_spread_evenly() {
        assert_eq!(phase_ns(0, 1000), 0);
        for count in [10, 100, 1000] {
            let mut phases: Vec<u64> = (0..count).map(|k| phase_ns(k, 1_000_000)).collect();
            phases.sort_unstable();
            let gaps = phases.windows(2).map(|pair| pair[1] - pair[0]);
            let even = 1_000_000 / u64::from(count);
            assert!(gaps.max() < Some(even * 2), "{count}");
        }
    }

    #[test]
    fn targets_of_the_beginning_send_no_probe_ahead() {
        let mut phases = Phases::default();
        for k in 0..100 {
            let due = phases.next(7 * S + k, S);
            assert_eq!(due.leaves_ns(ProbeIndex(0), S), due.start_ns);
            assert!((7 * S..8 * S + k).contains(&due.start_ns));
        }
    }

    #[test]
    fn whoever_joins_later_sends_one_probe_ahead_and_then_has_its_phase() {
        for interval_ns in [10 * MS, S, 60 * S] {
            let mut phases = Phases {
                has_begun: true,
                ..Phases::default()
            };
            // A whole list at one instant.
            let dues: Vec<Due> = (0..1000).map(|_| phases.next(5 * S, interval_ns)).collect();
            let leaves = |k| move |due: &Due| due.leaves_ns(ProbeIndex(k), interval_ns);
            let first: Vec<u64> = dues.iter().map(leaves(0)).collect();
            assert!(first[0] == 5 * S && first[999] <= 5 * S + 100 * MS);
            assert!(first.windows(2).all(|two| two[1] - two[0] >= APART_NS));
            for due in &dues {
                let gap_ns = leaves(1)(due) - leaves(0)(due);
                assert!((interval_ns..2 * interval_ns).contains(&gap_ns), "{due:?}");
                assert_eq!(leaves(2)(due) - leaves(1)(due), interval_ns);
            }
            let mut second: Vec<u64> = dues
                .iter()
                .map(|due| leaves(1)(due) % interval_ns)
                .collect();
            second.sort_unstable();
            second.dedup();
            assert_eq!(second.len(), dues.len(), "two phases are the same");
        }
    }

    #[test]
    fn one_that_is_ready_later_waits_for_nobody() {
        let mut phases = Phases {
            has_begun: true,
            ..Phases::default()
        };
        assert_eq!(phases.next(S, S).first_ns, S);
        assert_eq!(phases.next(9 * S, S).first_ns, 9 * S);
    }
}

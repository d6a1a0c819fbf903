//! What made a probe slow: the segment that took longer than usual by most.

use crate::model::{Breakdown, Delay, Segment};

/// What made a probe slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which segment.
    pub segment: Segment,
    /// By how much it exceeded its usual time, nanoseconds.
    pub excess_ns: u64,
    /// Whether it has the largest excess wherever the estimated segments lie in their bounds.
    pub sure: bool,
}

/// The usual time in each segment of a run, and so what is unusual about a probe.
#[derive(Clone, Debug, Default)]
pub struct Excess {
    /// Nanoseconds; 0 while nothing is known.
    typical: [u64; Segment::ALL.len()],
}

impl Excess {
    /// Sets the usual time in a segment, nanoseconds.
    pub fn set_typical(&mut self, segment: Segment, ns: u64) {
        self.typical[segment as usize] = ns;
    }

    /// The usual time in a segment, nanoseconds; 0 while nothing is known.
    pub fn typical_ns(&self, segment: Segment) -> u64 {
        self.typical[segment as usize]
    }

    /// What made this probe slow, and how sure that is. Absent if no segment took longer than
    /// usual; of equals, the first in path order.
    pub fn verdict(&self, breakdown: &Breakdown) -> Option<Verdict> {
        let over = |delay: &Delay, ns: u64| ns.saturating_sub(self.typical_ns(delay.segment));
        let culprit = breakdown
            .delays
            .iter()
            .rev()
            .max_by_key(|delay| over(delay, delay.ns))?;
        let excess_ns = over(culprit, culprit.ns);
        if excess_ns == 0 {
            return None;
        }
        let least = over(culprit, culprit.bounds.map_or(culprit.ns, |(lo, _)| lo));
        let most = |delay: &Delay| over(delay, delay.bounds.map_or(delay.ns, |(_, hi)| hi));
        let mut others = breakdown
            .delays
            .iter()
            .filter(|delay| delay.segment != culprit.segment);
        let sure = others.all(|delay| most(delay) <= least);
        Some(Verdict {
            segment: culprit.segment,
            excess_ns,
            sure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(segment: Segment, ns: u64, bounds: Option<(u64, u64)>) -> Delay {
        Delay {
            segment,
            ns,
            bounds,
            merged: false,
            clamped: false,
        }
    }

    fn verdict(delays: Vec<Delay>) -> Option<Verdict> {
        let mut excess = Excess::default();
        for segment in [Segment::LTxOutlink, Segment::RRxKern, Segment::LRxInlink] {
            excess.set_typical(segment, 100);
        }
        excess.verdict(&Breakdown {
            total_ns: 0,
            delays,
            unordered: 0,
        })
    }

    #[test]
    fn a_host_is_sure_when_the_wires_cannot_beat_it() {
        let wires = Some((100, 150));
        let found = verdict(vec![
            delay(Segment::LTxOutlink, 120, wires),
            delay(Segment::RRxKern, 900, None),
            delay(Segment::LRxInlink, 130, wires),
        ]);
        let expected = Verdict {
            segment: Segment::RRxKern,
            excess_ns: 800,
            sure: true,
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn the_direction_is_unsure_when_the_bounds_overlap() {
        let found = verdict(vec![
            delay(Segment::LTxOutlink, 900, Some((100, 1_000))),
            delay(Segment::LRxInlink, 200, Some((100, 1_000))),
        ]);
        let expected = Verdict {
            segment: Segment::LTxOutlink,
            excess_ns: 800,
            sure: false,
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn no_excess_no_verdict() {
        assert_eq!(verdict(vec![delay(Segment::RRxKern, 100, None)]), None);
        assert_eq!(verdict(vec![]), None);
    }
}

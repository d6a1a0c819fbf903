//! The slowest probes of a run.

use crate::model::{Blame, Breakdown, ProbeResult, Segment};

/// Number of probes that are kept by default.
const DEFAULT_COUNT: usize = 8;

/// The slowest answered probes, in bounded memory.
#[derive(Clone, Debug)]
pub struct Slowest {
    count: usize,
    /// Slowest first.
    results: Vec<ProbeResult>,
}

impl Default for Slowest {
    fn default() -> Self {
        Self::new(DEFAULT_COUNT)
    }
}

impl Slowest {
    /// Keeps at most `count` records.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            results: Vec::with_capacity(count),
        }
    }

    /// Whether a probe with this response time, nanoseconds, would be kept: ask before cloning it.
    pub fn wants(&self, response_ns: u64) -> bool {
        let full = self.results.len() >= self.count;
        self.count > 0
            && (!full
                || self
                    .results
                    .last()
                    .is_some_and(|last| response_ns > response(last)))
    }

    /// Keeps a result if it is among the slowest; one without a total never is.
    pub fn offer(&mut self, result: ProbeResult) {
        if result.breakdown.is_none() || !self.wants(response(&result)) {
            return;
        }
        self.results.truncate(self.count - 1);
        let at = self
            .results
            .partition_point(|kept| response(kept) >= response(&result));
        self.results.insert(at, result);
    }

    /// Adds blame that arrived later.
    pub fn blame(&mut self, seq: u32, blame: &[Blame]) {
        let kept = self
            .results
            .iter_mut()
            .find(|result| result.probe.seq == seq);
        if let Some(result) = kept {
            result.blame.extend_from_slice(blame);
            // Of each segment on each host there is one.
            result.blame.truncate(2 * Segment::ALL.len());
        }
    }

    /// Slowest first.
    pub fn results(&self) -> &[ProbeResult] {
        &self.results
    }
}

fn response(result: &ProbeResult) -> u64 {
    result.breakdown.as_ref().map_or(0, Breakdown::response_ns)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::{Breakdown, ClockRelation, Probe, Status};

    fn result(seq: u32, total_ns: Option<u64>) -> ProbeResult {
        let probe = Probe {
            seq,
            sent_unix_ns: 0,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            status: Status::Ok,
            flow: 0,
            ttl: [None; 2],
            clock: ClockRelation::Same,
            path: Vec::new(),
        };
        let breakdown = total_ns.map(|total_ns| Breakdown {
            total_ns,
            ..Breakdown::default()
        });
        ProbeResult {
            probe,
            breakdown,
            verdict: None,
            loss: None,
            blame: Vec::new(),
        }
    }

    #[test]
    fn keeps_the_slowest_in_order() {
        let mut slowest = Slowest::new(3);
        for (seq, total) in [5, 1, 9, 9, 7, 2].into_iter().enumerate() {
            slowest.offer(result(seq as u32, Some(total)));
        }
        slowest.offer(result(99, None));
        let kept: Vec<u32> = slowest
            .results()
            .iter()
            .map(|result| result.probe.seq)
            .collect();
        assert_eq!(kept, [2, 3, 4]);
        assert!(!slowest.wants(7) && slowest.wants(8));
    }

    #[test]
    fn none_wanted_none_kept() {
        let mut slowest = Slowest::new(0);
        slowest.offer(result(1, Some(1)));
        assert!(!slowest.wants(u64::MAX) && slowest.results().is_empty());
    }
}

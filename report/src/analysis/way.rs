//! Statistics of the parts of the way, where hosts on it stamp probes too.

use std::collections::BTreeMap;

use crate::analysis::distribution::Distribution;
use crate::model::{DelayStat, Host, Stretch, WayPart};

/// Upper bound on parts: a way has a few, but hosts that lack stamps make ever other ones.
const CAPACITY: usize = 64;
/// Percentiles to this many significant decimal digits.
const DIGITS: u8 = 2;

/// A part of the way of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct WayStat {
    /// Which part.
    pub of: Stretch,
    /// Nanoseconds of both directions together, of out, and of in, where those were known.
    pub times: [Option<DelayStat>; 3],
}

/// Both directions together, out, and in, as far as they were known.
type Times = [Option<Distribution>; 3];

/// Statistics of all parts of the way of a run, in bounded memory.
#[derive(Clone, Debug, Default)]
pub struct WayStats {
    parts: BTreeMap<(u32, u32), (Stretch, Times)>,
    overflow: u64,
}

impl WayStats {
    /// Counts the parts of a probe's way.
    pub fn record(&mut self, way: &[WayPart]) {
        for part in way {
            let key = place(part.of);
            if self.parts.len() >= CAPACITY && !self.parts.contains_key(&key) {
                self.overflow += 1;
                continue;
            }
            let (_, times) = self
                .parts
                .entry(key)
                .or_insert_with(|| (part.of, Default::default()));
            let [out, back] = part.directions.map(|time| time.map(|time| time.ns));
            // Within a host that stamped one packet only, there is no sum of both.
            let within = matches!(part.of, Stretch::Within(_));
            let both = Some(part.ns).filter(|_| !within || out.is_some() && back.is_some());
            for (values, ns) in times.iter_mut().zip([both, out, back]) {
                let Some(ns) = ns else { continue };
                let values = values.get_or_insert_with(|| Distribution::new(DIGITS));
                values.record(ns);
            }
        }
    }

    /// The parts in path order.
    pub fn parts(&self) -> Vec<WayStat> {
        let stat = |times: &Option<Distribution>| times.as_ref().map(|times| times.stat(None));
        let part = |(of, times): &(Stretch, Times)| WayStat {
            of: *of,
            times: times.each_ref().map(stat),
        };
        self.parts.values().map(part).collect()
    }

    /// Parts that were not counted because there were too many different ones.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}

/// Where a part begins and ends on the path.
fn place(of: Stretch) -> (u32, u32) {
    let rank = |host| match host {
        Host::Client => 0,
        Host::Transit(index) => 1 + u32::from(index),
        Host::Server => u32::MAX - 1,
    };
    match of {
        Stretch::Within(host) => (rank(host), rank(host)),
        Stretch::Between(near, far) => (rank(near), rank(far)),
        Stretch::Behind(host) => (rank(host), u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WayTime;

    #[test]
    fn parts_are_in_path_order_and_known_as_far_as_they_are() {
        let transit = Host::Transit(2);
        let part = |of, directions: [Option<u64>; 2]| WayPart {
            of,
            ns: 100,
            base_ns: 90,
            directions: directions.map(|ns| {
                Some(WayTime {
                    ns: ns?,
                    bounds: None,
                })
            }),
        };
        let mut stats = WayStats::default();
        let behind = part(Stretch::Behind(transit), [None; 2]);
        let within = part(Stretch::Within(transit), [Some(60), Some(40)]);
        let wire = part(Stretch::Between(Host::Client, transit), [None; 2]);
        stats.record(&[behind, within, wire]);
        stats.record(&[part(Stretch::Within(transit), [Some(100), None])]);
        let parts = stats.parts();
        let found: Vec<_> = parts.iter().map(|part| part.of.words()).collect();
        let order = [
            "between client and transit2",
            "in transit2",
            "behind transit2",
        ];
        assert_eq!(found, order);
        let counts = |part: &WayStat| {
            let count = |times: &Option<DelayStat>| times.as_ref().map_or(0, |t| t.count);
            part.times.each_ref().map(count)
        };
        let counts: Vec<_> = parts.iter().map(counts).collect();
        assert_eq!(counts, [[1, 0, 0], [1, 2, 1], [1, 0, 0]]);
        assert_eq!(stats.overflow(), 0);
    }
}

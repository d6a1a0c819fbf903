//! What counters were at the last reading, and by how much they grew since.

use report::analysis::moved::{CounterId, MovedTally};
use report::model::{CounterSource, KernelCounter};
use std::collections::HashMap;

/// A device by index and name.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a>(pub(super) u32, pub(super) &'a str);

/// The last readings of all counters.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// By source and device, 0 for the whole host, and by name.
    known: HashMap<(CounterSource, u32), HashMap<String, Last>>,
    /// The number of the reading.
    number: u64,
    moved: Vec<(CounterId, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    id: CounterId,
    value: u64,
    /// In which reading that was.
    number: u64,
}

impl Readings {
    /// Begins a reading.
    pub(super) fn begin(&mut self) {
        self.number += 1;
    }

    /// What grew since the reading before.
    pub(super) fn end(&mut self) -> Vec<(CounterId, u64)> {
        std::mem::take(&mut self.moved)
    }

    /// Whether a source has a counter of this name.
    pub(super) fn has(&self, source: CounterSource, ifindex: u32, name: &str) -> bool {
        let all = self.known.get(&(source, ifindex));
        all.is_some_and(|all| all.contains_key(name))
    }

    /// Notes a counter's value. How far it grew is known if it was in the reading before.
    pub(super) fn note(
        &mut self,
        tally: &mut MovedTally,
        (source, at): (CounterSource, Option<At<'_>>),
        name: &str,
        value: u64,
    ) {
        let ifindex = at.map_or(0, |At(ifindex, _)| ifindex);
        let all = self.known.entry((source, ifindex)).or_default();
        let Some(last) = all.get_mut(name) else {
            let id = tally.counter(KernelCounter {
                source,
                device: at.map(|At(_, device)| device.to_owned()),
                counter: name.to_owned(),
            });
            let number = self.number;
            all.insert(name.to_owned(), Last { id, value, number });
            return;
        };
        if value < last.value {
            tally.fell(last.id);
        } else if value > last.value && last.number + 1 == self.number {
            self.moved.push((last.id, value - last.value));
        }
        (last.value, last.number) = (value, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Host;

    const MS: u64 = 1_000_000;

    /// Readings of one counter, 100 ms apart; `None`: its device is not there.
    fn readings(values: impl IntoIterator<Item = Option<u64>>) -> MovedTally {
        let mut tally = MovedTally::default();
        let mut readings = Readings::default();
        for (value, k) in values.into_iter().zip(0..) {
            readings.begin();
            if let Some(value) = value {
                let source = (CounterSource::Link, Some(At(3, "eth0")));
                readings.note(&mut tally, source, "rx_dropped", value);
            }
            let moved = readings.end();
            if k > 0 {
                let span = ((k - 1) * 100 * MS, k * 100 * MS);
                tally.interval(span, moved);
            }
        }
        tally
    }

    #[test]
    fn growth_between_two_readings_counts() {
        let values = (0..100).map(|k| Some(if k < 50 { 1000 } else { 1007 }));
        let mut tally = readings(values);
        tally.slow(0, (4910 * MS, 4920 * MS));
        let moved = tally.result(0, Host::Client).unwrap();
        assert_eq!(moved.counters.len(), 1, "{moved:?}");
        assert_eq!(
            (moved.counters[0].inside, moved.counters[0].outside),
            (7, 0)
        );
    }

    /// A device that comes back, or whose driver starts anew: nobody knows how far its counters grew.
    #[test]
    fn what_was_away_or_began_anew_is_no_growth() {
        let values = (0..100).map(|k| match k {
            0..50 => Some(1000),
            50..52 => None,
            _ => Some(90_000),
        });
        let mut tally = readings(values);
        tally.slow(0, (4700 * MS, 5300 * MS));
        let moved = tally.result(0, Host::Client).unwrap();
        assert_eq!((moved.counters.len(), moved.fallen), (0, 0), "{moved:?}");
        let values = (0..100).map(|k| Some(if k < 50 { 1000 } else { k }));
        let mut tally = readings(values);
        tally.slow(0, (4700 * MS, 5300 * MS));
        let moved = tally.result(0, Host::Client).unwrap();
        assert_eq!((moved.counters.len(), moved.fallen), (0, 1), "{moved:?}");
    }
}

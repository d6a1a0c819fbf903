//! How far counters moved, inside the slow and lossy windows and outside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::rule::{Counted, Times, excess, has_moved, is_trouble};
use crate::model::{Host, KernelCounter, Moved, MovedCounter};

/// Upper bound on intervals that wait for probes to be judged.
const KEPT: usize = 300;
/// Upper bound on windows of the future: there is one where readings are slower than judgement.
const AHEAD: usize = 1024;
/// Upper bound on counters in a result.
const LISTED: usize = 32;

/// A counter of a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterId(u32);

/// How far the counters of a host moved in the course of a run, and which of that was while probes to a target
/// were slow or lost. Bounded in memory by the counters and the targets, however long the run.
#[derive(Debug, Default)]
pub struct MovedTally {
    counters: Vec<Known>,
    /// Those that still wait, oldest first.
    recent: VecDeque<Interval>,
    /// The number of the first of them.
    first: u64,
    /// Of all intervals, ns.
    total_ns: u64,
    targets: BTreeMap<u32, Target>,
    /// What is yet to be counted: target, from, to.
    ahead: Vec<(u32, u64, u64)>,
}

#[derive(Debug)]
struct Known {
    counter: KernelCounter,
    total: u64,
    has_fallen: bool,
}

/// What moved between two readings.
#[derive(Debug)]
struct Interval {
    from_ns: u64,
    to_ns: u64,
    moved: Vec<(CounterId, u64)>,
    /// Targets with a slow or lost probe in it.
    slow: BTreeSet<u32>,
}

/// The slow and lossy windows of a target.
#[derive(Clone, Debug, Default)]
struct Target {
    windows: u64,
    inside_ns: u64,
    /// The number of the last interval inside.
    last: Option<u64>,
    /// Growth inside, in how many windows, and the last of these.
    inside: BTreeMap<CounterId, (u64, u64, u64)>,
    missed: u64,
}

impl MovedTally {
    /// A counter that is read from now on.
    pub fn counter(&mut self, counter: KernelCounter) -> CounterId {
        let id = CounterId(self.counters.len() as u32);
        self.counters.push(Known {
            counter,
            total: 0,
            has_fallen: false,
        });
        id
    }

    /// A counter is smaller than before.
    pub fn fell(&mut self, id: CounterId) {
        self.counters[id.0 as usize].has_fallen = true;
    }

    /// By how much counters grew between the beginning of one reading and the end of the next, `CLOCK_MONOTONIC`
    /// ns. Intervals come in their order.
    pub fn interval(&mut self, (from_ns, to_ns): (u64, u64), moved: Vec<(CounterId, u64)>) {
        self.total_ns += to_ns.saturating_sub(from_ns);
        for (id, by) in &moved {
            let total = &mut self.counters[id.0 as usize].total;
            *total = total.saturating_add(*by);
        }
        let overlaps = |(_, from, to): &&(u32, u64, u64)| *from <= to_ns && from_ns <= *to;
        let slow = self.ahead.iter().filter(overlaps);
        let slow = slow.map(|(target, ..)| *target).collect();
        self.ahead.retain(|(_, _, to)| *to > to_ns);
        self.recent.push_back(Interval {
            from_ns,
            to_ns,
            moved,
            slow,
        });
        if self.recent.len() > KEPT
            && let Some(oldest) = self.recent.pop_front()
        {
            for target in &oldest.slow {
                let target = self.targets.entry(*target).or_default();
                target.add(self.first, &oldest);
            }
            self.first += 1;
        }
    }

    /// A probe to this target was slow or lost between these times, `CLOCK_MONOTONIC` ns.
    pub fn slow(&mut self, target: u32, (from_ns, to_ns): (u64, u64)) {
        let begin_ns = self.recent.front().map_or(u64::MAX, |first| first.from_ns);
        let end_ns = self.recent.back().map_or(0, |last| last.to_ns);
        let of_target = self.targets.entry(target).or_default();
        of_target.missed += u64::from(from_ns < begin_ns);
        let recent = self.recent.iter_mut().rev();
        let inside = recent.take_while(|interval| interval.to_ns >= from_ns);
        for interval in inside.filter(|interval| interval.from_ns <= to_ns) {
            interval.slow.insert(target);
        }
        if to_ns > end_ns {
            self.goes_on(target, (from_ns, to_ns));
        }
    }

    /// Its end is still to be read.
    fn goes_on(&mut self, target: u32, (from_ns, to_ns): (u64, u64)) {
        let touches = |(of, from, to): &&mut (u32, u64, u64)| {
            *of == target && *from <= to_ns && from_ns <= *to
        };
        if let Some((_, from, to)) = self.ahead.iter_mut().find(touches) {
            (*from, *to) = ((*from).min(from_ns), (*to).max(to_ns));
        } else if self.ahead.len() < AHEAD {
            self.ahead.push((target, from_ns, to_ns));
        } else {
            self.targets.entry(target).or_default().missed += 1;
        }
    }

    /// What moved in the windows of this target; `None` if it had none.
    pub fn result(&self, target: u32, host: Host) -> Option<Moved> {
        let mut all = self.targets.get(&target)?.clone();
        for (interval, number) in self.recent.iter().zip(self.first..) {
            if interval.slow.contains(&target) {
                all.add(number, interval);
            }
        }
        let times = Times {
            inside_ns: all.inside_ns,
            outside_ns: self.total_ns.saturating_sub(all.inside_ns),
            windows: all.windows,
        };
        let mut found: Vec<_> = all
            .inside
            .iter()
            .filter_map(|(id, (inside, windows, _))| {
                let known = &self.counters[id.0 as usize];
                let counted = Counted {
                    inside: *inside,
                    outside: known.total.saturating_sub(*inside),
                    windows: *windows,
                };
                let moved = has_moved(&known.counter.counter, counted, times);
                (moved && !known.has_fallen).then_some((known, counted))
            })
            .collect();
        found.sort_by(|(a, by), (b, other)| {
            let rank = |known: &Known| is_trouble(&known.counter.counter);
            let by_excess = excess(*other, times).total_cmp(&excess(*by, times));
            let by_name = || a.counter.cmp(&b.counter);
            rank(b).cmp(&rank(a)).then(by_excess).then_with(by_name)
        });
        let counters = found
            .iter()
            .take(LISTED)
            .map(|(known, counted)| MovedCounter {
                counter: known.counter.clone(),
                inside: counted.inside,
                windows: counted.windows,
                outside: counted.outside,
            });
        Some(Moved {
            host,
            windows: all.windows,
            inside_ns: times.inside_ns,
            outside_ns: times.outside_ns,
            counters: counters.collect(),
            unlisted: found.len().saturating_sub(LISTED) as u64,
            fallen: self.counters.iter().filter(|of| of.has_fallen).count() as u64,
            missed: all.missed,
        })
    }
}

impl Target {
    /// Adds an interval that is inside; they come in their order.
    fn add(&mut self, number: u64, interval: &Interval) {
        let goes_on = self.last.is_some_and(|last| last + 1 == number);
        self.windows += u64::from(!goes_on);
        self.last = Some(number);
        self.inside_ns += interval.to_ns.saturating_sub(interval.from_ns);
        for (id, by) in &interval.moved {
            let (inside, windows, last) = self.inside.entry(*id).or_default();
            *inside = inside.saturating_add(*by);
            *windows += u64::from(*last != self.windows);
            *last = self.windows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CounterSource;

    const MS: u64 = 1_000_000;

    fn tally(names: &[&str]) -> (MovedTally, Vec<CounterId>) {
        let mut tally = MovedTally::default();
        let counter = |name: &&str| KernelCounter {
            source: CounterSource::Link,
            device: Some("eth0".into()),
            counter: (*name).to_owned(),
        };
        let ids = names.iter().map(|name| tally.counter(counter(name)));
        let ids = ids.collect();
        (tally, ids)
    }

    /// Intervals of 100 ms from number `from` to before `to`, in which `moved` gives each counter's growth.
    fn run(tally: &mut MovedTally, (from, to): (u64, u64), moved: &[(CounterId, u64)]) {
        for k in from..to {
            tally.interval((k * 100 * MS, (k + 1) * 100 * MS), moved.to_vec());
        }
    }

    fn slow(tally: &mut MovedTally, from_ms: u64, to_ms: u64) {
        tally.slow(0, (from_ms * MS, to_ms * MS));
    }

    fn counters(tally: &MovedTally) -> Vec<(String, u64, u64, u64)> {
        let moved = tally.result(0, Host::Client).unwrap();
        let of = |m: MovedCounter| (m.counter.counter, m.inside, m.windows, m.outside);
        moved.counters.into_iter().map(of).collect()
    }

    #[test]
    fn only_what_moved_inside_is_listed() {
        let (mut tally, ids) = tally(&["rx_packets", "rx_missed_errors", "rx_errors"]);
        let usual = [(ids[0], 500), (ids[2], 1)];
        let hit = [(ids[0], 500), (ids[1], 137), (ids[2], 1)];
        for k in 0..3 {
            run(&mut tally, (30 * k, 30 * k + 29), &usual);
            run(&mut tally, (30 * k + 29, 30 * k + 30), &hit);
            let end_ms = (30 * k + 30) * 100;
            slow(&mut tally, end_ms - 60, end_ms - 20);
        }
        run(&mut tally, (90, 100), &usual);
        let expected = ("rx_missed_errors".to_owned(), 411, 3, 0);
        assert_eq!(counters(&tally), [expected]);
        let moved = tally.result(0, Host::Client).unwrap();
        assert_eq!((moved.windows, moved.inside_ns), (3, 300 * MS));
        assert_eq!(moved.outside_ns, 9700 * MS);
        assert_eq!(tally.result(1, Host::Client), None);
    }

    /// The same whether probes are judged at once, before the end of the interval, or much later; and also if
    /// the intervals are no longer kept one by one.
    #[test]
    fn the_time_of_judgement_does_not_matter() {
        let results: Vec<_> = [3, 10, 100]
            .into_iter()
            .map(|judged| {
                let (mut tally, ids) = tally(&["drops"]);
                run(&mut tally, (0, 3), &[]);
                let hit = [(ids[0], 7)];
                run(&mut tally, (3, judged.min(5)), &hit);
                run(&mut tally, (5, judged), &[]);
                slow(&mut tally, 310, 450);
                run(&mut tally, (judged, judged.max(5)), &hit);
                run(&mut tally, (judged.max(5), 2 * KEPT as u64), &[]);
                tally.result(0, Host::Client).unwrap()
            })
            .collect();
        assert_eq!(results[0].counters[0].inside, 14);
        assert_eq!(results[0].counters[0].windows, 1);
        assert_eq!((results[0].windows, results[0].inside_ns), (1, 200 * MS));
        assert!(results.iter().all(|r| *r == results[0]), "{results:#?}");
    }

    #[test]
    fn neighbours_are_one_window() {
        let (mut tally, ids) = tally(&["drops"]);
        run(&mut tally, (0, 50), &[(ids[0], 0)]);
        slow(&mut tally, 110, 120);
        slow(&mut tally, 230, 260);
        slow(&mut tally, 250, 330);
        slow(&mut tally, 950, 960);
        let moved = tally.result(0, Host::Client).unwrap();
        assert_eq!((moved.windows, moved.inside_ns), (2, 400 * MS));
    }

    #[test]
    fn what_fell_is_unknown_and_what_came_too_late_is_counted() {
        let (mut tally, ids) = tally(&["drops", "rx_errors"]);
        let length = KEPT as u64;
        run(&mut tally, (0, length + 50), &[(ids[0], 9), (ids[1], 1)]);
        slow(&mut tally, 10, 20);
        tally.fell(ids[0]);
        run(&mut tally, (length + 50, length + 51), &[(ids[0], 99_999)]);
        slow(
            &mut tally,
            (length + 50) * 100 + 10,
            (length + 50) * 100 + 20,
        );
        let moved = tally.result(0, Host::Client).unwrap();
        assert_eq!((moved.fallen, moved.missed), (1, 1));
        assert_eq!(moved.counters, []);
    }

    #[test]
    fn trouble_is_listed_before_traffic() {
        let (mut tally, ids) = tally(&["rx_bytes", "drops"]);
        run(&mut tally, (0, 40), &[]);
        for k in [40, 60] {
            run(&mut tally, (k, k + 1), &[(ids[0], 1 << 40), (ids[1], 2)]);
            slow(&mut tally, k * 100 + 10, k * 100 + 20);
            run(&mut tally, (k + 1, k + 20), &[]);
        }
        let names: Vec<_> = counters(&tally).into_iter().map(|of| of.0).collect();
        assert_eq!(names, ["drops", "rx_bytes"]);
    }

    #[test]
    fn each_target_has_its_own_windows() {
        let (mut tally, ids) = tally(&["drops"]);
        run(&mut tally, (0, 20), &[]);
        run(&mut tally, (20, 21), &[(ids[0], 5)]);
        run(&mut tally, (21, 40), &[]);
        tally.slow(0, (2010 * MS, 2020 * MS));
        tally.slow(1, (3010 * MS, 3020 * MS));
        assert_eq!(counters(&tally).len(), 1);
        let other = tally.result(1, Host::Client).unwrap();
        assert_eq!((other.windows, other.counters.len()), (1, 0));
    }
}

//! What irqoff, nosched and runqlat found so far: counts, the worst, and their picture.

use std::collections::BTreeMap;

use crate::model::Class;
use crate::units::{Unit, duration};

use super::chart::{Chart, Histogram, Mark, Panel, Timeline};
use super::event::{Event, Kind};
use super::time::Time;

/// Upper bound on marks in a picture; later events are only counted.
const MARKS: usize = 20_000;
/// Buckets of the histogram an octave.
const STEPS: u32 = 2;

/// Events of one companion.
#[derive(Clone, Debug)]
pub struct Tally {
    kind: Kind,
    start: Time,
    threshold_ns: u64,
    classes: BTreeMap<Class, u64>,
    culprits: BTreeMap<(Class, String), Share>,
    histogram: BTreeMap<u32, u64>,
    marks: Vec<(u32, Class, Mark)>,
    unmarked: u64,
}

/// The part of one culprit.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    events: u64,
    /// In all of them, ns.
    ns: u64,
    /// The longest one, ns, and its CPU.
    longest: (u64, u32),
}

impl Tally {
    /// From this moment on.
    pub fn new(kind: Kind, threshold_ns: u64, start: Time) -> Self {
        Self {
            kind,
            start,
            threshold_ns,
            classes: BTreeMap::new(),
            culprits: BTreeMap::new(),
            histogram: BTreeMap::new(),
            marks: Vec::new(),
            unmarked: 0,
        }
    }

    /// How many there were.
    pub fn events(&self) -> u64 {
        self.classes.values().sum()
    }

    /// Counts one.
    pub fn add(&mut self, event: &Event) {
        *self.classes.entry(event.class).or_default() += 1;
        *self.histogram.entry(bucket(event.lat_ns)).or_default() += 1;
        let share = self
            .culprits
            .entry((event.class, event.culprit()))
            .or_default();
        share.events += 1;
        share.ns += event.lat_ns;
        if event.lat_ns > share.longest.0 {
            share.longest = (event.lat_ns, event.cpu);
        }
        if self.marks.len() < MARKS {
            self.marks.push((event.cpu, event.class, self.mark(event)));
        } else {
            self.unmarked += 1;
        }
    }

    fn mark(&self, event: &Event) -> Mark {
        let since = event
            .time
            .0
            .saturating_sub(self.start.0)
            .max(0)
            .cast_unsigned();
        Mark {
            lane: 0,
            class: 0,
            at_ns: since.saturating_sub(event.lat_ns),
            ns: event.lat_ns,
            text: event.label(),
        }
    }

    /// How many events of which class.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let all: u64 = self.classes.values().sum();
        let each = self
            .classes
            .iter()
            .map(|(class, n)| (class.name().to_owned(), *n));
        std::iter::once(("events".to_owned(), all))
            .chain(each)
            .collect()
    }

    /// The answer in one sentence: the culprit with the most time, and its longest event.
    pub fn headline(&self) -> String {
        // Causes outside of this kernel come last: nothing can be done about them here.
        let foreign = |class: &Class| matches!(class, Class::Stolen | Class::Outside);
        let weight = |((class, _), share): &(&(Class, String), &Share)| (!foreign(class), share.ns);
        let Some(((class, culprit), share)) = self.culprits.iter().max_by_key(weight) else {
            let threshold = duration(self.threshold_ns);
            return match self.kind {
                Kind::Irqoff => format!("No interrupt was held up for {threshold} or more"),
                Kind::Nosched => format!("No reschedule took {threshold} or more"),
                Kind::Runqlat => format!("No task waited {threshold} or more for its CPU"),
            };
        };
        let all: u64 = self.classes.values().sum();
        let (longest_ns, cpu) = share.longest;
        format!(
            "{} of {all}: {}: {culprit}; {} in all, the longest {} on CPU {cpu}",
            share.events,
            class.words(),
            duration(share.ns),
            duration(longest_ns)
        )
    }

    /// The picture of what was found until `end`.
    pub fn chart(&self, host: &str, end: Time) -> Chart {
        let span_ns = end.0.saturating_sub(self.start.0).max(1).cast_unsigned();
        let (name, threshold) = (self.kind.name(), duration(self.threshold_ns));
        let seconds = span_ns as f64 / 1e9;
        let notes = match self.unmarked {
            0 => String::new(),
            n => format!("{n} later events are counted and not drawn."),
        };
        Chart {
            title: format!("{name} on {host}, {seconds:.1} s, threshold {threshold}"),
            headline: self.headline(),
            second: self.second(),
            panels: vec![self.timeline(span_ns), self.durations()],
            notes,
        }
    }

    fn second(&self) -> String {
        let counts = self
            .classes
            .iter()
            .map(|(class, n)| format!("{n} {}", class.words()));
        counts.collect::<Vec<_>>().join(", ")
    }

    fn timeline(&self, span_ns: u64) -> Panel {
        let mut cpus: Vec<u32> = self.marks.iter().map(|(cpu, ..)| *cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        let classes: Vec<Class> = self.classes.keys().copied().collect();
        let place = |(cpu, class, mark): &(u32, Class, Mark)| Mark {
            lane: cpus.binary_search(cpu).unwrap_or(0),
            class: classes.binary_search(class).unwrap_or(0),
            ..mark.clone()
        };
        Panel::Timeline(Timeline {
            heading: "When, where, how long".to_owned(),
            start_unix_ns: self.start.0,
            span_ns,
            lanes: cpus.iter().map(|cpu| format!("CPU {cpu}")).collect(),
            classes: classes
                .iter()
                .map(|class| class.words().to_owned())
                .collect(),
            marks: self.marks.iter().map(place).collect(),
            empty: self.headline(),
        })
    }

    fn durations(&self) -> Panel {
        let row = |(bucket, count): (&u32, &u64)| (bound(*bucket), bound(bucket + 1), *count);
        Panel::Histogram(Histogram {
            heading: "How long".to_owned(),
            unit: Unit::Nanoseconds,
            buckets: self.histogram.iter().map(row).collect(),
            empty: self.headline(),
        })
    }
}

/// Half octaves.
fn bucket(ns: u64) -> u32 {
    let log = ns.max(1).ilog2();
    let half = u32::from(ns >= bound(log * STEPS + 1));
    log * STEPS + half
}

/// Where a bucket begins, ns.
fn bound(bucket: u32) -> u64 {
    let octave = 1_u64 << (bucket / STEPS).min(63);
    if bucket.is_multiple_of(STEPS) {
        octave
    } else {
        (octave as f64 * std::f64::consts::SQRT_2) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Ran;
    use super::*;

    const MS: u64 = 1_000_000;

    /// Somebody waited on this CPU while this one ran.
    fn wait(ran: &str, cpu: u32, lat_ns: u64) -> Event {
        Event {
            companion: Kind::Runqlat,
            time: Time(0),
            cpu,
            comm: "victim".to_owned(),
            tid: 1,
            lat_ns,
            most_ns: None,
            class: Class::Cpu,
            vector: None,
            victim: None,
            nr_running: None,
            quota_ns: None,
            ran: vec![Ran {
                comm: ran.to_owned(),
                tid: 7,
                ns: lat_ns,
            }],
            stack: Vec::new(),
            container: None,
        }
    }

    #[test]
    fn a_culprit_and_its_own_longest_wait_are_named_together() {
        let mut tally = Tally::new(Kind::Runqlat, MS, Time(0));
        for _ in 0..10 {
            tally.add(&wait("hog", 0, 8 * MS));
        }
        for _ in 0..30 {
            tally.add(&wait("often", 0, 2 * MS));
        }
        tally.add(&wait("once", 1, 30 * MS));
        assert_eq!(
            tally.headline(),
            "10 of 41: CPU taken: hog/7 ran; 80.0 ms in all, the longest 8.00 ms on CPU 0"
        );
    }
}

//! What irqoff, nosched and runqlat found so far: counts, the worst, and their picture.

use std::collections::BTreeMap;

use crate::units::duration;

use super::{Chart, Class, Event, Histogram, Kind, Mark, Panel, Time, Timeline, Unit};

/// Marks that a picture keeps; what comes later is only counted.
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
    culprits: BTreeMap<(Class, String), (u64, u64)>,
    histogram: BTreeMap<u32, u64>,
    marks: Vec<(u32, Class, Mark)>,
    unmarked: u64,
    worst: Option<Event>,
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
            worst: None,
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
        let (count, ns) = self
            .culprits
            .entry((event.class, event.culprit()))
            .or_default();
        *count += 1;
        *ns += event.lat_ns;
        if self.marks.len() < MARKS {
            self.marks.push((event.cpu, event.class, self.mark(event)));
        } else {
            self.unmarked += 1;
        }
        if self
            .worst
            .as_ref()
            .is_none_or(|worst| worst.lat_ns < event.lat_ns)
        {
            self.worst = Some(event.clone());
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

    /// The answer in one sentence.
    pub fn headline(&self) -> String {
        let threshold = duration(self.threshold_ns);
        let Some(worst) = &self.worst else {
            return match self.kind {
                Kind::Irqoff => format!("No interrupt was held up for {threshold} or more"),
                Kind::Nosched => format!("No reschedule took {threshold} or more"),
                Kind::Runqlat => format!("No task waited {threshold} or more for its CPU"),
            };
        };
        let all: u64 = self.classes.values().sum();
        // What is not of this kernel comes last: nothing here can be done about it.
        let foreign = |class: &Class| matches!(class, Class::Stolen | Class::Outside);
        let weight =
            |((class, _), (_, ns)): &(&(Class, String), &(u64, u64))| (!foreign(class), *ns);
        let most = self.culprits.iter().max_by_key(weight);
        let (culprit, share) = most.map_or((String::new(), 0), |((class, name), (n, _))| {
            (format!("{}: {name}", class.words()), *n)
        });
        format!(
            "{share} of {all}: {culprit}; the longest {} on CPU {}",
            duration(worst.lat_ns),
            worst.cpu
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

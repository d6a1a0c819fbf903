//! Families of metrics, as plain data.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::analysis::exponential::Exponential;

/// Labels of the families: a user's label of such a name is called `exported_NAME`, as Prometheus does.
pub(super) const OWN: [&str; 16] = [
    "target",
    "result",
    "segment",
    "owner",
    "certainty",
    "place",
    "reason",
    "host",
    "class",
    "state",
    "event",
    "kind",
    "way",
    "program",
    "le",
    "quantile",
];
/// Metrics of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name, without the unit and without `_total` or `_info`.
    pub name: &'static str,
    /// What it counts, in one sentence.
    pub help: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its unit, which ends the name, if it has one.
    pub unit: Option<Unit>,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never goes down.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
    /// Labels alone.
    Info,
}

/// What a metric is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// Names and values.
pub type Labels = Vec<(Cow<'static, str>, String)>;

/// One series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is told apart by.
    pub labels: Labels,
    /// Its value now.
    pub value: Value,
}

/// The value of a series.
#[derive(Clone, Debug)]
pub enum Value {
    /// A count, and an example of what it counts.
    Count(u64, Option<Exemplar>),
    /// A number, in the family's unit.
    Number(f64),
    /// A distribution.
    Histogram(Exponential),
}

/// An example of what a counter counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Which one it is: names and values have at most 128 characters together.
    pub labels: Vec<(&'static str, String)>,
    /// When it was.
    pub time: SystemTime,
}

impl Family {
    /// A family without series.
    pub(super) const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            unit: None,
            samples: Vec::new(),
        }
    }

    /// With a unit.
    #[must_use]
    pub(super) const fn unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// With one series more.
    #[must_use]
    pub(super) fn with(mut self, labels: Labels, value: Value) -> Self {
        self.samples.push(Sample { labels, value });
        self
    }

    /// With these series.
    #[must_use]
    pub(super) fn all(mut self, samples: impl IntoIterator<Item = (Labels, Value)>) -> Self {
        let samples = samples.into_iter();
        self.samples
            .extend(samples.map(|(labels, value)| Sample { labels, value }));
        self
    }
}

/// Labels of a series.
pub(super) fn labels<const N: usize>(of: [(&'static str, &str); N]) -> Labels {
    of.map(|(name, value)| (name.into(), value.to_owned()))
        .into()
}

/// The names of those labels that are not the user's.
pub(super) fn own(labels: &Labels) -> impl Iterator<Item = &Cow<'static, str>> {
    let names = labels.iter().map(|(name, _)| name);
    names.filter(|name| OWN.contains(&name.as_ref()))
}

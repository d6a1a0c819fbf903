//! How many series there may be: a page must not grow with everything that can go wrong.
//!
//! Some series are always there: three of each target, and those of the node. The others, by cause, place
//! or reason, come as they are needed, as long as there is room; what finds none is counted in one series
//! of its family, whose labels are all `other`. A series that was shown once stays, and one that found no
//! room gets none later: a counter must never go down.

use std::collections::BTreeSet;

use super::family::{Family, Labels, Sample, Value, own};

/// Series of one node by default, unless [`PER_TARGET`] asks for more.
const PER_NODE: usize = 80;
/// Series of each target.
const PER_TARGET: usize = 8;
/// The value of all labels of what found no room.
const OTHER: &str = "other";

/// A series, by the name of its family and its labels.
type Series = (&'static str, Labels);

/// Which series have found room so far, and which have not.
#[derive(Clone, Debug, Default)]
pub struct Room {
    shown: BTreeSet<Series>,
    other: BTreeSet<Series>,
}

impl Room {
    /// Series that a node with this many targets may have.
    pub fn series(targets: usize) -> usize {
        PER_NODE.max(PER_TARGET * targets)
    }

    /// Merges what finds no room in these families of counts, when the others have `taken` series.
    pub(super) fn fit(&mut self, families: &mut [Family], targets: usize, taken: usize) {
        // Each family may get a series for what found no room.
        let room = Self::series(targets).saturating_sub(taken + families.len());
        let present: BTreeSet<Series> = families.iter().flat_map(series).collect();
        // Those of a target that is no more make room for others.
        self.shown.retain(|series| present.contains(series));
        self.other.retain(|series| present.contains(series));
        for series in present {
            if self.shown.contains(&series) || self.other.contains(&series) {
                continue;
            }
            let list = if self.shown.len() < room {
                &mut self.shown
            } else {
                &mut self.other
            };
            list.insert(series);
        }
        for family in families {
            self.merge(family);
        }
    }

    fn merge(&self, family: &mut Family) {
        let name = family.name;
        let samples = std::mem::take(&mut family.samples);
        let is_other = |sample: &Sample| self.other.contains(&(name, sample.labels.clone()));
        let (other, shown): (Vec<_>, Vec<_>) = samples.into_iter().partition(is_other);
        family.samples = shown;
        if let Some(first) = other.first() {
            let labels = own(&first.labels);
            let labels = labels.map(|name| (name.clone(), OTHER.to_owned()));
            let count = other.iter().map(|sample| match sample.value {
                Value::Count(count, _) => count,
                Value::Number(_) | Value::Histogram(_) => 0,
            });
            family.samples.push(Sample {
                labels: labels.collect(),
                value: Value::Count(count.sum(), None),
            });
        }
    }
}

fn series(family: &Family) -> impl Iterator<Item = Series> {
    let samples = family.samples.iter();
    samples.map(|sample| (family.name, sample.labels.clone()))
}

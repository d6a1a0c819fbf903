//! Areas of vmalloc over time: /proc/vmallocinfo lists the live areas, so the areas allocated and freed
//! between two lists are known exactly, without any tracing.

use super::snapshot::Area;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a caller has allocated since the first list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AreaCounts {
    /// Areas allocated, by the list that showed them first.
    pub allocated: BTreeMap<u32, u64>,
    /// Of these, those in the last list.
    pub live: BTreeMap<u32, u64>,
    /// Of those, bytes.
    pub bytes: u64,
}

/// All lists so far.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    before: Option<HashSet<Area>>,
    since: HashMap<Area, u32>,
    allocated: BTreeMap<String, BTreeMap<u32, u64>>,
}

impl Areas {
    /// Adds a list; its new areas are of this age. The first list holds the areas from before the start.
    pub fn observe(&mut self, age: u32, areas: &[Area]) {
        let now: HashSet<&Area> = areas.iter().collect();
        let Some(before) = &mut self.before else {
            self.before = Some(areas.iter().cloned().collect());
            return;
        };
        before.retain(|area| now.contains(area));
        self.since.retain(|area, _| now.contains(area));
        for area in areas {
            if before.contains(area) || self.since.contains_key(area) {
                continue;
            }
            self.since.insert(area.clone(), age);
            let allocated = self.allocated.entry(area.caller.clone()).or_default();
            *allocated.entry(age).or_default() += 1;
        }
    }

    /// By caller.
    pub fn counts(&self) -> BTreeMap<String, AreaCounts> {
        let mut all: BTreeMap<String, AreaCounts> = BTreeMap::new();
        for (caller, allocated) in &self.allocated {
            all.entry(caller.clone()).or_default().allocated = allocated.clone();
        }
        for (area, age) in &self.since {
            let counts = all.entry(area.caller.clone()).or_default();
            *counts.live.entry(*age).or_default() += 1;
            counts.bytes += area.bytes;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(range: &str, caller: &str) -> Area {
        Area {
            range: range.to_owned(),
            caller: caller.to_owned(),
            bytes: 4096,
        }
    }

    #[test]
    fn areas_allocated_since_the_first_list_are_counted() {
        let (old, a, b) = (area("1", "boot"), area("2", "leaky"), area("3", "leaky"));
        let mut areas = Areas::default();
        areas.observe(0, std::slice::from_ref(&old));
        areas.observe(1, &[old.clone(), a.clone()]);
        areas.observe(2, &[old.clone(), a.clone(), b.clone()]);
        areas.observe(3, &[old, b]);
        let counts = areas.counts();
        assert_eq!(counts.len(), 1);
        let leaky = &counts["leaky"];
        assert_eq!(leaky.allocated, BTreeMap::from([(1, 1), (2, 1)]));
        assert_eq!(leaky.live, BTreeMap::from([(2, 1)]));
        assert_eq!(leaky.bytes, 4096);
    }

    #[test]
    fn an_address_that_comes_again_is_new() {
        let a = area("2", "leaky");
        let mut areas = Areas::default();
        areas.observe(0, std::slice::from_ref(&a));
        areas.observe(1, &[]);
        areas.observe(2, &[a]);
        assert_eq!(areas.counts()["leaky"].live, BTreeMap::from([(2, 1)]));
    }
}

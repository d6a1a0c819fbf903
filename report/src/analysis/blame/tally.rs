//! What was to blame over a run.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::{Blame, BlameCount, BlameSummary, Class, Host, Segment};

/// Whether it is on the server's host, the segment, the class, and the name.
type Culprit = (bool, Segment, Class, String);

/// Probes, ns in all of them, and the task if it was always the same.
type Toll = (u64, u64, Option<u32>);

/// What was to blame over a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlameTally {
    culprits: BTreeMap<Culprit, Toll>,
    /// Probes with a blame.
    probes: u64,
    /// Of these, probes without an explanation.
    unexplained: u64,
    /// Slow probes that were not explained: too many at once.
    pub skipped: u64,
}

impl BlameTally {
    /// Counts a slow probe by the blame for its longest segment.
    pub fn count(&mut self, blame: &[Blame]) {
        let Some(longest) = blame.iter().max_by_key(|blame| blame.window_ns) else {
            return;
        };
        self.probes += 1;
        let Some(part) = longest.culprit() else {
            self.unexplained += 1;
            return;
        };
        let remote = longest.host == Host::Server;
        let key = (remote, longest.segment, part.class, part.who.clone());
        let explained = longest.window_ns - longest.unexplained_ns();
        let (probes, ns, tid) = self.culprits.entry(key).or_insert((0, 0, Some(part.tid)));
        *probes += 1;
        *ns = ns.saturating_add(explained);
        *tid = tid.filter(|tid| *tid == part.tid);
    }

    /// The culprits, those with the most time first.
    pub fn summary(&self) -> BlameSummary {
        let count =
            |((remote, segment, class, who), (probes, ns, tid)): (&Culprit, &Toll)| BlameCount {
                host: if *remote { Host::Server } else { Host::Client },
                segment: *segment,
                class: *class,
                who: who.clone(),
                tid: *tid,
                probes: *probes,
                ns: *ns,
            };
        let mut culprits: Vec<BlameCount> = self.culprits.iter().map(count).collect();
        culprits.sort_by_key(|count| Reverse((count.ns, count.probes)));
        BlameSummary {
            probes: self.probes,
            unexplained: self.unexplained,
            skipped: self.skipped,
            culprits,
        }
    }
}

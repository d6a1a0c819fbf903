//! Stamps of the server that overtook their probe's own reply.

use super::pending::Pending;
use crate::client::index::ProbeIndex;
use crate::client::slot_stamps::MAX_REMOTE;
use crate::wire::entry::Entry;
use std::collections::BTreeMap;

/// Upper bound on probes whose stamps arrived before their reply.
pub const MAX_EARLY: usize = 8192;
/// Upper bound on such stamps, of all probes together: 40 bytes each.
pub const MAX_EARLY_STAMPS: usize = 65_536;

/// Early stamps, by the index of their probe; the oldest are forgotten.
#[derive(Default)]
pub struct Early {
    pub by_index: BTreeMap<ProbeIndex, Vec<Entry>>,
    /// How many stamps these are.
    pub stamps: usize,
    /// Number of stamps that were forgotten.
    pub orphans: u64,
}

impl Early {
    /// Keeps a stamp for a reply that is still on its way, or lost; false if it is more than a probe can have.
    pub fn keep(&mut self, index: ProbeIndex, e: Entry) -> bool {
        let known = self.by_index.get(&index);
        if known.is_some_and(|of| of.len() >= MAX_REMOTE) {
            return false;
        }
        while self.by_index.len() >= MAX_EARLY || self.stamps >= MAX_EARLY_STAMPS {
            let forgotten = self.by_index.pop_first();
            let forgotten = forgotten.map_or(0, |(_, stamps)| stamps.len());
            self.stamps -= forgotten;
            self.orphans += forgotten as u64;
        }
        self.by_index.entry(index).or_default().push(e);
        self.stamps += 1;
        true
    }

    /// Gives a probe, now known to be answered or lost, the stamps that came before.
    pub fn take_into(&mut self, index: ProbeIndex, p: &mut Pending) {
        let early = self.by_index.remove(&index).unwrap_or_default();
        self.stamps -= early.len();
        for e in early {
            p.take(&e);
        }
    }
}

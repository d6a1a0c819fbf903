//! The names of this host's namespaces and devices, for clients: those of the stamps that a client gets. They take
//! the room that the stamps leave in a packet, and never make it longer; none is sent with `--private`.

use crate::kernel::map;
use crate::kernel::places::Places;
use crate::wire::entry::Entry;
use crate::wire::extension::Extension;
use crate::wire::names::{self, Place};
use crate::wire::stamp_packet::StampPacket;
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_name, pt_pending, pt_place};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use report::model::{Ifindex, Netns};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};
use zerocopy::IntoBytes as _;

/// Upper bound on places: that of the map.
const MAX_PLACES: usize = 256;
/// Upper bound on places that are counted because they have no room.
const MAX_NAMELESS: usize = 65_536;
/// Time between two looks at names that are in use.
const RECHECK: Duration = Duration::from_secs(4);

/// The names that clients may have.
pub struct Names {
    places: Places,
    /// The entries of each name; none for a place without one.
    known: HashMap<Place, Vec<Extension>>,
    /// Places for which there was no room, at first or at all.
    nameless: HashSet<Place>,
    checked_at: Instant,
    /// The same for the in-band programs.
    map: Option<MapHandle>,
}

impl Names {
    /// None are known yet.
    pub fn new(map: Option<MapHandle>) -> Self {
        Self {
            places: Places::default(),
            known: HashMap::new(),
            nameless: HashSet::new(),
            checked_at: Instant::now(),
            map,
        }
    }

    /// The in-band programs have stamps of a place without a name, or use names (place 0).
    pub fn wanted(&mut self, event: &pt_pending) {
        match (Netns(event.slot), Ifindex(event.session)) {
            (Netns(0), _) => self.recheck(),
            place => self.learn(place),
        }
    }

    /// A device of this namespace has come, gone or changed.
    pub fn devices_changed(&mut self) {
        self.places.forget();
        self.check();
    }

    /// Adds the names of the places of these stamps, as far as there is room.
    pub fn fill(&mut self, packet: &mut StampPacket, stamps: &[Entry]) {
        self.recheck();
        let stamps = stamps.iter().filter(|e| e.netns != Netns(0));
        let places = stamps.flat_map(|e| [(e.netns, Ifindex(0)), (e.netns, e.ifindex)]);
        for place in places.collect::<BTreeSet<_>>() {
            self.learn(place);
            // A cut name would be a wrong one.
            let entries = self.known.get(&place).map_or(&[][..], Vec::as_slice);
            if entries.len() <= packet.room() {
                for entry in entries {
                    packet.push_extension(entry);
                }
            }
        }
    }

    /// Number of places whose names clients did not get, as too many were in use.
    pub fn nameless(&self) -> u64 {
        self.nameless.len() as u64
    }

    fn learn(&mut self, place: Place) {
        if self.known.contains_key(&place) {
            return;
        }
        if self.known.len() >= MAX_PLACES {
            self.leave_nameless(place);
            return;
        }
        let entries = self.look_up(place).unwrap_or_default();
        self.publish(place, entries);
    }

    fn leave_nameless(&mut self, place: Place) {
        if self.nameless.is_empty() {
            log::warn!(
                "more than {MAX_PLACES} namespaces and devices are in use: clients get no names of the others"
            );
        }
        if self.nameless.len() < MAX_NAMELESS {
            self.nameless.insert(place);
        }
    }

    fn recheck(&mut self) {
        if self.checked_at.elapsed() >= RECHECK {
            self.check();
        }
    }

    /// Looks every place up again, and forgets those that are gone or still have no name.
    fn check(&mut self) {
        self.checked_at = Instant::now();
        for (place, old) in std::mem::take(&mut self.known) {
            match self.look_up(place) {
                Some(new) if new == old => drop(self.known.insert(place, old)),
                Some(new) => self.publish(place, new),
                None => self.withdraw(place),
            }
        }
    }

    fn look_up(&mut self, place: Place) -> Option<Vec<Extension>> {
        let (netns, ifindex) = place;
        let found = self.places.get(netns, ifindex);
        let name = if ifindex.is_some() {
            &found.device
        } else {
            &found.netns
        };
        Some(names::entries(place, name.as_ref()?))
    }

    fn publish(&mut self, place: Place, entries: Vec<Extension>) {
        if let Some(map) = &self.map
            && let Err(e) = give(map, place, &entries)
        {
            log::debug!("the in-band programs have no name of {place:?}: {e:#}");
        }
        self.known.insert(place, entries);
    }

    fn withdraw(&self, place: Place) {
        if let Some(map) = &self.map {
            let _ = map.delete(map::bytes(&key(place)));
        }
    }
}

/// Gives the in-band programs a name.
fn give(map: &MapHandle, place: Place, entries: &[Extension]) -> Result<()> {
    let mut name = pt_name {
        count: entries.len() as u32,
        ..pt_name::default()
    };
    let entries = entries.iter().filter_map(Extension::to_entry);
    for (stamp, entry) in name.entry.iter_mut().zip(entries) {
        *stamp = map::value(entry.as_bytes());
    }
    map.update(map::bytes(&key(place)), map::bytes(&name), MapFlags::ANY)
        .context("update the map of names")
}

fn key((netns, ifindex): Place) -> pt_place {
    pt_place {
        netns: netns.0,
        ifindex: ifindex.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::layout::{V1_ENTRY, V1_HEADER};
    use crate::wire::number::{Sequence, SessionId};
    use crate::wire::packet;
    use crate::wire::protocol::{Family, Version};
    use netns::Namespace;
    use report::model::{Point, StampFlags};

    /// The names that fit behind the stamps of this namespace's loopback.
    fn sent(names: &mut Names, room: usize, version: Version) -> Vec<(Place, String)> {
        let own = Namespace::current().expect("a namespace").inode();
        let stamp = Entry {
            time: 1,
            netns: Netns(own),
            ifindex: Ifindex(1),
            host: 1,
            point: Point::RRxDevrcv,
            cpu: None,
            back: 0,
            flags: StampFlags::default(),
        };
        let size = V1_HEADER + room * V1_ENTRY;
        let (session, sequence) = (SessionId(1), Sequence(1));
        let mut packet = StampPacket::new(Family::V4, version, session, sequence, size);
        names.fill(&mut packet, &[stamp, stamp]);
        let message = packet.finish();
        let packet = packet::parse(&message, Family::V4).expect("a packet");
        let of_place = |(_, place, name)| (place, name);
        names::read(&packet).into_iter().map(of_place).collect()
    }

    #[test]
    fn places_without_room_are_counted_once() {
        let mut names = Names::new(None);
        for _ in 0..2 {
            for ifindex in 1..=MAX_PLACES as u32 + 3 {
                names.learn((Netns(1), Ifindex(ifindex)));
            }
        }
        assert_eq!(names.nameless(), 3);
    }

    #[test]
    fn names_are_whole_and_sent_once_a_packet() {
        let mut names = Names::new(None);
        let all = sent(&mut names, 40, Version::V1);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[1].1, "lo");
        for room in 0..20 {
            let some = sent(&mut names, room, Version::V1);
            assert!(
                some.iter().all(|name| all.contains(name)),
                "{room}: {some:?}"
            );
        }
        assert_eq!(sent(&mut names, 40, Version::V0), [], "no extensions there");
    }
}

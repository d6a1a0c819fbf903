//! The targets of a client. Each has a session and a range of the table's slots; the programs find both by the
//! low bits of the session. Targets come and go while the programs run.

use crate::kernel::host;
use crate::kernel::map::{Field, Mapping, field};
use crate::kernel::table::Table;
use crate::wire::number::SessionId;
use anyhow::{Context, Result};
use bpf::pingtrace::types::pt_target;
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

const SESSION: Field<pt_target, u32> = field!(pt_target, session);
const FIRST: Field<pt_target, u32> = field!(pt_target, first);
const MASK: Field<pt_target, u32> = field!(pt_target, mask);
const LOST_STAMPS: Field<pt_target, u64> = field!(pt_target, lost_stamps);

/// The targets that there is room for.
pub enum Targets {
    /// Those of the programs.
    Known(Known),
    /// Without programs, as many as memory has.
    Anonymous(Sessions),
}

/// Sessions with one ICMP id: the kernel gives a ping socket only replies with its own.
pub struct Sessions {
    id: u16,
    next: u16,
}

/// What the programs know.
pub struct Known {
    targets: Arc<Mapping<pt_target>>,
    table: Table,
    slots: Ranges,
    places: BTreeSet<u32>,
}

/// What a target has in the kernel.
pub struct TargetSlots {
    /// Its session.
    pub session: SessionId,
    /// Its slots.
    pub table: Table,
    /// Stamps for which they had no room.
    pub lost_stamps: LostStamps,
}

/// Counts the stamps of a target for which its slots had no room.
pub struct LostStamps(Option<(Arc<Mapping<pt_target>>, usize)>);

impl LostStamps {
    /// So far, until the target is removed.
    pub fn count(&self) -> u64 {
        let counter = self.0.as_ref();
        counter.map_or(0, |(targets, at)| targets.read(*at, LOST_STAMPS))
    }
}

impl Targets {
    /// Those of the programs' map, which has `count` places, a power of two, and share the slots of `table`.
    pub fn of_map(map: BorrowedFd<'_>, count: u32, table: Table) -> Result<Self> {
        assert!(count.is_power_of_two());
        let targets = Mapping::shared(map, count as usize);
        Ok(Self::Known(Known {
            targets: Arc::new(targets.context("cannot map the table of targets")?),
            slots: Ranges::new(table.slots()),
            table,
            places: (0..count).collect(),
        }))
    }

    /// Without programs; all sessions have this ICMP id.
    pub fn anonymous(id: u16) -> Result<Self> {
        let next = host::session()?.id(0);
        Ok(Self::Anonymous(Sessions { id, next }))
    }

    /// What a target with so many slots, a power of two, gets; `None` if there is no room.
    pub fn add(&mut self, slots: u32) -> Result<Option<TargetSlots>> {
        let known = match self {
            Self::Known(known) => known,
            Self::Anonymous(sessions) => {
                let table = Table::anonymous(slots)?;
                let session = sessions.next();
                return Ok(Some(TargetSlots {
                    session,
                    table,
                    // Three stamps a probe.
                    lost_stamps: LostStamps(None),
                }));
            }
        };
        let session = host::session()?;
        let (Some(place), Some(first)) = (known.places.first().copied(), known.slots.take(slots))
        else {
            return Ok(None);
        };
        known.places.remove(&place);
        let mask = known.targets.count() as u32 - 1;
        let session = SessionId(session.0 & !mask | place);
        let (targets, at) = (&known.targets, place as usize);
        targets.write(at, FIRST, first);
        targets.write(at, MASK, slots - 1);
        targets.write(at, LOST_STAMPS, 0);
        targets.write(at, SESSION, session.0);
        Ok(Some(TargetSlots {
            session,
            table: known.table.part(first, slots),
            lost_stamps: LostStamps(Some((Arc::clone(targets), at))),
        }))
    }

    /// The target is probed no more.
    pub fn remove(&mut self, session: SessionId, table: &Table) {
        let Self::Known(known) = self else { return };
        let place = session.0 & (known.targets.count() as u32 - 1);
        known.targets.write(place as usize, SESSION, 0);
        known.slots.give(table.first(), table.slots());
        known.places.insert(place);
    }
}

impl Sessions {
    /// Of 65 536 in a row no two are equal.
    fn next(&mut self) -> SessionId {
        self.next = self.next.wrapping_add(1);
        SessionId(u32::from(self.next) << 16 | u32::from(self.id))
    }
}

/// Free ranges, with size and beginning: powers of two, at multiples of their size (a buddy system: Knowlton,
/// CACM 8, 1965). What is free is enough for any sizes that fit together, as long as none was given back.
struct Ranges(BTreeSet<(u32, u32)>);

impl Ranges {
    /// `count` is a power of two.
    fn new(count: u32) -> Self {
        Self(BTreeSet::from([(count, 0)]))
    }

    /// The beginning of a range that was free; its size is a power of two.
    fn take(&mut self, size: u32) -> Option<u32> {
        let (mut left, first) = self.0.range((size, 0)..).next().copied()?;
        self.0.remove(&(left, first));
        while left > size {
            left /= 2;
            self.0.insert((left, first + left));
        }
        Some(first)
    }

    fn give(&mut self, mut first: u32, mut size: u32) {
        while self.0.remove(&(size, first ^ size)) {
            first &= !size;
            size *= 2;
        }
        self.0.insert((size, first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_apart_and_come_back_as_one() {
        let mut ranges = Ranges::new(64);
        let sizes = [1, 8, 16, 2, 32, 4, 1];
        let taken: Vec<u32> = sizes.iter().filter_map(|s| ranges.take(*s)).collect();
        assert_eq!(taken.len(), sizes.len(), "{taken:?}");
        let mut used: Vec<u32> = (sizes.iter().zip(&taken))
            .flat_map(|(size, first)| *first..first + size)
            .collect();
        used.sort_unstable();
        assert_eq!(used, (0..64).collect::<Vec<_>>());
        assert_eq!(ranges.take(1), None);
        for (size, first) in sizes.iter().zip(&taken) {
            assert_eq!(first % size, 0);
            ranges.give(*first, *size);
        }
        assert_eq!(ranges.0, BTreeSet::from([(64, 0)]));
    }

    #[test]
    fn without_programs_each_target_has_memory_of_its_own() {
        let mut targets = Targets::anonymous(7).unwrap();
        let [a, b] = [0, 1].map(|_| targets.add(8).unwrap().unwrap());
        assert_ne!(a.session, b.session);
        assert_eq!([a.session.id(0), b.session.id(0)], [7, 7]);
        assert_eq!((a.table.slots(), b.table.slots()), (8, 8));
        targets.remove(a.session, &a.table);
    }
}

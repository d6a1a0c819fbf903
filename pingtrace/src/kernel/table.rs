//! The table of slots, shared with the BPF programs through mapped memory: user space prepares a slot before
//! the probe leaves and reads it after the reply, without a system call. Without BPF the table lives in
//! anonymous memory, and only user space writes it.

use crate::kernel::map::{Field, Mapping, field};
use crate::wire::entry::{self, Entry};
use crate::wire::number::{Sequence, SessionId};
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_drop, pt_set, pt_stamp, pt_stamp_slot, pt_state};
use report::model::{Direction, Point};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Slots by sequence number; their number is a power of two.
pub struct Table {
    slots: Arc<Mapping<pt_stamp_slot>>,
    /// The first of its slots, and how many there are.
    first: u32,
    count: u32,
    /// Kernel programs write it.
    mapped: bool,
}

const SESSION: Field<pt_stamp_slot, u32> = field!(pt_stamp_slot, session);
const SEQUENCE: Field<pt_stamp_slot, u32> = field!(pt_stamp_slot, sequence);
const STATE: Field<pt_stamp_slot, u16> = field!(pt_stamp_slot, state);
const LIVE: u16 = pt_state::PT_REC_LIVE.0 as u16;
const OUT: u16 = pt_state::PT_REC_OUT.0 as u16;
const SENT_NS: Field<pt_stamp_slot, u64> = field!(pt_stamp_slot, sent_ns);
const DROP: Field<pt_stamp_slot, pt_drop> = field!(pt_stamp_slot, drop);
const USED: Field<pt_stamp_slot, [u16; 2]> = field!(pt_stamp_slot, used);

/// Slots of a server's set.
pub const WAYS: u32 = field!(pt_set, tag).elements() as u32;

/// The stamps of one direction.
const fn stamps(direction: Direction) -> Field<pt_stamp_slot, [pt_stamp; STAMPS]> {
    field!(pt_stamp_slot, stamp).element(direction as usize)
}
/// Room for stamps of one direction.
const STAMPS: usize = field!(pt_stamp_slot, stamp).element(0).elements();

impl Table {
    /// Maps the `slots` map of the tracing programs.
    pub fn of_map(map: BorrowedFd<'_>, slots: u32) -> Result<Self> {
        assert!(slots.is_power_of_two());
        let mapping = Mapping::shared(map, slots as usize);
        let mapping = mapping.context("cannot map the table of probe slots")?;
        Ok(Self {
            slots: Arc::new(mapping),
            first: 0,
            count: slots,
            mapped: true,
        })
    }

    /// A part of it.
    #[must_use]
    pub fn part(&self, first: u32, count: u32) -> Self {
        assert!(count.is_power_of_two() && first + count <= self.count);
        Self {
            slots: Arc::clone(&self.slots),
            first: self.first + first,
            count,
            mapped: self.mapped,
        }
    }

    /// A table that no program writes.
    pub fn anonymous(slots: u32) -> Result<Self> {
        assert!(slots.is_power_of_two());
        let mapping = Mapping::anonymous(slots as usize);
        let mapping = mapping.context("cannot allocate the table of probe slots")?;
        Ok(Self {
            slots: Arc::new(mapping),
            first: 0,
            count: slots,
            mapped: false,
        })
    }

    /// Whether kernel programs stamp the probes: then a slot must be prepared before its probe leaves. Else
    /// only the receiver uses the table.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Number of probes that can be in flight.
    pub fn slots(&self) -> u32 {
        self.count
    }

    /// The first of its slots, in the whole table.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Number of sets of a server's slots.
    pub fn sets(&self) -> u32 {
        self.slots().div_ceil(WAYS)
    }

    /// Where the slot of this sequence number is.
    fn place(&self, sequence: Sequence) -> usize {
        (self.first + (sequence.0 & (self.count - 1))) as usize
    }

    /// Prepares the slot of a probe that is about to be sent, at `sent_ns`.
    pub fn prepare(&self, session: SessionId, sequence: Sequence, sent_ns: u64) {
        let (slots, at) = (&self.slots, self.place(sequence));
        slots.write(at, STATE, 0);
        // First of all, so that a concurrent reader of the last probe's slot sees that it was reused.
        slots.write(at, SEQUENCE, sequence.0);
        fence(Ordering::Release);
        slots.write(at, SESSION, session.0);
        slots.write(at, USED, [0, 0]);
        slots.write(at, DROP.then(field!(pt_drop, ns)), 0);
        slots.write(at, SENT_NS, sent_ns);
        fence(Ordering::Release);
        slots.write(at, STATE, LIVE);
    }

    /// Whether the slot of this sequence number still is that probe's.
    fn is_of(&self, session: SessionId, sequence: Sequence) -> bool {
        let (slots, at) = (&self.slots, self.place(sequence));
        slots.read(at, SEQUENCE) == sequence.0
            && slots.read(at, SESSION) == session.0
            && slots.read(at, SENT_NS) != 0
    }

    /// Reads the slot of a probe; `None` if it was reused before or meanwhile, so that what was read may be
    /// another probe's.
    pub fn read<R>(
        &self,
        session: SessionId,
        sequence: Sequence,
        read: impl FnOnce(&Slot<'_>) -> R,
    ) -> Option<R> {
        if !self.is_of(session, sequence) {
            return None;
        }
        let result = read(&Slot {
            slots: &self.slots,
            at: self.place(sequence),
        });
        fence(Ordering::Acquire);
        self.is_of(session, sequence).then_some(result)
    }

    /// Adds a stamp to a probe's slot, if it still is that probe's, as the kernel programs do. For stamps
    /// from the socket, in an anonymous table.
    pub fn push(
        &self,
        session: SessionId,
        sequence: Sequence,
        direction: Direction,
        point: Point,
        ns: u64,
    ) {
        if self.mapped || !self.is_of(session, sequence) {
            return;
        }
        let (used, at) = (USED.element(direction as usize), self.place(sequence));
        let n = self.slots.read(at, used);
        if usize::from(n) < STAMPS {
            let place = stamps(direction).element(usize::from(n));
            self.slots.write(at, place, entry::to_stamp(point, ns));
            self.slots.write(at, used, n + 1);
        }
    }

    /// Number of a server's slots whose reply has not left.
    pub fn waiting(&self) -> u32 {
        let states = (0..self.slots.count()).map(|at| self.slots.read(at, STATE));
        let waits = |state: &u16| state & (LIVE | OUT) == LIVE;
        states.filter(waits).count() as u32
    }

    /// A copy of a slot.
    pub fn copy(&self, slot: u32) -> pt_stamp_slot {
        self.slots.get(self.place(Sequence(slot)))
    }
}

/// The slot of a probe, which may be reused at any time: see [`Table::read`].
pub struct Slot<'a> {
    slots: &'a Mapping<pt_stamp_slot>,
    at: usize,
}

impl Slot<'_> {
    /// The last drop of a packet of the probe by this host's kernel, if it is known.
    pub fn dropped(&self) -> Option<pt_drop> {
        let drop = self.slots.read(self.at, DROP);
        (drop.ns != 0).then_some(drop)
    }

    /// Gives the stamps of one direction to `each`, an unknown point as `None`.
    pub fn stamps(&self, direction: Direction, mut each: impl FnMut(Option<Entry>)) {
        let used = usize::from(self.slots.read(self.at, USED.element(direction as usize)));
        for i in 0..used.min(STAMPS) {
            let stamp = self.slots.read(self.at, stamps(direction).element(i));
            each(Entry::from_stamp(&stamp));
        }
    }
}

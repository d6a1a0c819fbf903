//! The table of slots, shared with the BPF programs through mapped memory: user space prepares a slot before
//! the probe leaves and reads it after the reply, without a system call. Without BPF the table lives in
//! anonymous memory, and only user space writes it.

#![expect(
    unsafe_code,
    reason = "memory shared with the kernel is read through raw pointers"
)]

use crate::wire::packet::{self, Entry};
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_drop, pt_stamp_slot, pt_state};
use report::model::Point;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

/// Direction index of [`Slot::stamps`]: request, then reply.
pub const REQUEST: usize = 0;
/// See [`REQUEST`].
pub const REPLY: usize = 1;

/// Slots by sequence number; their number is a power of two.
pub struct Table {
    base: *mut pt_stamp_slot,
    mask: u32,
    /// Kernel programs write it.
    mapped: bool,
}

// SAFETY: every access below is volatile and of a plain value, and a record that the sender reuses
// while the receiver reads it is given to nobody (`Table::read`).
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// Maps the `records` map of the tracing programs.
    pub fn of_map(map: BorrowedFd<'_>, slots: u32) -> Result<Self> {
        let flags = MapFlags::SHARED;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes(slots),
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                map,
                0,
            )
        }
        .context("cannot map the table of probe records")?;
        Ok(Self {
            base: base.cast(),
            mask: slots - 1,
            mapped: true,
        })
    }

    /// A table that no program writes.
    pub fn anonymous(slots: u32) -> Result<Self> {
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes(slots),
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }
        .context("cannot allocate the table of probe records")?;
        Ok(Self {
            base: base.cast(),
            mask: slots - 1,
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
        self.mask + 1
    }

    fn at(&self, slot: u32) -> *mut pt_stamp_slot {
        // SAFETY: the mapping holds mask + 1 records.
        unsafe { self.base.add((slot & self.mask) as usize) }
    }

    /// Prepares the slot of a probe that is about to be sent, at `sent_ns`.
    pub fn prepare(&self, session: u32, sequence: u32, sent_ns: u64) {
        let rec = self.at(sequence);
        // SAFETY: `rec` points into the mapping; fields are plain integers.
        unsafe {
            (&raw mut (*rec).state).write_volatile(0);
            // First of all, so that a concurrent reader of the last probe's slot sees that it was reused.
            (&raw mut (*rec).sequence).write_volatile(sequence);
            fence(Ordering::Release);
            (&raw mut (*rec).session).write_volatile(session);
            (&raw mut (*rec).used).write_volatile([0, 0]);
            (&raw mut (*rec).drop.ns).write_volatile(0);
            (&raw mut (*rec).sent_ns).write_volatile(sent_ns);
            fence(Ordering::Release);
            (&raw mut (*rec).state).write_volatile(pt_state::PT_REC_LIVE.0);
        }
    }

    /// Whether the slot of this sequence number still is that probe's.
    fn is_of(&self, session: u32, sequence: u32) -> bool {
        let rec = self.at(sequence);
        // SAFETY: `rec` points into the mapping; fields are plain integers.
        unsafe {
            (&raw const (*rec).sequence).read_volatile() == sequence
                && (&raw const (*rec).session).read_volatile() == session
                && (&raw const (*rec).sent_ns).read_volatile() != 0
        }
    }

    /// Reads the slot of a probe; `None` if it was reused before or meanwhile, so that what was read may be
    /// another probe's.
    pub fn read<R>(
        &self,
        session: u32,
        sequence: u32,
        read: impl FnOnce(&Slot<'_>) -> R,
    ) -> Option<R> {
        if !self.is_of(session, sequence) {
            return None;
        }
        let slot = Slot {
            rec: self.at(sequence),
            table: std::marker::PhantomData,
        };
        let result = read(&slot);
        fence(Ordering::Acquire);
        self.is_of(session, sequence).then_some(result)
    }

    /// Adds a stamp to a probe's slot, if it still is that probe's, as the kernel programs do. For stamps
    /// from the socket, in an anonymous table.
    pub fn push(&self, session: u32, sequence: u32, direction: usize, point: Point, ns: u64) {
        if self.mapped || !self.is_of(session, sequence) {
            return;
        }
        let rec = self.at(sequence);
        // SAFETY: `rec` points into the mapping; the index is checked against the array's length.
        unsafe {
            let used = &raw mut (*rec).used[direction];
            let (n, stamps) = (
                usize::from(used.read_volatile()),
                &raw mut (*rec).stamp[direction],
            );
            if n < (*stamps).len() {
                (&raw mut (*stamps)[n]).write_volatile(packet::to_record(point, ns));
                used.write_volatile(n as u16 + 1);
            }
        }
    }

    /// Number of a server's slots whose reply has not left.
    pub fn waiting(&self) -> u32 {
        let states = (0..self.slots()).map(|slot| {
            // SAFETY: the pointer is into the mapping; the field is a plain integer.
            unsafe { (&raw const (*self.at(slot)).state).read_volatile() }
        });
        let waits = |state: &u32| {
            state & (pt_state::PT_REC_LIVE.0 | pt_state::PT_REC_OUT.0) == pt_state::PT_REC_LIVE.0
        };
        states.filter(waits).count() as u32
    }

    /// A copy of a slot.
    pub fn copy(&self, slot: u32) -> pt_stamp_slot {
        // SAFETY: the pointer is into the mapping, and any bytes are a valid record.
        unsafe { self.at(slot).read_volatile() }
    }
}

/// The slot of a probe, which may be reused at any time: see [`Table::read`].
pub struct Slot<'a> {
    rec: *const pt_stamp_slot,
    table: std::marker::PhantomData<&'a Table>,
}

impl Slot<'_> {
    /// The last drop of a packet of the probe by this host's kernel, if it is known.
    pub fn dropped(&self) -> Option<pt_drop> {
        // SAFETY: the pointer is into the table's mapping; fields are plain integers.
        let drop = unsafe { (&raw const (*self.rec).drop).read_volatile() };
        (drop.ns != 0).then_some(drop)
    }

    /// Gives the stamps of one direction to `each`, an unknown point as `None`.
    pub fn stamps(&self, direction: usize, mut each: impl FnMut(Option<Entry>)) {
        let rec = self.rec;
        // SAFETY: the pointer is into the table's mapping; `used` is cut to the array's length.
        unsafe {
            let used = usize::from((&raw const (*rec).used[direction]).read_volatile());
            let stamps = &raw const (*rec).stamp[direction];
            for i in 0..used.min((*stamps).len()) {
                each(packet::from_record(
                    &(&raw const (*stamps)[i]).read_volatile(),
                ));
            }
        }
    }
}

fn bytes(slots: u32) -> usize {
    assert!(slots.is_power_of_two());
    (slots as usize * size_of::<pt_stamp_slot>()).next_multiple_of(rustix::param::page_size())
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `of_map` or `anonymous`, and nothing borrows from it.
        let _ = unsafe { munmap(self.base.cast(), bytes(self.slots())) };
    }
}

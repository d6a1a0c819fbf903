//! Stamps in a packet, and in a slot of the kernel's table, which has their layout.

use super::layout::{EntryV0, EntryV1};
use bpf::pingtrace::types::{pt_stamp, pt_stamp_flag, pt_wire};
use report::model::{Ifindex, Netns, Point, StampFlags};

/// `back` of a provisional stamp, which the exact one in a later packet replaces.
pub const PROVISIONAL: i16 = (pt_wire::PT_AUX_PROVISIONAL.0 as u16).cast_signed();

/// Bit of `host`: a host on the way, by a number of its own; without one it is the client's kernel.
pub const TRANSIT: u16 = pt_wire::PT_HOST_TRANSIT.0 as u16;

/// The highest point number of version 0, and the highest that a peer of it knows outside its
/// namespace mode.
const V0_LAST_POINT: u16 = Point::MRxDevreply as u16;
const V0_LAST_SENT: u16 = Point::LRxSoftirq as u16;

/// A stamp in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `CLOCK_MONOTONIC` of the stamping host: nanoseconds, or of version 0 microseconds in 32 bits.
    pub time: u64,
    /// Inode of the network namespace.
    pub netns: Netns,
    /// Device.
    pub ifindex: Ifindex,
    /// Which host: 0 the client's, also for a server on the client's kernel; 1 the server, 2.. others.
    pub host: u16,
    /// Where.
    pub point: Point,
    /// CPU; version 0 does not say.
    pub cpu: Option<u16>,
    /// How many sequence numbers back the stamp's probe is; negative: it is a younger one's.
    pub back: i16,
    /// What its host knows besides; version 0 does not say.
    pub flags: StampFlags,
}

/// The flags above the number of the CPU.
const FLAGS: [pt_stamp_flag; 3] = [
    pt_stamp_flag::PT_STAMP_DIRECT,
    pt_stamp_flag::PT_STAMP_INTERRUPTS,
    pt_stamp_flag::PT_STAMP_UNDERLAY,
];

/// The number of the CPU, and the flags above it.
fn split_cpu(word: u16) -> (u16, StampFlags) {
    let [direct, interrupts_unknown, underlay_unseen] = FLAGS.map(|flag| word & flag.0 as u16 != 0);
    let flags = StampFlags {
        direct,
        interrupts_unknown,
        underlay_unseen,
    };
    (word & pt_stamp_flag::PT_STAMP_CPU.0 as u16, flags)
}

fn join_cpu(cpu: u16, flags: StampFlags) -> u16 {
    let set = [
        flags.direct,
        flags.interrupts_unknown,
        flags.underlay_unseen,
    ];
    let set = FLAGS.into_iter().zip(set).filter(|(_, set)| *set);
    set.fold(
        cpu & pt_stamp_flag::PT_STAMP_CPU.0 as u16,
        |word, (flag, _)| word | flag.0 as u16,
    )
}

impl Entry {
    /// `None` for an unknown point.
    pub(super) fn from_v1(e: &EntryV1) -> Option<Self> {
        let (cpu, flags) = split_cpu(e.cpu.get());
        Some(Self {
            time: e.time_ns.get(),
            netns: Netns(e.netns.get()),
            ifindex: Ifindex(e.ifindex.get()),
            host: e.host.get(),
            point: Point::from_wire(e.point.get())?,
            cpu: Some(cpu),
            back: e.aux.get().cast_signed(),
            flags,
        })
    }

    /// `None` for an unknown point.
    pub(super) fn from_v0(e: &EntryV0) -> Option<Self> {
        Some(Self {
            time: u64::from(e.time_us.get()),
            netns: Netns(e.netns.get()),
            ifindex: Ifindex(e.ifindex.get()),
            host: 1,
            point: Point::from_wire(e.point.get()).filter(|p| *p as u16 <= V0_LAST_POINT)?,
            cpu: None,
            back: 0,
            flags: StampFlags::default(),
        })
    }

    pub(super) fn to_v1(self) -> EntryV1 {
        EntryV1 {
            time_ns: self.time.into(),
            netns: self.netns.0.into(),
            ifindex: self.ifindex.0.into(),
            host: self.host.into(),
            point: (self.point as u16).into(),
            cpu: join_cpu(self.cpu.unwrap_or(0), self.flags).into(),
            aux: self.back.cast_unsigned().into(),
        }
    }

    /// `None` for a point that version 0 does not have.
    pub(super) fn to_v0(self) -> Option<EntryV0> {
        (self.point as u16 <= V0_LAST_SENT).then(|| EntryV0 {
            netns: self.netns.0.into(),
            ifindex: self.ifindex.0.into(),
            user: 0.into(),
            point: (self.point as u16).into(),
            time_us: ((self.time / 1_000) as u32).into(),
        })
    }

    /// A stamp of a slot; `None` for an unknown point.
    pub fn from_stamp(s: &pt_stamp) -> Option<Self> {
        let (cpu, flags) = split_cpu(u16::from_be(s.cpu));
        Some(Self {
            time: u64::from_be(s.time_ns),
            netns: Netns(u32::from_be(s.netns)),
            ifindex: Ifindex(u32::from_be(s.ifindex)),
            host: u16::from_be(s.host),
            point: Point::from_wire(u16::from_be(s.point))?,
            cpu: Some(cpu),
            back: 0,
            flags,
        })
    }
}

/// A stamp of this host for a slot.
pub fn to_stamp(point: Point, ns: u64) -> pt_stamp {
    pt_stamp {
        time_ns: ns.to_be(),
        point: (point as u16).to_be(),
        ..pt_stamp::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_travel_above_the_number_of_the_cpu() {
        for (bits, cpu) in (0..8).zip([0, 1, 7, 255, 1_023, 4_096, 8_190, 8_191]) {
            let entry = Entry {
                time: 1,
                netns: Netns(2),
                ifindex: Ifindex(3),
                host: 1,
                point: Point::RRxDevrcv,
                cpu: Some(cpu),
                back: -4,
                flags: StampFlags {
                    direct: bits & 1 != 0,
                    interrupts_unknown: bits & 2 != 0,
                    underlay_unseen: bits & 4 != 0,
                },
            };
            assert_eq!(Entry::from_v1(&entry.to_v1()), Some(entry));
        }
    }
}

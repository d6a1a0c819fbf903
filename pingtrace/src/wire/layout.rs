//! The bytes on the wire, as types (docs/wire.md). The compiler compares each field with the types of the kernel
//! programs. All integers are big-endian; nothing is aligned or padded.

use super::number::{Sequence, SessionId};
use super::protocol::Version;
use bpf::pingtrace::types::{pt_header, pt_stamp, pt_wire};
use std::mem::{offset_of, size_of};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// "pingtrace" on the wire.
pub const MAGIC: u16 = pt_wire::PT_MAGIC.0 as u16;
/// Bytes before the first entry of version 1, ICMP header included.
pub const V1_HEADER: usize = size_of::<HeaderV1>();
/// Bytes before the first entry of version 0, ICMP header included.
pub const V0_HEADER: usize = size_of::<Header>();
/// Bytes of a version 1 entry.
pub const V1_ENTRY: usize = size_of::<EntryV1>();
/// Bytes of a version 0 entry.
pub const V0_ENTRY: usize = size_of::<EntryV0>();
/// Entries that a version 0 client reserves for itself.
pub const V0_RESERVED: u8 = 8;
/// Upper bound on the entries of a packet: `num` has eight bits.
pub const MAX_ENTRIES: usize = u8::MAX as usize;
/// Where the flow begins in the flags.
const FLOW_SHIFT: u32 = pt_wire::PT_FLOW_SHIFT.0;
/// Bytes of text in one entry.
pub const TEXT: usize = 16;
/// Probes that one question asks about.
pub const WINDOW: u32 = 32;
/// Unit of the time for which a server has run, ns.
pub const RUNNING_NS: u64 = pt_wire::PT_RUNNING_NS.0 as u64;

/// What both versions begin with, from the ICMP type on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// RFC 792, of the whole message; of `ICMPv6` with its pseudo header.
    pub checksum: U16,
    /// Low 16 bits of the session id, plus the flow: what networks hash.
    pub id: U16,
    /// Low 16 bits of the sequence number.
    pub sequence16: U16,
    /// Protocol version.
    pub version: u8,
    /// Entries in use.
    pub num: u8,
    /// `PT_FLAG_..`; in the upper byte the flow.
    pub flags: U16,
    /// [`MAGIC`].
    pub magic: U16,
    /// Entries that the sender has room for; 0 in version 0.
    pub capacity: U16,
    /// Session id.
    pub session: U32,
    /// Sequence number.
    pub sequence: U32,
}

/// The whole header of version 1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HeaderV1 {
    /// The part that both versions have.
    pub common: Header,
    /// 0: a packet says nothing of the host that it is from.
    pub reserved: U64,
    /// In a reply what the server gives to the client, in a request the last one that the client was given; 0:
    /// none. It means nothing to a client.
    pub cookie: U64,
    /// Not used yet: 0.
    pub tag: U64,
}

/// A stamp of version 1, or an extension, whose kind is in the place of `point`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryV1 {
    /// `CLOCK_MONOTONIC` of the stamping host, ns.
    pub time_ns: U64,
    /// Inode of the network namespace.
    pub netns: U32,
    /// Device.
    pub ifindex: U32,
    /// Index of the stamping host.
    pub host: U16,
    /// Point, or kind of extension.
    pub point: U16,
    /// CPU; of an extension what its kind says.
    pub cpu: U16,
    /// How many sequence numbers back its probe is; signed in a stamp.
    pub aux: U16,
}

/// A server's answer: the states of [`WINDOW`] probes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct WindowEntry {
    /// A status of four bits a probe, low bits first.
    pub statuses: [u8; WINDOW as usize / 2],
    /// The host that answered.
    pub host: U16,
    /// The kind of extension.
    pub kind: U16,
    /// How long the server has run, in units of [`RUNNING_NS`].
    pub running: U16,
    /// How many sequence numbers back the first probe is.
    pub back: U16,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TextEntry {
    /// ASCII, padded with zeros.
    pub text: [u8; TEXT],
    /// The host that it is from.
    pub host: U16,
    /// The kind of extension.
    pub kind: U16,
    /// What it names.
    pub about: U16,
    /// How many sequence numbers back its probe is.
    pub back: U16,
}

/// A stamp of version 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryV0 {
    /// Inode of the network namespace.
    pub netns: U32,
    /// Device.
    pub ifindex: U32,
    /// `--userid` of the stamping host.
    pub user: U16,
    /// Point.
    pub point: U16,
    /// `CLOCK_MONOTONIC` of the stamping host, microseconds, its low 32 bits.
    pub time_us: U32,
}

impl HeaderV1 {
    /// The begin of every packet of a session, of which version 0 has the part in [`Header`]; `size` is that of
    /// the packet, at least of its header, and leaves the room for entries.
    pub fn new(version: Version, session: SessionId, size: usize) -> Self {
        let mut header = Self::new_zeroed();
        let common = &mut header.common;
        common.magic = MAGIC.into();
        common.session = session.0.into();
        common.set_flow(0);
        match version {
            Version::V0 => {
                common.code = 1;
                common.num = V0_RESERVED;
            }
            Version::V1 => {
                common.version = 1;
                common.capacity = (((size - V1_HEADER) / V1_ENTRY).min(MAX_ENTRIES) as u16).into();
            }
        }
        header
    }
}

impl Header {
    /// Session id and sequence number.
    pub fn probe(&self) -> (SessionId, Sequence) {
        (SessionId(self.session.get()), Sequence(self.sequence.get()))
    }

    /// Whether the ICMP sequence is that of the 32-bit field.
    pub fn is_consistent(&self) -> bool {
        let (_, sequence) = self.probe();
        self.sequence16 == sequence.low()
    }

    /// Whether the ICMP id is that of session and flow: an address translation rewrites it, and back. Peers of
    /// version 0 know no flow, and may have set its bits.
    pub fn has_own_id(&self) -> bool {
        let (session, _) = self.probe();
        let flow = (self.flags.get() >> FLOW_SHIFT) as u8;
        self.id == session.id(flow) || self.version == 0 && self.id == session.id(0)
    }

    /// Sets the flow, and so the ICMP id.
    pub fn set_flow(&mut self, flow: u8) {
        let (session, _) = self.probe();
        let flags = self.flags.get() & ((1 << FLOW_SHIFT) - 1);
        self.flags = (flags | u16::from(flow) << FLOW_SHIFT).into();
        self.id = session.id(flow).into();
    }

    /// Sets both sequence numbers.
    pub fn set_sequence(&mut self, sequence: Sequence) {
        self.sequence16 = sequence.low().into();
        self.sequence = sequence.0.into();
    }
}

/// Writes the checksum of a packet.
pub fn set_checksum(packet: &mut [u8], sum: u16) {
    if let Ok((header, _)) = Header::mut_from_prefix(packet) {
        header.checksum = sum.into();
    }
}

/// Each field of one type has the offset of the one beside it in the other type.
macro_rules! same_offsets {
    ($one:ident, $other:ident: $($field:ident $as:ident),+) => {
        const _: () = {
            $(assert!(offset_of!($one, $field) == offset_of!($other, $as));)+
        };
    };
}

same_offsets!(Header, pt_header:
    kind r#type, code code, checksum checksum, id id, sequence16 sequence16, version version,
    num num, flags flags, magic magic, capacity capacity, session session, sequence sequence);
same_offsets!(HeaderV1, pt_header: common r#type, reserved reserved, cookie cookie);
same_offsets!(EntryV1, pt_stamp:
    time_ns time_ns, netns netns, ifindex ifindex, host host, point point, cpu cpu, aux aux);
same_offsets!(WindowEntry, pt_stamp: statuses time_ns, host host, kind point, running cpu, back aux);
same_offsets!(TextEntry, pt_stamp: text time_ns, host host, kind point, about cpu, back aux);

const _: () = {
    assert!(size_of::<Header>() == offset_of!(pt_header, reserved));
    assert!(offset_of!(HeaderV1, tag) == size_of::<pt_header>());
    assert!(size_of::<HeaderV1>() == pt_wire::PT_V1_HEADER.0 as usize);
    assert!(size_of::<EntryV1>() == size_of::<pt_stamp>());
    assert!(size_of::<WindowEntry>() == size_of::<pt_stamp>());
    assert!(size_of::<TextEntry>() == size_of::<pt_stamp>());
    // No kernel program knows the entries of version 0.
    assert!(size_of::<EntryV0>() == 16);
};

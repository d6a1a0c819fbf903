//! Packets, and stamp packets that are made of the input.
//!
//! Each input is used three times: as it stands; as a packet whose type, version, magic and id are put
//! right, so that most inputs get past the first tests; and as a list of stamps that must come out of a
//! stamp packet as they went in.

use crate::wire::entry::Entry;
use crate::wire::extension::Extension;
use crate::wire::layout::{MAGIC, V0_ENTRY, V0_HEADER, V0_RESERVED, V1_ENTRY, V1_HEADER};
use crate::wire::number::{Sequence, SessionId};
use crate::wire::packet::{self, Packet};
use crate::wire::protocol::{DONTADD, Family, INBAND, RECORD, Version};
use crate::wire::stamp_packet::StampPacket;
use report::model::{Ifindex, Netns, Point, StampFlags};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Point numbers above it are of version 1 only.
const V0_LAST_POINT: u16 = Point::MRxDevreply as u16;
/// Bytes of input for one stamp.
const STAMP: usize = 24;

/// Runs one input through everything.
pub fn check(data: &[u8], version: Version) {
    for family in FAMILIES {
        parse(data, family);
        let made_right = probe_like(data, family, version);
        if let Some(packet) = parse(&made_right, family) {
            assert_eq!(packet.version, version);
        }
        round_trip(data, family, version);
    }
}

/// The input with the fields set that the parser looks at first; a reply unless its first bit
/// says otherwise.
fn probe_like(data: &[u8], family: Family, version: Version) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() < V0_HEADER {
        return bytes;
    }
    bytes[0] = match bytes[0] & 1 {
        0 => family.reply(),
        _ => family.request(),
    };
    bytes[8] = u8::from(version == Version::V1);
    bytes[12..14].copy_from_slice(&MAGIC.to_be_bytes());
    bytes.copy_within(18..20, 4);
    bytes.copy_within(22..24, 6);
    bytes
}

/// Parses, and checks what came out against the bytes that went in.
fn parse(bytes: &[u8], family: Family) -> Option<Packet<'_>> {
    let packet = packet::parse(bytes, family).ok()?;
    assert_eq!(packet.flags & !(DONTADD | INBAND | RECORD), 0);
    assert_eq!(packet.is_stamp_packet(), packet.flags & DONTADD != 0);
    let (header, size, skipped) = layout(packet.version);
    let num = usize::from(bytes[9]);
    let count = num.saturating_sub(skipped);
    assert!(count == 0 || header + num * size <= bytes.len());
    let raw = (0..count).map(|i| &bytes[header + (skipped + i) * size..][..size]);
    let (extensions, stamps): (Vec<_>, Vec<_>) =
        raw.partition(|raw| is_extension(raw, packet.version));
    assert_eq!(packet.entries().count(), stamps.len());
    assert!(packet.extensions().count() <= extensions.len());
    packet
        .extensions()
        .for_each(|extension| printable(&extension));
    for (raw, entry) in stamps.into_iter().zip(packet.entries()) {
        assert_eq!(entry.is_some(), known_point(raw, packet.version));
        if let Some(entry) = entry {
            bounded(&entry, packet.version);
        }
    }
    Some(packet)
}

/// Bytes before the first entry, bytes of one, and how many are the sender's own.
fn layout(version: Version) -> (usize, usize, usize) {
    match version {
        Version::V0 => (V0_HEADER, V0_ENTRY, usize::from(V0_RESERVED)),
        Version::V1 => (V1_HEADER, V1_ENTRY, 0),
    }
}

fn is_extension(raw: &[u8], version: Version) -> bool {
    version == Version::V1 && matches!(u16::from_be_bytes([raw[18], raw[19]]), 256..=259)
}

fn printable(extension: &Extension) {
    if let Extension::Text { text, .. } = extension {
        let is_printable = |b: u8| b.is_ascii_graphic() || b == b' ';
        assert!(text.len() <= 16 && text.bytes().all(is_printable));
    }
}

fn known_point(raw: &[u8], version: Version) -> bool {
    let at = match version {
        Version::V0 => 10,
        Version::V1 => 18,
    };
    let number = u16::from_be_bytes([raw[at], raw[at + 1]]);
    Point::from_wire(number).is_some() && (version == Version::V1 || number <= V0_LAST_POINT)
}

fn bounded(entry: &Entry, version: Version) {
    assert_eq!(Point::from_wire(entry.point as u16), Some(entry.point));
    if version == Version::V0 {
        assert!(u32::try_from(entry.time).is_ok());
        assert!(entry.point as u16 <= V0_LAST_POINT);
        assert_eq!((entry.host, entry.cpu, entry.back), (1, None, 0));
    }
}

/// What is pushed into a stamp packet is what a receiver finds in it.
fn round_trip(data: &[u8], family: Family, version: Version) {
    let Some((head, stamps)) = data.split_at_checked(10) else {
        return;
    };
    let (session, sequence) = (SessionId(be32(&head[..4])), Sequence(be32(&head[4..8])));
    let size = usize::from(u16::from_be_bytes([head[8], head[9]]) % 9_000);
    let mut record = StampPacket::new(family, version, session, sequence, size);
    let mut expected = Vec::new();
    for entry in stamps.chunks_exact(STAMP).filter_map(stamp) {
        let room = record.room();
        if record.push(&entry) {
            assert_eq!(record.room(), room - 1);
            expected.push(as_received(entry, version));
        } else {
            assert_eq!(record.room(), room);
        }
    }
    let bytes = record.finish();
    let (header, entry_size, skipped) = layout(version);
    assert!(bytes.len() <= size.max(header + skipped * entry_size));
    let packet = parse(&bytes, family).expect("a stamp packet is well-formed");
    assert!(packet.checksum_ok && packet.is_stamp_packet() && !packet.request);
    assert_eq!(
        (packet.version, packet.session, packet.sequence),
        (version, session, sequence)
    );
    let received: Option<Vec<_>> = packet.entries().collect();
    assert_eq!(received, Some(expected));
}

/// A stamp from the input; `None` for a number that is no point.
fn stamp(raw: &[u8]) -> Option<Entry> {
    let be16 = |at: usize| u16::from_be_bytes([raw[at], raw[at + 1]]);
    Some(Entry {
        time: u64::from(be32(&raw[..4])) << 32 | u64::from(be32(&raw[4..8])),
        netns: Netns(be32(&raw[8..12])),
        ifindex: Ifindex(be32(&raw[12..16])),
        host: be16(16),
        point: Point::from_wire(be16(18) % 32)?,
        cpu: (raw[20] & 0x10 == 0).then(|| be16(20) & 0xfff),
        back: be16(22).cast_signed(),
        flags: StampFlags {
            direct: raw[20] & 0x80 != 0,
            interrupts_unknown: raw[20] & 0x40 != 0,
            underlay_unseen: raw[20] & 0x20 != 0,
        },
    })
}

/// What the format does not carry comes back as its default.
fn as_received(entry: Entry, version: Version) -> Entry {
    match version {
        Version::V0 => Entry {
            time: u64::from((entry.time / 1_000) as u32),
            host: 1,
            cpu: None,
            back: 0,
            flags: StampFlags::default(),
            ..entry
        },
        Version::V1 => Entry {
            cpu: Some(entry.cpu.unwrap_or(0)),
            ..entry
        },
    }
}

fn be32(b: &[u8]) -> u32 {
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}

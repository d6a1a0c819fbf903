//! Parses packets of both protocol versions. Nothing here trusts a length, a count or an index
//! from the network.

use super::entry::Entry;
use super::extension::Extension;
use super::layout::{EntryV0, EntryV1, Header, HeaderV1, MAGIC, V0_HEADER, V0_RESERVED};
use super::number::{Sequence, SessionId};
use super::protocol::{DONTADD, Family, INBAND, RECORD, Version};
use pnet_packet::util::checksum;
use zerocopy::FromBytes;

/// Why a packet is not a probe of pingtrace, or not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Too short for its header.
    Truncated,
    /// Not an echo reply or request.
    NotEcho,
    /// Another program's echo.
    Magic,
    /// An unknown version.
    Version,
    /// ICMP id or sequence contradict the 32-bit fields and the flow.
    Inconsistent,
    /// More entries are announced than arrived.
    Count,
}

/// A parsed probe, reply or stamp packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// An echo request, else a reply.
    pub request: bool,
    /// Protocol version.
    pub version: Version,
    /// Flags, unknown ones cleared.
    pub flags: u16,
    /// Session id.
    pub session: SessionId,
    /// Sequence number.
    pub sequence: Sequence,
    /// The cookie of a version 1 packet; 0: none.
    pub cookie: u64,
    /// Whether the ICMP checksum is right (always for `ICMPv6`, which the kernel checks).
    pub checksum_ok: bool,
    entries: Entries<'a>,
}

/// The entries in use: those of the packet's version.
#[derive(Clone, Copy, Debug, Default)]
struct Entries<'a> {
    v0: &'a [EntryV0],
    v1: &'a [EntryV1],
}

/// Parses an ICMP message.
pub fn parse(icmp: &[u8], family: Family) -> Result<Packet<'_>, Malformed> {
    let (header, _) = Header::ref_from_prefix(icmp).map_err(|_| Malformed::Truncated)?;
    let request = header.kind == family.request();
    if !request && header.kind != family.reply() {
        return Err(Malformed::NotEcho);
    }
    if header.magic != MAGIC {
        return Err(Malformed::Magic);
    }
    let version = match header.version {
        0 => Version::V0,
        1 => Version::V1,
        _ => return Err(Malformed::Version),
    };
    if !header.is_consistent() || !header.has_own_id() {
        return Err(Malformed::Inconsistent);
    }
    let (session, sequence) = header.probe();
    Ok(Packet {
        request,
        version,
        flags: header.flags.get() & (DONTADD | INBAND | RECORD),
        session,
        sequence,
        cookie: cookie(icmp, version),
        checksum_ok: family == Family::V6 || header.checksum == checksum(icmp, 1),
        entries: Entries::parse(icmp, version)?,
    })
}

fn cookie(icmp: &[u8], version: Version) -> u64 {
    match HeaderV1::ref_from_prefix(icmp) {
        Ok((header, _)) if version == Version::V1 => header.cookie.get(),
        _ => 0,
    }
}

/// Finds the probe in a packet with unparsed headers; whether it is of one of this process's sessions is
/// still to be seen.
pub fn find_probe(packet: &[u8]) -> Option<(SessionId, Sequence)> {
    let mut headers = packet
        .windows(V0_HEADER)
        .filter_map(|bytes| Header::ref_from_bytes(bytes).ok());
    let is_probe = |h: &&Header| h.magic == MAGIC && h.is_consistent();
    Some(headers.find(is_probe)?.probe())
}

/// The session that an ICMP message says it is of, if it may be a probe of pingtrace or its reply.
pub fn session(icmp: &[u8]) -> Option<SessionId> {
    let (header, _) = Header::ref_from_prefix(icmp).ok()?;
    (header.magic == MAGIC).then(|| header.probe().0)
}

impl<'a> Entries<'a> {
    /// The entries in use, checked against what arrived.
    fn parse(icmp: &'a [u8], version: Version) -> Result<Self, Malformed> {
        match version {
            Version::V0 => {
                let (header, rest) =
                    Header::ref_from_prefix(icmp).map_err(|_| Malformed::Truncated)?;
                if header.num <= V0_RESERVED {
                    return Ok(Self::default());
                }
                let (all, _) =
                    <[EntryV0]>::ref_from_prefix_with_elems(rest, usize::from(header.num))
                        .map_err(|_| Malformed::Count)?;
                Ok(Self {
                    v0: &all[usize::from(V0_RESERVED)..],
                    v1: &[],
                })
            }
            Version::V1 => {
                let (header, rest) =
                    HeaderV1::ref_from_prefix(icmp).map_err(|_| Malformed::Truncated)?;
                let (num, capacity) = (header.common.num, header.common.capacity.get());
                if u16::from(num) > capacity {
                    return Err(Malformed::Count);
                }
                let (v1, _) = <[EntryV1]>::ref_from_prefix_with_elems(rest, usize::from(num))
                    .map_err(|_| Malformed::Count)?;
                Ok(Self { v0: &[], v1 })
            }
        }
    }
}

impl Packet<'_> {
    /// A packet of stamps alone.
    pub fn is_stamp_packet(&self) -> bool {
        self.flags & DONTADD != 0
    }

    /// The stamps in it; an unknown point is `None`.
    pub fn entries(&self) -> impl Iterator<Item = Option<Entry>> + '_ {
        let v1 = self.entries.v1.iter().filter(|e| !Extension::is(e));
        let v0 = self.entries.v0.iter().map(Entry::from_v0);
        v0.chain(v1.map(Entry::from_v1))
    }

    /// Its extensions; unanswered questions are left out.
    pub fn extensions(&self) -> impl Iterator<Item = Extension> + '_ {
        self.entries.v1.iter().filter_map(Extension::from_entry)
    }
}

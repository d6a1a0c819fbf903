//! Stamp packets: echo replies with `DONTADD` that carry the stamps of one or more probes.

use super::entry::Entry;
use super::extension::Extension;
use super::layout::{
    Header, HeaderV1, MAX_ENTRIES, V0_ENTRY, V0_HEADER, V0_RESERVED, V1_ENTRY, V1_HEADER,
    set_checksum,
};
use super::number::{Sequence, SessionId};
use super::protocol::{DONTADD, Family, Version};
use pnet_packet::util::checksum;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A stamp packet that is being filled.
#[derive(Clone, Debug)]
pub struct StampPacket {
    bytes: Vec<u8>,
    version: Version,
    family: Family,
    /// Entries in use.
    used: u8,
}

impl StampPacket {
    /// `size` is that of the request, which a stamp packet never exceeds.
    pub fn new(
        family: Family,
        version: Version,
        session: SessionId,
        sequence: Sequence,
        size: usize,
    ) -> Self {
        let header = match version {
            Version::V0 => V0_HEADER + usize::from(V0_RESERVED) * V0_ENTRY,
            Version::V1 => V1_HEADER,
        };
        let mut bytes = vec![0; size.max(header)];
        let mut header = HeaderV1::new(version, session, bytes.len());
        header.common.kind = family.reply();
        header.common.flags = DONTADD.into();
        header.common.set_sequence(sequence);
        bytes[..V1_HEADER].copy_from_slice(header.as_bytes());
        Self {
            bytes,
            version,
            family,
            used: header.common.num,
        }
    }

    /// With the flow of the request, and its ICMP id as it arrived: an address translation on the way back
    /// knows no other.
    #[must_use]
    pub fn answering(mut self, flow: u8, id: u16) -> Self {
        if let Ok((header, _)) = Header::mut_from_prefix(&mut self.bytes) {
            header.set_flow(flow);
            header.id = id.into();
        }
        self
    }

    /// With the cookie that the client is to return. Only in version 1.
    #[must_use]
    pub fn with_cookie(mut self, cookie: u64) -> Self {
        if self.version == Version::V1
            && let Ok((header, _)) = HeaderV1::mut_from_prefix(&mut self.bytes)
        {
            header.cookie = cookie.into();
        }
        self
    }

    /// Entries that still fit.
    pub fn room(&self) -> usize {
        let total = match self.version {
            Version::V0 => (self.bytes.len() - V0_HEADER) / V0_ENTRY,
            Version::V1 => (self.bytes.len() - V1_HEADER) / V1_ENTRY,
        };
        total.min(MAX_ENTRIES).saturating_sub(self.used.into())
    }

    /// Adds a stamp; false when there is no room, or no such point in this version.
    pub fn push(&mut self, e: &Entry) -> bool {
        match self.version {
            Version::V0 => e.to_v0().is_some_and(|e| self.add(V0_HEADER, &e)),
            Version::V1 => self.add(V1_HEADER, &e.to_v1()),
        }
    }

    /// Adds an extension; false if there is no room, or the version has none.
    pub fn push_extension(&mut self, extension: &Extension) -> bool {
        let entry = extension.to_entry().filter(|_| self.version == Version::V1);
        entry.is_some_and(|e| self.add(V1_HEADER, &e))
    }

    /// Adds an entry behind those in use, which begin at `header`; false when there is no room.
    fn add(&mut self, header: usize, entry: &(impl IntoBytes + Immutable)) -> bool {
        let entry = entry.as_bytes();
        let at = header + usize::from(self.used) * entry.len();
        if self.room() == 0 {
            return false;
        }
        self.bytes[at..at + entry.len()].copy_from_slice(entry);
        self.used += 1;
        true
    }

    /// Shortens the packet to its entries. Only in version 1.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        if self.version == Version::V1 {
            self.bytes
                .truncate(V1_HEADER + usize::from(self.used) * V1_ENTRY);
            if let Ok((header, _)) = Header::mut_from_prefix(&mut self.bytes) {
                header.capacity = u16::from(self.used).into();
            }
        }
        self
    }

    /// The message with its checksum; the kernel computes that of `ICMPv6`.
    pub fn finish(mut self) -> Vec<u8> {
        if let Ok((header, _)) = Header::mut_from_prefix(&mut self.bytes) {
            header.num = self.used;
        }
        if self.family == Family::V4 {
            let sum = checksum(&self.bytes, 1);
            set_checksum(&mut self.bytes, sum);
        }
        self.bytes
    }
}

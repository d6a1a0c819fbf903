//! The probe of a session: an echo request with room for stamps.

use super::extension::question;
use super::flows::Flows;
use super::key::Keys;
use super::layout::{EntryV1, HeaderV1, V1_ENTRY, V1_HEADER, set_checksum};
use super::number::{Sequence, SessionId};
use super::protocol::{AUTH, Family, Version};
use pnet_packet::util::checksum;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes of a version 1 packet up to the end of its first entry.
const ASKING: usize = V1_HEADER + V1_ENTRY;

/// The probe of a session, of which only sequence, cookie and checksum change from send to send.
#[derive(Clone, Debug)]
pub struct Probe {
    bytes: Vec<u8>,
    version: Version,
    family: Family,
    flows: Flows,
    keys: Option<Keys>,
}

impl Probe {
    /// `size` is the ICMP message with its header; whatever is not header is room for entries.
    pub fn new(
        family: Family,
        version: Version,
        session: SessionId,
        size: usize,
        flags: u16,
    ) -> Self {
        let mut bytes = vec![0; size.max(V1_HEADER)];
        let mut header = HeaderV1::new(version, session, bytes.len());
        header.common.kind = family.request();
        if version == Version::V1 {
            header.common.flags = flags.into();
        }
        bytes[..V1_HEADER].copy_from_slice(header.as_bytes());
        Self {
            bytes,
            version,
            family,
            flows: Flows::ONE,
            keys: None,
        }
    }

    /// In so many flows.
    #[must_use]
    pub fn in_flows(self, flows: Flows) -> Self {
        Self { flows, ..self }
    }

    /// With the tag of a key.
    #[must_use]
    pub fn with_keys(mut self, keys: Option<Keys>) -> Self {
        self.keys = keys.filter(|_| self.version == Version::V1);
        if self.keys.is_some()
            && let Ok((header, _)) = HeaderV1::mut_from_prefix(&mut self.bytes)
        {
            header.common.flags |= AUTH;
        }
        self
    }

    /// The packet for one send, with the last cookie of the server, 0 if there was none.
    pub fn at(&mut self, sequence: Sequence, cookie: u64) -> &[u8] {
        self.asking(sequence, cookie, None)
    }

    /// The packet for one send, with a question about the probe `back` sequence numbers back, which was sent
    /// `age_ns` ago, and about those after it. Only in version 1, and with room for an entry.
    pub fn asking(&mut self, sequence: Sequence, cookie: u64, ask: Option<(u16, u64)>) -> &[u8] {
        let Ok((header, entries)) = HeaderV1::mut_from_prefix(&mut self.bytes) else {
            return &[];
        };
        header.common.set_sequence(sequence);
        header.common.set_flow(self.flows.of(sequence));
        if self.version == Version::V1 {
            header.cookie = cookie.into();
            if let Ok((entry, _)) = EntryV1::mut_from_prefix(entries) {
                *entry = ask.map_or_else(EntryV1::new_zeroed, |(back, age)| question(back, age));
                header.common.num = u8::from(ask.is_some());
            }
        }
        if let Some(keys) = &self.keys {
            keys.tag_request(&mut self.bytes);
        }
        if self.family == Family::V4 {
            // Behind the question all is zero and adds nothing to the sum.
            let end = self.bytes.len().min(ASKING);
            let sum = checksum(&self.bytes[..end], 1);
            set_checksum(&mut self.bytes, sum);
        }
        &self.bytes
    }
}

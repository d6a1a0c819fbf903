//! Packets of both protocol versions (docs/wire.md): builds probes and stamp packets, and parses whatever
//! arrives. Nothing here trusts a length, a count or an index from the network.

use bpf::pingtrace::types::{
    pt_extension, pt_header, pt_server_status, pt_stamp, pt_text, pt_wire,
};
use pnet_packet::util::checksum;
use report::analysis::loss::ServerStatus;
use report::model::Point;
use std::mem::size_of;

/// "pingtrace" on the wire.
pub const MAGIC: u16 = pt_wire::PT_MAGIC.0 as u16;
/// Bytes before the first entry of version 1, ICMP header included.
pub const V1_HEADER: usize = pt_wire::PT_V1_HEADER.0 as usize;
/// Bytes before the first entry of version 0, ICMP header included.
pub const V0_HEADER: usize = 24;
/// Bytes of a version 1 entry.
pub const V1_ENTRY: usize = 24;
/// Bytes of a version 0 entry.
pub const V0_ENTRY: usize = 16;
/// Entries that a version 0 client reserves for itself.
pub const V0_RESERVED: u8 = 8;
/// A stamp packet: it carries stamps and is not to be stamped itself.
pub const DONTADD: u16 = pt_wire::PT_FLAG_DONTADD.0 as u16;
/// Stamp this packet in place.
pub const INBAND: u16 = pt_wire::PT_FLAG_INBAND.0 as u16;
/// Send a stamp packet.
pub const RECORD: u16 = pt_wire::PT_FLAG_RECORD.0 as u16;
/// `back` of a provisional stamp, which the exact one in a later packet replaces.
pub const PROVISIONAL: i16 = (pt_wire::PT_AUX_PROVISIONAL.0 as u16).cast_signed();

/// Probes that one question asks about.
pub const WINDOW: u32 = 32;
const WINDOW_BYTES: usize = WINDOW as usize / 2;
/// Bytes of text in one entry.
pub const TEXT: usize = 16;
/// Host field of a question that is not answered yet.
const UNANSWERED: u16 = 0xffff;

const _: () = assert!(size_of::<pt_stamp>() == V1_ENTRY);
const _: () = assert!(std::mem::offset_of!(pt_header, host_id) == V0_HEADER);

/// Address family of the ICMP messages: the type numbers differ, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ICMP (RFC 792).
    V4,
    /// `ICMPv6` (RFC 4443).
    V6,
}

impl Family {
    /// ICMP type of an echo request.
    pub const fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    /// ICMP type of an echo reply.
    pub const fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Of deployed `PingTrace` v2.0 peers.
    V0,
    /// Ours.
    V1,
}

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
    /// ICMP id or sequence contradict the 32-bit fields.
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
    pub session: u32,
    /// Sequence number.
    pub sequence: u32,
    /// Whether the ICMP checksum is right (always for `ICMPv6`, which the kernel checks).
    pub checksum_ok: bool,
    /// The entries in use.
    entries: &'a [u8],
}

/// A stamp in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `CLOCK_MONOTONIC` of the stamping host: nanoseconds, or of version 0 microseconds in 32 bits.
    pub time: u64,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Device.
    pub ifindex: u32,
    /// Which host: 0 the client's, also for a server on the client's kernel; 1 the server, 2.. others.
    pub host: u16,
    /// Where.
    pub point: Point,
    /// CPU; version 0 does not say.
    pub cpu: Option<u16>,
    /// How many sequence numbers back the stamp's probe is; negative: it is a younger one's.
    pub back: i16,
}

fn status(code: u8) -> Option<ServerStatus> {
    match pt_server_status(u32::from(code)) {
        pt_server_status::PT_STATUS_UNSEEN => Some(ServerStatus::Unseen),
        pt_server_status::PT_STATUS_ARRIVED => Some(ServerStatus::Arrived),
        pt_server_status::PT_STATUS_DELIVERED => Some(ServerStatus::Delivered),
        pt_server_status::PT_STATUS_REPLIED => Some(ServerStatus::Replied),
        pt_server_status::PT_STATUS_LEFT => Some(ServerStatus::Left),
        pt_server_status::PT_STATUS_FORGOTTEN => Some(ServerStatus::Forgotten),
        _ => None,
    }
}

/// What a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The kernel's name of the reason.
    Reason = pt_text::PT_TEXT_REASON.0 as isize,
    /// The function that dropped the packet.
    Location = pt_text::PT_TEXT_LOCATION.0 as isize,
    /// The device.
    Device = pt_text::PT_TEXT_DEVICE.0 as isize,
    /// The namespace.
    Netns = pt_text::PT_TEXT_NETNS.0 as isize,
    /// What had the CPU in slow segments of the probe; see [`report::analysis::blame`].
    Blame = pt_text::PT_TEXT_BLAME.0 as isize,
}

impl About {
    const ALL: [Self; 5] = [
        Self::Reason,
        Self::Location,
        Self::Device,
        Self::Netns,
        Self::Blame,
    ];
}

/// An entry that is not a stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// The state of the probe `back` sequence numbers back, and of those after it.
    Window {
        /// How many sequence numbers back the first probe is.
        back: u16,
        /// A status for each, as far as the server gave one.
        statuses: Vec<Option<ServerStatus>>,
    },
    /// The server's kernel dropped a packet of a probe.
    Drop {
        /// `CLOCK_MONOTONIC` of the server, ns.
        ns: u64,
        /// Inode of the network namespace; 0 unknown.
        netns: u32,
        /// Device; 0 unknown.
        ifindex: u32,
        /// The reply, else the request.
        reply: bool,
        /// How many sequence numbers back the probe is.
        back: u16,
    },
    /// A part of a name for the drop of the same probe, or of its blame: printable ASCII.
    Text {
        /// What it names.
        about: About,
        /// At most 16 characters.
        text: String,
        /// How many sequence numbers back the probe is.
        back: u16,
    },
}

impl Extension {
    /// Splits a name into entries; what is not printable ASCII is left out.
    pub fn texts(about: About, name: &str, back: u16) -> Vec<Self> {
        let printable: Vec<u8> = name.bytes().filter(u8::is_ascii_graphic).collect();
        let parts = printable.chunks(TEXT).map(|part| Self::Text {
            about,
            text: String::from_utf8_lossy(part).into_owned(),
            back,
        });
        parts.collect()
    }
}

/// Parses an ICMP message.
pub fn parse(icmp: &[u8], family: Family) -> Result<Packet<'_>, Malformed> {
    if icmp.len() < V0_HEADER {
        return Err(Malformed::Truncated);
    }
    let request = icmp[0] == family.request();
    if !request && icmp[0] != family.reply() {
        return Err(Malformed::NotEcho);
    }
    if be16(icmp, 12) != MAGIC {
        return Err(Malformed::Magic);
    }
    let version = match icmp[8] {
        0 => Version::V0,
        1 => Version::V1,
        _ => return Err(Malformed::Version),
    };
    let (session, sequence) = (be32(icmp, 16), be32(icmp, 20));
    if be16(icmp, 4) != session as u16 || be16(icmp, 6) != sequence as u16 {
        return Err(Malformed::Inconsistent);
    }
    Ok(Packet {
        request,
        version,
        flags: be16(icmp, 10) & (DONTADD | INBAND | RECORD),
        session,
        sequence,
        checksum_ok: family == Family::V6 || checksum(icmp, 1) == be16(icmp, 2),
        entries: entries(icmp, version)?,
    })
}

/// Finds a session's probe in a packet with unparsed headers; returns its sequence number.
pub fn find_probe(packet: &[u8], session: u32) -> Option<u32> {
    let is_probe = |icmp: &&[u8]| {
        be16(icmp, 12) == MAGIC
            && be32(icmp, 16) == session
            && (be16(icmp, 4), be16(icmp, 6)) == (session as u16, be16(icmp, 22))
    };
    let found = packet.windows(V0_HEADER).find(is_probe)?;
    Some(be32(found, 20))
}

/// The bytes of the entries in use, checked against what arrived.
fn entries(icmp: &[u8], version: Version) -> Result<&[u8], Malformed> {
    let num = usize::from(icmp[9]);
    let (header, size, skip) = match version {
        Version::V0 => (V0_HEADER, V0_ENTRY, usize::from(V0_RESERVED)),
        Version::V1 => (V1_HEADER, V1_ENTRY, 0),
    };
    if version == Version::V1 {
        if icmp.len() < V1_HEADER {
            return Err(Malformed::Truncated);
        }
        if num > usize::from(be16(icmp, 14)) {
            return Err(Malformed::Count);
        }
    }
    if num <= skip {
        return Ok(&[]);
    }
    icmp.get(header + skip * size..header + num * size)
        .ok_or(Malformed::Count)
}

impl Packet<'_> {
    /// A packet of stamps alone.
    pub fn is_record(&self) -> bool {
        self.flags & DONTADD != 0
    }

    /// The stamps in it; an unknown point is `None`.
    pub fn entries(&self) -> impl Iterator<Item = Option<Entry>> + '_ {
        let stamps = self.raw().filter(|e| !self.is_extension(e));
        stamps.map(|e| match self.version {
            Version::V0 => v0_entry(e),
            Version::V1 => v1_entry(e),
        })
    }

    /// Its extensions; unanswered questions are left out.
    pub fn extensions(&self) -> impl Iterator<Item = Extension> + '_ {
        self.raw()
            .filter(|e| self.is_extension(e))
            .filter_map(extension)
    }

    fn raw(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let size = match self.version {
            Version::V0 => V0_ENTRY,
            Version::V1 => V1_ENTRY,
        };
        self.entries.chunks_exact(size)
    }

    fn is_extension(&self, e: &[u8]) -> bool {
        let first = pt_extension::PT_EXTENSION_WINDOW.0 as u16;
        let last = pt_extension::PT_EXTENSION_TEXT.0 as u16;
        self.version == Version::V1 && (first..=last).contains(&be16(e, 18))
    }
}

fn extension(e: &[u8]) -> Option<Extension> {
    let back = be16(e, 22);
    match pt_extension(u32::from(be16(e, 18))) {
        pt_extension::PT_EXTENSION_WINDOW if be16(e, 16) != UNANSWERED => Some(Extension::Window {
            back,
            statuses: e[..WINDOW_BYTES]
                .iter()
                .flat_map(|b| [b & 15, b >> 4])
                .map(status)
                .collect(),
        }),
        pt_extension::PT_EXTENSION_DROP => Some(Extension::Drop {
            ns: be64(e, 0),
            netns: be32(e, 8),
            ifindex: be32(e, 12),
            reply: be16(e, 20) != 0,
            back,
        }),
        pt_extension::PT_EXTENSION_TEXT => {
            let about = About::ALL.into_iter().find(|a| *a as u16 == be16(e, 20))?;
            let text = e[..TEXT].iter().filter(|b| b.is_ascii_graphic());
            Some(Extension::Text {
                about,
                text: text.map(|b| char::from(*b)).collect(),
                back,
            })
        }
        _ => None,
    }
}

fn v1_entry(e: &[u8]) -> Option<Entry> {
    Some(Entry {
        time: be64(e, 0),
        netns: be32(e, 8),
        ifindex: be32(e, 12),
        host: be16(e, 16),
        point: Point::from_wire(be16(e, 18))?,
        cpu: Some(be16(e, 20)),
        back: be16(e, 22).cast_signed(),
    })
}

fn v0_entry(e: &[u8]) -> Option<Entry> {
    Some(Entry {
        time: u64::from(be32(e, 12)),
        netns: be32(e, 0),
        ifindex: be32(e, 4),
        host: 1,
        point: Point::from_wire(be16(e, 10)).filter(|p| *p as u16 <= V0_LAST_POINT)?,
        cpu: None,
        back: 0,
    })
}

/// A stamp of a slot, which has the layout of the wire.
pub fn from_stamp(s: &pt_stamp) -> Option<Entry> {
    Some(Entry {
        time: u64::from_be(s.time_ns),
        netns: u32::from_be(s.netns),
        ifindex: u32::from_be(s.ifindex),
        host: u16::from_be(s.host),
        point: Point::from_wire(u16::from_be(s.point))?,
        cpu: Some(u16::from_be(s.cpu)),
        back: 0,
    })
}

/// A stamp of this host for a slot.
pub fn to_stamp(point: Point, ns: u64) -> pt_stamp {
    pt_stamp {
        time_ns: ns.to_be(),
        point: (point as u16).to_be(),
        ..pt_stamp::default()
    }
}

/// What every packet of a session begins with: the room for entries is what its size leaves.
fn begin(bytes: &mut [u8], version: Version, session: u32) {
    put16(bytes, 4, session as u16);
    put16(bytes, 12, MAGIC);
    put32(bytes, 16, session);
    match version {
        Version::V0 => {
            bytes[1] = 1;
            bytes[9] = V0_RESERVED;
        }
        Version::V1 => {
            bytes[8] = 1;
            let capacity = ((bytes.len() - V1_HEADER) / V1_ENTRY).min(255) as u16;
            put16(bytes, 14, capacity);
        }
    }
}

/// Bytes of a version 1 packet up to the end of its first entry.
const ASKING: usize = V1_HEADER + V1_ENTRY;

/// The probe of a session, of which only sequence, time and checksum change from send to send.
#[derive(Clone, Debug)]
pub struct Probe {
    bytes: Vec<u8>,
    version: Version,
    family: Family,
}

impl Probe {
    /// `size` is the ICMP message with its header; whatever is not header is room for entries.
    pub fn new(
        family: Family,
        version: Version,
        session: u32,
        size: usize,
        flags: u16,
        host_id: u64,
    ) -> Self {
        let mut bytes = vec![0; size.max(V1_HEADER)];
        bytes[0] = family.request();
        begin(&mut bytes, version, session);
        if version == Version::V1 {
            put16(&mut bytes, 10, flags);
            bytes[24..32].copy_from_slice(&host_id.to_be_bytes());
        }
        Self {
            bytes,
            version,
            family,
        }
    }

    /// The packet for one send.
    pub fn at(&mut self, sequence: u32, send_ns: u64) -> &[u8] {
        self.asking(sequence, send_ns, None)
    }

    /// The packet for one send, with a question about the probe `back` sequence numbers back, which was sent
    /// `age_ns` ago, and about those after it. Only in version 1, and with room for an entry.
    pub fn asking(&mut self, sequence: u32, send_ns: u64, ask: Option<(u16, u64)>) -> &[u8] {
        let room = self.version == Version::V1 && self.bytes.len() >= ASKING;
        if room {
            let entry = &mut self.bytes[V1_HEADER..ASKING];
            entry.fill(0);
            if let Some((back, age_ns)) = ask {
                entry[..8].copy_from_slice(&age_ns.to_be_bytes());
                put16(entry, 16, UNANSWERED);
                put16(entry, 18, pt_extension::PT_EXTENSION_WINDOW.0 as u16);
                put16(entry, 22, back);
            }
            self.bytes[9] = u8::from(ask.is_some());
        }
        put16(&mut self.bytes, 6, sequence as u16);
        put32(&mut self.bytes, 20, sequence);
        if self.version == Version::V1 {
            self.bytes[32..40].copy_from_slice(&send_ns.to_be_bytes());
        }
        if self.family == Family::V4 {
            // Behind the question all is zero and adds nothing to the sum.
            let end = self.bytes.len().min(ASKING);
            let sum = checksum(&self.bytes[..end], 1);
            put16(&mut self.bytes, 2, sum);
        }
        &self.bytes
    }
}

/// A stamp packet: an echo reply with `DONTADD` that carries the stamps of one or more probes.
#[derive(Clone, Debug)]
pub struct StampPacket {
    bytes: Vec<u8>,
    version: Version,
    family: Family,
}

impl StampPacket {
    /// `size` is that of the request, which a stamp packet never exceeds.
    pub fn new(family: Family, version: Version, session: u32, sequence: u32, size: usize) -> Self {
        let header = match version {
            Version::V0 => V0_HEADER + usize::from(V0_RESERVED) * V0_ENTRY,
            Version::V1 => V1_HEADER,
        };
        let mut bytes = vec![0; size.max(header)];
        bytes[0] = family.reply();
        begin(&mut bytes, version, session);
        put16(&mut bytes, 6, sequence as u16);
        put16(&mut bytes, 10, DONTADD);
        put32(&mut bytes, 20, sequence);
        Self {
            bytes,
            version,
            family,
        }
    }

    /// Entries that still fit.
    pub fn room(&self) -> usize {
        let used = usize::from(self.bytes[9]);
        let total = match self.version {
            Version::V0 => (self.bytes.len() - V0_HEADER) / V0_ENTRY,
            Version::V1 => (self.bytes.len() - V1_HEADER) / V1_ENTRY,
        };
        total.min(255).saturating_sub(used)
    }

    /// Adds a stamp; false when there is no room, or no such point in this version.
    pub fn push(&mut self, e: &Entry) -> bool {
        if self.room() == 0 || (self.version == Version::V0 && e.point as u16 > V0_LAST_SENT) {
            return false;
        }
        let n = usize::from(self.bytes[9]);
        match self.version {
            Version::V0 => {
                let b = &mut self.bytes[V0_HEADER + n * V0_ENTRY..][..V0_ENTRY];
                put32(b, 0, e.netns);
                put32(b, 4, e.ifindex);
                put16(b, 10, e.point as u16);
                put32(b, 12, (e.time / 1_000) as u32);
            }
            Version::V1 => {
                let b = &mut self.bytes[V1_HEADER + n * V1_ENTRY..][..V1_ENTRY];
                b[..8].copy_from_slice(&e.time.to_be_bytes());
                put32(b, 8, e.netns);
                put32(b, 12, e.ifindex);
                put16(b, 16, e.host);
                put16(b, 18, e.point as u16);
                put16(b, 20, e.cpu.unwrap_or(0));
                put16(b, 22, e.back.cast_unsigned());
            }
        }
        self.bytes[9] += 1;
        true
    }

    /// Adds an extension; false if there is no room, or the version has none.
    pub fn push_extension(&mut self, extension: &Extension) -> bool {
        if self.room() == 0 || self.version == Version::V0 {
            return false;
        }
        let n = usize::from(self.bytes[9]);
        let b = &mut self.bytes[V1_HEADER + n * V1_ENTRY..][..V1_ENTRY];
        match extension {
            Extension::Window { .. } => return false,
            Extension::Drop {
                ns,
                netns,
                ifindex,
                reply,
                back,
            } => {
                b[..8].copy_from_slice(&ns.to_be_bytes());
                put32(b, 8, *netns);
                put32(b, 12, *ifindex);
                put16(b, 18, pt_extension::PT_EXTENSION_DROP.0 as u16);
                put16(b, 20, u16::from(*reply));
                put16(b, 22, *back);
            }
            Extension::Text { about, text, back } => {
                let bytes = &text.as_bytes()[..text.len().min(TEXT)];
                b[..bytes.len()].copy_from_slice(bytes);
                put16(b, 18, pt_extension::PT_EXTENSION_TEXT.0 as u16);
                put16(b, 20, *about as u16);
                put16(b, 22, *back);
            }
        }
        self.bytes[9] += 1;
        true
    }

    /// Shortens the packet to its entries. Only in version 1.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        if self.version == Version::V1 {
            let used = self.bytes[9];
            self.bytes
                .truncate(V1_HEADER + usize::from(used) * V1_ENTRY);
            put16(&mut self.bytes, 14, u16::from(used));
        }
        self
    }

    /// The message with its checksum; the kernel computes that of `ICMPv6`.
    pub fn finish(mut self) -> Vec<u8> {
        if self.family == Family::V4 {
            let sum = checksum(&self.bytes, 1);
            put16(&mut self.bytes, 2, sum);
        }
        self.bytes
    }
}

/// The highest point number of version 0, and the highest that a peer of it knows outside its
/// namespace mode.
const V0_LAST_POINT: u16 = Point::MRxDevreply as u16;
const V0_LAST_SENT: u16 = Point::LRxSoftirq as u16;

fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn be64(b: &[u8], at: usize) -> u64 {
    u64::from(be32(b, at)) << 32 | u64::from(be32(b, at + 4))
}

fn put16(b: &mut [u8], at: usize, value: u16) {
    b[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(b: &mut [u8], at: usize, value: u32) {
    b[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

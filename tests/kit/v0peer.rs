//! A version 0 peer, written from the page about the wire format and sharing no code with the product.
//!
//! [`serve`] is a v0 server, [`client`] a v0 client. Both open raw sockets in the network
//! namespace of the calling thread and need `CAP_NET_RAW` there. The server can be told to make
//! each mistake that deployed peers make ([`ServerOptions`]); the client makes none and reports
//! each deviation of the other side as a [`Fault`].
//!
//! Checksums of `ICMPv6` are written and verified by the kernel, so a wrong one exists only in IPv4.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags};
use rustix::time::ClockId;
use socket2::{Domain, Protocol, Socket, Type};

/// Identifies a probe in its payload, in every version.
pub const MAGIC: u16 = 0x7ace;
/// Bytes before the first entry.
pub const HEADER_LEN: usize = 24;
/// Bytes of one entry.
pub const ENTRY_LEN: usize = 16;
/// Entries that a client reserves, all zero; a server writes from this index on.
pub const RESERVED: u8 = 8;
/// ICMP message size of a v0 client's default.
pub const DEFAULT_LEN: usize = 552;
/// Flag bit 0: a stamp packet, not to be stamped.
pub const DONTADD: u16 = 1;

/// Point ids of version 0 that [`serve`] stamps.
pub const R_RX_ICMPRCV: u16 = 3;
/// `net_dev_start_xmit` of the reply.
pub const R_TX_DEVOUT: u16 = 4;
/// `netif_receive_skb` of the request.
pub const R_RX_DEVRCV: u16 = 9;
/// The largest point id of version 0.
pub const LAST_POINT: u16 = 14;

const POLL_SLICE_NS: u64 = 20_000_000;

/// One stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub netns: u32,
    pub ifindex: u32,
    pub user: u16,
    pub point: u16,
    /// Microseconds of `CLOCK_MONOTONIC`, truncated to 32 bits.
    pub time_us: u32,
}

/// A request or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Reply,
}

/// How a message departs from version 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fewer bytes than the header.
    Short(usize),
    /// Neither an echo request nor an echo reply.
    Type(u8),
    Code(u8),
    Magic(u16),
    Version(u8),
    /// The word at offset 14.
    Reserved(u16),
    Checksum,
    /// The ICMP id is not the low half of the session id.
    Id,
    /// The ICMP sequence is not the low half of the sequence.
    Sequence,
    /// `num` counts entries that did not arrive.
    Overrun {
        num: u8,
        slots: usize,
    },
    /// A point id that version 0 does not have.
    Point(u16),
    /// A reply whose length is not that of the request.
    Length {
        sent: usize,
        arrived: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(len) => write!(f, "only {len} bytes"),
            Self::Type(value) => write!(f, "ICMP type {value}"),
            Self::Code(value) => write!(f, "ICMP code {value}, not 1"),
            Self::Magic(value) => write!(f, "magic {value:#06x}"),
            Self::Version(value) => write!(f, "version {value}"),
            Self::Reserved(value) => write!(f, "reserved word is {value:#06x}"),
            Self::Checksum => write!(f, "wrong checksum"),
            Self::Id => write!(f, "ICMP id does not belong to the session id"),
            Self::Sequence => write!(f, "ICMP sequence does not belong to the sequence"),
            Self::Overrun { num, slots } => {
                write!(f, "num {num}, but only {slots} entries arrived")
            }
            Self::Point(id) => write!(f, "unknown point {id}"),
            Self::Length { sent, arrived } => write!(f, "{sent} bytes sent, {arrived} came back"),
        }
    }
}

/// A v0 message as it was read, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub kind: Kind,
    pub session: u32,
    pub sequence: u32,
    pub num: u8,
    pub flags: u16,
    /// Entries that arrived: those below `num` for which there were bytes.
    pub entries: Vec<Entry>,
    pub faults: Vec<Fault>,
    pub len: usize,
}

impl Packet {
    /// The entries that were added on the way, those after the reserved ones.
    pub fn added(&self) -> &[Entry] {
        self.entries
            .get(usize::from(RESERVED)..)
            .unwrap_or_default()
    }

    /// Is it a stamp packet?
    pub fn is_record(&self) -> bool {
        self.kind == Kind::Reply && self.flags & DONTADD != 0
    }
}

/// Reads an ICMP message of `family`; `Err` says why it cannot be a v0 probe at all.
pub fn parse(message: &[u8], family: Family) -> Result<Packet, Fault> {
    if message.len() < HEADER_LEN {
        return Err(Fault::Short(message.len()));
    }
    let kind = family.kind(message[0]).ok_or(Fault::Type(message[0]))?;
    if be16(message, 12) != MAGIC {
        return Err(Fault::Magic(be16(message, 12)));
    }
    if message[8] != 0 {
        return Err(Fault::Version(message[8]));
    }
    let (num, slots) = (message[9], (message.len() - HEADER_LEN) / ENTRY_LEN);
    let present = usize::from(num).min(slots);
    let mut packet = Packet {
        kind,
        session: be32(message, 16),
        sequence: be32(message, 20),
        num,
        flags: be16(message, 10),
        entries: message[HEADER_LEN..]
            .chunks_exact(ENTRY_LEN)
            .take(present)
            .map(entry)
            .collect(),
        faults: Vec::new(),
        len: message.len(),
    };
    packet.faults = faults(message, &packet, family, slots);
    Ok(packet)
}

fn faults(message: &[u8], packet: &Packet, family: Family, slots: usize) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut check = |wrong: bool, fault: Fault| {
        if wrong {
            found.push(fault);
        }
    };
    check(message[1] != 1, Fault::Code(message[1]));
    check(be16(message, 14) != 0, Fault::Reserved(be16(message, 14)));
    check(
        family == Family::V4 && sum(message) != 0xffff,
        Fault::Checksum,
    );
    check(be16(message, 4) != packet.session as u16, Fault::Id);
    check(be16(message, 6) != packet.sequence as u16, Fault::Sequence);
    // The smallest documented packet has no room for all eight reserved entries.
    let overrun = usize::from(packet.num) > slots.max(usize::from(RESERVED));
    check(
        overrun,
        Fault::Overrun {
            num: packet.num,
            slots,
        },
    );
    for entry in &packet.entries {
        check(entry.point > LAST_POINT, Fault::Point(entry.point));
    }
    found
}

fn entry(bytes: &[u8]) -> Entry {
    Entry {
        netns: be32(bytes, 0),
        ifindex: be32(bytes, 4),
        user: be16(bytes, 8),
        point: be16(bytes, 10),
        time_us: be32(bytes, 12),
    }
}

fn put_entry(message: &mut [u8], index: usize, entry: &Entry) {
    let at = HEADER_LEN + index * ENTRY_LEN;
    put32(message, at, entry.netns);
    put32(message, at + 4, entry.ifindex);
    put16(message, at + 8, entry.user);
    put16(message, at + 10, entry.point);
    put32(message, at + 12, entry.time_us);
}

/// A v0 request of `len` bytes with the eight reserved entries and a right checksum (IPv4).
pub fn request(session: u32, sequence: u32, len: usize, family: Family) -> Vec<u8> {
    let mut message = vec![0; len.max(HEADER_LEN)];
    message[0] = family.echo_request();
    message[1] = 1;
    put16(&mut message, 4, session as u16);
    put16(&mut message, 6, sequence as u16);
    message[9] = RESERVED;
    put16(&mut message, 12, MAGIC);
    put32(&mut message, 16, session);
    put32(&mut message, 20, sequence);
    let check = !sum(&message);
    put16(&mut message, 2, check);
    message
}

/// IP version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    fn from_address(address: &SocketAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    fn echo_request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    fn echo_reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }

    fn kind(self, icmp_type: u8) -> Option<Kind> {
        if icmp_type == self.echo_request() {
            Some(Kind::Request)
        } else if icmp_type == self.echo_reply() {
            Some(Kind::Reply)
        } else {
            None
        }
    }
}

/// How the server writes the checksum of its stamp packets (IPv4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    #[default]
    Right,
    /// The carry is folded once, as deployed peers do, with namespace inodes chosen so that every
    /// packet is wrong and not only one in a thousand.
    SingleFoldWrong,
}

/// What [`serve`] does; the default is a v0 server without its mistakes.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// From the arrival of a request to its stamp packet.
    pub record_after: Duration,
    pub checksum: Checksum,
    /// Added to `num` beyond the entries written, so that it may point past the end of the packet.
    pub extra_num: u8,
    /// Point ids of entries written after the three of a server, at the time of the last.
    pub extra_points: Vec<u16>,
    /// Leaves `r_tx_devout` out, as when the reply left too late to be seen.
    pub without_devout: bool,
    /// Sends no record for these sequence numbers.
    pub silent: Vec<u32>,
    pub user: u16,
    pub netns: u32,
    pub ifindex: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            record_after: Duration::from_millis(2),
            checksum: Checksum::Right,
            extra_num: 0,
            extra_points: Vec::new(),
            without_devout: false,
            silent: Vec::new(),
            user: 0,
            netns: 4_026_531_840,
            ifindex: 2,
        }
    }
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// v0 requests seen.
    pub requests: u64,
    /// Stamp packets sent.
    pub records: u64,
    /// Stamp packets that the kernel refused.
    pub send_errors: u64,
    /// Requests with a fault; they are answered all the same.
    pub faulty: u64,
    /// Stamp packets still due at the end; they are not sent.
    pub unsent: u64,
}

/// A v0 server whose sockets are open: a request sent from now on is seen.
pub struct Server {
    sockets: [(Family, Socket); 2],
    options: ServerOptions,
    pending: Vec<PendingRecord>,
    served: Served,
}

struct PendingRecord {
    at_ns: u64,
    to: SocketAddr,
    message: Vec<u8>,
}

impl Server {
    /// Opens the sockets in the namespace of the calling thread.
    pub fn bind(options: ServerOptions) -> io::Result<Self> {
        let open = |family| raw_socket(family).map(|socket| (family, socket));
        Ok(Self {
            sockets: [open(Family::V4)?, open(Family::V6)?],
            options,
            pending: Vec::new(),
            served: Served::default(),
        })
    }

    /// See [`serve`].
    pub fn serve(mut self, stop: &AtomicBool) -> io::Result<Served> {
        let mut buffer = vec![0; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            self.send_due();
            let next = self.pending.iter().map(|due| due.at_ns).min();
            wait(
                &[self.sockets[0].1.as_fd(), self.sockets[1].1.as_fd()],
                next,
            )?;
            for index in 0..self.sockets.len() {
                self.receive(index, &mut buffer)?;
            }
        }
        self.served.unsent = self.pending.len() as u64;
        Ok(self.served)
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let (family, socket) = &self.sockets[index];
        while let Some((message, from)) = receive(socket, *family, buffer)? {
            let Ok(packet) = parse(message, *family) else {
                continue;
            };
            if packet.kind != Kind::Request || packet.flags & DONTADD != 0 || message[1] != 1 {
                continue;
            }
            self.served.requests += 1;
            self.served.faulty += u64::from(!packet.faults.is_empty());
            if self.options.silent.contains(&packet.sequence) {
                continue;
            }
            let received_ns = kernel_receive_ns(socket);
            let message = record(message, *family, received_ns, &self.options);
            let at_ns = received_ns + self.options.record_after.as_nanos() as u64;
            self.pending.push(PendingRecord {
                at_ns,
                to: from,
                message,
            });
        }
        Ok(())
    }

    fn send_due(&mut self) {
        let now = monotonic_ns();
        for due in self.pending.extract_if(.., |due| due.at_ns <= now) {
            let socket = &self.sockets[usize::from(due.to.is_ipv6())].1;
            match rustix::net::sendto(socket, &due.message, SendFlags::empty(), &due.to) {
                Ok(_) => self.served.records += 1,
                Err(_) => self.served.send_errors += 1,
            }
        }
    }
}

/// The stamp packet for `request`, which arrived at `received_ns`.
pub fn record(
    request: &[u8],
    family: Family,
    received_ns: u64,
    options: &ServerOptions,
) -> Vec<u8> {
    let mut message = request.to_vec();
    message[0] = family.echo_reply();
    put16(&mut message, 10, be16(request, 10) | DONTADD);
    let first = usize::from(request[9]);
    let slots = (request.len() - HEADER_LEN) / ENTRY_LEN;
    let entries = own_entries(received_ns, options);
    let fitting = entries.len().min(slots.saturating_sub(first));
    for (index, entry) in entries[..fitting].iter().enumerate() {
        put_entry(&mut message, first + index, entry);
    }
    message[9] = request[9]
        .saturating_add(fitting as u8)
        .saturating_add(options.extra_num);
    write_checksum(&mut message, options.checksum, first..first + fitting);
    message
}

/// A server's stamps. The kernel answers inside the softirq that received the request, so the
/// points are one microsecond apart, counted from the kernel's own receive time stamp.
fn own_entries(received_ns: u64, options: &ServerOptions) -> Vec<Entry> {
    let first_us = (received_ns / 1000) as u32;
    let stamp = |point, after_us| Entry {
        netns: options.netns,
        ifindex: options.ifindex,
        user: options.user,
        point,
        time_us: first_us.wrapping_add(after_us),
    };
    let mut entries = vec![stamp(R_RX_DEVRCV, 0), stamp(R_RX_ICMPRCV, 1)];
    if !options.without_devout {
        entries.push(stamp(R_TX_DEVOUT, 2));
    }
    entries.extend(options.extra_points.iter().map(|&point| stamp(point, 2)));
    entries
}

fn write_checksum(message: &mut [u8], how: Checksum, own: std::ops::Range<usize>) {
    put16(message, 2, 0);
    if how == Checksum::SingleFoldWrong {
        bend(message, own);
    }
    let check = if how == Checksum::Right {
        !sum(message)
    } else {
        !single_fold(message)
    };
    put16(message, 2, check);
}

/// Changes the low half of the inodes in the entries `own` until a single fold is wrong.
fn bend(message: &mut [u8], own: std::ops::Range<usize>) {
    let places = own.map(|index| HEADER_LEN + index * ENTRY_LEN + 2);
    places.clone().for_each(|at| put16(message, at, 0));
    let (base, count) = (plain_sum(message), places.len() as u32);
    let low = (0..=0xffff_u32).find(|low| {
        let sum = base + count * low;
        (sum & 0xffff) + (sum >> 16) > 0xffff
    });
    places.for_each(|at| put16(message, at, low.unwrap_or(0) as u16));
}

/// Sends `count` v0 requests of the default size to `dst`, one each `interval`, and collects the
/// echo and the record of each until both are there or `timeout` after the last request.
pub fn client(
    dst: IpAddr,
    count: u32,
    interval: Duration,
    timeout: Duration,
) -> io::Result<Vec<V0Result>> {
    Client::new(dst).run(count, interval, timeout)
}

/// A v0 client's settings.
#[derive(Clone, Debug)]
pub struct Client {
    /// The port does not matter; the scope of a link-local address does.
    pub dst: SocketAddr,
    /// ICMP message size.
    pub len: usize,
    pub session: u32,
    /// The sequence number of the first request.
    pub first: u32,
}

impl Client {
    /// The default size, and the clock in seconds as session id, as deployed clients do.
    pub fn new(dst: IpAddr) -> Self {
        let session = rustix::time::clock_gettime(ClockId::Realtime).tv_sec as u32;
        Self {
            dst: SocketAddr::new(dst, 0),
            len: DEFAULT_LEN,
            session,
            first: 0,
        }
    }

    /// See [`client`].
    pub fn run(
        &self,
        count: u32,
        interval: Duration,
        timeout: Duration,
    ) -> io::Result<Vec<V0Result>> {
        let family = Family::from_address(&self.dst);
        let socket = raw_socket(family)?;
        let mut results = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        let start = monotonic_ns();
        loop {
            let now = monotonic_ns();
            let sent = results.len() as u32;
            let next = start + u64::from(sent) * interval.as_nanos() as u64;
            if sent < count && now >= next {
                results.push(self.send(&socket, family, self.first.wrapping_add(sent))?);
                continue;
            }
            let last = results
                .last()
                .map_or(start, |result: &V0Result| result.sent_ns);
            let end = last + timeout.as_nanos() as u64;
            let complete = results
                .iter()
                .all(|result| result.echo.is_some() && result.record.is_some());
            if sent == count && (complete || now >= end) {
                return Ok(results);
            }
            wait(
                &[socket.as_fd()],
                Some(if sent < count { next } else { end }),
            )?;
            while let Some((message, from)) = receive(&socket, family, &mut buffer)? {
                self.note(message, from, family, &mut results);
            }
        }
    }

    fn send(&self, socket: &Socket, family: Family, sequence: u32) -> io::Result<V0Result> {
        let message = request(self.session, sequence, self.len, family);
        let sent_ns = monotonic_ns();
        rustix::net::sendto(socket, &message, SendFlags::empty(), &self.dst)?;
        Ok(V0Result {
            sequence,
            sent_ns,
            echo: None,
            record: None,
            duplicates: 0,
            unreadable: Vec::new(),
        })
    }

    fn note(&self, message: &[u8], from: SocketAddr, family: Family, results: &mut [V0Result]) {
        let at_ns = monotonic_ns();
        let ours = message.len() >= 8
            && message[0] == family.echo_reply()
            && be16(message, 4) == self.session as u16
            && from.ip() == self.dst.ip();
        if !ours {
            return;
        }
        let index = usize::from(be16(message, 6).wrapping_sub(self.first as u16));
        let Some(result) = results.get_mut(index) else {
            return;
        };
        let mut packet = match parse(message, family) {
            Ok(packet) => packet,
            Err(fault) => return result.unreadable.push(fault),
        };
        if packet.len != self.len {
            packet.faults.push(Fault::Length {
                sent: self.len,
                arrived: packet.len,
            });
        }
        let place = if packet.is_record() {
            &mut result.record
        } else {
            &mut result.echo
        };
        match place {
            Some(_) => result.duplicates += 1,
            None => *place = Some(Arrival { at_ns, packet }),
        }
    }
}

/// One probe of a v0 client. At most 65 536 probes of a run can be told apart.
#[derive(Clone, Debug)]
pub struct V0Result {
    pub sequence: u32,
    /// `CLOCK_MONOTONIC`, just before the request was sent.
    pub sent_ns: u64,
    /// The kernel's echo: the first reply without `DONTADD`.
    pub echo: Option<Arrival>,
    /// The stamp packet: the first reply with `DONTADD`.
    pub record: Option<Arrival>,
    /// Further echoes and records.
    pub duplicates: u32,
    /// Why further replies to this probe are no v0 messages at all.
    pub unreadable: Vec<Fault>,
}

impl V0Result {
    /// All that was wrong with the replies.
    pub fn faults(&self) -> Vec<Fault> {
        let arrivals = self.echo.iter().chain(&self.record);
        arrivals
            .flat_map(|arrival| arrival.packet.faults.clone())
            .chain(self.unreadable.clone())
            .collect()
    }

    /// From the request to its echo.
    pub fn rtt_ns(&self) -> Option<u64> {
        self.echo.as_ref().map(|echo| echo.at_ns - self.sent_ns)
    }
}

/// A reply and when user space had it, in ns of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at_ns: u64,
    pub packet: Packet,
}

fn raw_socket(family: Family) -> io::Result<Socket> {
    let (domain, protocol, any) = match family {
        Family::V4 => (
            Domain::IPV4,
            Protocol::ICMPV4,
            SocketAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        ),
        Family::V6 => (
            Domain::IPV6,
            Protocol::ICMPV6,
            SocketAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)),
        ),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.bind(&any.into())?;
    socket.set_recv_buffer_size(4 << 20)?;
    socket.set_nonblocking(true)?;
    // The first question after the time stamp switches it on, and has no answer yet.
    kernel_stamp(&socket);
    Ok(socket)
}

/// The next ICMP message and its sender, or `None` when none is waiting.
fn receive<'b>(
    socket: &Socket,
    family: Family,
    buffer: &'b mut [u8],
) -> io::Result<Option<(&'b [u8], SocketAddr)>> {
    loop {
        let (len, from) = match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, len, from)) => (len.min(buffer.len()), from),
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else {
            continue;
        };
        let header = match family {
            Family::V4 => usize::from(buffer[0] & 0x0f) * 4,
            Family::V6 => 0,
        };
        if header <= len {
            return Ok(Some((&buffer[header..len], from)));
        }
    }
}

/// Sleeps until a socket is readable or `until_ns`, at most 20 ms.
fn wait(sockets: &[BorrowedFd<'_>], until_ns: Option<u64>) -> io::Result<()> {
    let now = monotonic_ns();
    let left = until_ns
        .map_or(POLL_SLICE_NS, |until| until.saturating_sub(now))
        .min(POLL_SLICE_NS);
    let mut fds: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::new(socket, PollFlags::IN))
        .collect();
    match rustix::event::poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: left as i64,
        }),
    ) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// When the kernel received the message read last, in ns of `CLOCK_MONOTONIC`; now, if it
/// does not say.
fn kernel_receive_ns(socket: &Socket) -> u64 {
    let now = monotonic_ns();
    let real = rustix::time::clock_gettime(ClockId::Realtime);
    let Some(stamp) = kernel_stamp(socket) else {
        return now;
    };
    let ago = (real.tv_sec - stamp.tv_sec) * 1_000_000_000 + (real.tv_nsec - stamp.tv_nsec);
    now.saturating_sub(ago.clamp(0, 1_000_000_000) as u64)
}

#[expect(unsafe_code, reason = "no safe wrapper of SIOCGSTAMPNS")]
fn kernel_stamp(socket: &Socket) -> Option<libc::timespec> {
    const SIOCGSTAMPNS: u64 = 0x8907;
    let mut stamp = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the socket is open, and SIOCGSTAMPNS writes one timespec to the address given.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS as _, &raw mut stamp) };
    (result == 0).then_some(stamp)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The one's complement sum; a message with a right checksum sums to 0xffff.
fn sum(message: &[u8]) -> u16 {
    let mut sum = plain_sum(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The same sum with its carry folded once, wrong when that carries again.
fn single_fold(message: &[u8]) -> u16 {
    let sum = plain_sum(message);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn plain_sum(message: &[u8]) -> u32 {
    let words = message
        .chunks(2)
        .map(|pair| [pair[0], pair.get(1).copied().unwrap_or(0)]);
    words.map(|word| u32::from(u16::from_be_bytes(word))).sum()
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

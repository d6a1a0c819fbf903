//! Packets whose IP headers are made here, and counts of what they cause on the wire.

use super::harness::until;
use netns::{Host, Namespace};
use pingtrace::wire::packet;
use pingtrace::wire::protocol::{DONTADD, Family};
use pnet_packet::icmpv6::{self, Icmpv6Packet};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::util::checksum;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub fn raw(ns: &Namespace, family: Family, protocol: i32) -> Socket {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let open = || Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)));
    let socket = ns.run(open).unwrap().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket
}

/// Which part of a message a packet carries.
#[derive(Clone, Copy)]
pub struct Fragment {
    /// In units of 8 bytes.
    offset: u16,
    more: bool,
}

/// Waits until a request with a cookie arrives in a namespace: its client is proven to the server there, which
/// reports what it drops from then on.
pub fn wait_for_cookie(ns: &Namespace, family: Family) {
    // An IPv6 socket does not give the IP header.
    let (protocol, header) = match family {
        Family::V4 => (libc::IPPROTO_ICMP, 20),
        Family::V6 => (libc::IPPROTO_ICMPV6, 0),
    };
    let listener = raw(ns, family, protocol);
    let mut buffer = [0; 2048];
    until("a request has a cookie", || {
        let length = (&listener).read(&mut buffer).unwrap_or(0);
        let message = packet::parse(&buffer[header.min(length)..length], family);
        message.is_ok_and(|probe| probe.request && probe.cookie != 0)
    });
}

/// Sends packets whose IP headers are made here. Messages are those of ICMP; what goes out over
/// IPv6 is the same in `ICMPv6`.
pub struct Injector {
    socket: Socket,
    from: IpAddr,
    to: IpAddr,
    /// ICMP messages sent.
    pub sent: u64,
    id: u16,
}

impl Injector {
    pub fn new(ns: &Namespace, from: IpAddr, to: IpAddr) -> Self {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        Self {
            socket: raw(ns, family, libc::IPPROTO_RAW),
            from,
            to,
            sent: 0,
            id: 1,
        }
    }

    pub fn message(&mut self, message: &[u8]) {
        self.packet(&self.of_family(message), None, false);
        self.done();
        // A burst would overrun buffers.
        thread::sleep(Duration::from_micros(500));
    }

    /// A message in two fragments.
    pub fn fragments(&mut self, message: &[u8]) {
        let message = self.of_family(message);
        let (first, second) = message.split_at(16);
        for (part, offset, more) in [(first, 0, true), (second, 2, false)] {
            self.packet(part, Some(Fragment { offset, more }), false);
        }
        self.done();
    }

    /// A message behind IP options that mean nothing.
    pub fn with_options(&mut self, message: &[u8]) {
        self.packet(&self.of_family(message), None, true);
        self.done();
    }

    /// A packet whose IP header says that the message has `says` bytes, by a host's device.
    pub fn lie(&self, host: &Host, message: &[u8], says: usize) {
        let message = self.of_family(message);
        let bytes = [self.header(says, None, false), message].concat();
        let kind = match self.to {
            IpAddr::V4(_) => libc::ETH_P_IP,
            IpAddr::V6(_) => libc::ETH_P_IPV6,
        } as u16;
        let open = || Socket::new(Domain::PACKET, Type::RAW, None);
        let frames = host.ns.run(open).unwrap().unwrap();
        let frame = [&[0xff; 6][..], &[2; 6], &kind.to_be_bytes(), &bytes].concat();
        frames
            .send_to(&frame, &on_device(host, kind))
            .expect("inject");
    }

    pub fn done(&mut self) {
        self.sent += 1;
        self.id = self.id.wrapping_add(1);
    }

    /// For IPv6 the type numbers differ, and the checksum has a pseudo header (RFC 4443); a wrong
    /// one stays wrong.
    fn of_family(&self, message: &[u8]) -> Vec<u8> {
        let mut bytes = message.to_vec();
        let (IpAddr::V6(from), IpAddr::V6(to), [kind, ..]) = (self.from, self.to, message) else {
            return bytes;
        };
        bytes[0] = match kind {
            8 => Family::V6.request(),
            0 => Family::V6.reply(),
            other => *other,
        };
        if bytes.len() >= 8 && message == summed(message.to_vec()) {
            let sum = icmpv6::checksum(&Icmpv6Packet::new(&bytes).expect("a header"), &from, &to);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    pub fn packet(&self, payload: &[u8], fragment: Option<Fragment>, options: bool) {
        let mut bytes = self.header(payload.len(), fragment, options);
        bytes.extend_from_slice(payload);
        let to: SockAddr = SocketAddr::new(self.to, 0).into();
        self.socket.send_to(&bytes, &to).expect("inject");
    }

    fn header(&self, length: usize, fragment: Option<Fragment>, options: bool) -> Vec<u8> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header4(from, to, self.id, length, fragment, options)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header6(from, to, self.id, length, fragment, options)
            }
            _ => panic!("two families"),
        }
    }
}

/// Where a frame of this `EtherType` is sent.
pub fn on_device(host: &Host, kind: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage has room for every kind of address.
    let to = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = kind.to_be();
    to.sll_ifindex = host.ifindex.cast_signed();
    // SAFETY: an address of this kind was written.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}

/// RFC 791; the options are as many no-operations as fit.
fn header4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    id: u16,
    length: usize,
    fragment: Option<Fragment>,
    options: bool,
) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    if options {
        bytes.extend([1; 40]);
    }
    bytes[0] = 0x40 | (bytes.len() / 4) as u8;
    let total = (bytes.len() + length) as u16;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    let fragment = fragment.map_or(0, |f| u16::from(f.more) << 13 | f.offset);
    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
    bytes[8..10].copy_from_slice(&[64, 1]);
    bytes[12..16].copy_from_slice(&from.octets());
    bytes[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&bytes, 5);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// RFC 8200; the options are a header of padding for the destination.
fn header6(
    from: Ipv6Addr,
    to: Ipv6Addr,
    id: u16,
    length: usize,
    fragment: Option<Fragment>,
    options: bool,
) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    const ICMPV6: u8 = 58;
    const DESTINATION: u8 = 60;
    let mut bytes = vec![0; 40];
    bytes[0] = 0x60;
    bytes[6..8].copy_from_slice(&[ICMPV6, 64]);
    bytes[8..24].copy_from_slice(&from.octets());
    bytes[24..40].copy_from_slice(&to.octets());
    if options {
        bytes[6] = DESTINATION;
        // The next header, no further 8 bytes, and PadN with 4 bytes of padding.
        bytes.extend([ICMPV6, 0, 1, 4, 0, 0, 0, 0]);
    }
    if let Some(f) = fragment {
        bytes[6] = FRAGMENT;
        bytes.extend([ICMPV6, 0]);
        bytes.extend((f.offset << 3 | u16::from(f.more)).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(id.to_be_bytes());
    }
    let payload = (bytes.len() - 40 + length) as u16;
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
    bytes
}

pub fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes, 1);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Packets and bytes on the wire, with their IP headers.
pub type Count = (u64, u64);

/// ICMP packets at a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// To the server.
    pub asked: Count,
    /// The kernel's own replies.
    pub echoed: Count,
    /// What the server sent on top: echo replies with `DONTADD`.
    pub on_top: Count,
}

/// Counts ICMP packets on a host's device, from and to it, until it is stopped; not those of neighbour and
/// multicast listener discovery.
pub struct Counter {
    stop: Arc<AtomicBool>,
    on_top: Arc<AtomicU64>,
    thread: JoinHandle<Traffic>,
}

impl Counter {
    pub fn start(ns: &Namespace, server: IpAddr) -> Self {
        const ALL: i32 = (libc::ETH_P_ALL as u16).to_be() as i32;
        let open = || Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ALL)));
        let socket = ns.run(open).unwrap().unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let on_top = Arc::new(AtomicU64::new(0));
        let seen_on_top = Arc::clone(&on_top);
        let thread = thread::spawn(move || {
            let mut traffic = Traffic::default();
            let mut buffer = [0; 2048];
            loop {
                let Ok(length) = (&socket).read(&mut buffer) else {
                    if stopped.load(Ordering::Relaxed) {
                        return traffic;
                    }
                    continue;
                };
                let packet = &buffer[..length];
                let Some((to, icmp)) = destination(packet, server) else {
                    continue;
                };
                let (packets, bytes) = if to == server {
                    &mut traffic.asked
                } else if icmp.get(11).is_some_and(|flags| flags & DONTADD as u8 != 0) {
                    &mut traffic.on_top
                } else {
                    &mut traffic.echoed
                };
                *packets += 1;
                *bytes += length as u64;
                seen_on_top.store(traffic.on_top.0, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            on_top,
            thread,
        }
    }

    /// Waits until so many packets on top have come.
    pub fn wait_on_top(&self, packets: u64) {
        until("packets on top", || self.on_top() >= packets);
    }

    /// Packets on top so far.
    pub fn on_top(&self) -> u64 {
        self.on_top.load(Ordering::Relaxed)
    }

    /// What went to the server, and what came back.
    pub fn stop(self) -> Traffic {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Where an ICMP packet of the family of `like` goes, and its message.
fn destination(packet: &[u8], like: IpAddr) -> Option<(IpAddr, &[u8])> {
    const DISCOVERY: [u8; 6] = [133, 134, 135, 136, 137, 143];
    match like {
        IpAddr::V4(_) => {
            let ip = Ipv4Packet::new(packet).filter(|ip| ip.get_version() == 4)?;
            let icmp = ip.get_next_level_protocol() == IpNextHeaderProtocols::Icmp;
            let header = usize::from(ip.get_header_length()) * 4;
            icmp.then_some((ip.get_destination().into(), packet.get(header..)?))
        }
        IpAddr::V6(_) => {
            let ip = Ipv6Packet::new(packet).filter(|ip| ip.get_version() == 6)?;
            let discovery = match ip.get_next_header() {
                IpNextHeaderProtocols::Icmpv6 => DISCOVERY.contains(packet.get(40)?),
                next => next == IpNextHeaderProtocols::Hopopt,
            };
            (!discovery).then_some((ip.get_destination().into(), packet.get(40..)?))
        }
    }
}

//! Other clients of a server, as many as a test wants: their requests have source addresses of one network, and
//! they return the server's cookies, or do not, as a sender with forged addresses cannot.

use super::harness::{sh, until};
use netns::{Lab, Namespace, Netlink};
use pingtrace::units::{SECOND, monotonic_ns};
use pingtrace::wire::entry::Entry;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, INBAND, Version};
use report::model::Point;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

/// The network of the sources.
const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 200, 0, 0), 16);
/// The ends of the cable between them and the server.
const CROWD: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);

/// Joins a new namespace to the server's, as the way to all sources. `local`: it has their addresses, so that
/// replies are received.
pub fn join(lab: &Lab, local: bool) -> Namespace {
    let crowd = Namespace::anonymous().unwrap();
    let server = &lab.server.ns;
    let add = || Netlink::open()?.add_veth("side", "eth0", &crowd);
    server.run(add).unwrap().unwrap();
    for (ns, device, address) in [(server, "side", SERVER), (&crowd, "eth0", CROWD)] {
        let configure = || {
            let mut netlink = Netlink::open()?;
            let index = netlink.link_named(device)?.index;
            netlink.add_address(index, address.into(), 24)?;
            netlink.set_up(index)
        };
        ns.run(configure).unwrap().unwrap();
    }
    let link = || crowd.run(|| Netlink::open()?.link_named("eth0")).unwrap();
    until("the cable carries", || link().is_ok_and(|l| l.running));
    let (network, length) = NETWORK;
    let route = || Netlink::open()?.add_route(network.into(), length, CROWD.into());
    server.run(route).unwrap().unwrap();
    if local {
        sh(
            &crowd,
            &format!("ip link set lo up; ip route add local {network}/{length} dev lo"),
        );
    }
    crowd
}

/// Who they are.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Addresses, at most 2^16.
    pub sources: u32,
    /// Sessions, each of one address; they send in turn.
    pub sessions: u32,
    /// Requests a second of all, at most.
    pub rate: u64,
    /// Requests in all.
    pub count: u64,
    /// They return cookies: their addresses must be [local](join).
    pub cookies: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Requests sent.
    pub sent: u64,
    /// Replies received.
    pub answered: u64,
    /// Late stamps in them: hand-overs of earlier replies to a driver.
    pub late: u64,
}

const FIRST_SESSION: u32 = 0x5000_0000;
/// ICMP message, bytes: with room for the stamps of two probes.
const SIZE: usize = 400;
const BURST: u64 = 32;

impl Crowd {
    /// Sends all requests to the server from the namespace that is [joined](join) to it.
    pub fn run(&self, ns: &Namespace) -> Outcome {
        let open = || (raw(libc::IPPROTO_RAW), raw(libc::IPPROTO_ICMP));
        let (out, back) = ns.run(open).expect("enter the namespace");
        let mut sessions = vec![0; self.sessions as usize];
        let mut done = Outcome::default();
        let start_ns = monotonic_ns();
        while done.sent < self.count {
            let due = (monotonic_ns() - start_ns) * self.rate / SECOND;
            let due = due.min(self.count).saturating_sub(done.sent).min(BURST);
            for _ in 0..due {
                self.send(&out, done.sent, &sessions);
                done.sent += 1;
            }
            receive(&back, &mut sessions, &mut done);
            if due == 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
        done
    }

    fn send(&self, socket: &Socket, number: u64, cookies: &[u64]) {
        let at = (number % u64::from(self.sessions)) as u32;
        let sequence = Sequence((number / u64::from(self.sessions)) as u32);
        let session = SessionId(FIRST_SESSION + at);
        let source = Ipv4Addr::from(u32::from(NETWORK.0) + 1 + at % self.sources);
        let mut probe = Probe::new(Family::V4, Version::V1, session, SIZE, INBAND);
        let cookie = if self.cookies {
            cookies[at as usize]
        } else {
            0
        };
        // The kernel sets length, identification and checksum (raw(7)).
        let mut bytes = vec![
            0x45,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            64,
            libc::IPPROTO_ICMP as u8,
            0,
            0,
        ];
        bytes.extend(source.octets());
        bytes.extend(SERVER.octets());
        bytes.extend(probe.at(sequence, cookie));
        let to = SocketAddr::new(IpAddr::V4(SERVER), 0).into();
        socket.send_to(&bytes, &to).expect("send a request");
    }
}

fn raw(protocol: i32) -> Socket {
    let protocol = Protocol::from(protocol);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).expect("a raw socket");
    socket.set_nonblocking(true).expect("not blocking");
    socket
}

/// Takes what has arrived, and its cookies.
fn receive(mut socket: &Socket, cookies: &mut [u64], done: &mut Outcome) {
    let mut buffer = [0; 2048];
    loop {
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) => panic!("receive: {e}"),
        };
        let message = buffer[..length].get(20..).unwrap_or_default();
        let Ok(packet) = packet::parse(message, Family::V4) else {
            continue;
        };
        let session = packet.session.0.checked_sub(FIRST_SESSION);
        if let Some(cookie) = session.and_then(|at| cookies.get_mut(at as usize)) {
            *cookie = packet.cookie;
            done.answered += u64::from(!packet.request);
            let handed_over = |e: &Entry| e.point == Point::RTxDevout;
            done.late += packet.entries().flatten().filter(handed_over).count() as u64;
        }
    }
}

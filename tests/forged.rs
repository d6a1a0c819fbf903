//! Malformed, truncated and forged packets, to client and server, while a run goes on: the run
//! takes no notice, counters move, and nothing is amplified.

use super::harness::{Finished, Server, finish, pingtrace};
use super::packets::{self, Packet};
use netns::{Host, Lab, Namespace, Netlink};
use pnet_packet::util::checksum;
use serde_json::Value;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Somebody else's address on the server's host and on the client's.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
const PROBES: u64 = 300;
/// IP options that mean nothing, as many as fit.
const NO_OPERATION: [u8; 40] = [1; 40];
/// A sequence number that the run never reaches.
const NEVER: u32 = 0x7000_0000;

fn raw(ns: &Namespace, protocol: i32) -> Socket {
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol)));
    let socket = ns.run(open).unwrap().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket
}

/// Sends IPv4 packets whose headers are made here.
struct Injector {
    socket: Socket,
    from: Ipv4Addr,
    to: Ipv4Addr,
    /// ICMP messages sent.
    sent: u64,
    id: u16,
}

impl Injector {
    fn new(ns: &Namespace, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        let socket = raw(ns, libc::IPPROTO_RAW);
        Self {
            socket,
            from,
            to,
            sent: 0,
            id: 1,
        }
    }

    fn message(&mut self, message: &[u8]) {
        self.packet(message, &[], 0);
        self.sent += 1;
        self.id = self.id.wrapping_add(1);
        // A burst would overrun buffers.
        thread::sleep(Duration::from_micros(500));
    }

    /// A message in two fragments.
    fn fragments(&mut self, message: &[u8]) {
        const MORE: u16 = 0x2000;
        let (first, second) = message.split_at(16);
        self.packet(first, &[], MORE);
        self.message_at(second, 2);
    }

    fn message_at(&mut self, part: &[u8], offset: u16) {
        self.packet(part, &[], offset);
        self.sent += 1;
        self.id += 1;
    }

    fn packet(&self, payload: &[u8], options: &[u8], fragment: u16) {
        let header = 20 + options.len();
        let mut bytes = vec![0; header];
        bytes[0] = 0x40 | (header / 4) as u8;
        bytes[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&self.id.to_be_bytes());
        bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
        bytes[8..10].copy_from_slice(&[64, 1]);
        bytes[12..16].copy_from_slice(&self.from.octets());
        bytes[16..20].copy_from_slice(&self.to.octets());
        bytes[20..].copy_from_slice(options);
        bytes.extend_from_slice(payload);
        let to: SockAddr = SocketAddr::new(IpAddr::V4(self.to), 0).into();
        self.socket.send_to(&bytes, &to).expect("inject");
    }
}

/// The message with these fields, and a right checksum; one too short for them stays as it is.
fn patched(message: &[u8], session: u32, sequence: u32) -> Vec<u8> {
    let mut bytes = message.to_vec();
    if bytes.len() < 24 {
        return bytes;
    }
    bytes[4..6].copy_from_slice(&(session as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&(sequence as u16).to_be_bytes());
    bytes[16..20].copy_from_slice(&session.to_be_bytes());
    bytes[20..24].copy_from_slice(&sequence.to_be_bytes());
    summed(bytes)
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes, 1);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A message of a file with one byte or more changed.
fn bent(message: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[at..at + bytes.len()].copy_from_slice(bytes);
    summed(message)
}

fn files() -> Vec<Packet> {
    let mut all = packets::all();
    all.retain(|p| p.key("family") == "4" && p.bytes.len() <= 1480);
    all
}

fn file(name: &str) -> Vec<u8> {
    files()
        .into_iter()
        .find(|p| p.name == name)
        .expect(name)
        .bytes
}

/// Starts a run, and finds out its session from its first probe.
fn running(lab: &Lab) -> (Child, u32) {
    let listener = raw(&lab.server.ns, libc::IPPROTO_ICMP);
    let mut run = pingtrace(
        &lab.client.ns,
        "-c 10.77.0.2 -i 5ms -C 300 -m 10s -o json --nslocal",
    );
    let mut buffer = [0; 2048];
    for _ in 0..50 {
        let Ok(length) = (&listener).read(&mut buffer) else {
            continue;
        };
        let bytes = &buffer[..length];
        if length >= 44 && bytes[20] == 8 {
            return (run, u32::from_be_bytes(bytes[36..40].try_into().unwrap()));
        }
    }
    let _ = run.wait();
    panic!("no probe arrives");
}

/// All probes answered, with all their stamps.
fn unaffected(run: &Finished) -> Value {
    assert_eq!(run.status, 0, "{run:#?}");
    let stat = run.stat();
    for (key, expected) in [
        ("sent", PROBES),
        ("replied", PROBES),
        ("lost", 0),
        ("late", 0),
        ("dup", 0),
        ("reordered", 0),
        ("no_remote", 0),
        ("recorded", 0),
    ] {
        assert_eq!(stat[key], expected, "{key}: {stat:#}");
    }
    assert!(
        stat["delays"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["delay"] == "r_tx_kern" && d["count"] == PROBES),
        "{stat:#}"
    );
    assert_eq!(run.lines("run").last().unwrap()["mode"], "inband");
    stat
}

fn number(stat: &Value, key: &str) -> u64 {
    stat[key].as_u64().unwrap()
}

fn lab() -> (Lab, Server) {
    let lab = Lab::veth_pair().unwrap();
    for host in [&lab.server, &lab.client] {
        let add = || Netlink::open()?.add_address(host.ifindex, STRANGER.into(), 32);
        host.ns.run(add).unwrap().unwrap();
    }
    let server = Server::start(&lab.server.ns, "--nslocal");
    (lab, server)
}

/// Another neighbour of the client: what it forges does not pass the server's programs.
fn third_host(lab: &Lab) -> Namespace {
    let eve = Namespace::anonymous().unwrap();
    let set_up = |device: &str, address: &str| {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named(device)?.index;
        netlink.add_address(index, address.parse().unwrap(), 24)?;
        netlink.set_up(index)
    };
    let client_side = || {
        Netlink::open()?.add_veth("eve0", "eve1", &eve)?;
        set_up("eve0", "10.79.0.1")
    };
    lab.client.ns.run(client_side).unwrap().unwrap();
    let eve_side = || {
        set_up("eve1", "10.79.0.2")?;
        let via = Ipv4Addr::new(10, 79, 0, 1);
        Netlink::open()?.add_route(Ipv4Addr::new(10, 77, 0, 0).into(), 24, via.into())
    };
    eve.run(eve_side).unwrap().unwrap();
    eve
}

#[test]
fn without_forgery_no_counter_moves() {
    let (lab, _server) = lab();
    let (run, _) = running(&lab);
    let stat = unaffected(&finish(run));
    for key in ["malformed", "bad_checksum", "unknown_points", "lost_stamps"] {
        assert_eq!(number(&stat, key), 0, "{key}: {stat:#}");
    }
}

#[test]
fn a_client_takes_no_notice() {
    let (lab, _server) = lab();
    let eve = third_host(&lab);
    let (run, session) = running(&lab);
    let mut peer = Injector::new(&eve, SERVER, CLIENT);
    let mut stranger = Injector::new(&eve, STRANGER, CLIENT);
    for file in files().iter().filter(|f| f.bytes.first() == Some(&0)) {
        peer.message(&file.bytes);
        peer.message(&patched(&file.bytes, session, NEVER));
        stranger.message(&patched(&file.bytes, session, 1));
        stranger.message(&patched(&file.bytes, session ^ 0xff_0000, 1));
    }
    // Whom they are for is right, and what they say is not.
    let record = patched(&file("v1-record"), session, 1);
    for back in [1_u16, 2, 0x7fff, 0xfffe] {
        peer.message(&bent(
            &patched(&record, session, 0),
            48 + 22,
            &back.to_be_bytes(),
        ));
    }
    let unknown = patched(&file("v1-reply-unknown-point"), session, NEVER);
    peer.message(&bent(&unknown, 11, &[1]));
    let mut wrong_sum = patched(&file("v1-reply-inband"), session, 0);
    wrong_sum[2] ^= 0x55;
    peer.message(&wrong_sum);
    let unasked = patched(&file("v1-reply-bare"), session, NEVER);
    peer.message(&unasked);
    peer.fragments(&unasked);
    peer.packet(&unasked, &NO_OPERATION, 0);
    let stat = unaffected(&finish(run));
    assert!(number(&stat, "malformed") > 10, "{stat:#}");
    assert!(number(&stat, "bad_checksum") >= 1, "{stat:#}");
    assert!(number(&stat, "unknown_points") >= 1, "{stat:#}");
}

/// Counts ICMP frames and bytes on a host's device, from and to it, until it is stopped.
struct Counter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<[(u64, u64); 2]>,
}

impl Counter {
    fn start(host: &Host) -> Self {
        const ALL: i32 = (libc::ETH_P_ALL as u16).to_be() as i32;
        let open = || Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ALL)));
        let socket = host.ns.run(open).unwrap().unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut counts = [(0, 0); 2];
            let mut buffer = [0; 2048];
            loop {
                let Ok(length) = (&socket).read(&mut buffer) else {
                    if stopped.load(Ordering::Relaxed) {
                        return counts;
                    }
                    continue;
                };
                let bytes = &buffer[..length];
                if length < 20 || bytes[0] >> 4 != 4 || bytes[9] != 1 {
                    continue;
                }
                let to_server = bytes[16..20] == SERVER.octets();
                let (frames, total) = &mut counts[usize::from(!to_server)];
                *frames += 1;
                *total += length as u64;
            }
        });
        Self { stop, thread }
    }

    /// What went to the server, and what came back.
    fn stop(self) -> [(u64, u64); 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_server_takes_no_notice_and_amplifies_nothing() {
    let (lab, server) = lab();
    let counter = Counter::start(&lab.client);
    let (run, session) = running(&lab);
    let mut own = Injector::new(&lab.client.ns, CLIENT, SERVER);
    let mut stranger = Injector::new(&lab.client.ns, STRANGER, SERVER);
    let mut owed = 0;
    for file in &files() {
        let as_request = match file.bytes.first() {
            Some(0) => bent_type(&file.bytes),
            _ => file.bytes.clone(),
        };
        own.message(&file.bytes);
        own.message(&as_request);
        stranger.message(&patched(&as_request, session, 1));
        owed += 3;
    }
    let request = file("v1-request");
    for (at, bytes) in [
        (14, [0xff, 0xff].as_slice()),
        (9, &[0xff]),
        (9, &[20]),
        (10, &[0, 7]),
        (10, &[0, 1]),
        (10, &[0xff, 0xff]),
        (8, &[0, 0xff]),
    ] {
        own.message(&bent(&request, at, bytes));
        owed += 1;
    }
    own.fragments(&request);
    own.packet(&request, &NO_OPERATION, 0);
    let stat = unaffected(&finish(run));
    assert!(number(&stat, "sent") == PROBES);
    let [(asked, asked_bytes), (came, came_bytes)] = counter.stop();
    assert!(asked > PROBES + owed, "{asked} packets asked");
    // A record packet at most for each that may have asked for one.
    assert!(came <= asked + owed, "{came} packets for {asked}");
    assert!(
        came_bytes <= 2 * asked_bytes,
        "{came_bytes} bytes for {asked_bytes}"
    );
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success(), "{story:#?}");
}

/// A reply's message as a request.
fn bent_type(message: &[u8]) -> Vec<u8> {
    if message.len() < 8 {
        return message.to_vec();
    }
    bent(message, 0, &[8])
}

#[test]
fn requests_that_forbid_a_record_get_none() {
    let (lab, server) = lab();
    let counter = Counter::start(&lab.client);
    let mut own = Injector::new(&lab.client.ns, CLIENT, SERVER);
    // DONTADD with all other flags, a wrong version, no magic, and in-band alone.
    let request = file("v1-request");
    for n in 0..100 {
        let message = patched(&request, 0x1234_5678, n);
        own.message(&bent(&message, 10, &[0, 7]));
        own.message(&bent(&message, 8, &[2]));
        own.message(&bent(&message, 12, &[0x12, 0x34]));
        own.message(&bent(&message, 10, &[0, 2]));
    }
    thread::sleep(Duration::from_millis(50));
    let [asked, came] = counter.stop();
    assert_eq!(asked.0, own.sent);
    assert_eq!(came, asked, "packets and bytes");
    drop(server);
}

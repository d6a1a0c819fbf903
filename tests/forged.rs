//! Malformed, truncated and forged packets, to client and server, while a run goes on: the run
//! takes no notice, counters move, and nothing is amplified.

use super::harness::{Finished, Server, finish, pingtrace};
use super::kit::attacker::{Counter, Injector, raw, summed};
use super::packets::{self, Packet};
use netns::{Lab, Namespace, Netlink};
use pingtrace::wire::packet;
use pingtrace::wire::protocol::Family;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Child;
use std::thread;
use std::time::Duration;

/// Who is who, in one address family.
#[derive(Clone, Copy)]
struct Net {
    family: Family,
    client: IpAddr,
    server: IpAddr,
    /// Somebody else's address on the server's host and on the client's.
    stranger: IpAddr,
    /// Between the client and a third host, which has the second.
    aside: [IpAddr; 2],
}

const V4: Net = Net {
    family: Family::V4,
    client: v4(77, 1),
    server: v4(77, 2),
    stranger: v4(77, 9),
    aside: [v4(79, 1), v4(79, 2)],
};
const V6: Net = Net {
    family: Family::V6,
    client: v6(0xfd77, 1),
    server: v6(0xfd77, 2),
    stranger: v6(0xfd77, 9),
    aside: [v6(0xfd79, 1), v6(0xfd79, 2)],
};

const fn v4(net: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, net, 0, host))
}

const fn v6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(net, 0, 0, 0, 0, 0, 0, host))
}

const PROBES: u64 = 300;
/// A sequence number that the run never reaches.
const NEVER: u32 = 0x7000_0000;

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

/// A message of a file with one byte or more changed.
fn bent(message: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[at..at + bytes.len()].copy_from_slice(bytes);
    summed(message)
}

fn files() -> Vec<Packet> {
    let mut all = packets::all();
    all.retain(|p| p.key("family") == "4" && p.bytes.len() <= 1460);
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
fn running(lab: &Lab, net: &Net, interval: &str) -> (Child, u32) {
    // An IPv6 socket does not give the IP header.
    let (protocol, header) = match net.family {
        Family::V4 => (libc::IPPROTO_ICMP, 20),
        Family::V6 => (libc::IPPROTO_ICMPV6, 0),
    };
    let listener = raw(&lab.server.ns, net.family, protocol);
    let mut run = pingtrace(
        &lab.client.ns,
        &format!(
            "-c {} -i {interval} -C {PROBES} -m 10s -o json --nslocal",
            net.server
        ),
    );
    let mut buffer = [0; 2048];
    for _ in 0..50 {
        let Ok(length) = (&listener).read(&mut buffer) else {
            continue;
        };
        let message = packet::parse(&buffer[header.min(length)..length], net.family);
        if let Ok(probe) = message
            && probe.request
        {
            return (run, probe.session.0);
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

fn lab(net: &Net) -> (Lab, Server) {
    let lab = Lab::veth_pair().unwrap();
    let host_bits = if net.server.is_ipv4() { 32 } else { 128 };
    for host in [&lab.server, &lab.client] {
        // On loopback, so that nothing is sent from it.
        let add = || {
            let mut netlink = Netlink::open()?;
            let loopback = netlink.link_named("lo")?.index;
            netlink.add_address(loopback, net.stranger, host_bits)
        };
        host.ns.run(add).unwrap().unwrap();
    }
    let server = Server::start(&lab.server.ns, "--nslocal");
    (lab, server)
}

/// Another neighbour of the client: what it forges does not pass the server's programs.
fn third_host(lab: &Lab, net: &Net) -> Namespace {
    let eve = Namespace::anonymous().unwrap();
    let prefix = if net.server.is_ipv4() { 24 } else { 64 };
    let set_up = |device: &str, address: IpAddr| {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named(device)?.index;
        netlink.add_address(index, address, prefix)?;
        netlink.set_up(index)
    };
    let [near, far] = net.aside;
    // It asks for its neighbour from an address that must not wait for duplicate detection.
    let at_once = || fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    eve.run(at_once).unwrap().unwrap();
    let client_side = || {
        Netlink::open()?.add_veth("eve0", "eve1", &eve)?;
        set_up("eve0", near)
    };
    lab.client.ns.run(client_side).unwrap().unwrap();
    let eve_side = || {
        set_up("eve1", far)?;
        let network = match net.family {
            Family::V4 => v4(77, 0),
            Family::V6 => v6(0xfd77, 0),
        };
        Netlink::open()?.add_route(network, prefix, near)
    };
    eve.run(eve_side).unwrap().unwrap();
    eve
}

#[test]
fn without_forgery_no_counter_moves() {
    for net in [V4, V6] {
        let (lab, _server) = lab(&net);
        let (run, _) = running(&lab, &net, "5ms");
        let stat = unaffected(&finish(run));
        for key in ["malformed", "bad_checksum", "unknown_points", "lost_stamps"] {
            assert_eq!(number(&stat, key), 0, "{key}: {stat:#}");
        }
    }
}

#[test]
fn a_client_takes_no_notice_over_ipv4() {
    let stat = attacked_client(&V4);
    assert!(number(&stat, "bad_checksum") >= 1, "{stat:#}");
}

/// Of a wrong checksum the client hears nothing: the kernel drops it.
#[test]
fn a_client_takes_no_notice_over_ipv6() {
    let stat = attacked_client(&V6);
    assert_eq!(number(&stat, "bad_checksum"), 0, "{stat:#}");
}

fn attacked_client(net: &Net) -> Value {
    let (lab, _server) = lab(net);
    let eve = third_host(&lab, net);
    let (run, session) = running(&lab, net, "5ms");
    let mut peer = Injector::new(&eve, net.server, net.client);
    let mut stranger = Injector::new(&eve, net.stranger, net.client);
    for file in files().iter().filter(|f| f.bytes.first() == Some(&0)) {
        peer.message(&file.bytes);
        peer.message(&patched(&file.bytes, session, NEVER));
        stranger.message(&patched(&file.bytes, session, 1));
        stranger.message(&patched(&file.bytes, session ^ 0xff_0000, 1));
    }
    // Whom they are for is right, and what they say is not.
    let record = patched(&file("v1-record"), session, 1);
    for back in [1_u16, 2, 0x7fff, 0x8001] {
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
    peer.with_options(&unasked);
    let stat = unaffected(&finish(run));
    assert!(number(&stat, "malformed") > 10, "{stat:#}");
    assert!(number(&stat, "unknown_points") >= 1, "{stat:#}");
    stat
}

#[test]
fn a_server_takes_no_notice_and_amplifies_nothing() {
    [V4, V6].iter().for_each(attacked_server);
}

fn attacked_server(net: &Net) {
    let (lab, server) = lab(net);
    let counter = Counter::start(&lab.client.ns, net.server);
    let (run, session) = running(&lab, net, "5ms");
    let mut own = Injector::new(&lab.client.ns, net.client, net.server);
    let mut stranger = Injector::new(&lab.client.ns, net.stranger, net.server);
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
    own.with_options(&request);
    let stat = unaffected(&finish(run));
    assert!(number(&stat, "sent") == PROBES);
    let traffic = counter.stop();
    assert!(traffic.asked.0 > PROBES + owed, "{traffic:?}");
    // No forged one has a cookie; those of version 0 need none.
    assert!(traffic.on_top.0 <= owed, "{traffic:?}");
    assert!(traffic.on_top.1 <= traffic.asked.1, "{traffic:?}");
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
    [V4, V6].iter().for_each(forbidden);
}

fn forbidden(net: &Net) {
    let (lab, server) = lab(net);
    let counter = Counter::start(&lab.client.ns, net.server);
    let mut own = Injector::new(&lab.client.ns, net.client, net.server);
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
    let traffic = counter.stop();
    assert_eq!(traffic.asked.0, own.sent);
    assert_eq!(traffic.echoed.0 + traffic.on_top.0, own.sent, "{traffic:?}");
    assert_eq!(
        traffic.echoed.1 + traffic.on_top.1,
        traffic.asked.1,
        "{traffic:?}"
    );
    drop(server);
}

/// A flood of records for one probe in flight and one that never was: the client's memory and the
/// line of a probe stay as they are, and what was refused is counted.
#[test]
fn forged_records_take_neither_memory_nor_lines() {
    const FLOOD: u64 = 30_000;
    let net = &V4;
    let (lab, _server) = lab(net);
    let eve = third_host(&lab, net);
    let (run, session) = running(&lab, net, "30ms");
    let mut peer = Injector::new(&eve, net.server, net.client);
    let record = file("v1-record");
    let before = resident_kb(run.id());
    for k in 0..FLOOD {
        // Those that are not sent yet, and those that are waited for.
        let sequence = if k % 2 == 0 {
            NEVER
        } else {
            (k / 1_000) as u32
        };
        let mut forged = patched(&record, session, sequence);
        forged[48..56].copy_from_slice(&k.to_be_bytes());
        peer.packet(&summed(forged), None, false);
        peer.done();
    }
    let after = resident_kb(run.id());
    assert!(after < before + 8_192, "{before} kB grew to {after} kB");
    let run = finish(run);
    assert_eq!(run.status, 0, "{run:#?}");
    let stat = run.stat();
    assert_eq!(number(&stat, "replied"), PROBES, "{stat:#}");
    assert!(number(&stat, "refused") > 1_000, "{stat:#}");
    let longest = run.stdout.lines().map(str::len).max();
    assert!(longest < Some(1 << 20), "{longest:?}");
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

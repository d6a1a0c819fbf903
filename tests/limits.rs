//! Where a table, a rate or a packet ends: what is beyond is counted and said, and the rest is right.

use super::harness::{Server, alone, client, finish, kill, pingtrace, points, status, sum, until};
use netns::{Lab, Namespace, Netlink};
use pingtrace::units::monotonic_ns;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, INBAND, Version};
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use serde_json::Value;
use std::fs;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

/// Of the server: records, stamp packets a second to one client, and the seconds of its burst.
const SLOTS: u32 = 8192;
const SOURCE_RATE: u64 = 20_000;
const BURST: u64 = SOURCE_RATE / 10;
const SESSION: SessionId = SessionId(0x1234_5678);

/// The number behind these words in a server's story; 0 when it did not say them.
fn said(story: &[String], words: &str) -> u64 {
    let told = story.iter().find_map(|line| line.split_once(words));
    told.map_or(0, |(_, number)| {
        number.trim_start_matches(": ").parse().expect(words)
    })
}

fn record_packets_sent(story: &[String]) -> u64 {
    let line = story.iter().find(|l| l.ends_with("stamp packets sent"));
    let words: Vec<_> = line.expect("a summary").split(' ').collect();
    words[words.len() - 4].parse().expect("a number")
}

fn open(ns: &Namespace) -> ProbeSocket {
    let open = || ProbeSocket::open(Family::V4, &Options::default());
    ns.run(open).unwrap().unwrap()
}

/// Sends probes as fast as it can; what came back of them: echo replies, and stamp packets.
fn flood(socket: &ProbeSocket, to: Ipv4Addr, mut probe: Probe, count: u32) -> [u64; 2] {
    let to = SocketAddr::new(IpAddr::V4(to), 0).into();
    for sequence in 0..count {
        socket
            .send(probe.at(Sequence(sequence), monotonic_ns()), &to)
            .expect("send");
    }
    take(socket).0
}

/// What has arrived: echo replies and stamp packets, and when the last of them had.
fn take(socket: &ProbeSocket) -> ([u64; 2], u64) {
    let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
    let (mut came, mut last_ns) = ([0; 2], 0);
    while let (Received::Reply(reply), _) = socket.receive(&mut buffer).expect("receive") {
        let packet = packet::parse(reply.message, Family::V4).expect("a whole packet");
        if packet.session == SESSION {
            came[usize::from(packet.is_stamp_packet())] += 1;
            last_ns = monotonic_ns();
        }
    }
    (came, last_ns)
}

/// A server that was kept from its work owes more stamp packets than it may send at once.
#[test]
fn record_packets_stay_under_their_rate_and_replies_do_not_suffer() {
    const COUNT: u32 = SLOTS - 192;
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    kill(server.pid(), libc::SIGSTOP);
    let probe = Probe::new(Family::V4, Version::V0, SESSION, 200, 0);
    let socket = open(&lab.client.ns);
    let came = flood(&socket, lab.server.v4, probe, COUNT);
    assert_eq!(came, [u64::from(COUNT), 0], "the kernel's own replies");
    let begun_ns = monotonic_ns();
    kill(server.pid(), libc::SIGCONT);
    let (mut arrived, mut last_ns) = (0, begun_ns);
    let story = thread::scope(|scope| {
        let stop = scope.spawn(|| server.stop(libc::SIGTERM));
        while !stop.is_finished() {
            let ([_, more], at_ns) = take(&socket);
            arrived += more;
            last_ns = last_ns.max(at_ns);
        }
        let (exit, story) = stop.join().unwrap();
        assert!(exit.success(), "{story:#?}");
        story
    });
    let sent = record_packets_sent(&story);
    let limited = said(&story, "rate limit of one client");
    assert_eq!(sent, arrived, "{story:#?}");
    assert_eq!(sent + limited, u64::from(COUNT), "{story:#?}");
    // Of a machine that cannot send more in this time none is held back.
    let allowed = BURST + SOURCE_RATE * (last_ns - begun_ns) / 1_000_000_000 + 1;
    assert!(
        (BURST..=allowed).contains(&sent),
        "{sent} of {allowed}: {story:#?}"
    );
}

/// More probes in flight than the server remembers: theirs are counted, and a client among them
/// gets its own stamps or none.
#[test]
fn evicted_records_are_counted_and_no_stamp_is_anothers() {
    const COUNT: u32 = 3 * SLOTS;
    const PROBES: u32 = 500;
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    // Requests that arrive at the server's host and are for nobody: no reply ever leaves.
    let nobody = Ipv4Addr::new(10, 99, 0, 1);
    let via = lab.server.v4.into();
    let add = || Netlink::open()?.add_route(nobody.into(), 32, via);
    lab.client.ns.run(add).unwrap().unwrap();
    let args = format!("-c {} --nslocal -i 2ms -C {PROBES} -o json", lab.server.v4);
    let run = pingtrace(&lab.client.ns, &args);
    let probe = Probe::new(Family::V4, Version::V1, SESSION, 556, INBAND);
    let came = flood(&open(&lab.client.ns), nobody, probe, COUNT);
    assert_eq!(came, [0, 0]);
    let run = finish(run);
    let (_, story) = server.stop(libc::SIGTERM);
    let evicted = said(&story, "slots reused before their reply left");
    let expected = u64::from(COUNT - SLOTS);
    let slack = u64::from(2 * PROBES);
    assert!(evicted.abs_diff(expected) <= slack, "{story:#?}");
    let stat = run.stat();
    assert_eq!(
        (run.status, &stat["replied"]),
        (0, &PROBES.into()),
        "{stat:#}"
    );
    let probes = run.probes();
    probes.iter().for_each(assert_own_stamps);
    let without = probes
        .iter()
        .filter(|p| !points(p).contains(&"r_tx_devout"))
        .count();
    assert_eq!(stat["no_remote"], without, "{stat:#}");
}

/// Both ends read one clock here, so another probe's stamp would lie outside this one's time.
fn assert_own_stamps(probe: &Value) {
    assert_eq!(sum(probe), probe["total_ns"].as_u64().unwrap(), "{probe:#}");
    // Not those of the softirq, which can have begun for an earlier packet.
    let order = [
        "l_tx_devout",
        "r_rx_devrcv",
        "r_rx_icmprcv",
        "r_tx_devqueue",
        "r_tx_devout",
        "l_rx_iprcv",
    ];
    let points = probe["points"].as_array().unwrap();
    let known = points
        .iter()
        .filter(|p| order.iter().any(|o| p["point"] == *o));
    assert!(known.is_sorted_by_key(|p| p["ns"].as_u64()), "{probe:#}");
}

/// So many devices on one kernel that a direction has more stamps than a record holds.
#[test]
fn a_longer_way_than_a_record_holds_is_said_and_its_sum_is_exact() {
    const PROBES: u64 = 60;
    let row = chain(12);
    let [first, .., last] = row.as_slice() else {
        panic!("no row")
    };
    let server = Server::start(last, "");
    let run = client(
        first,
        &format!("-c 10.12.0.2 -n -i 5ms -C {PROBES} -o text,json"),
    );
    let (_, story) = server.stop(libc::SIGTERM);
    assert_eq!(run.status, 0, "{run:#?}");
    let (stat, probes) = (run.stat(), run.probes());
    assert_eq!(stat["replied"], PROBES, "{stat:#}");
    assert_eq!(probes.len() as u64, PROBES);
    for probe in &probes {
        assert_eq!(status(probe), "ok");
        assert_eq!(sum(probe), probe["total_ns"].as_u64().unwrap(), "{probe:#}");
    }
    // Two directions, and at least one stamp too many in each.
    let beyond = stat["lost_stamps"].as_u64().unwrap();
    assert!(beyond >= 2 * PROBES, "{stat:#}");
    assert!(
        run.stderr.contains(&format!("lost stamps {beyond}")),
        "{}",
        run.stderr
    );
    // What lies between is not the server's, on one kernel.
    assert_eq!(
        said(&story, "stamps beyond 32 a direction"),
        0,
        "{story:#?}"
    );
}

/// The far target has more stamps than a slot holds, the near one has not.
#[test]
fn lost_stamps_are_those_of_their_target() {
    const PROBES: u64 = 10;
    let row = chain(12);
    let args = format!("-c 10.12.0.2 -c 10.1.0.2 -i 20ms -C {PROBES} -m 1s -o json");
    let run = client(&row[0], &args);
    let lost = |target: &str| {
        let stats = run.lines("stat");
        let of = stats.iter().find(|stat| stat["target"] == *target).unwrap();
        of["lost_stamps"].as_u64().unwrap()
    };
    let (far, near) = (lost("10.12.0.2"), lost("10.1.0.2"));
    assert!(far >= 2 * PROBES && near == 0, "{far}, {near}");
}

/// A row of routers: the first is 10.1.0.1 and, `cables` cables away, the last 10.`cables`.0.2.
fn chain(cables: u8) -> Vec<Namespace> {
    let hosts: Vec<_> = (0..=cables)
        .map(|_| Namespace::anonymous().unwrap())
        .collect();
    let address = |cable, end| IpAddr::from([10, cable, 0, end]);
    for (cable, ends) in (1..=cables).zip(hosts.windows(2)) {
        let join = || Netlink::open()?.add_veth("right", "left", &ends[1]);
        ends[0].run(join).unwrap().unwrap();
        for (ns, device, end) in [(&ends[0], "right", 1), (&ends[1], "left", 2)] {
            let configure = || {
                let mut netlink = Netlink::open()?;
                let index = netlink.link_named(device)?.index;
                netlink.add_address(index, address(cable, end), 24)?;
                netlink.set_up(index)
            };
            ns.run(configure).unwrap().unwrap();
        }
    }
    for ns in &hosts {
        let links = || ns.run(|| Netlink::open()?.links()).unwrap().unwrap();
        let carries = |l: &netns::Link| l.running || l.name == "lo";
        until("every cable carries", || links().iter().all(carries));
    }
    for (at, ns) in (0..).zip(&hosts) {
        let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        ns.run(forward).unwrap().unwrap();
        let routes = || {
            let mut netlink = Netlink::open()?;
            let mut add = |to, via| netlink.add_route(address(to, 0), 24, via);
            (1..at).try_for_each(|to| add(to, address(at, 1)))?;
            (at + 2..=cables).try_for_each(|to| add(to, address(at + 1, 2)))
        };
        ns.run(routes).unwrap().unwrap();
    }
    hosts
}

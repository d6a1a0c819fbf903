//! Every lost probe is placed where it was lost, with the kernel's reason where a kernel dropped it.

use super::crowd::{self, Crowd};
use super::harness::{
    Finished, Server, alone, at_device, client, finish, kill, pingtrace, points, program, start,
    status, until, wire,
};
use super::kit::attacker::wait_for_cookie;
use netns::{Host, Lab, Namespace};
use pingtrace::selftest::inject::forwarder::{Action, Forwarder, Kind, Plan, Rule};
use pingtrace::wire::protocol::Family;
use pingtrace::wire::socket::ProbeSocket;
use report::model::Direction;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// 200 probes a second for some two seconds. The timeout is long for a server that must wait for a CPU: it reports a
/// loss after 100 ms.
const PROBES: &str = "-i 5ms -C 400 -W 1 -o json";
/// A fault begins after some answered probes and ends before the last ones.
const BEFORE: u64 = 50;
const FAULT: Duration = Duration::from_millis(400);

#[test]
fn a_full_queue_of_the_client_is_the_clients_queue() {
    for options in ["--nslocal", ""] {
        let lab = Lab::veth_pair().unwrap();
        let _server = Server::start(&lab.server.ns, options);
        let run = with_fault(
            &lab,
            options,
            || shape(&lab.client),
            || unshape(&lab.client),
        );
        assert_placed(&run, "client_queue", "out", Some(("client", "QDISC_DROP")));
        for probe in lost(&run) {
            assert_eq!(points(&probe).last(), Some(&"l_tx_devqueue"), "{probe:#}");
            assert_eq!(probe["loss"]["drop"]["dev"], "eth0", "{probe:#}");
            assert_eq!(probe["loss"]["drop"]["location"], "__dev_queue_xmit");
        }
    }
}

/// The report is shorter than the replies, and passes the queue that drops them.
#[test]
fn a_full_queue_of_the_server_is_the_servers_reply() {
    for options in ["--nslocal", "", "--nslocal --mode compact"] {
        let lab = Lab::veth_pair().unwrap();
        let _server = Server::start(&lab.server.ns, options.split(" --mode").next().unwrap());
        let run = with_fault(
            &lab,
            options,
            || shape(&lab.server),
            || unshape(&lab.server),
        );
        assert_placed(&run, "server_reply", "in", Some(("server", "QDISC_DROP")));
        for probe in lost(&run) {
            assert_eq!(probe["loss"]["last"], "r_tx_devqueue", "{probe:#}");
            assert_eq!(probe["loss"]["drop"]["dev"], "eth0", "{probe:#}");
            assert_eq!(probe["loss"]["drop"]["reply"], true, "{probe:#}");
        }
    }
}

/// The reply was handed to the driver of a macvlan or a bridge, and dropped by the device below.
#[test]
fn a_full_queue_below_the_servers_device_is_the_servers_reply() {
    for lab in [Lab::macvlan(), Lab::bridged()] {
        let lab = lab.unwrap();
        let _server = Server::start(&lab.server.ns, "--userid 7");
        let run = with_fault(
            &lab,
            "--userid 3",
            || shape(&lab.server),
            || unshape(&lab.server),
        );
        let lost = lost(&run);
        assert!(!lost.is_empty(), "{:#}", run.stat());
        for probe in lost {
            assert_eq!(probe["loss"]["place"], "server_reply", "{probe:#}");
            // The report of the drop may come too late.
            let drop = &probe["loss"]["drop"];
            assert!(drop.is_null() || drop["dev"] == "eth0", "{probe:#}");
        }
    }
}

/// What exceeds the burst is dropped at once: 598 bytes of probe do, a report does not.
fn shape(host: &Host) {
    token_bucket(host, 500);
}

/// The queue stays: with it the reports that wait there would go.
fn unshape(host: &Host) {
    token_bucket(host, 100_000);
}

fn token_bucket(host: &Host, burst: u32) {
    at_device(&host.ns, "eth0", |netlink, eth0| {
        netlink.tbf(eth0, 12_500_000, burst, 100_000)
    });
}

/// Short and long losses on the way out and on the way in, told apart by the server's status alone.
#[test]
fn the_wire_out_and_the_wire_in_are_told_apart() {
    let _alone = alone();
    let both = [
        (Direction::Request, "wire_out", "out", "l_tx_devout"),
        (Direction::Reply, "wire_in", "in", "r_tx_devout"),
    ];
    for (direction, place, way, last) in both {
        let some = Rule::at(direction, [20, 21, 40], Action::Drop);
        let many = Rule {
            range: Some(100..=300),
            ..Rule::all(direction, Action::Drop)
        };
        // The very last ones have nothing after them but the probes that only collect.
        let end = Rule {
            range: Some(395..=399),
            ..Rule::all(direction, Action::Drop)
        };
        let (lab, _wire) = wire(Plan::new(MS, [some, many, end]));
        let _server = Server::start(&lab.server.ns, "--nslocal");
        for host in [lab.server.v4.to_string(), lab.server.v6.to_string()] {
            let run = client(&lab.client.ns, &format!("-c {host} --nslocal {PROBES}"));
            assert_eq!(lost(&run).len(), 3 + 201 + 5, "{:#}", run.stat());
            assert_placed(&run, place, way, None);
            for probe in lost(&run) {
                assert_eq!(probe["loss"]["last"], last, "{probe:#}");
            }
        }
    }
}

/// A wire that loses every notice of the server.
fn wire_without_notices(rules: impl IntoIterator<Item = Rule>) -> (Lab, Forwarder) {
    let notice = Rule {
        kind: Some(Kind::Record),
        ..Rule::all(Direction::Reply, Action::Drop)
    };
    let rules: Vec<Rule> = std::iter::once(notice).chain(rules).collect();
    wire(Plan::new(MS, rules))
}

/// The server's firewall drops replies before any queue: without a notice, only its status tells
/// that from a request that it took and did not answer.
#[test]
fn a_dropped_reply_whose_notice_is_lost_is_the_servers_reply() {
    let _alone = alone();
    let (lab, _wire) = wire_without_notices([]);
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let nft = |commands: &str| {
        let run = || Command::new("nft").arg(commands).status();
        assert!(lab.server.ns.run(run).unwrap().unwrap().success());
    };
    let begin = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
                 add rule inet t o icmp type echo-reply drop";
    let run = with_fault(
        &lab,
        "--nslocal",
        || nft(begin),
        || nft("delete table inet t"),
    );
    assert_placed(&run, "server_reply", "in", None);
}

/// Odd replies are lost, and their requests arrive late: the server is asked about an older loss
/// while they are under way.
#[test]
fn what_the_server_says_of_a_probe_under_way_is_not_believed() {
    let _alone = alone();
    let unsent = Rule::at(
        Direction::Request,
        (10..100).step_by(30).collect::<Vec<_>>(),
        Action::Drop,
    );
    let odd: Vec<u32> = (11..100).step_by(2).collect();
    let late = Rule::at(Direction::Request, odd.clone(), Action::Delay(100 * MS));
    let lost_in = Rule::at(Direction::Reply, odd, Action::Drop);
    let (lab, _wire) = wire_without_notices([unsent, late, lost_in]);
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!(
        "-c {} --nslocal -i 20ms -C 120 -W 0.3 -o json",
        lab.server.v4
    );
    let run = client(&lab.client.ns, &args);
    assert_eq!(lost(&run).len(), 3 + 45, "{:#}", run.stat());
    for probe in lost(&run) {
        let sequence = probe["seq"].as_u64().unwrap();
        let place = if sequence % 2 == 0 {
            "wire_out"
        } else {
            "wire_in"
        };
        assert_eq!(probe["loss"]["place"], place, "{probe:#}");
    }
}

/// A run whose replies 250 to 1750 are lost, and what `meanwhile` does while the client stands still after
/// some of them: the server's stamps of these never travel. The first reply after them would bring these, and is seconds
/// away. By then the server knows the session as a fast one, whose slots go before those of strangers.
fn with_lost_replies(meanwhile: impl FnOnce(&Lab, Server) -> Server) {
    let _alone = alone();
    let some = Rule {
        range: Some(250..=1750),
        ..Rule::all(Direction::Reply, Action::Drop)
    };
    let (lab, wire) = wire_without_notices([some]);
    let server = Server::start(&lab.server.ns, "--nslocal");
    let options = "--nslocal --mode inband -i 2ms -C 1850 -W 2 -o json";
    let child = pingtrace(&lab.client.ns, &format!("-c {} {options}", lab.server.v4));
    until("replies are lost", || carried(&wire, 270, Direction::Reply));
    kill(child.id(), libc::SIGSTOP);
    let _server = meanwhile(&lab, server);
    kill(child.id(), libc::SIGCONT);
    let run = finish(child);
    // What a slow wire did not take from the client is lost there, whichever probe it was.
    let log = wire.stop();
    let carried_out = |probe: &Value| {
        let sequence = probe["seq"].as_u64().unwrap() as u32;
        let mut entries = log.entries_for(sequence, Direction::Request);
        entries.next().is_some()
    };
    assert!(lost(&run).len() >= 1501, "{:#}", run.stat());
    let (carried, _): (Vec<_>, Vec<_>) = lost(&run).into_iter().partition(carried_out);
    let early = |probe: &&Value| (250..=255).contains(&probe["seq"].as_u64().unwrap());
    assert!(carried.iter().any(|probe| early(&probe)), "{carried:#?}");
    for probe in &carried {
        let unknown = probe["loss"]["place"] == "no_word";
        assert!(unknown || !early(&probe), "{probe:#}");
        assert_ne!(probe["loss"]["direction"], "out", "{probe:#}");
    }
}

/// The server that saw the probes is gone, and the next one knows nothing of them.
#[test]
fn a_new_server_knows_nothing_of_earlier_probes() {
    with_lost_replies(|lab, server| {
        server.stop(libc::SIGTERM);
        Server::start(&lab.server.ns, "--nslocal")
    });
}

/// Strangers take the slots of the lost ones, of which nothing is owed any more, before anybody asks about these.
#[test]
fn a_server_that_forgot_a_probe_says_so() {
    /// Slots of a server's table.
    const SLOTS: u64 = 8192;
    with_lost_replies(|lab, server| {
        let crowd = Crowd {
            sources: 50_000,
            sessions: 50_000,
            rate: 20_000,
            count: 5 * SLOTS,
            cookies: false,
        };
        crowd.run(&crowd::join(lab, false));
        server
    });
}

/// `icmp_echo_ignore_all`: the kernel takes the request and says nothing.
#[test]
fn a_request_without_a_reply_is_the_servers() {
    for (family, host) in [("ipv4", "10.77.0.2"), ("ipv6/icmp", "fd77::2")] {
        let lab = Lab::veth_pair().unwrap();
        let _server = Server::start(&lab.server.ns, "--nslocal");
        let name = if family == "ipv4" {
            "icmp_echo_ignore_all"
        } else {
            "echo_ignore_all"
        };
        let path = format!("/proc/sys/net/{family}/{name}");
        let set = |value: &str| {
            let written = lab.server.ns.run(|| fs::write(&path, value));
            written.unwrap().unwrap();
        };
        let run = with_fault_to(&lab, host, "--nslocal", || set("1"), || set("0"));
        // IPv6 frees the request as one that nobody wanted.
        let freed = (family != "ipv4").then_some(("server", "NOT_SPECIFIED"));
        assert_placed(&run, "server_receive", "out", freed);
        for probe in lost(&run) {
            assert_eq!(probe["loss"]["last"], "r_rx_icmprcv", "{probe:#}");
        }
    }
}

/// No probe was ever answered, so nothing but its address says that the last namespace is the server's.
#[test]
fn a_server_that_ignores_echo_is_named() {
    for (host, setting) in [
        ("10.77.0.2", "ipv4/icmp_echo_ignore_all"),
        ("fd77::2", "ipv6/icmp/echo_ignore_all"),
    ] {
        let lab = Lab::veth_pair().unwrap();
        let path = format!("/proc/sys/net/{setting}");
        let written = lab.server.ns.run(|| fs::write(&path, "1"));
        written.unwrap().unwrap();
        let server = Server::start(&lab.server.ns, "");
        assert!(server.said("ignores all echo requests"));
        let run = client(
            &lab.client.ns,
            &format!("-c {host} -i 20ms -C 10 -W 0.1 -o json"),
        );
        let probes = lost(&run);
        assert_eq!(probes.len(), 10, "{run:#?}");
        for probe in probes {
            assert_eq!(probe["loss"]["place"], "server_receive", "{probe:#}");
            let reason = probe["loss"]["drop"]["reason"].as_str();
            let reason = reason.expect("a reason");
            let is_named = reason == "ICMP_ECHO_IGNORED (icmp_echo_ignore_all)";
            assert!(is_named || host == "fd77::2", "{probe:#}");
        }
    }
}

/// A policy route drops what comes in; what the server sends is not affected.
#[test]
fn a_request_that_the_server_drops_has_the_reason() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    ip(&lab.server.ns, "rule add pref 10 table local");
    ip(&lab.server.ns, "rule del pref 0");
    let run = with_fault(
        &lab,
        "--nslocal",
        || ip(&lab.server.ns, "rule add pref 5 iif eth0 blackhole"),
        || ip(&lab.server.ns, "rule del pref 5"),
    );
    let probes = lost(&run);
    let reason = probes[0]["loss"]["drop"]["reason"].as_str().unwrap();
    assert!(!reason.starts_with("number"), "{:#}", probes[0]);
    assert_placed(&run, "server_receive", "out", Some(("server", reason)));
    for probe in probes {
        assert_eq!(probe["loss"]["drop"]["reply"], false, "{probe:#}");
        assert!(points(&probe).contains(&"r_rx_devrcv"), "{probe:#}");
    }
    let text = pingtrace_text(&lab);
    assert!(!text.contains("lost at"), "{text}");
}

fn pingtrace_text(lab: &Lab) -> String {
    let args = format!("-c {} -i 2ms -C 20", lab.server.v4);
    client(&lab.client.ns, &args).stdout
}

/// Replies that arrive while nobody reads, and find a buffer that ICMP errors have filled. Without
/// `CAP_NET_ADMIN` the buffer is no larger than `net.core.rmem_max` allows.
#[test]
fn a_full_socket_is_the_clients_socket() {
    let _alone = alone();
    let (lab, wire) = wire(Plan {
        base_reply: 2_000 * MS,
        ..Plan::default()
    });
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c {} --nslocal -i 1ms -C 100 -W 6 -o json", lab.server.v4);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]);
    command.arg(program().get_program());
    command.args(args.split_whitespace());
    let child = start(&lab.client.ns, &mut command);
    until("all probes are sent", || {
        carried(&wire, 99, Direction::Request)
    });
    let pid = child.id();
    kill(pid, libc::SIGSTOP);
    flood(&lab);
    thread::sleep(2_500 * MS);
    kill(pid, libc::SIGCONT);
    let run = finish(child);
    assert_placed(&run, "socket", "in", Some(("client", "SOCKET_RCVBUFF")));
}

/// Whether the wire has had this packet of a probe, also to lose it. What a client's device has sent may be of its warm-up.
fn carried(wire: &Forwarder, sequence: u32, direction: Direction) -> bool {
    let so_far = wire.so_far();
    so_far.entries_for(sequence, direction).next().is_some()
}

/// Packets that the client's device has sent.
fn sent(lab: &Lab) -> u64 {
    let text = read(&lab.client.ns, "/proc/thread-self/net/dev");
    let line = text.lines().find(|l| l.trim().starts_with(&lab.client.dev));
    let mut numbers = line.unwrap().split_whitespace();
    numbers.nth(10).unwrap().parse().unwrap()
}

/// Large ICMP errors from the server, until a socket of the client has no room for another.
fn flood(lab: &Lab) {
    let mut unreachable = [0; 1_400];
    unreachable[0] = 3;
    let to = SocketAddr::new(lab.client.v4.into(), 0).into();
    let open = || ProbeSocket::sender(Family::V4, (lab.server.v4, 0).into());
    let socket = lab.server.ns.run(open).unwrap().unwrap();
    until("the socket is full", || {
        for _ in 0..200 {
            let _ = socket.send(&unreachable, &to);
        }
        let sockets = read(&lab.client.ns, "/proc/thread-self/net/raw");
        let drops = sockets
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().last());
        drops.map(|n| n.parse::<u64>().unwrap()).sum::<u64>() > 0
    });
}

fn read(ns: &Namespace, path: &str) -> String {
    ns.run(|| fs::read_to_string(path)).unwrap().unwrap()
}

/// A host that answers without a pingtrace server: what is not known is not guessed.
#[test]
fn without_a_server_nothing_is_guessed() {
    let _alone = alone();
    for direction in [Direction::Request, Direction::Reply] {
        let some = Rule::at(direction, [20, 21, 40], Action::Drop);
        let (lab, _wire) = wire(Plan::new(MS, [some]));
        let args = format!("-c {} --nslocal {PROBES}", lab.server.v4);
        let run = client(&lab.client.ns, &args);
        assert_eq!(lost(&run).len(), 3, "{:#}", run.stat());
        assert_placed(&run, "no_word", "unknown", None);
    }
}

/// Nobody has the address: neighbour discovery fails on the client itself.
#[test]
fn a_missing_neighbour_is_the_clients_send() {
    let lab = Lab::veth_pair().unwrap();
    let run = client(&lab.client.ns, "-c 10.77.0.77 -i 100ms -C 60 -W 2 -o json");
    assert_eq!(run.status, 3, "{run:#?}");
    let probes = lost(&run);
    assert_eq!(probes.len(), 60);
    for probe in &probes {
        assert_eq!(probe["loss"]["place"], "client_send", "{probe:#}");
    }
    let failed = |p: &&Value| p["loss"]["drop"]["reason"] == "NEIGH_FAILED";
    assert!(
        probes.iter().filter(failed).count() > 10,
        "{:#}",
        run.stat()
    );
}

#[test]
fn the_text_says_where_and_why() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c {} --nslocal -i 5ms -C 400 -W 0.3 -m 10s", lab.server.v4);
    let child = pingtrace(&lab.client.ns, &args);
    let run = during(
        &lab,
        "10.77.0.2",
        child,
        || shape(&lab.server),
        || unshape(&lab.server),
    );
    let cause = "server reply: QDISC_DROP in __dev_queue_xmit, eth0, netns ";
    assert!(run.stdout.contains(cause), "{}", run.stdout);
    let summary = " server reply (QDISC_DROP in __dev_queue_xmit, eth0 in netns ";
    assert!(run.stdout.contains(summary), "{}", run.stdout);
    assert!(!run.stderr.contains("stamp packets"), "{}", run.stderr);
}

fn with_fault(lab: &Lab, options: &str, begin: impl Fn(), end: impl Fn()) -> Finished {
    with_fault_to(lab, &lab.server.v4.to_string(), options, begin, end)
}

fn with_fault_to(
    lab: &Lab,
    host: &str,
    options: &str,
    begin: impl Fn(),
    end: impl Fn(),
) -> Finished {
    let args = format!("-c {host} {options} {PROBES}");
    during(lab, host, pingtrace(&lab.client.ns, &args), begin, end)
}

fn during(lab: &Lab, host: &str, child: Child, begin: impl Fn(), end: impl Fn()) -> Finished {
    let is_v6 = host.contains(':');
    wait_for_cookie(&lab.server.ns, if is_v6 { Family::V6 } else { Family::V4 });
    until("the client probes", || sent(lab) >= BEFORE);
    begin();
    thread::sleep(FAULT);
    end();
    let run = finish(child);
    assert_eq!(run.status, 0, "{run:#?}");
    run
}

fn ip(ns: &Namespace, args: &str) {
    let run = || Command::new("ip").args(args.split_whitespace()).status();
    assert!(ns.run(run).unwrap().unwrap().success(), "ip {args}");
}

fn lost(run: &Finished) -> Vec<Value> {
    let lost = run.probes().into_iter().filter(|p| status(p) == "lost");
    lost.collect()
}

/// All lost probes were lost there, and the summary says the same.
fn assert_placed(run: &Finished, place: &str, way: &str, drop: Option<(&str, &str)>) {
    let probes = lost(run);
    assert!(probes.len() >= 3, "{} lost: {:#}", probes.len(), run.stat());
    for probe in &probes {
        let loss = &probe["loss"];
        assert_eq!(loss["place"], place, "{probe:#}");
        assert_eq!(loss["direction"], way, "{probe:#}");
        match drop {
            Some((host, reason)) => {
                assert_eq!(loss["drop"]["host"], host, "{probe:#}");
                assert_eq!(loss["drop"]["reason"], reason, "{probe:#}");
            }
            None => assert!(loss["drop"].is_null(), "{probe:#}"),
        }
    }
    let stat = run.stat();
    let count = probes.len() as u64;
    assert_eq!(stat["lost"], count, "{stat:#}");
    let ways = ["out", "in"].map(|w| stat[format!("lost_{w}")].as_u64().unwrap());
    let expected = ["out", "in"].map(|w| if w == way { count } else { 0 });
    assert_eq!(ways, expected, "{stat:#}");
    let losses = stat["losses"].as_array().unwrap();
    assert_eq!(losses.len(), 1, "{stat:#}");
    assert_eq!(
        (&losses[0]["place"], &losses[0]["count"]),
        (&place.into(), &count.into())
    );
}

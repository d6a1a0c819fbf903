//! A run goes on through what happens to its host meanwhile: each probe that could not be sent is
//! lost there, with the reason, and the counts add up.

use super::harness::{
    Finished, Server, client, finish, kill, pingtrace, points, program, sh, start, status, sum,
    until,
};
use netns::{Host, Lab, Netlink};
use pingtrace::wire::protocol::Family;
use pingtrace::wire::socket::ProbeSocket;
use pnet_packet::util::checksum;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

/// A client whose results are read as they come.
struct Live {
    run: Child,
    lines: BufReader<ChildStdout>,
    seen: String,
}

impl Live {
    /// Begins an endless run, and waits until it has answers.
    fn start(lab: &Lab, args: &str) -> Self {
        let mut live = Self::spawn(lab, args);
        live.wait_for("ok", 20);
        live
    }

    /// Begins an endless run.
    fn spawn(lab: &Lab, args: &str) -> Self {
        Self::read(pingtrace(
            &lab.client.ns,
            &format!("{args} --nslocal -o json"),
        ))
    }

    fn read(mut run: Child) -> Self {
        let lines = BufReader::new(run.stdout.take().expect("piped"));
        Self {
            run,
            lines,
            seen: String::new(),
        }
    }

    /// Reads on until this many more probes have this status.
    fn wait_for(&mut self, wanted: &str, times: u32) {
        let mut count = 0;
        while count < times {
            let begin = self.seen.len();
            let read = self.lines.read_line(&mut self.seen).expect("UTF-8");
            if read == 0 {
                let stderr = std::io::read_to_string(self.run.stderr.take().expect("piped"));
                panic!("the run ended: {stderr:?}\n{}", self.seen);
            }
            let line: Value = serde_json::from_str(&self.seen[begin..]).expect("JSON");
            count += u32::from(line["type"] == "probe" && status(&line) == wanted);
        }
    }

    /// Ends it as Ctrl-C does; all that it wrote.
    fn stop(self) -> Finished {
        kill(self.run.id(), libc::SIGINT);
        let mut stdout = self.seen;
        let mut run = self.run;
        let mut lines = self.lines;
        // `finish` wants a pipe.
        lines.read_to_string(&mut stdout).expect("UTF-8");
        run.stdout = Some(lines.into_inner());
        let done = finish(run);
        Finished { stdout, ..done }
    }
}

/// Every probe sent has one final status, lines and summary agree, and each loss has its place.
pub(super) fn assert_balanced(run: &Finished) {
    let stat = run.stat();
    let count = |key: &str| stat[key].as_u64().unwrap_or(0);
    let settled = count("replied") + count("lost") + count("forgotten");
    assert_eq!(count("sent"), settled + count("in_flight"), "{stat:#}");
    let probes = run.probes();
    let lines = |wanted: &str| probes.iter().filter(|p| status(p) == wanted).count() as u64;
    let amended = lines("amended");
    assert_eq!(
        lines("ok") + lines("late") + amended,
        count("replied"),
        "{stat:#}"
    );
    assert_eq!(lines("lost"), count("lost") + amended, "{stat:#}");
    let losses = stat["losses"].as_array().into_iter().flatten();
    let placed: u64 = losses.map(|l| l["count"].as_u64().unwrap()).sum();
    assert_eq!(placed, count("lost"), "{stat:#}");
}

fn number(run: &Finished, key: &str) -> u64 {
    run.stat()[key].as_u64().unwrap_or(0)
}

/// "Fragmentation needed", or "packet too big", from the server to the client, as anybody on the
/// way could send it; it quotes an echo request to the server that nobody sent.
fn forge_too_big(lab: &Lab, family: Family, mtu: u16) {
    let (from, to): (IpAddr, IpAddr) = match family {
        Family::V4 => (lab.server.v4.into(), lab.client.v4.into()),
        Family::V6 => (lab.server.v6.into(), lab.client.v6.into()),
    };
    let mut message = vec![0; 8];
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    let mut quoted = match (to, from) {
        (IpAddr::V4(source), IpAddr::V4(peer)) => {
            message[0..2].copy_from_slice(&[3, 4]);
            let mut ip = vec![0; 12];
            [ip[0], ip[3], ip[8], ip[9]] = [0x45, 48, 64, 1];
            [ip, source.octets().to_vec(), peer.octets().to_vec()].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(peer)) => {
            message[0] = 2;
            let mut ip = vec![0; 8];
            [ip[0], ip[5], ip[6], ip[7]] = [0x60, 28, 58, 64];
            [ip, source.octets().to_vec(), peer.octets().to_vec()].concat()
        }
        _ => panic!("two families"),
    };
    quoted.extend([family.request(), 0, 0, 0, 0x66, 0x66, 0, 1]);
    quoted.extend([0; 20]);
    message.extend(quoted);
    if family == Family::V4 {
        let sum = checksum(&message, 1);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let open = || ProbeSocket::sender(family, (from, 0).into());
    let socket = lab.server.ns.run(open).unwrap().unwrap();
    let to = SocketAddr::new(to, 0).into();
    socket.send(&message, &to).expect("send");
}

/// What the client's kernel believes of the path's MTU.
fn path_mtu(host: &Host, to: IpAddr) -> u32 {
    let ask = || Netlink::open()?.route_get(to, None);
    host.ns.run(ask).unwrap().unwrap().mtu
}

/// A forged "too big" is believed by the kernel for ten minutes, and by the run not at all.
#[test]
fn a_forged_too_big_neither_ends_a_run_nor_refuses_the_next() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for (family, mtu, believed) in [(Family::V4, 68, 552), (Family::V6, 1280, 1280)] {
        let peer: IpAddr = match family {
            Family::V4 => lab.server.v4.into(),
            Family::V6 => lab.server.v6.into(),
        };
        let args = format!("-c {peer} -i 2ms -b 1400");
        let mut live = Live::start(&lab, &args);
        forge_too_big(&lab, family, mtu);
        live.wait_for("ok", 50);
        assert_eq!(
            path_mtu(&lab.client, peer),
            believed,
            "the kernel believes it"
        );
        let run = live.stop();
        assert_eq!(run.status, 0, "{run:#?}");
        assert_balanced(&run);
        for (what, times) in [("lost", 0), ("icmp_errors", 0), ("icmp_unrelated", 1)] {
            assert_eq!(number(&run, what), times, "{what}: {:#}", run.stat());
        }
        let mut again = Live::start(&lab, &args);
        again.wait_for("ok", 20);
        let again = again.stop();
        assert_eq!((again.status, number(&again, "lost")), (0, 0), "{again:#?}");
    }
}

/// What refuses the probes, how it begins and ends, and the name of the error.
const OUTAGES: [(&str, &str, &str, &str); 8] = [
    (
        "the link is down",
        "ip link set eth0 down",
        "ip link set eth0 up",
        "ENETUNREACH",
    ),
    (
        "the route is gone",
        "ip route del 10.77.0.0/24",
        "ip route add 10.77.0.0/24 dev eth0 src 10.77.0.1",
        "ENETUNREACH",
    ),
    (
        "the host is unreachable",
        "ip route add unreachable 10.77.0.2",
        "ip route del unreachable 10.77.0.2",
        "EHOSTUNREACH",
    ),
    (
        "a route prohibits it",
        "ip route add prohibit 10.77.0.2",
        "ip route del prohibit 10.77.0.2",
        "EACCES",
    ),
    (
        "a firewall drops it",
        "nft add table inet t; nft add chain inet t o '{ type filter hook output priority 0; }'
         nft add rule inet t o meta l4proto { icmp, ipv6-icmp } drop",
        "nft delete table inet t",
        "EPERM",
    ),
    (
        "the device's MTU is too small",
        "ip link set eth0 mtu 300",
        "ip link set eth0 mtu 1500",
        "EMSGSIZE",
    ),
    (
        "the address changes",
        "ip address del 10.77.0.1/24 dev eth0",
        "ip address add 10.77.0.9/24 dev eth0",
        "ENETUNREACH",
    ),
    (
        "and changes back",
        "ip address del 10.77.0.9/24 dev eth0",
        "ip address add 10.77.0.1/24 dev eth0",
        "ENETUNREACH",
    ),
];

#[test]
fn a_probe_that_cannot_be_sent_is_lost_there_and_the_run_goes_on() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for (what, begin, end, error) in OUTAGES {
        let mut live = Live::start(&lab, "-c 10.77.0.2 -i 5ms -W 0.2");
        sh(&lab.client.ns, begin);
        live.wait_for("lost", 30);
        sh(&lab.client.ns, end);
        live.wait_for("ok", 30);
        assert_refused(&live.stop(), what, error);
    }
}

/// The next one leaves after a timeout, not at once.
#[test]
fn adaptive_probes_go_on_too() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let (what, begin, end, error) = OUTAGES[0];
    let mut live = Live::start(&lab, "-c 10.77.0.2 -A -W 50ms");
    sh(&lab.client.ns, begin);
    live.wait_for("lost", 4);
    sh(&lab.client.ns, end);
    live.wait_for("ok", 30);
    assert_refused(&live.stop(), what, error);
}

/// Lost at the client's send, for this reason, reported once; and the last probes have all stamps.
fn assert_refused(run: &Finished, what: &str, error: &str) {
    assert_eq!(run.status, 0, "{what}: {run:#?}");
    assert_balanced(run);
    let probes = run.probes();
    let refused = |p: &&Value| p["loss"]["error"] == error;
    let refused: Vec<_> = probes.iter().filter(refused).collect();
    assert!(!refused.is_empty(), "{what}: {:#}", run.stat());
    for probe in &refused {
        assert_eq!(probe["loss"]["place"], "client_send", "{what}: {probe:#}");
    }
    let failed = probes.iter().filter(|p| p["loss"]["error"].is_string());
    assert_eq!(number(run, "send_errors"), failed.count() as u64, "{what}");
    let told = |words: &str| run.stderr.lines().filter(|l| l.contains(words)).count();
    assert_eq!(told(error), 1, "{what}: {}", run.stderr);
    assert_eq!(told("probes leave again"), 1, "{what}: {}", run.stderr);
    assert!(!run.stderr.contains("os error"), "{what}: {}", run.stderr);
    // The summary names the error, or the drop that the kernel made of it.
    let losses = run.stat()["losses"].as_array().unwrap().clone();
    let there = |l: &Value| l["place"] == "client_send" && l["reason"].is_string();
    assert!(losses.iter().any(there), "{what}: {losses:#?}");
    let last = probes.iter().rfind(|p| status(p) == "ok").unwrap();
    for point in ["l_tx_devout", "r_rx_devrcv", "l_rx_skdataready"] {
        assert!(points(last).contains(&point), "{what}: {last:#}");
    }
}

/// An address that stays when the device is made anew: `fe80::1` or `fe80::2`.
fn give_link_local(host: &Host) {
    let number = host.v4.octets()[3];
    sh(
        &host.ns,
        &format!("ip address add fe80::{number}/64 dev eth0 nodad"),
    );
}

/// A veth pair that is deleted and made anew: other indices, the same names.
fn make_anew(lab: &Lab, host: &Host, begin: impl FnOnce(), end: impl FnOnce()) {
    sh(&host.ns, "ip link del eth0");
    begin();
    let far = if host.v4 == lab.client.v4 {
        &lab.server
    } else {
        &lab.client
    };
    let add = || Netlink::open()?.add_veth("eth0", "eth0", &far.ns);
    host.ns.run(add).unwrap().unwrap();
    for side in [&lab.client, &lab.server] {
        let (v4, v6) = (side.v4, side.v6);
        let addresses =
            format!("ip address add {v4}/24 dev eth0; ip address add {v6}/64 dev eth0 nodad");
        sh(&side.ns, &format!("{addresses}; ip link set eth0 up"));
        give_link_local(side);
    }
    end();
}

/// The last answered probe has the server's stamps, in band.
fn assert_seen_by_the_server(run: &Finished) {
    let probes = run.probes();
    let last = probes.iter().rfind(|p| status(p) == "ok").unwrap();
    for point in ["r_rx_devrcv", "r_tx_devqueue"] {
        assert!(points(last).contains(&point), "{last:#}");
    }
    assert_eq!(run.lines("run").last().unwrap()["mode"], "inband");
}

/// A server that had no CPU while its devices changed more often than the kernel keeps messages of.
#[test]
fn a_server_that_missed_changes_of_its_devices_looks_anew() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    kill(server.pid(), libc::SIGSTOP);
    let changes = || {
        let mut netlink = Netlink::open()?;
        (0..2_000).try_for_each(|k| netlink.set_mtu(1, 60_000 + k % 2))
    };
    lab.server.ns.run(changes).unwrap().unwrap();
    make_anew(&lab, &lab.server, || (), || ());
    until("the new device has a carrier", || {
        let link = || Netlink::open()?.link_named("eth0");
        lab.server.ns.run(link).unwrap().unwrap().running
    });
    // Its last message is lost as well.
    std::thread::sleep(Duration::from_millis(300));
    kill(server.pid(), libc::SIGCONT);
    let mut live = Live::start(&lab, "-c 10.77.0.2 -i 5ms");
    live.wait_for("ok", 60);
    let run = live.stop();
    assert_balanced(&run);
    assert_seen_by_the_server(&run);
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success(), "{story:#?}");
    let said = |words: &str| story.iter().filter(|l| l.contains(words)).count();
    assert_eq!(
        said("changes of network devices were lost"),
        1,
        "{story:#?}"
    );
    assert_eq!(said("stamping replies that leave by eth0"), 1, "{story:#?}");
}

/// Where the run is bound to the device, where it is not, and where the address has a zone; the
/// server's is a new one as well.
#[test]
fn a_device_that_goes_away_and_comes_back_is_used_again() {
    for args in [
        "-c 10.77.0.2 -I eth0",
        "-c 10.77.0.2",
        "-c fd77::2 -I eth0",
        "-c fe80::2%eth0",
    ] {
        let lab = Lab::veth_pair().unwrap();
        give_link_local(&lab.server);
        let server = Server::start(&lab.server.ns, "--nslocal");
        let mut live = Live::start(&lab, &format!("{args} -i 5ms -W 0.2"));
        let cell = std::cell::RefCell::new(&mut live);
        let begin = || cell.borrow_mut().wait_for("lost", 30);
        make_anew(&lab, &lab.client, begin, || {
            cell.borrow_mut().wait_for("ok", 60);
        });
        let run = live.stop();
        assert_eq!(run.status, 0, "{run:#?}");
        assert_balanced(&run);
        assert!(number(&run, "send_errors") >= 1, "{:#}", run.stat());
        let probes = run.probes();
        let last = probes.iter().rfind(|p| status(p) == "ok").unwrap();
        for point in [
            "l_tx_devout",
            "r_rx_devrcv",
            "r_tx_devqueue",
            "l_rx_skdataready",
        ] {
            assert!(points(last).contains(&point), "{args}: {last:#}");
        }
        let stamps = last["points"].as_array().unwrap();
        let ours = stamps
            .iter()
            .filter(|p| p["host"] == "client" && !p["dev"].is_null());
        assert!(ours.clone().count() > 0, "{last:#}");
        let index = |p: &Value| p["ifindex"].as_u64().unwrap();
        let anew = |p: &Value| index(p) != u64::from(lab.client.ifindex) && p["dev"] == "eth0";
        assert!(ours.clone().all(anew), "{args}: {last:#}");
        let (status, story) = server.stop(libc::SIGTERM);
        assert!(status.success(), "{story:#?}");
        let again = |l: &&String| l.contains("stamping replies that leave by eth0");
        assert!(story.iter().any(|l| again(&l)), "{args}: {story:#?}");
    }
}

#[test]
fn only_a_run_of_which_no_probe_could_ever_be_sent_fails() {
    let lab = Lab::veth_pair().unwrap();
    let (_, begin, end, _) = OUTAGES[4];
    sh(&lab.client.ns, begin);
    let args = "-c 10.77.0.2 -i 5ms -C 20 -W 0.1 -o json";
    let run = client(&lab.client.ns, args);
    assert_eq!(run.status, 1, "{run:#?}");
    assert_balanced(&run);
    assert_eq!(
        (number(&run, "sent"), number(&run, "send_errors")),
        (20, 20)
    );
    let last = run.stderr.lines().last().unwrap();
    for words in [
        "no probe could be sent",
        "EPERM",
        "firewall",
        "nft list ruleset",
    ] {
        assert!(last.contains(words), "{run:#?}");
    }
    // One that begins in an outage goes on behind it.
    let mut live = Live::spawn(&lab, "-c 10.77.0.2 -i 5ms -W 0.1");
    live.wait_for("lost", 10);
    sh(&lab.client.ns, end);
    live.wait_for("ok", 10);
    let run = live.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    assert_balanced(&run);
}

/// A million probes a second are more than any client can send.
#[test]
fn the_time_of_a_run_ends_by_the_clock() {
    let lab = Lab::veth_pair().unwrap();
    let args = "-c 10.77.0.2 -i 1us -t 1 -W 0.1 -m 10s -o json";
    let run = client(&lab.client.ns, args);
    assert_eq!(run.status, 0, "{run:#?}");
    let (sent, unsent) = (number(&run, "sent"), number(&run, "unsent"));
    assert_eq!(sent + unsent, 1_000_000, "{:#}", run.stat());
    assert!(sent > 0 && unsent > 0, "{:#}", run.stat());
    let words = format!("could not keep up: {sent} of 1000000 probes sent");
    assert!(run.stderr.contains(&words), "{}", run.stderr);
    let easy = client(&lab.client.ns, "-c 10.77.0.2 -i 100ms -t 1 -W 0.1 -o json");
    assert_eq!(
        (number(&easy, "sent"), number(&easy, "unsent")),
        (10, 0),
        "{easy:#?}"
    );
    assert!(!easy.stderr.contains("keep up"), "{easy:#?}");
}

/// The kernel's programs stamp with the host's clock, whatever the namespace's shows.
#[test]
fn stamps_are_right_inside_a_time_namespace() {
    for (clients, servers) in [("100000", "0"), ("-7", "0"), ("0", "86400"), ("5", "-5")] {
        let lab = Lab::veth_pair().unwrap();
        let within = |offset: &str, args: &str| {
            let mut command = Command::new("unshare");
            command.args([
                "--time",
                "--fork",
                "--kill-child=SIGTERM",
                "--monotonic",
                offset,
            ]);
            command
                .arg(program().get_program())
                .args(args.split_whitespace());
            command
        };
        let serve = "-s --nslocal --linger infinity -t 30";
        let mut server = start(&lab.server.ns, &mut within(servers, serve));
        let mut story = BufReader::new(server.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("serving") {
            line.clear();
            assert!(story.read_line(&mut line).unwrap() > 0, "the server ended");
        }
        let args = "-c 10.77.0.2 --nslocal -i 5ms -C 40 -o json";
        let run = finish(start(&lab.client.ns, &mut within(clients, args)));
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(run.status, 0, "{run:#?}");
        for probe in run.probes() {
            let there = points(&probe);
            let wanted = ["l_tx_devout", "r_rx_devrcv", "r_tx_devqueue", "l_rx_iprcv"];
            assert!(wanted.iter().all(|w| there.contains(w)), "{probe:#}");
            assert_eq!(
                sum(&probe),
                probe["total_ns"].as_u64().unwrap(),
                "{probe:#}"
            );
            let stamps = probe["points"].as_array().unwrap();
            let at = |point: &str| {
                let stamp = stamps.iter().find(|p| p["point"] == point);
                stamp.and_then(|p| p["ns"].as_u64())
            };
            let order = [
                "l_tx_user",
                "l_tx_devqueue",
                "l_tx_devout",
                "l_rx_iprcv",
                "l_rx_user",
            ];
            assert!(order.map(at).is_sorted(), "{probe:#}");
        }
        for key in ["lost_stamps", "unordered", "no_remote"] {
            assert_eq!(number(&run, key), 0, "{key}: {:#}", run.stat());
        }
    }
}

/// The kernel counts some of the sends that fail and not others; its stamps are matched by the
/// packet, not by its numbers.
#[test]
fn without_bpf_stamps_are_the_probes_own_after_failed_sends() {
    let lab = Lab::veth_pair().unwrap();
    let mut command = Command::new("setpriv");
    let without = "-sys_admin,-bpf,-perfmon";
    command.args([
        format!("--bounding-set={without}"),
        format!("--inh-caps={without}"),
    ]);
    command.arg(program().get_program());
    let args = "-c 10.77.0.2 -i 5ms -W 0.2 -o json";
    let run = start(&lab.client.ns, command.args(args.split_whitespace()));
    let mut live = Live::read(run);
    live.wait_for("ok", 20);
    for (_, begin, end, _) in [OUTAGES[1], OUTAGES[4]] {
        sh(&lab.client.ns, begin);
        live.wait_for("lost", 20);
        sh(&lab.client.ns, end);
        live.wait_for("ok", 20);
    }
    let run = live.stop();
    assert!(run.stderr.contains("SO_TIMESTAMPING instead"), "{run:#?}");
    assert_balanced(&run);
    assert!(number(&run, "send_errors") >= 40, "{:#}", run.stat());
    let mut stamped = 0;
    let answered: Vec<_> = run
        .probes()
        .into_iter()
        .filter(|p| status(p) == "ok")
        .collect();
    for probe in &answered {
        let stamps = probe["points"].as_array().unwrap();
        let at = |point: &str| {
            let stamp = stamps.iter().find(|p| p["point"] == point);
            stamp.and_then(|p| p["ns"].as_u64())
        };
        if let Some(queued) = at("l_tx_devqueue") {
            let own = at("l_tx_user")..=at("l_rx_user");
            assert!(own.contains(&Some(queued)), "{probe:#}");
            stamped += 1;
        }
    }
    // The stamp of a send comes at once; its reply may be there first.
    assert!(
        stamped * 10 >= answered.len() * 9,
        "{stamped} of {}",
        answered.len()
    );
    assert_eq!(number(&run, "unordered"), 0, "{:#}", run.stat());
}

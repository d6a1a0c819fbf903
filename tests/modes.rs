//! How the server's stamps return, what is printed about it, and peers of version 0.

use super::harness::{Client, Finished, Server, client, finish, pingtrace, points, status, sum};
use super::v0peer::{self, Checksum, ServerOptions, V0Result};
use netns::{Lab, Namespace};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const LOCAL_ONLY: &str = "no pingtrace server answers";
const STOPPED: &str = "server stamps have stopped";
const INBAND: &str = "server stamps: in band";
const BY_STAMP_PACKET: &str = "server stamps: in stamp packets";
const BY_V0: &str = "server stamps: in version 0";

#[test]
fn auto_settles_on_in_band_and_says_so_once() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = run(&lab, "-i 2ms -C 100");
    assert_said(&run, &[(INBAND, 1), (BY_STAMP_PACKET, 0), (LOCAL_ONLY, 0)]);
    assert_eq!(with_remote(&run.probes()), 100);
    assert_eq!(run.lines("run").last().unwrap()["mode"], "inband");
}

#[test]
fn record_packets_reach_three_clients_at_once() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!(
        "-c {} --nslocal --mode compact -i 1ms -C 300 -W 5 -o json",
        lab.server.v4
    );
    let clients = [(); 3].map(|()| pingtrace(&lab.client.ns, &args));
    for run in clients.map(finish) {
        assert_said(&run, &[(BY_STAMP_PACKET, 1), (INBAND, 0)]);
        assert_eq!(run.probes().len(), 300);
        // A record that overtakes its reply is not joined yet: whatever is missing is counted.
        let missing = 300 - with_remote(&run.probes()) as u64;
        assert_eq!(missing, count(&run, "no_remote"), "{:#}", run.stat());
        assert_eq!(count(&run, "lost") + count(&run, "dup"), 0);
    }
}

#[test]
fn record_packets_over_ipv6() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = client(
        &lab.client.ns,
        "-c fd77::2 --nslocal --mode compact -i 2ms -C 100 -o json",
    );
    assert_eq!(with_remote(&run.probes()), 100, "{}", run.stderr);
}

/// Local stages only, although a server is there.
#[test]
fn pingpong_asks_for_nothing() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = run(&lab, "--mode pingpong -i 2ms -C 50");
    assert_said(&run, &[("server stamps", 0), (LOCAL_ONLY, 0)]);
    assert_local_only(&run.probes(), 50);
}

#[test]
fn without_a_server_the_rest_is_one_segment() {
    let lab = Lab::veth_pair().unwrap();
    let run = run(&lab, "-i 5ms -C 150");
    assert_said(
        &run,
        &[(LOCAL_ONLY, 1), (STOPPED, 0), ("server stamps:", 0)],
    );
    assert_local_only(&run.probes(), 150);
}

#[test]
fn a_server_that_starts_later_is_used() {
    let lab = Lab::veth_pair().unwrap();
    let args = format!("-c {} --nslocal -i 10ms -o json", lab.server.v4);
    let mut client = Client::start(&lab.client.ns, &args);
    client.hear(LOCAL_ONLY);
    thread::sleep(200 * MS);
    let server = Server::start(&lab.server.ns, "--nslocal");
    client.hear(INBAND);
    thread::sleep(400 * MS);
    let run = client.stop();
    assert_said(&run, &[(LOCAL_ONLY, 1), (INBAND, 1), (BY_STAMP_PACKET, 0)]);
    let probes = run.probes();
    assert_eq!(with_remote(&probes[..20]), 0);
    let last = &probes[probes.len() - 20..];
    assert_eq!(with_remote(last), 20);
    // Nor does it owe records to probes that came while it got ready.
    let (_, story) = server.stop(libc::SIGTERM);
    assert!(
        story.iter().any(|l| l.contains("in band, 0 stamp packets")),
        "{story:#?}"
    );
}

#[test]
fn a_server_that_stops_is_missed_and_the_run_goes_on() {
    const EACH: Duration = Duration::from_millis(800);
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c {} --nslocal -i 10ms -o json", lab.server.v4);
    let mut client = Client::start(&lab.client.ns, &args);
    client.hear(INBAND);
    thread::sleep(EACH);
    assert!(server.stop(libc::SIGTERM).0.success());
    client.hear(STOPPED);
    thread::sleep(EACH);
    let run = client.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    assert_said(&run, &[(INBAND, 1), (STOPPED, 1)]);
    let probes = run.probes();
    assert!(probes.iter().all(|p| status(p) == "ok"));
    assert_eq!(with_remote(&probes[..30]), 30);
    assert_local_only(&probes[probes.len() - 30..], 30);
}

#[test]
fn a_version_0_server_is_found() {
    let run = against_v0(ServerOptions::default(), "-i 10ms -C 150");
    assert_said(&run, &[(BY_V0, 1), (LOCAL_ONLY, 0)]);
    let probes = run.probes();
    assert_eq!(with_remote(&probes[50..]), 100, "{}", run.stderr);
    assert_eq!(
        (count(&run, "bad_checksum"), count(&run, "malformed")),
        (0, 0)
    );
}

/// Each mistake of a deployed peer costs at most what is wrong, and is counted.
#[test]
fn mistakes_of_a_version_0_server_are_survived() {
    let options = ServerOptions::default;
    let run = against_v0(
        ServerOptions {
            checksum: Checksum::SingleFoldWrong,
            ..options()
        },
        V0_ARGS,
    );
    assert_eq!(with_remote(&run.probes()[50..]), 50);
    assert!(count(&run, "bad_checksum") >= 50, "{:#}", run.stat());

    let run = against_v0(
        ServerOptions {
            extra_num: 200,
            ..options()
        },
        V0_ARGS,
    );
    assert_eq!(with_remote(&run.probes()), 0);
    assert!(count(&run, "malformed") > 0, "{:#}", run.stat());
    assert_eq!(count(&run, "replied"), 100);

    let run = against_v0(
        ServerOptions {
            extra_points: vec![11, 14, 15, 999],
            ..options()
        },
        V0_ARGS,
    );
    assert_eq!(with_remote(&run.probes()[50..]), 50);
    assert!(count(&run, "unknown_points") >= 100, "{:#}", run.stat());

    let run = against_v0(
        ServerOptions {
            record_after: 30 * MS,
            ..options()
        },
        V0_ARGS,
    );
    assert_eq!(with_remote(&run.probes()[50..99]), 49);

    let run = against_v0(
        ServerOptions {
            silent: vec![60, 61, 70],
            ..options()
        },
        V0_ARGS,
    );
    let without: Vec<_> = run.probes()[50..]
        .iter()
        .filter(|p| !is_remote(p))
        .map(|p| p["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(without, [60, 61, 70]);
    assert!(run.probes().iter().all(|p| status(p) == "ok"));
}

/// Every probe of a version 0 client has its record: right in form, and plausible in time.
#[test]
fn a_version_0_client_gets_its_records() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for host in [lab.server.v4.into(), lab.server.v6.into()] {
        let results = lab
            .client
            .ns
            .run(|| v0peer::client(host, 100, 3 * MS, 500 * MS));
        let results = results.unwrap().unwrap();
        assert_eq!(results.len(), 100);
        results.iter().for_each(assert_served);
    }
}

/// Two version 0 clients, started in the same second, share their session id.
#[test]
fn version_0_clients_with_one_session_are_kept_apart() {
    let lab = Lab::routed().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let router = &lab.router.as_ref().unwrap().server_side.ns;
    let host = lab.server.v4.into();
    let shared = v0peer::Client {
        session: 0x1234_5678,
        ..v0peer::Client::new(host)
    };
    let probe = |ns: &Namespace| {
        let results = ns.run(|| shared.run(200, 2 * MS, 500 * MS));
        results.unwrap().unwrap()
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| probe(router));
        let results = probe(&lab.client.ns);
        for result in results.iter().chain(&other.join().unwrap()) {
            assert_served(result);
        }
    });
}

const V0_ARGS: &str = "-i 10ms -C 100";

/// Our client against a version 0 server.
fn against_v0(options: ServerOptions, args: &str) -> Finished {
    let lab = Lab::veth_pair().unwrap();
    let stop = AtomicBool::new(false);
    let (ready, bound) = channel();
    thread::scope(|scope| {
        let ns = &lab.server.ns;
        let stop = &stop;
        scope.spawn(move || {
            ns.run(|| {
                let server = v0peer::Server::bind(options).unwrap();
                ready.send(()).unwrap();
                server.serve(stop).unwrap()
            })
        });
        bound.recv().unwrap();
        let run = run(&lab, args);
        stop.store(true, Ordering::Relaxed);
        run
    })
}

fn assert_served(result: &V0Result) {
    assert_eq!(result.faults(), [], "{result:#?}");
    assert_eq!(result.duplicates, 0, "{result:#?}");
    let record = result.record.as_ref().expect("a record");
    let reserved = usize::from(v0peer::RESERVED);
    let empty = v0peer::Entry::default();
    assert!(
        record.packet.entries[..reserved]
            .iter()
            .all(|e| *e == empty)
    );
    let added = record.packet.added();
    let of_points = |point| added.iter().find(|e| e.point == point).expect("a point");
    let order = [
        v0peer::R_RX_DEVRCV,
        v0peer::R_RX_ICMPRCV,
        v0peer::R_TX_DEVOUT,
    ];
    let echo_ns = result.echo.as_ref().expect("an echo").at_ns;
    let sent_us = (result.sent_ns / 1000) as u32;
    let since_sent = order.map(|p| of_points(p).time_us.wrapping_sub(sent_us));
    assert!(since_sent.is_sorted(), "{result:#?}");
    let rtt_us = (echo_ns / 1000) as u32 - sent_us;
    assert!(since_sent.iter().all(|us| *us <= rtt_us), "{result:#?}");
}

/// Our client in a veth lab, stamping in its own namespace.
fn run(lab: &Lab, args: &str) -> Finished {
    let run = client(
        &lab.client.ns,
        &format!("-c {} --nslocal {args} -o json", lab.server.v4),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    run
}

fn assert_said(run: &Finished, expected: &[(&str, usize)]) {
    for (words, times) in expected {
        assert_eq!(
            run.stderr.matches(words).count(),
            *times,
            "{words}: {}",
            run.stderr
        );
    }
}

fn count(run: &Finished, what: &str) -> u64 {
    run.stat()[what].as_u64().unwrap_or(0)
}

fn is_remote(probe: &Value) -> bool {
    let points = points(probe);
    ["r_rx_devrcv", "r_rx_icmprcv", "r_tx_devout"]
        .iter()
        .all(|p| points.contains(p))
}

/// How many of these have the server's stamps.
fn with_remote(probes: &[Value]) -> usize {
    probes.iter().filter(|p| is_remote(p)).count()
}

fn assert_local_only(probes: &[Value], count: usize) {
    assert_eq!(probes.len(), count);
    for probe in probes {
        assert!(
            !points(probe).iter().any(|p| p.starts_with("r_")),
            "{probe:#}"
        );
        assert_eq!(sum(probe), probe["total_ns"].as_u64().unwrap());
        let delays = probe["delays"].as_array().unwrap();
        assert!(delays.iter().any(|d| d["delay"] == "remote"), "{probe:#}");
    }
}

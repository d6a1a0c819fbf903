//! Every way of getting remote stamps, with peers of both versions, and the changes between them.

use super::harness::{Server, alone, client, finish, pingtrace, points};
use super::v0peer::{self, Checksum, ServerOptions};
use netns::Lab;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn all_have(probes: &[Value], point: &str) {
    for p in probes.iter().filter(|p| p["status"] == "ok") {
        assert!(points(p).contains(&point), "no {point}: {p:#}");
    }
}

#[test]
fn two_hosts_on_one_kernel_have_bounds() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--userid 2");
    let run = client(
        &lab.client.ns,
        "-c 10.77.0.2 --userid 1 -i 2ms -C 100 -o json",
    );
    let probes = run.probes();
    assert_eq!(probes.len(), 100);
    for p in &probes {
        assert_eq!(p["clock"], "separate");
        let wire = p["delays"]
            .as_array()
            .unwrap()
            .iter()
            .find(|d| d["delay"] == "l_tx_outlink")
            .expect("wire");
        assert!(
            wire["lo"].as_u64() <= wire["ns"].as_u64()
                && wire["ns"].as_u64() <= wire["hi"].as_u64()
        );
    }
}

#[test]
fn loopback_is_measured() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.client.ns, "");
    for host in ["127.0.0.1", "::1"] {
        let run = client(&lab.client.ns, &format!("-c {host} -i 2ms -C 100 -o json"));
        let probes = run.probes();
        assert_eq!(probes.len(), 100);
        for point in [
            "l_tx_devout",
            "r_rx_devrcv",
            "r_rx_icmprcv",
            "r_tx_devout",
            "l_rx_iprcv",
        ] {
            all_have(&probes, point);
        }
    }
}

#[test]
fn hops_have_names() {
    let lab = Lab::routed().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let run = client(
        &lab.client.ns,
        &format!("-c {} -n -i 2ms -C 20 -o text,json", lab.server.v4),
    );
    let probe = &run.probes()[5];
    let crossed: Vec<_> = probe["points"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["netns"].as_u64())
        .collect();
    let router = u64::from(lab.router.as_ref().unwrap().client_side.ns.inode());
    assert!(crossed.contains(&router), "{probe:#}");
    assert!(
        probe["delays"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["delay"] == "l_tx_path"),
        "{probe:#}"
    );
    assert!(
        run.stderr.contains("pingtrace/"),
        "no process name in the hops: {}",
        run.stderr
    );
}

#[test]
fn record_packets_serve_several_clients() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let start = |_| {
        pingtrace(
            &lab.client.ns,
            "-c 10.77.0.2 --nslocal --mode compact -i 2ms -C 200 -o json",
        )
    };
    let clients: Vec<_> = (0..3).map(start).collect();
    for child in clients {
        let run = finish(child);
        assert!(run.stderr.contains("in record packets"), "{run:#?}");
        let probes = run.probes();
        assert_eq!(probes.len(), 200);
        all_have(&probes, "r_rx_devrcv");
        all_have(&probes, "r_tx_devout");
    }
}

#[test]
fn without_a_server_the_local_stages_remain() {
    let lab = Lab::veth_pair().unwrap();
    let run = client(&lab.client.ns, "-c 10.77.0.2 -i 5ms -C 150 -o json");
    assert_eq!(run.status, 0, "{run:#?}");
    let said = run.stderr.matches("no pingtrace server answers").count();
    assert_eq!(said, 1, "{}", run.stderr);
    let probes = run.probes();
    assert_eq!(probes.len(), 150);
    for p in &probes {
        assert!(
            p["delays"]
                .as_array()
                .unwrap()
                .iter()
                .any(|d| d["delay"] == "remote"),
            "{p:#}"
        );
    }
}

#[test]
fn stamps_come_back_when_the_server_does() {
    let lab = Lab::veth_pair().unwrap();
    let child = pingtrace(
        &lab.client.ns,
        "-c 10.77.0.2 --nslocal -i 10ms -C 400 -o json",
    );
    thread::sleep(Duration::from_secs(1));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = finish(child);
    assert!(run.stderr.contains("in band"), "{}", run.stderr);
    let probes = run.probes();
    assert!(points(probes.last().unwrap()).contains(&"r_rx_devrcv"));
    assert!(!points(&probes[20]).contains(&"r_rx_devrcv"));
}

/// Our client against a version 0 server with these habits.
fn against_v0(options: ServerOptions) -> Vec<Value> {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (ns, told) = (lab.server.ns.try_clone().unwrap(), Arc::clone(&stop));
    let server = thread::spawn(move || ns.run(|| v0peer::serve(&told, options)).unwrap());
    thread::sleep(Duration::from_millis(300));
    let run = client(
        &lab.client.ns,
        "-c 10.77.0.2 --nslocal -i 10ms -C 150 -o json",
    );
    stop.store(true, Ordering::Relaxed);
    server.join().unwrap().unwrap();
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(run.stderr.contains("version 0"), "{}", run.stderr);
    run.probes()
}

/// How many of the later half have the server's arrival stamp.
fn with_remote(probes: &[Value]) -> usize {
    assert_eq!(probes.len(), 150);
    probes[75..]
        .iter()
        .filter(|p| points(p).contains(&"r_rx_icmprcv"))
        .count()
}

#[test]
fn a_version_0_server_is_used() {
    assert_eq!(with_remote(&against_v0(ServerOptions::default())), 75);
}

#[test]
fn a_version_0_server_may_misbehave() {
    let options = ServerOptions {
        checksum: Checksum::SingleFold,
        extra_points: vec![11, 14, 99],
        record_after: Duration::from_millis(5),
        ..ServerOptions::default()
    };
    assert_eq!(with_remote(&against_v0(options)), 75);
}

#[test]
fn a_version_0_client_is_served() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for address in ["10.77.0.2", "fd77::2"] {
        let address: IpAddr = address.parse().unwrap();
        let ask = || {
            v0peer::client(
                address,
                50,
                Duration::from_millis(5),
                Duration::from_secs(1),
            )
        };
        let results = lab.client.ns.run(ask).unwrap().unwrap();
        assert_eq!(results.len(), 50);
        for r in &results {
            assert_eq!(r.faults(), [], "{address} {}", r.sequence);
            let record = r
                .record
                .as_ref()
                .unwrap_or_else(|| panic!("no record of {}", r.sequence));
            assert!(record.packet.added().len() >= 3, "{record:?}");
            assert_eq!(r.duplicates, 0);
        }
    }
}

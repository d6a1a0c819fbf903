//! A host on the way that runs a server is never the destination: its stamps lie between the two wires.

use super::harness::{Finished, Server, at_device, client, points};
use super::topologies::table::TWO_ROUTERS;
use netns::{Host, Lab};
use pingtrace::selftest::inject::forwarder::Plan;
use serde_json::Value;
use std::time::Duration;

/// Options that make one kernel two hosts, each with its namespace only.
const CLIENT: &str = "--userid 3 -i 5ms -o json -m 1us";
const ROUTER: &str = "--userid 9 --lab-clock offset=50s";
const SERVER: &str = "--userid 7 --lab-clock offset=3s";

/// The answers come from behind it, from a host without a server.
#[test]
fn a_router_with_a_server_is_not_the_destination() {
    let lab = Lab::routed().unwrap();
    let _on_router = Server::start(&router(&lab).ns, ROUTER);
    for (host, mode) in [
        (lab.server.v4.to_string(), "auto"),
        (lab.server.v6.to_string(), "auto"),
        (lab.server.v4.to_string(), "compact"),
    ] {
        let run = client(
            &lab.client.ns,
            &format!("-c {host} {CLIENT} -C 300 --mode {mode}"),
        );
        assert_eq!(run.status, 0, "{run:#?}");
        for probe in run.probes() {
            let of_server = |p: &&str| p.starts_with("r_");
            assert!(!points(&probe).iter().any(of_server), "{probe:#}");
        }
        assert!(!run.stderr.contains("server stamps: "), "{}", run.stderr);
        if mode == "auto" {
            assert_hosts(&run, &["client", "transit2", "client"]);
        }
    }
}

/// Most probes have stamps of these hosts, in this order.
fn assert_hosts(run: &Finished, expected: &[&str]) {
    let probes = run.probes();
    let hosts = |probe: &Value| {
        let all = probe["points"].as_array().expect("points").iter();
        let mut hosts: Vec<_> = all.map(|p| p["host"].as_str().expect("a host")).collect();
        hosts.dedup();
        hosts == expected
    };
    let count = probes.iter().filter(|probe| hosts(probe)).count();
    assert!(
        count * 10 >= probes.len() * 8,
        "{count}: {:#}",
        probes[probes.len() / 2]
    );
}

/// The server's stamps are its own, and what the router's queue drops is lost on the wire.
#[test]
fn a_server_behind_a_router_with_a_server_keeps_its_stamps() {
    let lab = Lab::routed().unwrap();
    let at_router = router(&lab);
    let _on_router = Server::start(&at_router.ns, ROUTER);
    let _server = Server::start(&lab.server.ns, SERVER);
    let args = format!("-c {} {CLIENT} -C 100", lab.server.v4);
    let run = client(&lab.client.ns, &args);
    assert_eq!(run.status, 0, "{run:#?}");
    for probe in run.probes() {
        let of_server: Vec<_> = at_points(&probe, "r_").collect();
        assert!(of_server.len() >= 4, "{probe:#}");
        let mut netns = of_server.iter().filter_map(|p| p["netns"].as_u64());
        let own = u64::from(lab.server.ns.inode());
        assert!(netns.all(|netns| netns == own), "{probe:#}");
    }
    assert_hosts(
        &run,
        &["client", "transit2", "server", "transit2", "client"],
    );
    let between: Vec<_> = at_points(&run.probes()[50], "m_").cloned().collect();
    let names: Vec<_> = between.iter().filter_map(|p| p["point"].as_str()).collect();
    let direction = |end| ["rx_dev", "tx_queue", "tx_dev"].map(|at| format!("m_{at}{end}"));
    assert_eq!(names, [direction("echo"), direction("reply")].concat());
    let inode = u64::from(at_router.ns.inode());
    let there = |p: &Value| p["netns"] == inode && p["host"] == "transit2";
    assert!(between.iter().all(there), "{between:#?}");
    let text = client(
        &lab.client.ns,
        &format!("-c {} --userid 3 -C 20 -n", lab.server.v4),
    );
    assert!(text.stdout.contains("transit2"), "{}", text.stdout);
    // A probe never fits into the bucket.
    at_device(&at_router.ns, &at_router.dev, |netlink, eth1| {
        netlink.tbf(eth1, 12_500_000, 100, 100_000)
    });
    let run = client(&lab.client.ns, &format!("{args} -W 300ms"));
    assert_eq!(run.status, 3, "{run:#?}");
    for probe in run.probes() {
        assert_eq!(probe["loss"]["place"], "no_word", "{probe:#}");
        assert!(probe["loss"].get("drop").is_none(), "{probe:#}");
    }
}

/// With a server at the end, and without: each host has its stamps, in its namespace, and its part of the way.
#[test]
fn two_routers_with_servers_are_kept_apart() {
    let row = TWO_ROUTERS;
    let hosts = row.topology.build(Plan::new(Duration::ZERO, Vec::new()));
    let start = |(host, args): &(&str, &str)| Server::start(hosts.get(host), args);
    let (routers, ends): (Vec<_>, Vec<_>) = row.servers.iter().partition(|s| s.0 != "server");
    let _routers: Vec<_> = routers.into_iter().map(start).collect();
    let run = |end: &str| {
        let args = format!("-c {} -n -i 5ms -C 150 -m 1us -o", row.client);
        let json = client(hosts.get("client"), &format!("{args} json"));
        assert_eq!(json.status, 0, "{json:#?}");
        for probe in json.probes() {
            for (host, place) in [("transit2", "one"), ("transit3", "two")] {
                let of_host = |p: &&Value| p["host"] == host;
                let all = probe["points"].as_array().expect("points").iter();
                let inode = u64::from(hosts.get(place).inode());
                assert!(
                    all.filter(of_host).all(|p| p["netns"] == inode),
                    "{probe:#}"
                );
            }
        }
        let text = client(hosts.get("client"), &format!("{args} text")).stdout;
        let parts = ["between client and transit2", "in transit2", end];
        let middle = ["between transit2 and transit3", "in transit3"];
        for part in parts.into_iter().chain(middle) {
            assert!(text.lines().any(|l| l.starts_with(part)), "{part}: {text}");
        }
        json
    };
    let path = ["client", "transit2", "transit3", "transit2", "client"];
    assert_hosts(&run("behind transit3"), &path);
    let _server: Vec<_> = ends.into_iter().map(start).collect();
    let path = [
        "client", "transit2", "transit3", "server", "transit3", "transit2", "client",
    ];
    let run = run("between transit3 and server");
    assert_hosts(&run, &path);
    // By the end their devices have names, each its own.
    let last = run.probes().pop().expect("a probe");
    let of_routers = |p: &&Value| p["host"].as_str().is_some_and(|h| h.starts_with("transit"));
    let named = at_points(&last, "m_")
        .filter(of_routers)
        .map(|p| p["dev"].as_str());
    let there_and_back = [
        "c0", "m0", "m0", "m0", "s0", "s0", "s0", "m0", "m0", "m0", "c0", "c0",
    ];
    assert_eq!(
        named.collect::<Vec<_>>(),
        there_and_back.map(Some),
        "{last:#}"
    );
}

/// Towards the server.
fn router(lab: &Lab) -> &Host {
    &lab.router.as_ref().expect("a router").server_side
}

/// A probe's points whose names begin so.
fn at_points<'p>(probe: &'p Value, prefix: &'p str) -> impl Iterator<Item = &'p Value> {
    let all = probe["points"].as_array().expect("points").iter();
    all.filter(move |p| p["point"].as_str().is_some_and(|p| p.starts_with(prefix)))
}

//! Every point in order, in every probe, by every way in which the server's stamps return.

use super::harness::{Finished, Server, client, delay, points, sum, times, wire};
use netns::Lab;
use pingtrace::selftest::inject::forwarder::Plan;
use serde_json::Value;
use std::time::Duration;

/// All points that this kernel gives without a sleep, in path order.
pub const ALL: [&str; 15] = [
    "l_tx_due",
    "l_tx_user",
    "l_tx_devqueue",
    "l_tx_devout",
    "r_rx_softirq",
    "r_rx_napi",
    "r_rx_devrcv",
    "r_rx_icmprcv",
    "r_tx_devqueue",
    "r_tx_devout",
    "l_rx_softirq",
    "l_rx_napi",
    "l_rx_iprcv",
    "l_rx_skdataready",
    "l_rx_user",
];

const PROBES: usize = 200;

#[test]
fn every_probe_has_every_point_in_order() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for host in both_addresses(&lab) {
        let run = probe(&lab, &format!("{host} --nslocal"));
        assert_complete(&run, true);
    }
}

/// One kernel, and nobody says so: the client's programs see the server's hops too.
#[test]
fn one_kernel_has_every_point() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    for host in both_addresses(&lab) {
        assert_complete(&probe(&lab, &host), true);
    }
}

/// One kernel counts as two hosts: the split of the wire has bounds, its total is exact.
#[test]
fn two_hosts_have_bounds_on_the_wire() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--userid 2");
    for host in both_addresses(&lab) {
        let run = probe(&lab, &format!("{host} --userid 1"));
        assert_complete(&run, false);
        for probe in run.probes() {
            let wires = ["l_tx_outlink", "l_rx_inlink"];
            for delay in probe["delays"].as_array().unwrap() {
                let wire = wires.iter().any(|w| delay["delay"] == *w);
                assert!(!wire || delay["lo"].is_u64(), "{probe:#}");
                let [lo, ns, hi] = ["lo", "ns", "hi"].map(|key| delay[key].as_u64());
                assert!(!wire || lo <= ns && ns <= hi, "{probe:#}");
            }
            let softirqs = ["r_rx_softirq", "r_rx_napi", "l_rx_softirq", "l_rx_napi"];
            let apart: u64 = wires
                .iter()
                .chain(&softirqs)
                .map(|s| delay(&probe, s))
                .sum();
            let between = |from, to| at(&probe, to) - at(&probe, from);
            let exact =
                between("l_tx_devout", "l_rx_iprcv") - between("r_rx_devrcv", "r_tx_devout");
            assert_eq!(apart, exact, "{probe:#}");
        }
    }
}

/// Client and server in one namespace, over the loopback device.
#[test]
fn loopback_has_every_point() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.client.ns, "");
    for host in ["127.0.0.1", "::1"] {
        assert_complete(&probe(&lab, host), true);
    }
}

/// A reply that comes milliseconds later finds the client asleep: how it wakes is in the path.
#[test]
fn a_sleeping_client_has_its_wakeup() {
    let (lab, _wire) = wire(Plan::new(Duration::from_millis(1), []));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for host in both_addresses(&lab) {
        let run = client(
            &lab.client.ns,
            &format!("-c {host} --nslocal -i 5ms -C 100 -o json"),
        );
        assert_eq!(run.status, 0, "{run:#?}");
        // A TAP device hands its packets over in the writer's context, without a softirq.
        let mut expected: Vec<_> = ALL
            .into_iter()
            .filter(|p| !p.ends_with("softirq") && !p.ends_with("napi"))
            .collect();
        expected.splice(10..10, ["l_rx_wakeup", "l_rx_oncpu"]);
        let probes = run.probes();
        assert_eq!(probes.len(), 100);
        let mut slept = 0;
        for probe in probes {
            let woke = |p: &&str| matches!(*p, "l_rx_wakeup" | "l_rx_oncpu");
            let seen = points(&probe);
            // A busy CPU may find the client still awake, or about to sleep: then no sleep, or no
            // end of it, can be seen.
            if seen.iter().filter(|p| woke(p)).count() == 2 {
                assert_eq!(seen, expected, "{probe:#}");
                slept += 1;
            } else {
                let rest = seen.into_iter().filter(|p| !woke(p));
                assert!(
                    rest.eq(expected.iter().copied().filter(|p| !woke(p))),
                    "{probe:#}"
                );
            }
            assert_summed(&probe);
            assert!(times(&probe).is_sorted(), "{probe:#}");
            assert_eq!(direct(&probe), ["r_rx_devrcv", "l_rx_iprcv"], "{probe:#}");
        }
        assert!(slept > 0, "no probe found the client asleep");
    }
}

/// A router on the same kernel: its hops are seen, by name, and the way through it is part of the wire, as
/// with own stamps only.
#[test]
fn hops_through_a_router_are_named() {
    let lab = Lab::routed().unwrap();
    let router = lab.router.as_ref().unwrap();
    let inode = router.client_side.ns.inode();
    let server = Server::start(&lab.server.ns, "");
    for host in both_addresses(&lab) {
        let args = format!("-c {host} -n -i 2ms -C 50");
        let run = client(&lab.client.ns, &format!("{args} -o json"));
        assert_eq!(run.status, 0, "{run:#?}");
        for probe in run.probes() {
            let all = probe["points"].as_array().unwrap();
            let devices: Vec<_> = all
                .iter()
                .filter(|p| p["netns"] == inode)
                .map(|p| {
                    (
                        p["point"].as_str().unwrap(),
                        p["dev"].as_str().unwrap_or("?"),
                    )
                })
                .collect();
            assert!(devices.len() >= 6, "{probe:#}");
            let between = |p: &&Value| p["netns"] == inode;
            for point in all.iter().filter(between) {
                assert_eq!(point["host"], "transit2", "{probe:#}");
            }
            assert_eq!(delay(&probe, "l_tx_path"), 0, "{probe:#}");
            assert_summed(&probe);
        }
        let text = client(&lab.client.ns, &format!("{args} -o text")).stdout;
        assert!(text.contains(&format!("net:[{inode}]")), "{text}");
        let by_process = format!("pingtrace/{}", server.pid());
        assert!(text.contains(&by_process), "{text}");
    }
    drop(server);
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = probe(&lab, &format!("{} --nslocal", lab.server.v4));
    assert_complete(&run, true);
    for probe in run.probes() {
        assert_eq!(delay(&probe, "l_tx_path"), 0, "{probe:#}");
    }
}

/// The points at which the packet was received outside a softirq.
fn direct(probe: &Value) -> Vec<&str> {
    let all = probe["points"].as_array().unwrap().iter();
    let direct = all.filter(|p| p["direct"] == true);
    direct.map(|p| p["point"].as_str().unwrap()).collect()
}

fn both_addresses(lab: &Lab) -> [String; 2] {
    [lab.server.v4.to_string(), lab.server.v6.to_string()]
}

fn probe(lab: &Lab, args: &str) -> Finished {
    client(
        &lab.client.ns,
        &format!("-c {args} -i 2ms -C {PROBES} -o json"),
    )
}

/// All points in order in all probes, and in the order of time where there is one clock.
fn assert_complete(run: &Finished, one_clock: bool) {
    assert_eq!(run.status, 0, "{run:#?}");
    let probes = run.probes();
    assert_eq!(probes.len(), PROBES);
    for probe in &probes {
        let sleepless: Vec<_> = points(probe)
            .into_iter()
            .filter(|p| !matches!(*p, "l_rx_wakeup" | "l_rx_oncpu"))
            .collect();
        assert_eq!(sleepless, ALL, "{probe:#}");
        assert!(direct(probe).is_empty(), "{probe:#}");
        assert_summed(probe);
        let hard = [
            "l_tx_due",
            "l_tx_user",
            "l_tx_devqueue",
            "l_tx_devout",
            "r_rx_devrcv",
            "r_rx_icmprcv",
        ];
        let hard = hard.map(|point| at(probe, point));
        assert!(!one_clock || hard.is_sorted(), "{probe:#}");
    }
    let stat = run.stat();
    for count in ["lost_stamps", "no_remote", "unknown_points", "malformed"] {
        assert!(stat[count].as_u64().is_none_or(|n| n == 0), "{stat:#}");
    }
}

fn assert_summed(probe: &Value) {
    assert_eq!(sum(probe), probe["total_ns"].as_u64().unwrap(), "{probe:#}");
    assert_eq!(delay(probe, "unattributed"), 0, "{probe:#}");
}

fn at(probe: &Value, point: &str) -> u64 {
    let index = points(probe).iter().position(|p| *p == point);
    times(probe)[index.unwrap_or_else(|| panic!("no {point} in {probe:#}"))]
}

/// Without its types an object loads too, but each call of a global function is verified anew, up to the limit.
#[test]
fn the_kernel_takes_the_types_of_the_programs() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--debug");
    assert!(!server.said("Error loading .BTF"));
}

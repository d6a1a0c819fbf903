//! `pingtrace mesh` on real runs: of hosts at one bridge that probe each other, the one with a slow queue is named.

use super::harness::{Finished, at_device, client, finish, pingtrace, program, refused, start};
use super::kit::topology::{Hosts, Topology};
use netns::Namespace;
use pingtrace::selftest::inject::forwarder::Plan;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::thread;
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
/// Host k has the address 10.66.0.k.
const FLEET: Topology = Topology {
    name: "hosts at a bridge",
    cables: "bridge:p1 h1:eth0
             bridge:p2 h2:eth0
             bridge:p3 h3:eth0
             bridge:p4 h4:eth0
             bridge:p5 h5:eth0",
    setup: "bridge: ip link add br0 type bridge && ip link set br0 up && for p in 1 2 3 4 5; do ip link set p$p master br0; done
            h1: ip address add 10.66.0.1/24 dev eth0
            h2: ip address add 10.66.0.2/24 dev eth0
            h3: ip address add 10.66.0.3/24 dev eth0
            h4: ip address add 10.66.0.4/24 dev eth0
            h5: ip address add 10.66.0.5/24 dev eth0",
};
const BAD: &str = "10.66.0.4";

fn mesh(directory: &Path, args: &str) -> Finished {
    let mut command = program();
    command.arg("mesh").args(args.split_whitespace());
    let ns = Namespace::current().unwrap();
    finish(start(&ns, command.current_dir(directory)))
}

/// All probe all others, 236 kB a second through each device; what they log is hK.stat, and hK.json.
fn probe_each_other(hosts: &Hosts, directory: &Path) {
    let agent = |k: i32| {
        let peers = (1..=5).filter(|peer| *peer != k);
        let target = |peer| format!(" -c 10.66.0.{peer}");
        let targets: String = peers.map(target).collect();
        let log = directory.join(format!("h{k}"));
        let args = format!(
            "agent --open --nslocal{targets} -C 30 -i 20ms -W 10s -m 10ms -o json,log --log {}",
            log.display()
        );
        let run = finish(pingtrace(hosts.get(&format!("h{k}")), &args));
        assert_eq!(run.status, 0, "{run:#?}");
        fs::write(log.with_extension("json"), run.stdout).unwrap();
    };
    let agent = &agent;
    thread::scope(|scope| {
        for k in 1..=5 {
            scope.spawn(move || agent(k));
        }
    });
}

/// A token bucket takes 30 kB of those 236 a second: each packet waits longer for its turn than the one before, in
/// the end for seconds. The busier the machine, the more the other pairs differ, and the slower a host has to be.
/// The replies of all hosts of a kernel share the send buffer of its ICMP sockets: 30 probes a pair leave room in it.
#[test]
fn the_host_with_a_slow_queue_is_named() {
    let hosts = FLEET.build(Plan::default());
    at_device(hosts.get("h4"), "eth0", |netlink, eth0| {
        netlink.tbf(eth0, 30_000, 3_000, 1_000_000)
    });
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    probe_each_other(&hosts, directory);

    let stat = "h1.stat h2.seq h3.stat h4.stat h5.json";
    let text = mesh(directory, &format!("{stat} --image fleet.svg"));
    assert_eq!(text.status, 0, "{text:#?}");
    // All logs have the same name of a host, so addresses are their names.
    let title = format!("{BAD} is slow for all its peers, sending: the host itself; ");
    assert!(text.stdout.starts_with(&title), "{text:#?}");
    let facts = "\n5 hosts, 20 of 20 pairs, 600 probes, 0 lost, ";
    assert!(text.stdout.contains(facts), "{text:#?}");
    let picture = fs::read_to_string(directory.join("fleet.svg")).unwrap();
    assert!(picture.contains(&title[..title.len() - 2]), "its heading");

    let json = mesh(directory, &format!("{stat} -o json"));
    assert_eq!(json.status, 0, "{json:#?}");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let [answer] = &json.lines("mesh")[..] else {
        panic!("{json:#?}")
    };
    assert_eq!(json.lines("cell").len(), 20);
    for line in json.lines("mesh").iter().chain(&json.lines("cell")) {
        assert!(schema.is_valid(line), "{line:#}");
    }
    let finding = &answer["findings"][0];
    assert_eq!(finding["hosts"], serde_json::json!([BAD]), "{answer:#}");
    assert_eq!(finding["part"], "host", "{answer:#}");
    assert_eq!(answer["nodes"][0]["host"], BAD, "{answer:#}");
    assert!(
        answer["findings"].as_array().unwrap().len() == 1,
        "{answer:#}"
    );

    let few = mesh(directory, "h4.stat");
    assert_eq!(few.status, 0, "{few:#?}");
    assert!(
        few.stderr.contains("the results of one host only"),
        "{few:#?}"
    );
}

#[test]
fn files_that_make_no_matrix_are_refused() {
    let lab = netns::Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    for (ns, peer) in [(&lab.client.ns, 2), (&lab.server.ns, 1)] {
        let run = client(ns, &format!("-c 10.77.0.{peer} -C 3 -i 5ms -o json"));
        assert_eq!(run.status, 0, "{run:#?}");
        fs::write(directory.join(format!("{peer}.json")), run.stdout).unwrap();
    }
    let pair = mesh(directory, "1.json 2.json");
    assert_eq!(pair.status, 0, "{pair:#?}");
    let unknown = "unknown which host is to blame: too few pairs; ";
    assert!(pair.stdout.starts_with(unknown), "{pair:#?}");

    fs::write(directory.join("text"), "it is slow today\n").unwrap();
    fs::write(directory.join("empty"), "").unwrap();
    let whole = fs::read_to_string(directory.join("1.json")).unwrap();
    let first = whole.lines().next().unwrap();
    fs::write(directory.join("cut"), format!("{first}\n")).unwrap();
    for (files, status, words) in [
        ("1.json text", 1, "text: line 1: "),
        ("1.json empty", 1, "empty: no line says what run this is"),
        ("1.json cut", 1, "cut: no statistics in it"),
        ("1.json absent", 1, "open the saved run absent: "),
        ("1.json --hosts text2", 1, "read text2 (--hosts): "),
        ("1.json --hosts empty", 2, "no line with two names"),
    ] {
        refused(&mesh(directory, files), status, &[words]);
    }
}

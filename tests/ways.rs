//! Several ways to one host: a nexthop group with a bad member, a route that becomes a longer one, and an
//! address translation that gives probes another ICMP id.

use super::harness::{
    Finished, Server, client, finish, hear, pingtrace, sh, status, wire, with_story,
};
use netns::{Lab, Namespace, Netlink};
use pingtrace::selftest::inject::forwarder::{Action, Forwarder, Plan, Rule};
use report::model::Direction;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

/// Of the nexthop group. The first one is the wire of the plan; the others are veth pairs.
const MEMBERS: u8 = 4;
/// So many that the wire surely gets some of them: each goes there with a chance of one in four.
const FLOWS: u32 = 64;
/// Each round has a probe of every flow.
const ROUNDS: u32 = 40;
const PROBES: u32 = ROUNDS * FLOWS;
/// The addresses that the group lies between.
const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);

/// Joins two namespaces by a veth pair with this name at both ends, over which IPv6 packets pass at once.
fn join(name: &str, near: &Namespace, far: &Namespace) {
    for ns in [near, far] {
        sh(ns, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    }
    let add = || Netlink::open()?.add_veth(name, name, far);
    near.run(add).unwrap().unwrap();
}

/// A member of the group, by its devices at either end. Its neighbour is known from the start: the kernel
/// takes another member as long as it is not.
fn member(lab: &Lab, id: u8, via: &str, [near, far]: [&str; 2]) {
    let mac = format!("02:00:00:00:00:{id:02x}");
    sh(&lab.server.ns, &format!("ip link set {far} address {mac}"));
    let neighbour = format!("ip neighbour replace {via} lladdr {mac} dev {near} nud permanent");
    let nexthop = format!("ip nexthop add id {id} via {via} dev {near}");
    sh(&lab.client.ns, &format!("{neighbour}; {nexthop}"));
}

/// A client whose requests take one of four ways by their flow label, and the wire that is one of them.
fn group(plan: Plan) -> (Lab, Forwarder) {
    let (lab, wire) = wire(plan);
    let (near, far) = (&lab.client.ns, &lab.server.ns);
    sh(near, &format!("ip address add {CLIENT}/128 dev lo"));
    sh(far, &format!("ip address add {SERVER}/128 dev lo"));
    member(
        &lab,
        1,
        &lab.server.v6.to_string(),
        [&lab.client.dev, &lab.server.dev],
    );
    for k in 2..=MEMBERS {
        join(&format!("w{k}"), near, far);
        for (end, ns) in [(1, near), (2, far)] {
            let address = format!("ip address add fd78:{k}::{end}/64 dev w{k} nodad");
            sh(ns, &format!("{address}; ip link set w{k} up"));
        }
        let dev = format!("w{k}");
        member(&lab, k, &format!("fd78:{k}::2"), [&dev, &dev]);
    }
    let route = format!("ip route add {SERVER} nhid 10 src {CLIENT}");
    sh(
        near,
        &format!("ip nexthop add id 10 group 1/2/3/4; {route}"),
    );
    sh(far, &format!("ip route add {CLIENT} via fd78:2::1"));
    (lab, wire)
}

/// A run over the group: the flows that took the wire, and those that are said to differ.
fn run(plan: Plan) -> (Finished, BTreeSet<u64>, BTreeSet<u64>) {
    let (lab, wire) = group(plan);
    let _server = Server::start(&lab.server.ns, "--userid 7");
    let args =
        format!("-c {SERVER} --userid 3 --flows {FLOWS} -i 2ms -C {PROBES} -W 200ms -o json");
    let run = client(&lab.client.ns, &args);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let taken = seqs(wire);
    let mut on_wire = [0; FLOWS as usize];
    for probe in run.probes() {
        let seq = probe["seq"].as_u64().unwrap() as u32;
        on_wire[flow(&probe) as usize] += u32::from(taken.contains(&seq));
    }
    let whole = on_wire.iter().all(|&n| n == 0 || n == ROUNDS);
    assert!(whole, "a flow took several ways: {on_wire:?}");
    let bad = (0..u64::from(FLOWS)).filter(|&flow| on_wire[flow as usize] > 0);
    let bad = bad.collect();
    let said = run.stat()["headline"]["flows"].clone();
    let said = said.as_array().unwrap_or(&Vec::new()).clone();
    let said = said.iter().filter_map(Value::as_u64).collect();
    (run, bad, said)
}

/// The probes whose requests took the wire.
fn seqs(wire: Forwarder) -> BTreeSet<u32> {
    wire.stop().log.iter().map(|entry| entry.seq).collect()
}

fn flow(probe: &Value) -> u64 {
    probe["flow"].as_u64().unwrap_or(0)
}

fn title(run: &Finished) -> String {
    run.stat()["headline"]["title"].as_str().unwrap().to_owned()
}

#[test]
fn the_flows_on_a_member_that_loses_are_named() {
    let some = (0..PROBES).filter(|seq| (seq / FLOWS).is_multiple_of(3));
    let some: Vec<u32> = some.collect();
    let lossy = Rule::at(Direction::Request, some, Action::Drop);
    let (run, bad, said) = run(Plan::new(Duration::ZERO, [lossy]));
    assert!(!bad.is_empty() && bad.len() < FLOWS as usize, "{bad:?}");
    assert_eq!(said, bad, "{}", title(&run));
    let title = title(&run);
    assert!(title.contains("of 64 lose"), "{title}");
    let stat = run.stat();
    let flows = stat["flows"].as_array().unwrap();
    let sum = |what: &str| flows.iter().filter_map(|f| f[what].as_u64()).sum::<u64>();
    assert_eq!(
        (sum("lost"), sum("replied")),
        (number(&stat, "lost"), number(&stat, "replied"))
    );
}

fn number(stat: &Value, what: &str) -> u64 {
    stat[what].as_u64().unwrap()
}

#[test]
fn the_flows_on_a_slow_member_are_named() {
    let slow = Rule::all(Direction::Request, Action::Delay(Duration::from_millis(20)));
    let (run, bad, said) = run(Plan::new(Duration::ZERO, [slow]));
    assert!(!bad.is_empty() && bad.len() < FLOWS as usize, "{bad:?}");
    assert_eq!(said, bad, "{}", title(&run));
    let title = title(&run);
    assert!(title.contains("slower than the others (median"), "{title}");
}

#[test]
fn one_flow_takes_one_way() {
    let (lab, wire) = group(Plan::new(Duration::ZERO, []));
    let run = client(
        &lab.client.ns,
        &format!("-c {SERVER} -i 2ms -C 100 -o json"),
    );
    assert_eq!(run.status, 0, "{}", run.stderr);
    let taken = seqs(wire).len();
    assert!(taken == 0 || taken == 100, "{taken} of 100 took the wire");
    assert!(run.stat()["flows"].is_null(), "{:#}", run.stat());
}

/// The TTLs of a probe: request and reply.
fn ttls(probe: &Value) -> [Option<u64>; 2] {
    ["request_ttl", "reply_ttl"].map(|of| probe[of].as_u64())
}

/// A router sends requests to the server through one more router from some moment on.
fn route_changes(args: &str, detour: &str, server_args: &str) {
    let lab = Lab::routed().unwrap();
    let router = &lab.router.as_ref().unwrap().client_side.ns;
    let further = Namespace::anonymous().unwrap();
    join("hop1", router, &further);
    join("hop2", &further, &lab.server.ns);
    for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        sh(&further, &format!("echo 1 > /proc/sys/net/{forwarding}"));
    }
    for (ns, dev, subnet, end) in [
        (router, "hop1", 8, 1),
        (&further, "hop1", 8, 2),
        (&further, "hop2", 9, 1),
        (&lab.server.ns, "hop2", 9, 2),
    ] {
        let v6 = format!("ip address add fd77:{subnet}::{end}/64 dev {dev} nodad");
        let v4 = format!("ip address add 10.77.{subnet}.{end}/24 dev {dev}");
        sh(ns, &format!("{v4}; {v6}; ip link set {dev} up"));
    }
    let (v4, v6) = (lab.server.v4, lab.server.v6);
    sh(
        &further,
        &format!("ip route add {v4} via 10.77.9.2; ip route add {v6} via fd77:9::2"),
    );
    let _server = Server::start(&lab.server.ns, &format!("--userid 7 {server_args}"));
    let client = format!("--userid 3 -i 10ms -C 200 -o json {args}");
    let (child, mut story) = with_story(pingtrace(&lab.client.ns, &client));
    hear(&mut story, "server stamps");
    std::thread::sleep(Duration::from_millis(500));
    sh(router, detour);
    let run = super::harness::end(child, story);
    assert_eq!(run.status, 0, "{run:#?}");
    let probes = run.probes();
    let answered: Vec<_> = probes.iter().filter(|p| status(p) == "ok").collect();
    let seen: BTreeSet<_> = answered.iter().map(|p| ttls(p)).collect();
    let expected = [[Some(62), Some(63)], [Some(63), Some(63)]];
    assert_eq!(seen, BTreeSet::from(expected), "{}", run.stderr);
    let event = "the path out became longer: TTL 62 on arrival, not 63 (+1 hop)";
    assert!(run.stderr.contains(event), "{}", run.stderr);
    assert_eq!(run.stat()["path_changes"], 1, "{:#}", run.stat());
}

#[test]
fn a_longer_route_is_an_event() {
    let v6 = "ip route replace fd77:1::2/128 via fd77:8::2";
    route_changes("-c fd77:1::2", v6, "");
    let v4 = "ip route replace 10.77.1.2/32 via 10.77.8.2";
    route_changes("-c 10.77.1.2", v4, "");
    route_changes("-c 10.77.1.2 --mode compact", v4, "");
}

/// A router that hides its client behind its own address, with another ICMP id.
#[test]
fn a_translated_id_hides_no_probe_from_the_server() {
    let lab = Lab::routed().unwrap();
    let router = &lab.router.as_ref().unwrap().client_side.ns;
    let chain = "add chain ip t post { type nat hook postrouting priority 100 ; }";
    let rule = "add rule ip t post oifname eth1 masquerade fully-random";
    sh(
        router,
        &format!("nft add table ip t; nft '{chain}'; nft {rule}"),
    );
    let _server = Server::start(&lab.server.ns, "--userid 7");
    for mode in ["inband", "compact"] {
        let args = format!(
            "-c {} --userid 3 --flows 4 --mode {mode} -i 5ms -C 60 -o json",
            lab.server.v4
        );
        let run = finish(pingtrace(&lab.client.ns, &args));
        assert_eq!(run.status, 0, "{run:#?}");
        let of_server = |p: &&Value| {
            let points = p["points"].as_array().unwrap();
            points.iter().any(|point| point["point"] == "r_tx_devout")
        };
        let probes = run.probes();
        let stamped = probes.iter().filter(of_server).count();
        assert_eq!(stamped, 60, "{mode}: {}", run.stderr);
        let seen: BTreeSet<_> = probes.iter().map(ttls).collect();
        assert_eq!(seen, BTreeSet::from([[Some(63), Some(63)]]), "{mode}");
    }
}

//! A fault that is known, put into exactly one place, shows there and nowhere else.

use super::forwarder::{Action, Direction, Forwarder, Outcome, Plan, Rule};
use super::harness::{self, Finished, Server, alone, client, delay, finish, pingtrace};
use super::load::{CpuHog, Flood, Hog, Priority, UdpFlood};
use bpf::burn::BurnSkelBuilder;
use bpf::burn::types::span;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use netns::{Lab, Netlink, TapLab};
use serde_json::Value;
use std::mem::MaybeUninit;
use std::process::Command;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// Probes that a forwarder rule picks, spread over a run of 200.
const PICKED: [u32; 6] = [20, 47, 80, 111, 150, 181];

/// Runs a client behind a forwarder that does what `rules` say.
fn through_forwarder(rules: Vec<Rule>, options: &str) -> (Finished, Outcome) {
    let TapLab {
        lab,
        client_tap,
        server_tap,
    } = Lab::tap_pair().unwrap();
    let plan = Plan::new(Duration::from_micros(200), rules);
    let forwarder = Forwarder::start(client_tap, server_tap, plan).unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = client(
        &lab.client.ns,
        &format!("-c 10.77.0.2 --nslocal -o json {options}"),
    );
    (run, forwarder.stop())
}

fn by_seq(run: &Finished, seq: u32) -> Vec<Value> {
    run.probes()
        .into_iter()
        .filter(|p| p["seq"] == seq)
        .collect()
}

/// The picked probes have the injected delay in `segment`, to what the forwarder itself measured,
/// the verdict names it, and no other segment took as long.
fn check_delayed(run: &Finished, truth: &Outcome, direction: Direction, segment: &str) {
    for seq in PICKED {
        let probe = &by_seq(run, seq)[0];
        let entry = truth
            .of(seq, direction)
            .next()
            .expect("the forwarder saw it");
        let crossing = entry.written_ns.expect("written") - entry.read_ns;
        let measured = delay(probe, segment);
        // The forwarder's two system calls lie within the crossing that the probe saw.
        assert!(measured >= crossing, "{seq}: {measured} < {crossing}");
        assert_eq!(probe["verdict"]["segment"], segment, "{probe:#}");
        let rest = probe["total_ns"].as_u64().unwrap() - measured;
        assert!(rest < crossing, "{seq}: {rest} elsewhere of {crossing}");
    }
}

#[test]
fn a_delay_on_the_way_out_is_wire_out() {
    let _alone = alone();
    let rules = vec![Rule::at(Direction::AToB, PICKED, Action::Delay(15 * MS))];
    let (run, truth) = through_forwarder(rules, "-i 5ms -C 200");
    assert_eq!(run.status, 0, "{run:#?}");
    check_delayed(&run, &truth, Direction::AToB, "l_tx_outlink");
}

#[test]
fn a_delay_on_the_way_back_is_wire_in() {
    let _alone = alone();
    let rules = vec![Rule::at(Direction::BToA, PICKED, Action::Delay(15 * MS))];
    let (run, truth) = through_forwarder(rules, "-i 5ms -C 200");
    assert_eq!(run.status, 0, "{run:#?}");
    check_delayed(&run, &truth, Direction::BToA, "l_rx_inlink");
}

#[test]
fn what_became_of_each_probe_is_told() {
    let _alone = alone();
    let gap = MS;
    let rules = vec![
        Rule::at(Direction::AToB, [10, 30], Action::Drop),
        Rule::at(Direction::BToA, [50], Action::Drop),
        Rule::at(
            Direction::BToA,
            [70, 90],
            Action::Duplicate { copies: 1, gap },
        ),
        Rule::at(Direction::AToB, [110], Action::Hold),
        Rule::at(Direction::BToA, [130], Action::Hold),
        Rule::at(Direction::AToB, [150], Action::Delay(400 * MS)),
    ];
    let (run, _) = through_forwarder(rules, "-i 10ms -C 200 -W 300ms");
    let stat = run.stat();
    assert_eq!(stat["sent"], 200, "{stat:#}");
    assert_eq!(stat["lost"], 3, "{stat:#}");
    assert_eq!(stat["late"], 1, "{stat:#}");
    assert_eq!(stat["dup"], 2, "{stat:#}");
    // The held ones, and the late one that all its successors overtook.
    assert_eq!(stat["reordered"], 3, "{stat:#}");
    for (seq, status) in [
        (10, "lost"),
        (30, "lost"),
        (50, "lost"),
        (150, "late"),
        (11, "ok"),
    ] {
        assert_eq!(by_seq(&run, seq)[0]["status"], status, "{seq}");
    }
    for seq in [70, 90] {
        let mut found: Vec<_> = by_seq(&run, seq)
            .iter()
            .map(|p| p["status"].to_string())
            .collect();
        found.sort();
        assert_eq!(found, ["\"dup\"", "\"ok\""]);
    }
    // A reply that came late leaves its stamps; a lost probe, those of this host.
    assert!(harness::points(&by_seq(&run, 10)[0]).contains(&"l_tx_devout"));
}

/// A token bucket of 20 Mbit/s, behind a burst of UDP: probes wait in the queue of `side`.
fn behind_a_queue(lab: &Lab, on_client: bool) -> Finished {
    let (host, to) = if on_client {
        (&lab.client, lab.server.v4)
    } else {
        (&lab.server, lab.client.v4)
    };
    let ifindex = host.ifindex;
    let slow = move || Netlink::open()?.tbf(ifindex, 2_500_000, 16_000, 400_000);
    host.ns.run(slow).unwrap().unwrap();
    let ns = host.ns.try_clone().unwrap();
    let flood = Flood {
        dst: (to, 9).into(),
        size: 1200,
        cpu: None,
        rate: Some(2_600),
        count: 1_300,
        limit: Duration::from_secs(3),
    };
    // The thread stays there until it ends.
    let enter = move || {
        ns.enter()
            .map(std::mem::forget)
            .map_err(std::io::Error::other)
    };
    let child = pingtrace(
        &lab.client.ns,
        "-c 10.77.0.2 --nslocal -i 5ms -C 500 -W 3 -o json",
    );
    std::thread::sleep(Duration::from_millis(1200));
    UdpFlood::start(enter, flood).unwrap().wait();
    finish(child)
}

fn slow_ones(run: &Finished, at_least: Duration) -> Vec<Value> {
    let ns = at_least.as_nanos() as u64;
    let slow = |p: &Value| p["status"] == "ok" && p["total_ns"].as_u64().unwrap_or(0) >= ns;
    run.probes().into_iter().filter(slow).collect()
}

/// At least 95 % of these probes have most of their time in `segment`, and the verdict says so.
fn mostly(probes: &[Value], segment: &str) {
    assert!(probes.len() >= 10, "only {} slow probes", probes.len());
    let right = |p: &&Value| {
        p["verdict"]["segment"] == segment
            && delay(p, segment) * 10 >= p["total_ns"].as_u64().unwrap() * 9
    };
    let (good, wrong): (Vec<_>, Vec<_>) = probes.iter().partition(right);
    assert!(
        good.len() * 100 >= probes.len() * 95,
        "{} of {}: {:#}",
        good.len(),
        probes.len(),
        wrong[0]
    );
}

#[test]
fn a_queue_on_the_client_is_its_qdisc() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = behind_a_queue(&lab, true);
    mostly(&slow_ones(&run, 5 * MS), "l_tx_qdisc");
}

#[test]
fn a_queue_on_the_server_is_its_qdisc() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = behind_a_queue(&lab, false);
    mostly(&slow_ones(&run, 5 * MS), "r_tx_qdisc");
}

#[test]
fn a_hog_on_the_cpu_is_the_run_queue() {
    let _alone = alone();
    let TapLab {
        lab,
        client_tap,
        server_tap,
    } = Lab::tap_pair().unwrap();
    let plan = Plan::new(MS, vec![]);
    let _forwarder = Forwarder::start(client_tap, server_tap, plan).unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let child = pingtrace(
        &lab.client.ns,
        "-c 10.77.0.2 --nslocal -i 7ms -C 400 -o json",
    );
    harness::pin(child.id(), 1);
    let hog = Hog {
        cpu: 1,
        priority: Priority::Fifo(1),
        limit: Duration::from_secs(5),
        burst: Some((20 * MS, 100 * MS)),
    };
    let hog = CpuHog::start(hog).unwrap();
    let run = finish(child);
    let spans = hog.stop();
    let during = |p: &&Value| {
        let Some(woken) = at(p, "l_rx_wakeup") else {
            return false;
        };
        spans
            .iter()
            .any(|(from, to)| woken > *from && woken + 5_000_000 < *to)
    };
    let probes = run.probes();
    let hit: Vec<&Value> = probes.iter().filter(during).collect();
    assert!(
        hit.len() >= 5,
        "only {} probes woke during a burst",
        hit.len()
    );
    for p in hit {
        assert!(delay(p, "l_rx_task_queue") >= 4_000_000, "{p:#}");
        assert_eq!(p["verdict"]["segment"], "l_rx_task_queue", "{p:#}");
    }
}

#[test]
fn twenty_thousand_a_second_lose_nothing() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = client(
        &lab.client.ns,
        "-c 10.77.0.2 --nslocal -i 50 -C 40000 -m 10s -o json",
    );
    let stat = run.stat();
    assert_eq!(stat["replied"], 40_000, "{stat:#}");
    assert!(stat["no_remote"].as_u64().unwrap_or(0) <= 40, "{stat:#}");
}

/// When a probe passed a point, ns.
fn at(probe: &Value, point: &str) -> Option<u64> {
    let points = probe["points"].as_array().expect("points");
    points.iter().find(|s| s["point"] == point)?["ns"].as_u64()
}

/// Sends what arrives at the server's device to the other CPU's softirq (RPS). The setting is in
/// the namespace's own sysfs, so that is mounted, privately, for a moment.
fn receive_on(lab: &Lab, cpu: usize) {
    let mask = 1 << cpu;
    let dev = &lab.server.dev;
    let script = format!(
        "mount -t sysfs none /sys && echo {mask:x} > /sys/class/net/{dev}/queues/rx-0/rps_cpus"
    );
    let set = || {
        Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .status()
    };
    assert!(
        lab.server.ns.run(set).unwrap().unwrap().success(),
        "cannot set RPS"
    );
}

#[test]
fn a_busy_softirq_is_the_wait_for_the_softirq() {
    const CPU: u32 = 1;
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    receive_on(&lab, CPU as usize);
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let mut storage = MaybeUninit::uninit();
    let mut open = BurnSkelBuilder::default().open(&mut storage).unwrap();
    let rodata = open.maps.rodata_data.as_deref_mut().unwrap();
    rodata.target_cpu = CPU;
    rodata.burn_ns = 8_000_000;
    rodata.period_ns = 60_000_000;
    let mut skel = open.load().unwrap();
    let child = pingtrace(
        &lab.client.ns,
        "-c 10.77.0.2 --nslocal -i 3ms -C 800 -o json",
    );
    harness::pin(child.id(), 0);
    skel.attach().unwrap();
    let run = finish(child);
    let bss = skel.maps.bss_data.as_deref().unwrap();
    let spans = &bss.spans[..bss.burnt as usize];
    assert!(spans.len() >= 10, "only {} faults", spans.len());
    let probes = run.probes();
    let mut hit = Vec::new();
    for p in &probes {
        let (Some(raised), Some(sent)) = (at(p, "r_rx_softirq"), at(p, "l_tx_devout")) else {
            continue;
        };
        // Raised for an older probe, it says nothing of when this one came.
        if raised < sent {
            continue;
        }
        let during = |s: &&span| s.from < raised && raised + 2_000_000 < s.to;
        if let Some(s) = spans.iter().find(during) {
            assert!(delay(p, "r_rx_softirq") >= s.to - raised, "{p:#}");
            hit.push(p);
        }
    }
    assert!(
        hit.len() >= 5,
        "only {} probes were raised during a fault",
        hit.len()
    );
    let named = hit
        .iter()
        .filter(|p| p["verdict"]["segment"] == "r_rx_softirq")
        .count();
    assert!(
        named * 100 >= hit.len() * 95,
        "{named} of {}: {:#}",
        hit.len(),
        hit[0]
    );
}

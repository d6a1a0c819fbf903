//! A busy softirq, for a known time, is the wait for the softirq.

use super::harness::{self, Server, alone, delay, finish, pingtrace};
use super::load::{CpuHog, Hog, Priority};
use bpf::burn::BurnSkelBuilder;
use bpf::burn::types::span;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use netns::Lab;
use serde_json::Value;
use std::mem::MaybeUninit;
use std::process::Command;
use std::time::Duration;

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
    // An idle CPU has next to no softirqs, a busy one has one a tick.
    let busy = Hog {
        cpu: CPU as usize,
        priority: Priority::Normal,
        limit: Duration::from_secs(4),
        burst: None,
    };
    let busy = CpuHog::start(busy).unwrap();
    skel.attach().unwrap();
    let run = finish(child);
    drop(busy);
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

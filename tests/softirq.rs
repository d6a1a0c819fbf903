//! A busy softirq, for a known time, is the wait for the softirq.

use super::harness::{self, Client, Server, alone, delay, elsewhere};
use netns::Lab;
use pingtrace::selftest::inject::burn::{Burn, Long};
use pingtrace::selftest::inject::load::Ticking;
use serde_json::Value;
use std::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// When a probe passed a point, ns.
fn at(probe: &Value, point: &str) -> Option<u64> {
    let points = probe["points"].as_array().expect("points");
    points.iter().find(|s| s["point"] == point)?["ns"].as_u64()
}

#[test]
fn a_busy_softirq_is_the_wait_for_the_softirq() {
    const CPU: usize = 1;
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    lab.server.receive_on(Some(CPU)).unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let mut storage = MaybeUninit::uninit();
    let mut burn = Burn::load(&mut storage, Duration::ZERO).unwrap();
    let mut client = Client::start(&lab.client.ns, "-c 10.77.0.2 --nslocal -i 3ms -o json");
    client.hear("server stamps");
    harness::pin(client.pid(), 0);
    let ticking = Ticking::start(CPU, Duration::from_secs(4)).unwrap();
    burn.attach_long(Long::Softirq, CPU, 8 * MS).unwrap();
    for _ in 0..32 {
        burn.arm();
        thread::sleep(60 * MS);
    }
    let run = client.stop();
    drop(ticking);
    let spans = burn.detach_long();
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
        let during = |(from, to): &&(u64, u64)| *from < raised && raised + 2_000_000 < *to;
        if let Some((_, to)) = spans.iter().find(during) {
            assert!(delay(p, "r_rx_softirq") >= to - raised, "{p:#}");
            if elsewhere(p, "r_rx_softirq") < 2_000_000 {
                hit.push(p);
            }
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

//! A stall of the client's own host: the probes that were due meanwhile say so.

use super::harness::{
    Finished, Server, alone, client, delay, elsewhere, finish, pingtrace, points, sum,
};
use netns::{Lab, Namespace};
use pingtrace::kernel::thread::{Priority, pin};
use pingtrace::selftest::inject::load::{CpuHog, Hog};
use serde_json::Value;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const CPU: usize = 0;
/// Slower probes are recorded.
const THRESHOLD_NS: u64 = 5_000_000;

/// In a thread on that CPU; the client begins, and stays, there.
fn client_on_cpu(ns: &Namespace, args: &str) -> std::process::Child {
    let start = || {
        pin(CPU).unwrap();
        pingtrace(ns, args)
    };
    thread::scope(|scope| scope.spawn(start).join().unwrap())
}

fn due_ns(probe: &Value) -> u64 {
    let stamps = probe["points"].as_array().unwrap();
    assert_eq!(stamps[0]["point"], "l_tx_due", "it heads the path");
    stamps[0]["ns"].as_u64().unwrap()
}

/// The statistics of the total, of the response, or of a segment.
fn row(run: &Finished, name: &str) -> Option<Value> {
    let stat = run.stat();
    let rows = stat["delays"].as_array().unwrap();
    rows.iter().find(|row| row["delay"] == name).cloned()
}

/// While a real-time task has the client's CPU no probe leaves: those that were due are recorded,
/// are slow because of that, and the hog is to blame; an objective on the response is missed.
#[test]
fn bursts_on_the_clients_cpu_are_its_own_lateness() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!(
        "-c {} --nslocal -i 10ms -C 400 -m 5ms --explain --slo p99(response)<5ms -o json",
        lab.server.v4
    );
    let child = client_on_cpu(&lab.client.ns, &args);
    server.wait_for_probes(100);
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Fifo(10),
        limit: Duration::from_secs(2),
        burst: Some((20 * MS, 97 * MS)),
    })
    .unwrap();
    let run = finish(child);
    let bursts = hog.stop();
    assert_eq!(run.status, 4, "the objective is missed: {run:#?}");
    let probes = run.probes();
    let answered: Vec<&Value> = probes.iter().filter(|p| p["status"] != "lost").collect();
    for probe in &answered {
        let [total, response] = ["total_ns", "response_ns"].map(|t| probe[t].as_u64().unwrap());
        assert!(response >= THRESHOLD_NS, "{probe:#}");
        assert_eq!(response, total + delay(probe, "l_tx_late"));
        assert_eq!(sum(probe), total);
    }
    // How long after its time each probe that was due in a burst must have left.
    let held = |probe: &&Value| {
        let due = due_ns(probe);
        let in_burst = |&&(from, to): &&(u64, u64)| (from..to - THRESHOLD_NS).contains(&due);
        bursts.iter().find(in_burst).map(|(_, to)| to - due)
    };
    let held = answered.iter().filter_map(|p| Some((*p, held(p)?)));
    let hit: Vec<(&Value, u64)> = held.collect();
    assert!(hit.len() >= bursts.len(), "{} of {bursts:?}", hit.len());
    for (probe, least) in &hit {
        assert!(delay(probe, "l_tx_late") >= *least, "{least}: {probe:#}");
    }
    let named =
        |p: &&Value| p["verdict"]["segment"] == "l_tx_late" && p["verdict"]["owner"] == "local";
    // Explaining has a share of a CPU, so not all are explained.
    let explained = |p: &&&Value| p["blame"].as_array().is_some_and(|blame| !blame.is_empty());
    let hog_has_it = |p: &&Value| {
        let blame = p["blame"].as_array().map_or(&[][..], Vec::as_slice);
        let late = blame.iter().filter(|b| b["segment"] == "l_tx_late");
        let mut parts = late.flat_map(|b| b["parts"].as_array().unwrap());
        parts.any(|part| part["comm"] == "hog" && part["ns"].as_u64() > Some(1_000_000))
    };
    // On a busy machine others hold up a probe longer, once it has left.
    let mostly_late = |p: &&Value| delay(p, "l_tx_late") > 2 * elsewhere(p, "l_tx_late");
    let clear: Vec<&Value> = hit.iter().map(|(p, _)| *p).filter(mostly_late).collect();
    let blamed: Vec<&Value> = clear.iter().filter(explained).copied().collect();
    for (what, of, so) in [
        ("named", clear, &named as &dyn Fn(&&Value) -> bool),
        ("blamed", blamed, &hog_has_it),
    ] {
        assert!(!of.is_empty(), "{what}: {hit:#?}");
        let not: Vec<_> = of.iter().filter(|p| !so(p)).collect();
        assert!(
            not.len() * 10 <= of.len(),
            "not {what}, of {}: {not:#?}",
            of.len()
        );
    }
    let [response, total] = ["response", "total"].map(|name| row(&run, name).unwrap());
    assert_eq!(response["count"], total["count"]);
    assert!(
        response["p99"].as_u64() > Some(THRESHOLD_NS),
        "{response:#}"
    );
}

/// Without a schedule nothing is due.
#[test]
fn an_adaptive_run_has_no_lateness() {
    let lab = Lab::veth_pair().unwrap();
    let run = client(
        &lab.client.ns,
        &format!("-c {} -A -C 50 -o json", lab.server.v4),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    for probe in run.probes() {
        assert_eq!(points(&probe)[0], "l_tx_user");
        assert!(probe["response_ns"].is_null());
    }
    assert!(row(&run, "total").is_some());
    assert!(row(&run, "response").is_none() && row(&run, "l_tx_late").is_none());
}

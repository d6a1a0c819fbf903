//! `--explain`: what held up a probe on purpose is what is blamed, by class and by name.

use super::harness::{Server, alone, delay, interrupt, pingtrace, wire};
use super::kit::quota::Quota;
use super::kit::stall::{Kind, Stall};
use netns::Lab;
use pingtrace::kernel::thread::{Priority, pin};
use pingtrace::selftest::inject::burn::{Burn, Long};
use pingtrace::selftest::inject::forwarder::{Forwarder, Plan};
use pingtrace::selftest::inject::load::{CpuHog, Hog, Ticking};
use serde_json::Value;
use std::mem::MaybeUninit;
use std::process::Child;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// Where the client runs, or the server receives.
const CPU: usize = 0;
const FAULTS: usize = 20;
/// From when to when a CPU was held up, ns.
type Spans = Vec<(u64, u64)>;

/// When a probe passed a point, ns.
fn at(probe: &Value, point: &str) -> Option<u64> {
    let points = probe["points"].as_array().expect("points");
    points.iter().find(|s| s["point"] == point)?["ns"].as_u64()
}

/// In a thread on this CPU; what it starts begins there.
fn on_cpu<T: Send>(cpu: usize, start: impl FnOnce() -> T + Send) -> T {
    let pinned = move || {
        pin(cpu).unwrap();
        start()
    };
    thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

/// A wire whose ends are handled on another CPU than the client's.
fn far_wire() -> (Lab, Forwarder) {
    on_cpu(1, || wire(Plan::new(4 * MS, [])))
}

/// Probes after which a client explains.
const LEARNT: u64 = 100;
/// For what is said of the last fault.
const AFTER: Duration = Duration::from_secs(2);

/// A client on one CPU, which probes and explains.
fn client(lab: &Lab, server: &Server) -> Child {
    let args = format!(
        "-c {} --userid 3 --explain=1.5ms -i 3ms -t 60 -o json",
        lab.server.v4
    );
    let child = on_cpu(CPU, || pingtrace(&lab.client.ns, &args));
    server.wait_for_probes(LEARNT);
    child
}

/// Runs a client during which `inject` holds up its CPU, and checks the blame for the probes whose
/// replies came meanwhile.
fn blamed(inject: impl FnOnce(&Child) -> Spans, class: &str, culprit: &str) {
    let _alone = alone();
    let (lab, _wire) = far_wire();
    let server = Server::start(&lab.server.ns, "--userid 7");
    let child = client(&lab, &server);
    let spans = inject(&child);
    thread::sleep(AFTER);
    let run = interrupt(child);
    assert_eq!(run.status, 0, "{run:#?}");
    let probes = run.probes();
    let by_quota = probes.iter().filter(|probe| quota_ns(probe) > 0);
    assert_eq!(by_quota.count(), 0, "nobody has a quota");
    let hits = probes
        .iter()
        .filter_map(|probe| Some((probe, held_up(probe, &spans)?)));
    let hits: Vec<(&Value, u64)> = hits.collect();
    let ready: Vec<_> = probes
        .iter()
        .filter_map(|p| at(p, "l_rx_skdataready"))
        .collect();
    let seen = (ready.iter().min(), ready.iter().max());
    assert!(
        hits.len() >= FAULTS / 2,
        "{} of {seen:?} in {spans:?}",
        hits.len()
    );
    let right = |(probe, ns): &&(&Value, u64)| {
        // What else ran meanwhile on a busy machine is not to be blamed for this.
        let (of_class, of_culprit) = blamed_ns(probe, class, culprit);
        of_class > 0 && of_culprit.abs_diff(*ns) < 400_000 + ns / 20
    };
    let count = hits.iter().filter(right).count();
    println!("{class}: {count} of {}", hits.len());
    let wrong = hits.iter().filter(|hit| !right(hit)).map(|(probe, ns)| {
        let found = blamed_ns(probe, class, culprit);
        format!("{ns} ns, blamed {found:?}: {}", brief(probe))
    });
    let wrong: Vec<String> = wrong.take(3).collect();
    assert!(
        count * 100 >= hits.len() * 90,
        "{count} of {}: {wrong:#?}",
        hits.len()
    );
}

/// Its blame in a line.
fn brief(probe: &Value) -> String {
    let blame = probe["blame"].as_array().map_or(&[][..], Vec::as_slice);
    let part = |p: &Value| format!("{} {} {}", p["class"], p["comm"], p["ns"]);
    let one = |b: &Value| {
        let parts = b["parts"].as_array().map_or(&[][..], Vec::as_slice);
        let parts: Vec<String> = parts.iter().map(part).collect();
        format!("{} {}: {}", b["segment"], b["window_ns"], parts.join(", "))
    };
    blame.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// For how long the wake-up that a reply caused was held up by faults, ns, if one was the first
/// thing to do so. Without any blame it was one of too many at once.
fn held_up(probe: &Value, spans: &Spans) -> Option<u64> {
    probe["blame"].as_array()?;
    let (ready, ran) = (at(probe, "l_rx_skdataready")?, at(probe, "l_rx_oncpu")?);
    spans
        .iter()
        .find(|(from, to)| (*from..*to).contains(&ready))?;
    let overlap = |(from, to): &(u64, u64)| ran.min(*to).saturating_sub(ready.max(*from));
    let ns = spans.iter().map(overlap).sum();
    (ns > 1_500_000).then_some(ns)
}

/// For how long this class is blamed on the culprit, and the culprit in all, between the reply's
/// arrival and the client's turn; with what the hypervisor took away from it.
fn blamed_ns(probe: &Value, class: &str, culprit: &str) -> (u64, u64) {
    let blame = probe["blame"].as_array().map_or(&[][..], Vec::as_slice);
    let waits = ["l_rx_task_waking", "l_rx_task_queue", "l_rx_task_run"];
    let of = |b: &&Value| b["host"] == "client" && waits.iter().any(|s| b["segment"] == **s);
    let parts = blame
        .iter()
        .filter(of)
        .filter_map(|b| b["parts"].as_array());
    let its = |part: &&Value| part["comm"] == culprit || part["class"] == "outside";
    parts
        .flatten()
        .filter(its)
        .fold((0, 0), |(of_class, all), part| {
            let ns = part["ns"].as_u64().unwrap_or(0);
            (of_class + ns * u64::from(part["class"] == class), all + ns)
        })
}

/// For how long the quota is blamed, whichever thread of the client it held up.
fn quota_ns(probe: &Value) -> u64 {
    let blame = probe["blame"].as_array().map_or(&[][..], Vec::as_slice);
    let parts = blame.iter().filter_map(|b| b["parts"].as_array()).flatten();
    let by_quota = parts.filter(|part| part["class"] == "quota");
    by_quota.filter_map(|part| part["ns"].as_u64()).sum()
}

/// So many times, apart.
fn stalls(kind: Kind) -> Spans {
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, kind).unwrap();
    let once = |_| {
        thread::sleep(50 * MS);
        let span = stall.once(CPU, 8 * MS).unwrap();
        (span.from_ns, span.to_ns)
    };
    (0..FAULTS).map(once).collect()
}

#[test]
fn a_hog_is_blamed() {
    let inject = |_: &Child| {
        let hog = CpuHog::start(Hog {
            cpu: CPU,
            priority: Priority::Fifo(1),
            limit: Duration::from_secs(2),
            burst: Some((8 * MS, 60 * MS)),
        });
        let hog = hog.unwrap();
        thread::sleep(1300 * MS);
        hog.stop()
    };
    blamed(inject, "cpu", "hog");
}

/// Two clients at once, each with a recorder of its own and two targets.
#[test]
fn each_of_two_recorders_blames_a_hog_for_each_target() {
    let _alone = alone();
    let (lab, _wire) = far_wire();
    let server = Server::start(&lab.server.ns, "--userid 7");
    let targets = [lab.server.v4.to_string(), lab.server.v6.to_string()];
    let [a, b] = &targets;
    let args = format!("-c {a} -c {b} --userid 3 --explain=1.5ms -i 5ms -t 60 -o json");
    let clients = [0, 1].map(|_| on_cpu(CPU, || pingtrace(&lab.client.ns, &args)));
    server.wait_for_probes(4 * LEARNT);
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Fifo(1),
        limit: Duration::from_secs(3),
        burst: Some((8 * MS, 60 * MS)),
    });
    let hog = hog.unwrap();
    thread::sleep(2000 * MS);
    let spans = hog.stop();
    thread::sleep(AFTER);
    for run in clients.map(interrupt) {
        assert_eq!(run.status, 0, "{run:#?}");
        let probes = run.probes();
        for target in &targets {
            let hit =
                |probe: &&Value| probe["target"] == **target && held_up(probe, &spans).is_some();
            let hits: Vec<&Value> = probes.iter().filter(hit).collect();
            let is_blamed = |probe: &&&Value| blamed_ns(probe, "cpu", "hog").0 > 0;
            let count = hits.iter().filter(is_blamed).count();
            println!("{target}: {count} of {}", hits.len());
            assert!(
                count > 0 && count * 100 >= hits.len() * 80,
                "{target}: {count} of {hits:#?}"
            );
        }
    }
}

#[test]
fn interrupts_off_are_blamed() {
    blamed(|_| stalls(Kind::IrqOff), "irqoff", "stall");
}

#[test]
fn who_does_not_schedule_is_blamed() {
    blamed(|_| stalls(Kind::PreemptOff), "hard", "stall");
}

#[test]
fn a_long_softirq_is_blamed() {
    blamed(|_| stalls(Kind::SoftirqRun), "softirq_run", "NET_RX");
}

/// The client shares its cgroup's quota with one that uses it up.
#[test]
fn a_quota_is_blamed() {
    let _alone = alone();
    let quota = Quota::new(20 * MS, 60 * MS).unwrap();
    let (lab, _wire) = far_wire();
    let server = Server::start(&lab.server.ns, "--userid 7");
    let child = client(&lab, &server);
    quota.confine_process(child.id()).unwrap();
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Normal,
        limit: Duration::from_millis(1500),
        burst: None,
    });
    let hog = hog.unwrap();
    quota.confine_thread(hog.tid()).unwrap();
    thread::sleep(1500 * MS + AFTER);
    let run = interrupt(child);
    drop(hog);
    let probes = run.probes();
    // Nobody else on this machine keeps a task off its CPU for that long.
    let waited = |probe: &Value| {
        let (ready, user) = (at(probe, "l_rx_skdataready")?, at(probe, "l_rx_user")?);
        Some(user.saturating_sub(ready))
    };
    let throttled = |probe: &&Value| waited(probe).is_some_and(|ns| ns > 25_000_000);
    let hit: Vec<&Value> = probes.iter().filter(throttled).collect();
    assert!(hit.len() >= 10, "{} probes", hit.len());
    // On a busy machine others do as well.
    let most = |probe: &&&Value| quota_ns(probe) > 20_000_000;
    let explained = |probe: &&&Value| probe["blame"].is_array();
    let explained: Vec<&&Value> = hit.iter().filter(explained).collect();
    let count = explained.iter().filter(|p| most(p)).count();
    println!("quota: {count} of {}, {} hit", explained.len(), hit.len());
    let wrong = explained.iter().filter(|p| !most(p)).map(|p| brief(p));
    let wrong: Vec<String> = wrong.take(3).collect();
    // Its share of a CPU and the quota bound what the explaining thread can do; the rest is counted.
    assert!(!explained.is_empty(), "0 of {}", hit.len());
    assert!(
        count * 4 >= explained.len() * 3,
        "{count} of {}: {wrong:#?}",
        explained.len()
    );
    let waits = ["l_rx_task_waking", "l_rx_task_queue", "l_rx_task_run"];
    let is_slow = |probe: &&Value| waits.iter().any(|s| delay(probe, s) > 2_000_000);
    let slow = probes.iter().filter(is_slow);
    let silent = slow.filter(|p| !p["blame"].is_array()).count() as u64;
    let stat = run.lines("stat").pop().expect("a stat line");
    let skipped = stat["blame"]["skipped"].as_u64().unwrap_or(0);
    assert!(skipped >= silent, "{skipped} of {silent} are counted");
}

/// A softirq of the server, by the server's own clock.
#[test]
fn the_server_blames_its_own() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    lab.server.receive_on(Some(1)).unwrap();
    let server = Server::start(&lab.server.ns, "--userid 7 --explain=2ms");
    let mut storage = MaybeUninit::uninit();
    let mut burn = Burn::load(&mut storage, Duration::ZERO).unwrap();
    let args = "-c 10.77.0.2 --userid 3 --explain=2ms -i 3ms -t 60 -o json";
    let child = pingtrace(&lab.client.ns, args);
    super::harness::pin(child.id(), 0);
    server.wait_for_probes(LEARNT);
    let ticking = Ticking::start(1, Duration::from_secs(20)).unwrap();
    burn.attach_long(Long::Softirq, 1, 8 * MS).unwrap();
    for _ in 0..32 {
        burn.arm();
        thread::sleep(50 * MS);
    }
    thread::sleep(AFTER);
    let run = interrupt(child);
    drop(ticking);
    let spans = burn.detach_long();
    let probes = run.probes();
    let hit = |probe: &&Value| {
        let raised = at(probe, "r_rx_softirq").unwrap_or(0);
        let sent = at(probe, "l_tx_devout").unwrap_or(u64::MAX);
        let during = |&(from, to): &(u64, u64)| from < raised && raised + 3_000_000 < to;
        let of_server = |b: &Value| b["host"] == "server";
        // Without any blame it was one of too many at once.
        let blame = probe["blame"].as_array();
        let is_explained = blame.is_some_and(|blame| blame.iter().any(of_server));
        is_explained && raised > sent && spans.iter().any(during)
    };
    let hit: Vec<&Value> = probes.iter().filter(hit).collect();
    assert!(hit.len() >= 5, "{} probes in {spans:?}", hit.len());
    let told = |probe: &&&Value| {
        let blame = probe["blame"].as_array().map_or(&[][..], Vec::as_slice);
        blame.iter().any(|b| {
            b["host"] == "server"
                && b["segment"] == "r_rx_softirq"
                && b["parts"][0]["class"] == "softirq_run"
        })
    };
    let count = hit.iter().filter(told).count();
    println!("server: {count} of {}", hit.len());
    let wrong = hit.iter().filter(|probe| !told(probe));
    let wrong: Vec<String> = wrong.take(3).map(|probe| brief(probe)).collect();
    assert!(
        count * 100 >= hit.len() * 90,
        "{count} of {}: {wrong:#?}",
        hit.len()
    );
}

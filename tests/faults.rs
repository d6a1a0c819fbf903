//! A known fault in one segment shows there, by that much, and nowhere else.

use super::harness::{
    Client, Finished, Server, alone, at_device, client, delay, elsewhere, pingtrace, points,
    status, wire,
};
use netns::{Host, Lab, Namespace, Netlink};
use pingtrace::kernel::thread::{Priority, pin};
use pingtrace::selftest::inject::forwarder::{Action, Outcome, Plan, Rule};
use pingtrace::selftest::inject::load::{CpuHog, Flood, Hog, UdpFlood};
use report::model::Direction;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// What two clock readings on either side of a system call, and a busy neighbour, may differ by.
const TOLERANCE_NS: u64 = 300_000;
/// The probes that are hit: spread out, and behind enough others to know what is usual.
const HIT: [u32; 20] = [
    110, 115, 120, 125, 130, 135, 140, 145, 150, 155, 160, 165, 170, 175, 180, 185, 190, 195, 200,
    205,
];

/// 5 ms on the way there are on the way there.
#[test]
fn a_slow_wire_out_is_the_wire_out() {
    slow_wire(Direction::Request, "l_tx_outlink");
}

#[test]
fn a_slow_wire_in_is_the_wire_in() {
    slow_wire(Direction::Reply, "l_rx_inlink");
}

fn slow_wire(direction: Direction, segment: &str) {
    const INJECTED: Duration = Duration::from_millis(40);
    let _alone = alone();
    let rules = [Rule::at(direction, HIT, Action::Delay(INJECTED))];
    let (lab, wire) = wire(Plan::new(MS, rules));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = run(&lab, "-i 8ms -C 220");
    let outcome = wire.stop();
    assert!(outcome.error.is_none(), "{outcome:?}");
    let probes = run.probes();
    let hit = of_sequences(&probes, &HIT);
    assert_eq!(hit.len(), HIT.len());
    let exact = |probe: &&Value| {
        let injected = injected(&outcome, seq(probe), direction);
        delay(probe, segment).abs_diff(injected) < TOLERANCE_NS
    };
    let hit = most(hit, |p| exact(p) && elsewhere(p, segment) < 20_000_000);
    assert_verdict(&hit, segment);
    let others: Vec<_> = probes.iter().filter(|p| !HIT.contains(&seq(p))).collect();
    most(others, |p| delay(p, segment) < 4_000_000);
}

/// Packets queued before a probe on the client's own device.
#[test]
fn a_queue_on_the_clients_device_is_its_qdisc() {
    let lab = Lab::veth_pair().unwrap();
    slow_queue(&lab, &lab.client, &lab.server, ONE_CLOCK, "l_tx_qdisc");
}

/// Packets queued before a reply on the server's device: its driver hand-over comes home late.
#[test]
fn a_queue_on_the_servers_device_is_its_qdisc() {
    let lab = Lab::veth_pair().unwrap();
    slow_queue(&lab, &lab.server, &lab.client, ONE_CLOCK, "r_tx_qdisc");
}

/// Its driver hands the reply to a second device of the server, which queues it.
#[test]
fn a_queue_below_the_servers_device_is_its_qdisc() {
    for lab in [Lab::macvlan(), Lab::bridged()] {
        let lab = lab.unwrap();
        for of_client in ["--userid 3", "--userid 3 --mode compact"] {
            let of_server = "--userid 7 --lab-clock offset=3s,drift=20";
            let probes = queued(&lab, (&lab.server, "eth0"), [of_server, of_client]);
            assert_queued(&probes, "r_tx_qdisc");
            let complete = |p: &&Value| {
                let all = points(p).into_iter().filter(|p| p.starts_with("r_tx_"));
                all.eq(["r_tx_devqueue", "r_tx_devout"].repeat(2))
            };
            let count = probes.iter().filter(complete).count();
            assert!(count >= 30, "{count} of 40 have both hand-overs");
        }
    }
}

/// A router between two ends on one kernel is neither's, whichever of them sees its devices.
#[test]
fn a_queue_between_the_ends_is_the_wire() {
    let lab = Lab::routed().unwrap();
    let router = lab.router.as_ref().unwrap();
    for options in [["", ""], ["", "--nslocal"], ["--nslocal", ""]] {
        let probes = queued(&lab, (&router.server_side, "eth1"), options);
        assert_queued(&probes, "l_tx_outlink");
        let probes = queued(&lab, (&router.client_side, "eth0"), options);
        assert_queued(&probes, "l_rx_inlink");
    }
}

/// Probes, options of the server and of the client, through a queue that needs longer for each, some 25 ms,
/// than the time between them: each waits longer than the one before, however busy the machine is.
fn queued(lab: &Lab, (at, device): (&Host, &str), [of_server, of_client]: [&str; 2]) -> Vec<Value> {
    at_device(&at.ns, device, |netlink, queue| {
        netlink.tbf(queue, 22_500, 700, 1_000_000)
    });
    let _server = Server::start(&lab.server.ns, of_server);
    let args = format!(
        "-c {} {of_client} -i 20ms -C 40 -W 5 -o json -m 1us",
        lab.server.v4
    );
    let run = client(&lab.client.ns, &args);
    at_device(&at.ns, device, Netlink::remove_root_qdisc);
    assert_eq!((run.status, run.probes().len()), (0, 40), "{run:#?}");
    run.probes()
}

/// Most probes waited, and that is in this segment.
fn assert_queued(probes: &[Value], segment: &str) {
    let queued = probes.iter().filter(|p| delay(p, segment) >= 8_000_000);
    assert!(queued.count() >= 25, "{segment}: {:#}", probes[20]);
}

/// Options of the server and of the client.
pub const ONE_CLOCK: [&str; 2] = ["--nslocal"; 2];
pub const TWO_CLOCKS: [&str; 2] = ["--userid 7 --lab-clock offset=3s,drift=20", "--userid 3"];

/// A token bucket of 4 Mbit/s and bursts of 40 packets, which take some 110 ms to leave.
pub fn slow_queue(
    lab: &Lab,
    at: &Host,
    to: &Host,
    [of_server, of_client]: [&str; 2],
    segment: &str,
) {
    const BYTES_A_SECOND: u32 = 500_000;
    let _alone = alone();
    let shape = || Netlink::open()?.tbf(at.ifindex, BYTES_A_SECOND, 3_000, 1_000_000);
    at.ns.run(shape).unwrap().unwrap();
    let _server = Server::start(&lab.server.ns, of_server);
    let args = format!("-c {} {of_client} -i 10ms -o json -m 1us", lab.server.v4);
    let client = judging(&lab.client.ns, &args);
    let flood = Flood {
        dst: SocketAddr::new(to.v4.into(), 9),
        size: 1_400,
        cpu: None,
        rate: None,
        count: 40,
        limit: Duration::from_secs(1),
    };
    for _ in 0..3 {
        let ns = at.ns.try_clone().unwrap();
        // The thread stays there until its end.
        let enter = move || {
            ns.enter()
                .map(std::mem::forget)
                .map_err(std::io::Error::other)
        };
        UdpFlood::start(enter, flood).unwrap().wait();
        thread::sleep(250 * MS);
    }
    let run = client.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    let probes = run.probes();
    // A busy machine adds to it elsewhere.
    let there = |p: &&Value| {
        let here = delay(p, segment);
        here > 30_000_000 && here > 3 * elsewhere(p, segment)
    };
    let slow: Vec<_> = probes.iter().filter(there).collect();
    assert!(!slow.is_empty(), "no slow probes");
    assert_verdict(&slow, segment);
    // Some kernels run no programs in softirqs that interrupt a task which they protect.
    let without = count(&run, "no_remote");
    assert!(without * 10 <= probes.len() as u64, "{:#}", run.stat());
}

/// A client that has stamps of the server, and probes enough to know what is usual.
fn judging(ns: &Namespace, args: &str) -> Client {
    let mut client = Client::start(ns, args);
    client.hear("server stamps");
    thread::sleep(1_000 * MS);
    client
}

/// A thread of higher priority keeps the woken client from its CPU.
#[test]
fn a_busy_cpu_is_the_run_queue() {
    const CPU: usize = 0;
    let segment = "l_rx_task_queue";
    let _alone = alone();
    // So long on the wire that many are sent before a turn of the hog and answered in it.
    let (lab, _wire) = wire(Plan::new(10 * MS, []));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c {} --nslocal -i 10ms -o json -m 1us", lab.server.v4);
    let client = thread::scope(|scope| {
        // A child starts on the CPU of the thread that starts it.
        let start = || {
            pin(CPU).unwrap();
            judging(&lab.client.ns, &args)
        };
        scope.spawn(start).join().unwrap()
    });
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Fifo(1),
        limit: Duration::from_secs(1),
        burst: Some((24 * MS, 53 * MS)),
    })
    .unwrap();
    thread::sleep(1_000 * MS);
    let run = client.stop();
    let bursts = hog.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    let probes = run.probes();
    let caught: Vec<_> = probes
        .iter()
        .filter(|p| {
            let woken = point_ns(p, "l_rx_wakeup").unwrap_or(0);
            let in_burst = |&(from, to): &(u64, u64)| {
                (from + 200_000..to.saturating_sub(8_000_000)).contains(&woken)
            };
            elsewhere(p, segment) < 24_000_000 && bursts.iter().any(in_burst)
        })
        .collect();
    assert!(caught.len() >= 5, "{} of {bursts:?}", caught.len());
    let queued = |p: &&Value| delay(p, segment) > 6_000_000;
    assert_verdict(&most(caught, queued), segment);
}

/// What the wire does to probes is what the statistics say, probe by probe, in both directions.
#[test]
fn lost_late_double_and_overtaking_probes_are_counted() {
    let _alone = alone();
    for direction in [Direction::Request, Direction::Reply] {
        let twice = Action::Duplicate { copies: 1, gap: MS };
        let rules = [
            Rule::at(direction, [20, 21, 40], Action::Drop),
            Rule::at(direction, [60, 61], Action::Delay(250 * MS)),
            Rule::at(direction, [80, 90, 100], twice),
            Rule::at(direction, [120, 130], Action::Hold),
        ];
        let (lab, _wire) = wire(Plan::new(Duration::ZERO, rules));
        let _server = Server::start(&lab.server.ns, "--nslocal");
        let run = run(&lab, "-W 0.1 -i 10ms -C 150");
        let expected = [
            ("sent", 150),
            ("replied", 147),
            ("lost", 3),
            ("late", 2),
            ("dup", 3),
            ("reordered", 4),
        ];
        let way = if direction == Direction::Request {
            "out"
        } else {
            "in"
        };
        for (what, times) in [("lost", 3), ("late", 2), ("dup", 3), ("reordered", 4)] {
            let what = format!("{what}_{way}");
            assert_eq!(count(&run, &what), times, "{what}: {:#}", run.stat());
        }
        for (what, times) in expected {
            assert_eq!(
                count(&run, what),
                times,
                "{what} {direction:?}: {:#}",
                run.stat()
            );
        }
        let probes = run.probes();
        let with = |wanted| {
            let mut sequences: Vec<_> = probes
                .iter()
                .filter(|p| status(p) == wanted)
                .map(seq)
                .collect();
            sequences.sort_unstable();
            sequences
        };
        assert_eq!(with("lost"), [20, 21, 40]);
        assert_eq!(with("late"), [60, 61]);
        assert_eq!(with("dup"), [80, 90, 100]);
        assert_eq!(with("ok").len(), 145);
    }
}

/// 20 000 probes a second, or as many as the machine can send: all are answered and stamped, but those that
/// the socket had no room for.
#[test]
fn fast_probes_are_complete() {
    let _alone = alone();
    let [replied, dropped] = fast("-i 50us", |_| {});
    assert_eq!(replied + dropped, FAST);
}

/// The next probe at each reply: none waits anywhere, and the last ones need no more memory than the first.
#[test]
fn fast_probes_cost_no_memory() {
    let _alone = alone();
    let mut kb = Vec::new();
    let replies = fast("-A", |pid| kb.extend(resident_kb(pid)));
    assert_eq!(replies, [FAST, 0]);
    let [early, late] = [1, 2].map(|thirds| kb[kb.len() * thirds / 3]);
    assert!(late < early + 2_048, "{kb:?}");
}

const FAST: u64 = 50_000;

/// Sends so many probes, and looks at the client ten times a second; how many were answered, and how many
/// answers the socket had no room for.
fn fast(pace: &str, mut look: impl FnMut(u32)) -> [u64; 2] {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!(
        "-c {} --nslocal {pace} -C {FAST} -m 1000s -o json --stat-interval 0.1",
        lab.server.v4
    );
    let mut child = pingtrace(&lab.client.ns, &args);
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut stat = Value::Null;
    for line in out.lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match line["type"].as_str() {
            Some("interval") => look(child.id()),
            Some("stat") => stat = line,
            _ => {}
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(stat["sent"], FAST, "{stat:#}");
    let replied = stat["replied"].as_u64().unwrap();
    let delays = stat["delays"].as_array().unwrap();
    let stamped = delays.iter().find(|d| d["delay"] == "r_tx_qdisc").unwrap();
    let stamped = stamped["count"].as_u64().unwrap();
    assert!(stamped >= replied - replied / 1_000, "{stat:#}");
    let losses = stat["losses"].as_array().map_or(&[][..], Vec::as_slice);
    let dropped = losses.iter().filter(|l| l["place"] == "socket");
    let dropped = dropped.map(|l| l["count"].as_u64().unwrap()).sum();
    [replied, dropped]
}

/// `None` once it has ended.
fn resident_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line?.split_whitespace().next()?.parse().ok()
}

/// With a threshold that every probe reaches: each of them is judged.
fn run(lab: &Lab, args: &str) -> Finished {
    let run = client(
        &lab.client.ns,
        &format!("-c {} --nslocal {args} -o json -m 1us", lab.server.v4),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    run
}

/// Those of the probes that are as they should be: more than half, for on a shared machine somebody
/// else may slow down some.
fn most(probes: Vec<&Value>, so: impl Fn(&&Value) -> bool) -> Vec<&Value> {
    let all = probes.len();
    let (so, not): (Vec<_>, Vec<_>) = probes.into_iter().partition(so);
    assert!(
        so.len() * 2 > all,
        "{} of {all} are as they should be; the first that is not: {:#}",
        so.len(),
        not[0]
    );
    so
}

/// At least 95 % of these probes were surely slow because of this segment.
fn assert_verdict(probes: &[&Value], segment: &str) {
    let named = probes
        .iter()
        .filter(|p| p["verdict"]["segment"] == segment && p["verdict"]["sure"] == true)
        .count();
    assert!(
        named * 100 >= probes.len() * 95,
        "{segment} in {named} of {}: {:#?}",
        probes.len(),
        probes.iter().map(|p| &p["verdict"]).collect::<Vec<_>>()
    );
}

/// What the wire itself measured.
fn injected(outcome: &Outcome, seq: u32, direction: Direction) -> u64 {
    outcome
        .entries_for(seq, direction)
        .next()
        .expect("a log entry")
        .injected_ns
}

fn of_sequences<'p>(probes: &'p [Value], sequences: &[u32]) -> Vec<&'p Value> {
    let wanted = |p: &&Value| sequences.contains(&seq(p));
    probes.iter().filter(wanted).collect()
}

fn seq(probe: &Value) -> u32 {
    probe["seq"].as_u64().expect("seq") as u32
}

fn point_ns(probe: &Value, point: &str) -> Option<u64> {
    let points = probe["points"].as_array().expect("points");
    points.iter().find(|p| p["point"] == point)?["ns"].as_u64()
}

fn count(run: &Finished, what: &str) -> u64 {
    run.stat()[what].as_u64().unwrap_or(0)
}

//! Interrupts that are off on the CPU that receives are the host's: a probe waits for them before anything
//! can stamp it.

use super::harness::{Server, alone, delay, interrupt, pin, pingtrace};
use super::kit::stall::{self, Kind, Span, Stall};
use netns::{Host, Lab};
use serde_json::Value;
use std::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// Which receives.
const CPU: usize = 1;
const FAULTS: usize = 20;

/// When a probe passed a point, ns; the last time.
fn at(probe: &Value, point: &str) -> Option<u64> {
    let points = probe["points"].as_array().expect("points");
    points.iter().rfind(|s| s["point"] == point)?["ns"].as_u64()
}

/// An end of the path, and the points between which a probe is on its way to it.
struct End {
    host: fn(&Lab) -> &Host,
    departure: &'static str,
    arrival: &'static str,
    wire: &'static str,
    segment: &'static str,
}

const SERVER: End = End {
    host: |lab| &lab.server,
    departure: "l_tx_devout",
    arrival: "r_rx_devrcv",
    wire: "l_tx_outlink",
    segment: "r_rx_softirq",
};
const CLIENT: End = End {
    host: |lab| &lab.client,
    departure: "r_tx_devout",
    arrival: "l_rx_iprcv",
    wire: "l_rx_inlink",
    segment: "l_rx_softirq",
};

/// The probes that left for this end while interrupts were off there, and arrived 2 ms later or more.
fn held_up(end: &End, options: &str) -> Vec<Value> {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    (end.host)(&lab).receive_on(Some(CPU)).unwrap();
    let server = Server::start(&lab.server.ns, &format!("--userid 7 {options}"));
    let args = format!("-c 10.77.0.2 --userid 3 -i 1ms -t 60 -m 1 -o json {options}");
    let child = pingtrace(&lab.client.ns, &args);
    pin(child.id(), 0);
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::IrqOff).unwrap();
    server.wait_for_probes(300);
    let once = |_| {
        thread::sleep(80 * MS);
        stall.once(CPU, 5 * MS).unwrap()
    };
    let spans: Vec<Span> = (0..FAULTS).map(once).collect();
    // For what is said of the last fault.
    thread::sleep(1000 * MS);
    let run = interrupt(child);
    assert_eq!(run.status, 0, "{run:#?}");
    let waited = |probe: &Value| {
        let (Some(left), Some(arrived)) = (at(probe, end.departure), at(probe, end.arrival)) else {
            return false;
        };
        let during = |span: &Span| span.from_ns < left && left + 3_000_000 < span.to_ns;
        arrived >= left + 2_000_000 && spans.iter().any(during)
    };
    let hit: Vec<Value> = run.probes().into_iter().filter(waited).collect();
    assert!(hit.len() >= FAULTS / 6, "{} probes in {spans:?}", hit.len());
    println!("held up: {spans:?}");
    hit
}

/// A verdict in a line, for a failure.
fn brief(probe: &Value) -> String {
    let delays = probe["delays"].as_array().map_or(&[][..], Vec::as_slice);
    let long = delays.iter().filter(|d| d["ns"].as_u64() > Some(200_000));
    let long: Vec<String> = long
        .map(|d| format!("{} {}", d["delay"], d["ns"]))
        .collect();
    let points = probe["points"].as_array().map_or(&[][..], Vec::as_slice);
    let points = points.iter().map(|p| format!("{} {}", p["point"], p["ns"]));
    let points: Vec<String> = points.collect();
    let verdict = &probe["verdict"];
    format!(
        "{}: {} {}; {}; {}",
        probe["seq"],
        verdict["owner"],
        verdict["sure"],
        long.join(", "),
        points.join(", ")
    )
}

fn is_wire(probe: &Value) -> bool {
    let owner = probe["verdict"]["owner"].as_str().unwrap_or_default();
    owner.starts_with("wire")
}

/// The timers of `--explain` find them, whatever else made a probe slow; who did it is blamed.
fn explained(end: &End) {
    let hit = held_up(end, "--explain=2ms");
    let is_right = |p: &Value| {
        delay(p, end.segment) > 2_000_000 && delay(p, end.wire) < 1_800_000 && !is_wire(p)
    };
    let wrong: Vec<String> = hit.iter().filter(|p| !is_right(p)).map(brief).collect();
    println!("{}: {} wrong of {}", end.segment, wrong.len(), hit.len());
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        hit.len()
    );
    // What the recorders had time to explain.
    let blame = hit.iter().filter_map(|probe| probe["blame"].as_array());
    let of_segment = |b: &&Value| b["segment"] == end.segment;
    let blame: Vec<&Value> = blame.flatten().filter(of_segment).collect();
    let by_stall =
        |b: &&&Value| b["parts"][0]["class"] == "irqoff" && b["parts"][0]["comm"] == stall::COMM;
    let count = blame.iter().filter(by_stall).count();
    println!("{count} blamed of {}", blame.len());
    assert!(
        count > 0 && count * 10 >= blame.len() * 9,
        "{count} of {}: {blame:#?}",
        blame.len()
    );
}

#[test]
fn interrupts_off_at_the_server_are_the_servers() {
    explained(&SERVER);
}

#[test]
fn interrupts_off_at_the_client_are_the_clients() {
    explained(&CLIENT);
}

/// Without it only the timers tell that are there anyway: what they leave open is no sure wire.
fn not_explained(end: &End) {
    let hit = held_up(end, "");
    let is_sure_wire = |p: &&Value| is_wire(p) && p["verdict"]["sure"] == true;
    let named = hit
        .iter()
        .filter(|p| p["verdict"]["segment"] == end.segment)
        .count();
    println!("{}: {named} named, of {}", end.segment, hit.len());
    let wrong: Vec<String> = hit.iter().filter(is_sure_wire).map(brief).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        hit.len()
    );
}

#[test]
fn interrupts_off_at_the_server_are_never_a_sure_wire() {
    not_explained(&SERVER);
}

#[test]
fn interrupts_off_at_the_client_are_never_a_sure_wire() {
    not_explained(&CLIENT);
}

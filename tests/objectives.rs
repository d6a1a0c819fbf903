//! Objectives (`--slo`) decide the exit status, and every format says what became of them.

use super::harness::{Finished, client, finish, program, start, wire};
use netns::Lab;
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::model::Direction;
use serde_json::{Value, json};
use std::time::Duration;

const MISSED: i32 = 4;

fn run(lab: &Lab, objectives: &str, args: &str) -> Finished {
    let mut command = program();
    command.args([
        "-c",
        "10.77.0.2",
        "-i",
        "2ms",
        "-C",
        "50",
        "--slo",
        objectives,
    ]);
    command.args(args.split_whitespace());
    finish(start(&lab.client.ns, &mut command))
}

#[test]
fn objectives_that_are_met_end_with_0() {
    let lab = Lab::veth_pair().unwrap();
    let met = run(&lab, "p99(total) < 10s, loss<=0%, jitter(rtt)<10s", "-m 1s");
    assert_eq!(met.status, 0, "{met:#?}");
    let text = "objectives: 3 of 3 met\n  met    p99(total) < 10s: ";
    assert!(met.stdout.contains(text), "{met:#?}");
    assert!(!met.stderr.contains("missed"), "{met:#?}");
}

#[test]
fn an_objective_that_is_missed_ends_with_4_and_is_named() {
    let lab = Lab::veth_pair().unwrap();
    let missed = run(&lab, "max(total)<1ns,loss<=0%", "-m 1s -o text,json");
    assert_eq!(missed.status, MISSED, "{missed:#?}");
    let slo = missed.stat()["slo"].clone();
    let max = missed.stat()["delays"][0]["max"].clone();
    assert_eq!(
        slo,
        json!([
            {"objective": "max(total)<1ns", "measured_ns": max, "met": false},
            {"objective": "loss<=0%", "measured_percent": 0.0, "met": true},
        ])
    );
    for words in [
        "objectives: 1 of 2 met",
        "  MISSED max(total)<1ns: ",
        "error: objective missed: max(total)<1ns: ",
    ] {
        assert!(missed.stderr.contains(words), "{words} in {missed:#?}");
    }
    assert!(!missed.stderr.contains("missed: loss"), "{missed:#?}");
}

/// No server, so no probe has a segment of it.
#[test]
fn what_was_not_measured_is_missed() {
    let lab = Lab::veth_pair().unwrap();
    let run = run(&lab, "p50(r_rx_kern)<10s", "-m 1s -o json");
    assert_eq!(run.status, MISSED, "{run:#?}");
    let unmeasured: Value = json!({"objective": "p50(r_rx_kern)<10s", "met": false});
    assert_eq!(run.stat()["slo"], json!([unmeasured]));
    let said = "objective missed: p50(r_rx_kern)<10s: not measured";
    assert!(run.stderr.contains(said), "{run:#?}");
}

/// Ten of fifty probes are lost on the way; that nobody answers at all is the graver fault.
#[test]
fn losses_are_counted_against_the_probes_sent() {
    let lost: Vec<u32> = (10..20).collect();
    let (lab, _wire) = wire(Plan::new(
        Duration::ZERO,
        [Rule::at(Direction::Request, lost, Action::Drop)],
    ));
    let some = run(&lab, "loss<20%,loss<=20%", "-W 300ms -m 1s -o json");
    assert_eq!(some.status, MISSED, "{some:#?}");
    let slo = &some.stat()["slo"];
    assert_eq!(
        (&slo[0]["met"], &slo[1]["met"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(slo[0]["measured_percent"], 20.0);
    let none = client(
        &lab.client.ns,
        "-c 10.77.0.9 -i 2ms -C 5 -W 100ms -o json --slo loss<1%",
    );
    assert_eq!(none.status, 3, "{none:#?}");
    assert_eq!(none.stat()["slo"][0]["met"], false);
}

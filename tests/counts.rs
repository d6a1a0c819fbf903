//! Each probe is counted once, and its lines say what the summary says, whatever happens.

use super::harness::{
    Client, Finished, Server, alone, client, finish, kill, pingtrace, program, start, status, wire,
};
use netns::{Lab, Namespace};
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::model::Direction;
use serde_json::Value;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn count(stat: &Value, what: &str) -> u64 {
    stat[what].as_u64().unwrap_or(0)
}

/// Sequence numbers with this status in the last line about them.
fn last_lines(run: &Finished) -> BTreeMap<u64, Value> {
    let mut last = BTreeMap::new();
    for probe in run.probes().into_iter().filter(|p| status(p) != "dup") {
        let seq = probe["seq"].as_u64().unwrap();
        let earlier: Option<Value> = last.insert(seq, probe);
        let amends = &last[&seq]["amends"];
        let said = earlier.map_or(Value::Null, |earlier| earlier["status"].clone());
        assert_eq!(
            *amends, said,
            "one line a probe, or one that amends it: {seq}"
        );
    }
    last
}

/// Each probe sent is replied, lost, forgotten or in flight, and its last line says which.
fn balanced(run: &Finished) -> Value {
    let stat = run.stat();
    let of = |what| count(&stat, what);
    let known = of("replied") + of("lost") + of("forgotten");
    assert_eq!(known + of("in_flight"), of("sent"), "{stat:#}");
    let last = last_lines(run);
    let with = |wanted: &str| last.values().filter(|p| status(p) == wanted).count() as u64;
    assert_eq!(with("ok") + with("late"), of("replied"), "{stat:#}");
    for what in ["late", "lost", "forgotten"] {
        assert_eq!(with(what), of(what), "{what}: {stat:#}");
    }
    let probes = run.probes();
    let lines = |so: &dyn Fn(&Value) -> bool| probes.iter().filter(|p| so(p)).count() as u64;
    assert_eq!(lines(&|p| status(p) == "dup"), of("dup"));
    assert_eq!(lines(&|p| p["amends"] == "lost"), of("amended"));
    let mut in_flight = 0;
    for interval in run.lines("interval") {
        let of = |what| count(&interval, what);
        in_flight += of("sent") + of("amended");
        in_flight -= of("replied") + of("lost") + of("forgotten");
        assert_eq!(in_flight, of("in_flight"), "{interval:#}");
    }
    stat
}

fn lost(run: &Finished) -> Vec<u64> {
    let last = last_lines(run).into_iter();
    last.filter(|(_, p)| status(p) == "lost")
        .map(|(seq, _)| seq)
        .collect()
}

/// The records of `-A` are used again within milliseconds: a probe that is lost does not make those
/// lost that were answered.
#[test]
fn adaptive_probes_are_answered_after_a_lost_one() {
    let _alone = alone();
    let rules = [Rule::at(Direction::Request, [5, 700], Action::Drop)];
    let (lab, _wire) = wire(Plan::new(Duration::ZERO, rules));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = run(&lab, "-A -C 3000 -W 0.1 --stat-interval 0.1 --slo loss<1%");
    let stat = balanced(&run);
    assert_eq!(count(&stat, "sent"), 3_000);
    assert_eq!(count(&stat, "replied"), 2_998, "{stat:#}");
    assert_eq!(lost(&run), [5, 700]);
    // Where they were lost is known although their records were used again.
    for (_, probe) in last_lines(&run)
        .into_iter()
        .filter(|(_, p)| status(p) == "lost")
    {
        assert_eq!(probe["loss"]["place"], "wire_out", "{probe:#}");
    }
}

/// An outage, and a stop of the client with what it then has to catch up.
#[test]
fn an_outage_and_a_stall_leave_the_books_balanced() {
    let _alone = alone();
    let outage: Vec<u32> = (200..500).collect();
    let rules = [Rule::at(Direction::Request, outage.clone(), Action::Drop)];
    let (lab, _wire) = wire(Plan::new(MS, rules));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!(
        "-c {} --nslocal -i 2ms -C 1500 -W 0.1 --stat-interval 0.2 -o json",
        lab.server.v4
    );
    let child = pingtrace(&lab.client.ns, &args);
    thread::sleep(2_200 * MS);
    kill(child.id(), libc::SIGSTOP);
    thread::sleep(400 * MS);
    kill(child.id(), libc::SIGCONT);
    let run = finish(child);
    let stat = balanced(&run);
    assert_eq!(count(&stat, "sent"), 1_500, "{stat:#}");
    assert_eq!(count(&stat, "lost"), 300, "{stat:#}");
    let expected: Vec<u64> = outage.into_iter().map(u64::from).collect();
    assert_eq!(lost(&run), expected);
    assert_eq!(
        count(&stat, "amended"),
        0,
        "what waits in the socket is not lost: {stat:#}"
    );
}

/// More probes are in flight than there are records, and each takes four timeouts.
#[test]
fn round_trips_above_the_timeout_are_late() {
    let _alone = alone();
    let (lab, _wire) = wire(Plan::new(800 * MS, []));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = run(&lab, "-i 1ms -C 1500 -W 0.4 --stat-interval 0.1");
    let stat = balanced(&run);
    for what in ["sent", "replied", "late"] {
        assert_eq!(count(&stat, what), 1_500, "{what}: {stat:#}");
    }
    assert_eq!(count(&stat, "amended"), 0, "{stat:#}");
    assert!(
        stat["losses"].as_array().is_none_or(Vec::is_empty),
        "{stat:#}"
    );
}

/// A probe that was given up is answered after all: a second line amends the first, the summary
/// counts it as answered, and so does a replay.
#[test]
fn a_probe_that_was_lost_is_found() {
    let _alone = alone();
    let rules = [
        Rule::at(Direction::Reply, [50], Action::Delay(600 * MS)),
        Rule::at(Direction::Request, [60], Action::Drop),
    ];
    let (lab, _wire) = wire(Plan::new(Duration::ZERO, rules));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let run = run(&lab, "-i 10ms -C 150 -W 0.02");
    let stat = balanced(&run);
    let expected = [
        ("sent", 150),
        ("replied", 149),
        ("late", 1),
        ("lost", 1),
        ("amended", 1),
    ];
    for (what, times) in expected {
        assert_eq!(count(&stat, what), times, "{what}: {stat:#}");
    }
    assert_eq!(lost(&run), [60]);
    let amending = run.probes().into_iter().filter(|p| p["amends"] == "lost");
    let amending: Vec<_> = amending.map(|p| p["seq"].clone()).collect();
    assert_eq!(amending, [50]);
    let lines = run.stdout.lines();
    let lines: Vec<_> = lines.filter(|l| !l.contains("\"type\":\"stat\"")).collect();
    let without_end = lines.join("\n");
    for saved in [&run.stdout, &without_end] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), saved).unwrap();
        let mut replay = program();
        replay.arg("replay").arg(file.path()).args(["-o", "json"]);
        let here = Namespace::current().unwrap();
        let again = balanced(&finish(start(&here, &mut replay)));
        for (what, times) in expected {
            assert_eq!(count(&again, what), times, "replay, {what}: {again:#}");
        }
    }
    let text = client(
        &lab.client.ns,
        &format!("-c {} --nslocal -i 10ms -C 150 -W 0.02", lab.server.v4),
    );
    let amended = text
        .stdout
        .lines()
        .find(|l| l.contains("#50 ") && l.contains(" late "));
    let amended = amended.unwrap_or_else(|| panic!("{}", text.stdout));
    assert!(
        amended.ends_with("answered after all, was counted as lost"),
        "{amended}"
    );
}

/// What is under way when the user ends the run is in flight, not lost.
#[test]
fn probes_under_way_at_the_end_are_not_lost() {
    let _alone = alone();
    let slow: Vec<u32> = (100..2_000).collect();
    let rules = [Rule::at(Direction::Reply, slow, Action::Delay(4_000 * MS))];
    let (lab, _wire) = wire(Plan::new(Duration::ZERO, rules));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c {} --nslocal -i 10ms -W 8 -o json", lab.server.v4);
    let mut client = Client::start(&lab.client.ns, &args);
    client.hear("server stamps");
    thread::sleep(1_500 * MS);
    let run = client.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    let stat = balanced(&run);
    assert_eq!(count(&stat, "lost"), 0, "{stat:#}");
    assert!(
        count(&stat, "replied") > 0 && count(&stat, "in_flight") > 0,
        "{stat:#}"
    );
}

fn run(lab: &Lab, args: &str) -> Finished {
    let run = client(
        &lab.client.ns,
        &format!("-c {} --nslocal {args} -o json", lab.server.v4),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    run
}

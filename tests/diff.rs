//! `pingtrace diff` on real runs: it names the segment that was made slow, and no other way to
//! save a run gives another answer.

use super::harness::{Finished, Server, alone, client, finish, kill, program, start, until};
use netns::{Lab, Netlink};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
/// 757 kB a second on the wire, of which nothing is recorded.
const ARGS: &str = "-c 10.77.0.2 --nslocal -b 1480 -i 2ms -C 300 -m 10s -W 5s";

fn diff(directory: &Path, args: &str) -> Finished {
    let mut command = program();
    command.arg("diff").args(args.split_whitespace());
    let ns = netns::Namespace::current().unwrap();
    finish(start(&ns, command.current_dir(directory)))
}

/// A run that is saved as JSON lines and as a log.
fn save(lab: &Lab, directory: &Path, name: &str) {
    let mut command = program();
    let output = format!("{ARGS} -o json,log --log {name}");
    command
        .args(output.split_whitespace())
        .current_dir(directory);
    let run = finish(start(&lab.client.ns, &mut command));
    assert_eq!(run.status, 0, "{run:#?}");
    fs::write(directory.join(format!("{name}.json")), run.stdout).unwrap();
}

fn said(run: &Finished, status: i32, words: &[&str]) {
    assert_eq!(run.status, status, "{run:#?}");
    for word in words {
        assert!(run.stderr.contains(word), "no '{word}': {run:#?}");
    }
}

/// A token bucket slower than the probes: each waits longer for its turn than the one before.
#[test]
fn a_slow_queue_is_what_moved() {
    const BYTES_A_SECOND: u32 = 700_000;
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    save(&lab, directory.path(), "quick");
    let shape = || Netlink::open()?.tbf(lab.client.ifindex, BYTES_A_SECOND, 3_000, 1_000_000);
    lab.client.ns.run(shape).unwrap().unwrap();
    save(&lab, directory.path(), "slow");

    let text = diff(directory.path(), "quick.json slow.json");
    said(&text, 0, &[]);
    assert!(text.stdout.starts_with("l_tx_qdisc moved"), "{text:#?}");
    assert!(
        text.stdout.contains("in the course of each run"),
        "{text:#?}"
    );
    assert!(
        text.stdout.lines().skip(4).all(|l| l.len() <= 110),
        "{text:#?}"
    );

    let run = diff(directory.path(), "quick.stat slow.seq -o json");
    said(&run, 0, &[]);
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(jsonschema::is_valid(&schema, &json), "{json:#}");
    assert_eq!(json["moved"][0], "l_tx_qdisc", "{json:#}");
    let all = json["delays"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|d| d["delay"] == name).unwrap();
    for name in ["total", "l_tx_qdisc"] {
        let change = of(name)["p50"]["change_ns"].as_i64();
        assert!(change.is_some_and(|ns| ns > 5_000_000), "{json:#}");
        assert_eq!(of(name)["a"]["count"], 300);
    }
    let change = &of("l_tx_qdisc")["p50"];
    let bound = |key: &str| change[key].as_i64();
    let (lo, moved) = (bound("lo").unwrap(), bound("change_ns").unwrap());
    assert!(change["moved"] == true && lo > 0, "{json:#}");
    // A queue that grows all the time has no bound above that says anything.
    assert!(
        lo <= moved && bound("hi").is_none_or(|hi| moved <= hi),
        "{json:#}"
    );
    let p99 = &of("l_tx_qdisc")["p99"];
    assert!(
        p99["hi"].is_null() && p99["no_interval"] == "few_probes",
        "{json:#}"
    );
    assert!(of("r_rx_kern")["p50"]["change_ns"].as_i64().unwrap().abs() < 1_000_000);

    let same = diff(directory.path(), "slow.json slow.json");
    assert!(same.stdout.starts_with("no segment moved\n"), "{same:#?}");
}

#[test]
fn of_several_runs_in_a_file_the_last_counts() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    for _ in 0..2 {
        save(&lab, directory.path(), "all");
    }
    let run = diff(directory.path(), "all.json all.stat");
    said(&run, 0, &[]);
    assert!(run.stdout.starts_with("no segment moved\n"), "{run:#?}");
    assert!(
        run.stdout.contains("the last of 2 runs in the file"),
        "{run:#?}"
    );
}

#[test]
fn a_run_that_cannot_be_compared_is_refused() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    save(&lab, directory.path(), "good");
    let good = fs::read_to_string(file("good.json")).unwrap();
    fs::write(
        file("later.json"),
        good.replacen("\"version\":1", "\"version\":2", 1),
    )
    .unwrap();
    fs::write(file("empty.json"), "").unwrap();

    let mut command = program();
    let args = "-c 10.77.0.2 -i 2ms -o log --log killed --stat-interval 20ms";
    command.args(args.split(' ')).current_dir(directory.path());
    let killed = start(&lab.client.ns, &mut command);
    until("there are statistics", || {
        fs::read_to_string(file("killed.stat")).is_ok_and(|t| t.contains("\"p50\""))
    });
    kill(killed.id(), libc::SIGKILL);
    finish(killed);
    let unanswered = client(&lab.client.ns, "-c 10.77.0.9 -i 2ms -C 3 -W 50ms -o json");
    fs::write(file("unanswered.json"), unanswered.stdout).unwrap();

    let many = good.replace("\"replied\":300", "\"replied\":4611686018427387904");
    fs::write(file("many.json"), many).unwrap();
    for (name, words) in [
        ("many.json", ["many.json: line", "at most 1099511627776"]),
        (
            "later.json",
            ["later.json: line 1", "format version 2, this reads up to 1"],
        ),
        ("empty.json", ["empty.json", "no final statistics"]),
        ("killed.stat", ["killed.stat", "was killed, still goes on"]),
        (
            "unanswered.json",
            ["unanswered.json", "no probe was answered"],
        ),
        ("missing.json", ["missing.json", "No such file"]),
    ] {
        for args in [format!("good.json {name}"), format!("{name} good.json")] {
            let run = diff(directory.path(), &args);
            said(&run, 1, &words);
            assert_eq!(
                (run.stdout.as_str(), run.stderr.lines().count()),
                ("", 1),
                "{run:#?}"
            );
        }
    }
    for args in [
        "good.json",
        "good.json good.json -c 10.77.0.2",
        "-o log a b",
    ] {
        assert_eq!(diff(directory.path(), args).status, 2);
    }
}

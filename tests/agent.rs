//! A server and a client in one process.

use super::harness::{Client, Finished, Server, client, kill, page, refused, sh, until};
use netns::{Lab, Namespace};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

fn status(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tasks = tasks.flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .collect()
}

#[test]
fn agents_probe_each_other_in_one_process_each() {
    let lab = Lab::veth_pair().unwrap();
    let agent = |ns, peer: &str| {
        let args = format!("agent -c {peer} --open --nslocal -i 20ms -m 1s -o json --metrics 9500");
        Client::start(ns, &args)
    };
    let hosts = [(&lab.client.ns, "10.77.0.2"), (&lab.server.ns, "10.77.0.1")];
    let agents = hosts.map(|(ns, peer)| agent(ns, peer));
    for (ns, peer) in hosts {
        let ok = format!("pingtrace_probes_total{{target=\"{peer}\",result=\"ok\"}} ");
        until("both sides' series", || {
            let page = page(ns);
            let line = |name: &str| {
                page.lines()
                    .find_map(|l| l.strip_prefix(name)?.parse().ok())
            };
            line(&ok).is_some_and(|count: f64| count >= 5.0)
                && line("pingtrace_server_clients ") == Some(1.0)
        });
    }
    for agent in &agents {
        for thread in status(agent.pid()) {
            assert!(thread.contains("Seccomp:\t2"), "{thread}");
            let kept = if thread.contains("Name:\tkeeper") {
                "CapEff:\t0000008400280000"
            } else {
                // BPF, PERFMON, NET_RAW, NET_ADMIN
                "CapEff:\t000000c000003000"
            };
            assert!(thread.contains(kept), "{thread}");
        }
        kill(agent.pid(), libc::SIGTERM);
    }
    for agent in agents {
        let run: Finished = agent.stop();
        assert_eq!(run.status, 0, "{run:#?}");
        assert_eq!(run.stat()["lost"], 0, "{run:#?}");
        assert!(run.stderr.contains("server: serving"), "{run:#?}");
    }
    let none = "! tc qdisc show dev eth0 | grep clsact";
    sh(&lab.server.ns, none);
}

#[test]
fn a_side_that_cannot_start_ends_the_agent_before_the_first_probe() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.client.ns, "");
    let run = client(&lab.client.ns, "agent -c 10.77.0.2 -o json --open");
    assert_eq!(run.status, 1, "{run:#?}");
    let why = "the server failed: another pingtrace server runs";
    assert!(run.stderr.contains(why), "{run:#?}");
    assert!(run.probes().is_empty(), "{run:#?}");
    let both = client(&lab.client.ns, "-s -c 10.77.0.2");
    refused(&both, 2, &["pingtrace agent -c HOST"]);
}

#[test]
fn a_page_that_cannot_be_served_ends_the_agent_before_the_first_probe() {
    let lab = Lab::veth_pair().unwrap();
    let mut first = Client::start(&lab.client.ns, "-c 10.77.0.2 -m 1s -o json --metrics 9500");
    first.hear("http://127.0.0.1:9500/metrics");
    for (metrics, status, words) in [
        (
            "9500",
            1,
            &["127.0.0.1:9500", "address already in use", "free port"][..],
        ),
        (
            "10.1.2.3:9500",
            1,
            &["10.1.2.3:9500", "an address of this host"],
        ),
        ("nowhere", 2, &["--metrics", "nowhere"]),
    ] {
        let args = format!("agent -c 10.77.0.2 -o json --open --metrics {metrics}");
        let run = client(&lab.client.ns, &args);
        assert!(run.probes().is_empty(), "{run:#?}");
        refused(&run, status, words);
    }
}

fn write_list(path: &Path, targets: &[&str]) {
    fs::write(path, json!([{ "targets": targets }]).to_string()).unwrap();
}

fn answered(ns: &Namespace, target: &str) -> bool {
    let series = format!("pingtrace_probes_total{{target=\"{target}\",result=\"ok\"}} ");
    let page = page(ns);
    let count = page.lines().find_map(|line| line.strip_prefix(&series));
    count.is_some_and(|count| count.parse::<f64>().unwrap() >= 5.0)
}

/// Sequence numbers of a target's recorded probes, in their order.
fn sequence(run: &Finished, target: &str) -> Vec<u64> {
    let all = run.probes().into_iter();
    let its = all.filter(|probe| probe["target"] == *target);
    let mut numbers: Vec<u64> = its.map(|probe| probe["seq"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn ends<'a>(stats: &'a [Value], target: &str) -> Vec<&'a Value> {
    stats
        .iter()
        .filter(|stat| stat["target"] == *target)
        .collect()
}

/// The new list has the time of the old one, an hour ago, so that only the signal makes it be read.
#[test]
fn at_sighup_an_agent_reads_its_list_again_and_the_others_go_on() {
    let lab = Lab::veth_pair().unwrap();
    let (a, b, c) = ("10.77.0.2", "10.77.0.10", "10.77.0.11");
    let dev = &lab.server.dev;
    let add = format!("ip address add {b}/24 dev {dev}; ip address add {c}/24 dev {dev}");
    sh(&lab.server.ns, &add);
    let _server = Server::start(&lab.server.ns, "");
    let directory = TempDir::new().unwrap();
    let list = directory.path().join("targets.json");
    write_list(&list, &[a, b]);
    let written = SystemTime::now() - Duration::from_secs(3600);
    let set_time = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(written).unwrap();
    };
    set_time(&list);
    let args = format!(
        "agent --targets {} --open --nslocal -i 20ms -o json --metrics 9500",
        list.display()
    );
    let mut agent = Client::start(&lab.client.ns, &args);
    for target in [a, b] {
        until(target, || answered(&lab.client.ns, target));
    }
    let new = directory.path().join("new");
    write_list(&new, &[a, c]);
    set_time(&new);
    fs::rename(&new, &list).unwrap();
    kill(agent.pid(), libc::SIGHUP);
    agent.hear("targets: 1 join, 1 leave");
    until(c, || answered(&lab.client.ns, c));
    let run = agent.stop();
    assert_eq!(run.status, 0, "{}", run.stderr);
    let stats = run.lines("stat");
    for target in [a, b, c] {
        let [end] = ends(&stats, target)[..] else {
            panic!("{target}: {stats:#?}")
        };
        let numbers = sequence(&run, target);
        let first = numbers[0];
        let count = numbers.len() as u64;
        assert_eq!(
            numbers,
            (first..first + count).collect::<Vec<_>>(),
            "{target}"
        );
        assert_eq!(end["lost"], 0, "{end}");
    }
}

#[test]
fn an_agent_on_a_ring_probes_its_neighbour_and_not_itself() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let list = directory.path().join("targets.json");
    write_list(&list, &["10.77.0.1", "10.77.0.2"]);
    let args = format!(
        "agent --targets {} --ring 1 --open --nslocal -i 20ms -o json --metrics 9500",
        list.display()
    );
    let hosts = [(&lab.client.ns, "10.77.0.2"), (&lab.server.ns, "10.77.0.1")];
    let agents = hosts.map(|(ns, _)| Client::start(ns, &args));
    for (ns, peer) in hosts {
        until(peer, || answered(ns, peer));
    }
    for (agent, (_, peer)) in agents.into_iter().zip(hosts) {
        let run = agent.stop();
        assert_eq!(run.status, 0, "{}", run.stderr);
        let stats = run.lines("stat");
        assert_eq!(ends(&stats, peer).len(), stats.len(), "{stats:#?}");
    }
}

#[test]
fn a_list_may_hold_the_agents_own_server() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let directory = TempDir::new().unwrap();
    let list = directory.path().join("targets.json");
    let targets = ["10.77.0.1", "10.77.0.2"];
    write_list(&list, &targets);
    let args = format!(
        "agent --targets {} --open --nslocal -i 20ms -o json --metrics 9500",
        list.display()
    );
    let agent = Client::start(&lab.client.ns, &args);
    for target in targets {
        until(target, || answered(&lab.client.ns, target));
    }
    let run = agent.stop();
    assert_eq!(run.status, 0, "{}", run.stderr);
    let stats = run.lines("stat");
    for target in targets {
        let [end] = ends(&stats, target)[..] else {
            panic!("{target}: {stats:#?}")
        };
        assert_eq!(end["lost"], 0, "{end}");
    }
}

/// One host that is both ends: the probe passes each point of its path once, over the loopback.
#[test]
fn a_client_probes_the_server_of_its_own_host() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.client.ns, "");
    let run = client(&lab.client.ns, "-c 10.77.0.1 -C 20 -i 10ms -o json");
    assert_eq!(run.status, 0, "{run:#?}");
    let stat = run.stat();
    assert_eq!(
        (&stat["sent"], &stat["replied"]),
        (&json!(20), &json!(20)),
        "{stat}"
    );
    for probe in run.probes() {
        let delays = probe["delays"].as_array().unwrap().iter();
        let parts = delays.filter(|d| {
            !matches!(
                d["delay"].as_str(),
                Some("total" | "response" | "l_tx_late")
            )
        });
        let sum: u64 = parts.map(|d| d["ns"].as_u64().unwrap()).sum();
        assert_eq!(probe["total_ns"], sum, "{probe}");
    }
}

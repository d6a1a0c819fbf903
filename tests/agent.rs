//! A server and a client in one process.

use super::harness::{Client, Finished, Server, client, kill, page, refused, sh, until};
use netns::Lab;

fn status(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tasks = tasks.flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
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

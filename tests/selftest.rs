//! `pingtrace selftest` finds every fault that it injects, and ends well however it ends.

use super::harness::{Finished, alone, finish, kill, program, start, until};
use netns::Namespace;
use serde_json::Value;
use std::fs;
use std::process::Child;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");

fn begin(args: &str) -> Child {
    let mut command = program();
    command.arg("selftest").args(args.split_whitespace());
    start(&Namespace::current().unwrap(), &mut command)
}

fn selftest(args: &str) -> Finished {
    finish(begin(args))
}

/// Processes that this one started, and that still run.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let of = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.ok()?.path().join("children")).ok()
    };
    let all: Vec<String> = tasks.filter_map(of).collect();
    let words = all.iter().flat_map(|line| line.split_whitespace());
    words.map(|pid| pid.parse().unwrap()).collect()
}

fn is_alive(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn each_fault_is_named() {
    let _alone = alone();
    let run = selftest("-o json");
    assert!(matches!(run.status, 0 | 1), "{run:#?}");
    let line: Value = serde_json::from_str(&run.stdout).unwrap();
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    if let Err(error) = validator.validate(&line) {
        panic!("{error}");
    }
    let rows = line["rows"].as_array().unwrap();
    let injected = |topology: &str| -> Vec<&str> {
        let rows = rows.iter().filter(|row| row["topology"] == topology);
        rows.map(|row| row["injected"].as_str().unwrap()).collect()
    };
    let on_a_cable = [
        "l_tx_kern",
        "l_tx_qdisc",
        "l_tx_outlink",
        "r_rx_softirq",
        "r_rx_napi",
        "r_rx_kern",
        "r_tx_kern",
        "r_tx_qdisc",
        "l_rx_inlink",
        "l_rx_softirq",
        "l_rx_napi",
        "l_rx_kern",
        "l_rx_task_waking",
        "l_rx_task_queue",
        "l_rx_task_run",
        "none",
    ];
    assert_eq!(injected("cable"), on_a_cable);
    let in_an_overlay = [
        "l_tx_path",
        "l_tx_outlink",
        "r_tx_qdisc",
        "l_rx_inlink",
        "none",
    ];
    assert_eq!(injected("overlay"), in_an_overlay);
    assert_eq!(line["passed"], run.status == 0);
    // A busy machine may spoil a trial or two of a row, and so the self-test, but no more.
    for row in rows {
        assert!(row["wrong_host"].as_u64().unwrap() <= 1, "{row:#}");
        assert!(row["right"].as_u64().unwrap() >= 10, "{row:#}");
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let child = begin("");
        let pid = child.id();
        until("a server and a client", || children(pid).len() == 2);
        let programs = children(pid);
        kill(pid, signal);
        let run = finish(child);
        assert_eq!(run.status, 1, "{run:#?}");
        assert!(run.stderr.contains("selftest interrupted"), "{run:#?}");
        assert!(!programs.into_iter().any(is_alive), "{run:#?}");
    }
}

#[test]
fn without_capabilities_it_names_them() {
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--bounding-set=-sys_admin,-net_admin,-bpf",
        "--inh-caps=-sys_admin,-net_admin,-bpf",
    ]);
    command.arg(program().get_program()).arg("selftest");
    let run = finish(start(&Namespace::current().unwrap(), &mut command));
    assert_eq!(run.status, 1, "{run:#?}");
    let said =
        "selftest needs root: CAP_SYS_ADMIN (namespaces), CAP_NET_ADMIN (devices), CAP_BPF missing";
    assert!(run.stderr.contains(said), "{run:#?}");
    let usage = selftest("--trials 0");
    assert_eq!(usage.status, 2, "{usage:#?}");
}

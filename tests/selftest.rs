//! `pingtrace selftest` finds every fault that it injects, and ends well however it ends.

use super::harness::{Finished, alone, finish, kill, program, start, until};
use super::refuse::{self, Refuse};
use netns::Namespace;
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");

const ON_A_CABLE: [&str; 16] = [
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
const EXPLAINED: [&str; 3] = ["r_rx_softirq", "l_rx_softirq", "none"];
const IN_AN_OVERLAY: [&str; 5] = [
    "l_tx_path",
    "l_tx_outlink",
    "r_tx_qdisc",
    "l_rx_inlink",
    "none",
];

fn command(args: &str) -> Command {
    let mut command = program();
    command.arg("selftest").args(args.split_whitespace());
    command
}

fn begin(args: &str) -> Child {
    start(&Namespace::current().unwrap(), &mut command(args))
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

/// Its line, which is as the schema says.
fn line(run: &Finished) -> Value {
    assert!(matches!(run.status, 0 | 1), "{run:#?}");
    let line: Value = serde_json::from_str(&run.stdout).unwrap();
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    if let Err(error) = validator.validate(&line) {
        panic!("{error}");
    }
    assert_eq!(line["passed"], run.status == 0);
    line
}

/// The segments of a setup's rows.
fn injected<'l>(line: &'l Value, setup: &str) -> Vec<&'l str> {
    let rows = line["rows"].as_array().unwrap();
    let its = rows.iter().filter(|row| row["setup"] == setup);
    its.map(|row| row["injected"].as_str().unwrap()).collect()
}

#[test]
fn each_fault_is_named() {
    let _alone = alone();
    let run = selftest("-o json");
    let line = line(&run);
    assert_eq!(injected(&line, "cable"), ON_A_CABLE);
    assert_eq!(injected(&line, "explained"), EXPLAINED);
    assert_eq!(injected(&line, "overlay"), IN_AN_OVERLAY);
    // It goes on until it has enough trials, whatever else runs.
    for row in line["rows"].as_array().unwrap() {
        let count = |key: &str| row[key].as_u64().unwrap();
        let named = count("right") + count("right_host") + count("wrong_host");
        assert!(named + count("undecided") >= count("wanted"), "{row:#}");
        assert!(count("right") * 100 >= named * 95, "{row:#}");
        // A kernel may run no program in a task that it protects: then stamps are missing.
        assert!(count("undecided") <= named / 4, "{row:#}");
        assert_eq!(count("wrong_host"), 0, "{row:#}");
    }
}

/// What the kernel lacks for one setup leaves the others.
#[test]
fn without_vxlan_the_overlay_is_omitted() {
    let _alone = alone();
    let refuse = Refuse::Device("vxlan");
    let mut command = command("--trials 1 -o json");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = finish(refuse::spawn(&mut command, refuse));
    let line = line(&run);
    assert_eq!(injected(&line, "cable"), ON_A_CABLE);
    assert_eq!(injected(&line, "explained"), EXPLAINED);
    assert_eq!(injected(&line, "overlay"), [""; 0]);
    let omitted = line["omitted"].as_array().unwrap();
    let segments: Vec<&str> = omitted
        .iter()
        .map(|row| row["segment"].as_str().unwrap())
        .collect();
    assert_eq!(segments, IN_AN_OVERLAY[..4]);
    for row in omitted {
        assert_eq!(row["setup"], "overlay", "{row:#}");
        let why = row["why"].as_str().unwrap();
        assert!(
            why.contains("vx0") && why.contains("not supported"),
            "{why}"
        );
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
    let mut command = Command::new("setpriv");
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

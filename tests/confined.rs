//! A run that has started keeps, on every thread, only what it needs to go on.

use super::harness::{Companion, Server, client, finish, program, start, until};
use netns::Lab;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use tempfile::TempDir;

// include/uapi/linux/capability.h
const DAC_OVERRIDE: u64 = 1 << 1;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SYSLOG: u64 = 1 << 34;
const PROGRAMS: u64 = 1 << 38 | 1 << 39;

const KEEPER: &str = "keeper";

/// The fields of /proc/PID/task/TID/status that say what a thread may do.
type Thread = BTreeMap<String, String>;

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: &Path| -> Option<Thread> {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        Some(
            fields
                .map(|(k, v)| (k.into(), v.trim().to_owned()))
                .collect(),
        )
    };
    tasks
        .flatten()
        .filter_map(|task| of(&task.path()))
        .collect()
}

fn capabilities(thread: &Thread, set: &str) -> u64 {
    u64::from_str_radix(&thread[set], 16).unwrap()
}

/// Every thread but the keeper has exactly `kept`, the keeper `of_keeper`.
#[track_caller]
fn assert_confined(pid: u32, kept: u64, of_keeper: u64) {
    let threads = threads(pid);
    let keepers = threads.iter().filter(|t| t["Name"] == KEEPER);
    assert!(threads.len() > 1 && keepers.count() == 1, "{threads:#?}");
    for thread in &threads {
        let allowed = if thread["Name"] == KEEPER {
            of_keeper
        } else {
            kept
        };
        for set in ["CapEff", "CapPrm"] {
            let held = capabilities(thread, set);
            assert_eq!(
                held, allowed,
                "{set} {held:x}, not {allowed:x}: {thread:#?}"
            );
        }
        for none in ["CapInh", "CapAmb"] {
            assert_eq!(capabilities(thread, none), 0, "{none}: {thread:#?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "{thread:#?}");
    }
}

/// Until it has probed.
fn probing(lab: &Lab, directory: &Path, args: &str) -> std::process::Child {
    let mut command = program();
    command.args(["-c", "10.77.0.2", "-i", "2ms", "-C", "2000"]);
    command.args(args.split(' ')).current_dir(directory);
    let child = start(&lab.client.ns, &mut command);
    let log = directory.join("pingtrace.log.seq");
    until("a probe in the log", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("\"probe\""))
    });
    child
}

#[test]
fn a_server_and_a_client_keep_what_they_need_on_every_thread() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let keeper = SYS_ADMIN | SYS_PTRACE | SYSLOG | 1 << 39;
    let server = Server::start(&lab.server.ns, "");
    assert_confined(server.pid(), PROGRAMS | NET_ADMIN | NET_RAW, keeper);
    let child = probing(&lab, directory.path(), "-o log --explain");
    assert_confined(child.id(), PROGRAMS | NET_RAW, keeper);
    let run = finish(child);
    assert_eq!(run.status, 0, "{run:#?}");
    drop(server);
    let server = Server::start(&lab.server.ns, "--private --explain");
    let keeper = SYS_ADMIN | SYSLOG | 1 << 39;
    assert_confined(server.pid(), PROGRAMS | NET_ADMIN | NET_RAW, keeper);
    let run = client(&lab.client.ns, "-c 10.77.0.2 -i 10ms -C 10 -o json");
    assert_eq!(run.probes().len(), 10, "{run:#?}");
}

#[test]
fn a_companion_keeps_what_its_programs_need() {
    let companion = Companion::start("irqoff -t 20");
    let keeper = SYS_ADMIN | SYSLOG | 1 << 39;
    assert_confined(companion.pid(), PROGRAMS, keeper);
}

/// Root needs a right to rotate files where another user owns the directory, and keeps it only there.
#[test]
fn a_log_in_another_users_directory_is_rotated() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    chown(directory.path(), Some(65_534), Some(65_534)).unwrap();
    let child = probing(&lab, directory.path(), "-o log --logsize 64K");
    let kept = PROGRAMS | NET_RAW | DAC_OVERRIDE;
    assert_confined(child.id(), kept, SYS_ADMIN | SYS_PTRACE | SYSLOG | 1 << 39);
    let run = finish(child);
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(directory.path().join("pingtrace.log.seq.1").exists());
}

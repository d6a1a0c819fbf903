//! A run that has started keeps, on every thread, only what it needs to go on.

use super::harness::{
    Companion, Server, client, end, finish, hear, kill, points, program, sh, start, status, sum,
    until, with_story,
};
use super::refuse;
use netns::Lab;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

// include/uapi/linux/capability.h
const DAC_OVERRIDE: u64 = 1 << 1;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_NICE: u64 = 1 << 23;
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
        // SECCOMP_MODE_FILTER
        assert_eq!(thread["Seccomp"], "2", "{thread:#?}");
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

/// A pipe that takes nothing more until it is read.
fn full_pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b' '; 4096]).is_ok() {}
    for end in [&reader, &writer] {
        rustix::fs::fcntl_setfl(end, OFlags::empty()).unwrap();
    }
    (reader.into(), writer.into())
}

/// Files of others are parsed without a right to do harm.
#[test]
fn replay_and_diff_keep_nothing_but_their_open_files() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let run = client(&lab.client.ns, "-c 10.77.0.2 -i 2ms -C 20 -o json");
    fs::write(directory.path().join("run.json"), &run.stdout).unwrap();
    for args in [
        "replay run.json",
        "replay run.json -o json,imagelog",
        "diff run.json run.json",
    ] {
        let (mut reader, writer) = full_pipe();
        let mut command = program();
        command.args(args.split(' ')).current_dir(directory.path());
        command.stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let held =
            |thread: &Thread| capabilities(thread, "CapPrm") | capabilities(thread, "CapEff");
        let confined = |thread: &Thread| held(thread) == 0 && thread["Seccomp"] == "2";
        until(args, || threads(child.id()).iter().all(confined));
        let mut written = String::new();
        reader.read_to_string(&mut written).unwrap();
        assert!(written.trim().len() > 100, "{args}: {written}");
        assert!(child.wait().unwrap().success(), "{args}");
    }
    for made in ["pingtrace.log.seq", "pingtrace.log.stat", "pingtrace.png"] {
        assert!(directory.path().join(made).exists(), "{made}");
    }
}

/// Clients and servers that it starts begin with what it has.
#[test]
fn a_self_test_keeps_what_its_laboratories_need() {
    let mut command = program();
    command.args(["selftest", "--trials", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (child, mut story) = with_story(command.spawn().unwrap());
    hear(&mut story, "two hosts");
    let names = NET_ADMIN | NET_RAW | SYS_NICE | SYS_ADMIN | SYS_PTRACE | SYSLOG;
    for thread in threads(child.id()) {
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(capabilities(&thread, set), PROGRAMS | names, "{thread:#?}");
        }
        assert_eq!((&*thread["NoNewPrivs"], &*thread["Seccomp"]), ("1", "2"));
    }
    kill(child.id(), libc::SIGINT);
    let run = end(child, story);
    assert_eq!(run.status, 1, "{run:#?}");
}

/// Each capture of a schedule loads its programs anew.
#[test]
fn a_schedule_starts_its_captures_confined() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let directory = TempDir::new().unwrap();
    let mut command = program();
    command.args(["-c", "10.77.0.2", "-i", "5ms", "-t", "500ms", "-o", "log"]);
    command.args(["--schedule", "* * * * * *", "--explain"]);
    let child = start(&lab.client.ns, command.current_dir(directory.path()));
    let log = directory.path().join("pingtrace.log.seq");
    let captures = || fs::read_to_string(&log).map_or(0, |log| log.matches("\"run\"").count());
    until("two captures", || captures() >= 2);
    let kept = PROGRAMS | NET_RAW | NET_ADMIN | SYS_NICE;
    assert_confined(child.id(), kept, SYS_ADMIN | SYS_PTRACE | SYSLOG | 1 << 39);
    kill(child.id(), libc::SIGINT);
    let run = finish(child);
    assert!(!run.stderr.contains("no BPF stamps"), "{run:#?}");
    assert!(!run.stderr.contains("failed"), "{run:#?}");
}

/// The run times of a capture's programs are those of `--debug`.
#[test]
fn a_schedule_counts_run_times_in_each_capture() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let mut command = program();
    command.args(["-c", "10.77.0.2", "-i", "5ms", "-t", "200ms", "-o", "log"]);
    command.args(["--schedule", "* * * * * *", "--debug"]);
    let child = start(&lab.client.ns, command.current_dir(directory.path()));
    let log = directory.path().join("pingtrace.log.stat");
    let captures = || fs::read_to_string(&log).map_or(0, |log| log.matches("\"stat\"").count());
    until("two captures", || captures() >= 2);
    kill(child.id(), libc::SIGINT);
    let run = finish(child);
    for refused in ["cannot count", "function not implemented"] {
        assert!(!run.stderr.contains(refused), "{run:#?}");
    }
    let statistics = fs::read_to_string(&log).unwrap();
    let counted = statistics.matches("\"program\":\"on_net_dev_queue\"");
    assert!(counted.count() >= 2, "{statistics}");
}

/// Lines that cannot be written are counted, and the reason is said.
#[test]
fn a_log_directory_that_is_made_anew_is_said() {
    let lab = Lab::veth_pair().unwrap();
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("log");
    fs::create_dir(&directory).unwrap();
    let log = directory.join("pingtrace.log");
    let args = format!("-o log --log {}", log.display());
    let (child, mut story) = with_story(probing(&lab, &directory, &args));
    fs::remove_dir_all(&directory).unwrap();
    hear(&mut story, "does not exist");
    fs::create_dir(&directory).unwrap();
    hear(&mut story, "was removed and made anew");
    let run = end(child, story);
    assert_eq!(run.status, 1, "{run:#?}");
    assert!(run.stderr.contains("could not be written"), "{run:#?}");
}

/// Whoever may write into the directory of a log cannot make it lead elsewhere.
#[test]
fn a_log_that_leads_elsewhere_is_not_opened() {
    let lab = Lab::veth_pair().unwrap();
    let [directory, elsewhere] = [(); 2].map(|()| TempDir::new().unwrap());
    let child = probing(&lab, directory.path(), "-o log");
    let precious = elsewhere.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let log = directory.path().join("pingtrace.log.seq");
    fs::rename(&log, directory.path().join("moved")).unwrap();
    symlink(&precious, &log).unwrap();
    kill(child.id(), libc::SIGHUP);
    let run = finish(child);
    assert_eq!(run.status, 0, "the old file stays in use: {run:#?}");
    assert!(run.stderr.contains("cannot open the log anew"), "{run:#?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

/// A kernel without seccomp or Landlock is said once, and the run goes on with the rest.
#[test]
fn a_kernel_that_refuses_seccomp_or_landlock_is_said() {
    let lab = Lab::veth_pair().unwrap();
    for (call, words) in [
        (libc::SYS_seccomp, "system calls stay unrestricted"),
        (libc::SYS_landlock_create_ruleset, "files stay unrestricted"),
    ] {
        let mut command = program();
        command.args(["-c", "10.77.0.2", "-i", "5ms", "-C", "20", "-o", "json"]);
        refuse::without(&mut command, call);
        let run = finish(start(&lab.client.ns, &mut command));
        assert_eq!(run.status, 0, "{run:#?}");
        assert_eq!(run.stderr.matches("unrestricted").count(), 1, "{run:#?}");
        assert!(run.stderr.contains(words), "{words}: {run:#?}");
        assert_eq!(run.stat()["replied"], 20, "{run:#?}");
    }
}

/// The capabilities that a unit gives, as `setpriv` writes them.
fn given(unit: &str) -> String {
    let set = |key: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap()
    };
    let bounding = set("CapabilityBoundingSet=");
    assert_eq!(bounding, set("AmbientCapabilities="));
    let names = bounding.to_lowercase().replace("cap_", ",+");
    names.replace(' ', "")
}

/// With a unit's capabilities, as a user of its own; without a user id as root, as in a container.
fn as_unit(unit: &str, user: Option<u32>) -> Command {
    let given = given(unit);
    let mut command = Command::new("setpriv");
    command.arg("--no-new-privs");
    if let Some(user) = user {
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        command.args([
            "--clear-groups".into(),
            format!("--ambient-caps=-all{given}"),
        ]);
    }
    let sets = [
        format!("--inh-caps=-all{given}"),
        format!("--bounding-set=-all{given}"),
    ];
    command.args(sets).arg(program().get_program());
    command
}

/// What the units in scripts/dist give is enough, for a user of its own and for a container that is not privileged.
#[test]
fn the_capabilities_of_the_units_are_enough() {
    let units = [
        include_str!("../scripts/dist/pingtrace-server.service"),
        include_str!("../scripts/dist/pingtrace-client@.service"),
    ];
    for user in [Some(65_534), None] {
        let lab = Lab::veth_pair().unwrap();
        let mut server = as_unit(units[0], user);
        server.args(["-s", "--open", "--userid", "7", "-t", "60"]);
        let (server, mut story) = with_story(start(&lab.server.ns, &mut server));
        hear(&mut story, "serving");
        let probe = |options: &str| {
            let mut client = as_unit(units[1], user);
            client.args(["-c", "10.77.0.2", "--userid", "3"]);
            client.args(options.split(' '));
            finish(start(&lab.client.ns, &mut client))
        };
        // The first arms the server, however long that takes here.
        probe("-C 10");
        let run = probe("-i 5ms -C 100 -o json");
        assert_eq!(run.status, 0, "{user:?}: {run:#?}");
        assert!(!run.stderr.contains("warn"), "{user:?}: {run:#?}");
        let stat = run.stat();
        assert_eq!(stat["replied"], 100, "{user:?}: {stat:#}");
        let probes = run.probes();
        let whole = probes.iter().filter(|probe| {
            let seen = points(probe);
            let both = [
                "l_tx_devout",
                "r_rx_devrcv",
                "r_rx_icmprcv",
                "r_tx_devout",
                "l_rx_iprcv",
            ];
            both.iter().all(|point| seen.contains(point))
        });
        assert!(whole.count() >= 90, "{user:?}: {:#}", probes[50]);
        kill(server.id(), libc::SIGTERM);
        let ended = end(server, story);
        assert_eq!(ended.status, 0, "{user:?}: {ended:#?}");
        assert!(!ended.stderr.contains("warn"), "{user:?}: {ended:#?}");
    }
}

/// An ordinary user has ping sockets where the host allows them.
#[test]
fn an_ordinary_user_has_the_stamps_of_a_ping_socket() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let run = |args: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        command.arg(program().get_program());
        finish(start(&lab.client.ns, command.args(args.split(' '))))
    };
    let args = "-c 10.77.0.2 -i 5ms -C 40 -o json";
    let refused = run(args);
    assert_eq!(refused.status, 1, "{refused:#?}");
    for words in ["CAP_NET_RAW", "net.ipv4.ping_group_range"] {
        assert!(refused.stderr.contains(words), "{words}: {refused:#?}");
    }
    let allow = "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range";
    sh(&lab.client.ns, allow);
    for server in ["10.77.0.2", "fd77::2"] {
        let run = run(&args.replace("10.77.0.2", server));
        assert_eq!(run.status, 0, "{run:#?}");
        assert!(run.stderr.contains("a ping socket instead"), "{run:#?}");
        let probes = run.probes();
        assert_eq!(probes.len(), 40, "{run:#?}");
        for probe in &probes {
            assert_eq!(status(probe), "ok", "{probe:#}");
            let stamped = points(probe);
            let of_socket = ["l_tx_devqueue", "l_tx_devout", "l_rx_iprcv"];
            assert!(of_socket.iter().all(|p| stamped.contains(p)), "{probe:#}");
            // The server stamps whoever probes.
            assert!(stamped.contains(&"r_rx_devrcv"), "{probe:#}");
            assert_eq!(sum(probe), probe["total_ns"].as_u64().unwrap(), "{probe:#}");
        }
    }
    let flows = run("-c 10.77.0.2 -i 5ms -C 40 --flows 4");
    assert_eq!(flows.status, 1, "{flows:#?}");
    assert!(flows.stderr.contains("--flows"), "{flows:#?}");
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

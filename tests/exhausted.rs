//! What a host has too little of: descriptors, memory.

use super::cleanup::is_clean;
use super::harness::{
    Client, Server, client, end, finish, hear, points, program, start, until, with_story,
};
use netns::{Lab, Namespace, Netlink};
use std::fs;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The program, as long as it runs with these limits (soft and hard) of descriptors.
fn limited(limits: &str, args: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={limits}"));
    command.arg(program().get_program());
    command.args(args.split_whitespace());
    command
}

/// From now on a process can open no file.
fn no_more_files(pid: u32) {
    let pid = pid.to_string();
    let mut command = Command::new("prlimit");
    let done = command.args(["--pid", &pid, "--nofile=3:3"]).status();
    assert!(done.unwrap().success());
}

#[test]
fn a_low_limit_of_descriptors_is_raised() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 --nslocal -i 2ms -C 20 -o json";
    let run = finish(start(&lab.client.ns, &mut limited("16:4096", args)));
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(!run.stderr.contains("warn"), "{run:#?}");
    let stamped = |probe: &serde_json::Value| points(probe).contains(&"l_tx_devout");
    assert!(run.probes().iter().all(stamped), "{run:#?}");
}

#[test]
fn a_limit_that_is_too_low_is_said_with_the_remedy() {
    let lab = Lab::veth_pair().unwrap();
    for limits in ["12:12", "24:24"] {
        let run = finish(start(&lab.server.ns, &mut limited(limits, "-s -t 1")));
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run:#?}");
        let last = run.stderr.lines().last().unwrap_or_default();
        for words in ["oo many open files", "ulimit -Hn", "LimitNOFILE="] {
            assert!(last.contains(words), "{run:#?}");
        }
    }
}

/// SIGHUP opens the logs anew, and so does their size.
#[test]
fn a_log_that_cannot_be_opened_anew_ends_no_run() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let log = directory.path().join("x");
    let args = format!(
        "-c 10.77.0.2 --nslocal -i 2ms -o json,log --log {} --logsize 60K --logbackup 99",
        log.display()
    );
    let mut run = Client::start(&lab.client.ns, &args);
    server.wait_for_probes(50);
    no_more_files(run.pid());
    super::harness::kill(run.pid(), libc::SIGHUP);
    run.hear("cannot open the log anew after SIGHUP");
    // Their size comes before or after the signal.
    server.wait_for_probes(400);
    let run = run.stop();
    assert_eq!(run.status, 1, "{run:#?}");
    for said in [
        "cannot roll over",
        "too many open files; 1 line lost so far",
    ] {
        assert!(run.stderr.contains(said), "{said}: {run:#?}");
    }
    super::goes_on::assert_balanced(&run);
    let lost = run.stderr.lines().find_map(|line| {
        let rest = line.strip_prefix("pingtrace: ")?;
        let (count, _) = rest.split_once(" log lines (--log) could not be written")?;
        count.parse::<usize>().ok()
    });
    let files = fs::read_dir(directory.path()).unwrap().flatten();
    let files = files.map(|file| fs::read_to_string(file.path()).unwrap());
    let written: usize = files
        .map(|text| text.matches("\"type\":\"probe\"").count())
        .sum();
    assert_eq!(lost, Some(run.probes().len() - written), "{run:#?}");
}

/// From now on a process gets no more memory.
fn no_more_memory(pid: u32) {
    let pid = pid.to_string();
    let mut command = Command::new("prlimit");
    let done = command.args(["--pid", &pid, "--as=1:1"]).status();
    assert!(done.unwrap().success());
}

/// A summary needs memory: until there is none left.
fn exhaust(child: &mut Child) -> ExitStatus {
    no_more_memory(child.id());
    let mut status = None;
    until("the end of a process without memory", || {
        super::harness::kill(child.id(), libc::SIGUSR1);
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// As after SIGKILL: what was written is whole, what was loaded is gone, the other end goes on.
#[test]
fn a_client_without_memory_leaves_whole_lines() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let log = directory.path().join("x.seq");
    let mut command = program();
    command.args(["-c", "10.77.0.2", "--nslocal", "-i", "2ms", "-o", "log"]);
    command.arg("--log").arg(log.with_extension(""));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = lab.client.ns.run(|| command.spawn()).unwrap().unwrap();
    server.wait_for_probes(100);
    let status = exhaust(&mut run);
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status:?}");
    let written = fs::read_to_string(&log).unwrap();
    assert!(written.ends_with('\n') && written.lines().count() > 50);
    let here = Namespace::current().unwrap();
    let again = client(&here, &format!("replay {} -o json", log.display()));
    assert_eq!(again.status, 0, "{again:#?}");
    assert!(is_clean(&lab.client));
}

#[test]
fn a_server_without_memory_goes_on_or_leaves_nothing_behind() {
    let lab = Lab::veth_pair().unwrap();
    let mut command = program();
    command.args(["-s", "--open", "--nslocal"]);
    let (mut server, mut story) = with_story(start(&lab.server.ns, &mut command));
    hear(&mut story, "serving");
    let mut run = Client::start(&lab.client.ns, "-c 10.77.0.2 --nslocal -i 2ms -o json");
    run.hear("in band");
    // What it has may last: then it goes on.
    no_more_memory(server.id());
    for _ in 0..20 {
        super::harness::kill(server.id(), libc::SIGUSR1);
        thread::sleep(Duration::from_millis(10));
    }
    super::harness::kill(server.id(), libc::SIGTERM);
    let status = server.wait().unwrap();
    let said = end(server, story);
    let aborted = status.signal() == Some(libc::SIGABRT);
    assert!(status.success() || aborted, "{said:#?}");
    let run = run.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    super::goes_on::assert_balanced(&run);
    assert!(is_clean(&lab.server));
}

fn new_device(lab: &Lab) {
    let peer = &lab.client.ns;
    let add = || Netlink::open()?.add_veth("late0", "late1", peer);
    lab.server.ns.run(add).unwrap().unwrap();
    for (ns, device, address) in [
        (&lab.server.ns, "late0", "10.78.0.2"),
        (&lab.client.ns, "late1", "10.78.0.1"),
    ] {
        configure(ns, device, address);
    }
}

fn configure(ns: &Namespace, device: &str, address: &str) {
    let set = || {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named(device)?.index;
        netlink.add_address(index, address.parse::<IpAddr>().unwrap(), 24)?;
        netlink.set_up(index)
    };
    ns.run(set).unwrap().unwrap();
}

#[test]
fn a_server_without_a_descriptor_for_a_new_device_goes_on() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    no_more_files(server.pid());
    new_device(&lab);
    for to in ["10.77.0.2", "10.78.0.2"] {
        let run = client(
            &lab.client.ns,
            &format!("-c {to} --nslocal -i 5ms -C 100 -o json"),
        );
        assert_eq!(run.stat()["replied"], 100, "{to}: {run:#?}");
        let last = run.probes().pop().unwrap();
        let stamped = points(&last).contains(&"r_rx_devrcv");
        assert_eq!(stamped, to == "10.77.0.2", "{to}: {last:#}");
    }
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success(), "{story:#?}");
    let said = |line: &String| line.contains("late0") && line.contains("too many open files");
    assert!(story.iter().any(said), "{story:#?}");
}

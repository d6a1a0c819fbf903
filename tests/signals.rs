//! What signals ask for, what a terminal shows of a run that goes on, and what happens where nobody
//! reads any more.

use super::harness::{Companion, Finished, Server, finish, hangup, kill, program, start, until};
use netns::{Host, Lab};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use tempfile::TempDir;

const TO_SERVER: [&str; 2] = ["-c", "10.77.0.2"];

/// A client that is to be started in `directory`.
fn client(directory: &Path, args: &str) -> Command {
    let mut command = program();
    command.args(TO_SERVER).args(args.split(' '));
    command.current_dir(directory);
    command
}

fn lab() -> (Lab, TempDir) {
    (Lab::veth_pair().unwrap(), TempDir::new().unwrap())
}

/// Reads stdout until a probe is in it.
fn first_probe(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("#0") && !line.contains("\"probe\"") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "no probe");
    }
    stdout
}

fn lines_of(path: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let parsed = text.lines().filter_map(|l| serde_json::from_str(l).ok());
    parsed.filter(|l: &Value| l["type"] == kind).collect()
}

#[test]
fn a_hangup_ends_a_run_without_a_log_with_its_summary() {
    let (lab, directory) = lab();
    let mut child = start(&lab.client.ns, &mut client(directory.path(), "-i 5ms"));
    let mut stdout = first_probe(&mut child);
    kill(child.id(), libc::SIGHUP);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.contains("lost 0 (0.00 %)"), "{rest}");
}

/// `nohup` has it ignored.
#[test]
fn a_hangup_that_is_ignored_from_the_start_stays_so() {
    let (lab, directory) = lab();
    let mut command = client(directory.path(), "-i 5ms -C 200");
    hangup(&mut command, libc::SIG_IGN);
    let mut child = start(&lab.client.ns, &mut command);
    let mut stdout = first_probe(&mut child);
    kill(child.id(), libc::SIGHUP);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("sent 200, replied 200"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_summary_so_far_is_printed_and_the_run_goes_on() {
    let (lab, directory) = lab();
    for (signal, mode) in [(libc::SIGUSR1, "-i 5ms"), (libc::SIGQUIT, "-A")] {
        let args = format!("{mode} -t 2 -o json");
        let mut child = start(&lab.client.ns, &mut client(directory.path(), &args));
        let mut stdout = first_probe(&mut child);
        kill(child.id(), signal);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("sent ") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "no summary");
        }
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.lines().any(|l| l.contains("\"probe\"")), "it went on");
        assert!(rest.lines().all(|l| l.starts_with('{')), "only JSON");
        let end = rest.lines().last().unwrap();
        assert!(end.contains("\"type\":\"stat\""), "{end}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_server_says_whom_it_serves() {
    const PROBES: u64 = 60;
    let (lab, directory) = lab();
    let server = Server::start(&lab.server.ns, "--nslocal --stat-interval 0.1");
    for mode in ["inband", "compact", "pingpong"] {
        let args = format!("-i 2ms -C {PROBES} --nslocal --mode {mode} -o json");
        let run = start(&lab.client.ns, &mut client(directory.path(), &args));
        let run = finish(run);
        assert_eq!(run.status, 0, "{run:#?}");
    }
    kill(server.pid(), libc::SIGUSR1);
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success());
    let tables = story.iter().filter(|l| l.contains(" clients, ")).count();
    assert!(tables > 2, "every 100 ms: {story:#?}");
    let last = story
        .iter()
        .rposition(|l| l.contains("1 clients, 3 sessions"));
    let table = &story[last.unwrap_or_else(|| panic!("{story:#?}"))..];
    for (mode, stamped, packets) in [
        ("inband", true, false),
        ("compact", false, true),
        ("pingpong", false, false),
    ] {
        let row = table.iter().find(|l| l.contains(mode));
        let row = row.unwrap_or_else(|| panic!("no {mode}: {table:#?}"));
        let cells: Vec<&str> = row.split_whitespace().skip(3).collect();
        let count = |at: usize| cells[at].parse::<u64>().expect(row);
        assert_eq!(cells[0], "10.77.0.1", "{row}");
        // The client's last probes only collect stamps.
        assert!(count(5) >= PROBES && count(6) >= PROBES, "{row}");
        assert_eq!((count(7) > 0, count(8) > 0), (stamped, packets), "{row}");
        // Its first probe has no cookie yet.
        assert_eq!(row.contains("returned no cookie yet"), packets, "{row}");
    }
}

#[test]
fn a_server_summarizes_at_a_signal_and_at_its_end() {
    let (lab, directory) = lab();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let run = finish(start(
        &lab.client.ns,
        &mut client(directory.path(), "-i 2ms -C 20 --nslocal -o json"),
    ));
    assert_eq!(run.status, 0, "{run:#?}");
    kill(server.pid(), libc::SIGUSR1);
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success());
    let clients = story.iter().filter(|l| l.contains("1 clients, 1 sessions"));
    assert_eq!(clients.count(), 1, "{story:#?}");
    let stamped = story
        .iter()
        .filter(|l| l.contains("replies stamped in band"));
    assert_eq!(stamped.count(), 2, "then, and at the end: {story:#?}");
}

#[test]
fn a_hangup_ends_a_server_in_order() {
    let (lab, _) = lab();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let (status, story) = server.stop(libc::SIGHUP);
    assert!(status.success(), "{story:#?}");
    assert!(
        story.iter().any(|l| l.contains("replies stamped")),
        "{story:#?}"
    );
}

#[test]
fn a_companion_says_what_it_found_so_far() {
    let companion = Companion::start("irqoff -t 10s");
    kill(companion.pid(), libc::SIGQUIT);
    let run = companion.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(run.stderr.contains("-- irqoff for"), "{run:#?}");
    assert!(run.stdout.contains("-- irqoff for"), "{run:#?}");
}

/// A pseudo-terminal of 50 columns: the master, and the end for a program.
fn terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let size = libc::winsize {
        ws_row: 24,
        ws_col: 50,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let none = std::ptr::null();
    // SAFETY: both numbers are written, and the size is read, during the call.
    let result = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut slave,
            std::ptr::null_mut(),
            none,
            &raw const size,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: two descriptors that nobody else owns.
    unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

/// Makes a terminal that of a new session, as a login does.
pub fn at_terminal(command: &mut Command, slave: &OwnedFd) {
    let fd = slave.as_raw_fd();
    let take = move || {
        // SAFETY: a session of the child's own, and a terminal that it has inherited.
        let result = unsafe {
            libc::setsid();
            libc::ioctl(fd, libc::TIOCSCTTY, 0)
        };
        if result == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(take) };
}

/// What a terminal showed, as a person sees it: the lines that stay, and those that were rewritten.
fn seen(mut master: File) -> (Vec<String>, Vec<String>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    // With the last writer gone it says EIO.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        bytes.extend(&buffer[..count]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let (mut stay, mut rewritten) = (Vec::new(), Vec::new());
    for line in text.split("\r\n") {
        let parts: Vec<&str> = line.split("\r\x1b[K").collect();
        let (last, before) = parts.split_last().unwrap();
        rewritten.extend(
            before
                .iter()
                .filter(|p| !p.is_empty())
                .map(ToString::to_string),
        );
        stay.push((*last).to_owned());
    }
    (stay, rewritten)
}

/// Runs a program whose stdout and stderr are a terminal.
fn run_at_terminal(lab: &Lab, command: &mut Command) -> (i32, Vec<String>, Vec<String>) {
    let (master, slave) = terminal();
    at_terminal(command, &slave);
    command.stdin(Stdio::null());
    command.stdout(slave.try_clone().unwrap());
    command.stderr(slave.try_clone().unwrap());
    let mut child = lab.client.ns.run(|| command.spawn()).unwrap().unwrap();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    drop(slave);
    let (stay, rewritten) = seen(master);
    (child.wait().unwrap().code().unwrap(), stay, rewritten)
}

#[test]
fn a_quiet_run_on_a_terminal_shows_that_it_lives() {
    let (lab, directory) = lab();
    let mut command = client(directory.path(), "-i 5ms -m 10s -t 3.5");
    let (status, stay, rewritten) = run_at_terminal(&lab, &mut command);
    assert_eq!(status, 0, "{stay:#?}");
    assert!(rewritten.len() >= 2, "{rewritten:#?}");
    for line in &rewritten {
        assert!(
            line.contains(": sent ") && line.contains(", lost 0"),
            "{line}"
        );
        assert!(line.chars().count() < 50, "{line}");
    }
    assert!(
        rewritten.iter().any(|l| l.contains("p50 ")),
        "{rewritten:#?}"
    );
    assert!(stay.iter().any(|l| l.starts_with("sent ")), "{stay:#?}");
    let leftover = stay.iter().find(|l| l.contains(": sent "));
    assert_eq!(leftover, None);
}

#[test]
fn results_that_scroll_are_progress_enough() {
    let (lab, directory) = lab();
    let mut command = client(directory.path(), "-i 50ms -t 2.5");
    let (status, stay, rewritten) = run_at_terminal(&lab, &mut command);
    assert_eq!((status, rewritten), (0, Vec::new()), "{stay:#?}");
    assert!(
        stay.iter().any(|l| l.contains("#0 10.77.0.2 ok")),
        "{stay:#?}"
    );
}

#[test]
fn a_long_companion_shows_how_far_it_is() {
    let (lab, directory) = lab();
    let mut command = program();
    command.args("memleak -c -i 2 -o json".split(' '));
    command.current_dir(directory.path());
    let (status, stay, rewritten) = run_at_terminal(&lab, &mut command);
    assert_eq!(status, 0, "{stay:#?}");
    let far = rewritten
        .iter()
        .find(|l| l.starts_with("memleak: 1 s of 2s"));
    assert!(far.is_some(), "{rewritten:#?}");
    let takes = stay
        .iter()
        .find(|l| l.contains("accounting for 2s (--time)"));
    assert!(takes.is_some(), "{stay:#?}");
}

#[test]
fn what_is_no_terminal_sees_no_progress() {
    let (lab, directory) = lab();
    let run = finish(start(
        &lab.client.ns,
        &mut client(directory.path(), "-i 5ms -m 10s -t 2.5"),
    ));
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(!run.stderr.contains(['\x1b', '\r']), "{run:#?}");
}

/// Nobody answers pings there, or everybody does again.
fn ignore_pings(host: &Host, ignore: bool) {
    let file = "/proc/sys/net/ipv4/icmp_echo_ignore_all";
    let write = || fs::write(file, if ignore { "1" } else { "0" });
    host.ns.run(write).unwrap().unwrap();
}

#[test]
fn an_outage_is_said_on_stderr_while_it_lasts() {
    let (lab, directory) = lab();
    let args = "-i 10ms -W 200ms -o json";
    let mut child = start(&lab.client.ns, &mut client(directory.path(), args));
    let mut stdout = first_probe(&mut child);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut until_said = |words: &str| {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "no '{words}'");
        }
    };
    let reader = thread::spawn(move || stdout.read_to_string(&mut String::new()));
    ignore_pings(&lab.server, true);
    until_said("no reply since ");
    ignore_pings(&lab.server, false);
    until_said("replies again after ");
    kill(child.id(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    reader.join().unwrap().unwrap();
}

/// What a program wrote to stdout, and its status, when stderr takes nothing.
fn with_full_stderr(lab: &Lab, command: &mut Command) -> Finished {
    let full = File::options().write(true).open("/dev/full").unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(full);
    let child = lab.client.ns.run(|| command.spawn()).unwrap().unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::new(),
    }
}

#[test]
fn a_stderr_that_takes_nothing_ends_no_client() {
    let (lab, directory) = lab();
    for args in ["-i 2ms -C 50 -o text,json", "-i 2ms -C 50 -o json,image"] {
        let run = with_full_stderr(&lab, &mut client(directory.path(), args));
        assert_eq!(run.status, 1, "{args}: {run:#?}");
        assert_eq!((run.probes().len(), &run.stat()["sent"]), (50, &50.into()));
    }
    assert!(directory.path().join("pingtrace.png").exists());
    // Nothing was to be said, so nothing was lost.
    let run = with_full_stderr(
        &lab,
        &mut client(directory.path(), "-i 2ms -C 50 --mode pingpong"),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    let wrong = with_full_stderr(&lab, &mut client(directory.path(), "-b 1"));
    assert_eq!(wrong.status, 2, "{wrong:#?}");
}

#[test]
fn a_stderr_that_takes_nothing_ends_no_companion() {
    let (lab, directory) = lab();
    for (args, end) in [
        ("irqoff 1", "-- irqoff for"),
        ("nosched 1", "-- nosched for"),
        ("runqlat 1", "-- runqlat for"),
        ("iofsstat -c 1", "s\n"),
        ("memleak -c -i 1", "-- memleak for"),
    ] {
        let mut command = program();
        command.args(args.split(' ')).current_dir(directory.path());
        let run = with_full_stderr(&lab, &mut command);
        assert_eq!(run.status, 1, "{args}: {run:#?}");
        assert!(run.stdout.contains(end), "{args}: {run:#?}");
    }
}

#[test]
fn a_stderr_that_takes_nothing_ends_no_server() {
    let (lab, directory) = lab();
    let mut command = program();
    command.args(["-s", "--nslocal"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full);
    let mut server = lab.server.ns.run(|| command.spawn()).unwrap().unwrap();
    until("the server stamps", || {
        let args = "-i 2ms -C 20 --nslocal -o json";
        let run = finish(start(&lab.client.ns, &mut client(directory.path(), args)));
        run.stdout.contains("r_rx_devrcv")
    });
    assert!(matches!(server.try_wait(), Ok(None)), "it serves on");
    kill(server.id(), libc::SIGTERM);
    assert_eq!(server.wait().unwrap().code(), Some(1));
}

#[test]
fn a_reader_of_stderr_that_left_ends_nothing() {
    let (lab, directory) = lab();
    let args = "-i 5ms -C 100 -o text,json";
    let mut child = start(&lab.client.ns, &mut client(directory.path(), args));
    drop(child.stderr.take());
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(
        stdout.lines().last().unwrap().contains("\"sent\":100"),
        "{stdout}"
    );
}

#[test]
fn without_a_reader_of_stdout_a_log_goes_on() {
    let (lab, directory) = lab();
    let args = "-i 2ms -C 500 -o json,log";
    let mut child = start(&lab.client.ns, &mut client(directory.path(), args));
    drop(first_probe(&mut child));
    let run = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(0), "{stderr}");
    let log = directory.path().join("pingtrace.log.seq");
    assert_eq!(lines_of(&log, "probe").len(), 500);
}

/// It writes nothing that could fail, so it has to look.
#[test]
fn a_quiet_run_notices_that_its_reader_left() {
    let (lab, directory) = lab();
    let mut child = start(
        &lab.client.ns,
        &mut client(directory.path(), "-i 20ms -m 100s"),
    );
    drop(child.stdout.take());
    let child = std::cell::RefCell::new(child);
    until("the run ends", || {
        matches!(child.borrow_mut().try_wait(), Ok(Some(_)))
    });
    let mut child = child.into_inner();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn help_for_a_reader_that_left_is_no_error_and_for_a_full_disk_is_one() {
    let mut command = program();
    command
        .arg("--help")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = command.stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let status = command.stdout(write).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

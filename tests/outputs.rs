//! What the program writes: JSON, text, logs and pictures, however the run ends.

use super::harness::{Finished, Server, client, finish, kill, program, start, until, wire};
use netns::Lab;
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::model::Direction;
use serde_json::Value;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
const TO_SERVER: [&str; 2] = ["-c", "10.77.0.2"];

/// Two hosts, no server, and a directory in which the client runs.
fn lab() -> (Lab, TempDir) {
    (Lab::veth_pair().unwrap(), TempDir::new().unwrap())
}

/// A client that runs in `directory`.
fn launch(lab: &Lab, directory: &Path, args: &[&str]) -> Child {
    let mut command = program();
    command.args(TO_SERVER).args(args).current_dir(directory);
    start(&lab.client.ns, &mut command)
}

fn launch_words(lab: &Lab, directory: &Path, args: &str) -> Child {
    launch(lab, directory, &args.split(' ').collect::<Vec<_>>())
}

/// The lines of a file, all whole and JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line");
    let parsed = text.lines().map(|l| serde_json::from_str(l).expect(l));
    parsed.collect()
}

fn of_type(lines: &[Value], kind: &str) -> Vec<Value> {
    lines
        .iter()
        .filter(|l| l["type"] == kind)
        .cloned()
        .collect()
}

/// Sequence numbers of the probes in these lines.
fn sequences(lines: &[Value]) -> Vec<u64> {
    let probes = lines.iter().filter(|l| l["type"] == "probe");
    probes.map(|p| p["seq"].as_u64().unwrap()).collect()
}

fn count_lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |t| t.lines().count())
}

#[test]
fn json_is_as_the_schema_says() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let (lab, directory) = lab();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for args in [
        "-n --nslocal",
        "-A",
        "--mode compact -m 1",
        "--mode pingpong -6",
    ] {
        let host = if args.ends_with('6') {
            "fd77::2"
        } else {
            "10.77.0.2"
        };
        let run = client(
            &lab.client.ns,
            &format!(
                "-c {host} {args} -C 40 -o json {}",
                if args == "-A" { "" } else { "-i 2ms" }
            ),
        );
        assert_eq!(run.status, 0, "{run:#?}");
        for line in run.stdout.lines() {
            let value: Value = serde_json::from_str(line).expect(line);
            let faults: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(faults.is_empty(), "{faults:#?} in {line}");
        }
        assert_eq!(run.stat()["sent"], 40);
    }
    let log = finish(launch_words(
        &lab,
        directory.path(),
        "-i 2ms -C 40 -o log --stat-interval 10ms",
    ));
    assert_eq!(log.status, 0, "{log:#?}");
    for file in ["pingtrace.log.seq", "pingtrace.log.stat"] {
        for line in lines(&directory.path().join(file)) {
            assert!(schema.is_valid(&line), "{line}");
        }
    }
}

/// What an interval counted, of these keys.
fn counted(intervals: &[Value], key: &str) -> u64 {
    intervals.iter().filter_map(|i| i[key].as_u64()).sum()
}

#[test]
fn intervals_are_alone_and_add_up() {
    let (lab, directory) = lab();
    let args = "-i 2ms -C 200 -m 1s -o text,json,log --stat-interval 100ms";
    let run = finish(launch_words(&lab, directory.path(), args));
    assert_eq!(run.status, 0, "{run:#?}");
    let intervals = run.lines("interval");
    assert!(intervals.len() >= 3, "{run:#?}");
    let stat = run.stat();
    for key in ["sent", "replied", "elapsed_ns"] {
        assert_eq!(
            counted(&intervals, key),
            stat[key].as_u64().unwrap(),
            "{key}"
        );
    }
    let costs: Vec<_> = intervals.iter().map(|i| i["self"].clone()).collect();
    assert_eq!(
        counted(&costs, "cpu_ns"),
        stat["self"]["cpu_ns"].as_u64().unwrap()
    );
    let totals: Vec<_> = intervals.iter().map(|i| i["delays"][0].clone()).collect();
    let max = totals.iter().filter_map(|t| t["max"].as_u64()).max();
    assert_eq!(counted(&totals, "count"), 200);
    assert_eq!(max, stat["delays"][0]["max"].as_u64());
    let jitter = stat["jitter"].as_array().unwrap();
    let round = jitter.iter().find(|j| j["direction"] == "rtt").unwrap();
    assert_eq!(round["ipdv"]["count"], 199);
    assert_eq!(
        run.stderr.matches(" last ").count(),
        intervals.len(),
        "{run:#?}"
    );
    let log = lines(&directory.path().join("pingtrace.log.stat"));
    assert_eq!(of_type(&log, "interval"), intervals);
    assert_eq!(of_type(&log, "stat").len(), intervals.len());
    assert!(stat["delays"][0]["hdr"].is_string());
    assert!(of_type(&log, "stat")[0]["delays"][0]["hdr"].is_null());
}

#[test]
fn intervals_are_shown_when_they_are_asked_for() {
    let (lab, _) = lab();
    let quiet = client(&lab.client.ns, "-c 10.77.0.2 -i 2ms -C 20 -o text,json");
    assert_eq!(quiet.lines("interval").len(), 0, "{quiet:#?}");
    assert!(!quiet.stderr.contains(" last "), "{quiet:#?}");
    let off = client(
        &lab.client.ns,
        "-c 10.77.0.2 -i 2ms -C 20 -o json --stat-interval 0",
    );
    assert_eq!((off.status, off.lines("interval").len()), (0, 0));
}

/// With `--debug` the kernel counts what each program takes; without, the process alone is measured.
#[test]
fn the_tool_says_what_it_costs() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal --debug");
    let args = "-c 10.77.0.2 --nslocal -i 2ms -C 100 -m 10s -o text,json";
    let plain = client(&lab.client.ns, args);
    assert!(
        plain.stat()["self"]["cpu_ns"].as_u64().unwrap() > 0,
        "{plain:#?}"
    );
    assert!(plain.stat()["self"]["programs"].is_null(), "{plain:#?}");
    assert!(plain.stderr.contains("pingtrace itself: "), "{plain:#?}");
    assert!(plain.stderr.contains("send slip p50 "), "{plain:#?}");
    let debug = client(
        &lab.client.ns,
        &format!("{args} --debug --stat-interval 50ms"),
    );
    let programs = debug.stat()["self"]["programs"].clone();
    let programs = programs.as_array().expect("programs");
    for name in ["on_net_dev_queue", "on_net_dev_start_xmit", "client_socket"] {
        let found = programs.iter().find(|p| p["program"] == name);
        let program = found.unwrap_or_else(|| panic!("no {name} in {programs:#?}"));
        let of = |key: &str| program[key].as_u64().unwrap();
        assert!(of("runs") >= 100 && of("ns") >= of("runs"), "{program:#}");
        let intervals = debug.lines("interval");
        let all = intervals
            .iter()
            .filter_map(|i| i["self"]["programs"].as_array());
        let same: Vec<_> = all
            .flatten()
            .filter(|p| p["program"] == name)
            .cloned()
            .collect();
        for key in ["runs", "ns"] {
            assert_eq!(counted(&same, key), of(key), "{key} of {name}");
        }
    }
    let tables = debug.stderr.matches("\non_net_dev_queue ").count();
    assert_eq!(tables, debug.lines("interval").len() + 1, "{debug:#?}");
    let (_, story) = server.stop(libc::SIGTERM);
    for words in ["pingtrace itself: ", "on_netif_receive_skb", "inband_ether"] {
        assert!(story.iter().any(|line| line.contains(words)), "{story:#?}");
    }
}

/// One-way variation across two clocks: as much as the wire was planned to vary, in its direction.
#[test]
fn jitter_is_that_of_its_direction() {
    let every_second: Vec<u32> = (0..100).map(|k| 2 * k + 1).collect();
    let late = Action::Delay(Duration::from_millis(3));
    let rules = [Rule::at(Direction::Request, every_second, late)];
    let (lab, _wire) = wire(Plan::new(Duration::from_millis(1), rules));
    let _server = Server::start(&lab.server.ns, "--userid 2");
    let run = client(
        &lab.client.ns,
        "-c 10.77.0.2 --userid 1 -i 10ms -C 200 -m 1s -o json",
    );
    let stat = run.stat();
    let jitter = |way: &str| {
        let all = stat["jitter"].as_array().unwrap().iter();
        all.clone().find(|j| j["direction"] == way).expect(way)
    };
    let p50 = |way| jitter(way)["ipdv"]["p50"].as_u64().unwrap();
    assert!(p50("out").abs_diff(3_000_000) < 500_000, "{stat:#}");
    assert!(p50("rtt").abs_diff(3_000_000) < 500_000, "{stat:#}");
    assert!(p50("in") < 1_000_000, "{stat:#}");
    let smoothed = jitter("out")["rfc3550_ns"].as_u64().unwrap();
    assert!(smoothed.abs_diff(3_000_000) < 1_500_000, "{stat:#}");
}

#[test]
fn with_text_and_json_stdout_is_json_and_stderr_text() {
    let (lab, _) = lab();
    let run = client(&lab.client.ns, "-c 10.77.0.2 -i 2ms -C 20 -o text,json");
    assert_eq!((run.status, run.probes().len()), (0, 20), "{run:#?}");
    assert_eq!(run.lines("run").len(), 1);
    assert!(run.stderr.contains("#19 10.77.0.2 ok"), "{run:#?}");
    assert!(
        run.stderr.contains("sent 20, replied 20, lost 0"),
        "{run:#?}"
    );
    let text = client(&lab.client.ns, "-c 10.77.0.2 -i 2ms -C 20");
    assert!(text.stdout.contains("#19 10.77.0.2 ok") && !text.stderr.contains("#19"));
}

#[test]
fn logs_roll_over_without_losing_or_splitting_a_line() {
    const LIMIT: u64 = 20_000;
    let (lab, directory) = lab();
    let file = |name: &str| directory.path().join(name);
    let run = finish(launch_words(
        &lab,
        directory.path(),
        "-i 1ms -C 300 -o log --log all --logsize 20000 --logbackup 99",
    ));
    assert_eq!((run.status, run.stdout.as_str()), (0, ""), "{run:#?}");
    let mut names: Vec<_> = (1..=99)
        .rev()
        .map(|n| file(&format!("all.seq.{n}")))
        .collect();
    names.retain(|f| f.exists());
    names.push(file("all.seq"));
    assert!(names.len() > 4, "{names:#?}");
    assert!(names.iter().all(|f| f.metadata().unwrap().len() <= LIMIT));
    let all: Vec<_> = names.iter().flat_map(|f| lines(f)).collect();
    assert_eq!(all[0]["type"], "run");
    assert_eq!(sequences(&all), (0..300).collect::<Vec<_>>());
    let stat = of_type(&lines(&file("all.stat")), "stat").pop().unwrap();
    assert_eq!(
        (stat["sent"].as_u64(), stat["recorded"].as_u64()),
        (Some(300), Some(300))
    );

    let run = finish(launch_words(
        &lab,
        directory.path(),
        "-i 1ms -C 300 -o log --log few --logsize 20000",
    ));
    assert_eq!(run.status, 0, "{run:#?}");
    let kept: Vec<_> = ["few.seq.3", "few.seq.2", "few.seq.1", "few.seq"]
        .iter()
        .flat_map(|f| lines(&file(f)))
        .collect();
    assert!(!file("few.seq.4").exists());
    let kept = sequences(&kept);
    assert_eq!(kept, (kept[0]..300).collect::<Vec<_>>());
}

#[test]
fn a_terminated_run_writes_its_final_statistics() {
    let (lab, directory) = lab();
    let seq = directory.path().join("pingtrace.log.seq");
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let _ = fs::remove_file(&seq);
        let run = launch_words(&lab, directory.path(), "-i 2ms -o log");
        until("probes are logged", || count_lines(&seq) > 50);
        kill(run.id(), signal);
        let run = finish(run);
        assert_eq!(run.status, 0, "{run:#?}");
        let file = directory.path().join("pingtrace.log.stat");
        let stat = of_type(&lines(&file), "stat").pop().expect("statistics");
        let sent = stat["sent"].as_u64().unwrap();
        assert_eq!(stat["recorded"], sent);
        assert_eq!(sequences(&lines(&seq)), (0..sent).collect::<Vec<_>>());
    }
}

#[test]
fn a_killed_run_leaves_whole_lines() {
    let (lab, directory) = lab();
    let seq = directory.path().join("pingtrace.log.seq");
    for mode in ["--mode pingpong", "-m 1"] {
        let _ = fs::remove_file(&seq);
        let run = launch_words(&lab, directory.path(), &format!("-i 1ms -o log {mode}"));
        until("probes are logged", || count_lines(&seq) > 100);
        let before = count_lines(&seq);
        kill(run.id(), libc::SIGKILL);
        finish(run);
        let lines = lines(&seq);
        assert!(lines.len() >= before);
        let sequences = sequences(&lines);
        assert_eq!(sequences, (0..sequences.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn logs_are_opened_anew_on_sighup() {
    let (lab, directory) = lab();
    let file = |name: &str| directory.path().join(name);
    let (seq, old) = (file("pingtrace.log.seq"), file("old"));
    for adaptive in ["-i 2ms", "-A"] {
        let _ = (fs::remove_file(&seq), fs::remove_file(&old));
        let run = launch_words(&lab, directory.path(), &format!("{adaptive} -o log"));
        until("probes are logged", || count_lines(&seq) > 20);
        fs::rename(&seq, &old).unwrap();
        kill(run.id(), libc::SIGHUP);
        until("the log is there again", || count_lines(&seq) > 20);
        kill(run.id(), libc::SIGTERM);
        let run = finish(run);
        assert_eq!(run.status, 0, "{run:#?}");
        let all = sequences(&[lines(&old), lines(&seq)].concat());
        assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    }
}

/// Gives the calling process a file system of 64 KiB on `small`, which it alone sees.
fn mount_small() -> io::Result<()> {
    let check = |r: i32| {
        if r == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    let none = std::ptr::null();
    // SAFETY: all strings end in NUL and outlive the calls.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        ))?;
        check(libc::mount(
            c"none".as_ptr(),
            c"small".as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            c"size=64k".as_ptr().cast(),
        ))
    }
}

#[test]
fn a_full_disk_is_said_and_does_not_stop_the_run() {
    let (lab, directory) = lab();
    fs::create_dir(directory.path().join("small")).unwrap();
    let mut command = program();
    command.args(TO_SERVER).current_dir(directory.path());
    command.args("-i 1ms -C 300 -o log,json --log small/log".split(' '));
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(mount_small) };
    let run = finish(start(&lab.client.ns, &mut command));
    assert_eq!(run.status, 1, "{run:#?}");
    assert_eq!(run.probes().len(), 300);
    assert_eq!(run.stat()["replied"], 300);
    // A shorter line can still fit in: that ends an outage, and the next begins another.
    let said = |file: &str, words: &str| {
        let about = |l: &&str| l.contains(file) && l.contains(words);
        run.stderr.lines().filter(about).count()
    };
    for (file, at_least) in [("small/log.seq", 1), ("small/log.stat", 0)] {
        let began = said(file, "no space left on device");
        let ended = said(file, "writing works again; ");
        assert!(began >= at_least && began <= ended + 1, "{}", run.stderr);
    }
    assert!(
        run.stderr
            .contains("log lines (--log) could not be written"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_picture_on_a_full_disk_is_said_and_the_rest_is_written() {
    let (lab, directory) = lab();
    fs::create_dir(directory.path().join("small")).unwrap();
    let mut command = program();
    command.args(TO_SERVER).current_dir(directory.path());
    command.args("-i 2ms -C 50 -o imagelog,json --image small/x.png".split(' '));
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(mount_small) };
    let run = finish(start(&lab.client.ns, &mut command));
    assert_eq!(run.status, 1, "{run:#?}");
    let complaint: Vec<_> = run.stderr.lines().filter(|l| l.contains("small")).collect();
    assert_eq!(complaint.len(), 1, "{run:#?}");
    for words in ["picture small/x.png", "No space left on device"] {
        assert!(complaint[0].contains(words), "{run:#?}");
    }
    assert_eq!((run.probes().len(), &run.stat()["sent"]), (50, &50.into()));
    let log = |name: &str| lines(&directory.path().join(name));
    assert_eq!(sequences(&log("pingtrace.log.seq")).len(), 50);
    let stat = of_type(&log("pingtrace.log.stat"), "stat").pop().unwrap();
    assert_eq!(stat["sent"], 50);
}

/// What found no room is counted.
#[test]
fn a_run_that_is_saved_on_a_full_disk_says_what_is_lost() {
    let (lab, directory) = lab();
    fs::create_dir(directory.path().join("small")).unwrap();
    let mut command = program();
    command.args(TO_SERVER).current_dir(directory.path());
    command.args("-i 2ms -C 400 -o json --save small/x.json".split(' '));
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(mount_small) };
    let run = finish(start(&lab.client.ns, &mut command));
    assert_eq!(run.status, 1, "{run:#?}");
    let complaints: Vec<_> = run.stderr.lines().filter(|l| l.contains("small")).collect();
    assert_eq!(complaints.len(), 2, "{run:#?}");
    assert!(
        complaints[0].contains("no space left on device"),
        "{run:#?}"
    );
    assert!(complaints[1].contains("could not be written"), "{run:#?}");
    assert_eq!(
        (run.probes().len(), &run.stat()["sent"]),
        (400, &400.into())
    );
}

/// The measurement and the log go on; what was not printed is counted.
#[test]
fn a_reader_that_stops_reading_stops_nothing_but_the_printing() {
    const PROBES: u64 = 20_000;
    let (lab, directory) = lab();
    let log = |name: &str| directory.path().join(format!("pingtrace.log.{name}"));
    let args = format!("-i 150us -W 60 -C {PROBES} -o text,log");
    let run = launch_words(&lab, directory.path(), &args);
    let ended = || fs::read_to_string(log("stat")).is_ok_and(|t| t.contains("\"stat\""));
    until("the log is complete", ended);
    assert_eq!(
        sequences(&lines(&log("seq"))),
        (0..PROBES).collect::<Vec<_>>()
    );
    let stat = of_type(&lines(&log("stat")), "stat").pop().unwrap();
    assert_eq!(stat["late"], 0, "{stat:#}");
    let run = finish(run);
    assert_eq!(run.status, 1, "{}", run.stderr);
    let printed = run.stdout.lines().filter(|l| l.contains('#')).count() as u64;
    let dropped = PROBES - printed;
    let said = format!("{dropped} results were not printed");
    assert!(
        dropped > 0 && run.stderr.contains(&said),
        "{said}: {}",
        run.stderr
    );
    assert!(run.stdout.contains("sent 20000"), "the summary is printed");
}

#[test]
fn a_full_stdout_is_counted_and_the_run_goes_on() {
    let (lab, directory) = lab();
    let mut command = program();
    command.args(TO_SERVER).current_dir(directory.path());
    command.args("-i 2ms -C 200 -o text,log".split(' '));
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    command
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped());
    let child = lab.client.ns.run(|| command.spawn()).unwrap().unwrap();
    let run = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{stderr}");
    let said = |words: &str| stderr.matches(words).count();
    assert_eq!(said("stdout: no space left on device"), 1, "{stderr}");
    assert_eq!(said("lines could not be written to stdout"), 1, "{stderr}");
    let log = |name: &str| lines(&directory.path().join(format!("pingtrace.log.{name}")));
    assert_eq!(sequences(&log("seq")), (0..200).collect::<Vec<_>>());
    assert_eq!(of_type(&log("stat"), "stat").last().unwrap()["sent"], 200);
}

/// Whoever draws is not kept waiting by whoever reads.
#[test]
fn a_picture_is_there_before_the_results_are_read() {
    const PROBES: u64 = 20_000;
    let (lab, directory) = lab();
    let args = format!("-i 150us -C {PROBES} -o text,image");
    let run = launch_words(&lab, directory.path(), &args);
    let picture = directory.path().join("pingtrace.png");
    until("the picture is there", || picture.exists());
    decode(&fs::read(&picture).unwrap());
    assert_eq!(names(directory.path(), "pingtrace"), ["pingtrace.png"]);
    let run = finish(run);
    assert!(run.stdout.contains("sent 20000"), "the summary is printed");
}

#[test]
fn logs_and_pictures_are_for_owner_and_group() {
    let (lab, directory) = lab();
    let run = finish(launch_words(
        &lab,
        directory.path(),
        "-i 2ms -C 20 -o imagelog",
    ));
    assert_eq!(run.status, 0, "{run:#?}");
    let mine = names(directory.path(), "pingtrace");
    assert_eq!(mine.len(), 3, "{mine:?}");
    for name in mine {
        let meta = fs::metadata(directory.path().join(&name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o137, 0, "{name}");
    }
}

#[test]
fn a_link_that_anybody_may_have_put_is_not_followed() {
    let (lab, directory) = lab();
    let target = TempDir::new().unwrap();
    let victim = target.path().join("victim");
    symlink(&victim, directory.path().join("pingtrace.log.seq")).unwrap();
    let mode = |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode));
    mode(0o1777).unwrap();
    let run = || {
        let args = "-i 2ms -C 5 -o log";
        finish(launch_words(&lab, directory.path(), args))
    };
    let refused = run();
    assert_eq!(refused.status, 1, "{refused:#?}");
    for words in ["pingtrace.log.seq", "symbolic link", "sticky directory"] {
        assert!(refused.stderr.contains(words), "{words}: {refused:#?}");
    }
    assert!(!victim.exists());
    mode(0o755).unwrap();
    assert_eq!(run().status, 0);
    assert_eq!(sequences(&lines(&victim)).len(), 5);
}

#[test]
fn a_target_that_cannot_be_written_is_found_before_the_first_probe() {
    let (lab, directory) = lab();
    let schedule = ["-t", "1", "--schedule", "* * * * * *"];
    for (output, words) in [
        (["-o", "image", "--image", "no/x.png"], "does not exist"),
        // Nobody can make a file there.
        (
            ["-o", "image", "--image", "/proc/x.png"],
            "cannot be written",
        ),
        (["-o", "log", "--log", "no/x"], "does not exist"),
        (["-o", "log", "--log", "/proc/x"], "/proc/x.seq"),
    ] {
        for more in [&["-C", "2"][..], &schedule] {
            let run = finish(launch(
                &lab,
                directory.path(),
                &[&output[..], more].concat(),
            ));
            assert_eq!(run.status, 1, "{run:#?}");
            assert!(run.stderr.contains(words), "{run:#?}");
            assert!(!run.stderr.contains("next capture"), "{run:#?}");
        }
    }
}

/// A line is seen soon, also when the next comes before the buffer is due.
#[test]
fn lines_are_seen_while_the_run_goes_on() {
    let (lab, directory) = lab();
    let mut run = launch_words(&lab, directory.path(), "-i 50ms");
    let mut first = [0; 8192];
    let length = run.stdout.as_mut().unwrap().read(&mut first).unwrap();
    kill(run.id(), libc::SIGTERM);
    finish(run);
    let seen = String::from_utf8_lossy(&first[..length]).lines().count();
    assert!(seen > 0 && seen < 50, "{seen} lines at once");
}

#[test]
fn pictures_are_written_in_the_format_of_their_name() {
    let (lab, directory) = lab();
    let picture = |name: &str| {
        let args = ["-i", "2ms", "-C", "20", "-o", "image", "--image", name];
        let run = finish(launch(&lab, directory.path(), &args));
        assert_eq!(run.status, 0, "{run:#?}");
        run
    };
    for name in ["x.png", "x.svg", "x.html"] {
        let run = picture(name);
        assert!(run.stderr.contains(&format!("picture: {name}")), "{run:#?}");
    }
    let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
    decode(&read("x.png"));
    let svg = String::from_utf8(read("x.svg")).unwrap();
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"));
    let html = String::from_utf8(read("x.html")).unwrap();
    assert!(html.contains("<html") && html.trim_end().ends_with("</html>"));
    picture("y-%Y%m%d.png");
    let is_date = |n: &str| n.len() == 14 && n[2..10].bytes().all(|b| b.is_ascii_digit());
    let dated = names(directory.path(), "y-");
    assert!(dated.len() == 1 && is_date(&dated[0]), "{dated:?}");
    decode(&read(&dated[0]));
}

fn decode(png: &[u8]) {
    let mut reader = png::Decoder::new(png).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert!(frame.width > 100 && frame.height > 100);
    assert!(pixels.iter().any(|p| *p != pixels[0]), "an empty picture");
}

/// Names of files that begin so, in order.
fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap();
    let names = files.map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Runs a schedule with a tick every two seconds until `over`, then ends it.
fn scheduled(lab: &Lab, directory: &Path, time: &str, over: impl Fn() -> bool) -> Finished {
    let fixed = ["-i", "10ms", "-t", time, "--schedule", "*/2 * * * * *"];
    let output = ["-o", "imagelog", "--image", "c-%H%M%S.svg"];
    let run = launch(lab, directory, &[&fixed[..], &output].concat());
    until("the schedule has come that far", over);
    kill(run.id(), libc::SIGTERM);
    finish(run)
}

#[test]
fn a_schedule_takes_a_picture_a_tick_and_keeps_one_log() {
    let (lab, directory) = lab();
    let two = || names(directory.path(), "c-").len() == 2;
    let run = scheduled(&lab, directory.path(), "1", two);
    assert_eq!(run.status, 0, "{run:#?}");
    let seq = sequences(&lines(&directory.path().join("pingtrace.log.seq")));
    let whole: Vec<_> = (0..100).chain(0..100).collect();
    assert_eq!(seq[..200], whole);
    let stat = lines(&directory.path().join("pingtrace.log.stat"));
    assert!(of_type(&stat, "stat").len() >= 2);
}

#[test]
fn a_tick_in_a_running_capture_is_skipped_and_said() {
    let (lab, directory) = lab();
    let two = || names(directory.path(), "c-").len() == 2;
    let run = scheduled(&lab, directory.path(), "3", two);
    assert_eq!(run.status, 0, "{run:#?}");
    let said = run
        .stderr
        .lines()
        .find(|l| l.contains("skipped"))
        .expect("it is said");
    assert!(
        said.contains(" tick(s) ") && said.contains("(-t)"),
        "{said}"
    );
    let log = lines(&directory.path().join("pingtrace.log.stat"));
    let noted = &of_type(&log, "capture")[0];
    assert_eq!(noted["status"], "skipped");
    let reason = noted["reason"].as_str().unwrap();
    assert!(said.ends_with(reason), "{said}: {reason}");
}

/// Lines of stderr begin with date and time.
fn is_dated(line: &str) -> bool {
    let (date, rest) = line.split_at_checked(20).unwrap_or_default();
    let parsed = chrono::NaiveDateTime::parse_from_str(date.trim_end(), "%Y-%m-%d %H:%M:%S");
    parsed.is_ok() && rest.starts_with("pingtrace: ")
}

#[test]
fn a_capture_that_fails_is_a_line_in_the_log_and_in_json() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let (lab, directory) = lab();
    let mut command = program();
    command.args(["-c", "192.0.2.1", "-t", "1", "--schedule", "* * * * * *"]);
    command
        .args(["-o", "json,log"])
        .current_dir(directory.path());
    let child = start(&lab.client.ns, &mut command);
    let log = |name: &str| directory.path().join(format!("pingtrace.log.{name}"));
    until("two have failed", || count_lines(&log("stat")) >= 2);
    kill(child.id(), libc::SIGTERM);
    let run = finish(child);
    assert_eq!(run.status, 1, "{run:#?}");
    let json = run.lines("capture");
    assert!(json.len() >= 2, "{run:#?}");
    for lines in [&json, &lines(&log("seq")), &lines(&log("stat"))] {
        assert_eq!(lines, &json);
        for line in lines {
            assert!(schema.is_valid(line), "{line}");
            assert_eq!(line["status"], "failed");
            let reason = line["reason"].as_str().unwrap();
            assert!(
                reason.contains("192.0.2.1") && reason.contains("no route"),
                "{reason}"
            );
        }
    }
    let failed = run
        .stderr
        .lines()
        .filter(|l| l.contains("the capture failed"));
    assert_eq!(failed.clone().count(), json.len());
    assert!(failed.clone().all(is_dated), "{run:#?}");
    let all = format!("{} captures: {0} failed", json.len());
    assert!(run.stderr.contains(&all), "{run:#?}");
}

#[test]
fn a_schedule_keeps_its_youngest_pictures() {
    let (lab, directory) = lab();
    let schedule = ["-t", "0.2", "-i", "10ms", "--schedule", "* * * * * *"];
    let run = launch(
        &lab,
        directory.path(),
        &[&schedule[..], &["-o", "imagelog", "--keep", "2"]].concat(),
    );
    let summaries = directory.path().join("pingtrace.log.stat");
    let captures = || of_type(&lines_so_far(&summaries), "stat").len();
    until("four captures are done", || captures() >= 4);
    kill(run.id(), libc::SIGTERM);
    let run = finish(run);
    assert_eq!(run.status, 0, "{run:#?}");
    let mut kept = names(directory.path(), "pingtrace-2");
    assert_eq!(kept.len(), 2, "{kept:?}");
    for name in &kept {
        decode(&fs::read(directory.path().join(name)).unwrap());
    }
    let drawn: Vec<_> = run
        .stderr
        .lines()
        .filter(|l| l.contains("picture: "))
        .collect();
    let youngest = kept.pop().unwrap();
    assert!(drawn.last().unwrap().ends_with(&youngest), "{drawn:?}");
}

/// Whole lines of a file that may still grow.
fn lines_so_far(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let parsed = text.lines().filter_map(|l| serde_json::from_str(l).ok());
    parsed.collect()
}

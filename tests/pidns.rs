//! Inside a PID namespace the processes have other numbers than the kernel's, which its programs see.

use super::harness::{Finished, alone, end, finish, hear, kill, points, start, until, with_story};
use super::kit::stall::{Kind, Stall};
use netns::{Lab, Namespace};
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::mem::MaybeUninit;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Starts these lines of a shell as the first process of a PID namespace with its own /proc;
/// `$PINGTRACE` is the program. What still runs there at their end goes with it.
fn begin(ns: &Namespace, lines: &str) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "bash", "-c", lines]);
    command.env("PINGTRACE", env!("CARGO_BIN_EXE_pingtrace"));
    start(ns, &mut command)
}

/// [`begin`], to their end.
fn inside(lines: &str) -> Finished {
    let here = Namespace::current().expect("this namespace");
    let done = finish(begin(&here, lines));
    assert_eq!(done.status, 0, "{done:#?}");
    done
}

/// The numbers of the task of this name that was begun by `unshare`: the kernel's, and the one
/// inside, by the kernel's own word.
fn task(unshare: u32, comm: &str) -> (u32, u64) {
    let link = |pid: u32, of: &str| fs::read_link(format!("/proc/{pid}/ns/{of}")).ok();
    let numbers = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mut lines = status.lines();
        let numbers = lines.find_map(|line| line.strip_prefix("NSpid:"))?;
        let inside = numbers.split_whitespace().last()?.parse().ok()?;
        let there = link(unshare, "pid_for_children");
        let is_it = name.trim() == comm && link(pid, "pid") == there;
        is_it.then_some((pid, inside))
    };
    let found = Cell::new(None);
    until(comm, || {
        let entries = fs::read_dir("/proc").expect("read /proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        found.set(pids.into_iter().find_map(numbers));
        found.get().is_some()
    });
    found.get().expect("found")
}

/// Runs a companion inside, beside the tasks of these lines, until `inject` has done its work with
/// the number of its `unshare`.
fn watched(companion: &str, tasks: &str, inject: impl FnOnce(u32)) -> Finished {
    let here = Namespace::current().expect("this namespace");
    let lines = format!("{tasks}\n$PINGTRACE {companion} -T 60 -o json");
    let (child, mut story) = with_story(begin(&here, &lines));
    hear(&mut story, ": watching.");
    inject(child.id());
    // What has just happened is not in the rings yet.
    thread::sleep(50 * MS);
    kill(task(child.id(), "pingtrace").0, libc::SIGINT);
    let done = end(child, story);
    assert_eq!(done.status, 0, "{done:#?}");
    done
}

/// A task of this name, scheduling class and CPU that does this again and again, for a minute at
/// most.
fn repeats(comm: &str, class: &str, what: &str) -> String {
    format!(
        "(exec {{pipe}}<> <(:); echo -n {comm} > /proc/$BASHPID/comm
        taskset -pc 1 $BASHPID > /dev/null; chrt {class} $BASHPID
        while ((SECONDS < 60)); do {what}; done) &"
    )
}

/// What the shell wrote in a line of its own: the number of a process there.
fn said(done: &Finished) -> u64 {
    let line = done.lines("number").pop();
    let line = line.unwrap_or_else(|| panic!("{done:#?}"));
    line["pid"].as_u64().expect("a number")
}

/// Says the number of the process that was started last.
const SAY: &str = r#"p=$!; echo "{\"type\":\"number\",\"pid\":$p}""#;
/// Writes a file again and again, for a minute at most.
const WRITES: &str =
    "f=$(mktemp); (exec 3>$f; rm $f; while ((SECONDS < 60)); do printf %04096d 0 >&3; done) &";
/// Grows by some 100 kB, 100 times a second.
const GROWS: &str = "(for k in {1..2000}; do a[k]=$(printf %0100000d 0); sleep 0.01; done) &";
/// Sleeps and wakes.
const SLEEPS: &str = "(for k in {1..2000}; do read -t 0.005 <> <(:); done) &";

#[test]
fn iofsstat_finds_the_process_that_is_named() {
    let _alone = alone();
    let done = inside(&format!(
        "{WRITES} {SAY}; $PINGTRACE iofsstat -f -p $p -T 2 -o json"
    ));
    let rows = done.lines("io");
    assert!(!rows.is_empty(), "{done:#?}");
    for row in rows {
        assert_eq!(row["tgid"].as_u64(), Some(said(&done)), "{row:#}");
        assert_eq!(row["comm"], "bash", "{row:#}");
    }
}

#[test]
fn iofsstat_leaves_itself_out() {
    let _alone = alone();
    let done = inside(&format!(
        "$PINGTRACE iofsstat -f -T 3 -c 1 -o json & {SAY}; wait $p"
    ));
    // Others on this host may run the program as well.
    let own = said(&done);
    let itself = |row: &Value| row["comm"] == "pingtrace" && row["tgid"].as_u64() == Some(own);
    assert!(!done.lines("io").iter().any(itself), "{done:#?}");
}

#[test]
fn memleak_follows_the_process_that_is_named() {
    let _alone = alone();
    for option in ["", "--malloc"] {
        let look = format!("$PINGTRACE memleak {option} -p $p -i 4 -o json");
        let done = inside(&format!("{GROWS} {SAY}; {look}"));
        let sites = done.lines("site");
        assert!(!sites.is_empty(), "{option}: {done:#?}");
        let verdict = done.lines("verdict").pop().expect("a verdict");
        let what = verdict["what"].as_str().expect("text");
        assert!(what.contains(&format!("bash/{}", said(&done))), "{what}");
    }
}

#[test]
fn runqlat_counts_the_process_and_the_thread_that_are_named() {
    let _alone = alone();
    for option in ["-p", "--tid"] {
        let look = format!("$PINGTRACE runqlat {option} $p -T 2 --hist --by process -o json");
        let done = inside(&format!("{SLEEPS} {SAY}; {look}"));
        let waits = done.lines("waits");
        assert_eq!(waits.len(), 1, "{option}: {done:#?}");
        assert_eq!(waits[0]["pid"].as_u64(), Some(said(&done)), "{done:#?}");
        assert!(waits[0]["count"].as_u64() > Some(0), "{done:#?}");
    }
}

#[test]
fn irqoff_shows_the_number_of_the_culprit_there() {
    let _alone = alone();
    let culprit = repeats("culprit", "-op 0", "read -t 0.002 -u $pipe");
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::IrqOff).unwrap();
    let own = Cell::new(0);
    let done = watched("irqoff -t 1ms --arm 1000", &culprit, |unshare| {
        let (kernel, inside) = task(unshare, "culprit");
        own.set(inside);
        for _ in 0..10 {
            stall.task(kernel, 0, 8 * MS).unwrap();
        }
    });
    let events = done.lines("event");
    let is_culprit = |e: &&Value| e["class"] == "irqoff" && e["comm"] == "culprit";
    let rows: Vec<&Value> = events.iter().filter(is_culprit).collect();
    assert!(rows.len() >= 5, "{events:#?}");
    for row in rows {
        assert_eq!(row["tid"].as_u64(), Some(own.get()), "{row:#}");
    }
}

#[test]
fn nosched_shows_the_numbers_of_the_culprit_and_of_the_victim_there() {
    let _alone = alone();
    let calls = "kill -0 $$; read -t 0.002 -u $pipe";
    let culprit = repeats("culprit", "-op 0", calls);
    let victim = repeats("victim", "-fp 50", "read -t 0.001 -u $pipe");
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::PreemptOff).unwrap();
    let own = Cell::new((0, 0));
    let done = watched(
        "nosched -t 1ms",
        &format!("{culprit}\n{victim}"),
        |unshare| {
            let (kernel, inside) = task(unshare, "culprit");
            own.set((inside, task(unshare, "victim").1));
            for _ in 0..10 {
                stall.task(kernel, libc::SYS_kill, 8 * MS).unwrap();
            }
        },
    );
    let events = done.lines("event");
    let is_culprit = |e: &&Value| e["comm"] == "culprit" && e["victim"][0] == "victim";
    let rows: Vec<&Value> = events.iter().filter(is_culprit).collect();
    assert!(rows.len() >= 5, "{events:#?}");
    let (culprit, victim) = own.get();
    for row in rows {
        assert_eq!(row["tid"].as_u64(), Some(culprit), "{row:#}");
        assert_eq!(row["victim"][1].as_u64(), Some(victim), "{row:#}");
    }
}

/// The client and a hog of higher priority have one CPU. No server runs, whose process would be
/// another one of the same name.
#[test]
fn explain_blames_the_culprit_by_its_number_there_and_never_itself() {
    let _alone = alone();
    let lab = Lab::veth_pair().expect("a laboratory");
    let burst = "for ((k = 0; k < 5000; k++)); do :; done; read -t 0.02 -u $pipe";
    let hog = repeats("culprit", "-fp 1", burst);
    let client = format!(
        "taskset -c 1 $PINGTRACE -c {} --explain -i 3ms -C 600 -o json & {SAY}; wait $p",
        lab.server.v4
    );
    let child = begin(&lab.client.ns, &format!("{hog}\n{client}"));
    let culprit = task(child.id(), "culprit").1;
    let done = finish(child);
    assert_eq!(done.status, 0, "{done:#?}");
    let probes = done.probes();
    let blame = probes.iter().filter_map(|probe| probe["blame"].as_array());
    let parts = blame
        .flatten()
        .filter_map(|blame| blame["parts"].as_array());
    let parts: Vec<&Value> = parts.flatten().collect();
    let of = |class: &str, comm: &str| -> Vec<Option<u64>> {
        let is_it = |part: &&&Value| part["class"] == class && part["comm"] == comm;
        parts
            .iter()
            .filter(is_it)
            .map(|part| part["tid"].as_u64())
            .collect()
    };
    let hogs = of("cpu", "culprit");
    assert!(hogs.len() >= 10, "{} of {}", hogs.len(), parts.len());
    assert!(
        hogs.iter().all(|tid| *tid == Some(culprit)),
        "{culprit}: {hogs:?}"
    );
    // Its main thread runs as well, which is its own doing.
    let own = Some(said(&done));
    assert!(of("own", "pingtrace").contains(&own), "{own:?}: {parts:#?}");
    assert!(
        !of("cpu", "pingtrace").contains(&own),
        "{own:?}: {parts:#?}"
    );
    let culprits = done.stat()["blame"]["culprits"].clone();
    let culprits = culprits.as_array().expect("culprits");
    let is_hog = |count: &&Value| count["class"] == "cpu" && count["comm"] == "culprit";
    let counted: Vec<&Value> = culprits.iter().filter(is_hog).collect();
    assert!(!counted.is_empty(), "{culprits:#?}");
    assert!(
        counted
            .iter()
            .all(|count| count["tid"].as_u64() == Some(culprit)),
        "{counted:#?}"
    );
}

/// The kernel's programs know the receiver by its number in the initial namespace.
#[test]
fn the_wake_up_of_the_receiver_is_stamped() {
    let lab = Lab::veth_pair().expect("a laboratory");
    let lines = format!("$PINGTRACE -c {} -i 3ms -C 200 -o json", lab.server.v4);
    let done = finish(begin(&lab.client.ns, &lines));
    assert_eq!(done.status, 0, "{done:#?}");
    let probes = done.probes();
    let woken = |probe: &&Value| {
        let points = points(probe);
        points.contains(&"l_rx_wakeup") && points.contains(&"l_rx_oncpu")
    };
    // Who is awake already has neither.
    let count = probes.iter().filter(woken).count();
    assert!(count * 2 > probes.len(), "{count} of {}", probes.len());
}

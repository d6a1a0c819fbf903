//! profile names the function that spins, and says how long a sleeper slept.

use super::harness::{Companion, Finished, alone, finish, program, refused, until};
use flate2::read::GzDecoder;
use libbpf_rs::query::ProgInfoIter;
use pingtrace::units::thread_cpu_ns;
use serde_json::{Value, json};
use std::fs;
use std::hint::black_box;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");

/// A thread that spins in [`spins_for_the_profile`].
struct Spinner {
    tid: u32,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Calls nothing for a long time, also without optimisation: it is the innermost function, with or without frame
/// pointers.
#[inline(never)]
fn spins_for_the_profile(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let (mut n, mut k) = (1_u64, 0);
        while k < 1_000_000 {
            n = n * 48_271 % 2_147_483_647;
            k += 1;
        }
        black_box(n);
    }
}

impl Spinner {
    fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (sender, receiver) = channel();
        let flag = Arc::clone(&stop);
        let spin = move || {
            sender.send(rustix::thread::gettid()).unwrap();
            spins_for_the_profile(&flag);
        };
        let thread = Some(thread::spawn(spin));
        let tid = receiver.recv().unwrap().as_raw_nonzero().get();
        Self {
            tid: tid.cast_unsigned(),
            stop,
            thread,
        }
    }

    /// The options that name it.
    fn options(&self) -> String {
        format!("-p {} -L {}", std::process::id(), self.tid)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn run(args: &str) -> Finished {
    let mut command = program();
    command.arg("profile").args(args.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    finish(command.stderr(Stdio::piped()).spawn().unwrap())
}

/// All lines, each as the schema says; the summary.
fn checked(run: &Finished) -> Value {
    assert_eq!(run.status, 0, "{run:#?}");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for line in run.stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let faults: Vec<_> = schema.iter_errors(&line).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?} in {line:#}");
    }
    run.lines("summary").pop().expect("a summary")
}

fn has(stack: &Value, of: &str, name: &str) -> bool {
    let functions = stack[of].as_array().unwrap().iter();
    functions
        .map(|function| function.as_str().unwrap())
        .any(|function| function.contains(name))
}

fn sum<'a>(stacks: impl Iterator<Item = &'a Value>, field: &str) -> u64 {
    stacks.map(|stack| stack[field].as_u64().unwrap()).sum()
}

#[test]
fn a_function_that_spins_is_the_widest() {
    let _alone = alone();
    let spinner = Spinner::start();
    let directory = tempfile::tempdir().unwrap();
    for image in ["flame.svg", "flame.html"] {
        let pprof = directory.path().join(format!("{image}.pb.gz"));
        let image = directory.path().join(image);
        let args = format!(
            "{} -F 499 --top 1000 -o json --image {} --pprof {} 2",
            spinner.options(),
            image.display(),
            pprof.display()
        );
        let run = run(&args);
        let summary = checked(&run);
        let stacks = run.lines("stack");
        let all = sum(stacks.iter(), "count");
        assert_eq!(summary["counts"]["samples"], all);
        assert!(all >= 50, "{summary:#}");
        let is_spin = |stack: &&Value| {
            let leaf = stack["user"][0].as_str().unwrap_or_default();
            leaf.contains("spins_for_the_profile")
        };
        let spins = sum(stacks.iter().filter(is_spin), "count");
        assert!(spins * 10 >= all * 9, "{spins} of {all}: {stacks:#?}");
        assert!(
            is_spin(&&stacks[0]) && stacks[0]["kernel"] == json!([]),
            "{stacks:#?}"
        );
        assert_eq!(stacks[0]["pid"], std::process::id());
        assert_eq!(stacks[0]["context"], "task");
        assert_eq!(
            sum(stacks.iter(), "ns"),
            all * (1_000_000_000 / 499),
            "each sample stands for its period"
        );
        let picture = fs::read_to_string(image).unwrap();
        assert!(picture.contains("spins_for_the_profile"));
        let mut file = Vec::new();
        let mut pprof = GzDecoder::new(fs::File::open(pprof).unwrap());
        pprof.read_to_end(&mut file).unwrap();
        let name = b"spins_for_the_profile";
        assert!(file.windows(name.len()).any(|bytes| bytes == name));
    }
}

/// What the sleeper measured itself, ns.
#[derive(Clone, Copy, Debug)]
struct Slept {
    wall_ns: u64,
    cpu_ns: u64,
}

const SLEEPS: u64 = 20;

/// Sleeps as often when it is told to, and returns when it is told again.
fn sleeper() -> (u32, Sender<()>, std::sync::mpsc::Receiver<Slept>) {
    let (go, told) = channel();
    let (sender, receiver) = channel();
    let (say, slept) = channel();
    thread::spawn(move || {
        sender.send(rustix::thread::gettid()).unwrap();
        told.recv().unwrap();
        let (begin, cpu) = (Instant::now(), thread_cpu_ns());
        for _ in 0..SLEEPS {
            thread::sleep(Duration::from_millis(20));
        }
        let slept = Slept {
            wall_ns: begin.elapsed().as_nanos() as u64,
            cpu_ns: thread_cpu_ns() - cpu,
        };
        say.send(slept).unwrap();
        let _ = told.recv();
    });
    let tid = receiver.recv().unwrap().as_raw_nonzero().get();
    (tid.cast_unsigned(), go, slept)
}

#[test]
fn a_sleeper_is_off_the_cpu_for_as_long_as_it_says() {
    let _alone = alone();
    let (tid, go, slept) = sleeper();
    let profile = Companion::start(&format!("profile --off-cpu -t {tid} --top 1000 -o json"));
    go.send(()).unwrap();
    let slept = slept.recv().unwrap();
    let run = profile.stop();
    drop(go);
    let summary = checked(&run);
    let stacks = run.lines("stack");
    let sleeps = |stack: &&Value| has(stack, "kernel", "nanosleep");
    let is = |context: &'static str| move |stack: &&Value| stack["context"] == context;
    let blocked = || stacks.iter().filter(sleeps).filter(is("blocked"));
    assert_eq!(sum(blocked(), "count"), SLEEPS, "{stacks:#?}");
    let asleep = sum(blocked(), "ns");
    let preempted = sum(stacks.iter().filter(is("preempted")), "ns");
    eprintln!("{slept:?}: asleep {asleep} ns, preempted {preempted} ns");
    assert!(asleep >= SLEEPS * 20_000_000, "{stacks:#?}");
    assert!(asleep <= slept.wall_ns, "{slept:?} {stacks:#?}");
    // What it did not sleep it ran, or waited for the CPU.
    let rest = slept.cpu_ns + preempted;
    let clocks = slept.wall_ns / 50;
    assert!(
        asleep + rest + clocks >= slept.wall_ns,
        "{slept:?} {stacks:#?}"
    );
    // It waits to be told again.
    assert_eq!(summary["counts"]["still_off"], 1, "{summary:#}");
}

#[test]
fn folded_lines_add_up_to_the_samples() {
    let _alone = alone();
    let _spinner = Spinner::start();
    let done = run("-f -a -F 499 1");
    assert_eq!(done.status, 0, "{done:#?}");
    let weight = |line: &str| -> u64 { line.rsplit_once(' ').unwrap().1.parse().unwrap() };
    let all: u64 = done.stdout.lines().map(weight).sum();
    let summary = done
        .stderr
        .lines()
        .find(|line| line.starts_with("-- profile for"));
    let summary = summary.unwrap_or_else(|| panic!("{done:#?}"));
    assert!(
        all > 0 && summary.contains(&format!(", {all} samples, ")),
        "{done:#?}"
    );
    let own: Vec<_> = done
        .stdout
        .lines()
        .filter(|line| line.contains("spins_for_the_profile"))
        .collect();
    assert!(!own.is_empty(), "{done:#?}");
    assert!(done.stdout.contains("_[k]"), "{done:#?}");
}

#[test]
fn what_finds_no_room_is_counted() {
    let _alone = alone();
    let profile = Companion::start("profile --off-cpu --stack-storage-size 16 -o json");
    // More tasks than there is room for.
    for n in 0..40 {
        let name = format!("room{n}");
        let sleep = move || thread::sleep(Duration::from_millis(1));
        thread::Builder::new()
            .name(name)
            .spawn(sleep)
            .unwrap()
            .join()
            .unwrap();
    }
    let run = profile.stop();
    let summary = checked(&run);
    let lost = summary["losses"]["no room for its stacks"].as_u64();
    assert!(lost > Some(0), "{summary:#}");
    assert!(summary["lost"].as_u64() >= lost, "{summary:#}");
    let notes = summary["notes"].to_string();
    assert!(notes.contains("--stack-storage-size"), "{summary:#}");
    assert!(notes.contains("without a stack"), "{summary:#}");
}

#[test]
fn stacks_are_those_that_were_asked_for() {
    let _alone = alone();
    let spinner = Spinner::start();
    for (option, absent) in [("-U", "kernel"), ("-K", "user")] {
        let run = run(&format!(
            "{} {option} -F 499 --top 1000 -o json 1",
            spinner.options()
        ));
        checked(&run);
        let stacks = run.lines("stack");
        assert!(!stacks.is_empty());
        let none = |stack: &Value| stack[absent].as_array().unwrap().is_empty();
        assert!(stacks.iter().all(none), "{option}: {stacks:#?}");
    }
    // ksoftirqd and kworkers are threads of the kernel: they have no stack of a process.
    let run = run("-k --off-cpu --top 1000 -o json 1");
    checked(&run);
    let stacks = run.lines("stack");
    let none = |stack: &Value| stack["user"].as_array().unwrap().is_empty();
    assert!(!stacks.is_empty() && stacks.iter().all(none), "{stacks:#?}");
}

#[test]
fn mistakes_are_said_in_one_line() {
    let cases: [(&str, i32, &[&str]); 12] = [
        ("-F 0 1", 2, &["--frequency", "1..=10000"]),
        ("-F 20000 1", 2, &["--frequency", "1..=10000"]),
        ("-F x 1", 2, &["--frequency"]),
        ("-c 10 1", 2, &["--count"]),
        (
            "-K -U 1",
            2,
            &["--kernel-stacks-only", "--user-stacks-only"],
        ),
        ("-F 99 --off-cpu 1", 2, &["--frequency", "--off-cpu"]),
        ("-m 5 1", 2, &["-m goes with --off-cpu only"]),
        ("--off-cpu -m 5ms -M 1ms 1", 2, &["-m is longer than -M"]),
        ("-f -o json 1", 2, &["-f is text"]),
        ("-p 4194304 1", 1, &["no process or thread 4194304 (-p)"]),
        (
            "-f --pprof /nowhere/x 1",
            1,
            &["/nowhere/x (--pprof)", "no such file"],
        ),
        ("-C 60000 1", 1, &["CPU 60000 (-C) is not online"]),
    ];
    for (args, status, words) in cases {
        refused(&run(args), status, words);
    }
}

#[test]
fn nothing_is_left() {
    let _alone = alone();
    let is_there = |name: &str| {
        let mut all = ProgInfoIter::default();
        all.any(|program| program.name.to_str() == Some(name))
    };
    for (args, name) in [("", "on_sample"), ("--off-cpu", "on_switch")] {
        let profile = Companion::start(&format!("profile {args}"));
        assert!(is_there(name), "{name}");
        let pid = profile.pid().to_string();
        let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
        assert!(killed.success());
        drop(profile);
        until("the kernel forgets the program", || !is_there(name));
    }
}

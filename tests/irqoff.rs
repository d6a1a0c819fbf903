//! irqoff says what was done, and nothing else.

use super::harness::{Companion, Finished, alone, finish, program, until};
use super::kit::stall::{self, Kind, Span, Stall};
use super::kit::victim::{self, Victim, Wakes};
use libbpf_rs::query::ProgInfoIter;
use pingtrace::kernel::thread::Priority;
use pingtrace::units::Time;
use serde_json::Value;
use std::fs;
use std::mem::MaybeUninit;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
const CPU: usize = 1;
const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

/// A number of an event.
pub fn number(event: &Value, key: &str) -> u64 {
    event[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {event:#}"))
}

pub fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() / 2]
}

/// When an event ended, ns of `CLOCK_MONOTONIC`.
pub fn end_ns(event: &Value) -> u64 {
    let time = event["time"].as_str().expect("time");
    let time = chrono::DateTime::parse_from_rfc3339(time).expect(time);
    let now = Time::now();
    (now.ns.cast_signed() + time.timestamp_nanos_opt().expect("in range") - now.unix_ns)
        .cast_unsigned()
}

/// Every line is as the schema says, and nothing was lost; the last one is returned.
pub fn summary(run: &Finished) -> Value {
    assert_eq!(run.status, 0, "{run:#?}");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for line in run.stdout.lines() {
        let value: Value = serde_json::from_str(line).expect(line);
        let faults: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?} in {line}");
    }
    let last = run.stdout.lines().last().expect("a summary");
    let last: Value = serde_json::from_str(last).expect(last);
    assert_eq!(last["type"], "summary");
    last
}

fn has_frame(event: &Value, function: &str) -> bool {
    let stack = event["stack"].as_array().into_iter().flatten();
    let mut names = stack.filter_map(|frame| frame.as_str());
    names.any(|name| name.starts_with(&format!("{function}+")))
}

/// The events of a class that ended with a span, at most 2 ms after it.
fn of_span<'a>(events: &'a [Value], class: &str, span: &Span) -> Vec<&'a Value> {
    let ended = |event: &&Value| {
        let end = end_ns(event);
        (span.to_ns..span.to_ns + 2_000_000).contains(&(end + 100_000))
    };
    let of_class = events.iter().filter(|event| event["class"] == class);
    of_class
        .filter(|event| number(event, "cpu") == span.cpu as u64)
        .filter(ended)
        .collect()
}

#[test]
fn interrupts_that_were_off_are_found_and_never_longer() {
    let _alone = alone();
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::IrqOff).unwrap();
    let irqoff = Companion::start("irqoff -t 200us --arm 4000 -o json");
    let mut spans = Vec::new();
    for (us, trials) in [(500, 10), (1000, 30), (2000, 10), (5000, 10), (10_000, 10)] {
        for _ in 0..trials {
            spans.push(stall.once(CPU, us * US).unwrap());
            thread::sleep(2 * MS);
        }
    }
    let run = irqoff.stop();
    assert_eq!(summary(&run)["lost"], 0, "{run:#?}");
    let events = run.lines("event");
    let (mut missed, mut over, mut under) = (Vec::new(), Vec::new(), Vec::new());
    for span in &spans {
        let found = of_span(&events, "irqoff", span);
        let mine = found.iter().find(|e| has_frame(e, "do_timerfd_settime"));
        let Some(event) = mine else {
            let near = |e: &&Value| end_ns(e).abs_diff(span.to_ns) < 12_000_000;
            eprintln!(
                "missed {span:?}: {:#?}",
                events.iter().filter(near).collect::<Vec<_>>()
            );
            missed.push(span.ns());
            continue;
        };
        assert_eq!(event["comm"], stall::COMM, "{event:#}");
        assert_eq!(number(event, "tid"), u64::from(span.tid), "{event:#}");
        let lat = number(event, "lat_ns");
        if lat > span.ns() + 100_000 {
            over.push((span.ns(), lat));
        }
        under.push(span.ns().saturating_sub(lat));
        assert!(
            number(event, "most_ns") + 100_000 >= span.ns(),
            "{event:#} for {span:?}"
        );
    }
    eprintln!(
        "missed {missed:?}, over {over:?}, under by {} at the median",
        median(under)
    );
    let missed = missed.iter().filter(|ns| **ns >= 1_000_000).count();
    // Where the vCPU is taken away in between it lasts longer, or ends in another task.
    assert!(missed * 10 <= spans.len(), "{missed} of {}", spans.len());
    assert!(over.len() * 10 <= spans.len(), "{over:?}");
}

/// The events for a stall of 5 ms each.
fn softirqs(kind: Kind, class: &str) -> Vec<(Span, Value)> {
    let _alone = alone();
    let irqoff = Companion::start("irqoff -t 1ms --softirq -o json");
    let mut storage = MaybeUninit::uninit();
    // After the recorder, so that this sees the entry first.
    let mut stall = Stall::load(&mut storage, kind).unwrap();
    let spans: Vec<Span> = (0..10).map(|_| stall.once(CPU, 5 * MS).unwrap()).collect();
    let run = irqoff.stop();
    summary(&run);
    let events = run.lines("event");
    // It may have waited for the softirq daemon besides, and that for its CPU.
    let covers = |span: &Span, event: &Value| {
        let end = end_ns(event) + 100_000;
        end >= span.to_ns && end <= span.from_ns + number(event, "lat_ns") + 200_000
    };
    let found = spans.iter().filter_map(|span| {
        let of_class = events.iter().filter(|e| e["class"] == class);
        let here = of_class.filter(|e| number(e, "cpu") == span.cpu as u64);
        let event = here
            .filter(|e| e["vector"] == "NET_RX" && covers(span, e))
            .max_by_key(|e| number(e, "lat_ns"));
        Some((*span, event?.clone()))
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), spans.len(), "{events:#?}");
    let error = |(span, event): &(Span, Value)| number(event, "lat_ns").abs_diff(span.ns());
    let error = median(found.iter().map(error).collect());
    eprintln!("{class}: {error} ns off at the median");
    assert!(error < 200_000, "{found:#?}");
    found
}

#[test]
fn a_softirq_that_waited_is_found_with_who_ran() {
    for (_, event) in softirqs(Kind::SoftirqDelay, "softirq_delay") {
        let ran = event["ran"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(
            ran.iter().any(|ran| ran["comm"] == stall::COMM),
            "{event:#}"
        );
    }
}

#[test]
fn a_softirq_that_ran_long_is_found() {
    softirqs(Kind::SoftirqRun, "softirq_run");
}

#[test]
fn who_sleeps_is_never_blamed() {
    let _alone = alone();
    let irqoff = Companion::start("irqoff -t 1ms --arm 100 -o json");
    let sleep = |cpu| {
        Victim::start(Wakes {
            cpu,
            priority: Priority::Normal,
            interval: 20 * MS,
            limit: Duration::from_secs(6),
        })
    };
    let sleepers: Vec<Victim> = (0..2).map(|cpu| sleep(cpu).unwrap()).collect();
    let woken: usize = sleepers
        .into_iter()
        .map(|sleeper| sleeper.wait().len())
        .sum();
    assert!(woken > 200, "{woken}");
    let run = irqoff.stop();
    summary(&run);
    let events = run.lines("event");
    let blamed = |e: &&Value| e["class"] == "irqoff" && e["comm"] == victim::COMM;
    // Awake it can turn interrupts off as anybody can, and lose its vCPU just then.
    assert!(events.iter().filter(blamed).count() <= 1, "{events:#?}");
    assert_eq!(
        events
            .iter()
            .find(|e| e["class"] == "irqoff" && number(e, "tid") == 0),
        None
    );
}

#[test]
fn a_signal_ends_it_with_a_summary_and_nothing_is_left() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("irqoff.log");
    let args = format!(
        "irqoff -t 1ms --softirq -f {} --logsize 4K -o text",
        log.display()
    );
    let irqoff = Companion::start(&args);
    let fds = format!("/proc/{}/fdinfo", irqoff.pid());
    let infos = fs::read_dir(fds).unwrap().flatten();
    let infos = infos.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let id = |info: String| {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        line.trim().parse::<u32>().ok()
    };
    let programs: Vec<u32> = infos.filter_map(id).collect();
    assert!(programs.len() > 5, "{programs:?}");
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::IrqOff).unwrap();
    for _ in 0..40 {
        stall.once(CPU, 12 * MS).unwrap();
    }
    let run = irqoff.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    for text in [
        "TIME(irqoff)",
        "-- irqoff for",
        " lost (",
        "do_timerfd_settime",
    ] {
        assert!(run.stdout.contains(text), "{run:#?}");
    }
    let logs: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert!(logs.len() > 1, "rotated: {logs:?}");
    for log in logs {
        let text = fs::read_to_string(log.path()).unwrap();
        assert!(text.starts_with("TIME(irqoff)"), "{text}");
        assert_eq!(text.matches("TIME(irqoff)").count(), 1, "{text}");
    }
    until("its programs are gone", || {
        !ProgInfoIter::default().any(|info| programs.contains(&info.id))
    });
}

#[test]
fn log_and_picture_without_a_name_are_called_after_it() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args("irqoff -t 1s -T 200ms -o imagelog".split(' '));
    command.current_dir(directory.path());
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = finish(piped.spawn().unwrap());
    assert_eq!((done.status, done.stdout.as_str()), (0, ""), "{done:#?}");
    let file = |name: &str| fs::read(directory.path().join(name)).unwrap();
    let log = String::from_utf8(file("pingtrace-irqoff.log")).unwrap();
    assert!(log.starts_with("TIME(irqoff)"), "{log}");
    assert!(log.contains("-- irqoff for"), "{log}");
    assert!(file("pingtrace-irqoff.png").starts_with(b"\x89PNG"));
}

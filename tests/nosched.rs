//! nosched reports how long the scheduler waited, the task that waited, and the task that held it up.

use super::harness::{Companion, alone};
use super::irqoff::{end_ns, median, number, summary};
use super::kit::stall::{self, Kind, Span, Stall};
use super::kit::victim::{self, Victim, Wake, Wakes};
use pingtrace::kernel::thread::Priority;
use serde_json::Value;
use std::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

const CPU: usize = 1;
const MS: Duration = Duration::from_millis(1);

/// Preemption is off for 8 ms, while a thread of higher priority is to run: the event, from when
/// that was, and until when.
fn held_up(args: &str) -> (Vec<(Value, u64, u64)>, Value) {
    let _alone = alone();
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::PreemptOff).unwrap();
    let nosched = Companion::start(args);
    let victim = Victim::start(Wakes {
        cpu: CPU,
        priority: Priority::Fifo(50),
        interval: MS,
        limit: Duration::from_secs(5),
    });
    let victim = victim.unwrap();
    let stall_once = |_| {
        thread::sleep(5 * MS);
        stall.once(CPU, 8 * MS).unwrap()
    };
    let spans: Vec<Span> = (0..15).map(stall_once).collect();
    let wakes = victim.stop();
    let run = nosched.stop();
    let summary = summary(&run);
    let events = run.lines("event");
    let of_span = |span: &Span| {
        let due = |wake: &&Wake| (span.from_ns..span.to_ns).contains(&wake.due_ns);
        let due = wakes.iter().find(due)?.due_ns;
        let ends = |e: &&Value| {
            number(e, "tid") == u64::from(span.tid) && end_ns(e).abs_diff(span.to_ns) < 1_000_000
        };
        let event = events.iter().find(ends)?;
        Some((event.clone(), due, span.to_ns))
    };
    let found: Vec<_> = spans.iter().filter_map(of_span).collect();
    assert!(
        found.len() >= 12,
        "{} of {}: {events:#?}",
        found.len(),
        spans.len()
    );
    (found, summary)
}

fn blamed(event: &Value) -> bool {
    let stack = event["stack"].as_array().into_iter().flatten();
    let mut frames = stack.filter_map(|frame| frame.as_str());
    event["comm"] == stall::COMM
        && event["victim"][0] == victim::COMM
        && event["class"] == "hard"
        && frames.any(|frame| frame.starts_with("do_syscall_64+"))
}

#[test]
fn a_reschedule_that_was_late_is_as_late_as_its_victim() {
    let (found, _) = held_up("nosched -t 1ms --arm 1000 -o json");
    let error = |(event, due, to): &(Value, u64, u64)| number(event, "lat_ns").abs_diff(to - due);
    let error = median(found.iter().map(error).collect());
    eprintln!("{error} ns off at the median of {}", found.len());
    assert!(error < 100_000, "{found:#?}");
    let right = found.iter().filter(|(event, ..)| blamed(event)).count();
    assert!(right * 4 >= found.len() * 3, "{right} of {found:#?}");
}

#[test]
fn sampled_it_is_as_late_as_a_period_allows() {
    let (found, summary) = held_up("nosched -t 1ms --arm 1000 --sampled -o json");
    let notes = summary["notes"].to_string();
    assert!(
        notes.contains("sampled at the end of interrupts"),
        "{notes}"
    );
    // Somebody else may have asked for the CPU before the victim did, but not later.
    let over = |(event, due, to): &(Value, u64, u64)| number(event, "lat_ns").abs_diff(to - due);
    let over = median(found.iter().map(over).collect());
    assert!(over < 200_000, "{over} ns of {found:#?}");
    let reaches = |(event, due, to): &&(Value, u64, u64)| {
        let (least, most) = (number(event, "lat_ns"), number(event, "most_ns"));
        least <= most && most + 200_000 >= to - due
    };
    let right = found.iter().filter(reaches).count();
    assert!(right * 10 >= found.len() * 9, "{right} of {found:#?}");
}

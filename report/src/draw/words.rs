//! The sentences of the picture.

use crate::model::{
    Capture, Counters, Delay, Endpoint, Marks, Moved, MovedCounter, ProbeResult, Status,
};
use crate::units::{FEW, duration};

use super::scale::local;

/// What was measured: the two ends, and the facts about the run.
pub(super) fn title(capture: &Capture) -> (String, String) {
    let (run, counters) = (&capture.run, &capture.summary.counters);
    let ends = format!(
        "{} → {}",
        end(&run.client, "client"),
        end(&run.server, "server")
    );
    let mut facts = vec![
        local(run.start_unix_ns)
            .format("%Y-%m-%d %H:%M:%S %:z")
            .to_string(),
        run.mode.clone(),
    ];
    facts.push(format!("{} sent", counters.sent));
    facts.push(format!(
        "{} lost{}",
        counters.lost,
        share(counters.lost, counters.sent)
    ));
    if let Some(taken) = capture.summary.taken() {
        let values = [("p50", taken.p50), ("p99", taken.p99), ("max", taken.max)];
        facts.extend(values.map(|(name, ns)| format!("{name} {}", duration(ns))));
    }
    facts.retain(|fact| !fact.is_empty());
    (ends, facts.join(" · "))
}

fn end(end: &Endpoint, role: &str) -> String {
    let host = end
        .host
        .as_ref()
        .map(|host| shorten(host, if end.addr.is_some() { 32 } else { 48 }));
    let label = Endpoint {
        host,
        ..end.clone()
    }
    .label();
    label.unwrap_or_else(|| role.to_owned())
}

/// At most `most` characters: a long host name must not hide the other end.
fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

/// ` (0.3 %)` or ` of 7`, or nothing where that says nothing.
fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return String::new();
    }
    if whole < FEW {
        return format!(" of {whole}");
    }
    let percent = 100.0 * part as f64 / whole as f64;
    match percent {
        p if p < 0.1 => " (<0.1 %)".to_owned(),
        p if p < 9.95 => format!(" ({p:.1} %)"),
        p if p < 99.5 || part == whole => format!(" ({p:.0} %)"),
        _ => " (>99 %)".to_owned(),
    }
}

/// What the marks behind segment names mean; empty if none is used.
pub(super) fn notes(used: Marks) -> String {
    let notes = used
        .used()
        .map(|mark| format!("{} {}", mark.symbol(), mark.meaning()));
    notes.collect::<Vec<_>>().join("   ·   ")
}

/// The counters of what should not have happened, where it did; empty if all is well.
pub(super) fn oddities(counters: &Counters) -> String {
    let shown_above = ["sent", "replied", "lost", "recorded", "warm-up"];
    let states = counters.states().into_iter();
    let states = states.filter(|(name, _)| !shown_above.contains(name));
    let odd: Vec<String> = states
        .chain(counters.oddities())
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if odd.is_empty() {
        String::new()
    } else {
        format!("Also seen: {}", odd.join(" · "))
    }
}

/// Counters that moved while probes were slow or lost; empty if none did.
pub(super) fn moved(all: &[Moved]) -> String {
    let counters = all.iter().flat_map(|moved| {
        let host = moved.host.name();
        let words = move |counter: &MovedCounter| format!("{host} {}", counter.words());
        moved.counters.iter().map(words)
    });
    let counters: Vec<String> = counters.collect();
    if counters.is_empty() {
        String::new()
    } else {
        format!("Counters: {}", counters.join(" · "))
    }
}

/// What became of a probe, where it is not the usual.
pub(super) fn status(result: &ProbeResult) -> &'static str {
    match result.probe.status {
        Status::Ok => "",
        Status::Late => "late",
        Status::Amended => "late, was counted as lost",
        Status::Lost => "lost",
        Status::Forgotten => "forgotten",
        Status::Dup => "duplicate",
    }
}

/// A segment's name and marks.
pub(super) fn marked_name(delay: &Delay) -> String {
    delay.segment.name().to_owned() + &Marks::from_delay(delay).symbols()
}

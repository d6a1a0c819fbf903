//! The sentences of the picture.

use std::collections::BTreeMap;

use crate::causes;
use crate::model::{
    Breakdown, Capture, Counters, Delay, DelayStat, Endpoint, Owner, Record, Segment, Status,
    Summary,
};

use crate::units::{FEW, Unit, duration};
use crate::verdict::Verdict;

use super::Marks;
use super::scale::local;

/// Medians of fewer probes say little about what is usual.
const USUAL_COUNT: u64 = 10;

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
    if let Some(total) = total(&capture.summary) {
        let values = [("p50", total.p50), ("p99", total.p99), ("max", total.max)];
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
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
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

/// The distribution of the total, if a probe was answered.
pub(super) fn total(summary: &Summary) -> Option<&DelayStat> {
    summary
        .delays
        .iter()
        .find(|stat| stat.segment.is_none() && stat.count > 0)
}

/// What was slow, in one sentence.
pub(super) fn headline(capture: &Capture) -> String {
    let counters = &capture.summary.counters;
    let slowest = capture.slowest.iter().find_map(|record| {
        let breakdown = record.breakdown.as_ref()?;
        Some((breakdown, record.verdict.as_ref()))
    });
    match (slowest, total(&capture.summary)) {
        (Some((slowest, verdict)), _) => slowest_probe(slowest, verdict, &capture.summary),
        (None, Some(total)) if capture.run.threshold_ns > total.max => format!(
            "No probe reached {}: slowest {}, median {}",
            Unit::Nanoseconds.round_text(capture.run.threshold_ns),
            duration(total.max),
            duration(total.p50)
        ),
        (None, Some(total)) => {
            format!(
                "Slowest probe {}, median {}: no details recorded",
                duration(total.max),
                duration(total.p50)
            )
        }
        (None, None) if counters.sent == 0 => "No probe was sent".to_owned(),
        (None, None) if counters.sent == 1 => "The probe was not answered".to_owned(),
        (None, None) => format!("None of {} probes was answered", counters.sent),
    }
}

fn slowest_probe(slowest: &Breakdown, verdict: Option<&Verdict>, summary: &Summary) -> String {
    let total = duration(slowest.response_ns());
    if let Some(open) = verdict.filter(|verdict| verdict.segment.is_none()) {
        let excess = duration(open.excess_ns);
        return match open.owner {
            Owner::Unknown => {
                format!("Slowest probe {total}: undecided what took {excess} too long")
            }
            owner => format!(
                "Slowest probe {total}: {excess} more than usual, {}",
                owner.label()
            ),
        };
    }
    let named = verdict.and_then(|verdict| verdict.segment);
    let excess = |delay: &Delay| excess(delay, summary);
    let delays = || slowest.delays.iter().filter(|delay| delay.ns > 0);
    let rank = |delay: &&Delay| (Some(delay.segment) == named, excess(delay), delay.ns);
    let Some(culprit) = delays().max_by_key(rank) else {
        return format!("Slowest probe {total}");
    };
    let (all, worst) = (
        delays().map(excess).fold(0, u64::saturating_add),
        excess(culprit),
    );
    let where_to = if worst >= all / 2 {
        segment(culprit, summary)
    } else {
        owner(slowest, summary)
    };
    format!("Slowest probe {total}: {where_to}")
}

/// `11.9 ms in l_tx_qdisc (local host), usually 3.00 us`.
fn segment(culprit: &Delay, summary: &Summary) -> String {
    let about = if culprit.bounds.is_some() {
        "about "
    } else {
        ""
    };
    let (ns, name) = (duration(culprit.ns), culprit.segment.name());
    let owner = culprit.segment.owner().label();
    let usually = match usual(summary, culprit.segment) {
        Some(median) if median <= culprit.ns / 2 => format!(", usually {}", duration(median)),
        _ => String::new(),
    };
    format!("{about}{ns} in {name} ({owner}){usually}")
}

/// Where no single segment explains most of the excess: `4.55 ms in 9 segments (local host)`.
fn owner(slowest: &Breakdown, summary: &Summary) -> String {
    let mut owners = BTreeMap::<Owner, (u64, u64, usize)>::new();
    for delay in slowest.delays.iter().filter(|delay| delay.ns > 0) {
        let (worst, ns, count) = owners.entry(delay.segment.owner()).or_default();
        *worst = worst.saturating_add(excess(delay, summary));
        *ns = ns.saturating_add(delay.ns);
        *count += 1;
    }
    match owners
        .into_iter()
        .max_by_key(|(_, (worst, ns, _))| (*worst, *ns))
    {
        Some((owner, (_, ns, 1))) => {
            format!("{} in one segment ({})", duration(ns), owner.label())
        }
        Some((owner, (_, ns, count))) => {
            format!("{} in {count} segments ({})", duration(ns), owner.label())
        }
        None => "not known where".to_owned(),
    }
}

/// By how much a delay exceeds its median, nanoseconds.
fn excess(delay: &Delay, summary: &Summary) -> u64 {
    delay
        .ns
        .saturating_sub(usual(summary, delay.segment).unwrap_or(0))
}

fn usual(summary: &Summary, segment: Segment) -> Option<u64> {
    let stat = summary
        .delays
        .iter()
        .find(|stat| stat.segment == Some(segment))?;
    (stat.count >= USUAL_COUNT).then_some(stat.p50)
}

/// Who slowed the slow probes, and how many got lost; empty if neither is known.
pub(super) fn second(capture: &Capture) -> String {
    let counters = &capture.summary.counters;
    let mut sentences = Vec::new();
    sentences.extend(causes::sentence(&capture.summary.causes, &capture.run));
    if counters.lost > 0 && counters.replied > 0 {
        sentences.push(format!(
            "{} of {} probes lost",
            counters.lost, counters.sent
        ));
    }
    sentences.join("  ·  ")
}

/// What the marks behind segment names mean; empty if none is used.
pub(super) fn notes(used: Marks) -> String {
    let notes = used
        .used()
        .map(|mark| format!("{} {}", mark.symbol(), mark.meaning()));
    notes.collect::<Vec<_>>().join("   ·   ")
}

/// Every counter and its name.
pub(super) fn counters(counters: &Counters) -> [(&'static str, u64); 22] {
    [
        ("sent", counters.sent),
        ("replied", counters.replied),
        ("late", counters.late),
        ("lost", counters.lost),
        ("answered after all", counters.amended),
        ("forgotten", counters.forgotten),
        ("still in flight", counters.in_flight),
        ("duplicates", counters.dup),
        ("reordered", counters.reordered),
        ("recorded", counters.recorded),
        ("without remote stamps", counters.no_remote),
        ("stamps lost", counters.lost_stamps),
        ("stamps out of order", counters.unordered),
        ("bad checksums", counters.bad_checksum),
        ("malformed packets", counters.malformed),
        ("unknown points", counters.unknown_points),
        ("send errors", counters.send_errors),
        ("ICMP errors", counters.icmp_errors),
        ("unmatched replies", counters.unmatched),
        ("stamps refused", counters.refused),
        (
            "ICMP errors about no probe in flight",
            counters.icmp_unrelated,
        ),
        ("probes not sent in time", counters.unsent),
    ]
}

/// The counters of what should not have happened, where it did; empty if all is well.
pub(super) fn oddities(all: &Counters) -> String {
    let usual = ["sent", "replied", "lost", "recorded"];
    let odd: Vec<String> = counters(all)
        .into_iter()
        .filter(|(name, count)| *count > 0 && !usual.contains(name))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if odd.is_empty() {
        String::new()
    } else {
        format!("Also seen: {}", odd.join(" · "))
    }
}

/// What became of a probe, where it is not the usual.
pub(super) fn status(record: &Record) -> &'static str {
    match record.probe.status {
        Status::Ok => "",
        Status::Late => "late",
        Status::Amended => "late, was counted as lost",
        Status::Lost => "lost",
        Status::Forgotten => "forgotten",
        Status::Dup => "duplicate",
    }
}

//! The tables below the picture of a run, on the page.

use super::html::{bare_table, escape, row, square, table, table_with_more};
use super::palette::{self, color_of, hex};
use super::scale::local;
use super::{waterfall, words};
use crate::format::text;
use crate::model::{
    BlameSummary, Breakdown, Capture, DelayStat, Marks, Moved, Names, ProbeResult, Segment, Stamp,
    Summary,
};
use crate::units::duration;
use std::collections::BTreeSet;

/// All that say something.
pub(super) fn tables(capture: &Capture) -> String {
    let summary = &capture.summary;
    let tables = [
        causes(summary),
        blame(summary),
        losses(summary, &capture.names),
        slowest(capture),
        percentiles(capture),
        moved(&summary.moved),
        counters(capture),
    ];
    tables.concat()
}

/// A name with its colour and its marks.
fn name(segment: Option<Segment>, marks: Marks) -> String {
    let text = segment.map_or("total", Segment::name).to_owned() + &marks.symbols();
    square(color_of(segment)) + &escape(&text)
}

fn slowest(capture: &Capture) -> String {
    if capture.slowest.is_empty() {
        return String::new();
    }
    let breakdowns = capture
        .slowest
        .iter()
        .filter_map(|result| result.breakdown.as_ref());
    let segments: BTreeSet<Segment> = breakdowns
        .flat_map(|b| &b.delays)
        .map(|delay| delay.segment)
        .collect();
    let mut head: Vec<String> = ["probe", "sent at", "total"].map(str::to_owned).into();
    head.extend(
        segments
            .iter()
            .map(|segment| name(Some(*segment), Marks::default())),
    );
    let rows: Vec<(Vec<String>, String)> = capture
        .slowest
        .iter()
        .map(|result| (probe(result, &segments), more(result, &capture.names)))
        .collect();
    table_with_more("Slowest probes", &head, &rows) + &notes(capture)
}

fn probe(result: &ProbeResult, segments: &BTreeSet<Segment>) -> Vec<String> {
    let time = local(result.probe.sent_unix_ns)
        .format("%Y-%m-%d %H:%M:%S%.6f")
        .to_string();
    let status = words::status(result);
    let lost = || "<span class=\"lost\">lost</span>".to_owned();
    let total = result
        .breakdown
        .as_ref()
        .map_or_else(lost, |b| format!("{} {status}", duration(b.response_ns())));
    let mut cells = vec![format!("#{}", result.probe.seq), time, total];
    cells.extend(segments.iter().map(|segment| cell(result, *segment)));
    cells
}

/// The breakdown of a probe: its segments, what had the CPU meanwhile, and the hops.
fn more(result: &ProbeResult, names: &Names) -> String {
    let breakdown = result.breakdown.as_ref().map(breakdown);
    let blame = result.blame.iter();
    let blame = blame.map(|blame| {
        let host = blame.host.name();
        format!("<p>{}: {}</p>\n", escape(&host), escape(&blame.text()))
    });
    let blame: String = blame.collect();
    breakdown.unwrap_or_default() + &blame + &hops(&result.probe.path, names)
}

fn breakdown(of: &Breakdown) -> String {
    let whole = of.response_ns().max(1) as f64;
    let rows = of.delays.iter().map(|delay| {
        let share = 100.0 * delay.ns as f64 / whole;
        let color = hex(color_of(Some(delay.segment)));
        let bar = format!("<b style=\"width:{share:.1}%;background:{color}\"></b>");
        let title = escape(&waterfall::hint(delay, of));
        let cells = [
            name(Some(delay.segment), Marks::from_delay(delay)),
            escape(delay.segment.owner().label()),
            format!("<span title=\"{title}\">{}</span>", duration(delay.ns)),
            format!("{share:.1} %"),
            format!("<div class=\"bar\">{bar}</div>"),
        ];
        row(&cells, "td")
    });
    let head = ["segment", "owner", "time", "part", ""].map(str::to_owned);
    bare_table(&head, &rows.collect::<String>())
}

/// Where it was seen, and how long after the stamp before on the same host.
fn hops(path: &[Stamp], names: &Names) -> String {
    let rows = path.iter().enumerate().map(|(k, stamp)| {
        let mut before = path[..k].iter().rev();
        let before = before.find(|before| before.host == stamp.host);
        let since = before.map(|before| match stamp.ns.checked_sub(before.ns) {
            Some(ns) => duration(ns),
            None => format!("-{}", duration(before.ns - stamp.ns)),
        });
        let namespace = names.netns_of(stamp.host, stamp.netns);
        let device = names.device_of(stamp.host, stamp.netns, stamp.ifindex);
        let cells = [
            escape(stamp.point.name()),
            escape(&stamp.host.name()),
            named(namespace, stamp.netns.0),
            named(device, stamp.ifindex.0),
            stamp.cpu.map(|cpu| cpu.to_string()).unwrap_or_default(),
            since.unwrap_or_default(),
        ];
        row(&cells, "td")
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    let head = [
        "point",
        "host",
        "namespace",
        "device",
        "CPU",
        "since the last one of this host",
    ];
    bare_table(&head.map(str::to_owned), &rows)
}

/// A name, else the number; nothing where there is none.
fn named(name: Option<&str>, number: u32) -> String {
    match (name, number) {
        (Some(name), _) => escape(name),
        (None, 0) => String::new(),
        (None, number) => number.to_string(),
    }
}

/// The time of one segment of one probe; more under the pointer.
fn cell(result: &ProbeResult, segment: Segment) -> String {
    let Some(breakdown) = &result.breakdown else {
        return String::new();
    };
    let Some(delay) = breakdown
        .delays
        .iter()
        .find(|delay| delay.segment == segment)
    else {
        return String::new();
    };
    let (title, marks) = (
        escape(&waterfall::hint(delay, breakdown)),
        Marks::from_delay(delay).symbols(),
    );
    format!(
        "<span title=\"{title}\">{}{marks}</span>",
        duration(delay.ns)
    )
}

fn notes(capture: &Capture) -> String {
    let notes = escape(&words::notes(capture.summary.marks));
    if notes.is_empty() {
        notes
    } else {
        format!("<p>{notes}</p>\n")
    }
}

fn percentiles(capture: &Capture) -> String {
    let stats: Vec<&DelayStat> = capture
        .summary
        .delays
        .iter()
        .filter(|stat| stat.count > 0)
        .collect();
    if stats.is_empty() {
        return String::new();
    }
    let head = [
        "delay", "probes", "min", "mean", "p50", "p90", "p99", "p99.9", "max",
    ]
    .map(str::to_owned);
    let marks = capture.summary.marks;
    let row = |stat: &&DelayStat| {
        let marks = stat.segment.map(|segment| marks.for_segment(segment));
        let marks = marks.unwrap_or_default();
        let mut cells = vec![name(stat.segment, marks), stat.count.to_string()];
        let mean = stat.mean.round() as u64;
        cells.extend(
            [
                stat.min, mean, stat.p50, stat.p90, stat.p99, stat.p999, stat.max,
            ]
            .map(duration),
        );
        cells
    };
    table(
        "Delay by segment",
        &head,
        &stats.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Counters that moved while probes were slow or lost.
fn moved(all: &[Moved]) -> String {
    let rows = all.iter().flat_map(|moved| {
        moved.counters.iter().map(|of| {
            let name = format!("{} {}", moved.host.name(), of.counter.words());
            let windows = format!("{} of {}", of.windows, moved.windows);
            let (inside, outside) = (format!("+{}", of.inside), format!("+{}", of.outside));
            vec![escape(&name), inside, windows, outside]
        })
    });
    let head = ["counter", "in slow windows", "windows", "outside"];
    unless_empty("Counters that moved", &head, &rows.collect::<Vec<_>>())
}

fn counters(capture: &Capture) -> String {
    let counters = &capture.summary.counters;
    let all = counters.states().into_iter().chain(counters.oddities());
    let rows: Vec<Vec<String>> = all
        .map(|(name, count)| vec![escape(name), count.to_string()])
        .collect();
    let run = &capture.run;
    let mut facts = vec![vec![
        "message size".to_owned(),
        format!("{} bytes", run.size),
    ]];
    let interval = run.interval_ns.map_or("at each reply".to_owned(), duration);
    facts.push(vec!["interval".to_owned(), interval]);
    if let Some(slip) = &capture.summary.send_slip {
        facts.push(vec!["sent late by (p99)".to_owned(), duration(slip.p99)]);
    }
    facts.push(vec![
        "ran for".to_owned(),
        duration(capture.summary.elapsed_ns),
    ]);
    let head = ["counter", "value"].map(str::to_owned);
    table("The run", &head, &[facts, rows].concat())
}

/// Where probes were lost, and why.
fn losses(summary: &Summary, names: &Names) -> String {
    let rows = summary.losses.iter().map(|count| {
        vec![
            escape(count.place.label()),
            escape(&text::loss_cause(count, names)),
            count.count.to_string(),
            format!("{:.2} %", summary.counters.percent_of_sent(count.count)),
        ]
    });
    let head = ["lost at", "why", "probes", "of those sent"];
    unless_empty("Lost probes", &head, &rows.collect::<Vec<_>>())
}

/// Which segments made probes slow.
fn causes(summary: &Summary) -> String {
    let rows = summary.causes.iter().map(|cause| {
        vec![
            square(palette::owner(cause.owner)) + &escape(cause.owner_label()),
            cause.segment.map_or("", Segment::name).to_owned(),
            cause.count.to_string(),
            cause.sure.to_string(),
            duration(cause.excess_ns),
        ]
    });
    let head = ["slow because of", "segment", "probes", "sure", "in all"];
    unless_empty("Why probes were slow", &head, &rows.collect::<Vec<_>>())
}

/// What had the CPU in slow segments, and what is not known of it.
fn blame(summary: &Summary) -> String {
    let BlameSummary {
        probes: _,
        unexplained,
        skipped,
        culprits,
    } = &summary.blame;
    let known = culprits.iter().map(|culprit| {
        vec![
            escape(&culprit.words()),
            escape(&culprit.host.name()),
            culprit.segment.name().to_owned(),
            culprit.probes.to_string(),
            duration(culprit.ns),
        ]
    });
    let unknown = [
        ("nothing on the CPU explains them", *unexplained),
        ("not explained: too many at once", *skipped),
    ];
    let unknown = unknown.into_iter().filter(|(_, probes)| *probes > 0);
    let unknown = unknown.map(|(what, probes)| {
        let nothing = String::new;
        vec![
            what.to_owned(),
            nothing(),
            nothing(),
            probes.to_string(),
            nothing(),
        ]
    });
    let head = ["what had the CPU", "host", "segment", "probes", "in all"];
    let rows: Vec<_> = known.chain(unknown).collect();
    unless_empty("What the host did meanwhile", &head, &rows)
}

fn unless_empty(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    table(title, &head, rows)
}

//! The HTML page, and what SVG shows under the pointer.

use super::canvas::Hint;
use super::html::{escape, square, table};
use super::palette::color_of;
use super::picture::Picture;
use super::scale::local;
use super::{companion, flame, mesh, waterfall, words};
use crate::model::{Capture, DelayStat, Marks, Moved, ProbeResult, Segment};
use crate::units::duration;
use std::collections::BTreeSet;

const STYLE: &str = "body{font:14px/1.45 'DejaVu Sans',Verdana,sans-serif;color:#1b1f26;background:#fff;\
max-width:1400px;margin:0 auto;padding:0 12px 40px}svg{width:100%;height:auto}\
h2{font-size:17px;margin:28px 0 6px}div.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}\
th,td{padding:3px 9px;border-bottom:1px solid #e3e7ec;text-align:right;white-space:nowrap}\
th{color:#5f6873;font-weight:600}th:first-child,td:first-child{text-align:left}\
i{display:inline-block;width:10px;height:10px;margin-right:5px}td pre{margin:0;font:inherit;text-align:left}.lost{color:#c41e1e;font-weight:600}";

/// A page with the drawing and, below it, its numbers.
pub(super) fn html(picture: Picture<'_>, svg: &str) -> String {
    let (title, tables) = match picture {
        Picture::Run(capture) => {
            let tables = [
                slowest(capture),
                percentiles(capture),
                moved(&capture.summary.moved),
                counters(capture),
            ];
            (words::title(capture).0, tables.concat())
        }
        Picture::Companion(chart) => (chart.title.clone(), companion::tables(chart)),
        Picture::Mesh(matrix) => ("mesh".to_owned(), mesh::tables(matrix)),
        Picture::Flame(of) => return flame::html(of, svg),
    };
    let title = escape(&format!("pingtrace {title}"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         {svg}\n{tables}</body>\n</html>\n"
    )
}

/// Transparent rectangles with titles.
pub(super) fn hints(hints: &[Hint]) -> String {
    let visible = |hint: &&Hint| hint.area.width() > 0 && hint.area.height() > 0;
    let rects: Vec<String> = hints.iter().filter(visible).map(rect).collect();
    rects.concat()
}

fn rect(Hint { area, text }: &Hint) -> String {
    let (x, y, width, height) = (area.x0, area.y0, area.width(), area.height());
    let title = escape(text);
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
         fill-opacity=\"0\"><title>{title}</title></rect>\n"
    )
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
    let rows: Vec<Vec<String>> = capture
        .slowest
        .iter()
        .map(|result| probe(result, &segments))
        .collect();
    table("Slowest probes", &head, &rows) + &notes(capture)
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
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["counter", "in slow windows", "windows", "outside"].map(str::to_owned);
    table("Counters that moved", &head, &rows)
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

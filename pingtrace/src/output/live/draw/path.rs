//! The path of a target: a diagram of the stages of both hosts with their times, and what stood out.

use super::lines::{BOLD, DIM, Lines};
use crate::output::live::state::View;
use crate::output::live::target::Target;
use ratatui_core::style::{Color, Style};
use report::format::style::{self, color};
use report::format::text::probe_line;
use report::model::{DelayStat, Marks, Owner, Segment};
use report::units::duration;
use std::fmt::Write as _;

/// Lines for what stood out, with their title, and for a message.
const BELOW: usize = 4;
/// Columns in front of the sparkline.
const BEFORE: usize = 73;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws it.
pub fn draw(view: &View, target: &Target, lines: &mut Lines<'_>) {
    let summary = target.summary();
    let room = lines.left().saturating_sub(1 + BELOW);
    let (rows, hidden) = fitting(&summary.delays, room);
    let width = usize::from(lines.to.area().width);
    lines.text(
        &format!(
            "{:<16} {:<4} {:<18} {:>7} {:>7} {:>7} {:>7} history",
            "", "", "segment", "now", "p50", "p99", "max"
        ),
        DIM,
    );
    let mut owner = None;
    for stat in rows {
        let now = stat.segment.map_or(Owner::Unknown, Segment::owner);
        let is_new = stat.segment.is_some() && owner != Some(now);
        owner = Some(now);
        row(view, target, stat, is_new, summary.marks, width, lines);
    }
    if summary.delays.is_empty() {
        lines.plain("no probe was answered so far");
    }
    events(view, target, hidden, lines);
}

/// The rows in path order, the total last; where there is no room those with the smallest 99th percentiles go.
fn fitting(delays: &[DelayStat], room: usize) -> (Vec<&DelayStat>, usize) {
    let mut by_size: Vec<&DelayStat> = delays.iter().collect();
    by_size.sort_by_key(|stat| (stat.segment.is_some(), std::cmp::Reverse(stat.p99)));
    let hidden = by_size.split_off(by_size.len().min(room));
    let is_shown = |stat: &&DelayStat| !hidden.iter().any(|h| h.segment == stat.segment);
    let is_sum = |stat: &&DelayStat| matches!(stat.segment, None | Some(Segment::Response));
    let shown = delays.iter().filter(is_shown);
    let (sums, mut rows): (Vec<_>, Vec<_>) = shown.partition(is_sum);
    rows.extend(sums);
    (rows, hidden.len())
}

fn row(
    view: &View,
    target: &Target,
    stat: &DelayStat,
    names_owner: bool,
    marks: Marks,
    width: usize,
    lines: &mut Lines<'_>,
) {
    let segment = stat.segment;
    let is_sum = matches!(segment, None | Some(Segment::Response));
    let owner = segment.filter(|_| !is_sum).map(Segment::owner);
    let ink = match owner {
        Some(owner) if view.color => Style::new().fg(Color::Indexed(color(owner))),
        _ => Style::new(),
    };
    let label = owner.filter(|_| names_owner).map_or("", Owner::label);
    let name = match segment {
        Some(segment) => format!("{}{}", segment.name(), marks.for_segment(segment).symbols()),
        None => "total".to_owned(),
    };
    let place = format!("{label:<16} {:<4} {name:<18}", arrow(owner));
    let now = now(target, segment).map_or_else(|| "-".to_owned(), duration);
    let [p50, p99, max] = [stat.p50, stat.p99, stat.max].map(duration);
    let times = format!(" {now:>7} {p50:>7} {p99:>7} {max:>7} ");
    let bars = sparkline(&target.seconds(segment, width.saturating_sub(BEFORE)));
    let weight = if is_sum { BOLD } else { Style::new() };
    lines.push([
        (&*place, ink.patch(weight)),
        (&*times, weight),
        (&*bars, ink),
    ]);
}

/// The way of the packet: down the client, over to the server, down there, and back.
const fn arrow(owner: Option<Owner>) -> &'static str {
    match owner {
        Some(Owner::Local | Owner::Receiver) => "│",
        Some(Owner::WireOut) => "╰─▶╮",
        Some(Owner::Remote) => "   │",
        Some(Owner::WireIn) => "╭◀─╯",
        Some(Owner::Wire | Owner::WireOrRemote) => "◀──▶",
        Some(Owner::Unknown) => "?",
        None => "",
    }
}

/// Of the latest answered probe.
fn now(target: &Target, segment: Option<Segment>) -> Option<u64> {
    let last = &target.last;
    match segment {
        None => Some(last.total_ns),
        Some(Segment::Response) => Some(last.response_ns()),
        Some(segment) => {
            let mut delays = last.delays.iter();
            delays
                .find(|delay| delay.segment == segment)
                .map(|delay| delay.ns)
        }
    }
}

/// A column a value, the largest one the highest; a space where there is none.
pub fn sparkline(values: &[u64]) -> String {
    let largest = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: &u64| match value {
        0 => ' ',
        value => BARS[(u128::from(*value - 1) * 8 / u128::from(largest)) as usize],
    };
    values.iter().map(bar).collect()
}

fn events(view: &View, target: &Target, hidden: usize, lines: &mut Lines<'_>) {
    let events = view.events(target);
    let mut title = match events.len() {
        0 => "no slow or lost probe so far".to_owned(),
        _ => "slow, late and lost probes, the latest first".to_owned(),
    };
    if hidden > 0 {
        let _ = write!(title, "; {hidden} small segments hidden");
    }
    if view.missed > 0 {
        let _ = write!(title, "; {} records were not shown", view.missed);
    }
    lines.text(&title, DIM);
    let messages = usize::from(!view.messages.is_empty());
    let room = lines.left().saturating_sub(messages);
    let first = view.chosen.saturating_sub(room.saturating_sub(1));
    let style = style::Style {
        width: Some(usize::from(lines.to.area().width)),
        color: false,
    };
    for (at, result) in events.iter().enumerate().skip(first).take(room) {
        let line = probe_line(result, &target.run, &target.names, &style);
        let line = line.lines().next().unwrap_or_default();
        // The heading names the host.
        let line = line.replacen(&format!(" {}", target.name()), "", 1);
        lines.item(&line, at == view.chosen);
    }
    while lines.left() > messages {
        lines.plain("");
    }
    if let Some(message) = view.messages.back() {
        lines.text(message, BOLD);
    }
}

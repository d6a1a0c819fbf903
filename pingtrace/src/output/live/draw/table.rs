//! All targets, the worst first.

use super::lines::{BOLD, DIM, Lines};
use crate::output::live::state::View;
use crate::output::live::target::Target;
use report::model::Counters;
use report::units::{duration, share};

/// Draws it.
pub fn draw(view: &View, lines: &mut Lines<'_>) {
    let rows = view.rows();
    let paused = if view.is_paused() { "  PAUSED" } else { "" };
    let title = format!("{} targets by {}{paused}", rows.len(), view.order.label());
    lines.text(&title, BOLD);
    let header = format!(
        "{:<16} {:>8} {:>6} {:>9} {:>7} {:>7} {:>5} slow because of",
        "target", "sent", "lost", "", "p50", "p99", "slow"
    );
    lines.text(&header, DIM);
    let messages = usize::from(!view.messages.is_empty());
    let room = lines.left().saturating_sub(messages);
    let first = view.chosen.saturating_sub(room.saturating_sub(1));
    for (at, (_, target)) in rows.iter().enumerate().skip(first).take(room) {
        lines.item(&row(view, target), at == view.chosen);
    }
    while lines.left() > messages {
        lines.plain("");
    }
    if let Some(message) = view.messages.back() {
        lines.text(message, BOLD);
    }
}

fn row(view: &View, target: &Target) -> String {
    let Counters { sent, lost, .. } = target.counters();
    let part = match lost {
        0 => String::new(),
        lost => share(lost, sent, 2),
    };
    let times = target
        .totals()
        .map(|totals| [totals.p50, totals.p99].map(duration));
    let [p50, p99] = times.unwrap_or_else(|| ["-"; 2].map(str::to_owned));
    let slow = view
        .threshold_of(target)
        .map_or(0, |ns| target.slow_of_recent(ns).0);
    let name: String = target.name().chars().take(16).collect();
    format!(
        "{name:<16} {sent:>8} {lost:>6} {part:>9} {p50:>7} {p99:>7} {slow:>5} {}",
        target.main_cause()
    )
}

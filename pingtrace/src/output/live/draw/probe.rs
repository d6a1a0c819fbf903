//! The breakdown of a probe.

use super::lines::{BOLD, DIM, Lines};
use crate::output::live::state::View;
use crate::output::live::target::Target;
use ratatui_core::style::{Color, Style};
use report::format::style::{self, color};
use report::format::text::{hops, probe_line};
use report::model::{Delay, Marks, ProbeResult, Segment};
use report::units::duration;

/// Columns in front of the bar.
const BEFORE: usize = 56;

/// Draws it: what is said of it, each segment with its part of the total, and its hops as far as there is room.
pub fn draw(view: &View, target: &Target, result: &ProbeResult, lines: &mut Lines<'_>) {
    let width = usize::from(lines.to.area().width);
    let style = style::Style {
        width: Some(width),
        color: false,
    };
    let said = probe_line(result, &target.run, &target.names, &style);
    style
        .render(&said)
        .lines()
        .for_each(|line| lines.text(line, BOLD));
    if let Some(breakdown) = &result.breakdown {
        let header = format!(
            "{:<16} {:<18} {:>8} {:>10}",
            "", "segment", "time", "above p50"
        );
        lines.text(&header, DIM);
        let summary = target.summary();
        for delay in &breakdown.delays {
            let mut stats = summary.delays.iter();
            let usual = stats.find(|stat| stat.segment == Some(delay.segment));
            let usual = usual.map_or(0, |stat| stat.p50);
            row(view, delay, usual, breakdown.response_ns(), width, lines);
        }
        let total = duration(breakdown.total_ns);
        lines.text(&format!("{:<16} {:<18} {total:>8}", "", "total"), BOLD);
    }
    hops(result, &target.names)
        .lines()
        .skip(1)
        .for_each(|line| lines.plain(line));
}

fn row(
    view: &View,
    delay: &Delay,
    usual_ns: u64,
    all_ns: u64,
    width: usize,
    lines: &mut Lines<'_>,
) {
    let Delay { segment, ns, .. } = *delay;
    let owner = segment.owner();
    let ink = if view.color {
        Style::new().fg(Color::Indexed(color(owner)))
    } else {
        Style::new()
    };
    let name = format!("{}{}", segment.name(), Marks::from_delay(delay).symbols());
    let is_late = segment == Segment::LTxLate;
    let label = if is_late {
        "before the send"
    } else {
        owner.label()
    };
    let above = ns.checked_sub(usual_ns).filter(|above| *above > 0);
    let above = above.map_or_else(String::new, |above| format!("+{}", duration(above)));
    let place = format!("{label:<16} {name:<18}");
    let times = format!(" {:>8} {above:>10} ", duration(ns));
    let room = width.saturating_sub(BEFORE) as u128;
    let long = u128::from(ns) * room / u128::from(all_ns.max(1));
    let bar = "█".repeat(long as usize);
    lines.push([(&*place, ink), (&*times, Style::new()), (&*bar, ink)]);
}

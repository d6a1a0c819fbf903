//! The slowest probes, one bar each: where their time went.

use plotters::backend::DrawingBackend;

use crate::model::{Blame, Breakdown, Capture, Delay, Mark, Marks, Owner, ProbeResult};
use crate::units::duration;

use super::canvas::{Area, Canvas, Ink};
use super::layout::{heading, nothing};
use super::picture::Error;
use super::scale::{Scale, local};
use super::words::marked_name;
use super::{palette, words};

/// Bars at most.
const MOST: usize = 8;
/// From one bar to the next, pixels.
const PITCH: i32 = 41;
/// Upper bound on bars with a lane of the CPU, and the extra height of each, pixels.
const MOST_EXPLAINED: usize = 7;
const LANE: i32 = 7;
/// Height of a bar, pixels.
const BAR: i32 = 24;
/// Height of the heading, pixels.
const HEADING: i32 = 34;
/// Height of the axis labels, pixels.
const AXIS: i32 = 22;
/// Space for the probes' names at the left, pixels.
const LABELS: i32 = 146;
/// Space for the totals at the right, pixels.
const TOTALS: i32 = 92;

/// Draws the panel into `area` (its bottom is not used); returns the y it ends at.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    capture: &Capture,
    area: Area,
) -> Result<i32, Error> {
    let explained = capture
        .slowest
        .iter()
        .any(|result| !result.blame.is_empty());
    let (max, pitch) = if explained {
        (MOST_EXPLAINED, PITCH + LANE)
    } else {
        (MOST, PITCH)
    };
    let shown = &capture.slowest[..capture.slowest.len().min(max)];
    heading(canvas, (area.x0, area.y0 + 8), &panel_title(shown))?;
    let rows = Area::new(
        area.x0 + LABELS,
        area.y0 + HEADING,
        area.x1 - TOTALS,
        area.y0 + HEADING,
    );
    if shown.is_empty() {
        let area = Area::new(area.x0, rows.y0, area.x1, rows.y0 + 120);
        nothing(canvas, area, why_empty(capture))?;
        return Ok(area.y1);
    }
    legend(canvas, shown, (area.x1, area.y0 + 8))?;
    let rows = Area {
        y1: rows.y0 + shown.len() as i32 * pitch,
        ..rows
    };
    let scale = scale(shown, rows);
    if let Some(scale) = &scale {
        axis(canvas, scale, rows, since(shown))?;
    }
    let format = time_format(capture.run.start_unix_ns, shown);
    for (k, result) in shown.iter().enumerate() {
        let row = Area {
            y0: rows.y0 + k as i32 * pitch,
            ..rows
        };
        label(canvas, result, format, (area.x0, row.y0))?;
        match (&result.breakdown, &scale) {
            (Some(breakdown), Some(scale)) => bar(canvas, result, breakdown, scale, row)?,
            _ => lost(canvas, row)?,
        }
    }
    Ok(rows.y1 + if scale.is_some() { AXIS } else { 0 })
}

/// From 0 to the longest response; `None` if no probe was answered.
fn scale(shown: &[ProbeResult], rows: Area) -> Option<Scale> {
    let answered = shown.iter().filter_map(|result| result.breakdown.as_ref());
    let longest = answered.map(Breakdown::response_ns).max();
    longest.map(|ns| Scale::linear(ns, rows.x0, rows.x1))
}

/// When the bars begin.
fn since(shown: &[ProbeResult]) -> &'static str {
    let mut answered = shown.iter().filter_map(|result| result.breakdown.as_ref());
    if answered.any(|breakdown| breakdown.late_ns().is_some()) {
        "since due"
    } else {
        "since send"
    }
}

fn panel_title(shown: &[ProbeResult]) -> String {
    let lost = shown
        .iter()
        .filter(|result| result.breakdown.is_none())
        .count();
    let title = match shown.len() - lost {
        0 if lost == 0 => "Slowest probes".to_owned(),
        0 => "Lost probes".to_owned(),
        1 => "The slowest probe: where its time went".to_owned(),
        slow => format!("The {slow} slowest probes: where their time went"),
    };
    match lost {
        1.. if lost < shown.len() => format!("{title}, and {lost} lost"),
        _ => title,
    }
}

fn why_empty(capture: &Capture) -> &'static str {
    let counters = &capture.summary.counters;
    match (counters.sent, counters.replied) {
        (0, _) => "No probe was sent.",
        (_, 0) => {
            "No probe was answered, so there is no time to show. Is the host up, and does it answer ICMP echo?"
        }
        _ if capture.run.threshold_ns > 0 => "No probe was slow enough to be recorded.",
        _ => "No probe was recorded.",
    }
}

/// The owners that occur, at the right.
fn legend<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    shown: &[ProbeResult],
    (right, y): (i32, i32),
) -> Result<(), Error> {
    let delays = || {
        shown
            .iter()
            .filter_map(|result| result.breakdown.as_ref())
            .flat_map(|b| &b.delays)
    };
    let owners = [
        Owner::Unknown,
        Owner::WireOrRemote,
        Owner::Receiver,
        Owner::WireIn,
        Owner::Remote,
        Owner::WireOut,
        Owner::Local,
    ];
    let ink = Ink::new(14.0, palette::INK);
    let mut x = right;
    for owner in owners {
        if !delays().any(|delay| delay.ns > 0 && delay.segment.owner() == owner) {
            continue;
        }
        x -= canvas.width(owner.label(), ink);
        canvas.text((x, y), owner.label(), ink)?;
        canvas.fill(
            Area::new(x - 20, y - 7, x - 6, y + 7),
            palette::owner(owner),
        )?;
        x -= 40;
    }
    Ok(())
}

/// Grid lines behind the bars, and their values below.
fn axis<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    scale: &Scale,
    rows: Area,
    since: &str,
) -> Result<(), Error> {
    let ink = Ink::new(12.5, palette::FAINT).center();
    for (ns, text) in scale.ticks(10) {
        let x = scale.at(ns as f64);
        canvas.fill(Area::new(x, rows.y0 - 6, x + 1, rows.y1), palette::GRID)?;
        canvas.text((x, rows.y1 + 10), &text, ink)?;
    }
    canvas.text(
        (rows.x0 - 16, rows.y1 + 10),
        since,
        Ink::new(12.5, palette::FAINT).right(),
    )
}

/// With the day, unless all of it was on the day of the start, which the title says.
fn time_format(start_unix_ns: i64, shown: &[ProbeResult]) -> &'static str {
    let day = local(start_unix_ns).date_naive();
    let mut sent = shown.iter().map(|result| result.probe.sent_unix_ns);
    if sent.all(|unix_ns| local(unix_ns).date_naive() == day) {
        "%H:%M:%S%.6f"
    } else {
        "%m-%d %H:%M:%S%.3f"
    }
}

/// Which probe, and when it was sent.
fn label<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    result: &ProbeResult,
    format: &str,
    (x, top): (i32, i32),
) -> Result<(), Error> {
    let time = local(result.probe.sent_unix_ns).format(format).to_string();
    canvas.text(
        (x, top + 7),
        &format!("#{}", result.probe.seq),
        Ink::new(14.0, palette::INK).bold(),
    )?;
    canvas.text((x, top + 23), &time, Ink::new(12.5, palette::FAINT))
}

fn lost<B: DrawingBackend>(canvas: &mut Canvas<B>, row: Area) -> Result<(), Error> {
    let middle = row.y0 + BAR / 2;
    let ink = Ink::new(14.0, palette::LOST).bold();
    canvas.text((row.x0 + 6, middle), "lost: no answer", ink)?;
    canvas.dashes(
        row.x0 + 16 + canvas.width("lost: no answer", ink),
        row.x1,
        middle,
        palette::LOST,
    )
}

fn bar<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    result: &ProbeResult,
    breakdown: &Breakdown,
    scale: &Scale,
    row: Area,
) -> Result<(), Error> {
    let mut begin = 0_u64;
    let mut unlabelled = Vec::new();
    for delay in &breakdown.delays {
        let (x0, end) = (scale.at(begin as f64), begin.saturating_add(delay.ns));
        let area = Area::new(x0, row.y0, scale.at(end as f64), row.y0 + BAR);
        if !piece(canvas, delay, area, begin > 0)? {
            unlabelled.push(delay);
        }
        canvas.hint(area, hint(delay, breakdown));
        let blame = result.blame.iter().find(|b| b.segment == delay.segment);
        if let Some(blame) = blame {
            lane(canvas, blame, begin, scale, row.y0 + BAR)?;
        }
        begin = end;
    }
    let end = Area {
        x0: row.x1,
        y1: row.y0 + BAR,
        ..row
    };
    let under = Area::new(row.x0, row.y0 + BAR, row.x1, row.y0 + PITCH);
    match result.blame.iter().max_by_key(|blame| blame.window_ns) {
        Some(blame) => blamed(canvas, blame, under)?,
        None => below(canvas, breakdown, &unlabelled, under)?,
    }
    total(canvas, result, breakdown, end)
}

/// One segment of a bar; returns whether its name and time fitted in.
fn piece<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    delay: &Delay,
    area: Area,
    separate: bool,
) -> Result<bool, Error> {
    let color = palette::segment(delay.segment);
    canvas.fill(area, color)?;
    if separate && area.width() > 2 {
        canvas.fill(
            Area {
                x1: area.x0 + 1,
                ..area
            },
            palette::PAPER,
        )?;
    }
    let ink = Ink::new(13.5, palette::ink_on(color)).center();
    let (name, time) = (marked_name(delay), duration(delay.ns));
    let both = format!("{name} {time}");
    let fits = |text: &&str| canvas.width(text, ink) + 10 <= area.width();
    let text = [both.as_str(), name.as_str()].into_iter().find(fits);
    if let Some(text) = text {
        canvas.text((area.x0 + area.width() / 2, area.y0 + BAR / 2), text, ink)?;
    }
    Ok(text == Some(both.as_str()))
}

/// What had the CPU during a segment, drawn directly under it. Of the other host only the shares are
/// known, not the order.
fn lane<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    blame: &Blame,
    begin: u64,
    scale: &Scale,
    top: i32,
) -> Result<(), Error> {
    let mut at = 0;
    let shares = blame.parts.iter().enumerate().map(|(k, part)| {
        at += part.ns;
        (at - part.ns, part.ns, k)
    });
    let pieces = if blame.lane.is_empty() {
        shares.collect()
    } else {
        blame.lane.clone()
    };
    for (at, ns, part) in pieces {
        let Some(part) = blame.parts.get(part) else {
            continue;
        };
        let [x0, x1] = [begin + at, begin + at + ns].map(|ns| scale.at(ns as f64));
        let area = Area::new(x0, top + 2, x1.max(x0 + 1), top + LANE);
        canvas.fill(area, palette::class(part.class as usize))?;
        let text = format!("CPU {}: {} {}", blame.cpu, part.words(), duration(part.ns));
        canvas.hint(area, text);
    }
    Ok(())
}

/// Under the lane: the same in words.
fn blamed<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    blame: &Blame,
    area: Area,
) -> Result<(), Error> {
    let (x, y) = (area.x0 + 2, area.y0 + LANE + 9);
    if let Some(part) = blame.parts.first() {
        let color = palette::class(part.class as usize);
        canvas.fill(Area::new(x, y - 4, x + 9, y + 5), color)?;
    }
    let ink = Ink::new(12.0, palette::INK);
    let text = canvas.fit(&blame.text(), ink, area.width() - 16);
    canvas.text((x + 14, y), &text, ink)
}

/// Under the bar: those of the two largest segments that had no room in it, unless they hardly
/// matter.
fn below<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    breakdown: &Breakdown,
    unlabelled: &[&Delay],
    area: Area,
) -> Result<(), Error> {
    let mut largest: Vec<&Delay> = breakdown
        .delays
        .iter()
        .filter(|delay| delay.ns > 0)
        .collect();
    largest.sort_by_key(|delay| std::cmp::Reverse(delay.ns));
    let matters = |delay: &&&Delay| delay.ns >= breakdown.response_ns() / 20;
    let named = largest
        .iter()
        .take(2)
        .filter(matters)
        .filter(|delay| unlabelled.contains(delay));
    let ink = Ink::new(12.0, palette::INK);
    let (mut x, y) = (area.x0 + 2, area.y0 + 9);
    for delay in named {
        let text = format!("{} {}", marked_name(delay), duration(delay.ns));
        canvas.fill(
            Area::new(x, y - 4, x + 9, y + 5),
            palette::segment(delay.segment),
        )?;
        canvas.text((x + 14, y), &text, ink)?;
        x += 14 + canvas.width(&text, ink) + 18;
    }
    Ok(())
}

/// At the right: the total, and what else is to say about the probe.
fn total<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    result: &ProbeResult,
    breakdown: &Breakdown,
    area: Area,
) -> Result<(), Error> {
    let right = area.x1 + TOTALS;
    let ink = Ink::new(15.0, palette::INK).bold().right();
    canvas.text(
        (right, area.y0 + BAR / 2),
        &duration(breakdown.response_ns()),
        ink,
    )?;
    let status = words::status(result);
    canvas.text(
        (right, area.y1 + 7),
        status,
        Ink::new(12.0, palette::LOST).right(),
    )
}

/// What there is to know about a segment of a probe.
pub(super) fn hint(delay: &Delay, breakdown: &Breakdown) -> String {
    let percent = 100.0 * delay.ns as f64 / breakdown.response_ns().max(1) as f64;
    let mut lines = vec![
        format!(
            "{}: {} ({percent:.1} % of {})",
            delay.segment.name(),
            duration(delay.ns),
            duration(breakdown.response_ns())
        ),
        delay.segment.owner().label().to_owned(),
    ];
    if let Some((lo, hi)) = delay.bounds {
        lines.push(format!(
            "estimate: between {} and {}",
            duration(lo),
            duration(hi)
        ));
    }
    // The bounds say more than that mark.
    let marks = Marks::from_delay(delay).used();
    let marks = marks.filter(|mark| *mark != Mark::Estimated);
    lines.extend(marks.map(|mark| mark.meaning().to_owned()));
    lines.join("\n")
}

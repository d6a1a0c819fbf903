//! Events on lanes over time: when, where, how long, of what class.
//!
//! A run is so much longer than an event that an event's width says nothing; its height does, on
//! a logarithmic axis from the bottom of its lane. The longest few are labelled.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use plotters::backend::DrawingBackend;

use crate::companion::{Mark, Timeline};
use crate::units::duration;

use super::height::{HEADING, Height};
use crate::draw::canvas::{Area, Canvas, Ink};
use crate::draw::layout::swatch;
use crate::draw::picture::Error;
use crate::draw::scale::{Scale, since, time_ticks};
use crate::draw::{axis, palette};

/// Rows at most.
const ROWS: usize = 64;
/// Height of a row from which on it has a value axis of its own, pixels.
const TALL: i32 = 46;
/// Height of a row up to which the colour's strength says too how long a mark took, pixels.
const LOW: i32 = 20;
/// Minimum height of a row, pixels: letters can be read.
const LEAST_PITCH: i32 = 9;
/// Width of the lanes' names, pixels.
const NAMES: i32 = 84;
/// Width of a number at the right, pixels.
const COLUMN: i32 = 68;
/// Minimum width of a mark, pixels.
const MARK: i32 = 3;
/// Maximum number of labels.
const LABELLED: usize = 8;
/// A mark this many times shorter than the longest gets no label.
const SHORT: u64 = 10;
/// Maximum width of a label, pixels.
const LABEL: i32 = 290;
/// Number of marks with a text under the pointer: the longest ones.
const HINTS: usize = 2000;

pub(super) fn height(timeline: &Timeline) -> Height {
    let rows = timeline.lanes.len().clamp(1, ROWS) as i32;
    Height {
        min: HEADING + axis::HEIGHT + (rows * 12).clamp(70, 360),
        enough: HEADING + axis::HEIGHT + (rows * 60).clamp(160, 560),
        grows: true,
    }
}

/// One lane or some neighbours.
#[derive(Debug, Default)]
struct Row {
    name: String,
    events: usize,
    longest_ns: u64,
}

/// Lanes and marks placed on the picture.
struct View<'a> {
    timeline: &'a Timeline,
    plot: Area,
    pitch: i32,
    rows: Vec<Row>,
    /// The row of each lane; none if the lane is not shown.
    row_of: Vec<Option<usize>>,
    /// The longest first.
    marks: Vec<&'a Mark>,
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    timeline: &Timeline,
    beside: Area,
    area: Area,
) -> Result<(), Error> {
    let view = view(timeline, area);
    key(canvas, &view, beside)?;
    grid(canvas, &view)?;
    for k in 0..view.rows.len() {
        row(canvas, &view, k, area)?;
    }
    axis::times(canvas, view.plot, timeline.start_unix_ns, view.span_ns())?;
    marks(canvas, &view)?;
    labels(canvas, &view)?;
    hints(canvas, &view);
    Ok(())
}

fn view(timeline: &Timeline, area: Area) -> View<'_> {
    let room = (area.height() - axis::HEIGHT).max(LEAST_PITCH);
    let (rows, row_of) = rows(timeline, ROWS.min((room / LEAST_PITCH) as usize));
    let pitch = room / rows.len() as i32;
    let scale = if pitch >= TALL { axis::LABELS } else { 8 };
    let plot = Area::new(
        area.x0 + NAMES + scale,
        area.y0,
        area.x1 - 2 * COLUMN,
        area.y0 + pitch * rows.len() as i32,
    );
    let marks = longest_first(timeline);
    View {
        timeline,
        plot,
        pitch,
        rows,
        row_of,
        marks,
    }
}

pub(super) fn longest_first(timeline: &Timeline) -> Vec<&Mark> {
    let mut marks: Vec<&Mark> = timeline.marks.iter().collect();
    marks.sort_by_key(|mark| (Reverse(mark.ns), mark.at_ns, mark.lane));
    marks
}

/// Assigns lanes to at most `most` rows: all lanes, or those with marks, or these joined. Returns the row
/// of each lane.
fn rows(timeline: &Timeline, max: usize) -> (Vec<Row>, Vec<Option<usize>>) {
    let lanes = lanes(timeline);
    let marked = |k: &usize| lanes.len() <= max || lanes[*k].events > 0;
    let shown: Vec<usize> = (0..lanes.len()).filter(marked).collect();
    let each = shown.len().div_ceil(max).max(1);
    let mut row_of = vec![None; lanes.len()];
    let mut rows = Vec::new();
    for chunk in shown.chunks(each) {
        for k in chunk {
            row_of[*k] = Some(rows.len());
        }
        rows.push(join(&lanes, chunk));
    }
    (rows, row_of)
}

/// The lanes and what is on each; one without a name if there is none.
fn lanes(timeline: &Timeline) -> Vec<Row> {
    let named = |name: &String| Row {
        name: name.clone(),
        ..Row::default()
    };
    let mut lanes: Vec<Row> = timeline.lanes.iter().map(named).collect();
    if lanes.is_empty() {
        lanes.push(Row::default());
    }
    let last = lanes.len() - 1;
    for mark in &timeline.marks {
        let lane = &mut lanes[mark.lane.min(last)];
        lane.events += 1;
        lane.longest_ns = lane.longest_ns.max(mark.ns);
    }
    lanes
}

fn join(lanes: &[Row], chunk: &[usize]) -> Row {
    let of = || chunk.iter().map(|k| &lanes[*k]);
    Row {
        name: range(&lanes[chunk[0]].name, &lanes[chunk[chunk.len() - 1]].name),
        events: of().map(|lane| lane.events).sum(),
        longest_ns: of().map(|lane| lane.longest_ns).max().unwrap_or(0),
    }
}

/// The name of a range of lanes, with the common prefix once: `CPU 4..7`.
fn range(first: &str, last: &str) -> String {
    if first == last {
        return first.to_owned();
    }
    let common = first.trim_end_matches(|c: char| c.is_ascii_digit());
    format!("{first}..{}", last.strip_prefix(common).unwrap_or(last))
}

impl View<'_> {
    fn span_ns(&self) -> u64 {
        self.timeline.span_ns.max(1)
    }

    fn x(&self, at_ns: u64) -> i32 {
        Scale::linear(self.span_ns(), self.plot.x0, self.plot.x1).at(at_ns as f64)
    }

    fn row_of(&self, mark: &Mark) -> Option<usize> {
        self.row_of[mark.lane.min(self.row_of.len() - 1)]
    }

    /// The pixels of row `k`.
    fn row(&self, k: usize) -> Area {
        let y0 = self.plot.y0 + self.pitch * k as i32;
        Area {
            y0,
            y1: y0 + self.pitch,
            ..self.plot
        }
    }

    /// Heights in a row: the shortest is visible, the longest fills it.
    fn heights(&self, row: Area) -> Scale {
        let top = (row.y0 + self.pitch / 8).min(row.y1 - 1);
        self.durations((row.y1 - 4).max(top), top)
    }

    /// The range of durations, at least a factor of ten, so that a single mark is a long one.
    fn durations(&self, from: i32, to: i32) -> Scale {
        let longest = self.marks.first().map_or(1, |mark| mark.ns);
        let shortest = self.marks.last().map_or(1, |mark| mark.ns);
        Scale::log(shortest.min(longest / 10), longest, from, to)
    }

    /// How strong a mark's colour is: where a row is too low for heights, longer is stronger.
    fn strength(&self, mark: &Mark) -> f64 {
        if self.pitch > LOW {
            return 1.0;
        }
        f64::from(self.durations(25, 100).at(mark.ns as f64)) / 100.0
    }

    /// The bar of a mark; none if its lane is not shown.
    fn bar(&self, mark: &Mark) -> Option<Area> {
        let row = self.row(self.row_of(mark)?);
        let x0 = self.x(mark.at_ns).min(self.plot.x1 - MARK);
        let x1 = self.x(mark.at_ns.saturating_add(mark.ns)).max(x0 + MARK);
        let y0 = self.heights(row).at(mark.ns as f64);
        Some(Area::new(x0, y0, x1, row.y1 - 1))
    }

    /// Letters that fit into a row.
    fn em(&self) -> f64 {
        (f64::from(self.pitch) * 1.05).clamp(9.0, 12.5)
    }
}

/// The name of a mark's class.
pub(super) fn class<'a>(timeline: &'a Timeline, mark: &Mark) -> &'a str {
    timeline.classes.get(mark.class).map_or("?", String::as_str)
}

/// The used classes with their numbers of events, then what the heights mean.
fn key<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View, beside: Area) -> Result<(), Error> {
    let (mut x, y) = (beside.x0, beside.y0 + 9);
    let right = view.plot.x1;
    let ink = Ink::new(12.5, palette::INK);
    let used: BTreeSet<usize> = view.marks.iter().map(|mark| mark.class).collect();
    for number in used {
        let of = || view.marks.iter().filter(|mark| mark.class == number);
        let name = of().next().map_or("?", |mark| class(view.timeline, mark));
        let text = canvas.fit(&format!("{name} {}", of().count()), ink, right - x - 40);
        x = swatch(canvas, (x, y), palette::class(number), &text, ink)? + 16;
    }
    let faint = Ink::new(12.0, palette::FAINT);
    let hidden = view.row_of.iter().filter(|row| row.is_none()).count();
    let what = if view.pitch > LOW {
        "height: duration"
    } else {
        "height and strength: duration"
    };
    let mut text = format!("{what}, logarithmic");
    if view.pitch < TALL {
        let heights = view.heights(view.row(0)).ticks(3);
        let ends = [heights.first(), heights.last()].map(|tick| tick.map_or("", |tick| &tick.1));
        text = format!("{what}, logarithmic from {} to {}", ends[0], ends[1]);
    }
    if hidden > 0 {
        let _ = write!(text, "; {hidden} lanes without an event are left out");
    }
    canvas.text((x + 4, y), &canvas.fit(&text, faint, right - x - 4), faint)?;
    let headings = [("events", COLUMN), ("longest", 0)];
    headings
        .into_iter()
        .try_for_each(|(text, left)| canvas.text((beside.x1 - left, y), text, faint.right()))
}

/// Lines that help to read the time of a mark far above the axis.
fn grid<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View) -> Result<(), Error> {
    for (since, _) in time_ticks(view.timeline.start_unix_ns, view.span_ns(), 6) {
        let x = view.x(since);
        canvas.fill(
            Area {
                x0: x,
                x1: x + 1,
                ..view.plot
            },
            palette::GRID,
        )?;
    }
    Ok(())
}

/// A row's name and numbers, its value axis if it is tall, and its bottom line.
fn row<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    view: &View,
    k: usize,
    area: Area,
) -> Result<(), Error> {
    let (lane, row) = (&view.rows[k], view.row(k));
    if view.pitch >= TALL {
        axis::values(canvas, &view.heights(row), row, (view.pitch / 24) as usize)?;
    }
    let color = if view.pitch > LOW {
        palette::BAND
    } else {
        palette::GRID
    };
    canvas.fill(
        Area {
            y0: row.y1 - 1,
            ..row
        },
        color,
    )?;
    let y = row.y0 + view.pitch / 2;
    let ink = Ink::new(
        view.em(),
        if lane.events > 0 {
            palette::INK
        } else {
            palette::FAINT
        },
    );
    canvas.text((area.x0, y), &canvas.fit(&lane.name, ink, NAMES - 6), ink)?;
    if lane.events == 0 {
        return Ok(());
    }
    canvas.text((area.x1 - COLUMN, y), &lane.events.to_string(), ink.right())?;
    canvas.text((area.x1, y), &duration(lane.longest_ns), ink.right())
}

/// The longest first, so that none is hidden behind a longer one. Of marks of one class that
/// begin at the same pixel, the first hides the others.
fn marks<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View) -> Result<(), Error> {
    let mut drawn = BTreeSet::new();
    for mark in &view.marks {
        let Some(bar) = view.bar(mark) else { continue };
        if drawn.insert((bar.x0, bar.y1, mark.class)) {
            let color = palette::class(mark.class).mix(view.strength(mark));
            canvas.fill(bar, color)?;
        }
    }
    Ok(())
}

/// Duration and name of the longest, where there is room beside them.
fn labels<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View) -> Result<(), Error> {
    let ink = Ink::new(view.em().clamp(10.0, 12.0), palette::INK);
    let min_ns = view.marks.first().map_or(0, |mark| mark.ns / SHORT);
    let long = |mark: &&&Mark| mark.ns >= min_ns;
    let longest: Vec<&Mark> = view
        .marks
        .iter()
        .take(LABELLED)
        .take_while(long)
        .copied()
        .collect();
    let mut taken: Vec<Area> = longest.iter().filter_map(|mark| view.bar(mark)).collect();
    for mark in longest {
        let Some(bar) = view.bar(mark) else { continue };
        let who = mark.text.lines().next().unwrap_or_default();
        let text = format!("{} {who}", duration(mark.ns));
        let text = canvas.fit(text.trim_end(), ink, LABEL);
        let width = canvas.width(&text, ink) + 4;
        let middle = bar.y0 + 7.min(bar.height() / 2);
        let place = [bar.x1 + 3, bar.x0 - 3 - width]
            .map(|x| Area::new(x, middle - 7, x + width, middle + 7))
            .into_iter()
            .find(|place| inside(*place, view.plot) && taken.iter().all(|one| apart(*place, *one)));
        let Some(place) = place else { continue };
        canvas.fill(place, palette::PAPER.mix(0.8))?;
        canvas.text((place.x0 + 2, middle), &text, ink)?;
        taken.push(place);
    }
    Ok(())
}

fn inside(place: Area, plot: Area) -> bool {
    place.x0 >= plot.x0 && place.x1 <= plot.x1
}

fn apart(a: Area, b: Area) -> bool {
    a.x1 <= b.x0 || b.x1 <= a.x0 || a.y1 <= b.y0 || b.y1 <= a.y0
}

/// The longest on top, each as high as its row so that it is easy to hit.
fn hints<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View) {
    for mark in view.marks.iter().take(HINTS).rev() {
        let Some(bar) = view.bar(mark) else { continue };
        let area = Area {
            x0: bar.x0 - 1,
            y0: bar.y1 + 1 - view.pitch,
            x1: bar.x1 + 1,
            ..bar
        };
        canvas.hint(area, hint(view.timeline, mark));
    }
}

fn hint(timeline: &Timeline, mark: &Mark) -> String {
    let (time, lane) = (time(timeline, mark), lane(timeline, mark));
    let (class, ns) = (class(timeline, mark), duration(mark.ns));
    format!("{time} {lane}: {ns} {class}\n{}", mark.text)
}

/// When a mark began, in local time.
pub(super) fn time(timeline: &Timeline, mark: &Mark) -> String {
    let time = since(timeline.start_unix_ns, mark.at_ns);
    time.format("%H:%M:%S%.6f").to_string()
}

/// The name of a mark's lane.
pub(super) fn lane<'a>(timeline: &'a Timeline, mark: &Mark) -> &'a str {
    let lanes = &timeline.lanes;
    lanes
        .get(mark.lane)
        .or(lanes.last())
        .map_or("", String::as_str)
}

//! The picture of a companion: its headline and its panels from top to bottom, each as high as
//! its content wants and the others allow.

use plotters::backend::DrawingBackend;

use super::height::{HEADING, Height};
use super::{bars, histogram, stacked, timeline};
use crate::companion::{Chart, Panel};
use crate::draw::canvas::{Area, Canvas, Ink};
use crate::draw::layout::{self, GAP, MARGIN, NOTES_TOP, PANELS_TOP, WIDTH, headlines, nothing};
use crate::draw::palette;
use crate::draw::picture::Error;

/// Panels drawn at most.
const MOST_PANELS: usize = 8;

/// Draws everything.
pub(in crate::draw) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    chart: &Chart,
) -> Result<(), Error> {
    let title = Ink::new(15.0, palette::INK).bold();
    let text = canvas.fit(&chart.title, title, WIDTH - 2 * MARGIN);
    canvas.text((MARGIN, 24), &text, title)?;
    headlines(canvas, &chart.headline, &chart.second)?;
    let drawn = &chart.panels[..chart.panels.len().min(MOST_PANELS)];
    for (each, area) in drawn.iter().zip(areas(drawn)) {
        panel(canvas, each, area)?;
    }
    notes(canvas, &chart.notes, chart.panels.len() - drawn.len())
}

/// Where the panels go.
fn areas(panels: &[Panel]) -> Vec<Area> {
    let gaps = GAP * (panels.len() as i32 - 1).max(0);
    let wishes: Vec<Height> = panels.iter().map(height).collect();
    let mut y = PANELS_TOP;
    let mut area = |height| {
        let area = Area::new(MARGIN, y, WIDTH - MARGIN, y + height);
        y += height + GAP;
        area
    };
    share(&wishes, NOTES_TOP - 16 - PANELS_TOP - gaps)
        .into_iter()
        .map(&mut area)
        .collect()
}

/// Divides the room: all panels get their minimum first, then enough, then the rest.
pub(super) fn share(wishes: &[Height], room: i32) -> Vec<i32> {
    let min: i32 = wishes.iter().map(|wish| wish.min).sum();
    let enough: i32 = wishes.iter().map(|wish| wish.enough).sum();
    let growing = wishes.iter().filter(|wish| wish.grows).count() as i32;
    let height = |wish: &Height| {
        if min >= room {
            wish.min * room / min
        } else if enough > room {
            wish.min + (wish.enough - wish.min) * (room - min) / (enough - min)
        } else if wish.grows {
            wish.enough + (room - enough) / growing
        } else {
            wish.enough
        }
    };
    wishes.iter().map(height).collect()
}

fn height(panel: &Panel) -> Height {
    if panel.nothing().is_some() {
        return Height::EMPTY;
    }
    match panel {
        Panel::Timeline(timeline) => timeline::height(timeline),
        Panel::Histogram(_) => histogram::HEIGHT,
        Panel::Stacked(_) => stacked::HEIGHT,
        Panel::Bars(bars) => bars::height(bars),
    }
}

fn panel<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    panel: &Panel,
    area: Area,
) -> Result<(), Error> {
    let end = heading(canvas, area, panel.heading())?;
    let body = Area {
        y0: area.y0 + HEADING,
        ..area
    };
    if let Some(why) = panel.nothing() {
        return nothing(canvas, body, why);
    }
    // What stands beside the heading, and what below.
    let beside = Area::new(end + 20, area.y0, area.x1, area.y0 + HEADING);
    match panel {
        Panel::Timeline(timeline) => timeline::draw(canvas, timeline, beside, body),
        Panel::Histogram(histogram) => histogram::draw(canvas, histogram, beside, body),
        Panel::Stacked(stacked) => stacked::draw(canvas, stacked, body),
        Panel::Bars(bars) => bars::draw(canvas, bars, body),
    }
}

/// A panel's heading, half as wide as the picture at most; returns the x after it.
fn heading<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    area: Area,
    text: &str,
) -> Result<i32, Error> {
    let ink = Ink::new(15.0, palette::INK).bold();
    let text = canvas.fit(text, ink, area.width() / 2);
    layout::heading(canvas, (area.x0, area.y0 + 8), &text)
}

/// Two lines at the bottom.
fn notes<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    notes: &str,
    undrawn: usize,
) -> Result<(), Error> {
    let (ink, room) = (Ink::new(12.0, palette::FAINT), WIDTH - 2 * MARGIN);
    let mut text = notes.to_owned();
    if undrawn > 0 {
        text = format!("{undrawn} more panels are not drawn. {text}");
    }
    let (first, rest) = wrap(canvas, &text, ink, room);
    canvas.text((MARGIN, NOTES_TOP + 4), &canvas.fit(&first, ink, room), ink)?;
    canvas.text((MARGIN, NOTES_TOP + 23), &canvas.fit(&rest, ink, room), ink)
}

/// As many words as fit (at least one), and the rest.
fn wrap<B: DrawingBackend>(
    canvas: &Canvas<B>,
    text: &str,
    ink: Ink,
    room: i32,
) -> (String, String) {
    let mut words = text.split_whitespace().peekable();
    let mut first = words.next().unwrap_or_default().to_owned();
    while let Some(word) = words.peek() {
        let longer = format!("{first} {word}");
        if canvas.width(&longer, ink) > room {
            break;
        }
        first = longer;
        words.next();
    }
    (first, words.collect::<Vec<_>>().join(" "))
}

//! Draws the view.

mod lines;
mod path;
mod probe;
mod table;
mod words;

use crate::output::live::state::{Page, View};
use crate::output::live::target::Target;
use lines::{BOLD, DIM, Lines};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use words::{HELP, KEYS, SAVED_KEYS, counts, head, slow};

/// The least that it needs.
pub const COLUMNS: u16 = 80;
/// The same.
pub const ROWS: u16 = 24;

/// Draws all of it.
pub fn draw(view: &View, to: &mut Buffer) {
    let area = *to.area();
    if area.width < COLUMNS || area.height < ROWS {
        return too_small(to, area);
    }
    let last = area.height - 1;
    let mut lines = Lines {
        to,
        at: 0,
        end: last,
    };
    if view.help {
        HELP.lines().for_each(|line| lines.plain(line));
    } else {
        page(view, &mut lines);
    }
    let keys = if view.history.is_some() {
        SAVED_KEYS
    } else {
        KEYS
    };
    to.set_stringn(0, last, keys, usize::from(area.width), DIM);
}

fn page(view: &View, lines: &mut Lines<'_>) {
    match (&view.page, view.target()) {
        (Page::Path(_), Some(target)) => {
            heading(view, target, lines);
            path::draw(view, target, lines);
        }
        (Page::Probe(_, result), Some(target)) => {
            heading(view, target, lines);
            probe::draw(view, target, result, lines);
        }
        _ => table::draw(view, lines),
    }
}

/// What holds for all of a target's pages.
fn heading(view: &View, target: &Target, lines: &mut Lines<'_>) {
    lines.text(&head(view, target), BOLD);
    lines.plain(&counts(target));
    lines.plain(&slow(view, target));
}

fn too_small(to: &mut Buffer, area: Rect) {
    let Rect { width, height, .. } = area;
    let lines = [
        format!("{width}x{height} is too small:"),
        format!("the view needs {COLUMNS}x{ROWS}"),
        "q: quit".to_owned(),
    ];
    for (y, line) in (0..height).zip(lines) {
        to.set_stringn(0, y, line, usize::from(width), Style::new());
    }
}

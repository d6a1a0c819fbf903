//! Lines of a screen.

use ratatui_core::buffer::Buffer;
use ratatui_core::style::{Modifier, Style};

/// Lines from the top, each cut at the width.
pub struct Lines<'a> {
    /// The screen.
    pub to: &'a mut Buffer,
    /// The next line.
    pub at: u16,
    /// Behind the last one.
    pub end: u16,
}

impl Lines<'_> {
    /// Lines that are left.
    pub fn left(&self) -> usize {
        usize::from(self.end.saturating_sub(self.at))
    }

    /// The next line, in parts.
    pub fn push<'b>(&mut self, parts: impl IntoIterator<Item = (&'b str, Style)>) {
        if self.at >= self.end {
            return;
        }
        let (area, mut x) = (*self.to.area(), 0);
        for (text, style) in parts {
            let room = usize::from(area.width.saturating_sub(x));
            (x, _) = self.to.set_stringn(x, self.at, text, room, style);
        }
        self.at += 1;
    }

    /// The next line, in one style.
    pub fn text(&mut self, text: &str, style: Style) {
        self.push([(text, style)]);
    }

    /// The next line.
    pub fn plain(&mut self, text: &str) {
        self.text(text, Style::new());
    }

    /// A line of a list, the chosen one of which is reversed.
    pub fn item(&mut self, text: &str, is_chosen: bool) {
        let style = if is_chosen { REVERSED } else { Style::new() };
        let width = usize::from(self.to.area().width);
        self.text(&format!("{text:<width$}"), style);
    }
}

/// Of what matters most.
pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
/// Of what matters least.
pub const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

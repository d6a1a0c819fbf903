//! How text is shown: its width and its colours. The program finds out what a terminal can do; this module
//! only applies it.

use anstyle::{Ansi256Color, Style as Ink};

use crate::model::{Owner, Segment};

/// Columns to which the second and further lines of a long line are indented, beyond the first.
const INDENT: usize = 4;
/// A number and one of these belong together.
const UNITS: [&str; 22] = [
    "%", "ns", "us", "ms", "s", "min", "h", "d", "ppm", "bytes", "B", "KiB", "MiB", "GiB", "TiB",
    "PiB", "EiB", "k", "M", "G", "T", "B/s",
];

/// How text is shown. The default is for files and pipes: lines as long as they are, no colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; absent where there is none.
    pub width: Option<usize>,
    /// Names of owners and of their segments are coloured.
    pub color: bool,
}

impl Style {
    /// The text within the width, and with its colours. Numbers, names and what else has no space
    /// in it stay whole, also where one of them is wider than the terminal.
    pub fn render(&self, text: &str) -> String {
        let fitted = match self.width {
            Some(width) => fit(text, width),
            None => text.to_owned(),
        };
        if self.color { paint(&fitted) } else { fitted }
    }

    /// Whether this many columns are there.
    pub(crate) fn has_room(&self, columns: usize) -> bool {
        self.width.is_none_or(|width| columns <= width)
    }

    /// Of columns in order of display, each with its rank (0 is the last one to go), those for which
    /// there is room behind `used` columns, if each takes `width`.
    pub(crate) fn columns<T: Copy>(&self, used: usize, width: usize, all: &[(usize, T)]) -> Vec<T> {
        let fits = |count: &usize| self.has_room(used + count * width);
        let count = (1..=all.len()).rev().find(fits).unwrap_or(1);
        let kept = all.iter().filter(|(rank, _)| *rank < count);
        kept.map(|(_, column)| *column).collect()
    }
}

fn fit(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |l| (l, "\n"));
        let indent = line.len() - line.trim_start().len() + INDENT;
        let indent = " ".repeat(indent.min(width / 2));
        let mut rest = line.to_owned();
        while let Some((head, tail)) = split(&rest, width) {
            fitted.extend([head, "\n"]);
            rest = format!("{indent}{tail}");
        }
        fitted.extend([&rest, end]);
    }
    fitted
}

/// What fits into the width, and what does not; absent if all does, or nothing can be split off.
fn split(line: &str, width: usize) -> Option<(&str, &str)> {
    if line.chars().count() <= width {
        return None;
    }
    let start = line.len() - line.trim_start().len();
    let places = line.match_indices(' ').map(|(at, _)| at);
    let places = places.filter(|at| *at > start && !is_glue(line, *at));
    let mut places = places.peekable();
    let first = *places.peek()?;
    let fits = |at: &usize| line[..*at].trim_end().chars().count() <= width;
    let at = places.take_while(fits).last().unwrap_or(first);
    let (head, tail) = (line[..at].trim_end(), line[at..].trim_start());
    (!tail.is_empty() && !head.is_empty()).then_some((head, tail))
}

/// Whether the space at this place stands between a number and its unit.
fn is_glue(line: &str, at: usize) -> bool {
    let after = &line[at + 1..];
    let word = after.split([' ', ',', ';', ':', ')', '/']).next();
    let is_number = line[..at].ends_with(|c: char| c.is_ascii_digit());
    is_number && word.is_some_and(|word| UNITS.contains(&word))
}

/// The colour of an owner, one of a terminal's 256: the hue that it has in the picture.
pub const fn color(owner: Owner) -> u8 {
    match owner {
        Owner::Local => 33,
        Owner::Receiver => 37,
        Owner::WireOut => 208,
        Owner::WireIn => 220,
        Owner::Wire => 214,
        Owner::Remote => 162,
        Owner::WireOrRemote => 137,
        Owner::Unknown => 245,
    }
}

fn ink(owner: Owner) -> Ink {
    Ink::new().fg_color(Some(Ansi256Color(color(owner)).into()))
}

/// Colours the names of owners and of segments.
fn paint(text: &str) -> String {
    let mut painted = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (length, owner) = name_at(rest);
        let (word, behind) = rest.split_at(length);
        match owner.map(ink) {
            Some(ink) => painted.extend([
                &ink.render().to_string(),
                word,
                &ink.render_reset().to_string(),
            ]),
            None => painted += word,
        }
        rest = behind;
    }
    painted
}

/// The length of what the text begins with, in bytes, and its owner if it is a name that has one.
fn name_at(text: &str) -> (usize, Option<Owner>) {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ends = |length: usize| !text[length..].starts_with(is_inside);
    let labels = Owner::ALL.into_iter().filter(|owner| {
        let label = owner.label();
        label.contains(' ') && text.starts_with(label) && ends(label.len())
    });
    if let Some(owner) = labels.max_by_key(|owner| owner.label().len()) {
        return (owner.label().len(), Some(owner));
    }
    let word = text.find(|c: char| !is_inside(c)).unwrap_or(text.len());
    let first = text.chars().next().map_or(0, char::len_utf8);
    let segment = Segment::from_name(&text[..word]).filter(|segment| segment.name().contains('_'));
    (word.max(first), segment.map(Segment::owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str) -> String {
        let mut parts = text.split("\u{1b}[");
        let first = parts.next().unwrap_or_default().to_owned();
        let behind = |part: &str| part.split_once('m').map(|(_, rest)| rest.to_owned());
        parts
            .filter_map(behind)
            .fold(first, |all, part| all + &part)
    }

    #[test]
    fn owners_and_their_segments_have_colours_and_nothing_else() {
        let style = Style {
            width: None,
            color: true,
        };
        let text =
            "server host +5.02 ms: r_rx_softirq 5.03 ms, l_tx_kern* 2 us; wired client hosts";
        let painted = style.render(text);
        assert_eq!(plain(&painted), text);
        let (local, remote) = (ink(Owner::Local), ink(Owner::Remote));
        for coloured in [
            format!("{remote}server host{remote:#}"),
            format!("{remote}r_rx_softirq{remote:#}"),
            format!("{local}l_tx_kern{local:#}*"),
        ] {
            assert!(painted.contains(&coloured), "{painted:?}");
        }
        assert!(painted.ends_with("wired client hosts"), "{painted:?}");
        assert_eq!(Style::default().render(text), text);
    }

    #[test]
    fn long_lines_are_continued_and_numbers_keep_their_units() {
        let style = Style {
            width: Some(24),
            color: false,
        };
        assert_eq!(
            style.render("aaaa bbbb cccc dddd 12 ms, eeee\nshort\n"),
            "aaaa bbbb cccc dddd\n    12 ms, eeee\nshort\n"
        );
        let address = "2001:db8:1234:5678:9abc:def0:1234:5678";
        assert_eq!(style.render(address), address);
    }

    #[test]
    fn columns_that_matter_least_go_first() {
        let all = [(2, "min"), (0, "p50"), (1, "max")];
        let columns = |width| {
            Style {
                width: Some(width),
                color: false,
            }
            .columns(10, 5, &all)
        };
        assert_eq!(columns(25), ["min", "p50", "max"]);
        assert_eq!(columns(24), ["p50", "max"]);
        assert_eq!(columns(3), ["p50"]);
        assert_eq!(Style::default().columns(999, 5, &all).len(), 3);
    }

    proptest! {
        /// No line is wider than the terminal, except by a single word; nothing is lost.
        #[test]
        fn lines_fit(
            text in "([a-z0-9,:~*_]{1,30} {1,4}|[0-9]{1,6} (ns|us|ms|%) |\n){0,60}",
            width in 1_usize..150,
            color: bool,
        ) {
            let shown = plain(&Style { width: Some(width), color }.render(&text));
            let words = |text: &str| {
                let words = text.split_whitespace().map(str::to_owned);
                words.collect::<Vec<_>>()
            };
            prop_assert_eq!(words(&shown), words(&text));
            for line in shown.lines() {
                let content = line.trim();
                let breaks = content.match_indices(' ').filter(|(at, _)| !is_glue(content, *at));
                let columns = line.trim_end().chars().count();
                prop_assert!(columns <= width || breaks.count() == 0, "{} columns: {}", columns, line);
            }
        }
    }
}

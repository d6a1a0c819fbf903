//! The HTML page, and what SVG shows under the pointer.

use super::canvas::Hint;
use super::html::{self, drawing, escape};
use super::palette::{IN_THE_DARK, hex};
use super::picture::Picture;
use super::{companion, flame, mesh, run_tables, words};
use std::fmt::Write as _;

/// A page with the drawing and, below it, its numbers.
pub(super) fn html(picture: Picture<'_>, svg: &str) -> String {
    let (title, tables) = match picture {
        Picture::Run(capture) => (words::title(capture).0, run_tables::tables(capture)),
        Picture::Companion(chart) => (chart.title.clone(), companion::tables(chart)),
        Picture::Mesh(matrix) => ("mesh".to_owned(), mesh::tables(matrix)),
        Picture::Flame(of) => return flame::html(of, svg),
    };
    html::page(&title, &(drawing(svg) + &tables))
}

/// The drawing on dark paper, for readers who prefer that. Colours that stand for something stay.
pub(super) fn dark() -> String {
    let mut rules = String::new();
    for (light, dark) in IN_THE_DARK {
        let (light, dark) = (hex(light), hex(dark));
        for what in ["fill", "stroke"] {
            let _ = write!(rules, "svg [{what}=\"{light}\"]{{{what}:{dark}}}");
        }
    }
    format!("<style>@media (prefers-color-scheme:dark){{{rules}}}</style>\n")
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

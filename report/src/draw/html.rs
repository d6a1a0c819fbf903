//! HTML: text, tables, and squares of colour.

use plotters_backend::BackendColor;

use super::palette::hex;
use crate::printable::printable_lines;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page with this title, whose tables sort. The content is HTML.
pub(super) fn page(title: &str, content: &str) -> String {
    let title = escape(&format!("pingtrace {title}"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {content}<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// The drawing; it scrolls where the page is too narrow to read it.
pub(super) fn drawing(svg: &str) -> String {
    format!("<div class=\"wide\">\n{svg}</div>\n")
}

/// Text as it may stand in XML and HTML, in and outside of attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    // Control characters are not allowed in XML.
    for c in printable_lines(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A section with a table; `cells` are HTML.
pub(super) fn table(title: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let body: String = rows.iter().map(|cells| row(cells, "td")).collect();
    section(title, head, &body)
}

/// Likewise, and what more there is to see of each row: that is below it, and hidden until the row is
/// chosen.
pub(super) fn table_with_more(
    title: &str,
    head: &[String],
    rows: &[(Vec<String>, String)],
) -> String {
    let columns = head.len();
    let both = |(cells, more): &(Vec<String>, String)| {
        row(cells, "td")
            + &format!("<tr class=\"more\"><td colspan=\"{columns}\">{more}</td></tr>\n")
    };
    let body: String = rows.iter().map(both).collect();
    section(title, head, &body)
}

fn section(title: &str, head: &[String], body: &str) -> String {
    format!("<h2>{}</h2>\n{}", escape(title), bare_table(head, body))
}

/// A table without a title; `body` is what [`row`] gives.
pub(super) fn bare_table(head: &[String], body: &str) -> String {
    let head = row(head, "th");
    format!(
        "<div class=\"wide\"><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table></div>\n"
    )
}

/// A row of cells of this kind, `td` or `th`.
pub(super) fn row(cells: &[String], tag: &str) -> String {
    let between = format!("</{tag}><{tag}>");
    format!("<tr><{tag}>{}</{tag}></tr>\n", cells.join(&between))
}

/// A square of this colour, as HTML.
pub(super) fn square(color: BackendColor) -> String {
    format!("<i style=\"background:{}\"></i>", hex(color))
}

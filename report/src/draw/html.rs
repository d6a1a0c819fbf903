//! HTML: text, tables, and squares of colour.

use plotters_backend::BackendColor;

use crate::printable::printable_lines;

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
    let row = |cells: &[String], tag: &str| {
        let between = format!("</{tag}><{tag}>");
        format!("<tr><{tag}>{}</{tag}></tr>\n", cells.join(&between))
    };
    let body = rows
        .iter()
        .map(|cells| row(cells, "td"))
        .collect::<Vec<_>>()
        .concat();
    let head = row(head, "th");
    format!(
        "<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table></div>\n",
        escape(title)
    )
}

/// A square of this colour, as HTML.
pub(super) fn square(color: BackendColor) -> String {
    let (r, g, b) = color.rgb;
    format!("<i style=\"background:#{r:02x}{g:02x}{b:02x}\"></i>")
}

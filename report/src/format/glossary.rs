//! What the names in the results mean: segments, points, owners and marks, from the tables that the
//! results themselves are made of.

use std::fmt::Write as _;

use crate::model::{Certainty, Mark, Owner, Point, Segment};

/// All of it as text, for `pingtrace segments`.
pub fn text() -> String {
    [segments(), owners(), marks(), certainties(), points()].join("\n")
}

fn segments() -> String {
    let mut text = "\
Segments, in path order; those of a probe, but l_tx_late, add up to its total exactly. A segment
whose first point has no stamp begins at the last stamp before it.

"
    .to_owned();
    for segment in Segment::ALL {
        let name = segment.name();
        let owner = segment.owner().label();
        let span = segment.span().map_or_else(String::new, |(from, to)| {
            format!("from {} to {}; ", from.name(), to.name())
        });
        push(
            &mut text,
            name,
            &format!("{span}{owner}"),
            segment.meaning(),
        );
    }
    text
}

/// The segments and points as tables in Markdown: docs/segments.md.
pub fn markdown() -> String {
    let mut text = "\
# Segments and points

Made from the table of `report/src/model/path.rs` by a test; edit it there, then
`UPDATE_SNAPSHOTS=1 cargo test -p report --test path`. `pingtrace segments` prints it too, with the marks.

A segment is named by its end. The prefix is the host: `l_` the client, `r_` the server, `m_` any host or
namespace on the way. Where a point has no stamp, the two segments around it are one.

| segment | from | to | owner | what happens in it |
|---|---|---|---|---|
"
    .to_owned();
    for segment in Segment::ALL {
        let span = segment.span();
        let (from, to) = span.map_or(("", ""), |(from, to)| (from.name(), to.name()));
        let (name, owner) = (segment.name(), segment.owner().label());
        let meaning = segment.meaning();
        let _ = writeln!(text, "| {name} | {from} | {to} | {owner} | {meaning} |");
    }
    text += "\n| point | number | taken at |\n|---|---|---|\n";
    let elsewhere = Point::ALL
        .into_iter()
        .filter(|point| point.host().is_none());
    for point in Point::PATH.into_iter().chain(elsewhere) {
        let (name, number, hook) = (point.name(), point as u16, point.hook());
        let _ = writeln!(text, "| {name} | {number} | {hook} |");
    }
    text
}

fn owners() -> String {
    let mut text = "Owners: who is responsible for the time.\n\n".to_owned();
    for owner in Owner::ALL {
        push(&mut text, owner.name(), owner.label(), "");
    }
    text
}

fn marks() -> String {
    let mut text = "Marks behind a segment's name or time.\n\n".to_owned();
    for mark in Mark::ALL {
        push(&mut text, &mark.symbol().to_string(), mark.meaning(), "");
    }
    text
}

fn certainties() -> String {
    let mut text =
        "How sure a verdict is; a ? behind the owner means likely or provisional.\n\n".to_owned();
    for certainty in Certainty::ALL {
        push(&mut text, certainty.name(), certainty.meaning(), "");
    }
    text
}

fn points() -> String {
    let mut text = "\
Points, in path order: where a probe is stamped. l_ is the client's host, r_ the server's, m_ a
device in between.

"
    .to_owned();
    let between = Point::ALL.into_iter().filter(|p| !Point::PATH.contains(p));
    for point in Point::PATH.into_iter().chain(between) {
        push(&mut text, point.name(), point.hook(), "");
    }
    text
}

/// A name, what it is, and below that a sentence if there is one.
fn push(text: &mut String, name: &str, what: &str, sentence: &str) {
    writeln!(text, "  {name:<17} {what}").expect("a String takes everything");
    if !sentence.is_empty() {
        writeln!(text, "  {:<17} {sentence}", "").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns of a small terminal.
    const WIDTH: usize = 100;

    #[test]
    fn every_name_of_the_results_is_explained() {
        let text = text();
        let explained = |name: &str| {
            let mut lines = text.lines();
            lines.any(|line| line.split_whitespace().next() == Some(name))
        };
        for name in Segment::ALL.map(Segment::name) {
            assert!(explained(name), "{name}");
        }
        for name in Point::ALL.map(Point::name) {
            assert!(explained(name), "{name}");
        }
        for mark in Mark::ALL {
            assert!(explained(&mark.symbol().to_string()), "{mark:?}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_span_ends_where_its_segment_ends() {
        for segment in Segment::ALL {
            if let (Some((_, end)), Some((_, to))) = (segment.span(), segment.end()) {
                assert_eq!(end, to, "{}", segment.name());
            }
        }
    }
}

//! A flame graph as SVG, as high as its stacks are deep. A click on a frame makes it as wide as the picture, a
//! search colours what it finds and says its part of all; both are done by a script inside of it, which
//! fetches nothing.

use std::fmt::Write as _;

use super::colour::{KINDS, letter, shade, shades};
use super::place::{Frame, frames, words};
use crate::companion::profile::Flame;
use crate::draw::html::escape;
use crate::draw::layout::{MARGIN, WIDTH};
use crate::printable::printable;

/// Height of a frame, pixels.
const ROW: i32 = 18;
/// Where the frames begin, pixels from the top.
const TOP: i32 = 112;
/// Mean width of a character in a frame, pixels.
const CHARACTER: f64 = 6.6;
/// Space at each side of a name.
const INSET: f64 = 3.0;

const SCRIPT: &str = include_str!("flame.js");

const STYLE: &str = "svg.flame{background:#fff}.flame text{font:11px 'DejaVu Sans',Verdana,sans-serif;fill:#1b1f26}\
.flame .ink{fill:#1b1f26}.flame .faint{fill:#5f6873;font-size:12px}.flame .title{font-size:15px;font-weight:bold}\
.flame .head{font-size:22px;font-weight:bold}.flame .do{cursor:pointer;text-decoration:underline;font-size:13px}\
.flame .f{cursor:pointer}.flame .f text{pointer-events:none}.flame .f:hover rect{stroke:#1b1f26}\
.flame .up{opacity:.5}.flame .hit rect{fill:#e0409a}\
@media (prefers-color-scheme:dark){svg.flame{background:#14181d}.flame .ink,.flame .do{fill:#e8ebef}\
.flame .faint{fill:#a3acb8}.flame .f:hover rect{stroke:#fff}}";

/// The drawing.
pub(in crate::draw) fn svg(flame: &Flame) -> String {
    let frames = frames(flame);
    let deepest = frames.iter().map(|frame| frame.level).max().unwrap_or(0) as i32;
    let notes = TOP + (deepest + 1) * ROW + 20;
    let height = notes + 14;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"flame\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" data-total=\"{}\">\n<style>{}</style>\n",
        flame.root.value,
        STYLE.to_owned() + &colours()
    );
    text(&mut svg, (MARGIN, 28), "ink title", &flame.title);
    text(&mut svg, (MARGIN, 62), "ink head", &flame.headline);
    key(&mut svg);
    text(&mut svg, (MARGIN, notes), "faint", &flame.notes);
    let right = WIDTH - MARGIN;
    for (x, class, name) in [
        (right - 230, "do search", "Search"),
        (right - 160, "do reset", "Reset zoom"),
        (right - 60, "ink found", ""),
    ] {
        text(&mut svg, (x, 94), class, name);
    }
    for frame in &frames {
        push(&mut svg, flame, frame);
    }
    let _ = write!(svg, "<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>\n");
    svg
}

/// The classes of the frames.
fn colours() -> String {
    let mut style = String::new();
    for (kind, _) in KINDS {
        for (shade, color) in shades(kind).iter().enumerate() {
            let (r, g, b) = color.rgb;
            let _ = write!(
                style,
                ".flame .{}{shade}{{fill:#{r:02x}{g:02x}{b:02x}}}",
                letter(kind)
            );
        }
    }
    style
}

fn text(svg: &mut String, (x, y): (i32, i32), class: &str, text: &str) {
    let text = escape(&printable(text));
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"
    );
}

fn key(svg: &mut String) {
    let mut x = MARGIN;
    for (kind, name) in KINDS {
        let _ = writeln!(
            svg,
            "<rect class=\"{}0\" x=\"{x}\" y=\"84\" width=\"10\" height=\"10\"/>",
            letter(kind)
        );
        text(svg, (x + 15, 94), "faint", name);
        x += 40 + (7.0 * name.len() as f64) as i32;
    }
}

fn push(svg: &mut String, flame: &Flame, placed: &Frame<'_>) {
    let node = placed.node;
    let room = f64::from(WIDTH - 2 * MARGIN);
    let total = flame.root.value.max(1) as f64;
    let x = f64::from(MARGIN) + placed.start as f64 / total * room;
    let width = node.value as f64 / total * room;
    let (y, level) = (TOP + placed.level as i32 * ROW, placed.level);
    let (kind, shade) = (letter(node.kind), shade(&node.name));
    let name = printable(&node.name);
    let _ = writeln!(
        svg,
        "<g class=\"f\" data-s=\"{}\" data-v=\"{}\" data-l=\"{level}\" data-n=\"{}\"><title>{}</title>\
         <rect class=\"{kind}{shade}\" x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\"/>\
         <text x=\"{:.2}\" y=\"{}\">{}</text></g>",
        placed.start,
        node.value,
        escape(&name),
        escape(&printable(&words(flame, node))),
        ROW - 1,
        x + INSET,
        y + 13,
        escape(&fitting(&name, width)),
    );
}

/// As much of a name as fits into a frame, as the script does it.
fn fitting(name: &str, width: f64) -> String {
    let most = ((width - 2.0 * INSET) / CHARACTER).max(0.0) as usize;
    match name.chars().count() {
        length if length <= most => name.to_owned(),
        _ if most < 3 => String::new(),
        _ => name.chars().take(most - 1).chain(['…']).collect(),
    }
}

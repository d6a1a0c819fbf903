//! As text: the answer, the matrix of a few hosts or the worst of many, and what is meant.

use chrono::{DateTime, Local};

use crate::analysis::mesh::{Effect, Matrix, answer, missing, percent, thresholds, times};
use crate::model::{Cell, Side};
use crate::printable::printable;
use crate::units::duration;

/// Up to so many hosts the whole matrix is shown.
const WHOLE: usize = 10;
/// Of more hosts, and of pairs, the worst.
const WORST: usize = 10;
/// Columns of a host's name.
const NAME: usize = 24;

/// All of it.
pub fn text(matrix: &Matrix) -> String {
    let mut lines = Vec::new();
    for (title, detail) in answer(matrix) {
        lines.push(format!("{}; {}", printable(&title), printable(&detail)));
    }
    lines.push(facts(matrix));
    lines.push(String::new());
    if matrix.order.len() <= WHOLE {
        whole(matrix, &mut lines);
    }
    hosts(matrix, &mut lines);
    pairs(matrix, &mut lines);
    lines.extend(
        missing(matrix)
            .iter()
            .map(|line| printable(line).into_owned()),
    );
    lines.push(thresholds(matrix));
    lines.join("\n") + "\n"
}

/// How much was measured, and when.
fn facts(matrix: &Matrix) -> String {
    let mesh = &matrix.mesh;
    let (sent, lost) = mesh
        .cells
        .iter()
        .fold((0, 0), |(s, l), c| (s + c.sent, l + c.lost));
    let nodes = mesh.nodes.len();
    let mut parts = vec![format!(
        "{nodes} hosts, {} of {} pairs, {sent} probes, {lost} lost",
        mesh.cells.len(),
        nodes * nodes.saturating_sub(1)
    )];
    if let Some((from, to)) = mesh.span_unix_ns {
        let time = |ns| DateTime::from_timestamp_nanos(ns).with_timezone(&Local);
        let [from, to] = [from, to].map(|ns| time(ns).format("%Y-%m-%d %H:%M:%S").to_string());
        parts.push(format!("{from} to {to}"));
    }
    if let Some(usual) = matrix.usual_ns {
        let usual = duration(usual as u64);
        parts.push(format!("the typical pair has p99 {usual}"));
    }
    parts.join(", ")
}

fn name(matrix: &Matrix, node: usize) -> String {
    let name = printable(&matrix.mesh.nodes[node].name);
    match name.chars().count() {
        0..=NAME => name.into_owned(),
        _ => name.chars().take(NAME - 1).chain(['…']).collect(),
    }
}

/// `c`, `w`, `s`: whose the slow probes are; with the part that was lost.
fn cell(cell: &Cell) -> String {
    let p99 = cell.p99_ns.map_or_else(|| "dead".to_owned(), duration);
    let owner = match cell.slow.main() {
        Some(Side::Client) => "c",
        Some(Side::Wire) => "w",
        Some(Side::Server) => "s",
        Some(Side::Unknown) | None => " ",
    };
    let lost = match cell.lost {
        0 => String::new(),
        lost => percent(lost as f64 / cell.sent as f64).replace(' ', ""),
    };
    format!("{p99:>8}{owner}{lost:<5}")
}

fn whole(matrix: &Matrix, lines: &mut Vec<String>) {
    let (mesh, order) = (&matrix.mesh, &matrix.order);
    lines.push("p99 (rows: clients, columns: servers; whose most slow probes are: c client host, w wire, s server host; % lost)".to_owned());
    let short = |node: usize| name(matrix, node).chars().take(13).collect::<String>();
    let head: Vec<_> = order
        .iter()
        .map(|node| format!(" {:>13}", short(*node)))
        .collect();
    lines.push(format!("{:13}{}", "", head.concat()));
    for from in order {
        let cells = order.iter().map(|to| {
            let of = |c: &&Cell| (c.from, c.to) == (*from, *to);
            let found = mesh.cells.iter().find(of);
            let empty = if from == to { "-" } else { "." };
            let text = found.map_or_else(|| format!("{empty:>8}"), cell);
            format!(" {text:<13}")
        });
        let cells: Vec<_> = cells.collect();
        let line = format!("{:<13}{}", short(*from), cells.concat());
        lines.push(line.trim_end().to_owned());
    }
    lines.push(String::new());
}

/// The worst hosts.
fn hosts(matrix: &Matrix, lines: &mut Vec<String>) {
    let shown = matrix.worst.iter().take(WORST);
    lines.push(format!(
        "{:<NAME$} {:<10} {:>18} {:>18} {:>16} {:>16}",
        "host", "group", "p99 as client", "p99 as server", "lost as client", "lost as server"
    ));
    for node in shown {
        let standing = &matrix.standings[*node];
        let slow = standing
            .slow
            .map(|effect| effect.map_or_else(String::new, slow));
        let lost = standing
            .lossy
            .map(|e| e.map_or_else(String::new, |e| mark(&e, percent(e.value))));
        let group = matrix.mesh.nodes[*node].group.as_deref().unwrap_or("");
        let group: String = printable(group).chars().take(10).collect();
        let line = format!(
            "{:<NAME$} {group:<10} {:>18} {:>18} {:>16} {:>16}",
            name(matrix, *node),
            slow[0],
            slow[1],
            lost[0],
            lost[1]
        );
        lines.push(line.trim_end().to_owned());
    }
    if matrix.order.len() > WORST {
        lines.push(format!("... and {} more", matrix.order.len() - WORST));
    }
    lines.push(String::new());
}

fn slow(effect: Effect) -> String {
    let factor = times(effect.value / effect.usual);
    mark(
        &effect,
        format!("{} {factor}", duration(effect.value as u64)),
    )
}

/// An exception is marked.
fn mark(effect: &Effect, text: String) -> String {
    if effect.named {
        format!("{text} !")
    } else {
        text
    }
}

/// Pairs that their hosts do not explain.
fn pairs(matrix: &Matrix, lines: &mut Vec<String>) {
    let odd = &matrix.answer.odd_pairs;
    if odd.is_empty() {
        return;
    }
    lines.push(format!(
        "{} pairs are slower than their hosts explain:",
        odd.len()
    ));
    for at in odd.iter().take(WORST) {
        let cell = &matrix.mesh.cells[*at];
        let back = matrix
            .mesh
            .cells
            .iter()
            .find(|c| (c.from, c.to) == (cell.to, cell.from));
        let back = back.and_then(|back| back.p99_ns);
        let back = back.map_or_else(|| "unknown".to_owned(), duration);
        lines.push(format!(
            "  {} -> {}: p99 {} ({}); the other way {back}",
            name(matrix, cell.from),
            name(matrix, cell.to),
            cell.p99_ns.map_or_else(String::new, duration),
            cell.slow.main().map_or("owner unknown", Side::name),
        ));
    }
    lines.push(String::new());
}

//! The picture of hosts that probe each other: a matrix of the 99th percentiles, and beside it, in the same order,
//! whose the slow probes are and what was lost.

use plotters::backend::DrawingBackend;
use plotters_backend::BackendColor;

use crate::analysis::mesh::{Matrix, answer, percent, times};
use crate::model::{Cell, Owner, Side};
use crate::units::duration;

use super::canvas::{Area, Canvas, Ink};
use super::html::{escape, table};
use super::layout::{MARGIN, NOTES_TOP, PANELS_TOP, WIDTH, heading, headlines, swatch};
use super::palette::{self, rgb};
use super::picture::Error;

/// From how many times the typical value a pair has which colour: lighter is better, also in grey.
const STEPS: [(f64, BackendColor); 6] = [
    (0.0, rgb(0xE6_EDF5)),
    (1.5, rgb(0xC9_D8E8)),
    (2.0, rgb(0xF6_C667)),
    (4.0, rgb(0xE8_8A2D)),
    (8.0, rgb(0xB8_3A4B)),
    (16.0, rgb(0x5B_1050)),
];
/// From which part lost a pair has which colour.
const LOST: [(f64, BackendColor); 5] = [
    (0.0, rgb(0xE6_EDF5)),
    (1e-9, rgb(0xC9_D8E8)),
    (0.001, rgb(0xF6_C667)),
    (0.01, rgb(0xB8_3A4B)),
    (0.1, rgb(0x5B_1050)),
];
/// Up to so many hosts each has its name.
const NAMED: usize = 40;
/// Up to so many hosts each pair says more under the pointer.
const HINTED: usize = 40;
/// Room for names at the left, pixels.
const NAMES: i32 = 170;
/// Room above the matrix: its heading, its key, and names.
const HEAD: i32 = 74;
/// Side of the large matrix, pixels.
const LARGE: i32 = NOTES_TOP - 24 - PANELS_TOP - HEAD;
/// Side of a small one.
const SMALL: i32 = 300;
/// Of the hosts with pairs in the page's table, the worst.
const ROWS: usize = 50;

/// A matrix in its place.
struct Grid<'a> {
    matrix: &'a Matrix,
    area: Area,
    /// Cells by the ranks of client and server.
    cells: Vec<Vec<Option<&'a Cell>>>,
}

impl<'a> Grid<'a> {
    fn new(matrix: &'a Matrix, area: Area) -> Self {
        let all = matrix.order.len();
        let mut rank = vec![0; all];
        for (at, node) in matrix.order.iter().enumerate() {
            rank[*node] = at;
        }
        let mut cells = vec![vec![None; all]; all];
        for cell in &matrix.mesh.cells {
            cells[rank[cell.from]][rank[cell.to]] = Some(cell);
        }
        Self {
            matrix,
            area,
            cells,
        }
    }

    /// The pixel at which a row or column begins, from the matrix's corner.
    fn at(&self, rank: usize) -> i32 {
        let all = self.cells.len().max(1) as i64;
        (i64::from(self.area.width()) * rank as i64 / all) as i32
    }

    /// Fills all cells, those side by side with the same colour at once.
    fn draw<B: DrawingBackend>(
        &self,
        canvas: &mut Canvas<B>,
        color: impl Fn(&Cell) -> BackendColor,
    ) -> Result<(), Error> {
        canvas.fill(self.area, palette::BOX)?;
        for (row, cells) in self.cells.iter().enumerate() {
            let (y0, y1) = (self.area.y0 + self.at(row), self.area.y0 + self.at(row + 1));
            let colors: Vec<_> = cells.iter().map(|cell| cell.map(&color)).collect();
            let mut from = 0;
            for run in colors.chunk_by(|a, b| a.map(|c| c.rgb) == b.map(|c| c.rgb)) {
                let (x0, x1) = (self.at(from), self.at(from + run.len()));
                from += run.len();
                if let Some(color) = run[0] {
                    let area = Area::new(self.area.x0 + x0, y0, self.area.x0 + x1, y1);
                    canvas.fill(area, color)?;
                }
            }
        }
        Ok(())
    }

    /// What is under the pointer.
    fn hints<B: DrawingBackend>(&self, canvas: &mut Canvas<B>) {
        if self.cells.len() > HINTED {
            return;
        }
        for (row, cells) in self.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let Some(cell) = cell else { continue };
                let [x0, x1] = [column, column + 1].map(|rank| self.area.x0 + self.at(rank));
                let [y0, y1] = [row, row + 1].map(|rank| self.area.y0 + self.at(rank));
                canvas.hint(Area::new(x0, y0, x1, y1), words(self.matrix, cell));
            }
        }
    }
}

/// `web1 → web2: p99 1.20 ms, lost 0 % of 900, slow because of the server host`.
fn words(matrix: &Matrix, cell: &Cell) -> String {
    let name = |node: usize| &matrix.mesh.nodes[node].name;
    let p99 = cell.p99_ns.map_or_else(
        || "no answer".to_owned(),
        |ns| format!("p99 {}", duration(ns)),
    );
    let lost = percent(cell.lost as f64 / cell.sent.max(1) as f64);
    let owner = cell.slow.main().map_or(String::new(), |side| {
        format!(", slow by the {}", side.name())
    });
    let (from, to) = (name(cell.from), name(cell.to));
    format!("{from} → {to}: {p99}, lost {lost} of {}{owner}", cell.sent)
}

/// Draws it.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    matrix: &Matrix,
) -> Result<(), Error> {
    let answers = answer(matrix);
    let mut title = answers
        .iter()
        .map(|(title, _)| title.clone())
        .collect::<Vec<_>>();
    let more = title.len().saturating_sub(2);
    title.truncate(2);
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    let detail = answers.first().map_or("", |(_, detail)| detail);
    let ink = Ink::new(14.0, palette::FAINT);
    canvas.text((MARGIN, 24), &title_line(matrix), ink)?;
    headlines(canvas, &(title.join("; ") + &more), detail)?;
    let (x, y) = (MARGIN + NAMES, PANELS_TOP + HEAD);
    let large = Grid::new(matrix, Area::new(x, y, x + LARGE, y + LARGE));
    let usual = matrix.usual_ns.unwrap_or(1.0);
    large.draw(canvas, |cell| match cell.p99_ns {
        None => palette::LOST,
        Some(ns) => step(&STEPS, ns as f64 / usual),
    })?;
    frames(canvas, &large)?;
    large.hints(canvas);
    names(canvas, &large)?;
    let after = heading(
        canvas,
        (MARGIN, PANELS_TOP),
        "p99 of each pair, beside that of the typical pair",
    )?;
    key(
        canvas,
        (after + 20, PANELS_TOP),
        &STEPS,
        "dead",
        |from| match from {
            0.0 => "usual".to_owned(),
            from => format!("from {}", times(from)),
        },
    )?;
    let ink = Ink::new(12.0, palette::FAINT);
    canvas.text(
        (MARGIN, PANELS_TOP + 22),
        "Rows: the client, which probes. Columns, in the same order: the server.",
        ink,
    )?;
    small(canvas, matrix, x + LARGE + 60)
}

fn title_line(matrix: &Matrix) -> String {
    let mesh = &matrix.mesh;
    let sent: u64 = mesh.cells.iter().map(|cell| cell.sent).sum();
    let usual = matrix.usual_ns.map_or_else(String::new, |ns| {
        format!(", p99 of the typical pair {}", duration(ns as u64))
    });
    format!(
        "{} hosts, {} pairs, {sent} probes{usual}",
        mesh.nodes.len(),
        mesh.cells.len()
    )
}

/// Whose the slow probes are, and what was lost.
fn small<B: DrawingBackend>(canvas: &mut Canvas<B>, matrix: &Matrix, x: i32) -> Result<(), Error> {
    let side = SMALL.min(WIDTH - MARGIN - x);
    let mut y = PANELS_TOP + HEAD;
    let ink = Ink::new(12.0, palette::FAINT);
    heading(canvas, (x, y - 40), "Whose the slow probes are")?;
    let mut at = x;
    for (side, text) in [
        (Side::Client, "client"),
        (Side::Wire, "wire"),
        (Side::Server, "server"),
        (Side::Unknown, "several or unknown"),
    ] {
        at = swatch(canvas, (at, y - 16), owner(Some(side)), text, ink)? + 12;
    }
    Grid::new(matrix, Area::new(x, y, x + side, y + side))
        .draw(canvas, |cell| owner_of(cell, matrix.usual_ns))?;
    y += side + 66;
    heading(canvas, (x, y - 40), "Lost")?;
    let side = side.min(NOTES_TOP - y - 4);
    key(canvas, (x, y - 16), &LOST, "", |from| match from {
        0.0 => "0".to_owned(),
        from if from < 1e-6 => ">0".to_owned(),
        from => percent(from),
    })?;
    Grid::new(matrix, Area::new(x, y, x + side, y + side)).draw(canvas, |cell| {
        step(&LOST, cell.lost as f64 / cell.sent.max(1) as f64)
    })
}

/// Of pairs that are slow; the others are as in the other matrices.
fn owner_of(cell: &Cell, usual_ns: Option<f64>) -> BackendColor {
    let is_slow = match (cell.p99_ns, usual_ns) {
        (Some(ns), Some(usual)) => ns as f64 >= STEPS[2].0 * usual,
        _ => false,
    };
    if is_slow {
        owner(cell.slow.main())
    } else {
        STEPS[0].1
    }
}

fn owner(side: Option<Side>) -> BackendColor {
    palette::owner(match side {
        Some(Side::Client) => Owner::Local,
        Some(Side::Wire) => Owner::Wire,
        Some(Side::Server) => Owner::Remote,
        Some(Side::Unknown) | None => Owner::Unknown,
    })
}

fn step(steps: &[(f64, BackendColor)], value: f64) -> BackendColor {
    let reached = steps.iter().rev().find(|(from, _)| value >= *from);
    reached.map_or(steps[0].1, |(_, color)| *color)
}

fn key<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    (mut x, y): (i32, i32),
    steps: &[(f64, BackendColor)],
    dead: &str,
    text: impl Fn(f64) -> String,
) -> Result<(), Error> {
    let ink = Ink::new(12.0, palette::FAINT);
    for (from, color) in steps {
        x = swatch(canvas, (x, y), *color, &text(*from), ink)? + 12;
    }
    if !dead.is_empty() {
        swatch(canvas, (x, y), palette::LOST, dead, ink)?;
    }
    Ok(())
}

fn is_named(matrix: &Matrix, node: usize) -> bool {
    let mut findings = matrix.answer.findings.iter();
    findings.any(|finding| finding.members().contains(&node))
}

/// A frame around the row and the column of hosts that stand out, one around those side by side; above it the name
/// of one host.
fn frames<B: DrawingBackend>(canvas: &mut Canvas<B>, grid: &Grid) -> Result<(), Error> {
    let (matrix, area) = (grid.matrix, grid.area);
    let named: Vec<bool> = matrix.order.iter().map(|n| is_named(matrix, *n)).collect();
    let (mut from, mut free) = (0, i32::MIN);
    for run in named.chunk_by(|a, b| a == b) {
        let (first, last) = (from, from + run.len());
        from = last;
        if !run[0] {
            continue;
        }
        let [x0, x1] = [first, last].map(|rank| area.x0 + grid.at(rank));
        let [y0, y1] = [first, last].map(|rank| area.y0 + grid.at(rank));
        for at in [x0 - 1, x1] {
            canvas.fill(Area::new(at, area.y0, at + 1, area.y1), palette::INK)?;
        }
        for at in [y0 - 1, y1] {
            canvas.fill(Area::new(area.x0, at, area.x1, at + 1), palette::INK)?;
        }
        if run.len() == 1 {
            let ink = Ink::new(13.0, palette::INK).bold();
            let name = canvas.fit(&matrix.mesh.nodes[matrix.order[first]].name, ink, NAMES);
            let (middle, half) = (i32::midpoint(x0, x1), canvas.width(&name, ink) / 2);
            if middle - half >= free {
                canvas.text((middle, area.y0 - 12), &name, ink.center())?;
                free = middle + half + 10;
            }
        }
    }
    Ok(())
}

/// The names of few hosts, or of those that stand out.
fn names<B: DrawingBackend>(canvas: &mut Canvas<B>, grid: &Grid) -> Result<(), Error> {
    let matrix = grid.matrix;
    let mut free = i32::MIN;
    for (rank, node) in matrix.order.iter().enumerate() {
        let bad = is_named(matrix, *node);
        if !bad && matrix.order.len() > NAMED {
            continue;
        }
        let middle = grid.area.y0 + i32::midpoint(grid.at(rank), grid.at(rank + 1));
        let y = middle.max(free);
        if y > grid.area.y1 {
            break;
        }
        free = y + 14;
        let ink = if bad {
            Ink::new(13.0, palette::INK).bold()
        } else {
            Ink::new(12.0, palette::FAINT)
        };
        let name = canvas.fit(&matrix.mesh.nodes[*node].name, ink, NAMES - 16);
        canvas.text((grid.area.x0 - 12, y), &name, ink.right())?;
        let line = [(grid.area.x0 - 9, y), (grid.area.x0 - 2, middle)];
        canvas.path(&line, 1, palette::FAINT)?;
    }
    Ok(())
}

/// Its numbers, for the page.
pub(super) fn tables(matrix: &Matrix) -> String {
    let said = answer(matrix).into_iter();
    let said: Vec<_> = said
        .map(|(title, detail)| format!("<p><b>{}</b>; {}</p>\n", escape(&title), escape(&detail)))
        .collect();
    let head = [
        "host",
        "group",
        "p99 as client",
        "p99 as server",
        "lost as client",
        "lost as server",
    ];
    let rows = matrix.worst.iter().take(ROWS).map(|node| {
        let of = &matrix.mesh.nodes[*node];
        let standing = &matrix.standings[*node];
        let mut cells = vec![escape(&of.name), escape(of.group.as_deref().unwrap_or(""))];
        let slow = standing.slow.iter();
        cells.extend(slow.map(|e| e.map_or_else(String::new, |e| duration(e.value as u64))));
        let lossy = standing.lossy.iter();
        cells.extend(lossy.map(|e| e.map_or_else(String::new, |e| percent(e.value))));
        cells
    });
    let rows: Vec<_> = rows.collect();
    said.concat() + &table("The worst hosts", &head.map(str::to_owned), &rows)
}

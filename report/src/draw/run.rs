//! The picture of a run, from top to bottom: what was measured and one sentence that says what was slow;
//! the slowest probes as bars that show where their time went; the distribution of each segment beside
//! the totals over time; what the marks mean and what went wrong.

use plotters::backend::DrawingBackend;

use super::canvas::{Area, Canvas, Ink};
use super::layout::{GAP, MARGIN, NOTES_TOP, PANELS_TOP, WIDTH, headlines};
use super::picture::Error;
use super::{palette, percentiles, series, waterfall, words};
use crate::analysis::headline::Headline;
use crate::model::{Capture, Marks};

pub(super) fn run<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    capture: &Capture,
) -> Result<(), Error> {
    let marks = capture.summary.marks;
    header(canvas, capture)?;
    let end = waterfall::draw(
        canvas,
        capture,
        Area::new(MARGIN, PANELS_TOP, WIDTH - MARGIN, 0),
    )?;
    let top = end + GAP;
    percentiles::draw(
        canvas,
        capture,
        marks,
        Area::new(MARGIN, top, 724, NOTES_TOP - 16),
    )?;
    series::draw(
        canvas,
        capture,
        Area::new(760, top, WIDTH - MARGIN, NOTES_TOP - 16),
    )?;
    footnotes(canvas, capture, marks)
}

fn header<B: DrawingBackend>(canvas: &mut Canvas<B>, capture: &Capture) -> Result<(), Error> {
    let (ends, facts) = words::title(capture);
    let room = WIDTH - 2 * MARGIN;
    let (strong, faint) = (
        Ink::new(15.0, palette::INK).bold(),
        Ink::new(14.0, palette::FAINT),
    );
    let facts = canvas.fit(&facts, faint, room - 200);
    let ends = canvas.fit(&ends, strong, room - canvas.width(&facts, faint) - 16);
    canvas.text((MARGIN, 24), &ends, strong)?;
    canvas.text(
        (MARGIN + canvas.width(&ends, strong) + 16, 24),
        &facts,
        faint,
    )?;

    let Headline { title, detail, .. } =
        Headline::new(&capture.run, &capture.summary, &capture.names);
    headlines(canvas, &title, &detail)
}

fn footnotes<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    capture: &Capture,
    marks: Marks,
) -> Result<(), Error> {
    let summary = &capture.summary;
    let lines = [
        (words::notes(marks), palette::FAINT),
        (words::moved(&summary.moved), palette::INK),
        (words::oddities(&summary.counters), palette::INK),
    ];
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|(line, _)| !line.is_empty())
        .collect();
    let (mut y, step) = if lines.len() > 2 {
        (NOTES_TOP - 2, 16)
    } else {
        (NOTES_TOP + 4, 19)
    };
    for (line, color) in lines {
        let ink = Ink::new(12.0, color);
        canvas.text(
            (MARGIN, y),
            &canvas.fit(&line, ink, WIDTH - 2 * MARGIN),
            ink,
        )?;
        y += step;
    }
    Ok(())
}

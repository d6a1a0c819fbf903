//! The picture of a run, as PNG, SVG or a self-contained HTML page.
//!
//! From top to bottom: what was measured and one sentence that says what was slow; the slowest
//! probes as bars that show where their time went; the distribution of each segment beside the
//! totals over time; what the marks mean and what went wrong. One function draws all of it, on
//! any backend of plotters.

use std::io;
use std::path::{Path, PathBuf};

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters_backend::BackendColor;

use crate::analysis::headline::Headline;
use crate::analysis::stats::Marks;
use crate::companion::Chart;
use crate::model::{Capture, Delay, Segment};

mod axis;
mod canvas;
mod companion;
mod page;
mod palette;
mod percentiles;
mod save;
mod scale;
mod series;
#[cfg(test)]
mod tests;
mod waterfall;
mod words;

use canvas::{Area, Canvas, Hint, Ink};

pub use save::write;

/// Width of the picture in pixels.
const WIDTH: i32 = 1400;
/// Height of the picture in pixels.
const HEIGHT: i32 = 920;
/// Empty space at the left and at the right, pixels.
const MARGIN: i32 = 24;
/// Where the first panel begins, pixels from the top.
const PANELS_TOP: i32 = 128;
/// Side of a coloured square of a key, pixels.
const SWATCH: i32 = 10;
/// Space between panels, pixels.
const GAP: i32 = 26;
/// Where the footnotes begin, pixels from the top.
const NOTES_TOP: i32 = 880;

/// What a picture is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A bitmap, 1400 x 920.
    Png,
    /// A drawing that scales; its bars say more when the pointer is over them.
    Svg,
    /// A page with the drawing and tables, without external resources.
    Html,
}

impl Format {
    /// The format that a file name asks for: `.png` (also without an ending), `.svg`, `.html` or
    /// `.htm`, in any case. Any other ending is an error.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            None | Some("png") => Ok(Self::Png),
            Some("svg") => Ok(Self::Svg),
            Some("html" | "htm") => Ok(Self::Html),
            Some(_) => Err(Error::Format {
                path: path.to_owned(),
            }),
        }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file name has an ending that stands for no format.
    #[error("choose a picture format for {}: unknown ending; use .png, .svg or .html", path.display())]
    Format {
        /// The file name.
        path: PathBuf,
    },
    /// The embedded font cannot be read.
    #[error("load the embedded font DejaVu Sans: not a font; this build is broken, build it again")]
    Font,
    /// A drawing operation failed.
    #[error("draw the picture in memory: {reason}; please report this as a bug")]
    Draw {
        /// The backend's words.
        reason: String,
    },
    /// The bitmap could not be compressed.
    #[error(
        "encode the picture as PNG: {0}; --image with a name ending in .svg avoids the encoder"
    )]
    Png(#[from] png::EncodingError),
    /// The path names a directory, or nothing that a file could be put at.
    #[error("write picture {}: not the name of a file; give --image a file name", path.display())]
    NotAFile {
        /// Where the picture should go.
        path: PathBuf,
    },
    /// The file could not be written or put in place; a picture that was there is unchanged.
    #[error("write picture {}: {action} {}: {source}; {}", path.display(), file.display(), remedy(source))]
    Write {
        /// Where the picture should go.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The file or directory it was tried on.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about a failed write.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "create the directory, or choose another one with --image",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a directory that you may write to with --image"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or choose another file system with --image"
        }
        _ => "choose another place with --image",
    }
}

/// What a picture shows.
#[derive(Clone, Copy, Debug)]
pub enum Picture<'a> {
    /// A run of probes.
    Run(&'a Capture),
    /// What a companion found.
    Companion(&'a Chart),
}

/// The picture as the bytes of a file.
pub fn render(picture: Picture<'_>, format: Format) -> Result<Vec<u8>, Error> {
    match format {
        Format::Png => png(picture),
        Format::Svg => svg(picture).map(String::into_bytes),
        Format::Html => Ok(page::html(picture, &svg(picture)?).into_bytes()),
    }
}

fn png(picture: Picture<'_>) -> Result<Vec<u8>, Error> {
    let (width, height) = (WIDTH as u32, HEIGHT as u32);
    let mut pixels = vec![u8::MAX; 3 * WIDTH as usize * HEIGHT as usize];
    draw(
        picture,
        &mut BitMapBackend::with_buffer(&mut pixels, (width, height)),
    )?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Best);
    encoder.set_filter(png::FilterType::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

fn svg(picture: Picture<'_>) -> Result<String, Error> {
    let mut text = String::new();
    let size = (WIDTH as u32, HEIGHT as u32);
    let hints = draw(picture, &mut SVGBackend::with_string(&mut text, size))?;
    let end = text.rfind("</svg>").unwrap_or(text.len());
    text.insert_str(end, &page::hints(&hints));
    Ok(text)
}

/// Draws everything; returns what to say where the pointer is, for formats that can.
fn draw<B: DrawingBackend>(picture: Picture<'_>, backend: &mut B) -> Result<Vec<Hint>, Error> {
    let mut canvas = Canvas::new(backend)?;
    canvas.fill(Area::new(0, 0, WIDTH, HEIGHT), palette::PAPER)?;
    match picture {
        Picture::Run(capture) => run(&mut canvas, capture)?,
        Picture::Companion(chart) => companion::draw(&mut canvas, chart)?,
    }
    canvas.finish()
}

fn run<B: DrawingBackend>(canvas: &mut Canvas<B>, capture: &Capture) -> Result<(), Error> {
    let marks = marks(capture);
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

/// The answer in large letters, and what else is worth a line.
fn headlines<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    headline: &str,
    second: &str,
) -> Result<(), Error> {
    let room = WIDTH - 2 * MARGIN;
    let fits = |em: &f64| canvas.width(headline, Ink::new(*em, palette::INK).bold()) <= room;
    let em = [28.0, 25.0, 22.0, 19.0]
        .into_iter()
        .find(fits)
        .unwrap_or(17.0);
    let ink = Ink::new(em, palette::INK).bold();
    canvas.text((MARGIN, 60), &canvas.fit(headline, ink, room), ink)?;
    let ink = Ink::new(17.0, palette::INK);
    canvas.text((MARGIN, 94), &canvas.fit(second, ink, room), ink)
}

fn footnotes<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    capture: &Capture,
    marks: Marks,
) -> Result<(), Error> {
    let lines = [
        (words::notes(marks), palette::FAINT),
        (words::oddities(&capture.summary.counters), palette::INK),
    ];
    let mut y = NOTES_TOP + 4;
    for (line, color) in lines.into_iter().filter(|(line, _)| !line.is_empty()) {
        let ink = Ink::new(12.0, color);
        canvas.text(
            (MARGIN, y),
            &canvas.fit(&line, ink, WIDTH - 2 * MARGIN),
            ink,
        )?;
        y += 19;
    }
    Ok(())
}

/// A coloured square of a key with its text, centred at `y`; returns the x after it.
fn swatch<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    (x, y): (i32, i32),
    color: BackendColor,
    text: &str,
    ink: Ink,
) -> Result<i32, Error> {
    canvas.fill(Area::new(x, y - 5, x + SWATCH, y - 5 + SWATCH), color)?;
    canvas.text((x + SWATCH + 5, y), text, ink)?;
    Ok(x + SWATCH + 5 + canvas.width(text, ink))
}

/// A panel's heading; returns the x after it.
fn heading<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    at: (i32, i32),
    text: &str,
) -> Result<i32, Error> {
    let ink = Ink::new(15.0, palette::INK).bold();
    canvas.text(at, text, ink)?;
    Ok(at.0 + canvas.width(text, ink))
}

/// A box that says why there is nothing to see.
fn nothing<B: DrawingBackend>(canvas: &mut Canvas<B>, area: Area, text: &str) -> Result<(), Error> {
    canvas.fill(area, palette::BOX)?;
    let ink = Ink::new(16.0, palette::FAINT).center();
    let text = canvas.fit(text, ink, area.width() - 20);
    canvas.text(
        (area.x0 + area.width() / 2, area.y0 + area.height() / 2),
        &text,
        ink,
    )
}

/// The marks of each segment, over all probes at hand.
fn marks(capture: &Capture) -> Marks {
    let mut marks = Marks::default();
    let breakdowns = capture.slowest.iter().filter_map(|r| r.breakdown.as_ref());
    let delays = breakdowns.flat_map(|breakdown| &breakdown.delays);
    delays.for_each(|delay| marks.note(delay));
    marks
}

/// A segment's name and marks.
fn marked_name(delay: &Delay) -> String {
    delay.segment.name().to_owned() + &Marks::from_delay(delay).symbols()
}

/// The colour of a row or a bar: the segment's, or the total's.
fn color_of(segment: Option<Segment>) -> BackendColor {
    segment.map_or(palette::TOTAL, palette::segment)
}

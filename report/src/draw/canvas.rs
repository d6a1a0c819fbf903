//! What the panels draw on: pixels from the top left, over any plotters backend.
//!
//! Text is set in the embedded font with sub-pixel positions, and is laid out alike on
//! every backend: plotters' own bitmap text ignores side bearings and disagrees with its SVG
//! text about where a line's middle is.

use std::convert::Infallible;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontFamily, FontStyle,
};

use super::picture::Error;
use crate::printable::printable;

/// The regular weight: Latin-1 and a few symbols.
const REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");
/// The bold weight: the same characters.
const BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold-subset.ttf");
/// The font that an SVG asks for; Verdana has nearly the same widths.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// plotters' SVG backend divides the size of a style by this to get the em.
const SVG_EM: f64 = 1.24;
/// From the middle of a line of text down to its baseline, in em: half of an x-height, which is
/// where the SVG backend puts the baseline of vertically centred text.
const MIDDLE_TO_BASELINE: f64 = 0.2735;

/// A rectangle in pixels; right and bottom are the first pixels outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    /// First column.
    pub x0: i32,
    /// First row.
    pub y0: i32,
    /// Column after the last.
    pub x1: i32,
    /// Row after the last.
    pub y1: i32,
}

impl Area {
    /// The rectangle from `x0`, `y0` to just before `x1`, `y1`.
    pub fn new(x0: i32, y0: i32, x1: i32, y1: i32) -> Self {
        Self { x0, y0, x1, y1 }
    }

    /// Columns.
    pub fn width(self) -> i32 {
        self.x1 - self.x0
    }

    /// Rows.
    pub fn height(self) -> i32 {
        self.y1 - self.y0
    }
}

/// Where a text stands relative to its x.
#[derive(Clone, Copy, Debug)]
pub(super) enum Align {
    /// Starts there.
    Left,
    /// Ends there.
    Right,
    /// Is centred there.
    Center,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(super) struct Ink {
    em: f64,
    bold: bool,
    color: BackendColor,
    align: Align,
}

impl Ink {
    /// Regular, aligned left; `em` in pixels.
    pub fn new(em: f64, color: BackendColor) -> Self {
        Self {
            em,
            bold: false,
            color,
            align: Align::Left,
        }
    }

    /// The same in bold.
    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The same, ending at its x.
    pub fn right(self) -> Self {
        Self {
            align: Align::Right,
            ..self
        }
    }

    /// The same, centred at its x.
    pub fn center(self) -> Self {
        Self {
            align: Align::Center,
            ..self
        }
    }
}

/// A rectangle of the picture and the text shown while the pointer is over it.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    /// Where.
    pub area: Area,
    /// Plain text, lines separated by `\n`.
    pub text: String,
}

/// A line of text as a backend wants it.
struct Line<'a> {
    font: &'a FontRef<'static>,
    ink: Ink,
}

impl Line<'_> {
    fn scale(&self) -> PxScale {
        let per_em = self.font.units_per_em().unwrap_or(2048.0);
        PxScale::from(self.ink.em as f32 * self.font.height_unscaled() / per_em)
    }

    fn width(&self, text: &str) -> f32 {
        let font = self.font.as_scaled(self.scale());
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }
}

impl BackendTextStyle for Line<'_> {
    type FontError = Infallible;

    fn color(&self) -> BackendColor {
        self.ink.color
    }

    fn size(&self) -> f64 {
        self.ink.em * SVG_EM
    }

    fn style(&self) -> FontStyle {
        if self.ink.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        }
    }

    fn anchor(&self) -> Pos {
        let h_pos = match self.ink.align {
            Align::Left => HPos::Left,
            Align::Right => HPos::Right,
            Align::Center => HPos::Center,
        };
        Pos::new(h_pos, VPos::Center)
    }

    fn family(&self) -> FontFamily<'_> {
        FontFamily::Name(FAMILY)
    }

    /// Height 0: `draw` places the baseline itself.
    fn layout_box(&self, text: &str) -> Result<((i32, i32), (i32, i32)), Infallible> {
        Ok(((0, 0), (self.width(text).round() as i32, 0)))
    }

    fn draw<E, F: FnMut(i32, i32, BackendColor) -> Result<(), E>>(
        &self,
        text: &str,
        pos: BackendCoord,
        mut pixel: F,
    ) -> Result<Result<(), E>, Infallible> {
        let scale = self.scale();
        let font = self.font.as_scaled(scale);
        let mut x = pos.0 as f32;
        let baseline = pos.1 as f32 + (self.ink.em * MIDDLE_TO_BASELINE).round() as f32;
        for id in text.chars().map(|c| font.glyph_id(c)) {
            let glyph = id.with_scale_and_position(scale, point(x, baseline));
            x += font.h_advance(id);
            let Some(outline) = self.font.outline_glyph(glyph) else {
                continue;
            };
            let min = outline.px_bounds().min;
            let mut result = Ok(());
            outline.draw(|dx, dy, cover| {
                if result.is_ok() && cover > 0.0 {
                    let (px, py) = (min.x as i32 + dx as i32, min.y as i32 + dy as i32);
                    result = pixel(px, py, self.ink.color.mix(f64::from(cover.min(1.0))));
                }
            });
            if result.is_err() {
                return Ok(result);
            }
        }
        Ok(Ok(()))
    }
}

/// A stroke of some width.
struct Stroke(BackendColor, u32);

impl BackendStyle for Stroke {
    fn color(&self) -> BackendColor {
        self.0
    }

    fn stroke_width(&self) -> u32 {
        self.1
    }
}

/// A backend with the embedded font.
pub(super) struct Canvas<'a, B> {
    backend: &'a mut B,
    regular: FontRef<'static>,
    bold: FontRef<'static>,
    hints: Vec<Hint>,
}

impl<'a, B: DrawingBackend> Canvas<'a, B> {
    /// Fails if the embedded font is not a font.
    pub fn new(backend: &'a mut B) -> Result<Self, Error> {
        let font = |bytes| FontRef::try_from_slice(bytes).map_err(|_| Error::Font);
        Ok(Self {
            backend,
            regular: font(REGULAR)?,
            bold: font(BOLD)?,
            hints: Vec::new(),
        })
    }

    /// Ends the picture; returns the texts for the pointer.
    pub fn finish(self) -> Result<Vec<Hint>, Error> {
        self.backend.present().map_err(|error| failed(&error))?;
        Ok(self.hints)
    }

    /// Shows `text` while the pointer is over `area` (if the format can).
    pub fn hint(&mut self, area: Area, text: String) {
        self.hints.push(Hint { area, text });
    }

    /// Fills a rectangle; an empty one leaves no trace.
    pub fn fill(&mut self, area: Area, color: BackendColor) -> Result<(), Error> {
        if area.width() <= 0 || area.height() <= 0 {
            return Ok(());
        }
        let (from, to) = ((area.x0, area.y0), (area.x1, area.y1));
        self.backend
            .draw_rect(from, to, &color, true)
            .map_err(|error| failed(&error))
    }

    /// A disc around a point.
    pub fn disc(&mut self, at: (i32, i32), radius: u32, color: BackendColor) -> Result<(), Error> {
        self.backend
            .draw_circle(at, radius, &color, true)
            .map_err(|error| failed(&error))
    }

    /// A line through the points; fewer than two leave no trace.
    pub fn path(
        &mut self,
        points: &[(i32, i32)],
        width: u32,
        color: BackendColor,
    ) -> Result<(), Error> {
        if points.len() < 2 {
            return Ok(());
        }
        let points = points.iter().copied();
        self.backend
            .draw_path(points, &Stroke(color, width))
            .map_err(|error| failed(&error))
    }

    /// A dashed horizontal line, one pixel high, from `x0` to before `x1`.
    pub fn dashes(&mut self, x0: i32, x1: i32, y: i32, color: BackendColor) -> Result<(), Error> {
        for x in (x0..x1).step_by(10) {
            self.fill(Area::new(x, y, (x + 6).min(x1), y + 1), color)?;
        }
        Ok(())
    }

    /// A line of text whose middle is at `y`.
    pub fn text(&mut self, (x, y): (i32, i32), text: &str, ink: Ink) -> Result<(), Error> {
        let font = if ink.bold { &self.bold } else { &self.regular };
        let drawn = self
            .backend
            .draw_text(&printable(text), &Line { font, ink }, (x, y));
        drawn.map_err(|error| failed(&error))
    }

    /// Width of a text in pixels, rounded up.
    pub fn width(&self, text: &str, ink: Ink) -> i32 {
        let font = if ink.bold { &self.bold } else { &self.regular };
        Line { font, ink }.width(&printable(text)).ceil() as i32
    }

    /// The text, or as much of it as fits into `room` pixels with an ellipsis.
    pub fn fit(&self, text: &str, ink: Ink, room: i32) -> String {
        if self.width(text, ink) <= room {
            return text.to_owned();
        }
        // Nothing longer than this many characters can fit, however narrow they are.
        let mut kept: Vec<char> = text.chars().take(room.max(0) as usize).collect();
        while !kept.is_empty() {
            kept.pop();
            let short: String = kept.iter().collect::<String>().trim_end().to_owned() + "…";
            if self.width(&short, ink) <= room {
                return short;
            }
        }
        String::new()
    }
}

fn failed<E: std::error::Error + Send + Sync>(error: &DrawingErrorKind<E>) -> Error {
    Error::Draw {
        reason: error.to_string(),
    }
}

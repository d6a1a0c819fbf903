//! A picture as the bytes of a file: one function draws it, on any backend of plotters.

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};

use super::canvas::{Area, Canvas, Hint};
use super::layout::{HEIGHT, WIDTH};
use super::picture::{Error, Format, Picture};
use super::{companion, flame, mesh, page, palette, run};

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
    if let Picture::Flame(of) = picture {
        return Ok(flame::svg(of));
    }
    let mut text = String::new();
    let size = (WIDTH as u32, HEIGHT as u32);
    let hints = draw(picture, &mut SVGBackend::with_string(&mut text, size))?;
    let end = text.rfind("</svg>").unwrap_or(text.len());
    text.insert_str(end, &(page::hints(&hints) + &page::dark()));
    Ok(text)
}

/// Draws everything; returns the texts for the pointer, for formats that can show them.
fn draw<B: DrawingBackend>(picture: Picture<'_>, backend: &mut B) -> Result<Vec<Hint>, Error> {
    let mut canvas = Canvas::new(backend)?;
    canvas.fill(Area::new(0, 0, WIDTH, HEIGHT), palette::PAPER)?;
    match picture {
        Picture::Run(capture) => run::run(&mut canvas, capture)?,
        Picture::Companion(chart) => companion::draw(&mut canvas, chart)?,
        Picture::Flame(of) => flame::draw(&mut canvas, of)?,
        Picture::Mesh(matrix) => mesh::draw(&mut canvas, matrix)?,
    }
    canvas.finish()
}

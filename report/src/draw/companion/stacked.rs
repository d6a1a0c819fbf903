//! Series over time, one on top of the other, with a key in the same order.

use plotters::backend::DrawingBackend;
use plotters_backend::BackendColor;

use crate::companion::{Series, Stacked};

use super::height::{HEADING, Height};
use crate::draw::canvas::{Area, Canvas, Ink};
use crate::draw::layout::{SWATCH, swatch};
use crate::draw::picture::Error;
use crate::draw::scale::{Scale, since};
use crate::draw::{axis, palette};

pub(super) const HEIGHT: Height = Height {
    min: HEADING + 130,
    enough: HEADING + 290,
    grows: true,
};

/// Maximum number of series with a colour of their own.
const MOST: usize = 8;
/// Maximum number of columns; more are joined.
const COLUMNS: usize = 400;
/// Width of the value labels, pixels.
const LABELS: i32 = 76;
/// Width of the key, pixels.
const KEY: i32 = 320;

/// A series as it is drawn.
struct Layer {
    name: String,
    color: BackendColor,
    values: Vec<f64>,
}

/// Layers placed on the picture.
struct View<'a> {
    stacked: &'a Stacked,
    plot: Area,
    /// The largest first.
    layers: Vec<Layer>,
    steps: usize,
    /// Steps in a column.
    each: usize,
    values: Scale,
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<B>,
    stacked: &Stacked,
    area: Area,
) -> Result<(), Error> {
    let view = view(stacked, area);
    axis::values(
        canvas,
        &view.values,
        view.plot,
        (view.plot.height() / 36) as usize,
    )?;
    for k in 0..view.steps.div_ceil(view.each) {
        column(canvas, &view, k)?;
    }
    axis::times(
        canvas,
        view.plot,
        stacked.start_unix_ns,
        view.at(view.steps),
    )?;
    key(
        canvas,
        &view,
        Area {
            x0: view.plot.x1 + 24,
            ..area
        },
    )
}

fn view(stacked: &Stacked, area: Area) -> View<'_> {
    let plot = Area::new(
        area.x0 + LABELS,
        area.y0,
        area.x1 - KEY - 24,
        (area.y1 - axis::HEIGHT).max(area.y0 + 1),
    );
    let layers = layers(&stacked.series);
    let steps = layers
        .iter()
        .map(|layer| layer.values.len())
        .max()
        .unwrap_or(0);
    let total = |k: usize| layers.iter().map(|layer| layer.at(k)).sum::<f64>();
    let max = (0..steps).map(total).fold(0.0, f64::max);
    View {
        stacked,
        plot,
        steps,
        each: steps.div_ceil(COLUMNS).max(1),
        values: Scale::linear(max as u64, plot.y1, plot.y0 + 4).with_unit(stacked.unit),
        layers,
    }
}

impl Layer {
    /// The mean over the steps of a column.
    fn mean(&self, from: usize, to: usize) -> f64 {
        (from..to).map(|k| self.at(k)).sum::<f64>() / (to - from) as f64
    }

    fn at(&self, k: usize) -> f64 {
        self.values.get(k).copied().unwrap_or(0.0)
    }

    fn sum(&self) -> f64 {
        self.values.iter().sum()
    }

    fn peak(&self) -> u64 {
        self.values.iter().copied().fold(0.0, f64::max) as u64
    }
}

impl View<'_> {
    /// Nanoseconds from the left end to step `k`.
    fn at(&self, k: usize) -> u64 {
        self.stacked.step_ns.max(1).saturating_mul(k as u64)
    }

    fn x(&self, k: usize) -> i32 {
        let scale = Scale::linear(self.at(self.steps), self.plot.x0, self.plot.x1);
        scale.at(self.at(k) as f64)
    }
}

/// The largest first; those past [`MOST`] joined.
fn layers(series: &[Series]) -> Vec<Layer> {
    let mut layers: Vec<Layer> = series.iter().map(layer).collect();
    layers.sort_by(|a, b| b.sum().total_cmp(&a.sum()));
    let rest = layers.split_off(MOST.min(layers.len()));
    for (k, layer) in layers.iter_mut().enumerate() {
        layer.color = palette::class(k);
    }
    if !rest.is_empty() {
        let steps = rest
            .iter()
            .map(|layer| layer.values.len())
            .max()
            .unwrap_or(0);
        let sum = |k| rest.iter().map(|layer| layer.at(k)).sum();
        layers.push(Layer {
            name: format!("{} others", rest.len()),
            color: palette::OTHER,
            values: (0..steps).map(sum).collect(),
        });
    }
    layers
}

fn layer(series: &Series) -> Layer {
    Layer {
        name: series.name.clone(),
        color: palette::OTHER,
        values: series.values.iter().copied().map(sane).collect(),
    }
}

/// At most what fits into 64 bits.
fn sane(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, u64::MAX as f64)
    }
}

fn column<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View, k: usize) -> Result<(), Error> {
    let (from, to) = (k * view.each, ((k + 1) * view.each).min(view.steps));
    let (x0, x1) = (view.x(from), view.x(to));
    let (mut below, mut text) = (0.0, String::new());
    for layer in view.layers.iter().rev() {
        let value = layer.mean(from, to);
        let (y1, y0) = (view.values.at(below), view.values.at(below + value));
        canvas.fill(Area::new(x0, y0, x1, y1), layer.color)?;
        below += value;
        text = format!(
            "\n{}: {}{text}",
            layer.name,
            view.stacked.unit.text(value as u64)
        );
    }
    let time = since(view.stacked.start_unix_ns, view.at(from)).format("%H:%M:%S%.3f");
    let total = view.stacked.unit.text(below as u64);
    canvas.hint(
        Area {
            x0,
            x1,
            ..view.plot
        },
        format!("{time}: {total}{text}"),
    );
    Ok(())
}

/// Names in the order of the layers, with the largest value of each.
fn key<B: DrawingBackend>(canvas: &mut Canvas<B>, view: &View, area: Area) -> Result<(), Error> {
    let (ink, faint) = (Ink::new(12.5, palette::INK), Ink::new(12.0, palette::FAINT));
    let right = area.x1;
    canvas.text((right, area.y0 - HEADING + 9), "peak", faint.right())?;
    let pitch = (area.height() / view.layers.len().max(1) as i32).clamp(6, 22);
    for (layer, k) in view.layers.iter().zip(0..) {
        let y = area.y0 + pitch * k + pitch / 2;
        let peak = view.stacked.unit.text(layer.peak());
        let room = area.width() - canvas.width(&peak, ink) - SWATCH - 5 - 10;
        let name = canvas.fit(&layer.name, ink, room);
        swatch(canvas, (area.x0, y), layer.color, &name, ink)?;
        canvas.text((right, y), &peak, ink.right())?;
    }
    Ok(())
}

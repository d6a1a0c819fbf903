//! A flame graph: each frame as wide as its weight, under the frame that called it. As a drawing that is
//! searched and zoomed by a small script of its own, and as a bitmap.

mod bitmap; // on a canvas
mod colour; // whose code a frame is
mod drawing; // SVG with its script
mod page; // HTML around it
mod place; // where each frame stands

#[cfg(test)]
mod tests;

pub(super) use bitmap::draw;
pub(super) use drawing::svg;
pub(super) use page::html;

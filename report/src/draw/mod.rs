//! Pictures, as PNG, SVG or a self-contained HTML page. Here is only drawn: what a run says is decided
//! in [`analysis`](crate::analysis).

mod picture; // what is drawn, as what, and why not
mod render; // a picture as bytes
mod save; // a picture on disk

// A run.
mod page; // the HTML page, and what is under the pointer
mod percentiles; // the distribution of each segment
mod run; // all of it
mod run_tables; // and its numbers, on the page
mod series; // totals over time
mod waterfall; // the slowest probes
mod words; // its sentences

// A companion's findings.
mod companion;

// Stacks.
mod flame;

// Hosts that probe each other.
mod mesh;

// What all are drawn with.
mod axis;
mod canvas; // pixels and text over any backend
mod html; // tables
mod layout; // measures, headlines, keys
mod palette;
mod scale; // from values to pixels

#[cfg(test)]
mod tests;

pub use picture::{Error, Format, Picture};
pub use render::render;
pub use save::write;

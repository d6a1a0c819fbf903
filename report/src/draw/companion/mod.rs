//! The picture of a companion's findings.

mod chart; // all of it

// Its panels.
mod bars;
mod height; // how much room one gets
mod histogram;
mod stacked;
mod timeline;

mod tables; // its numbers, for the page

#[cfg(test)]
mod tests;

pub(super) use chart::draw;
pub(super) use tables::tables;

//! Everything about a run that needs neither root nor Linux: the data model, the breakdown of a
//! probe into segments, statistics, and the formats they are shown in.

pub mod analysis;
pub mod companion;
pub mod draw;
pub mod format;
pub mod model;
pub mod printable;
pub mod units;

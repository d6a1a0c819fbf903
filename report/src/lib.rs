//! Everything about a run that needs neither root nor Linux: the data model, the breakdown of a
//! probe into segments, statistics, and the formats they are shown in.

pub mod blame;
pub mod breakdown;
pub mod causes;
pub mod clock;
pub mod companion;
pub mod confidence;
pub mod confusion;
pub mod diff;
pub mod draw;
pub mod glossary;
pub mod headline;
pub mod hops;
pub mod iofsstat;
pub mod jitter;
pub mod json;
pub mod loss;
pub mod memleak;
pub mod model;
mod names;
pub mod printable;
pub mod quantile;
pub mod saved;
pub mod send_error;
pub mod series;
pub mod slo;
pub mod slowest;
mod spans;
pub mod stats;
pub mod style;
pub mod text;
pub mod units;
pub mod usual;
pub mod verdict;

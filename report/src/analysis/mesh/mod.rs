//! Which host is slow, or loses probes, for all its peers: from what many hosts measured of each other.
//!
//! The 99th percentiles are a table with a row for each client and a column for each server. Their
//! logarithms are divided into a level, an effect of each row, an effect of each column, and residuals
//! ([`polish`], Tukey's median polish): an effect is what a host has in common with all its peers, and
//! as medians are taken one bad host does not make its peers look bad. A host is named where an effect
//! is larger than chance and than those of the other hosts ([`slow`]); loss is judged by counts
//! ([`lossy`]). The table alone cannot tell a host from its link: that say the owners of its slow
//! probes ([`judge()`]), which also know the direction.

mod build; // a mesh from what was measured
mod table; // rows and columns of a mesh

// What stands out.
mod lossy; // hosts that lose probes
mod polish; // level, effects and residuals
mod slow; // hosts that are slow

// What is said of it.
mod finding; // the answer
mod judge; // who it is, host or link
mod order; // which host is shown where
mod words; // in sentences

pub use build::{Builder, Measured};
pub use finding::{Answer, Direct, Effect, Finding, Part, Problem, Standing, Subject, Unknown};
pub use judge::{Matrix, judge};
pub use words::{answer, missing, thresholds};
pub(crate) use words::{percent, times};

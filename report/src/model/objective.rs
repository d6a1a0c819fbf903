//! What became of a run's objectives.

use std::fmt;

use crate::units::duration;

/// A measured value, or the limit for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Nanoseconds.
    Ns(f64),
    /// Percent of the probes sent.
    Percent(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ns(ns) => f.write_str(&duration(ns.round() as u64)),
            Self::Percent(percent) => write!(f, "{percent:.4} %"),
        }
    }
}

/// What became of an objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The objective, as it was written.
    pub objective: String,
    /// Absent if no probe had it.
    pub measured: Option<Value>,
    /// Whether it was met.
    pub met: bool,
}

/// `p99(total)<500us: 210 us`, or `... : not measured`.
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.objective)?;
        match self.measured {
            Some(value) => value.fmt(f),
            None => f.write_str("not measured"),
        }
    }
}

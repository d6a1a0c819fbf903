//! A run as JSON, one object a line, written and read. The schema is
//! `schema/pingtrace.schema.json`, and a test holds the two together.
//!
//! Times are integer nanoseconds; a missing value is absent. Wall-clock times are RFC 3339 in UTC
//! with microseconds, so that a probe read back has its send time to the microsecond.

mod read;
mod write;

// A line each.
mod doctor;
mod hops;
mod probe;
mod run;
mod short; // of many probes
mod stat;

// What they have in common.
mod error; // why a line cannot be read
mod hdr; // histograms
mod value; // names, times, places, distributions

pub use doctor::doctor_line;
pub use error::{Error, VERSION};
pub(crate) use hdr::Hdr;
pub use probe::ProbeRead;
pub use read::{Line, parse_line, target_of};
pub(crate) use read::{is_probe, is_shape};
pub use run::Part;
pub(crate) use short::is_short;
pub use short::{Shape, Shapes, Short, Shorts};
pub(crate) use write::to_string;
pub use write::{
    NoCapture, cost_line, hops_line, interval_line, no_capture_line, of_target, probe_line,
    run_line, stat_line,
};

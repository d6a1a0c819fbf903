//! The formats that a run is written in, and read from.

pub mod csv; // a row a probe, for spreadsheets and notebooks
pub mod doctor; // what was found on a host, for people
mod flow_table; // a part of the text
pub mod glossary; // what the names in the results mean
pub mod json; // one object a line
pub mod mesh; // hosts that probe each other
pub mod metrics; // for Prometheus
pub mod perfetto; // a trace with a track for each CPU
mod places; // columns of namespaces and devices
pub mod prometheus; // what Prometheus answers
pub mod saved; // a run read back
pub mod style; // within which width, and whether with colours
pub mod target_table; // a part of the text, at its end
pub mod text; // for people
mod way_table; // a part of the text

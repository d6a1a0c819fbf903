//! The kernel: loads, attaches and reads the BPF objects, and finds out what is needed for that.

pub mod confine;
pub mod drops;
pub(crate) mod ethtool;
pub mod features;
pub mod host;
pub mod ids;
pub mod lab_clock;
pub mod map;
pub mod meter;
pub mod object;
pub mod places;
pub mod privileges;
pub mod process;
pub mod recorder;
pub mod sampling;
pub mod symbols;
pub mod table;
pub mod targets;
pub mod thread;
pub(crate) mod tracer;
pub(crate) mod tunnels;

//! Everything about a run that needs neither root nor Linux, in the order of the flow. Each room
//! imports only those above it.

// The ground.
pub mod printable; // text that may reach a terminal
pub mod units; // durations, sizes and shares for people

pub mod model; // plain data: point, segment, stamp, probe, run

pub mod analysis; // what it says

pub mod format; // text, JSON, saved runs

pub mod companion; // what the companions compute and show

pub mod draw; // pictures

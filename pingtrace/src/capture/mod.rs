//! A run's results as they come, from a live client or a saved run.

pub mod collector;
pub mod explain;
pub mod moved;
pub mod outage;
mod published;

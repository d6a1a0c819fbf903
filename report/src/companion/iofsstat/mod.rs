//! What iofsstat computes and shows.

pub mod diskstats; // the counters of devices, and rates from them
pub mod mounts; // what a file is called

mod conservation; // whether the rows account for what the devices did
pub mod select; // which rows are worth showing

pub mod rows; // of text and JSON

pub use conservation::{Bytes, Conservation, Reading};

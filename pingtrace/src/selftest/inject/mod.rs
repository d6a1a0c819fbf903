//! Faults of a known place and size: what the tool says is compared with what was done.

pub mod burn;
pub mod forwarder;
pub mod load;
pub mod worker;

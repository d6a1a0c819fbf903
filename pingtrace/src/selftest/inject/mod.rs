//! Faults of a known place and size, with which the self-test compares what was named.

pub mod burn;
pub mod forwarder;
pub mod load;
pub mod worker;

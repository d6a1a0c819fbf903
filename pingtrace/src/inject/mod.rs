//! Faults of a known place and size, for the self-test and the tests: what the tool says is
//! compared with what was done.

pub mod burn;
pub mod forwarder;
pub mod holders;
pub mod load;
pub mod quota;
pub mod stall;
pub mod victim;

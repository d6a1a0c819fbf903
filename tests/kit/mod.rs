//! What the tests are made with.

pub mod attacker;
pub mod crowd;
pub mod harness;
pub mod hold;
pub mod holders;
pub mod quota;
pub mod stall;
pub mod stranger;
pub mod topology;
pub mod v0peer;
pub mod victim;

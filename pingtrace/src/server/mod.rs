//! The server: its programs do the work in the kernel. User space attaches them to devices as
//! these come and go, and sends stamp packets to clients that cannot be stamped in band.

mod args;
mod arming;
mod clients;
mod devices;
pub mod inband;
mod keys;
mod limits;
mod names;
mod published;
mod refused;
mod reports;
mod run;
mod slot;
mod stamp_sender;

pub use args::{Args, Own};
pub use run::{arrival_filters, run};

//! The server: its programs do the work in the kernel. User space attaches them to devices as
//! these come and go, and sends record packets to clients that cannot be stamped in band.

mod devices;
mod inband;
mod records;
mod reports;
pub mod run;

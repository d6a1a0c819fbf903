//! What joins the program to the kernel: the objects with the programs that run there, and what
//! has to be known of the kernel to load them and to read what they saw.

pub mod drops;
pub mod host;
pub mod lab_clock;
pub mod meter;
pub mod process;
pub mod recorder;
pub mod symbols;
pub mod table;
pub mod thread;
pub(crate) mod tracer;

//! The program: command line, client, server, and what joins them to the kernel programs.

pub mod cli;
pub mod client;
mod collector;
pub mod diff;
mod drops;
mod host;
mod inband;
mod journey;
pub mod lab_clock;
mod meter;
mod names;
mod negotiation;
mod output;
pub mod packet;
mod plan;
mod printer;
mod reports;
mod rotate;
pub mod run;
pub mod schedule;
mod sender;
mod server;
pub mod socket;
mod table;
mod timestamps;
mod tracer;
pub mod units;

//! The program, in the order in which a probe passes through it.

pub mod cli;
pub mod run;

pub mod client;
pub mod server;

pub mod kernel;
pub mod wire;

pub mod capture;
pub mod output;

pub mod saved;

pub mod diag;
pub mod doctor;
pub mod selftest;

pub mod control;
pub mod exit;
pub mod options;
pub mod units;
pub mod yaml;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

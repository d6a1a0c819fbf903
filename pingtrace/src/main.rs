//! pingtrace: says which segment made a probe slow, how sure that is, and whose it is.

use clap::Parser;
use pingtrace::{cli::Cli, run::run};
use std::process::ExitCode;

fn main() -> ExitCode {
    run(&Cli::parse())
}

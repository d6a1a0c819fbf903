//! pingtrace: says which segment made a probe slow, how sure that is, and whose it is.

use pingtrace::{cli::Cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::from_args() {
        Ok(cli) => run::run(&cli),
        Err(e) => run::failure(&e),
    }
}

//! A laboratory that stays, to play with: `lab up NAME`, `lab down NAME`; `scripts/lab.sh` runs it.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::{env, mem};

use netns::Lab;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [command, name] if command == "up" => up(name),
        [command, name] if command == "down" => down(name),
        _ => Err("usage: lab up|down NAME".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("lab: {message}");
            ExitCode::FAILURE
        }
    }
}

fn up(name: &str) -> Result<(), String> {
    let lab = Lab::named(name).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{name} is there already; scripts/lab.sh down {name} removes it")
        }
        _ => error.to_string(),
    })?;
    println!("ip netns exec {name}-server pingtrace -s");
    println!("ip netns exec {name}-client pingtrace -c {}", lab.server.v4);
    // Dropping it would remove the names.
    mem::forget(lab);
    Ok(())
}

fn down(name: &str) -> Result<(), String> {
    let removed = Lab::remove_named(name).map_err(|error| error.to_string());
    removed.map(drop)
}

//! Fails when files of a crate import each other in a circle, or when the program's top level has
//! more rooms, or more imports between them, than its floor plan allows. `scripts/check.sh` runs it.

mod circles;
mod house;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use house::{House, Imports};

const CRATES: [&str; 4] = ["bpf", "netns", "report", "pingtrace"];
/// The crate whose top level has a limit.
const PROGRAM: &str = "pingtrace";
const MAX_ROOMS: usize = 22;
const MAX_IMPORTS: usize = 90;

fn main() -> Result<ExitCode> {
    let mut passed = true;
    for name in CRATES {
        passed &= check(name)?;
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what a crate's imports are like; false: not as they are to be.
fn check(name: &str) -> Result<bool> {
    let src = format!("{name}/src");
    let house = House::build(&format!("{src}/lib.rs"), |path| {
        fs::read_to_string(path).ok()
    })?;
    let imports = house.imports();
    let circles = circles::circles(&imports);
    let files = house.files().len();
    let (rooms, between) = (rooms(&src)?, between_rooms(&src, &imports));
    println!(
        "{name}: {files} files, {} imports between them, {} circles; {rooms} files and folders at \
         the top, {between} imports between them",
        imports.len(),
        circles.len(),
    );
    for circle in &circles {
        println!("  a circle of {} files:", circle.len());
        print_circle(&imports, circle);
    }
    let too_many = name == PROGRAM && (rooms > MAX_ROOMS || between > MAX_IMPORTS);
    if too_many {
        println!("  more than {MAX_ROOMS} files and folders, or {MAX_IMPORTS} imports, at the top");
    }
    Ok(circles.is_empty() && !too_many)
}

fn print_circle(imports: &Imports, circle: &BTreeSet<&str>) {
    for ((from, to), names) in imports {
        if circle.contains(from.as_str()) && circle.contains(to.as_str()) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            println!("    {from} -> {to}: {}", names.join(", "));
        }
    }
}

/// How many files and folders there are in a directory.
fn rooms(src: &str) -> Result<usize> {
    let entries = fs::read_dir(src).with_context(|| format!("list {src}"))?;
    Ok(entries.count())
}

/// How many pairs there are of files and folders at the top of which one imports from the other;
/// the roots of the crate are the doors, not rooms.
fn between_rooms(src: &str, imports: &Imports) -> usize {
    let room = |file: &str| {
        let inside = file.strip_prefix(src)?.strip_prefix('/')?;
        let room = inside.split('/').next()?.trim_end_matches(".rs");
        (room != "lib" && room != "main").then(|| room.to_owned())
    };
    let pair = |(from, to): &(String, String)| Some((room(from)?, room(to)?));
    let pairs = imports.keys().filter_map(pair);
    let pairs: BTreeSet<_> = pairs.filter(|(from, to)| from != to).collect();
    pairs.len()
}

//! `pingtrace diff A B`: what changed between two saved runs.

use crate::output::printer;
use crate::output::screen::Screen;
use crate::saved::files::{self, SavedFile, statistics_beside};
use crate::units;
use anyhow::{Context, Result};
use clap::ValueEnum;
use report::analysis::confidence::MinEffect;
use report::analysis::diff::Diff;
use report::format::saved::Probes;
use report::model::Saved;
use std::path::{Path, PathBuf};

/// Compare two saved runs: which segments moved, by how much, and how sure that is
///
/// A and B are the output of `-o json`, or log files: FILE.stat, or FILE.seq for the FILE.stat beside it,
/// each with its rotated files, also compressed with gzip or zstd. The percentiles of all probes are
/// compared, not only of recorded ones. A segment moved if it changed by more than a repetition of the
/// run would (judged by how each run varied in its course) and by at least --min-effect. Of several
/// runs in a file the last one counts. Exit status: 0 whatever moved; 1 if a file could not be read.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The run before
    #[arg(value_name = "A")]
    before: PathBuf,

    /// The run after
    #[arg(value_name = "B")]
    after: PathBuf,

    /// Of runs with several targets, the one of this name
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// The smallest change that matters: a percentage of the value of A, a time, or both (then both
    /// must be reached)
    #[arg(long, value_name = "PERCENT,TIME", default_value = "10%,1us", value_parser = min_effect)]
    min_effect: MinEffect,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A sentence and a table
    Text,
    /// A JSON line
    Json,
}

/// `10%`, `5us`, or `10%,5us`.
pub(crate) fn min_effect(text: &str) -> Result<MinEffect, String> {
    let mut min = MinEffect {
        percent: 0.0,
        ns: 0,
    };
    for part in text.split(',').map(str::trim) {
        if let Some(number) = part.strip_suffix('%') {
            let percent = number.trim().parse().ok();
            let percent = percent.filter(|percent| (0.0..=1e6).contains(percent));
            min.percent = percent.ok_or_else(|| format!("'{part}' is no percentage, e.g. 10%"))?;
        } else if part.ends_with(|c: char| c.is_ascii_alphabetic()) {
            min.ns = units::microseconds(part)?.as_nanos() as u64;
        } else {
            return Err(format!(
                "'{part}' is neither a percentage nor a time with its unit, e.g. 10%,1us"
            ));
        }
    }
    Ok(min)
}

/// Opens the files of both runs. Nothing is parsed yet.
pub fn open(args: &Args) -> Result<[Vec<SavedFile>; 2]> {
    Ok([files(&args.before)?, files(&args.after)?])
}

/// Compares, and writes to stdout.
pub fn run(args: &Args, runs: &[Vec<SavedFile>; 2]) -> Result<()> {
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    let target = args.target.as_deref();
    let (a, b) = (read(&runs[0], target)?, read(&runs[1], target)?);
    let diff = Diff::new((&names[0], &a), (&names[1], &b), args.min_effect);
    let result = match args.output {
        Output::Text => Screen::Stdout.style().render(&diff.text()),
        Output::Json => diff.json() + "\n",
    };
    printer::to_stdout(&result)
}

/// The files of a run, of which the last one names it.
fn files(path: &Path) -> Result<Vec<SavedFile>> {
    let beside = statistics_beside(path);
    files::open(beside.as_deref().unwrap_or(path))
}

fn read(files: &[SavedFile], target: Option<&str>) -> Result<Saved> {
    let mut scan = files::scan(files, target, Probes::First)?;
    if !scan.has_spreads() {
        scan = files::scan(files, target, Probes::All)?;
    }
    let reading = || files.last().map_or_else(String::new, SavedFile::reading);
    Saved::try_from(scan).with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smallest_effect_is_a_part_a_time_or_both() {
        for (text, percent, ns) in [
            ("10%,1us", 10.0, 1_000),
            ("1us, 10 %", 10.0, 1_000),
            ("2.5%", 2.5, 0),
            ("3 ms", 0.0, 3_000_000),
            ("0%", 0.0, 0),
        ] {
            assert_eq!(min_effect(text), Ok(MinEffect { percent, ns }), "{text}");
        }
        for wrong in [
            "",
            "10",
            "ten%",
            "-1%",
            "inf%",
            "nan%",
            "10%,",
            "5 parsecs",
            "us",
        ] {
            assert!(min_effect(wrong).is_err(), "{wrong}");
        }
    }
}

//! `pingtrace diff A B`: what changed between two saved runs.

use crate::printer;
use anyhow::{Context, Result};
use clap::ValueEnum;
use report::diff::Diff;
use report::saved::{self, Saved};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Compare two saved runs: which segments moved, by how much, and how sure that is
///
/// A and B are what `-o json` wrote, or log files: FILE.stat, or FILE.seq for the FILE.stat beside
/// it. Percentiles of all probes are compared, not of the recorded ones alone. Of several
/// runs in one file the last counts. Exit status: 0 whatever moved; 1 a file could not be read.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The run to compare with
    #[arg(value_name = "A")]
    before: PathBuf,

    /// The run that is compared
    #[arg(value_name = "B")]
    after: PathBuf,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A sentence, and a table
    Text,
    /// A JSON line
    Json,
}

/// Compares, and writes to stdout.
pub fn run(args: &Args) -> Result<()> {
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    let (a, b) = (read(&args.before)?, read(&args.after)?);
    let diff = Diff::new((&names[0], &a), (&names[1], &b));
    let result = match args.output {
        Output::Text => diff.text(),
        Output::Json => diff.json() + "\n",
    };
    printer::to_stdout(&result)
}

/// The file with the statistics of a log of which this one has the records: FILE.stat of FILE.seq.
pub fn statistics_beside(path: &Path) -> Option<PathBuf> {
    let records = path.extension().is_some_and(|extension| extension == "seq");
    records.then(|| path.with_extension("stat"))
}

fn read(path: &Path) -> Result<Saved> {
    let beside = statistics_beside(path);
    let path = beside.as_deref().unwrap_or(path);
    let file =
        File::open(path).with_context(|| format!("open the saved run {}", path.display()))?;
    saved::read(BufReader::new(file))
        .with_context(|| format!("read the saved run {}", path.display()))
}

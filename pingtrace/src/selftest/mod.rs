//! `pingtrace selftest`: whether pingtrace names the right segment on this machine.
//!
//! For each setup it builds a laboratory of two hosts, gives the server a clock of its own, probes it from
//! the client, and injects one known fault at a time into each segment. Then it compares the segment named for
//! each probe with the fault. Faults are some milliseconds long, so that a machine's noise rarely decides; where
//! it did too often, they are injected again.

mod faults;
pub mod inject;
mod laboratory;
mod outcome;
mod plan;
mod stage;

use crate::control::Control;
use crate::kernel::confine::{Mode, confine};
use crate::kernel::privileges;
use crate::output::files;
use crate::output::printer;
use crate::output::story;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use faults::Fault;
use laboratory::Laboratory;
use outcome::{Seen, probes};
use plan::{Pass, Row};
use report::analysis::confusion::{Matrix, Setup, Trial};
use report::model::Segment;
use stage::{Cpus, Stage};
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Inject known faults and check that the right segment is named on this machine
///
/// Builds two hosts in network namespaces of its own and probes one from the other: over a cable;
/// with --explain, for interrupts that are off; and over an overlay (a VXLAN, and a bridge between
/// the hosts). Nothing of the system's network is touched, and nothing is left behind. Needs root.
/// Takes half a minute, on a busy machine up to three. Exit status: 0 if each segment is named in at
/// least 95 % of its trials and a wrong host never; 1 if not, if the machine is too busy to tell, or
/// if the test could not run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Number of probes that each fault is to hit while nothing else disturbs them
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Save the client's run over the cable to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table and a sentence
    Text,
    /// A JSON line
    Json,
}

/// Smallest fault that counts, ns.
const THRESHOLD_NS: u64 = 1_000_000;
/// For so long faults are injected again in a setup.
const AGAIN: Duration = Duration::from_secs(40);

/// Runs the self-test and writes the matrix to stdout.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    privileges::SELFTEST.check("selftest")?;
    let save = args.save.as_ref().map(|path| {
        files::create(path).with_context(|| format!("save the run to {}", path.display()))
    });
    let save = save.transpose()?;
    confine(Mode::Selftest, &[], &[])?;
    let mut matrix = Matrix::new(THRESHOLD_NS);
    let cpus = Cpus::find()?;
    let mut try_out = |setup| fill(&mut matrix, setup, args.trials, (cpus, control));
    let over_the_cable = try_out(Setup::Cable)?;
    try_out(Setup::Explained)?;
    try_out(Setup::Overlay)?;
    story::progress(String::new());
    if let Some(mut file) = save {
        let saved = file.write_all(over_the_cable.as_bytes());
        saved.context("save the run (--save)")?;
    }
    print(&matrix, args.output)
}

/// Adds the rows of one setup. Returns what the client wrote.
fn fill(
    matrix: &mut Matrix,
    setup: Setup,
    wanted: u32,
    (cpus, control): (Cpus, &Control),
) -> Result<String> {
    log::info!("selftest: two hosts, {}", setup.description());
    let laboratory = match Laboratory::build(setup) {
        // What it needs besides is in the cable's as well.
        Err(why) if setup == Setup::Overlay => {
            let segments = plan::rows(setup).iter().filter_map(|(segment, _)| *segment);
            segments.for_each(|segment| matrix.omit(setup, segment, format!("{why:#}")));
            return Ok(String::new());
        }
        built => built.context("build a laboratory: needs root")?,
    };
    let mut storage = MaybeUninit::uninit();
    let stage = Stage::build(&mut storage, setup, laboratory, cpus, control)?;
    let mut rows = plan::rows(setup).to_vec();
    rows.retain(
        |(segment, means)| match means.is_missing(stage.cpus.other) {
            Some(why) => {
                let segment = segment.iter();
                segment.for_each(|segment| matrix.omit(setup, *segment, why));
                false
            }
            None => true,
        },
    );
    let (faults, written, probes) = try_rows(stage, setup, &rows, wanted)?;
    for (segment, _) in rows {
        matrix.add_row(setup, segment, wanted);
        let trials = trials(setup, segment, &faults, &probes);
        trials.for_each(|trial| matrix.count(&trial));
    }
    Ok(written)
}

/// Injects the faults of these rows, and again where something else disturbed too many. Returns them, what
/// the client wrote, and the probes in it.
fn try_rows(
    mut stage: Stage<'_>,
    setup: Setup,
    rows: &[Row],
    wanted: u32,
) -> Result<(Vec<Fault>, String, Vec<Seen>)> {
    let begin = Instant::now();
    let mut faults = Vec::new();
    let mut left = rows.to_vec();
    while !left.is_empty() && begin.elapsed() < AGAIN {
        let pass = Pass::new(&left, wanted, stage.next_sequence());
        faults.extend(faults::inject(&mut stage, &pass)?);
        let probes = stage.probes()?;
        left.retain(|(segment, _)| {
            let trials = trials(setup, *segment, &faults, &probes);
            let judged = trials.filter(|trial| !trial.is_disturbed(THRESHOLD_NS));
            judged.count() < wanted as usize
        });
    }
    let (written, wire) = stage.finish()?;
    let probes = probes(&written, &wire)?;
    Ok((faults, written, probes))
}

fn print(matrix: &Matrix, output: Output) -> Result<()> {
    let result = match output {
        Output::Text => matrix.text(),
        Output::Json => matrix.json() + "\n",
    };
    printer::to_stdout(&result)?;
    match matrix.failures().len() {
        0 => Ok(()),
        rows => bail!("selftest failed in {rows} rows"),
    }
}

/// The probes that the faults of a row hit, without those whose total is too short for it.
fn trials<'p>(
    setup: Setup,
    injected: Option<Segment>,
    faults: &'p [Fault],
    probes: &'p [Seen],
) -> impl Iterator<Item = Trial> + 'p {
    let usual_ns = probes.iter().map(|seen| seen.response_ns).min();
    let usual_ns = usual_ns.unwrap_or(0);
    let its = move |fault: &&Fault| fault.segment == injected;
    let hit = move |fault: &'p Fault| {
        probes.iter().filter_map(move |seen| {
            let injected_ns = fault.injected_ns(seen)?;
            let trial = Trial {
                setup,
                injected,
                injected_ns,
                excess_ns: seen.response_ns - usual_ns,
                verdict: seen.result.verdict,
            };
            (trial.excess_ns >= injected_ns / 2).then_some(trial)
        })
    };
    faults.iter().filter(its).flat_map(hit)
}

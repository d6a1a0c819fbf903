//! `pingtrace selftest`: whether pingtrace names the right segment on this machine.
//!
//! For each topology it builds a laboratory of two hosts, gives the server a clock of its own, probes it from
//! the client, and injects one known fault at a time into each segment. Then it compares the segment named for
//! each probe with the fault. Faults are some milliseconds long, so that a machine's noise rarely decides.

mod faults;
pub mod inject;
mod laboratory;
mod outcome;
mod plan;
mod stage;

use crate::control::Control;
use crate::kernel::privileges;
use crate::output::files;
use crate::output::printer;
use crate::output::story;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use faults::Fault;
use outcome::{Seen, probes};
use plan::Test;
use report::analysis::confusion::{Matrix, Topology, Trial};
use stage::Stage;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::path::PathBuf;

/// Inject known faults and check that the right segment is named on this machine
///
/// Builds two hosts in network namespaces of its own and probes one from the other: first over a
/// cable, then over an overlay (a VXLAN, and a bridge between the hosts). Nothing of the system's
/// network is touched, and nothing is left behind. Needs root. Takes less than two minutes. Exit
/// status: 0 if each segment is named in at least 95 % of its trials and a wrong host never; 1 if
/// not, if the machine is too busy to tell, or if the test could not run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Number of probes that each fault hits
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

/// Runs the self-test and writes the matrix to stdout.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    privileges::SELFTEST.check("selftest")?;
    let save = args.save.as_ref().map(|path| {
        files::create(path).with_context(|| format!("save the run to {}", path.display()))
    });
    let save = save.transpose()?;
    let mut matrix = Matrix::new(THRESHOLD_NS);
    let mut try_out = |topology| {
        let trials = args.trials;
        fill(&mut matrix, Test { topology, trials }, control)
    };
    let written = try_out(Topology::Cable)?;
    try_out(Topology::Overlay)?;
    story::progress(String::new());
    if let Some(mut file) = save {
        let saved = file.write_all(written.as_bytes());
        saved.context("save the run (--save)")?;
    }
    print(&matrix, args.output)
}

/// Adds the rows of one topology. Returns what the client wrote.
fn fill(matrix: &mut Matrix, test: Test, control: &Control) -> Result<String> {
    let mut storage = MaybeUninit::uninit();
    let mut stage = Stage::build(&mut storage, test, control)?;
    let (faults, omitted) = faults::inject(&mut stage)?;
    let (written, wire) = stage.finish()?;
    let probes = probes(&written, &wire)?;
    for fault in &faults {
        matrix.add_row(test.topology, fault.segment, test.trials);
        let trials = trials(test.topology, fault, &probes).take(test.trials as usize);
        trials.for_each(|trial| matrix.count(&trial));
    }
    for (segment, why) in omitted {
        matrix.omit(segment, why);
    }
    Ok(written)
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

/// The probes that a fault hit, without those whose total is too short for it.
fn trials<'p>(
    topology: Topology,
    fault: &'p Fault,
    probes: &'p [Seen],
) -> impl Iterator<Item = Trial> + 'p {
    let usual_ns = probes
        .iter()
        .map(|seen| seen.response_ns)
        .min()
        .unwrap_or(0);
    probes.iter().filter_map(move |seen| {
        let injected_ns = fault.injected_ns(seen)?;
        let trial = Trial {
            topology,
            injected: fault.segment,
            injected_ns,
            excess_ns: seen.response_ns - usual_ns,
            verdict: seen.result.verdict,
        };
        (trial.excess_ns >= injected_ns / 2).then_some(trial)
    })
}

//! `pingtrace doctor`: what this host can do, and why not.
//!
//! Each file looks at one group of things: it reads them into plain data, and a pure function makes findings of
//! that. Hooks are not looked up but tried: programs are loaded, attached and run over the loopback of a
//! network namespace of their own, and the kernel counts what they take. Nothing is changed, and nothing
//! is left behind.

mod attached;
mod clock;
mod devices;
mod icmp;
mod kernel;
mod programs;
mod reading;
mod rights;
mod roles;
mod surroundings;
mod trial;

use crate::diag::trial::COMPANIONS;
use crate::kernel::{host, privileges};
use crate::output::printer;
use crate::output::screen::Screen;
use crate::units::realtime_ns;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use report::format::{doctor, json};
use report::model::{Check, Finding, Hook, HostReport, Level};
use roles::Role;
use rustix::thread::CapabilitySet;
use std::fmt::Display;
use std::time::Duration;

/// So long each companion runs.
const LOOK: Duration = Duration::from_millis(200);

/// Say what this host can do, what not, why, and what would help
///
/// Looks at the kernel, capabilities, clocks, ICMP settings, devices with other people's programs, tunnels
/// and namespaces; tries each hook of client, server and companions, and measures what it takes with 200
/// probes over the loopback of a network namespace of its own; each companion runs for 0.2 s. Takes about three seconds, changes
/// nothing and leaves nothing behind. As an ordinary user it says what it could not look at.
///
/// ns/run is the mean of all runs meanwhile, also for packets that are no probes, with the kernel's accounting itself.
/// A companion's hooks are measured with what the host does just then.
///
/// FAULT: a role cannot run here, or is not answered. WARNING: something is measured less well. note: good
/// to know, or unknown. Exit status: 0 no fault (there may be warnings), 1 a fault, or the report could not be
/// written, 2 wrong usage.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Who is to run on this host: what the other one lacks is not reported
    #[arg(long, value_enum, default_value_t = Role::Both)]
    role: Role,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The worst first, then each hook with its cost
    Text,
    /// A JSON line
    Json,
}

/// Looks at this host and writes the report to stdout; an error if there is a fault.
pub fn run(args: &Args) -> Result<()> {
    let report = examine(args.role);
    let text = match args.output {
        Output::Text => Screen::Stdout.style().render(&doctor::text(&report)),
        Output::Json => json::doctor_line(&report) + "\n",
    };
    printer::to_stdout(&text)?;
    let faults = report.of_level(Level::Fault).len();
    ensure!(faults == 0, "doctor: faults found: {faults}");
    Ok(())
}

fn examine(role: Role) -> HostReport {
    let held = privileges::held().unwrap_or(CapabilitySet::empty());
    let kernel = kernel::Kernel::read(held);
    let clocks = clock::Clocks::read();
    let mut findings = kernel.findings();
    findings.extend(rights::findings(&privileges::uses(held)));
    findings.extend(clocks.findings());
    findings.extend(icmp::Icmp::read().findings(role));
    findings.extend(known(
        Check::Qdisc,
        devices::read().map(|devices| devices::findings(&devices)),
    ));
    let surroundings = surroundings::Surroundings::read(held.contains(CapabilitySet::SYS_PTRACE));
    findings.extend(known(
        Check::Namespaces,
        surroundings.map(|here| here.findings()),
    ));

    // Kept until the companions have run, too.
    let counting = trial::count();
    let mut hooks = Vec::new();
    let mut probes = None;
    match trial::run(&counting) {
        Ok(trial) => {
            findings.extend(roles::findings(&trial, role));
            hooks = roles::hooks(&trial, role, clocks.reading);
            probes = trial.probes;
        }
        Err(e) => findings.push(Finding::fault(Check::Client, format!("{e:#}"))),
    }
    companions(&mut findings, &mut hooks);
    if counting.is_err() {
        // Somebody else may have let the kernel count for a part of the time.
        let of_programs = hooks.iter_mut().filter(|hook| hook.program.is_some());
        of_programs.for_each(|hook| hook.cost = None);
    }
    HostReport {
        host: host::name(),
        kernel: kernel.release,
        time_unix_ns: realtime_ns(),
        probes,
        findings,
        hooks,
    }
}

/// What was found, or that it is unknown.
fn known(check: Check, findings: Result<Vec<Finding>, impl Display>) -> Vec<Finding> {
    findings.unwrap_or_else(|why| vec![Finding::unknown(check, why)])
}

fn companions(findings: &mut Vec<Finding>, hooks: &mut Vec<Hook>) {
    for (companion, try_out) in COMPANIONS {
        let tried = privileges::OBJECT.check("it").and_then(|()| try_out(LOOK));
        let found = match tried {
            Ok(tried) => {
                hooks.extend(tried.hooks);
                notes(tried.missing)
            }
            Err(e) => {
                let why = netns::without_numbers(&format!("{e:#}"));
                let cannot = Finding::warning(Check::Companion, format!("cannot run: {why}"));
                vec![cannot.remedy(roles::ROOT)]
            }
        };
        let found = found.into_iter();
        findings.extend(found.map(|finding| finding.of(companion.name())));
    }
}

/// Of a companion that runs without this.
fn notes(missing: Vec<String>) -> Vec<Finding> {
    if missing.is_empty() {
        return vec![Finding::ok(Check::Companion, "can run")];
    }
    let note = |what| Finding::note(Check::Companion, what);
    missing.into_iter().map(note).collect()
}

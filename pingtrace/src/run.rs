//! From a parsed command line to an exit status.

use crate::cli::{Cli, Command};
use crate::client::{self, Outcome};
use crate::collector::Collector;
use crate::control::Control;
use crate::diag::{iofsstat, irqoff, memleak, nosched, runqlat};
use crate::output::Source;
use crate::plan::{Plan, Usage};
use crate::units::Time;
use crate::{diff, printer, replay, schedule, selftest, server, terminal};
use anyhow::{Context, Result};
use flexi_logger::{DeferredNow, LogSpecification, Logger};
use libbpf_rs::PrintLevel;
use log::{LevelFilter, Record};
use report::glossary;
use std::io::Write;
use std::process::ExitCode;

/// Exit status when the run failed.
const FAILED: u8 = 1;
/// Exit status when the command line makes no sense.
const USAGE: u8 = 2;
/// Exit status when no probe was answered.
const UNANSWERED: u8 = 3;

/// Exit status when an objective was missed.
const MISSED: u8 = 4;

/// Does what the command line asks for.
pub fn run(cli: &Cli) -> ExitCode {
    if cli.utc {
        terminal::use_utc();
    }
    cli.color.choose();
    let logger = start_logger(cli.debug());
    let result = logger.and_then(|_handle| match &cli.command {
        Some(Command::Diff(args)) => diff::run(args).map(|()| Outcome::Answered),
        Some(Command::Iofsstat(args)) => iofsstat::run(args).map(|()| Outcome::Answered),
        Some(Command::Irqoff(args)) => companion(|control| irqoff::run(args, control)),
        Some(Command::Memleak(args)) => companion(|control| memleak::run(args, control)),
        Some(Command::Nosched(args)) => companion(|control| nosched::run(args, control)),
        Some(Command::Replay(args)) => replay::run(args),
        Some(Command::Segments) => {
            printer::to_stdout(&terminal::Output::Stdout.style().render(&glossary::text()))
                .map(|()| Outcome::Answered)
        }
        Some(Command::Runqlat(args)) => companion(|control| runqlat::run(args, control)),
        Some(Command::Selftest(args)) => selftest::run(args).map(|()| Outcome::Answered),
        None if cli.server => server::run(cli).map(|()| Outcome::Answered),
        None => client(cli),
    });
    match result {
        Ok(Outcome::Answered) => ExitCode::SUCCESS,
        Ok(Outcome::Unanswered) => {
            log::error!("no probe was answered");
            ExitCode::from(UNANSWERED)
        }
        Ok(Outcome::Missed) => ExitCode::from(MISSED),
        Err(e) => failure(&e),
    }
}

/// Says why nothing came of it; the exit status for that.
pub fn failure(e: &anyhow::Error) -> ExitCode {
    eprintln!("pingtrace: {}", netns::without_numbers(&format!("{e:#}")));
    ExitCode::from(if e.is::<Usage>() { USAGE } else { FAILED })
}

/// A companion, until a signal ends it.
fn companion(run: impl FnOnce(&Control) -> Result<()>) -> Result<Outcome> {
    run(&Control::by_signals()?).map(|()| Outcome::Answered)
}

fn client(cli: &Cli) -> Result<Outcome> {
    let control = Control::by_signals()?;
    match &cli.schedule {
        Some(cron) => schedule::run(cli, cron, &control, || capture(cli, &control)),
        None => capture(cli, &control),
    }
}

/// One run; whatever way it ends, its statistics are written.
fn capture(cli: &Cli, control: &Control) -> Result<Outcome> {
    let plan = Plan::new(cli)?;
    let mut collector = Collector::new(&cli.results, plan.describe(), Source::Live)?;
    let outcome = client::run(cli, &plan, control, &mut collector);
    let written = collector.finish(Time::now(), |summary| summary);
    Ok(outcome?.judged(&written?))
}

/// The story: stderr, one logger, libbpf's lines in it.
fn start_logger(debug: bool) -> Result<flexi_logger::LoggerHandle> {
    let level = if debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    libbpf_rs::set_print(Some((
        if debug {
            PrintLevel::Debug
        } else {
            PrintLevel::Warn
        },
        from_libbpf,
    )));
    Logger::with(LogSpecification::builder().default(level).build())
        .log_to_stderr()
        .format(line)
        .start()
        .context("start the logger")
}

fn line(out: &mut dyn Write, _now: &mut DeferredNow, record: &Record<'_>) -> std::io::Result<()> {
    let message = netns::without_numbers(&record.args().to_string());
    match record.level() {
        log::Level::Info => write!(out, "pingtrace: {message}"),
        level => {
            let level = level.as_str().to_ascii_lowercase();
            write!(out, "pingtrace: {level}: {message}")
        }
    }
}

/// A trial that fails is expected, so libbpf's own words are for --debug only.
#[expect(
    clippy::needless_pass_by_value,
    reason = "libbpf-rs asks for this signature"
)]
fn from_libbpf(_level: PrintLevel, message: String) {
    log::debug!("libbpf: {}", message.trim_end());
}

//! From a parsed command line to an exit status.

use crate::cli::{Cli, Command};
use crate::client::schedule;
use crate::client::{self, Args};
use crate::control::{Control, Hangup};
use crate::exit::{FAILED, MISSED, Outcome, UNANSWERED, USAGE, Usage};
use crate::kernel::confine::{self, Mode};
use crate::options::Origin;
use crate::output::metrics::{Board, Metrics};
use crate::output::printer;
use crate::output::screen::Screen;
use crate::output::story;
use crate::saved::{diff, replay};
use crate::server;
use crate::units;
use crate::{doctor, selftest};
use anyhow::Result;
use libbpf_rs::PrintLevel;
use log::LevelFilter;
use report::format::glossary;
use report::printable::printable_lines;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

/// Does what the command line asks for.
pub fn run(cli: &Cli) -> ExitCode {
    if cli.utc {
        units::use_utc();
    }
    cli.color.choose();
    allow_descriptors();
    let result = confine::begin()
        .and_then(|()| start_story(cli.debug()))
        .and_then(|()| dispatch(cli));
    let status = match result {
        Ok(Outcome::Answered) => 0,
        Ok(Outcome::Unanswered) => {
            log::error!("no probe was answered");
            UNANSWERED
        }
        Ok(Outcome::Missed) => MISSED,
        Err(e) => {
            story::print(complaint(&e));
            if e.is::<Usage>() { USAGE } else { FAILED }
        }
    };
    // Where no line can be written, the status is all that can tell it.
    match story::finish() {
        0 => ExitCode::from(status),
        lost => {
            story::print(format!(
                "pingtrace: {lost} lines could not be written to stderr"
            ));
            story::finish();
            ExitCode::from(if status == USAGE { USAGE } else { FAILED })
        }
    }
}

/// Programs, maps, links and timers of each CPU are descriptors, so as many are allowed as can be.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Who may not change it keeps what there is.
    let _ = setrlimit(Resource::Nofile, all);
}

/// Says what is wrong with the command line, or what clap has to say: help and version on stdout.
/// Gives the exit status for that.
pub fn failure(e: &anyhow::Error) -> ExitCode {
    let Some(said) = e.downcast_ref::<clap::Error>() else {
        // The status tells it, too.
        let _ = writeln!(Screen::Stderr, "{}", complaint(e));
        return ExitCode::from(if e.is::<Usage>() { USAGE } else { FAILED });
    };
    let status = said.exit_code() as u8;
    let reader_left = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    let lost = said.print().is_err_and(|e| !reader_left(&e));
    ExitCode::from(if lost && status == 0 { FAILED } else { status })
}

fn complaint(e: &anyhow::Error) -> String {
    let message = netns::without_numbers(&format!("{e:#}"));
    let remedy = if message.to_lowercase().contains("too many open files") {
        "; allow more of them (ulimit -Hn, LimitNOFILE= of a unit): 256, and 16 for each CPU, are enough"
    } else {
        ""
    };
    format!("pingtrace: {}{remedy}", printable_lines(&message))
}

fn dispatch(cli: &Cli) -> Result<Outcome> {
    match &cli.command {
        Some(Command::Diff(args)) => {
            let runs = diff::open(args)?;
            confine::confine(Mode::Saved, &[], &[])?;
            diff::run(args, &runs).map(|()| Outcome::Answered)
        }
        Some(Command::Doctor(args)) => doctor::run(args).map(|()| Outcome::Answered),
        Some(Command::Companion(companion)) => {
            until_signal(companion.has_log(), |control| companion.run(control))
        }
        Some(Command::Replay(args)) => {
            let files = replay::OpenFiles::new(args)?;
            confine::confine(Mode::Saved, &files.written, &[])?;
            replay::run(args, files)
        }
        Some(Command::Segments) => {
            printer::to_stdout(&Screen::Stdout.style().render(&glossary::text()))
                .map(|()| Outcome::Answered)
        }
        Some(Command::Selftest(args)) => {
            until_signal(false, |control| selftest::run(args, control))
        }
        None => {
            let metrics = Metrics::start(&cli.metrics)?;
            let board = metrics.as_ref().map(Metrics::board);
            let outcome = if cli.server {
                let args = cli.to_serve();
                until_signal(args.key_file.is_some(), |control| {
                    server::run(&args, control, board)
                })
            } else {
                client(&cli.args, board)
            };
            let written = metrics.map_or(Ok(()), Metrics::finish);
            outcome.and_then(|outcome| written.map(|()| outcome))
        }
    }
}

/// What has no outcome but its end, until a signal.
fn until_signal(has_files: bool, run: impl FnOnce(&Control) -> Result<()>) -> Result<Outcome> {
    let control = Control::by_signals(Hangup::of_files(has_files))?;
    run(&control).map(|()| Outcome::Answered)
}

fn client(args: &Args, board: Option<&Arc<Board>>) -> Result<Outcome> {
    let scheduled = args.schedule.is_some();
    let has_log = args.results.output.log(Origin::LiveRun).is_some();
    let rereads = has_log || scheduled || args.targets.is_some();
    let control = Control::by_signals(Hangup::of_files(rereads))?;
    // All captures of a schedule are of one target.
    let only = board.filter(|_| scheduled).map(Board::target);
    let place = || only.clone().or_else(|| board.map(Board::target));
    let capture = |args: &Args| client::run(args, &control, &place);
    match &args.schedule {
        Some(cron) => schedule::run(args, cron, &control, capture),
        None => capture(args),
    }
}

/// The story: stderr, one logger, libbpf's lines in it.
fn start_story(debug: bool) -> Result<()> {
    let (level, libbpf) = if debug {
        (LevelFilter::Debug, PrintLevel::Debug)
    } else {
        (LevelFilter::Info, PrintLevel::Warn)
    };
    libbpf_rs::set_print(Some((libbpf, from_libbpf)));
    story::start(level)
}

/// A trial that fails is expected, so libbpf's own words are for --debug only.
#[expect(
    clippy::needless_pass_by_value,
    reason = "libbpf-rs asks for this signature"
)]
fn from_libbpf(_level: PrintLevel, message: String) {
    log::debug!("libbpf: {}", message.trim_end());
}

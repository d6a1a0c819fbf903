//! From a parsed command line to an exit status.

use crate::cli::{Agent, Cli, Command, to_serve};
use crate::client::schedule;
use crate::client::{self, Args};
use crate::control::{Control, Hangup, Service};
use crate::exit::{FAILED, MISSED, Outcome, UNANSWERED, USAGE, Usage};
use crate::kernel::confine::{self, Mode, OtherFailed};
use crate::options::Origin;
use crate::output::live;
use crate::output::metrics::{self, Board, Metrics};
use crate::output::printer;
use crate::output::screen::Screen;
use crate::output::story;
use crate::saved::{diff, mesh, replay};
use crate::server;
use crate::units;
use crate::{doctor, selftest};
use anyhow::{Context, Result, anyhow};
use libbpf_rs::PrintLevel;
use log::LevelFilter;
use report::format::glossary;
use report::printable::printable_lines;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

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
    live::give_back();
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
        Some(Command::Mesh(args)) => {
            let opened = mesh::Opened::new(args)?;
            confine::confine(Mode::Saved, &opened.written(), &[])?;
            mesh::run(args, &opened).map(|()| Outcome::Answered)
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
        Some(Command::Agent(args)) => with_metrics(&args.metrics, |board| agent(args, board)),
        None => with_metrics(&cli.metrics, |board| {
            if cli.server {
                let args = to_serve(&cli.args, &cli.serving);
                return until_signal(args.key_file.is_some(), |control| {
                    server::run(&args, control, board)
                });
            }
            let hangup = Hangup::of_files(rereads(&cli.args));
            let control = Control::by_signals(hangup, &Service::from_env())?;
            client(&cli.args, &control, board)
        }),
    }
}

/// What has no outcome but its end, until a signal.
fn until_signal(has_files: bool, run: impl FnOnce(&Control) -> Result<()>) -> Result<Outcome> {
    let control = Control::by_signals(Hangup::of_files(has_files), &Service::from_env())?;
    run(&control).map(|()| Outcome::Answered)
}

/// What runs has a board if metrics are wanted.
fn with_metrics(
    args: &metrics::Args,
    run: impl FnOnce(Option<&Arc<Board>>) -> Result<Outcome>,
) -> Result<Outcome> {
    let metrics = Metrics::start(args)?;
    let outcome = run(metrics.as_ref().map(Metrics::board));
    let written = metrics.map_or(Ok(()), Metrics::finish);
    outcome.and_then(|outcome| written.map(|()| outcome))
}

/// Whether a client has files that it reads or opens again.
fn rereads(args: &Args) -> bool {
    let has_log = args.results.output.log(Origin::LiveRun).is_some();
    has_log || args.schedule.is_some() || args.targets.is_some()
}

fn client(args: &Args, control: &Control, board: Option<&Arc<Board>>) -> Result<Outcome> {
    // All captures of a schedule are of one target.
    let only = board.filter(|_| args.schedule.is_some()).map(Board::target);
    let place = || only.clone().or_else(|| board.map(Board::target));
    let capture = |args: &Args| client::run(args, control, &place);
    match &args.schedule {
        Some(cron) => schedule::run(args, cron, control, capture),
        None => capture(args),
    }
}

/// A server and a client, each with its thread: signals, metrics, the story and what they are confined to are one.
fn agent(agent: &Agent, board: Option<&Arc<Board>>) -> Result<Outcome> {
    let (args, serving) = (&agent.args, agent.to_serve()?);
    let has_files = rereads(args) || args.key_file.is_some() || agent.metrics.web_config.is_some();
    let hangup = Hangup::of_files(has_files);
    let service = Service::from_env();
    let control = || Control::by_signals(hangup, &service);
    let controls = [control()?, control()?];
    let serve = |control: &Control| {
        let _about = story::about(&"server".into());
        server::run(&serving, control, board)
    };
    confine::expect_two_parts();
    beside(&controls, serve, |control| client(args, control, board))
}

/// Runs both; when one has ended, however that is, the other one is ended, too.
fn beside(
    [serving, probing]: &[Control; 2],
    serve: impl FnOnce(&Control) -> Result<()> + Send,
    probe: impl FnOnce(&Control) -> Result<Outcome>,
) -> Result<Outcome> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("server".into());
        let thread = thread.spawn_scoped(scope, || part("server", probing, || serve(serving)));
        let thread = thread.context("start the thread of the server")?;
        let probed = part("client", serving, || probe(probing));
        let served = thread.join().map_err(|_| anyhow!("the server panicked"))?;
        match (served, probed) {
            (Ok(()), probed) => probed,
            (Err(e), Err(other)) if e.is::<OtherFailed>() => Err(other),
            (Err(e), probed) => {
                if let Some(other) = probed.err().filter(|other| !other.is::<OtherFailed>()) {
                    log::error!("{other:#}");
                }
                Err(e.context("the server failed"))
            }
        }
    })
}

/// Runs a part of an agent, and ends the other one.
fn part<T>(name: &str, other: &Control, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = catch_unwind(AssertUnwindSafe(run));
    other.end();
    confine::end_part();
    result.unwrap_or_else(|_| Err(anyhow!("the {name} panicked")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    /// What becomes of an agent whose parts end like this.
    fn outcome(
        serve: impl FnOnce(&Control) -> Result<()> + Send,
        probe: impl FnOnce(&Control) -> Result<Outcome>,
    ) -> std::result::Result<Outcome, String> {
        let controls = [Control::default(), Control::default()];
        beside(&controls, serve, probe).map_err(|e| format!("{e:#}"))
    }

    /// When it has ended.
    fn after<T>(control: &Control, result: T) -> Result<T> {
        let mut wake = control.wake()?;
        wake.set_nonblocking(false)?;
        if !control.stopped() {
            io::Read::read_exact(&mut wake, &mut [0])?;
        }
        assert!(control.stopped());
        Ok(result)
    }

    #[test]
    fn when_one_part_of_an_agent_ends_the_other_does() {
        let serve = |control: &Control| after(control, ());
        let probe = |control: &Control| after(control, Outcome::Unanswered);
        assert_eq!(outcome(serve, |_| Ok(Outcome::Missed)), Ok(Outcome::Missed));
        assert_eq!(outcome(|_| Ok(()), probe), Ok(Outcome::Unanswered));
        let failed = outcome(|_| bail!("no maps"), probe).unwrap_err();
        assert_eq!(failed, "the server failed: no maps");
        assert_eq!(
            outcome(serve, |_| bail!("no route")).unwrap_err(),
            "no route"
        );
        let panicked = outcome(|_| panic!("as is tested"), probe).unwrap_err();
        assert_eq!(panicked, "the server failed: the server panicked");
        let panicked = outcome(serve, |_| panic!("as is tested")).unwrap_err();
        assert_eq!(panicked, "the client panicked");
        // What one part could not do because of the other is not what went wrong.
        let both = outcome(|_| bail!("no maps"), |_| Err(OtherFailed.into()));
        assert_eq!(both.unwrap_err(), "the server failed: no maps");
        let both = outcome(|_| Err(OtherFailed.into()), |_| bail!("no route"));
        assert_eq!(both.unwrap_err(), "no route");
    }
}

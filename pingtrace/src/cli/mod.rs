//! The command line. Help texts are the doc comments.

pub(crate) mod config; // options from a file

use crate::diag::Companion;
use crate::exit::Usage;
use crate::options::heading;
use crate::output::metrics;
use crate::output::screen::Color;
use crate::saved::{diff, mesh, replay};
use crate::{client, doctor, selftest, server};
use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgGroup, CommandFactory, Parser, Subcommand};
use config::{Config, Typed};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  Probe web1 for a minute, record what takes 1 ms or longer:
    pingtrace -c web1 -i 10ms -t 60 -m 1ms
  Say who had the CPU while a probe was slow, and draw a picture at the end:
    pingtrace -c web1 -i 10ms -t 60 --explain -o text,image
  Exit with 4 if an objective was missed:
    pingtrace -c web1 -i 10ms -t 60 --slo 'p99(total)<500us,loss<0.1%'

'pingtrace segments' explains every segment, stamp and mark.";

/// Says which segment made a probe slow (client, wire out, server or wire in) and which stage there.
///
/// Run `pingtrace -s` on one host and `pingtrace -c HOST` on another. Probes are ordinary ICMP
/// echo requests, answered by the server's kernel; both ends stamp them at every stage of the stack.
/// Without a pingtrace server at the other end, the client's stages remain, and both wires and
/// the server are one segment (remote).
///
/// Exit status: 0 ok; 1 the run failed or results were lost; 2 wrong usage; 3 no probe was
/// answered; 4 an objective (--slo) was missed.
#[derive(Clone, Debug, Parser)]
#[command(name = "pingtrace", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group = ArgGroup::new("role").required(true).args(["server", "client", "targets"]))]
#[command(group = ArgGroup::new("probes").args(["client", "targets"]))]
pub struct Cli {
    /// A subcommand, instead of a client or a server.
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub args: client::Args,

    /// Take options from this file (TOML): `interval = "10ms"`, those of a subcommand in a table, `[irqoff]`.
    /// An option of the command line replaces that of the file; --no-NAME leaves it out
    #[arg(long, value_name = "FILE", global = true, help_heading = heading::FILE)]
    pub config: Option<PathBuf>,

    /// Colour the names of owners and segments in text: client blue, receiver teal, wire out
    /// orange, wire in yellow, server red
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto, global = true, help_heading = heading::OUTPUT)]
    pub color: Color,

    /// Times and schedules in UTC, not in local time
    #[arg(long, global = true, help_heading = heading::OUTPUT)]
    pub utc: bool,

    /// Stamp the probes of any number of clients; -t, -I, --explain, --nslocal, --userid,
    /// --stat-interval (list whom it serves, as SIGUSR1 does at once) and --debug apply too
    #[arg(short, long, help_heading = heading::SERVER, conflicts_with_all = [
        "output", "log", "logsize", "logbackup", "image", "slo", "namespace",
    ])]
    pub server: bool,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub serving: server::Own,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub metrics: metrics::Args,
}

/// A server and a client in one process: stamps the probes of others, and probes others
///
/// The options are those of `pingtrace -s` and `pingtrace -c`. One that both have is given once, for
/// both: --key-file, --metrics, --explain, --nslocal, --userid, --tunnel, -I, --stat-interval, --debug.
/// -o, --log and -m say what becomes of the agent's own probes. It ends when its client does (-C, -t),
/// and when either fails; its exit status is the client's, or 1.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("probed").required(true).args(["client", "targets"]))]
#[command(group = ArgGroup::new("server"), group = ArgGroup::new("probes"))]
#[command(mut_args = hide_schedule)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Agent {
    #[command(flatten)]
    pub args: client::Args,

    #[command(flatten)]
    pub serving: server::Own,

    #[command(flatten)]
    pub metrics: metrics::Args,
}

/// What is neither a client nor a server alone.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "the arguments of each say what it does")]
pub enum Command {
    Agent(Box<Agent>),
    #[command(flatten)]
    Companion(Companion),
    Diff(diff::Args),
    Doctor(doctor::Args),
    Mesh(mesh::Args),
    #[command(visible_alias = "report")]
    Replay(replay::Args),
    /// Explain every segment, point and mark that the results name
    Segments,
    Selftest(selftest::Args),
}

/// An agent has no schedule: it is there all the time.
fn hide_schedule(arg: Arg) -> Arg {
    let is_hidden = matches!(arg.get_id().as_str(), "schedule" | "keep") || arg.is_hide_set();
    arg.hide(is_hidden)
}

/// What to say where a server is asked for and a client, or a client with what a server alone has.
fn both_roles(error: &clap::Error) -> Option<String> {
    let words = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| error.get(kind));
    let words: Vec<&str> = words
        .into_iter()
        .flatten()
        .flat_map(|value| match value {
            ContextValue::String(word) => vec![word.as_str()],
            ContextValue::Strings(words) => words.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        })
        .collect();
    let has = |option: &str| words.iter().any(|word| word.starts_with(option));
    if has("--server") && (has("--client") || has("--targets")) {
        return Some(
            "--server and --client (--targets) in one process are an agent: \
             pingtrace agent -c HOST, without -s"
                .to_owned(),
        );
    }
    // Where a group is in conflict, clap names all of its options.
    let server_alone = words
        .first()
        .filter(|_| has("--client") && has("--targets"))?;
    let is_one = !server_alone.starts_with("--client") && !server_alone.starts_with("--targets");
    is_one.then(|| {
        format!(
            "{server_alone} is of a server (-s) or an agent, and cannot be used with --client or --targets"
        )
    })
}

/// What to say where a word that stands alone is probably the host: `pingtrace HOST`,
/// `pingtrace -c 5 HOST`.
fn misplaced_host<S: AsRef<str>>(error: &clap::Error, args: &[S]) -> Option<String> {
    let mut kinds = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].into_iter();
    let word = kinds.find_map(|kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word),
        _ => None,
    })?;
    let is_misplaced = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict
    );
    let commands = Cli::command();
    let is_command = |name: &str| name == "help" || commands.find_subcommand(name).is_some();
    let command = args.get(1)?.as_ref();
    if is_misplaced && command == "doctor" && !word.starts_with('-') {
        return Some(format!(
            "'{word}' stands alone: doctor looks at the host that it runs on, so run it on {word}"
        ));
    }
    let in_subcommand = is_command(command);
    if !is_misplaced || in_subcommand || is_command(word) || word.starts_with('-') {
        return None;
    }
    let mut options = args.windows(2);
    let host = options.find(|pair| matches!(pair[0].as_ref(), "-c" | "--client"));
    Some(match host.map(|pair| pair[1].as_ref()) {
        Some(count) if count.parse::<u32>().is_ok() => format!(
            "'{word}' stands alone: -c names the host, -C the number of probes: \
             pingtrace -c {word} -C {count}"
        ),
        Some(host) => {
            format!("'{word}' stands alone: name each host with -c: pingtrace -c {host} -c {word}")
        }
        None => format!(
            "'{word}' is no subcommand{}; to probe a host, name it with -c: pingtrace -c {word}",
            suggestion(error)
        ),
    })
}

fn suggestion(error: &clap::Error) -> String {
    match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(name)) => format!(" (is '{name}' meant?)"),
        Some(ContextValue::Strings(names)) => format!(" (is '{}' meant?)", names.join("' or '")),
        _ => String::new(),
    }
}

/// How to serve: by the options that a client has too, and those of a server alone.
pub fn to_serve(both: &client::Args, own: &server::Own) -> server::Args {
    server::Args {
        time: both.time,
        interface: both.interface.clone(),
        tunnel: both.tunnel.clone(),
        explain: both.explain,
        nslocal: both.nslocal,
        userid: both.userid,
        linger: own.linger,
        stat_interval: both.results.stat_interval,
        key_file: both.key_file.clone(),
        access: own.access.clone(),
        debug: both.debug,
        lab_clock: own.lab_clock,
    }
}

impl Agent {
    /// How its server serves: as long as its client runs.
    pub fn to_serve(&self) -> Result<server::Args> {
        if self.args.schedule.is_some() {
            let why = "an agent is there all the time: --schedule is for pingtrace -c alone";
            return Err(Usage(why.to_owned()).into());
        }
        Ok(server::Args {
            time: None,
            ..to_serve(&self.args, &self.serving)
        })
    }
}

impl Cli {
    /// The parsed command line, with the file that it names; else what is wrong and what helps, in one line
    /// where that is known. Help and version are errors of clap's, too.
    pub fn from_args() -> Result<Self> {
        let words: Vec<_> = std::env::args_os().collect();
        let (left, _) = config::withdrawn(&Self::command(), &words);
        let typed = Typed::new(Self::command(), &left);
        match typed.as_ref().and_then(Typed::file) {
            Some(file) => Self::parse_with(&words, &Config::read(&file)?),
            None => Self::parse_words(&left, |_| None),
        }
    }

    /// These words, of which the first is the name of the program, with what they leave to a file.
    pub(crate) fn parse_with(words: &[OsString], file: &Config) -> Result<Self> {
        let mut command = Self::command();
        let (words, withdrawn) = config::withdrawn(&command, words);
        let Some(typed) = Typed::new(command.clone(), &words) else {
            return Self::parse_words(&words, |_| None);
        };
        command.build();
        let given = file.options(&command, &typed.subcommands)?;
        let words = Config::complete(&words, &typed, &given, &withdrawn);
        Self::parse_words(&words, |error| file.located(error, &given))
    }

    /// These words alone; `locate`: what is wrong may come from a file.
    fn parse_words(
        args: &[OsString],
        locate: impl Fn(&clap::Error) -> Option<Usage>,
    ) -> Result<Self> {
        Self::try_parse_from(args).map_err(|error| {
            let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
            if let Some(found) = locate(&error) {
                return found.into();
            }
            match both_roles(&error).or_else(|| misplaced_host(&error, &args)) {
                Some(remedy) => Usage(remedy).into(),
                None => error.into(),
            }
        })
    }

    /// Whether libbpf's messages are wanted.
    pub fn debug(&self) -> bool {
        match &self.command {
            Some(Command::Companion(companion)) => companion.debug(),
            Some(Command::Agent(agent)) => agent.args.debug,
            Some(
                Command::Diff(_)
                | Command::Doctor(_)
                | Command::Mesh(_)
                | Command::Replay(_)
                | Command::Segments
                | Command::Selftest(_),
            )
            | None => self.args.debug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_stands_under_a_heading() {
        let command = Cli::command();
        let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
        for arg in visible {
            assert!(arg.get_help_heading().is_some(), "{}", arg.get_id());
        }
    }

    #[test]
    fn one_meaning_has_one_long_name_in_all_subcommands() {
        let mut command = Cli::command();
        command.build();
        let all = |command: &clap::Command, name: &str| {
            let mut options = command.get_arguments();
            options.any(|arg| arg.get_long() == Some(name))
        };
        for (name, subcommands) in [
            ("threshold", &["irqoff", "nosched", "runqlat", "replay"][..]),
            (
                "time",
                &["irqoff", "nosched", "runqlat", "memleak", "iofsstat"],
            ),
            ("interval", &["runqlat", "iofsstat"]),
            (
                "log",
                &[
                    "irqoff", "nosched", "runqlat", "memleak", "iofsstat", "replay",
                ],
            ),
        ] {
            assert!(all(&command, name), "--{name}");
            for subcommand in subcommands {
                let found = command.find_subcommand(subcommand).unwrap();
                assert!(all(found, name), "{subcommand} --{name}");
            }
        }
    }

    #[test]
    fn former_names_still_work() {
        for line in [
            "pingtrace -c h --maxdelay 1ms",
            "pingtrace replay f --maxdelay 1ms",
            "pingtrace memleak --interval 10",
            "pingtrace iofsstat --cycle 1 --timeout 5",
        ] {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn a_host_that_stands_alone_is_told_where_it_belongs() {
        let said = |line: &str| {
            let args: Vec<_> = line.split_whitespace().collect();
            let error = Cli::try_parse_from(&args).expect_err(line);
            misplaced_host(&error, &args)
        };
        for (line, remedy) in [
            ("pingtrace web1", "pingtrace -c web1"),
            ("pingtrace -i 1s web1", "pingtrace -c web1"),
            ("pingtrace -c 5 web1", "pingtrace -c web1 -C 5"),
            ("pingtrace -c web1 web2", "pingtrace -c web1 -c web2"),
            ("pingtrace replya", "is 'replay' meant?"),
            ("pingtrace doctor web1", "so run it on web1"),
        ] {
            let said = said(line).unwrap_or_else(|| panic!("{line}: no message"));
            assert!(said.contains(remedy), "{line}: {said}");
        }
        for line in [
            "pingtrace --none",
            "pingtrace replay a b",
            "pingtrace doctor --fix",
            "pingtrace -c web1 -t x",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }
}

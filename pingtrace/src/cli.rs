//! The command line. Help texts are the doc comments.

use crate::client::plan::{DEFAULT_SIZE, Usage};
use crate::client::schedule;
use crate::diag::{iofsstat, irqoff, memleak, nosched, runqlat};
use crate::kernel::lab_clock::LabClock;
use crate::output::terminal::Color;
use crate::{diff, replay, selftest, units};
use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgGroup, CommandFactory, Parser, Subcommand, ValueEnum};
use croner::Cron;
use report::draw;
use report::slo::Objectives;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Heading of the options that say what is written where, in the help of each subcommand.
pub const OUTPUT: &str = heading::OUTPUT;

/// Headings of the help, in the order of the help.
mod heading {
    pub(super) const PROBE: &str = "What to probe";
    pub(super) const SPAN: &str = "How often and how long";
    pub(super) const RECORD: &str = "What to record";
    pub(super) const OUTPUT: &str = "Output";
    pub(super) const DIAGNOSIS: &str = "Diagnosis";
    pub(super) const ADDRESSING: &str = "Addressing";
    pub(super) const SERVER: &str = "Server";
}

const EXAMPLES: &str = "\
Examples:
  Probe web1 for a minute, record what takes 1 ms or longer:
    pingtrace -c web1 -i 10ms -t 60 -m 1ms
  Say who had the CPU while a probe was slow, and draw a picture at the end:
    pingtrace -c web1 -i 10ms -t 60 --explain -o text,image
  Exit with 4 if an objective was missed:
    pingtrace -c web1 -i 10ms -t 60 --slo 'p99(total)<500us,loss<0.1%'

'pingtrace segments' explains every segment, stamp and mark.";

/// Says which segment made a probe slow: client, wire out, server or wire in, and which stage there.
///
/// Run `pingtrace -s` on one host and `pingtrace -c HOST` on another. Probes are ordinary ICMP
/// echo requests, answered by the other host's kernel; both ends stamp them at every stage of the
/// stack. Without a server at the other end the client's stages and one remote segment remain.
///
/// Exit status: 0 ok; 1 the run failed or results were lost; 2 wrong usage; 3 no probe was
/// answered; 4 an objective (--slo) was missed.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Clone, Debug, Parser)]
#[command(name = "pingtrace", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group = ArgGroup::new("role").required(true).args(["server", "client"]))]
pub struct Cli {
    /// Something else than a client or a server.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Probe this host: a name, an IPv4 or an IPv6 address (with zone: `fe80::1%eth0`)
    #[arg(short, long, value_name = "HOST", help_heading = heading::PROBE)]
    pub client: Option<String>,

    /// ICMP message size, header included
    #[arg(
        short = 'b',
        long,
        value_name = "BYTES",
        default_value_t = DEFAULT_SIZE,
        allow_hyphen_values = true,
        value_parser = units::message_size,
        conflicts_with = "server",
        help_heading = heading::PROBE
    )]
    pub size: usize,

    /// How remote stamps come back
    #[arg(long, value_enum, default_value_t = Mode::Auto, conflicts_with = "server", help_heading = heading::PROBE)]
    pub mode: Mode,

    /// Stop after this many probes [default: endless]
    #[arg(short = 'C', long, value_name = "N", allow_hyphen_values = true, value_parser = units::count, conflicts_with = "server", help_heading = heading::SPAN)]
    pub count: Option<u32>,

    /// Time between probes, such as 10ms; a plain number is in us, and below 1 ms needs its unit
    #[arg(short, long, value_name = "T", default_value = "1s", allow_hyphen_values = true, value_parser = units::interval, conflicts_with = "server", help_heading = heading::SPAN)]
    pub interval: Duration,

    /// Send the next probe at each reply
    #[arg(short = 'A', long, conflicts_with_all = ["interval", "server"], help_heading = heading::SPAN)]
    pub adaptive: bool,

    /// Stop after this time; a plain number is in s [default: endless]
    #[arg(short = 't', long, value_name = "T", allow_hyphen_values = true, value_parser = units::run_time, help_heading = heading::SPAN)]
    pub time: Option<Duration>,

    /// A reply later than this counts as late; a plain number is in s
    #[arg(short = 'W', long, value_name = "T", default_value = "1s", allow_hyphen_values = true, value_parser = units::timeout, conflicts_with = "server", help_heading = heading::SPAN)]
    pub timeout: Duration,

    /// Start a capture of -t at each tick of a cron expression (local time), for ever
    #[arg(
        long,
        value_name = "CRON",
        value_parser = schedule::parse,
        requires = "time",
        conflicts_with = "server",
        help_heading = heading::SPAN
    )]
    pub schedule: Option<Cron>,

    /// Record only probes that take at least this long; a plain number is in us, 0 records all
    #[arg(short = 'm', long, visible_alias = "maxdelay", value_name = "T", default_value = "0", allow_hyphen_values = true, value_parser = units::microseconds, conflicts_with = "server", help_heading = heading::RECORD)]
    pub threshold: Duration,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub results: Results,

    /// Colour the names of owners and segments in text: client blue, receiver teal, wire out
    /// orange, wire in yellow, server red
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto, global = true, help_heading = heading::OUTPUT)]
    pub color: Color,

    /// Times and schedules in UTC, not in local time
    #[arg(long, global = true, help_heading = heading::OUTPUT)]
    pub utc: bool,

    /// Keep only this many of the schedule's pictures: the youngest whose names match --image
    #[arg(long, value_name = "N", requires = "schedule", value_parser = clap::value_parser!(u32).range(1..), help_heading = heading::OUTPUT)]
    pub keep: Option<u32>,

    /// Tell more, libbpf's messages too
    #[arg(long, help_heading = heading::OUTPUT)]
    pub debug: bool,

    /// Say who had the CPU while a slow segment of this host lasted, T or longer; a plain number
    /// is in us. With a server that has it too, also on its host
    #[arg(
        long,
        value_name = "T",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "200us",
        value_parser = units::microseconds,
        conflicts_with = "lab_clock",
        help_heading = heading::DIAGNOSIS
    )]
    pub explain: Option<Duration>,

    /// For laboratories: falsify the server's stamps by a known amount
    #[arg(long, value_name = "CLOCK", hide = true, conflicts_with = "client")]
    pub lab_clock: Option<LabClock>,

    /// Use IPv4 only for a name
    #[arg(short = '4', long, conflicts_with = "ipv6", conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub ipv4: bool,

    /// Use IPv6 only for a name
    #[arg(short = '6', long, conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub ipv6: bool,

    /// Client: send from this device. Server: stamp replies on these devices only
    #[arg(short = 'I', long, value_name = "DEV", value_delimiter = ',', help_heading = heading::ADDRESSING)]
    pub interface: Vec<String>,

    /// TOS or traffic-class byte (DSCP x 4), decimal or 0x..
    #[arg(short = 'Q', long, value_name = "TOS", allow_hyphen_values = true, value_parser = tos, conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub tos: Option<u8>,

    /// Stamp only in this host's own network namespace
    #[arg(long, help_heading = heading::ADDRESSING)]
    pub nslocal: bool,

    /// Host number in our stamps: a different one at each end makes one kernel count as two hosts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = heading::ADDRESSING)]
    pub userid: Option<u16>,

    /// Stamp the probes of any number of clients; -t, -I, --explain, --nslocal, --userid and
    /// --debug apply too
    #[arg(short, long, help_heading = heading::SERVER, conflicts_with_all = [
        "output", "log", "logsize", "logbackup", "image", "stat_interval", "slo", "namespace",
    ])]
    pub server: bool,
}

// What is made of the probes of a live run or of a saved one. A doc comment would be the help.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Results {
    /// What to write, several separated by commas; text and json go to stdout (text to stderr
    /// when both are asked for)
    #[arg(short, long, value_enum, value_delimiter = ',', default_value = "text", help_heading = heading::OUTPUT)]
    pub output: Vec<Output>,

    /// Log files: FILE.seq has a JSON line a recorded probe, FILE.stat the summaries
    #[arg(long, value_name = "FILE", default_value = "./pingtrace.log", help_heading = heading::OUTPUT)]
    pub log: PathBuf,

    /// Size at which a log file is rotated; K, M, G
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = units::bytes, help_heading = heading::OUTPUT)]
    pub logsize: u64,

    /// Rotated log files to keep
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = heading::OUTPUT)]
    pub logbackup: u32,

    /// Picture: .png, .svg or .html; strftime fields (%Y%m%d-%H%M) are filled in
    /// [default: ./pingtrace.png, with --schedule ./pingtrace-%Y%m%d-%H%M%S.png]
    #[arg(long, value_name = "FILE", value_parser = image, help_heading = heading::OUTPUT)]
    pub image: Option<PathBuf>,

    /// Summarise each interval of this length alone, and the run so far (that in the log only);
    /// a plain number is in s, 0 turns it off [default: 60s, in the log only]
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = units::seconds, help_heading = heading::OUTPUT)]
    pub stat_interval: Option<Duration>,

    /// Exit with 4 unless the run meets these objectives: `p99(total)<500us,loss<0.1%`
    ///
    /// Several are separated by commas, each METRIC<LIMIT or METRIC<=LIMIT. METRIC is min(..),
    /// mean(..), max(..) or a percentile such as p99.9(..) of `total` or of a segment by its name;
    /// jitter(out), jitter(in) or jitter(rtt); or loss, late or dup. LIMIT is a time in ns, us,
    /// ms or s, or a percentage of the probes sent. What no probe had counts as missed.
    #[arg(long, value_name = "OBJECTIVES", value_parser = str::parse::<Objectives>, help_heading = heading::DIAGNOSIS)]
    pub slo: Option<Objectives>,

    /// Show the hops by network namespace and device
    #[arg(short, long, help_heading = heading::DIAGNOSIS)]
    pub namespace: bool,
}

/// What is neither client nor server.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "the arguments of each say what it does")]
pub enum Command {
    Diff(diff::Args),
    Iofsstat(iofsstat::Args),
    Irqoff(irqoff::Args),
    Memleak(memleak::Args),
    Nosched(nosched::Args),
    Replay(replay::Args),
    Runqlat(runqlat::Args),
    /// Explain every segment, point and mark that the results name
    Segments,
    Selftest(selftest::Args),
}

/// How remote stamps come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The best that the other end can do; changes by itself and says so
    Auto,
    /// Local stages only
    Pingpong,
    /// In a record packet of their own
    Compact,
    /// In the echo reply itself
    Inband,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line a recorded probe, and a summary
    Text,
    /// JSON lines
    Json,
    /// Rotating log files
    Log,
    /// A picture at the end
    Image,
    /// Log and image
    Imagelog,
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
    let in_subcommand = is_command(args.get(1)?.as_ref());
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
        Some(host) => format!(
            "'{word}' stands alone: a run probes one host, here {host}; start another run for {word}"
        ),
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

fn tos(text: &str) -> Result<u8, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is not a byte, e.g. 0xb8 for DSCP EF"))
}

/// A file name that stands for a format of pictures.
pub fn image(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    draw::Format::from_path(&path).map_err(|e| e.to_string())?;
    Ok(path)
}

impl Results {
    /// Whether a kind of output is asked for.
    pub fn wants(&self, output: Output) -> bool {
        self.output.contains(&output)
            || (matches!(output, Output::Log | Output::Image)
                && self.output.contains(&Output::Imagelog))
    }

    /// The name of the picture, with its strftime fields.
    pub fn image(&self) -> &Path {
        self.image
            .as_deref()
            .unwrap_or(Path::new("./pingtrace.png"))
    }
}

impl Cli {
    /// The parsed command line; else what is wrong with it and what helps, in one line where that
    /// is known. Help and version are errors of clap's, too.
    pub fn from_args() -> Result<Self> {
        let args: Vec<_> = std::env::args_os().collect();
        Self::try_parse_from(&args).map_err(|error| {
            let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
            match misplaced_host(&error, &args) {
                Some(remedy) => Usage(remedy).into(),
                None => error.into(),
            }
        })
    }

    /// Whether libbpf's messages are wanted.
    pub fn debug(&self) -> bool {
        match &self.command {
            Some(Command::Iofsstat(args)) => args.debug(),
            Some(Command::Irqoff(args)) => args.debug(),
            Some(Command::Memleak(args)) => args.debug(),
            Some(Command::Nosched(args)) => args.debug(),
            Some(Command::Runqlat(args)) => args.debug(),
            Some(
                Command::Diff(_) | Command::Replay(_) | Command::Segments | Command::Selftest(_),
            )
            | None => self.debug,
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
            ("pingtrace -c web1 web2", "start another run for web2"),
            ("pingtrace replya", "is 'replay' meant?"),
        ] {
            let said = said(line).unwrap_or_else(|| panic!("{line}: not told"));
            assert!(said.contains(remedy), "{line}: {said}");
        }
        for line in [
            "pingtrace --none",
            "pingtrace replay a b",
            "pingtrace -c web1 -t x",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }
}

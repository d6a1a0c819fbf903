//! The command line. Help texts are the doc comments.

use crate::diag::{iofsstat, irqoff, memleak, nosched, runqlat};
use crate::lab_clock::LabClock;
use crate::{diff, replay, schedule, selftest, units};
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use croner::Cron;
use report::draw;
use report::slo::Objectives;
use std::path::PathBuf;
use std::time::Duration;

/// Says which segment made a probe slow: client, wire out, server or wire in, and which stage there.
///
/// Run `pingtrace -s` on one host and `pingtrace -c HOST` on another. Probes are ordinary ICMP
/// echo requests, answered by the other host's kernel; both ends stamp them at every stage of the
/// stack. Without a server at the other end the local stages and one remote segment remain.
///
/// Exit status: 0 ok; 1 the run failed; 2 wrong usage; 3 no probe was answered; 4 an
/// objective (--slo) was missed.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Clone, Debug, Parser)]
#[command(name = "pingtrace", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group = ArgGroup::new("role").required(true).args(["server", "client"]))]
pub struct Cli {
    /// Something else than a client or a server.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Stamp the probes of any number of clients
    #[arg(short, long, conflicts_with_all = [
        "output", "log", "logsize", "logbackup", "image", "stat_interval", "slo", "namespace",
    ])]
    pub server: bool,

    /// Probe this host: a name, an IPv4 or an IPv6 address (with zone: `fe80::1%eth0`)
    #[arg(short, long, value_name = "HOST")]
    pub client: Option<String>,

    /// Use IPv4 only for a name
    #[arg(short = '4', long, conflicts_with = "ipv6", conflicts_with = "server")]
    pub ipv4: bool,

    /// Use IPv6 only for a name
    #[arg(short = '6', long, conflicts_with = "server")]
    pub ipv6: bool,

    /// Stop after this many probes [default: endless]
    #[arg(short = 'C', long, value_name = "N", conflicts_with = "server", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,

    /// Time between probes; a plain number is in us
    #[arg(short, long, value_name = "T", default_value = "1s", value_parser = units::interval, conflicts_with = "server")]
    pub interval: Duration,

    /// Send the next probe at each reply
    #[arg(short = 'A', long, conflicts_with_all = ["interval", "server"])]
    pub adaptive: bool,

    /// Stop after this time; a plain number is in s
    #[arg(short = 't', long, value_name = "T", value_parser = units::seconds)]
    pub time: Option<Duration>,

    /// Record only probes that take at least this long; a plain number is in us, 0 records all
    #[arg(short, long, value_name = "T", default_value = "0", value_parser = units::microseconds, conflicts_with = "server")]
    pub maxdelay: Duration,

    /// ICMP message size, header included
    #[arg(
        short = 'b',
        long,
        value_name = "BYTES",
        default_value_t = 556,
        conflicts_with = "server"
    )]
    pub size: usize,

    /// How remote stamps come back
    #[arg(long, value_enum, default_value_t = Mode::Auto, conflicts_with = "server")]
    pub mode: Mode,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub results: Results,

    /// Start a capture of -t at each tick of a cron expression (local time), for ever
    #[arg(
        long,
        value_name = "CRON",
        value_parser = schedule::parse,
        requires = "time",
        conflicts_with = "server"
    )]
    pub schedule: Option<Cron>,

    /// Stamp only in this host's own network namespace
    #[arg(long)]
    pub nslocal: bool,

    /// Host number in our stamps: a different one at each end makes one kernel count as two hosts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub userid: Option<u16>,

    /// Say who had the CPU while a slow segment of this host lasted, T or longer; a plain number
    /// is in us. With a server that has it too, also on its host
    #[arg(
        long,
        value_name = "T",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "200us",
        value_parser = units::microseconds,
        conflicts_with = "lab_clock"
    )]
    pub explain: Option<Duration>,

    /// For laboratories: falsify the server's stamps by a known amount
    #[arg(long, value_name = "CLOCK", hide = true, conflicts_with = "client")]
    pub lab_clock: Option<LabClock>,

    /// Client: send from this device. Server: stamp replies on these devices only
    #[arg(short = 'I', long, value_name = "DEV", value_delimiter = ',')]
    pub interface: Vec<String>,

    /// TOS or traffic-class byte (DSCP x 4), decimal or 0x..
    #[arg(short = 'Q', long, value_name = "TOS", value_parser = tos, conflicts_with = "server")]
    pub tos: Option<u8>,

    /// A reply later than this counts as late; a plain number is in s
    #[arg(short = 'W', long, value_name = "T", default_value = "1s", value_parser = units::timeout, conflicts_with = "server")]
    pub timeout: Duration,

    /// Tell more, libbpf's messages too
    #[arg(long)]
    pub debug: bool,
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
    #[arg(short, long, value_enum, value_delimiter = ',', default_value = "text")]
    pub output: Vec<Output>,

    /// Log files: FILE.seq has a JSON line a recorded probe, FILE.stat the summaries
    #[arg(long, value_name = "FILE", default_value = "./pingtrace.log")]
    pub log: PathBuf,

    /// Size at which a log file is rotated; K, M, G
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = units::bytes)]
    pub logsize: u64,

    /// Rotated log files to keep
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub logbackup: u32,

    /// Picture: .png, .svg or .html; strftime fields (%Y%m%d-%H%M) are filled in
    #[arg(
        long,
        value_name = "FILE",
        default_value = "./pingtrace.png",
        value_parser = image
    )]
    pub image: PathBuf,

    /// Summarise each interval of this length alone, and the run so far (that in the log only);
    /// a plain number is in s, 0 turns it off [default: 60s, in the log only]
    #[arg(long, value_name = "T", value_parser = units::seconds)]
    pub stat_interval: Option<Duration>,

    /// Exit with 4 unless the run meets these objectives: `p99(total)<500us,loss<0.1%`
    ///
    /// Several are separated by commas, each METRIC<LIMIT or METRIC<=LIMIT. METRIC is min(..),
    /// mean(..), max(..) or a percentile such as p99.9(..) of `total` or of a segment by its name;
    /// jitter(out), jitter(in) or jitter(rtt); or loss, late or dup. LIMIT is a time in ns, us,
    /// ms or s, or a percentage of the probes sent. What no probe had counts as missed.
    #[arg(long, value_name = "OBJECTIVES", value_parser = str::parse::<Objectives>)]
    pub slo: Option<Objectives>,

    /// Show the hops by network namespace and device
    #[arg(short, long)]
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
}

impl Cli {
    /// Whether libbpf's messages are wanted.
    pub fn debug(&self) -> bool {
        match &self.command {
            Some(Command::Iofsstat(args)) => args.debug(),
            Some(Command::Irqoff(args)) => args.debug(),
            Some(Command::Memleak(args)) => args.debug(),
            Some(Command::Nosched(args)) => args.debug(),
            Some(Command::Runqlat(args)) => args.debug(),
            Some(Command::Diff(_) | Command::Replay(_) | Command::Selftest(_)) | None => self.debug,
        }
    }
}

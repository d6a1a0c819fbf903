//! The options of a run: what to probe, how often, and what to record.

use crate::options::{Results, heading};
use crate::units;
use crate::wire::entry::TRANSIT;
use crate::wire::key::KeyFile;
use crate::wire::stamp_return::StampReturn;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use croner::Cron;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Default message size, bytes. With an IP header of either version the packet stays within 552 bytes,
/// Linux' smallest path MTU: no path MTU cache, at either end, makes a probe or its reply fragment.
const DEFAULT_SIZE: usize = 512;

// A doc comment would be the help of the program.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Clone, Debug, clap::Args)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Args {
    /// Probe this host: a name, an IPv4 or an IPv6 address (with zone: `fe80::1%eth0`); several times for
    /// several hosts
    #[arg(short, long, value_name = "HOST", help_heading = heading::PROBE)]
    pub client: Vec<String>,

    /// Probe the hosts of this file: a list of Prometheus (`file_sd`, JSON or YAML), whose labels are kept;
    /// labels `__pingtrace_interval`, `_size`, `_dscp`, `_source`, `_family` say how. It is read again when it
    /// changes, and at SIGHUP
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client", "server", "schedule"], help_heading = heading::PROBE)]
    pub targets: Option<PathBuf>,

    /// Of a list that holds every node: probe only the N next neighbours of this host, by a hash of the names
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "server", help_heading = heading::PROBE)]
    pub ring: Option<u32>,

    /// Resolve the names of several hosts anew each time this has passed; each address is probed. A plain
    /// number is in s
    #[arg(long, value_name = "T", default_value = "30s", value_parser = units::run_time, conflicts_with = "server", help_heading = heading::PROBE)]
    pub resolve: Duration,

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

    /// How the server's stamps return
    #[arg(long, value_enum, default_value_t = Mode::Auto, conflicts_with = "server", help_heading = heading::PROBE)]
    pub mode: Mode,

    /// Stop after this many probes [default: endless]
    #[arg(short = 'C', long, value_name = "N", allow_hyphen_values = true, value_parser = units::count, conflicts_with = "server", help_heading = heading::SPAN)]
    pub count: Option<u32>,

    /// Time between probes, such as 10ms; a plain number is in us, but below 1 ms needs its unit
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

    /// Start a capture of length -t at each tick of a cron expression (local time), endlessly
    #[arg(
        long,
        value_name = "CRON",
        value_parser = cron,
        requires = "time",
        conflicts_with = "server",
        help_heading = heading::SPAN
    )]
    pub schedule: Option<Cron>,

    /// Record only probes whose response takes at least this long; a plain number is in us, 0
    /// records all
    #[arg(short = 'm', long, visible_alias = "maxdelay", value_name = "T", default_value = "0", allow_hyphen_values = true, value_parser = units::microseconds, conflicts_with = "server", help_heading = heading::RECORD)]
    pub threshold: Duration,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub results: Results,

    /// Show the run on the terminal as it goes: the path with the time of each segment, what was slow or lost,
    /// and several targets as a table, the worst first. The other outputs are written as ever; keys: ?
    #[arg(long, conflicts_with_all = ["server", "schedule"], help_heading = heading::OUTPUT)]
    pub live: bool,

    /// Keep only this many of the schedule's pictures: the newest whose names match --image
    #[arg(long, value_name = "N", requires = "schedule", value_parser = clap::value_parser!(u32).range(1..), help_heading = heading::OUTPUT)]
    pub keep: Option<u32>,

    /// Log more, including libbpf's messages
    #[arg(long, help_heading = heading::OUTPUT)]
    pub debug: bool,

    /// Say what had the CPU during slow segments of this host, of T or more; a plain number is in
    /// us. If the server runs with it too, also during its segments
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

    /// Resolve a name to IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub ipv4: bool,

    /// Resolve a name to IPv6 only
    #[arg(short = '6', long, conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub ipv6: bool,

    /// Client: send from this device. Server: stamp replies on these devices only
    #[arg(short = 'I', long, value_name = "DEV", value_delimiter = ',', help_heading = heading::ADDRESSING)]
    pub interface: Vec<String>,

    /// Look for probes in UDP packets to this port too: that of a tunnel that is no device of this host
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = heading::ADDRESSING)]
    pub tunnel: Vec<u16>,

    /// TOS or traffic-class byte (DSCP x 4), decimal or 0x..
    #[arg(short = 'Q', long, value_name = "TOS", allow_hyphen_values = true, value_parser = tos, conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub tos: Option<u8>,

    /// Spread the probes over N flows, which networks with several ways send different ways: each has an
    /// ICMP id and an IPv6 flow label of its own, and statistics of its own
    #[arg(long, value_name = "N", default_value_t = NonZeroU8::MIN, value_parser = units::flows, conflicts_with = "server", help_heading = heading::ADDRESSING)]
    pub flows: NonZeroU8,

    /// Stamp only in the network namespace of this process
    #[arg(long, help_heading = heading::ADDRESSING)]
    pub nslocal: bool,

    /// Keys that both ends have, one a line, of 32 hexadecimal digits: the first one is used, a second one is
    /// accepted. A server with keys gives its stamps, and all it knows, to those who have one, and nothing
    /// to others; it reads them again at SIGHUP
    #[arg(long, value_name = "FILE", value_parser = key_file, help_heading = heading::TRUST)]
    pub key_file: Option<KeyFile>,

    /// Host number in the stamps: different numbers at both ends make one kernel count as two hosts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..i64::from(TRANSIT)), help_heading = heading::ADDRESSING)]
    pub userid: Option<u16>,
}

/// How the server's stamps are to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The best way that the server supports; the run says so when it changes.
    Auto,
    /// This one.
    Only(StampReturn),
}

impl Mode {
    /// Its name in options and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(way) => way.into(),
        }
    }

    /// What the first probes ask for.
    pub const fn first(self) -> StampReturn {
        match self {
            Self::Auto => StampReturn::Inband,
            Self::Only(way) => way,
        }
    }
}

impl ValueEnum for Mode {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Auto,
            Self::Only(StampReturn::Pingpong),
            Self::Only(StampReturn::Compact),
            Self::Only(StampReturn::Inband),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Auto => "The best way that the server supports; the run says so when it changes",
            Self::Only(StampReturn::Pingpong) => "Not at all: the client's stages only",
            Self::Only(StampReturn::Compact) => "In a stamp packet of their own",
            Self::Only(StampReturn::Inband) => "In the echo reply itself",
            // Asked for when the server understands nothing else.
            Self::Only(StampReturn::V0) => return None,
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

fn key_file(path: &str) -> Result<KeyFile, String> {
    KeyFile::read(path).map_err(|e| format!("{e:#}"))
}

pub(super) fn tos(text: &str) -> Result<u8, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is not a byte, e.g. 0xb8 for DSCP EF"))
}

/// A cron expression of five fields, or six with seconds.
fn cron(expression: &str) -> Result<Cron, String> {
    Cron::from_str(expression)
        .map_err(|e| format!("{e} An expression such as '*/10 * * * *' is wanted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_of_five_fields_are_read() {
        assert!(cron("*/10 * * * *").is_ok());
        for bad in ["", "10", "61 * * * *", "every minute"] {
            assert!(cron(bad).is_err(), "{bad}");
        }
    }
}

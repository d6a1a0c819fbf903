//! The options that companions share.

use crate::options::{Output, heading};
use crate::units;
use std::time::Duration;

const LOG: &str = "Write the rows to this log file too: text with its header, or JSON lines with -o json \
                   [default with -o log: ./pingtrace-SUBCOMMAND.log]";
const IMAGE: &str = "Draw a picture to this file: .png, .svg or .html; strftime fields (%Y%m%d-%H%M) are replaced \
                     [default with -o image: ./pingtrace-SUBCOMMAND.png]";

// Of every companion. A doc comment would be the help of the subcommand.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("log", |arg| arg.help(LOG)), mut_arg("image", |arg| arg.help(IMAGE)))]
pub struct Common {
    #[command(flatten)]
    pub output: Output,

    /// Log more, including libbpf's messages
    #[arg(long, help_heading = heading::OUTPUT)]
    pub debug: bool,
}

// Of a companion with a threshold that watches until its time is over.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("log", |arg| arg.short('f')))]
pub struct Watching {
    /// Report what takes at least this long; a plain number is in ms, also 200us
    #[arg(short = 't', long, value_name = "T", allow_hyphen_values = true, default_value = "10ms", value_parser = units::milliseconds)]
    pub threshold: Duration,

    /// Stop after this time; a plain number is in s [default: endless]
    #[arg(value_name = "DURATION", value_parser = units::run_time)]
    pub duration: Option<Duration>,

    /// The same as DURATION
    #[arg(short = 'T', long, value_name = "T", allow_hyphen_values = true, value_parser = units::run_time, conflicts_with = "duration")]
    pub time: Option<Duration>,

    #[command(flatten)]
    pub common: Common,
}

impl Watching {
    /// How long to watch; endless if it is absent.
    pub fn time(&self) -> Option<Duration> {
        self.duration.or(self.time)
    }
}

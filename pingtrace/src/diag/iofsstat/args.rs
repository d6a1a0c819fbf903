//! The command line of iofsstat.

use crate::diag::args::Common;
use crate::options::{Format, Output};
use crate::units;
use report::companion::iofsstat::select::Thresholds;
use std::time::{Duration, Instant};

/// Say which process reads and writes which device or file, to the byte
///
/// Each cycle shows the devices (as in iostat) and the processes behind them. Bytes of a process are
/// those of its parts of completed requests, merged or not, so that they add up to what the device
/// counted; a line below the rows says whether they do, within one request. Latencies are in
/// milliseconds: q2c from the submission to the completion, d2c from the driver to the completion.
///
/// Buffered writes appear as the writeback of the page cache, by the thread that does it; -m says whose
/// pages these were. A page belongs to the process that dirtied it first, until it is written. Requests
/// delayed by blk-throttle count for the thread that submits them at last (kthrotld).
///
/// -f counts calls instead, by the bytes that they returned: read, write, pread, pwrite and their
/// vectored forms, sendfile, splice, `copy_file_range`, AIO when its results are fetched, and `io_uring`
/// (Linux 5.19); and pages that a page fault on a mapping read or dirtied. It does not see calls of
/// 32-bit programs (counted as lost), splice by `io_uring`, and AIO results read in user space (reported).
///
/// Cost, measured by scripts/bench.sh on a busy 2-core virtual machine: 0.5 to 0.8 us for a request; with
/// -f 0.1 us for every system call and 0.2 to 0.5 us for a read or write; with -m also 1 to 2 us for a
/// written folio (a piece of the page cache, 4 KiB or more).
///
/// Needs root (`CAP_BPF`, `CAP_PERFMON`, `CAP_SYS_ADMIN` before Linux 5.8) and Linux 5.10 with BTF.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this device: a disk or a partition
    #[arg(short, long, value_name = "DEV")]
    pub device: Option<String>,

    /// Only this process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,

    /// Length of a cycle; a plain number is in s
    #[arg(short = 'c', long, alias = "cycle", value_name = "T", default_value = "1s", allow_hyphen_values = true, value_parser = cycle_length)]
    pub interval: Duration,

    /// Number of process rows in a cycle, the largest first [default: all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,

    /// Show a device only in cycles in which its utilisation is at least this percentage; of
    /// several thresholds one is enough
    #[arg(short, long, value_name = "PERCENT", value_parser = percent)]
    util: Option<f64>,

    /// The same for bytes a second, with K, M or G
    #[arg(short, long, value_name = "BYTES", value_parser = units::bytes)]
    bw: Option<u64>,

    /// The same for requests a second
    #[arg(short, long, value_name = "N")]
    iops: Option<u64>,

    /// Count the calls of each process for each file
    #[arg(short, long, conflicts_with_all = ["misc", "pattern"])]
    pub fs: bool,

    /// Split written bytes among the processes that dirtied the pages, by file
    #[arg(short, long)]
    misc: bool,

    /// Show the distribution of request sizes
    #[arg(short = 'P', long)]
    pub pattern: bool,

    /// Leave out the rows of devices
    #[arg(short, long)]
    pub nodiskstat: bool,

    /// Run for this long; a plain number is in s, 0 runs until SIGINT [default: one cycle]
    #[arg(short = 'T', long, alias = "timeout", value_name = "T", allow_hyphen_values = true, value_parser = units::seconds)]
    time: Option<Duration>,

    /// The same as -o json
    #[arg(short, long, conflicts_with = "output")]
    json: bool,

    #[command(flatten)]
    pub(in crate::diag) common: Common,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests.
    Block,
    /// Requests, and the owners of written pages.
    Misc,
    /// Calls.
    Files,
}

fn cycle_length(text: &str) -> Result<Duration, String> {
    let length = units::seconds(text)?;
    if length < Duration::from_millis(100) {
        return Err("a cycle takes at least 100ms".to_owned());
    }
    Ok(length)
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n| (0.0..=100.0).contains(n));
    number.ok_or_else(|| format!("'{text}' is not a percentage from 0 to 100"))
}

impl Args {
    /// What is counted.
    pub fn mode(&self) -> Mode {
        match (self.fs, self.misc) {
            (true, _) => Mode::Files,
            (_, true) => Mode::Misc,
            _ => Mode::Block,
        }
    }

    /// From when on a device is shown.
    pub fn thresholds(&self) -> Thresholds {
        Thresholds {
            util_percent: self.util,
            bytes: self.bw,
            iops: self.iops,
        }
    }

    /// When the last cycle ends.
    pub fn end(&self, start: Instant) -> Option<Instant> {
        let timeout = self.time.unwrap_or(self.interval);
        (!timeout.is_zero()).then(|| start + timeout)
    }

    /// What is written where.
    pub fn output(&self) -> Output {
        let mut output = self.common.output.clone();
        if self.json {
            output.formats = vec![Format::Json];
        }
        output
    }
}

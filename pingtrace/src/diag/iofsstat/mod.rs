//! `pingtrace iofsstat`: which process reads and writes which device and file.

mod cycle;
mod devices;
mod history;
mod names;
mod programs;

use super::{Output, Results, Sink};
use crate::control::Control;
use crate::exit::Usage;
use crate::kernel::process::Process;
use crate::units;
use anyhow::Result;
use cycle::{Cycle, Monitor};
use devices::Selected;
use history::History;
use programs::{Programs, Storage};
use report::companion::Row;
use report::companion::iofsstat::rows::{block_header, device_header, file_header};
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
    device: Option<String>,

    /// Only this process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,

    /// Length of a cycle; a plain number is in s
    #[arg(short = 'c', long, alias = "cycle", value_name = "T", default_value = "1s", allow_hyphen_values = true, value_parser = cycle_length)]
    interval: Duration,

    /// Number of process rows in a cycle, the largest first [default: all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,

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
    fs: bool,

    /// Split written bytes among the processes that dirtied the pages, by file
    #[arg(short, long)]
    misc: bool,

    /// Show the distribution of request sizes
    #[arg(short = 'P', long)]
    pattern: bool,

    /// Leave out the rows of devices
    #[arg(short, long)]
    nodiskstat: bool,

    /// Run for this long; a plain number is in s, 0 runs until SIGINT [default: one cycle]
    #[arg(short = 'T', long, alias = "timeout", value_name = "T", allow_hyphen_values = true, value_parser = units::seconds)]
    time: Option<Duration>,

    /// The same as -o json
    #[arg(short, long, conflicts_with = "output")]
    json: bool,

    #[command(flatten)]
    results: Results,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
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
    /// Whether libbpf's messages are wanted.
    pub fn debug(&self) -> bool {
        self.results.debug
    }

    /// Whether there is a log, which SIGHUP opens anew.
    pub fn has_log(&self) -> bool {
        self.results.log.is_some()
    }

    fn mode(&self) -> Mode {
        match (self.fs, self.misc) {
            (true, _) => Mode::Files,
            (_, true) => Mode::Misc,
            _ => Mode::Block,
        }
    }

    fn thresholds(&self) -> Thresholds {
        Thresholds {
            util_percent: self.util,
            bytes: self.bw,
            iops: self.iops,
        }
    }

    /// When the last cycle ends.
    fn end(&self, start: Instant) -> Option<Instant> {
        let timeout = self.time.unwrap_or(self.interval);
        (!timeout.is_zero()).then(|| start + timeout)
    }

    fn results(&self) -> Results {
        let mut results = self.results.clone();
        if self.json {
            results.output = vec![Output::Json];
        }
        results
    }
}

/// Takes cycles until the time is over or a signal ends it.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let selected = args.device.as_deref().map(Selected::find).transpose()?;
    let process = args.pid.map(find_process).transpose()?;
    let mut storage = Storage::uninit();
    let mut programs = Programs::attach(&mut storage, args.mode())?;
    let mut sink = Sink::open(&args.results(), "iofsstat", "")?;
    let mut monitor = Monitor::new(args, selected, &mut programs)?;
    log::info!("counting; a cycle takes {:?}", args.interval);
    let mut history = sink.draws().then(History::default);
    let end = args.end(Instant::now());
    let mut next = Instant::now();
    let mut cycles = 0;
    loop {
        sink.progress(true, || format!("{cycles} cycles of {:?}", args.interval));
        cycles += 1;
        next += args.interval;
        let until = end.map_or(next, |end| next.min(end));
        // Its pages may be written after its end, by others.
        let over = |process: &Process| args.mode() != Mode::Misc && process.has_ended();
        let is_over = || process.as_ref().is_some_and(over);
        let on = control.sleep_unless(until, is_over) && !sink.failed();
        if sink.housekeep(control) {
            sink.say_so_far(monitor.summary(&programs));
        }
        let cycle = monitor.cut(&mut programs)?;
        if let Some(history) = &mut history {
            history.add(&cycle);
        }
        write(&mut sink, args, cycle)?;
        if !on || end.is_some_and(|end| until >= end) {
            break;
        }
    }
    let mut summary = monitor.summary(&programs);
    if let Some(process) = process.filter(Process::has_ended) {
        let note = format!("process {} (-p) has ended", process.id);
        log::warn!("{note}");
        summary.notes.push(note);
    }
    let (start, cycle) = (sink.start(), args.interval);
    sink.finish(summary.clone(), || {
        let history = history.unwrap_or_default();
        history.chart(start, cycle, args.fs, &summary)
    })
}

fn find_process(pid: u32) -> Result<Process> {
    let missing = || Usage(format!("no process has the id {pid} (-p)"));
    Process::find(pid).ok_or_else(|| missing().into())
}

/// Writes a cycle: devices, then processes, each with its header.
fn write(sink: &mut Sink, args: &Args, cycle: Cycle) -> Result<()> {
    sink.heading(&format!(
        "{}  {:.3} s\n",
        cycle.time.text(),
        cycle.ns as f64 / 1e9
    ))?;
    if !args.nodiskstat {
        sink.heading(&device_header())?;
        for device in cycle.devices {
            sink.row(&Row::Device(device))?;
        }
    }
    let header = if args.fs {
        file_header()
    } else {
        block_header()
    };
    sink.heading(&header)?;
    for io in cycle.rows {
        sink.row(&Row::Io(io))?;
    }
    for line in cycle.conservation {
        sink.heading(&(line + "\n"))?;
    }
    sink.heading("\n")
}

//! The command line of profile.

use super::programs::Setup;
use crate::diag::args::Common;
use crate::exit::Usage;
use crate::kernel::host;
use crate::kernel::ids::Ids;
use crate::kernel::process::Process;
use crate::kernel::sampling;
use crate::options::{Format, heading};
use crate::units;
use anyhow::{Context as _, Result};
use report::companion::profile::{Folding, Measure};
use std::path::PathBuf;
use std::time::Duration;

/// Fastest clock: 10 000 samples a second.
const SHORTEST_PERIOD_NS: u64 = 100_000;
const LONGEST_PERIOD_NS: u64 = 1_000_000_000;

/// Find which code has the CPUs, or with --off-cpu what tasks wait for; draw a flame graph of it
///
/// On the CPU, a clock of each CPU takes samples with the stacks of the kernel and the process; CPUs that
/// idle are only counted. Off the CPU, each switch keeps the stacks of the task that leaves and the time
/// until it is back; a task still off its CPU at the end counts until then. A row gives the part of all, the
/// samples or waits, the time, what kind of code it was (task, softirq, hardirq; off the CPU blocked or
/// preempted), the process, the thread's name, and the functions, the innermost first. --image draws all
/// stacks: .svg and .html are searched and zoomed by a click, .png shows what fits.
///
/// Stacks are unwound by frame pointers: code of a process that was compiled without them has one frame,
/// and that is said.
///
/// Cost: 1 to 2 us a sample; --off-cpu as much for each switch.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Args {
    /// Samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=10_000), conflicts_with = "off_cpu")]
    frequency: u32,

    /// One sample in this time of each CPU, ns, instead of -F
    #[arg(short, long, value_name = "NS", value_parser = clap::value_parser!(u64).range(SHORTEST_PERIOD_NS..=LONGEST_PERIOD_NS), conflicts_with_all = ["frequency", "off_cpu"])]
    count: Option<u64>,

    /// Only this process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,

    /// Only this thread; -t too
    #[arg(short = 'L', long, short_alias = 't', value_name = "TID", value_parser = clap::value_parser!(u32).range(1..))]
    tid: Option<u32>,

    /// Only threads of processes, none of the kernel's own
    #[arg(short, long, conflicts_with = "kernel_threads_only")]
    user_threads_only: bool,

    /// Only the kernel's own threads
    #[arg(short, long)]
    kernel_threads_only: bool,

    /// Only stacks of the process, not of the kernel; softirqs are not told apart then
    #[arg(short = 'U', long, conflicts_with = "kernel_stacks_only")]
    user_stacks_only: bool,

    /// Only stacks of the kernel
    #[arg(short = 'K', long)]
    kernel_stacks_only: bool,

    /// Only this CPU
    #[arg(short = 'C', long, value_name = "CPU", conflicts_with = "off_cpu")]
    cpu: Option<u32>,

    /// Show the idle task too
    #[arg(short = 'I', long, conflicts_with = "off_cpu")]
    include_idle: bool,

    /// What tasks wait for, instead of what runs
    #[arg(long)]
    off_cpu: bool,

    /// With --off-cpu: only waits of at least this; a plain number is in us
    #[arg(short, long, value_name = "T", allow_hyphen_values = true, value_parser = units::microseconds)]
    min_block_time: Option<Duration>,

    /// With --off-cpu: only waits of at most this; a plain number is in us
    #[arg(short = 'M', long, value_name = "T", allow_hyphen_values = true, value_parser = units::microseconds)]
    max_block_time: Option<Duration>,

    /// With --off-cpu: only these states of a task, as the kernel's bits: 1 interruptible, 2
    /// uninterruptible, 0 preempted
    #[arg(long, value_name = "STATE", value_parser = clap::value_parser!(u32).range(0..=0xffff))]
    state: Option<u32>,

    /// Stacks that can be kept, 1 KB each; samples of further ones are without a stack, and counted
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    stack_storage_size: u32,

    /// Write folded stacks and nothing else to stdout: a line each, with samples, or ns with --off-cpu; the
    /// summary goes to stderr
    #[arg(short, long)]
    pub folded: bool,

    /// With -f: mark functions of the kernel by `_[k]`
    #[arg(short, long, requires = "folded")]
    annotations: bool,

    /// With -f: put a frame `-` between the process's functions and the kernel's
    #[arg(short, long, requires = "folded")]
    delimited: bool,

    /// Write all stacks to this file for pprof (`go tool pprof FILE`), compressed: `cpu.pb.gz`
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub pprof: Option<PathBuf>,

    /// Stacks to show as rows; a picture and -f have all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Stop after this time; a plain number is in s [default: endless]
    #[arg(value_name = "SECONDS", value_parser = units::run_time)]
    duration: Option<Duration>,

    /// The same as SECONDS
    #[arg(short = 'T', long, value_name = "T", allow_hyphen_values = true, value_parser = units::run_time, conflicts_with = "duration")]
    time: Option<Duration>,

    #[command(flatten)]
    pub(in crate::diag) common: Common,
}

impl Args {
    /// How long to watch; endless if it is absent.
    pub fn time(&self) -> Option<Duration> {
        self.duration.or(self.time)
    }

    /// What is measured.
    pub fn measure(&self) -> Measure {
        if self.off_cpu {
            Measure::OffCpu
        } else {
            Measure::Samples
        }
    }

    /// Time between two samples of a CPU, ns.
    pub fn period_ns(&self) -> u64 {
        self.count.unwrap_or(sampling::period_ns(self.frequency))
    }

    /// Whether the idle task is shown.
    pub fn includes_idle(&self) -> bool {
        self.include_idle
    }

    /// How folded lines are written.
    pub fn folding(&self) -> Folding {
        Folding {
            annotated: self.annotations,
            delimited: self.delimited,
        }
    }

    /// What is sampled, in words.
    pub fn words(&self) -> String {
        match (self.measure(), self.count) {
            (Measure::OffCpu, _) => "what tasks wait for".to_owned(),
            (Measure::Samples, Some(ns)) => format!("a sample every {ns} ns of each CPU"),
            (Measure::Samples, None) => format!("{} samples a second of each CPU", self.frequency),
        }
    }

    /// Refuses what does not go together.
    pub fn check(&self) -> Result<()> {
        let only_off_cpu = [
            (self.min_block_time.is_some(), "-m"),
            (self.max_block_time.is_some(), "-M"),
            (self.state.is_some(), "--state"),
        ];
        let stray = only_off_cpu.iter().find(|(given, _)| *given);
        if let Some((_, option)) = stray.filter(|_| !self.off_cpu) {
            return Err(Usage(format!("{option} goes with --off-cpu only")).into());
        }
        if self.min_block_time > self.max_block_time && self.max_block_time.is_some() {
            return Err(Usage("-m is longer than -M: no wait is both".to_owned()).into());
        }
        if self.folded && self.common.output.wants(Format::Json) {
            return Err(Usage("-f is text: leave out -f or -o json".to_owned()).into());
        }
        Ok(())
    }

    /// The running process and thread that were asked for.
    pub fn processes(&self) -> Result<Vec<Process>> {
        Process::find_asked(&[(self.pid, "-p"), (self.tid, "-L")])
    }

    /// The CPUs to sample.
    pub fn cpus(&self) -> Result<Vec<u32>> {
        let online = host::online_cpus()?;
        let Some(cpu) = self.cpu else {
            return Ok(online);
        };
        let is_online = online.contains(&cpu);
        let why = || format!("CPU {cpu} (-C) is not online: see /sys/devices/system/cpu/online");
        is_online.then(|| vec![cpu]).with_context(why)
    }

    /// Whether a wait of this length counts.
    pub fn counts_wait(&self, ns: u64) -> bool {
        let wait = Duration::from_nanos(ns);
        self.min_block_time.is_none_or(|min| wait >= min)
            && self.max_block_time.is_none_or(|max| wait <= max)
    }

    /// What the programs count.
    pub fn setup(&self, ids: &Ids) -> Result<Setup> {
        let number = |id| ids.kernel(id).context("the process or thread has ended");
        let ns = |time: Duration| time.as_nanos() as u64;
        Ok(Setup {
            measure: self.measure(),
            tgid: self.pid.map(number).transpose()?,
            tid: self.tid.map(number).transpose()?,
            skip_user_tasks: self.kernel_threads_only,
            skip_kernel_tasks: self.user_threads_only,
            with_kernel: !self.user_stacks_only,
            with_user: !self.kernel_stacks_only,
            state: self.state,
            min_ns: self.min_block_time.map_or(0, ns),
            max_ns: self.max_block_time.map_or(u64::MAX, ns),
            stacks: self.stack_storage_size,
        })
    }
}

//! `pingtrace runqlat`: which tasks wait for a CPU, and what runs instead.
//!
//! The kernel notes when a task is queued (`sched_info`), so each switch shows how long the next task
//! waited, and no map is needed. The kernel's note starts anew when a queued task moves to another
//! CPU. If the task had been preempted, the switch away from it is known, and with it the whole wait;
//! after a wake-up the reported wait is a lower bound.

use super::args::Watching;
use super::cgroups;
use super::monitor::{self, Detector, Monitor, Snapshot};
use crate::control::Control;
use crate::exit::Usage;
use crate::kernel::ids::Ids;
use crate::kernel::map;
use crate::kernel::object::Storage;
use crate::kernel::process::Process;
use crate::kernel::recorder::{self, By, CpuEvent, Only, Recorder, Setup, bound, comm};
use crate::units::{self, Time};
use anyhow::{Context, Result, ensure};
use bpf::recorder::types::{pt_event_flag, pt_event_type, pt_hist, pt_hist_key, pt_ring_of};
use clap::ValueEnum;
use report::companion;
use report::companion::{Event, Form, Group, Kind, Lengths, Panel, Row, Waits};
use report::model::Class;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of a task's name that the kernel keeps (`TASK_COMM_LEN` - 1).
const LONGEST_COMM: usize = 15;

/// Find who waits for a CPU, how long, and whether others had it or the quota was used up
///
/// A row gives time, CPU, the task that waited and for how long; the class, cpu (others had the CPU) or
/// quota (at least half of the wait was for the quota of its cgroup); and how many tasks were runnable
/// there, including itself. If a queued task moves to another CPU after its wake-up, its wait starts anew.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("threshold", |arg| arg.default_value("50ms")))]
pub struct Args {
    #[command(flatten)]
    pub(super) watching: Watching,

    /// Only the threads of this process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,

    /// Only this thread
    #[arg(long, value_name = "TID", value_parser = clap::value_parser!(u32).range(1..))]
    tid: Option<u32>,

    /// Only tasks in this cgroup (a directory) of the CPU controller, not in cgroups below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Only threads of this name
    #[arg(long, value_name = "NAME")]
    comm: Option<String>,

    /// Show what ran instead
    #[arg(short = 'P', long)]
    preempters: bool,

    /// Show the distribution of all waits, however short; log2: a bar for each octave, hdr:
    /// percentiles
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, default_missing_value = "log2", require_equals = true)]
    hist: Option<HistForm>,

    /// How --hist groups the waits
    #[arg(long, value_enum, default_value = "all", requires = "hist")]
    by: HistBy,

    /// Show the distribution of run queue lengths
    #[arg(long)]
    len: bool,

    /// Show --hist and --len for each interval of this length too; a plain number is in s
    /// [default: at the end only]
    #[arg(short, long, value_name = "T", value_parser = units::timeout)]
    interval: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HistForm {
    Log2,
    Hdr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HistBy {
    All,
    Process,
    Cgroup,
}

impl Args {
    /// The running process and thread that were asked for.
    fn processes(&self) -> Result<Vec<Process>> {
        Process::find_asked(&[(self.pid, "-p"), (self.tid, "--tid")])
    }

    fn only(&self) -> Result<Only> {
        let comm = self.comm.clone().unwrap_or_default();
        if comm.len() > LONGEST_COMM {
            let why = format!(
                "'{comm}' (--comm) is longer than the {LONGEST_COMM} bytes of a thread's name"
            );
            return Err(Usage(why).into());
        }
        let ids = Ids::read()?;
        let number = |id| ids.kernel(id).context("the process or thread has ended");
        Ok(Only {
            tgid: self.pid.map(number).transpose()?,
            tid: self.tid.map(number).transpose()?,
            cgroup: self.cgroup.as_deref().map(cgroups::number).transpose()?,
            comm,
        })
    }
}

/// Runs until the duration is over or a signal ends it.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let processes = args.processes()?;
    let setup = Setup {
        waits: Some(args.watching.threshold),
        only: args.only()?,
        histogram: args.hist.map(|_| match args.by {
            HistBy::All => By::All,
            HistBy::Process => By::Process,
            HistBy::Cgroup => By::Cgroup,
        }),
        lengths: args.len,
        ..Setup::default()
    };
    check_kernel()?;
    let mut storage = Storage::uninit();
    let recorder = Recorder::load(&mut storage, &setup)?;
    let rings = [pt_ring_of::PT_RING_EVENT];
    let monitor = Monitor::start(Kind::Runqlat, &args.watching, recorder, &rings)?;
    let detector = RunqlatDetector::new(args, processes, &monitor);
    monitor.run(&args.watching, control, detector)
}

/// Fails on a kernel that does not say how long a task waited.
pub(super) fn check_kernel() -> Result<()> {
    ensure!(
        recorder::knows_waits()?,
        "runqlat: this kernel does not say how long a task waited: it was built without \
         CONFIG_SCHED_INFO or CONFIG_FAIR_GROUP_SCHED"
    );
    Ok(())
}

struct RunqlatDetector<'a> {
    args: &'a Args,
    /// The process and the thread that were asked for; empty if all are observed.
    processes: Vec<Process>,
    due: Option<Instant>,
    /// Counts at the start and at the last interval.
    start: Distributions,
    last: Distributions,
    panels: Vec<Panel>,
}

/// The counts of the kernel's programs at a moment.
#[derive(Clone)]
struct Distributions {
    at: Time,
    waits: BTreeMap<u64, Counted>,
    lengths: Vec<Vec<u64>>,
}

#[derive(Clone)]
struct Counted {
    comm: String,
    counts: Vec<u64>,
}

impl Detector for RunqlatDetector<'_> {
    fn events(&mut self, monitor: &Monitor<'_>, snapshot: &Snapshot<'_>) -> Vec<Event> {
        let waits = snapshot.new.iter();
        let waits = waits.filter(|record| monitor::is(record, pt_event_type::PT_WAIT));
        waits
            .map(|record| self.event(monitor, snapshot, record))
            .collect()
    }

    fn rows(&mut self, monitor: &Monitor<'_>, last: bool) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if let Some(due) = self.due.filter(|due| *due <= Instant::now()) {
            let now = Distributions::read(monitor)?;
            rows = self.rows_since(monitor, &self.last, &now);
            self.last = now;
            self.due = self.args.interval.map(|interval| due + interval);
        }
        if last {
            let now = Distributions::read(monitor)?;
            rows.extend(self.rows_since(monitor, &self.start, &now));
            self.panels = rows.iter().filter_map(panel).collect();
        }
        Ok(rows)
    }

    fn panels(&mut self) -> Vec<Panel> {
        std::mem::take(&mut self.panels)
    }

    fn over(&self) -> Option<String> {
        let ended = self.processes.iter().find(|process| process.has_ended())?;
        Some(format!("process or thread {} has ended", ended.id))
    }

    fn notes(&self) -> Vec<String> {
        self.over().into_iter().collect()
    }
}

/// The distribution of all waits together; a picture has no room for each process.
fn panel(row: &Row) -> Option<Panel> {
    match row {
        Row::Waits(waits) if waits.pid.is_none() && waits.cgroup.is_none() => Some(waits.panel()),
        _ => None,
    }
}

impl<'a> RunqlatDetector<'a> {
    fn new(args: &'a Args, processes: Vec<Process>, monitor: &Monitor<'_>) -> Self {
        let start = Distributions::none(monitor);
        Self {
            args,
            processes,
            due: args.interval.map(|interval| Instant::now() + interval),
            last: start.clone(),
            start,
            panels: Vec::new(),
        }
    }

    fn event(&self, monitor: &Monitor<'_>, snapshot: &Snapshot<'_>, record: &CpuEvent) -> Event {
        let (waited, quota) = (record.event.ns, record.event.wait_ns);
        let class = if quota > 0 && quota * 2 >= waited {
            Class::Quota
        } else {
            Class::Cpu
        };
        let whole = departure(snapshot, record).map(|from| record.event.end_ns - from);
        let mut event = monitor.event(record, class, whole.unwrap_or(waited));
        event.nr_running = Some(record.event.runnable.into());
        event.quota_ns = (quota > 0).then_some(quota);
        if self.args.preempters {
            let span = (record.begin_ns(), record.event.end_ns);
            event.ran = monitor.ran(snapshot, record.cpu, span, record.event.tid);
        }
        event
    }

    /// The rows of an interval.
    fn rows_since(
        &self,
        monitor: &Monitor<'_>,
        before: &Distributions,
        now: &Distributions,
    ) -> Vec<Row> {
        let interval = (companion::Time(now.at.unix_ns), now.at.ns - before.at.ns);
        let mut rows: Vec<Row> = Vec::new();
        if let Some(form) = self.args.hist {
            rows.extend(self.waits(monitor, before, now, interval, form));
        }
        if self.args.len {
            let cpus = now.lengths.iter().zip(&before.lengths).zip(0..);
            let lengths = cpus.map(|((now, before), cpu)| {
                let ns = now.iter().zip(before).map(|(now, before)| now - before);
                Lengths::new(interval, cpu, ns.collect())
            });
            rows.extend(
                lengths
                    .filter(|l| !l.length_ns.is_empty())
                    .map(Row::Lengths),
            );
        }
        rows
    }

    /// The distribution of each group, the groups with the most waits first.
    fn waits(
        &self,
        monitor: &Monitor<'_>,
        before: &Distributions,
        now: &Distributions,
        interval: (companion::Time, u64),
        form: HistForm,
    ) -> impl Iterator<Item = Row> {
        let form = match form {
            HistForm::Log2 => Form::Log2,
            HistForm::Hdr => Form::Hdr,
        };
        let paths = match self.args.by {
            HistBy::Cgroup => cgroups::paths(),
            HistBy::All | HistBy::Process => HashMap::new(),
        };
        let of = |(id, counted): (&u64, &Counted)| {
            let buckets = counted.since(before.waits.get(id));
            let group = self.group(monitor, *id, &counted.comm, &paths);
            Waits::new(group, interval, form, buckets)
        };
        let mut waits: Vec<Waits> = now.waits.iter().map(of).collect();
        let all = self.args.by == HistBy::All;
        waits.retain(|waits| waits.count > 0 || all);
        waits.sort_by_key(|waits| std::cmp::Reverse(waits.count));
        waits.into_iter().map(|waits| Row::Waits(Box::new(waits)))
    }

    fn group(
        &self,
        monitor: &Monitor<'_>,
        id: u64,
        comm: &str,
        paths: &HashMap<u32, String>,
    ) -> Group {
        match self.args.by {
            HistBy::All => Group::default(),
            HistBy::Process => Group {
                pid: Some(monitor.number(id as u32)),
                comm: Some(comm.to_owned()),
                container: monitor.container(id as u32),
                ..Group::default()
            },
            HistBy::Cgroup => {
                let path = paths.get(&(id as u32)).cloned();
                Group {
                    container: path
                        .as_deref()
                        .and_then(netns::container_id)
                        .map(str::to_owned),
                    cgroup: Some(path.unwrap_or_else(|| format!("cgroup {id}"))),
                    ..Group::default()
                }
            }
        }
    }
}

/// When the task was preempted, on whichever CPU, `CLOCK_MONOTONIC` ns; `None` if it slept or the
/// switch was overwritten.
fn departure(snapshot: &Snapshot<'_>, record: &CpuEvent) -> Option<u64> {
    let left = |switches: &Vec<CpuEvent>| {
        let before = switches.partition_point(|s| s.event.end_ns < record.event.end_ns);
        let mut mine = switches[..before].iter().rev();
        mine.find(|s| s.event.tid == record.event.tid).copied()
    };
    let last = snapshot.every_switch().iter().filter_map(left);
    let last = last.max_by_key(|switch| switch.event.end_ns)?;
    let known = |switches: &Vec<CpuEvent>| {
        let first = switches.first();
        first.is_none_or(|first| first.begin_ns() <= last.event.end_ns)
    };
    if !snapshot.every_switch().iter().all(known) {
        return None;
    }
    let preempted = u32::from(last.event.flags) & pt_event_flag::PT_PREEMPTED.0 != 0;
    preempted.then_some(last.event.end_ns)
}

impl Counted {
    /// The buckets that are not empty: lower and upper bound, ns, and the count beyond `before`.
    fn since(&self, before: Option<&Self>) -> Vec<(u64, u64, u64)> {
        let before = |k: usize| before.map_or(0, |before| before.counts[k]);
        let new = self.counts.iter().enumerate();
        let new = new.map(|(k, n)| (bound(k as u64), bound(k as u64 + 1), n - before(k)));
        new.filter(|(.., n)| *n > 0).collect()
    }
}

impl Distributions {
    fn none(monitor: &Monitor<'_>) -> Self {
        Self {
            at: Time::now(),
            waits: BTreeMap::new(),
            lengths: lengths(monitor, Time::now().ns),
        }
    }

    fn read(monitor: &Monitor<'_>) -> Result<Self> {
        let at = Time::now();
        Ok(Self {
            at,
            waits: waits(monitor).context("read the distributions")?,
            lengths: lengths(monitor, at.ns),
        })
    }
}

/// Counts by the number of the group, summed over all CPUs.
fn waits(monitor: &Monitor<'_>) -> Result<BTreeMap<u64, Counted>> {
    let hists = &monitor.recorder().maps().hists;
    let mut found: BTreeMap<u64, Counted> = BTreeMap::new();
    for entry in map::entries(hists) {
        let (key, hist): (pt_hist_key, pt_hist) = entry?;
        let counted = found.entry(key.id).or_insert_with(|| Counted {
            comm: comm(&hist.comm),
            counts: vec![0; hist.counts.len()],
        });
        for (sum, n) in counted.counts.iter_mut().zip(hist.counts) {
            *sum += n;
        }
    }
    Ok(found)
}

/// For each CPU: the time, ns, that its run queue had each length, up to `now`.
fn lengths(monitor: &Monitor<'_>, now: u64) -> Vec<Vec<u64>> {
    let of_cpu = |cpu| {
        let cpu = monitor.memory().cpu(cpu);
        let mut ns = cpu.lengths_ns.to_vec();
        if let Some(current) = ns
            .get_mut(cpu.length as usize)
            .filter(|_| cpu.length_ns > 0)
        {
            *current += now.saturating_sub(cpu.length_ns);
        }
        ns
    };
    (0..monitor.memory().cpus()).map(of_cpu).collect()
}

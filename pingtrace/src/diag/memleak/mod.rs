//! `pingtrace memleak`: which allocator grows, and which code holds its objects.
//!
//! First the kernel's own accounting is read repeatedly, which costs nothing; only what grows
//! there, or what was asked for, is followed object by object. At the end both are compared: what
//! the tracker holds and the accounting does not was freed where no tracepoint is. Frees by RCU take
//! time to reach the accounting, so a suspected leak is checked again before it is reported.

mod accounting;
mod chart;
mod findings;
mod pages;
mod programs;
mod reclaim;
mod tracker;

use super::{Results, Sink};
use crate::control::Control;
use crate::exit::Usage;
use crate::kernel::process::Process;
use crate::units::{self, monotonic_ns};
use accounting::Accounting;
use anyhow::{Context, Error, Result, bail, ensure};
use clap::ValueEnum;
use findings::{Findings, Group, Holding};
use programs::Refusal;
use reclaim::Reclaim;
use report::companion::memleak::{Allocator, Areas, Leak, Origin, Snapshot, Suspect, suspects};
use report::companion::memleak::{Verdict, memleak_header};
use report::companion::{Row, Summary, Time};
use rustix::thread::CapabilitySet;
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};
use tracker::{Counts, Follow, Key, Options, RawSite, Storage, Storages, Tracker};

/// Snapshots of the kernel's accounting in a run.
const SNAPSHOTS: u32 = 20;
/// The first snapshot after which something is followed: slow growth needs more than the
/// fewest values to be seen, and what is not chosen then is never followed.
const FIRST_START: u32 = 2 * SNAPSHOTS / 5;
/// The last snapshot after which something is followed.
const LAST_START: u32 = 3 * SNAPSHOTS / 4;
/// Frees by RCU have reached the kernel's accounting by then (kernel/rcu/tree.c, `KFREE_DRAIN_JIFFIES`).
const SETTLE: Duration = Duration::from_secs(6);
const SETTLE_MIN: Duration = Duration::from_secs(2);
const SETTLE_STEP: Duration = Duration::from_millis(250);
/// Upper bound on the reaction time to a signal.
const STEP: Duration = Duration::from_millis(250);

/// Find out which allocator grows and who holds what it gave: a leak, a growing cache, or neither
///
/// Reads the kernel's own accounting (/proc/meminfo, slabinfo, vmallocinfo) over the interval, and
/// follows object by object only what grows there, or what -t, -n or -p name. The verdict comes
/// first, with its confidence from 0 to 1; then the sites: objects allocated during the run and not
/// freed (LIVE), their bytes, the age of the oldest, the share that was freed, the slope (Theil-Sen),
/// and the code that allocated them. What was allocated before the start is not seen. Before it
/// reports a leak in slab, memleak waits up to 6 s for frees by RCU.
///
/// Cost: about 0.4 us for an allocation and 0.2 us for a free, 2 us with a stack; some ns for caches
/// that -n leaves out. --malloc takes about 5 us for a call.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("log", |arg| arg.short('f')))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Which allocator to follow; auto: kernel allocators that grow, else the process that does
    #[arg(short = 't', long = "type", value_name = "WHAT", value_enum, default_value_t = What::Auto)]
    what: What,

    /// Length of the run; a plain number is in s, at least 1
    #[arg(short = 'i', long, alias = "interval", value_name = "T", default_value = "300s", allow_hyphen_values = true, value_parser = units::look)]
    time: Duration,

    /// Follow only this slab cache, by its name in /proc/slabinfo or an alias of it
    #[arg(short = 'n', long, value_name = "CACHE")]
    cache: Option<String>,

    /// Show a stack of each site, not only the function that allocated the memory
    #[arg(short, long)]
    stacks: bool,

    /// Check only: read the kernel's accounting, load no program
    #[arg(short, long, conflicts_with_all = ["stacks", "malloc"])]
    check: bool,

    /// With -s: take the stack of one in N slab objects, chosen by address; counts stay exact. The
    /// stacks of pages, vmalloc, per-CPU memory and processes are all taken
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Follow this process: which of its code first touched the pages that it keeps
    #[arg(short, long, value_name = "PID", conflicts_with = "cache")]
    pid: Option<u32>,

    /// With -p: follow `malloc` and `free` instead of page faults; slows the process down
    #[arg(long, requires = "pid")]
    malloc: bool,

    /// At the end, test growth of slab or pages: make the kernel reclaim, and see what stays. Writes
    /// 2 to `/proc/sys/vm/drop_caches`: the whole host drops unused dentries and inodes, and the
    /// cached pages of their files, and reads them from disk again when it needs them, so it may be
    /// slow for a while. No data is lost. Needs root
    #[arg(long, conflicts_with_all = ["check", "pid"])]
    reclaim: bool,

    /// Objects that can be followed at once; further ones are counted as lost
    #[arg(long, value_name = "N", default_value_t = 1 << 19, value_parser = clap::value_parser!(u32).range(16..=1 << 24))]
    objects: u32,

    /// Sites to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,

    #[command(flatten)]
    results: Results,
}

/// What to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// What grows
    Auto,
    /// kmalloc and caches
    Slab,
    /// Whole pages that belong to no process, file or slab
    Page,
    /// vmalloc
    Vmalloc,
    /// Per-CPU memory
    Percpu,
    /// A process
    User,
}

impl What {
    fn allocator(self) -> Option<Allocator> {
        Some(match self {
            Self::Auto => return None,
            Self::Slab => Allocator::Slab,
            Self::Page => Allocator::Page,
            Self::Vmalloc => Allocator::Vmalloc,
            Self::Percpu => Allocator::Percpu,
            Self::User => Allocator::User,
        })
    }
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

    /// The allocator to observe; `None`: all. A cache or a process implies its allocator.
    fn allocator(&self) -> Result<Option<Allocator>> {
        let asked = self.what.allocator();
        let (implied, option) = match (&self.cache, self.pid) {
            (Some(_), _) => (Allocator::Slab, "-n"),
            (_, Some(_)) => (Allocator::User, "-p"),
            _ => return Ok(asked),
        };
        if asked.is_some_and(|asked| asked != implied) {
            let what = format!("{option} goes with -t {} only", implied.name());
            return Err(Usage(what).into());
        }
        Ok(Some(implied))
    }

    /// What is followed from the start; `None` when the kernel's accounting decides, or nothing is followed.
    fn follow(
        &self,
        allocator: Option<Allocator>,
        accounting: &Accounting,
    ) -> Result<Option<Follow>> {
        let follow = match (allocator, self.pid) {
            (Some(Allocator::Slab), _) => match &self.cache {
                Some(name) => Follow::Slab(vec![accounting.resolve(name)?]),
                None => Follow::Slab(Vec::new()),
            },
            (Some(Allocator::Page), _) => Follow::Page,
            (Some(Allocator::Vmalloc), _) => Follow::Vmalloc,
            (Some(Allocator::Percpu), _) => Follow::Percpu,
            (Some(Allocator::User), Some(pid)) => self.user(pid),
            (Some(Allocator::User), None) | (None, _) => return Ok(None),
        };
        Ok((!self.check).then_some(follow))
    }

    /// The process to follow, which runs and has memory.
    fn process(&self) -> Result<Option<Process>> {
        let Some(pid) = self.pid else {
            return Ok(None);
        };
        let process = Process::find(pid).with_context(|| {
            format!(
                "no process {pid} (-p): it has ended, or never was; `ps -e` lists those that run"
            )
        })?;
        ensure!(
            accounting::process(pid).is_some(),
            "process {pid} (-p) is a kernel thread, which has no memory of its own: try -t slab"
        );
        if !self.malloc && !programs::has_tracepoint("page_fault_user") {
            bail!("this kernel has no tracepoint page_fault_user: use --malloc (with -p)");
        }
        Ok(Some(process))
    }

    fn user(&self, pid: u32) -> Follow {
        if self.malloc {
            Follow::Malloc(pid)
        } else {
            Follow::Faults(pid)
        }
    }
}

/// Runs for the interval or until a signal, then reports.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let allocator = args.allocator()?;
    let process = args.process()?;
    let accounting = Accounting::open(allocator, args.pid)?;
    let follow = args.follow(allocator, &accounting)?;
    if !args.check {
        check_capabilities()?;
    }
    let reclaim = args.reclaim.then(Reclaim::open).transpose()?;
    let mut storages = [Storage::uninit(), Storage::uninit()];
    let mut monitor = Monitor::new(args, accounting, process, &mut storages);
    monitor.read()?;
    if let Some(follow) = follow {
        monitor.follow(vec![follow])?;
    }
    monitor.begun = Instant::now();
    log::info!(
        "memleak: reads the kernel's accounting for {:?} (--time), and waits up to {SETTLE:?} more for frees by RCU",
        args.time
    );
    let mut sink = Sink::open(&args.results, "memleak", &memleak_header())?;
    monitor.observe(control, &mut sink);
    let mut findings = monitor.settle(control, &mut sink);
    if let Some(reclaim) = reclaim {
        findings = monitor.put_to_the_test(findings, reclaim, control);
    }
    monitor.report(&findings, sink)?;
    monitor.failure.map_or(Ok(()), Err)
}

/// BPF needs both; `CAP_SYS_ADMIN` includes them.
fn check_capabilities() -> Result<()> {
    let mine = rustix::thread::capabilities(None)?.effective;
    let needed = CapabilitySet::BPF | CapabilitySet::PERFMON;
    if !mine.contains(CapabilitySet::SYS_ADMIN) && !mine.contains(needed) {
        bail!(
            "cannot follow allocations: permission denied; needs root, or CAP_BPF and CAP_PERFMON \
             (-c needs no program)"
        );
    }
    Ok(())
}

/// The run so far.
struct Monitor<'a> {
    args: &'a Args,
    accounting: Accounting,
    begun: Instant,
    snapshots: Vec<Snapshot>,
    storages: Option<&'a mut Storages>,
    tracker: Option<Tracker<'a>>,
    followed: Vec<Follow>,
    /// What could not be followed.
    refused: Vec<Follow>,
    /// The observed process, until it ends.
    process: Option<Process>,
    /// The tracker's sites and counts at the last snapshot.
    raw: Vec<RawSite>,
    counts: Counts,
    /// The first snapshot with the tracker, and what was suspected then.
    since: usize,
    suspected: Vec<Suspect>,
    areas: Areas,
    /// When each generation began, `CLOCK_MONOTONIC` ns.
    generations: Vec<u64>,
    /// Bytes by site over time (`CLOCK_MONOTONIC` ns).
    samples: Vec<(u64, HashMap<Key, u64>)>,
    notes: Vec<String>,
    /// The purpose of objects, by their stack.
    origins: RefCell<HashMap<Key, Origin>>,
    /// The live objects before reclaim.
    before_reclaim: Option<HashMap<Group, Holding>>,
    /// Why the run ended early.
    cut: Option<Cut>,
    /// Why the run failed before its end.
    failure: Option<Error>,
}

/// A run that ended early.
struct Cut {
    /// Share of the planned time, 0 to 1.
    share: f64,
    why: String,
}

impl<'a> Monitor<'a> {
    fn new(
        args: &'a Args,
        accounting: Accounting,
        process: Option<Process>,
        storages: &'a mut Storages,
    ) -> Self {
        Self {
            args,
            accounting,
            begun: Instant::now(),
            snapshots: Vec::new(),
            storages: Some(storages),
            tracker: None,
            followed: Vec::new(),
            refused: Vec::new(),
            process,
            raw: Vec::new(),
            counts: Counts::default(),
            since: 0,
            suspected: Vec::new(),
            areas: Areas::default(),
            generations: vec![monotonic_ns()],
            samples: Vec::new(),
            notes: Vec::new(),
            origins: RefCell::default(),
            before_reclaim: None,
            cut: None,
            failure: None,
        }
    }

    /// Takes a snapshot of the kernel's accounting and of the tracker.
    fn read(&mut self) -> Result<()> {
        let snapshot = self.accounting.read()?;
        let generation = self.generations.len() as u32 - 1;
        if self.followed.contains(&Follow::Vmalloc) {
            self.areas.observe(generation, &snapshot.areas);
        }
        self.snapshots.push(snapshot);
        self.read_tracker()
    }

    /// Reads the tracker. Of a process that has ended, the last values remain.
    fn read_tracker(&mut self) -> Result<()> {
        let Some(tracker) = &self.tracker else {
            return Ok(());
        };
        let mut raw = tracker.sites()?;
        let faults = self.followed.iter().find_map(|f| match f {
            Follow::Faults(pid) => Some(*pid),
            _ => None,
        });
        if let Some(pid) = faults {
            let looked = pages::only_present(tracker, pid, &mut raw);
            if accounting::process(pid).is_none() {
                return Ok(());
            }
            looked?;
        }
        self.counts = tracker.counts()?;
        let bytes = raw.iter().map(|site| (site.key, site.bytes)).collect();
        self.samples.push((monotonic_ns(), bytes));
        self.raw = raw;
        Ok(())
    }

    /// Takes another snapshot; `false` when that fails, which ends the run.
    fn read_on(&mut self) -> bool {
        let read = self.read();
        let Err(e) = read else {
            return true;
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        let e = e.context(format!("looked no further than {seconds:.1} s"));
        self.notes.push(format!("{e:#}"));
        self.failure = Some(e);
        false
    }

    /// Starts to follow, and takes a snapshot, so that tracker and accounting begin together.
    fn follow(&mut self, mut what: Vec<Follow>) -> Result<()> {
        self.followed.clone_from(&what);
        let can_trace_areas = programs::has_tracepoint("alloc_vmap_area");
        if self.args.stacks && what.contains(&Follow::Vmalloc) && !can_trace_areas {
            let note = "no stacks of vmalloc: this kernel has no alloc_vmap_area (Linux 6.2)";
            self.notes.push(note.to_owned());
        }
        // The kernel's accounting has all of vmalloc but the stacks.
        what.retain(|f| *f != Follow::Vmalloc || (self.args.stacks && can_trace_areas));
        if !what.is_empty()
            && let Some(storages) = self.storages.take()
        {
            let options = Options {
                stack_rate: self.args.rate,
                objects: self.args.objects,
                caches: &self
                    .snapshots
                    .last()
                    .map_or_else(Default::default, |s| s.caches.clone()),
            };
            let (tracker, refusals) = Tracker::start(storages, &what, &options)?;
            self.tracker = tracker;
            self.do_without(&refusals);
        }
        for follow in &self.followed {
            log::info!("following {follow}");
        }
        self.generations = vec![monotonic_ns()];
        self.since = self.snapshots.len();
        self.read()
    }

    /// Notes what is missing without these programs.
    fn do_without(&mut self, refusals: &[Refusal]) {
        for refusal in refusals {
            let note = refusal.note(&self.followed);
            log::warn!("{note}");
            self.notes.push(note);
        }
        let is_blind = |f: &Follow| *f != Follow::Vmalloc && programs::is_blind(f, refusals);
        let blind = self.followed.extract_if(.., |f| is_blind(f));
        self.refused.extend(blind);
    }

    /// Takes the snapshots; begins to follow what grows, unless that is decided already.
    fn observe(&mut self, control: &Control, sink: &mut Sink) {
        let step = self.args.time / SNAPSHOTS;
        for number in 1..=SNAPSHOTS {
            let goes_on = self.wait(self.begun + step * number, control, sink);
            self.advance_generation(number);
            if self.cut.is_some() {
                return;
            }
            let could_read = self.read_on();
            if !goes_on || !could_read || sink.failed() {
                self.cut = (number < SNAPSHOTS).then(|| self.cut_off("ended"));
                return;
            }
            let may_start = (FIRST_START..=LAST_START).contains(&number);
            let is_open = self.followed.is_empty() && self.refused.is_empty();
            if is_open && !self.args.check && may_start {
                self.follow_what_grows();
            }
        }
    }

    /// Whether the process has ended and nothing else is followed.
    fn process_has_ended(&mut self) -> bool {
        let Some(process) = self.process.take_if(|process| process.has_ended()) else {
            return false;
        };
        let cut = self.cut_off(&format!("process {} ended", self.name_of(process.id)));
        log::warn!("{}", cut.why);
        if let Err(e) = self.read_tracker() {
            let note = format!("its last memory is not known: {e:#}");
            self.notes.push(note);
        }
        if self.followed.len() > 1 {
            self.notes.push(cut.why);
            return false;
        }
        self.cut = Some(cut);
        true
    }

    fn cut_off(&self, what: &str) -> Cut {
        let (seen, whole) = (self.begun.elapsed(), self.args.time);
        let (seen, whole) = (seen.as_secs_f64(), whole.as_secs_f64());
        Cut {
            share: seen / whole,
            why: format!("{what} after {seen:.1} s of {whole:.0} s"),
        }
    }

    /// The name (as seen last) and number of a process.
    fn name_of(&self, pid: u32) -> String {
        let mut seen = self.snapshots.iter().rev();
        let process = seen.find_map(|s| s.processes.get(&pid));
        format!("{}/{pid}", process.map_or("", |p| &p.comm))
    }

    /// Sleeps until then and shows the progress; `false` when the run is to end, by a signal or because
    /// the followed process has ended.
    fn wait(&mut self, until: Instant, control: &Control, sink: &mut Sink) -> bool {
        loop {
            self.report_progress(control, sink);
            let step = until.min(Instant::now() + STEP);
            if !control.sleep_until(step) || self.process_has_ended() {
                return false;
            }
            if step == until {
                return true;
            }
        }
    }

    /// Shows the progress on a terminal, or when a signal asks for it.
    fn report_progress(&self, control: &Control, sink: &mut Sink) {
        if sink.housekeep(control) {
            log::info!("memleak: {}", self.so_far());
        }
        sink.progress(false, || self.so_far());
    }

    /// `45 s of 300 s, 4 snapshots of the kernel's accounting, slab cache filp is followed`
    fn so_far(&self) -> String {
        let (elapsed, looks) = (self.begun.elapsed().as_secs(), self.snapshots.len());
        let followed: Vec<_> = self.followed.iter().map(ToString::to_string).collect();
        let followed = match &followed[..] {
            [] => "nothing is followed yet".to_owned(),
            some => format!("{} followed", some.join(", ")),
        };
        let time = self.args.time;
        format!("{elapsed} s of {time:?}, {looks} snapshots of the kernel's accounting, {followed}")
    }

    /// Begins the next generation, if it is time for it.
    fn advance_generation(&mut self, number: u32) {
        let Some(tracker) = &mut self.tracker else {
            self.generations.push(monotonic_ns());
            return;
        };
        let from = self.since as u32;
        let generation = number.saturating_sub(from) * tracker::GENERATIONS
            / (SNAPSHOTS + 1 - from.min(SNAPSHOTS));
        if generation as usize >= self.generations.len() && generation < tracker::GENERATIONS {
            self.generations.push(monotonic_ns());
            tracker.set_generation(self.generations.len() as u32 - 1);
        }
    }

    fn follow_what_grows(&mut self) {
        let all = suspects(&self.snapshots, self.accounting.reclaimable());
        let grow: Vec<_> = all.into_iter().filter(Suspect::grows).collect();
        let what = self.worth_following(&grow);
        if what.is_empty() {
            return;
        }
        self.suspected = grow;
        for suspect in &self.suspected {
            log::debug!("grows: {}", suspect.what());
        }
        self.process = what.iter().find_map(|f| Process::find(f.process()?));
        if let Err(e) = self.follow(what) {
            let note = format!("only the kernel's accounting is read: {e:#}");
            log::warn!("{note}");
            self.notes.push(note);
            self.refused.append(&mut self.followed);
        }
    }

    /// The growing kernel allocators. If all of them may be cache: only from the middle of the time on,
    /// and together with the process that grows most, which is a better suspect than a cache.
    fn worth_following(&self, grow: &[Suspect]) -> Vec<Follow> {
        let kernel = || grow.iter().filter(|s| s.allocator != Allocator::User);
        let only_caches = kernel().all(Suspect::is_cache_like);
        if only_caches && self.snapshots.len() < SNAPSHOTS as usize / 2 {
            return Vec::new();
        }
        let mut chosen: Vec<&Suspect> = kernel().filter(|s| !s.reclaimable).collect();
        if chosen.is_empty() {
            chosen = kernel().collect();
        }
        let process = grow.iter().find_map(|s| s.pid).filter(|_| only_caches);
        let of = |allocator| chosen.iter().any(|s| s.allocator == allocator);
        let mut what = Vec::new();
        let caches: Vec<String> = chosen
            .iter()
            .filter(|s| s.allocator == Allocator::Slab)
            .filter_map(|s| s.name.clone())
            .take(tracker::CACHES)
            .collect();
        if !caches.is_empty() {
            what.push(Follow::Slab(caches));
        }
        let others = [
            (Allocator::Page, Follow::Page),
            (Allocator::Vmalloc, Follow::Vmalloc),
            (Allocator::Percpu, Follow::Percpu),
        ];
        what.extend(others.into_iter().filter(|(a, _)| of(*a)).map(|(_, f)| f));
        what.extend(process.map(|pid| self.args.user(pid)));
        what
    }

    /// The findings; waits for frees by RCU when slab seems to leak.
    fn settle(&mut self, control: &Control, sink: &mut Sink) -> Findings {
        let until = Instant::now() + (self.args.time / 2).clamp(SETTLE_MIN, SETTLE);
        let follows_slab = self.followed.iter().any(|f| matches!(f, Follow::Slab(_)));
        self.check_pages();
        loop {
            let findings = findings::conclude(self);
            let grows = findings.judgement.leak > Leak::Unknown;
            if !grows || !follows_slab || self.failure.is_some() || Instant::now() >= until {
                return findings;
            }
            if control.stopped() {
                let note = "ended before frees by RCU could arrive: perhaps less leaks";
                self.notes.push(note.to_owned());
                return findings;
            }
            self.report_progress(control, sink);
            control.sleep_until(Instant::now() + SETTLE_STEP);
            self.read_on();
        }
    }

    /// The findings after the kernel was made to reclaim.
    fn put_to_the_test(
        &mut self,
        findings: Findings,
        mut reclaim: Reclaim,
        control: &Control,
    ) -> Findings {
        let Some(tracker) = &mut self.tracker else {
            self.notes
                .push("nothing was followed that reclaim could test".to_owned());
            return findings;
        };
        if findings.judgement.leak <= Leak::Unknown || control.stopped() {
            return findings;
        }
        // Objects allocated from now on do not count.
        tracker.set_generation(tracker::GENERATIONS - 1);
        self.check_pages();
        self.before_reclaim = Some(findings::holdings(self));
        log::info!("making the kernel reclaim (--reclaim)");
        if let Err(e) = reclaim.run() {
            self.before_reclaim = None;
            self.notes.push(format!("not put to the test: {e:#}"));
            return findings;
        }
        // Inodes and their parts are freed by RCU.
        let until = Instant::now() + SETTLE;
        let mut last = u64::MAX;
        while control.sleep_until(Instant::now() + SETTLE_STEP * 4) && Instant::now() < until {
            self.check_pages();
            let left = findings::holdings(self).values().map(|h| h.old).sum();
            if left == last {
                break;
            }
            last = left;
        }
        findings::conclude(self)
    }

    /// Removes pages from the tracker whose free no program saw.
    fn check_pages(&mut self) {
        let Some(tracker) = &mut self.tracker else {
            return;
        };
        if let Err(refusal) = tracker.check_pages() {
            self.do_without(&[refusal]);
        }
        if let Err(e) = self.read_tracker() {
            self.notes
                .push(format!("as of the snapshot before the last: {e:#}"));
        }
    }

    /// The verdict, the sites, the summary and the picture.
    fn report(&mut self, findings: &Findings, mut sink: Sink) -> Result<()> {
        sink.row(&Row::Verdict(Verdict {
            companion: "memleak",
            time: Time(units::realtime_ns()),
            leak: findings.judgement.leak,
            confidence: findings.judgement.confidence(),
            may_be_cache: findings.judgement.may_be_cache,
            what: findings.judgement.what.clone(),
        }))?;
        for site in findings.sites.iter().take(self.args.top) {
            sink.row(&Row::Site(Box::new(site.row.clone())))?;
        }
        let summary = self.summary(findings);
        sink.finish(summary, || chart::new(self, findings))
    }

    fn summary(&mut self, findings: &Findings) -> Summary {
        let judgement = &findings.judgement;
        let mut summary = Summary {
            headline: format!("{}: {}", judgement.headline(), judgement.what),
            counts: vec![
                ("looks".to_owned(), self.snapshots.len() as u64),
                ("sites".to_owned(), findings.sites.len() as u64),
            ],
            notes: mem::take(&mut self.notes),
            ..Summary::default()
        };
        let counts = mem::take(&mut self.counts);
        summary.counts.extend(counts.done);
        summary.lost = counts.lost.iter().map(|(_, n)| n).sum();
        summary.losses = counts.lost;
        for cache in findings.caches() {
            let aliases = accounting::aliases(cache);
            if !aliases.is_empty() {
                summary.notes.push(format!(
                    "cache {cache} is shared by {} (merged by the kernel)",
                    aliases.join(", ")
                ));
            }
        }
        summary
    }
}

//! `pingtrace memleak`: which allocator grows, and who holds what it gave.
//!
//! First the kernel's own books are read again and again, which costs nothing; only what grows
//! there, or what was asked for, is followed object by object. At the end both are compared: what
//! the tracker holds and the books do not was freed where no tracepoint is. Such frees by RCU
//! take their time to reach the books, so before anything is called a leak it is looked again.

mod books;
mod chart;
mod find;
mod pages;
mod tracker;

use super::{Results, Sink};
use crate::control::Control;
use crate::plan::Usage;
use crate::units::{self, monotonic_ns};
use anyhow::{Result, bail};
use books::Books;
use clap::ValueEnum;
use find::Findings;
use report::companion::{Row, Summary, Time, Verdict, memleak_header};
use report::memleak::{Allocator, Areas, Leak, Snapshot, Suspect, suspects};
use rustix::thread::CapabilitySet;
use std::collections::HashMap;
use std::mem;
use std::path::Path;
use std::time::{Duration, Instant};
use tracker::{Follow, Key, Options, Storage, Tracker};

/// Looks at the books in an interval.
const LOOKS: u32 = 20;
/// The first look after which something is followed: what grows only a little needs more than the
/// fewest values to be seen, and what is not chosen then is not followed.
const FIRST_START: u32 = 2 * LOOKS / 5;
/// What begins to grow later than this is not followed any more.
const LAST_START: u32 = 3 * LOOKS / 4;
/// Frees by RCU have reached the books by then (kernel/rcu/tree.c, `KFREE_DRAIN_JIFFIES`).
const SETTLE: Duration = Duration::from_secs(6);
const SETTLE_LEAST: Duration = Duration::from_secs(2);
const SETTLE_STEP: Duration = Duration::from_millis(250);

/// Find out which allocator grows and who holds what it gave: a leak, a growing cache, or neither
///
/// Reads the kernel's own books (/proc/meminfo, slabinfo, vmallocinfo) over the interval, and
/// follows object by object only what grows there, or what -t, -n or -p name. The verdict comes
/// first, with how sure it is from 0 to 1, then the sites: objects allocated during the run and
/// still there (LIVE), their bytes, how old the oldest is, how many of all were freed, the slope
/// (Theil-Sen), and who allocated them. What was allocated before the start is not seen. Before a
/// leak in slab is told, up to 6 s pass in which frees by RCU may arrive.
///
/// Cost: following takes about 0.4 us an allocation and 0.2 us a free, with a stack 2 us; of
/// caches that are not asked for (-n) some ns. --malloc takes about 5 us a call.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("log", |arg| arg.short('f')))]
pub struct Args {
    /// Which allocator to follow; auto: kernel allocators that grow, else the process that does
    #[arg(short = 't', long = "type", value_name = "WHAT", value_enum, default_value_t = What::Auto)]
    what: What,

    /// How long to look; a plain number is in s, at least 1
    #[arg(short = 'i', long, alias = "interval", value_name = "T", default_value = "300s", allow_hyphen_values = true, value_parser = units::look)]
    time: Duration,

    /// Follow only this slab cache, by its name in /proc/slabinfo or an alias of it
    #[arg(short = 'n', long, value_name = "CACHE")]
    cache: Option<String>,

    /// Show a stack of each site, not just who asked for the memory
    #[arg(short, long)]
    stacks: bool,

    /// Check only: read the kernel's books, load no program
    #[arg(short, long, conflicts_with_all = ["stacks", "malloc"])]
    check: bool,

    /// With -s: take the stacks of one in N slab objects, chosen by address; their counts stay
    /// exact. Pages, vmalloc, per-CPU memory and processes have all stacks taken
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Follow this process: which of its code touched new pages that it keeps
    #[arg(short, long, value_name = "PID", conflicts_with = "cache")]
    pid: Option<u32>,

    /// With -p: follow `malloc` and `free` instead of page faults; slows the process down
    #[arg(long, requires = "pid")]
    malloc: bool,

    /// Objects that are followed at once; more are counted as lost
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

    /// What is looked at, if not everything. A cache or a process says which allocator it is of.
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

    /// What is followed from the start; `None` when the books are to say it, or nothing is.
    fn follow(&self, allocator: Option<Allocator>, books: &Books) -> Result<Option<Follow>> {
        let follow = match (allocator, self.pid) {
            (Some(Allocator::Slab), _) => match &self.cache {
                Some(name) => Follow::Slab(vec![books.resolve(name)?]),
                None => Follow::Slab(Vec::new()),
            },
            (Some(Allocator::Page), _) => Follow::Page,
            (Some(Allocator::Vmalloc), _) => Follow::Vmalloc,
            (Some(Allocator::Percpu), _) => Follow::Percpu,
            (Some(Allocator::User), Some(pid)) => {
                if !Path::new(&format!("/proc/{pid}/status")).exists() {
                    bail!("no process {pid} (-p)");
                }
                self.user(pid)
            }
            (Some(Allocator::User), None) | (None, _) => return Ok(None),
        };
        Ok((!self.check).then_some(follow))
    }

    fn user(&self, pid: u32) -> Follow {
        if self.malloc {
            Follow::Malloc(pid)
        } else {
            Follow::Faults(pid)
        }
    }
}

/// Looks for the interval, or until it is told to stop, and says what it found.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let allocator = args.allocator()?;
    let books = Books::open(allocator, args.pid)?;
    let follow = args.follow(allocator, &books)?;
    if !args.check {
        check_capabilities()?;
    }
    let mut storage = Storage::uninit();
    let mut look = Look::new(args, books, &mut storage);
    look.read()?;
    if let Some(follow) = follow {
        look.follow(vec![follow])?;
    }
    look.begun = Instant::now();
    let mut sink = Sink::open(&args.results, "memleak", &memleak_header())?;
    look.watch(control, &mut sink)?;
    let findings = look.settle(control)?;
    look.tell(&findings, sink)
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
struct Look<'a> {
    args: &'a Args,
    books: Books,
    begun: Instant,
    snapshots: Vec<Snapshot>,
    storage: Option<&'a mut Storage>,
    tracker: Option<Tracker<'a>>,
    followed: Vec<Follow>,
    /// Which look is the first with the tracker, and what was suspected then.
    since: usize,
    suspected: Vec<Suspect>,
    areas: Areas,
    /// When each age began, `CLOCK_MONOTONIC` ns.
    ages: Vec<u64>,
    /// Bytes by site over time.
    samples: Vec<(u64, HashMap<Key, u64>)>,
    notes: Vec<String>,
}

impl<'a> Look<'a> {
    fn new(args: &'a Args, books: Books, storage: &'a mut Storage) -> Self {
        Self {
            args,
            books,
            begun: Instant::now(),
            snapshots: Vec::new(),
            storage: Some(storage),
            tracker: None,
            followed: Vec::new(),
            since: 0,
            suspected: Vec::new(),
            areas: Areas::default(),
            ages: vec![monotonic_ns()],
            samples: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Reads the books, and what the tracker holds.
    fn read(&mut self) -> Result<()> {
        let snapshot = self.books.read()?;
        let age = self.ages.len() as u32 - 1;
        if self.followed.contains(&Follow::Vmalloc) {
            self.areas.observe(age, &snapshot.areas);
        }
        self.snapshots.push(snapshot);
        if let Some(tracker) = &self.tracker {
            let sites = tracker.sites()?;
            let bytes = sites.iter().map(|site| (site.key, site.bytes)).collect();
            self.samples.push((monotonic_ns(), bytes));
        }
        Ok(())
    }

    /// Starts to follow; the books are read anew, so that both begin together.
    fn follow(&mut self, mut what: Vec<Follow>) -> Result<()> {
        self.followed.clone_from(&what);
        let can_trace_areas = tracker::has_tracepoint("alloc_vmap_area");
        if self.args.stacks && what.contains(&Follow::Vmalloc) && !can_trace_areas {
            let note = "no stacks of vmalloc: this kernel has no alloc_vmap_area (Linux 6.2)";
            self.notes.push(note.to_owned());
        }
        // The books know all of vmalloc but the stacks.
        what.retain(|f| *f != Follow::Vmalloc || (self.args.stacks && can_trace_areas));
        if !what.is_empty()
            && let Some(storage) = self.storage.take()
        {
            let options = Options {
                stack_rate: self.args.stacks.then_some(self.args.rate),
                objects: self.args.objects,
                caches: &self
                    .snapshots
                    .last()
                    .map_or_else(Default::default, |s| s.caches.clone()),
            };
            self.tracker = Some(Tracker::start(storage, &what, &options)?);
        }
        for follow in &self.followed {
            log::info!("following {follow}");
        }
        self.ages = vec![monotonic_ns()];
        self.since = self.snapshots.len();
        self.read()
    }

    /// Reads the books again and again; begins to follow what grows, unless that was settled.
    fn watch(&mut self, control: &Control, sink: &mut Sink) -> Result<()> {
        let step = self.args.time / LOOKS;
        for look in 1..=LOOKS {
            let goes_on = control.sleep_until(self.begun + step * look);
            sink.housekeep(control);
            self.grow_older(look);
            self.read()?;
            if !goes_on || sink.failed() {
                break;
            }
            let may_start = (FIRST_START..=LAST_START).contains(&look);
            if self.followed.is_empty() && !self.args.check && may_start {
                self.follow_what_grows()?;
            }
        }
        Ok(())
    }

    /// Objects that come from now on are younger.
    fn grow_older(&mut self, look: u32) {
        let Some(tracker) = &mut self.tracker else {
            self.ages.push(monotonic_ns());
            return;
        };
        let from = self.since as u32;
        let age = look.saturating_sub(from) * tracker::AGES / (LOOKS + 1 - from.min(LOOKS));
        if age as usize >= self.ages.len() && age < tracker::AGES {
            self.ages.push(monotonic_ns());
            tracker.set_age(self.ages.len() as u32 - 1);
        }
    }

    fn follow_what_grows(&mut self) -> Result<()> {
        let all = suspects(&self.snapshots, self.books.reclaimable());
        let grow: Vec<_> = all.into_iter().filter(Suspect::grows).collect();
        let what = self.worth_following(&grow);
        if what.is_empty() {
            return Ok(());
        }
        self.suspected = grow;
        for suspect in &self.suspected {
            log::debug!("grows: {}", suspect.what());
        }
        self.follow(what)
    }

    /// Kernel allocators that grow; from the middle of the time on also reclaimable caches, or the
    /// process that grows most: a process that takes memory is nothing strange.
    fn worth_following(&self, grow: &[Suspect]) -> Vec<Follow> {
        let kernel = |s: &&Suspect| s.allocator != Allocator::User && !s.reclaimable;
        let mut chosen: Vec<&Suspect> = grow.iter().filter(kernel).collect();
        if chosen.is_empty() && self.snapshots.len() < LOOKS as usize / 2 {
            return Vec::new();
        }
        if chosen.is_empty() {
            chosen = grow.iter().filter(|s| s.reclaimable).collect();
        }
        if let (true, Some(process)) = (chosen.is_empty(), grow.iter().find_map(|s| s.pid)) {
            return vec![self.args.user(process)];
        }
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
        what
    }

    /// What was found; looks on for a while when slab seems to leak.
    fn settle(&mut self, control: &Control) -> Result<Findings> {
        let until = Instant::now() + (self.args.time / 2).clamp(SETTLE_LEAST, SETTLE);
        let follows_slab = self.followed.iter().any(|f| matches!(f, Follow::Slab(_)));
        loop {
            let findings = find::conclude(self)?;
            if findings.judgement.leak == Leak::No || !follows_slab || Instant::now() >= until {
                return Ok(findings);
            }
            if control.stopped() {
                let note = "ended before frees by RCU could arrive: perhaps less leaks";
                self.notes.push(note.to_owned());
                return Ok(findings);
            }
            control.sleep_until(Instant::now() + SETTLE_STEP);
            self.read()?;
        }
    }

    /// The verdict, the sites, the summary and the picture.
    fn tell(&mut self, findings: &Findings, mut sink: Sink) -> Result<()> {
        sink.row(&Row::Verdict(Verdict {
            companion: "memleak",
            time: Time(units::realtime_ns()),
            leak: findings.judgement.leak,
            confidence: findings.judgement.confidence,
            what: findings.judgement.what.clone(),
        }))?;
        for site in findings.sites.iter().take(self.args.top) {
            sink.row(&Row::Site(Box::new(site.row.clone())))?;
        }
        let summary = self.summary(findings)?;
        sink.finish(summary, || chart::of(self, findings))
    }

    fn summary(&mut self, findings: &Findings) -> Result<Summary> {
        let mut summary = Summary {
            headline: format!(
                "{} (confidence {:.2}): {}",
                findings.judgement.leak.words(),
                findings.judgement.confidence,
                findings.judgement.what
            ),
            counts: vec![
                ("looks".to_owned(), self.snapshots.len() as u64),
                ("sites".to_owned(), findings.sites.len() as u64),
            ],
            notes: mem::take(&mut self.notes),
            ..Summary::default()
        };
        if let Some(tracker) = &self.tracker {
            let counts = tracker.counts()?;
            summary.counts.extend(counts.done);
            summary.lost = counts.lost.iter().map(|(_, n)| n).sum();
            summary.losses = counts.lost;
        }
        for cache in findings.caches() {
            let aliases = books::aliases(cache);
            if !aliases.is_empty() {
                summary.notes.push(format!(
                    "cache {cache} is shared by {} (merged by the kernel)",
                    aliases.join(", ")
                ));
            }
        }
        Ok(summary)
    }
}

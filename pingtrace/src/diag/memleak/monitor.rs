//! Observes the kernel's accounting over the run, and follows what grows in it.

use super::accounting::{self, Accounting};
use super::args::Args;
use super::follow::Follow;
use super::pages;
use super::programs;
use super::tracker::{self, Counts, Key, Options, RawSite, Tracker};
use crate::control::Control;
use crate::kernel::features;
use crate::kernel::object::{Refusal, Storages};
use crate::kernel::process::Process;
use crate::output::companion::Sink;
use crate::units::monotonic_ns;
use anyhow::{Error, Result};
use report::companion::memleak::{Allocator, Areas, Origin, Snapshot, Suspect, suspects};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Snapshots of the kernel's accounting in a run.
pub const SNAPSHOTS: u32 = 20;
/// The first snapshot after which something is followed: slow growth needs more than the
/// fewest values to be seen, and what is not chosen then is never followed.
const FIRST_START: u32 = 2 * SNAPSHOTS / 5;
/// The last snapshot after which something is followed.
const LAST_START: u32 = 3 * SNAPSHOTS / 4;
/// Upper bound on the reaction time to a signal.
const STEP: Duration = Duration::from_millis(250);

/// The run so far.
pub struct Monitor<'a> {
    pub args: &'a Args,
    pub accounting: Accounting,
    pub begun: Instant,
    pub snapshots: Vec<Snapshot>,
    pub storages: Option<&'a mut Storages>,
    pub tracker: Option<Tracker<'a>>,
    pub followed: Vec<Follow>,
    /// What could not be followed.
    pub refused: Vec<Follow>,
    /// The observed process, until it ends.
    pub process: Option<Process>,
    /// The tracker's sites and counts at the last snapshot.
    pub raw: Vec<RawSite>,
    pub counts: Counts,
    /// The first snapshot with the tracker, and what was suspected then.
    pub since: usize,
    pub suspected: Vec<Suspect>,
    pub areas: Areas,
    /// When each generation began, `CLOCK_MONOTONIC` ns.
    pub generations: Vec<u64>,
    /// Bytes by site over time (`CLOCK_MONOTONIC` ns).
    pub samples: Vec<(u64, HashMap<Key, u64>)>,
    pub notes: Vec<String>,
    /// The purpose of objects, by their stack.
    pub origins: RefCell<HashMap<Key, Origin>>,
    /// The live objects before reclaim.
    pub before_reclaim: Option<HashMap<Group, Holding>>,
    /// Why the run ended early.
    pub cut: Option<Cut>,
    /// Why the run failed before its end.
    pub failure: Option<Error>,
}

/// A run that ended early.
pub struct Cut {
    /// Share of the planned time, 0 to 1.
    pub share: f64,
    pub why: String,
}

/// Sites that are judged together.
pub type Group = (Allocator, Option<String>, Origin);

/// The live objects of a group at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holding {
    /// Objects, without those of the last generation.
    pub old: u64,
    /// Of all objects.
    pub bytes: u64,
}

impl<'a> Monitor<'a> {
    pub fn new(
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
    pub fn read(&mut self) -> Result<()> {
        let snapshot = self.accounting.read()?;
        let generation = self.generations.len() as u32 - 1;
        if self.followed.contains(&Follow::Vmalloc) {
            self.areas.observe(generation, &snapshot.areas);
        }
        self.snapshots.push(snapshot);
        self.read_tracker()
    }

    /// Reads the tracker. Of a process that has ended, the last values remain.
    pub fn read_tracker(&mut self) -> Result<()> {
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
    pub fn read_on(&mut self) -> bool {
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
    pub fn follow(&mut self, mut what: Vec<Follow>) -> Result<()> {
        self.followed.clone_from(&what);
        let can_trace_areas = features::known().has_tracepoint("alloc_vmap_area");
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
    pub fn do_without(&mut self, refusals: &[Refusal]) {
        for refusal in refusals {
            let note = programs::note(refusal, &self.followed);
            log::warn!("{note}");
            self.notes.push(note);
        }
        let is_blind = |f: &Follow| *f != Follow::Vmalloc && programs::is_blind(f, refusals);
        let blind = self.followed.extract_if(.., |f| is_blind(f));
        self.refused.extend(blind);
    }

    /// Takes the snapshots; begins to follow what grows, unless that is decided already.
    pub fn observe(&mut self, control: &Control, sink: &mut Sink) {
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
    pub fn process_has_ended(&mut self) -> bool {
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

    pub fn cut_off(&self, what: &str) -> Cut {
        let (seen, whole) = (self.begun.elapsed(), self.args.time);
        let (seen, whole) = (seen.as_secs_f64(), whole.as_secs_f64());
        Cut {
            share: seen / whole,
            why: format!("{what} after {seen:.1} s of {whole:.0} s"),
        }
    }

    /// The name (as seen last) and number of a process.
    pub fn name_of(&self, pid: u32) -> String {
        let mut seen = self.snapshots.iter().rev();
        let process = seen.find_map(|s| s.processes.get(&pid));
        format!("{}/{pid}", process.map_or("", |p| &p.comm))
    }

    /// The followed process.
    pub fn user(&self) -> Option<u32> {
        self.followed.iter().find_map(Follow::process)
    }

    /// Sleeps until then and shows the progress; `false` when the run is to end, by a signal or because
    /// the followed process has ended.
    pub fn wait(&mut self, until: Instant, control: &Control, sink: &mut Sink) -> bool {
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
    pub fn report_progress(&self, control: &Control, sink: &mut Sink) {
        if sink.housekeep(control) {
            log::info!("memleak: {}", self.so_far());
        }
        sink.progress(false, || self.so_far());
    }

    /// `45 s of 300 s, 4 snapshots of the kernel's accounting, slab cache filp is followed`
    pub fn so_far(&self) -> String {
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
    pub fn advance_generation(&mut self, number: u32) {
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

    pub fn follow_what_grows(&mut self) {
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
    pub fn worth_following(&self, grow: &[Suspect]) -> Vec<Follow> {
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

    /// Removes pages from the tracker whose free no program saw.
    pub fn check_pages(&mut self) {
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
}

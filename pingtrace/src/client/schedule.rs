//! Captures at each tick of a cron expression, for ever, in one process.

use super::args::Args;
use super::plan::Plan;
use crate::control::Control;
use crate::exit::Outcome;
use crate::exit::Usage;
use crate::kernel::confine::{Mode, confine};
use crate::options::Origin;
use crate::output::destinations::Destinations;
use crate::output::entry::Entry;
use crate::output::picture::{DATED, prune};
use crate::output::story;
use crate::units::{monotonic_ns, realtime_ns};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};
use croner::Cron;
use report::format::json::{self, NoCapture};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How soon a signal ends the wait for the next tick.
const TICK: Duration = Duration::from_millis(100);

/// Runs `capture` at each tick until a signal. A failed capture is reported, also in the log and in JSON,
/// and the next tick is tried; a tick during a running capture is skipped and reported likewise. Fails
/// at the end if a capture failed.
pub fn run(
    args: &Args,
    cron: &Cron,
    control: &Control,
    mut capture: impl FnMut(&Args) -> Result<Outcome>,
) -> Result<Outcome> {
    let mut args = args.clone();
    args.results
        .output
        .image
        .get_or_insert_with(|| PathBuf::from(DATED));
    let written = check(&args)?;
    confine(Mode::Schedule, &written, &[])?;
    story::date_lines();
    let mut captures = Captures::default();
    let mut after = Local::now();
    loop {
        let next = cron
            .find_next_occurrence(&after, false)
            .context("the schedule (--schedule) has no further tick")?;
        let waits = format!("next capture at {}", next.format("%Y-%m-%d %H:%M:%S"));
        log::info!("{waits}");
        control.part().begins(&waits);
        if !wait_until(next, control, &captures) {
            return captures.outcome();
        }
        captures.count(&args, capture(&args));
        for picture in args.results.output.images(Origin::LiveRun) {
            let Some(keep) = args.keep else { break };
            prune(&picture, keep as usize).unwrap_or_else(|e| log::warn!("{e:#}"));
        }
        after = skip_missed(cron, next, &args);
    }
}

/// Reports before the first tick what would fail at each one, except for names that cannot be resolved
/// and missing routes, which may exist by then. Returns where files are written.
fn check(args: &Args) -> Result<Vec<PathBuf>> {
    match Plan::new(args) {
        Err(e) if e.is::<Usage>() => return Err(e),
        Err(e) => log::warn!("a capture would fail now: {e:#}"),
        Ok(_) => {}
    }
    open(args).map(|to| to.directories())
}

/// Opens the outputs of a capture.
fn open(args: &Args) -> Result<Destinations> {
    Destinations::open(&args.results.output, Origin::LiveRun, "")
}

/// Results of the captures so far.
#[derive(Debug, Default)]
struct Captures {
    done: u64,
    failed: u64,
    unanswered: u64,
    missed: u64,
}

impl Captures {
    fn count(&mut self, args: &Args, result: Result<Outcome>) {
        self.done += 1;
        match result {
            Ok(Outcome::Answered) => {}
            Ok(Outcome::Missed) => self.missed += 1,
            Ok(Outcome::Unanswered) => {
                self.unanswered += 1;
                log::error!("no probe was answered in this capture");
            }
            Err(e) => {
                self.failed += 1;
                let why = format!("{e:#}");
                log::error!("the capture failed: {why}");
                note(args, NoCapture::Failed, &why);
            }
        }
    }

    fn outcome(&self) -> Result<Outcome> {
        if self.failed > 0 {
            bail!("{self}");
        }
        Ok(match self {
            Self { missed: 1.., .. } => Outcome::Missed,
            _ if self.done > self.unanswered => Outcome::Answered,
            _ => Outcome::Unanswered,
        })
    }
}

impl std::fmt::Display for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            done,
            failed,
            unanswered,
            missed,
        } = self;
        write!(
            f,
            "{done} captures: {failed} failed, {unanswered} without an answer, {missed} missed an objective"
        )
    }
}

/// Writes a line to the log and to JSON.
fn note(args: &Args, what: NoCapture, why: &str) {
    let line = json::no_capture_line(what, why, realtime_ns());
    let written = open(args).and_then(|to| to.close(&[Entry::NoCapture(&line)]));
    if let Err(e) = written {
        log::error!("that is not in the log either: {e:#}");
    }
}

/// Returns false if a signal came first. The clock is read anew each time, as it may be set.
fn wait_until(time: DateTime<Local>, control: &Control, captures: &Captures) -> bool {
    while Local::now() < time {
        control.part().goes_on(monotonic_ns(), || None);
        let asked = control.asked();
        // There is no log to reopen meanwhile.
        if asked.reopen {
            control.part().reloaded();
        }
        if asked.summary {
            log::info!(
                "{captures}; the next at {}",
                time.format("%Y-%m-%d %H:%M:%S")
            );
        }
        if control.stopped() {
            control.part().stops();
            return false;
        }
        let left = (time - Local::now()).to_std().unwrap_or_default();
        thread::sleep(left.min(TICK));
    }
    !control.stopped()
}

/// The moment after which the next tick is looked for.
fn skip_missed(cron: &Cron, started: DateTime<Local>, args: &Args) -> DateTime<Local> {
    let now = Local::now();
    let mut last = started;
    let mut skipped = 0;
    while let Ok(tick) = cron.find_next_occurrence(&last, false) {
        if tick > now {
            break;
        }
        last = tick;
        skipped += 1;
    }
    if skipped > 0 {
        let took = args.time.unwrap_or_default();
        let why =
            format!("{skipped} tick(s) skipped: the capture of {took:?} (-t) was still running");
        log::warn!("{why}");
        note(args, NoCapture::Skipped, &why);
    }
    last
}

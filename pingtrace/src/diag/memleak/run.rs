//! A run from its start to its verdict.

use super::accounting::{self, Accounting};
use super::args::Args;
use super::chart;
use super::findings::{self, Findings};
use super::follow::Follow;
use super::monitor::Monitor;
use super::reclaim::Reclaim;
use super::tracker;
use crate::control::Control;
use crate::kernel::confine::{Mode, confine};
use crate::kernel::{object, privileges};
use crate::output::companion::Sink;
use crate::units;
use anyhow::Result;
use report::companion::memleak::{Leak, Verdict, memleak_header};
use report::companion::{Row, Summary, Time};
use std::mem;
use std::time::{Duration, Instant};

/// Frees by RCU have reached the kernel's accounting by then (kernel/rcu/tree.c, `KFREE_DRAIN_JIFFIES`).
const SETTLE: Duration = Duration::from_secs(6);
const SETTLE_MIN: Duration = Duration::from_secs(2);
const SETTLE_STEP: Duration = Duration::from_millis(250);

/// Runs for the interval or until a signal, then reports.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let allocator = args.allocator()?;
    let process = args.process()?;
    let accounting = Accounting::open(allocator, args.pid)?;
    let follow = args.follow(allocator, &accounting)?;
    if !args.check {
        privileges::OBJECT.check("following allocations (-c needs no program)")?;
    }
    let reclaim = args.reclaim.then(Reclaim::open).transpose()?;
    let mut storages = object::storages();
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
    let mut sink = Sink::open(&args.common.output, "memleak", &memleak_header())?;
    confine(Mode::Memleak, &sink.directories(), &[])?;
    control.part().begins("memleak: watches");
    monitor.observe(control, &mut sink);
    let mut findings = monitor.settle(control, &mut sink);
    if let Some(reclaim) = reclaim {
        findings = monitor.put_to_the_test(findings, reclaim, control);
    }
    control.part().stops();
    monitor.report(&findings, sink)?;
    monitor.failure.map_or(Ok(()), Err)
}

impl Monitor<'_> {
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

    /// The verdict, the sites, the summary and the picture.
    fn report(&mut self, findings: &Findings, mut sink: Sink) -> Result<()> {
        sink.row(&Row::Verdict(Verdict {
            companion: "memleak",
            time: Time(units::realtime_ns()),
            leak: findings.judgement.leak,
            confidence: findings.judgement.confidence(),
            may_be_cache: findings.judgement.may_be_cache,
            what: findings.judgement.what.clone(),
        }));
        for site in findings.sites.iter().take(self.args.top) {
            sink.row(&Row::Site(Box::new(site.row.clone())));
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

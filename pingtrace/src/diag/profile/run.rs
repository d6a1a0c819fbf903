//! A run from its start to its summary.

use super::args::Args;
use super::names::Names;
use super::programs::{Losses, Programs};
use crate::control::Control;
use crate::kernel::confine::{Mode, confine};
use crate::kernel::host;
use crate::kernel::ids::Ids;
use crate::kernel::object::Storage;
use crate::kernel::process::Process;
use crate::output::companion::Sink;
use crate::output::files;
use crate::units::{Time, monotonic_ns};
use anyhow::{Context as _, Result, anyhow};
use report::companion::profile::{
    Context, Flame, Measure, Node, Profile, Stack, Taken, folded, pprof, stack_header,
};
use report::companion::{Row, Summary};
use report::draw::{self, Picture};
use std::time::{Duration, Instant};

/// Time between two looks at which stacks are new: their processes may end.
const POLL: Duration = Duration::from_millis(500);

/// What a run found.
struct Found {
    profile: Profile,
    /// Samples of the idle task, which are not in the profile.
    idle: u64,
    /// Tasks that were off their CPU at the end.
    still_off: u64,
    losses: Losses,
    /// Why it ended early.
    over: Option<String>,
    /// When it was read, `CLOCK_MONOTONIC` ns.
    end_ns: u64,
}

/// Runs until the time is over, the process ends or a signal comes, then reports.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    args.check()?;
    let processes = args.processes()?;
    let cpus = args.cpus()?;
    let ids = Ids::read()?;
    let mut storage = Storage::uninit();
    let mut programs = Programs::load(&mut storage, &args.setup(&ids)?)?;
    let header = if args.folded {
        String::new()
    } else {
        stack_header()
    };
    let mut sink = Sink::open(&args.common.output, "profile", &header)?;
    match args.measure() {
        Measure::Samples => programs.sample(&cpus, args.period_ns())?,
        Measure::OffCpu => programs.follow()?,
    }
    if let Some(path) = &args.pprof {
        let writable = files::try_replace(path);
        writable.map_err(|why| anyhow!("write {} (--pprof): {why}", path.display()))?;
    }
    let pprof = args
        .pprof
        .iter()
        .map(|path| files::directory(path).to_owned());
    let written: Vec<_> = sink.directories().into_iter().chain(pprof).collect();
    confine(Mode::Profile, &written, &[])?;
    control.part().begins("profile: watches");
    let time = args.time();
    let takes = time.map_or("Until SIGINT.".to_owned(), |t| format!("Takes {t:?}."));
    log::info!("profile: watching. {}. {takes}", args.words());
    let mut names = Names::new(ids);
    let over = observe(args, control, &processes, &programs, &mut names, &mut sink)?;
    control.part().stops();
    programs.stop();
    let found = collect(args, &programs, &mut names, over)?;
    report(args, &found, sink)
}

/// Names stacks as they come, until the end; returns why it is early.
fn observe(
    args: &Args,
    control: &Control,
    processes: &[Process],
    programs: &Programs<'_>,
    names: &mut Names,
    sink: &mut Sink,
) -> Result<Option<String>> {
    let (start, end) = (Instant::now(), args.time().map(|t| Instant::now() + t));
    let mut next = start;
    loop {
        next += POLL;
        let until = end.map_or(next, |end| end.min(next));
        let goes_on = control.sleep_until(until) && !sink.failed();
        let is_over = || end.is_some_and(|end| Instant::now() >= end);
        names.learn(programs, || !is_over())?;
        if let Some(ended) = processes.iter().find(|process| process.has_ended()) {
            let why = format!("process or thread {} has ended", ended.id);
            log::warn!("{why}");
            return Ok(Some(why));
        }
        if !goes_on || is_over() {
            return Ok(None);
        }
        if sink.housekeep(control) {
            let found = collect(args, programs, names, None)?;
            sink.report_so_far(summary(args, &found));
        }
        sink.progress(false, || format!("{} s", start.elapsed().as_secs()));
    }
}

/// All that was counted so far.
fn collect(
    args: &Args,
    programs: &Programs<'_>,
    names: &mut Names,
    over: Option<String>,
) -> Result<Found> {
    let (measure, now) = (args.measure(), monotonic_ns());
    let mut stacks: Vec<Stack> = Vec::new();
    for entry in programs.sums() {
        let (key, sum) = entry?;
        let ns = match measure {
            Measure::Samples => sum.count * args.period_ns(),
            Measure::OffCpu => sum.ns,
        };
        stacks.push(names.stack(programs, measure, &key, (sum.count, ns))?);
    }
    let mut still_off = 0;
    for off in programs.off() {
        let off = off?;
        let ns = now.saturating_sub(off.since_ns);
        if args.counts_wait(ns) {
            still_off += 1;
            stacks.push(names.stack(programs, measure, &off.key, (1, ns))?);
        }
    }
    let is_idle = |stack: &Stack| stack.context == Context::Idle;
    let idle = stacks.iter().filter(|s| is_idle(s)).map(|s| s.count).sum();
    stacks.retain(|stack| args.includes_idle() || !is_idle(stack));
    Ok(Found {
        profile: Profile::new(measure, stacks.into_iter()),
        idle,
        still_off,
        losses: programs.losses(),
        over,
        end_ns: now,
    })
}

/// The rows or the folded lines, the summary and the picture.
fn report(args: &Args, found: &Found, mut sink: Sink) -> Result<()> {
    let summary = summary(args, found);
    // If one of the files fails, the others are written all the same.
    let written = write_pprof(args, found, &summary, sink.start());
    let flame = Flame {
        title: format!(
            "profile on {}, {}",
            host::name().unwrap_or_default(),
            args.words()
        ),
        headline: summary.headline.clone(),
        notes: summary.notes.join("; "),
        measure: args.measure(),
        root: Node::new(&found.profile),
    };
    let draw = |path: &std::path::Path| Ok(draw::write(Picture::Flame(&flame), path)?);
    if args.folded {
        let lines = folded(&found.profile, args.folding());
        sink.finish_apart(summary, &lines, draw)?;
        return written;
    }
    for stack in found.profile.stacks().iter().take(args.top) {
        sink.row(&Row::Stack(Box::new(stack.clone())));
    }
    sink.finish_with(summary, draw)?;
    written
}

/// The file for pprof, if one is wanted.
fn write_pprof(args: &Args, found: &Found, summary: &Summary, start: Time) -> Result<()> {
    let Some(path) = &args.pprof else {
        return Ok(());
    };
    let taken = Taken {
        start_unix_ns: start.unix_ns,
        elapsed_ns: found.end_ns.saturating_sub(start.ns),
        period_ns: args.period_ns(),
        notes: summary.notes.clone(),
    };
    let file = pprof(&found.profile, &taken).context("compress the profile (--pprof)")?;
    let written = files::replace(path, &file, files::MODE);
    written.map_err(|why| anyhow!("write {} (--pprof): {why}", path.display()))?;
    log::info!("pprof: {}", path.display());
    Ok(())
}

fn summary(args: &Args, found: &Found) -> Summary {
    let (profile, losses) = (&found.profile, &found.losses);
    let count = profile.stacks().iter().map(|stack| stack.count).sum();
    let counts = match profile.measure {
        Measure::Samples => vec![("samples", count), ("idle", found.idle)],
        Measure::OffCpu => vec![("waits", count), ("still_off", found.still_off)],
    };
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(name, n)| (name.to_owned(), n))
        .collect();
    counts.push(("stacks".to_owned(), profile.stacks().len() as u64));
    let lost = [
        ("no room for its stacks", losses.sums_full),
        ("too many tasks off their CPU", losses.left_full),
        ("nested", losses.nested),
    ];
    let lost = lost.into_iter().filter(|(_, n)| *n > 0);
    let lost: Vec<_> = lost.map(|(name, n)| (name.to_owned(), n)).collect();
    Summary {
        headline: profile.headline(),
        counts,
        lost: lost.iter().map(|(_, n)| n).sum(),
        losses: lost,
        notes: notes(args, found),
        ..Summary::default()
    }
}

/// What a reader has to know.
fn notes(args: &Args, found: &Found) -> Vec<String> {
    let profile = &found.profile;
    let percent = |share: f64| 100.0 * share;
    let mut notes: Vec<String> = found.over.iter().cloned().collect();
    let missing = profile.share(Stack::is_missing);
    if missing > 0.0 {
        notes.push(format!("{:.1} % without a stack", percent(missing)));
    }
    let short = profile.share(|stack| stack.user.len() == 1 && !stack.is_missing());
    if short > 0.0 {
        notes.push(format!(
            "{:.1} % with one frame of the process only: code without frame pointers",
            percent(short)
        ));
    }
    if found.losses.stacks_full > 0 {
        notes.push(format!(
            "{} stacks found no room: raise --stack-storage-size",
            found.losses.stacks_full
        ));
    }
    if args.measure() == Measure::OffCpu {
        notes.push("threads that did not run meanwhile are not seen".to_owned());
    }
    notes
}

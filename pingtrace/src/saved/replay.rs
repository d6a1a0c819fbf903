//! `pingtrace replay FILE`: a saved run again, through the code of a live one.
//!
//! The file is read twice: first for the run (the last of several), which the first line of every
//! output needs, then for the probes. Time is that of the probes. A file with all probes gives the
//! result of the live run. A file that lacks some (a run with `-m`, or rotated away) cannot, because
//! baselines and clocks were learnt from all probes: then each probe keeps its saved breakdown and
//! verdict, and the statistics of all probes are the saved ones.

use crate::capture::collector::Collector;
use crate::control::Asked;
use crate::exit::Outcome;
use crate::exit::Usage;
use crate::options::{Origin, Results};
use crate::output::destinations;
use crate::output::live;
use crate::output::logs;
use crate::output::run::{Outputs, Source, Wanted};
use crate::saved::files::{self, SavedFile, statistics_beside};
use crate::saved::span::{Bounds, Span};
use crate::units::{self, Time};
use anyhow::{Context, Result, anyhow, bail};
use report::analysis::loss::LossId;
use report::format::saved::{self, Probes, Scan};
use report::model::{
    Counters, Judged, Loss, Place, Point, Probe, ProbeResult, Run, Slow, Status, Summary,
};
use report::units::duration;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Analyse a saved run again with the code of a live run: breakdown, verdicts, statistics, pictures
///
/// `-o html`, `csv` and `perfetto` pass it on to a browser, a spreadsheet or Perfetto (ui.perfetto.dev).
///
/// FILE is the output of `-o json`, or a log's FILE.seq, to which the rotated FILE.seq.1, .2 ... and the
/// FILE.stat beside it belong. Files can be compressed with gzip or zstd. Of a file that was cut off the
/// complete lines count; of several runs in a file the last one counts. If the run recorded only slow
/// probes (-m), their breakdowns and verdicts stay those of the run, which knew all probes; so do the
/// statistics of all probes. Exit status: that of the run; 1 if a file could not be read.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The saved run; - reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Of a run with several targets, the one of this name
    #[arg(long, visible_alias = "peer", value_name = "NAME")]
    target: Option<String>,

    #[command(flatten)]
    bounds: Bounds,

    /// Record only probes that take at least this long; a plain number is in us [default: as in
    /// the run]
    #[arg(short = 'm', long, visible_aliases = ["maxdelay", "over"], value_name = "T", allow_hyphen_values = true, value_parser = units::microseconds)]
    threshold: Option<Duration>,

    /// Show the run on the terminal as the live view would have shown it, and scroll through its time: left,
    /// right, Page Up, Page Down, Home, End; other keys: ?
    #[arg(long)]
    live: bool,

    #[command(flatten)]
    results: Results,
}

/// Reads the file, and writes the results.
pub fn run(args: &Args, files: OpenFiles) -> Result<Outcome> {
    let saved = SavedRun::read(files, args.target.as_deref())?;
    saved.refuse_to_write_into(&args.results)?;
    let mut known = saved.read_results()?;
    let (mut start, mut end) = (saved.start()?, saved.end());
    let first_due_ns = start.ns;
    let span = Span::new(args.bounds, start.unix_ns)?;
    if args.results.slo.is_some() && !known.complete && end.is_none() {
        bail!(
            "{} lacks probes and final statistics: objectives (--slo) cannot be judged",
            saved.name
        );
    }
    if let Some(span) = span {
        (start, end) = within(span, start, end);
        known = SavedResults {
            summary: None,
            complete: false,
        };
    }
    let mut run = saved.run()?.clone();
    run.start_ns = Some(start.ns);
    run.start_unix_ns = start.unix_ns;
    let threshold = args.threshold.map_or(0, |t| t.as_nanos() as u64);
    run.threshold_ns = run.threshold_ns.max(threshold);
    let names = saved.scan.names.clone();
    let wanted = Wanted {
        results: &args.results,
        threshold_ns: run.threshold_ns,
        targets: None,
        live: args.live,
    };
    let outputs = Outputs::start(&wanted, Source::Saved(names))?;
    let mut collector = Collector::new(&args.results, run, outputs.way(0));
    collector.start(start.ns, first_due_ns);
    let mut replay = Replay::new(collector, start, known.complete);
    let (mut all, mut taken) = (0, 0);
    saved.each_result(|result| {
        all += 1;
        if span.is_some_and(|span| !span.has(result.probe.sent_unix_ns)) {
            return true;
        }
        taken += 1;
        replay.take(result)
    })?;
    if span.is_some() {
        if taken == 0 {
            bail!(
                "{}: no probe of it was sent in that time (--from, --to), but {all} at other times",
                saved.name
            );
        }
        log::info!(
            "{}: {taken} of {all} recorded probes were sent in that time (--from, --to)",
            saved.name
        );
    }
    let (outcome, judged) = replay.finish(end, known);
    outputs.finish()?;
    Ok(outcome.judged(&judged))
}

/// The start and the end of a part of a run, as [`SavedRun::start`] and [`SavedRun::end`] say it of all of it.
fn within(span: Span, start: Time, end: Option<(i64, u64)>) -> (Time, Option<(i64, u64)>) {
    let later = span.from.saturating_sub(start.unix_ns).max(0);
    let start = Time {
        ns: start.ns.saturating_add_signed(later),
        unix_ns: start.unix_ns.saturating_add(later),
    };
    let end = end.map(|(unix_ns, _)| {
        let unix_ns = unix_ns.min(span.to).max(start.unix_ns);
        (unix_ns, unix_ns.abs_diff(start.unix_ns))
    });
    (start, end)
}

/// What the file says about the run, and whether it has all of its probes.
struct SavedResults {
    summary: Option<Summary>,
    complete: bool,
}

impl SavedResults {
    /// The run's own summary: the source of what only the live run could know, and in an incomplete
    /// file also of the statistics of all probes.
    fn amend(self, replayed: Summary) -> Summary {
        let Some(saved) = self.summary else {
            return replayed;
        };
        let recorded = replayed.counters.recorded;
        if !self.complete {
            return Summary {
                counters: Counters {
                    recorded,
                    ..saved.counters
                },
                causes: replayed.causes,
                slow: Slow {
                    from_ns: replayed.slow.from_ns.or(saved.slow.from_ns),
                    ..replayed.slow
                },
                slo: Vec::new(),
                ..saved
            };
        }
        Summary {
            counters: Counters {
                recorded,
                late_out: replayed.counters.late_out,
                late_in: replayed.counters.late_in,
                ..saved.counters
            },
            losses: saved.losses,
            own: saved.own,
            moved: saved.moved,
            ..replayed
        }
    }
}

/// The files of a run, and those with its statistics. Nothing is parsed yet.
pub struct OpenFiles {
    run: Vec<SavedFile>,
    statistics: Option<Vec<SavedFile>>,
    /// Where the results will be written.
    pub written: Vec<PathBuf>,
}

impl OpenFiles {
    /// Opens them.
    pub fn new(args: &Args) -> Result<Self> {
        let output = &args.results.output;
        let mut written = destinations::directories(output, Origin::SavedRun)?;
        if args.live {
            live::check(output, Origin::SavedRun)?;
            written.push(live::pictures(output));
        }
        let path = &args.file;
        let statistics = statistics_beside(path).map(|path| files::open(&path));
        let statistics = match statistics {
            Some(Err(e)) if files::is_missing(&e) => None,
            opened => opened.transpose()?,
        };
        Ok(Self {
            run: files::open(path)?,
            statistics,
            written,
        })
    }
}

/// A file, and those that belong to it.
struct SavedRun {
    /// For messages.
    name: String,
    /// The oldest first.
    files: Vec<SavedFile>,
    scan: Scan,
}

impl SavedRun {
    fn read(files: OpenFiles, target: Option<&str>) -> Result<Self> {
        let OpenFiles {
            run, statistics, ..
        } = files;
        let mut saved = Self {
            name: run.last().map(SavedFile::name).unwrap_or_default(),
            scan: files::scan(&run, target, Probes::All)?,
            files: run,
        };
        if let Some(files) = statistics {
            saved.read_statistics(&files)?;
        }
        if saved.scan.earlier > 0 {
            let runs = saved.scan.earlier + 1;
            log::info!("{}: the last of {runs} runs in the file", saved.name);
        }
        Ok(saved)
    }

    /// The log's other file has the statistics, and the `run` line if it was rotated away here.
    fn read_statistics(&mut self, files: &[SavedFile]) -> Result<()> {
        let mut beside = files::scan(files, self.scan.target.as_deref(), Probes::First)?;
        let start = |run: &Option<Run>| run.as_ref().map(|run| run.start_unix_ns);
        if self.scan.run.is_none() {
            self.scan.run = beside.run.take();
            self.scan.stat = beside.stat;
        } else if beside.run.is_none() || start(&beside.run) == start(&self.scan.run) {
            self.scan.stat = beside.stat;
        }
        Ok(())
    }

    /// Refuses to append results to the log that is being read.
    fn refuse_to_write_into(&self, results: &Results) -> Result<()> {
        let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let log = logs::files(&results.output, Origin::SavedRun).into_iter();
        let log = log.flat_map(|(_, path)| fs::metadata(path));
        let log: Vec<_> = log.map(id).collect();
        let is_read = |file: &SavedFile| file.id().is_some_and(|id| log.contains(&id));
        if self.files.iter().any(is_read) {
            let why = format!("{} is the log (--log): choose another one", self.name);
            return Err(Usage(why).into());
        }
        Ok(())
    }

    fn run(&self) -> Result<&Run> {
        let run = self.scan.run.as_ref();
        run.with_context(|| format!("{}: no line says what run this is", self.name))
    }

    /// The run's own summary: the last one, or the one so far if the run recorded nothing.
    fn summary(&self) -> Option<&(i64, Summary)> {
        let so_far = self.scan.stat.as_ref();
        let so_far = so_far.filter(|_| self.scan.recorded == 0);
        self.scan.end().or(so_far)
    }

    /// Whether the file has all probes of the run; warns about the consequences if not.
    fn read_results(&self) -> Result<SavedResults> {
        let name = &self.name;
        let threshold_ns = self.run()?.threshold_ns;
        let Scan {
            recorded, answered, ..
        } = self.scan;
        let summary = self.summary().map(|(_, summary)| summary.clone());
        let is_quiet = |summary: &Summary| summary.counters.recorded == 0;
        if recorded == 0 && !summary.as_ref().is_some_and(is_quiet) {
            bail!("{name}: no probe in it; wanted is what -o json wrote, or a log's FILE.seq");
        }
        let all = summary.as_ref().map(|summary| summary.counters.replied);
        let has_all = threshold_ns == 0 && self.scan.from_the_start;
        let complete = all.map_or(has_all, |all| answered >= all);
        if self.scan.end().is_none() {
            log::warn!(
                "{name} has no final statistics, as the run was killed, still goes on, or wrote them \
                 elsewhere: counters are those of {}",
                match recorded {
                    0 => "its last interval".to_owned(),
                    recorded => format!("the {recorded} probes in it"),
                }
            );
        }
        if !complete {
            self.warn_incomplete(threshold_ns, all);
        }
        Ok(SavedResults { summary, complete })
    }

    fn warn_incomplete(&self, threshold_ns: u64, all: Option<u64>) {
        let (name, answered) = (&self.name, self.scan.answered);
        let over = match threshold_ns {
            0 => "the others are not in it".to_owned(),
            ns => format!("those at or over {}", duration(ns)),
        };
        match all {
            Some(_) if self.scan.recorded == 0 => log::info!(
                "{name} has no probe, as none was lost or took {}: the summary is the run's own",
                duration(threshold_ns)
            ),
            Some(all) => log::warn!(
                "{name} has {answered} of {all} answered probes, {over}: their breakdowns and \
                 verdicts are the run's own, as are the percentiles, which are of all"
            ),
            None => log::warn!(
                "{name} has {answered} answered probes, {over}: their breakdowns and verdicts are \
                 the run's own, percentiles are of those"
            ),
        }
    }

    /// The start of the run; older files have it on one clock only.
    fn start(&self) -> Result<Time> {
        let run = self.run()?;
        let unix_ns = run.start_unix_ns;
        let first = self.scan.first.as_ref();
        let derived = first.map_or(0, |first| {
            let since = first.sent_unix_ns.saturating_sub(unix_ns);
            sent_at(first).saturating_add_signed(since.saturating_neg())
        });
        Ok(Time {
            // 0 would be a run that never began.
            ns: run.start_ns.unwrap_or(derived).max(1),
            unix_ns,
        })
    }

    /// When its statistics were written, and how long after the start.
    fn end(&self) -> Option<(i64, u64)> {
        let (time_unix_ns, summary) = self.summary()?;
        Some((*time_unix_ns, summary.elapsed_ns))
    }

    /// The probes of the run, until `take` says that it is enough. They are read on a thread of its own.
    fn each_result(&self, take: impl FnMut(ProbeResult) -> bool) -> Result<()> {
        thread::scope(|scope| {
            let (to, batches) = sync_channel(BATCHES);
            let reader = scope.spawn(move || self.read_into(&to));
            batches.into_iter().flatten().all(take);
            let read = reader.join();
            read.map_err(|_| anyhow!("the thread that reads {} panicked", self.name))?
        })
    }

    /// Reads all probes, as long as somebody takes them.
    fn read_into(&self, to: &SyncSender<Vec<ProbeResult>>) -> Result<()> {
        for (file, lines) in self.files.iter().zip(&self.scan.lines) {
            let content = file.lines().with_context(|| file.reading())?;
            let mut results = saved::results(content, *lines, self.scan.target.clone());
            let mut ended = Ok(());
            while ended.is_ok() {
                let mut batch = Vec::with_capacity(BATCH);
                let mut some = results.by_ref().take(BATCH);
                // Those before a line that cannot be read count.
                ended = some.try_for_each(|result| result.map(|result| batch.push(result)));
                if batch.is_empty() {
                    break;
                }
                if to.send(batch).is_err() {
                    return Ok(());
                }
            }
            ended.with_context(|| file.reading())?;
        }
        Ok(())
    }
}

/// When a probe was sent, on the client's clock.
fn sent_at(probe: &Probe) -> u64 {
    probe.sent_ns().unwrap_or(0)
}

/// Upper bounds on intervals without a probe: shown in a row, and in all.
const MAX_EMPTY_IN_A_ROW: u64 = 1_000;
const MAX_EMPTY_INTERVALS: u64 = 10_000;
/// Probes that are passed on together by the thread that reads them, and how often ahead of the analysis.
const BATCH: usize = 256;
const BATCHES: usize = 4;
/// Upper bound on remembered lost probes that may still be answered.
const MAX_LOST: usize = 1 << 20;

/// Feeds the collector as the client of a live run does.
struct Replay {
    collector: Collector,
    start: Time,
    complete: bool,
    now_ns: u64,
    /// Lost probes, which may still be answered, by sequence number and time of the send.
    lost: HashMap<(u32, u64), LossId>,
    /// The sequence number of the youngest answered probe.
    youngest: Option<u32>,
    empty_intervals: u64,
}

impl Replay {
    fn new(collector: Collector, start: Time, complete: bool) -> Self {
        Self {
            collector,
            start,
            complete,
            now_ns: start.ns,
            lost: HashMap::new(),
            youngest: None,
            empty_intervals: 0,
        }
    }

    /// Returns false if nobody reads the results any more.
    fn take(&mut self, result: ProbeResult) -> bool {
        self.pass_time(&result.probe);
        match result.probe.status {
            Status::Ok | Status::Late | Status::Amended => self.answered(result),
            Status::Lost => self.lost(result),
            Status::Forgotten => {
                self.collector.counters().sent += 1;
                self.collector.forgotten(result.probe);
            }
            Status::Dup => self.collector.dup(result.probe),
        }
        !self.collector.outputs_failed()
    }

    /// Advances the time to the probe's last stamp in user space, and ends the intervals before it. Many
    /// intervals without a probe become one: the next stamp may be far away.
    fn pass_time(&mut self, probe: &Probe) {
        let user = |point| matches!(point, Point::LTxUser | Point::LRxUser);
        let stamps = probe.path.iter().filter(|stamp| user(stamp.point));
        let seen_ns = stamps.map(|stamp| stamp.ns).max();
        self.now_ns = self.now_ns.max(seen_ns.unwrap_or(0));
        let left = MAX_EMPTY_INTERVALS.saturating_sub(self.empty_intervals);
        self.collector
            .join_intervals(self.now_ns, left.min(MAX_EMPTY_IN_A_ROW));
        while self.collector.next_stat_ns() < self.now_ns {
            self.empty_intervals += 1;
            let end = self.time(self.collector.next_stat_ns());
            self.collector.tick(end, Asked::default());
        }
        self.collector
            .tick(self.time(self.now_ns), Asked::default());
    }

    /// The wall-clock time at which the client's clock showed `ns`.
    fn time(&self, ns: u64) -> Time {
        let since = ns.saturating_sub(self.start.ns);
        Time {
            ns,
            unix_ns: self.start.unix_ns.saturating_add_unsigned(since),
        }
    }

    fn answered(&mut self, result: ProbeResult) {
        let probe = &result.probe;
        let found = self.lost.remove(&(probe.seq, sent_at(probe)));
        let ahead = |youngest: u32| youngest.wrapping_sub(probe.seq).cast_signed() > 0;
        let overtaken = self.youngest.is_some_and(ahead);
        if !overtaken {
            self.youngest = Some(probe.seq);
        }
        let counters = self.collector.counters();
        counters.sent += u64::from(found.is_none());
        counters.replied += 1;
        counters.late += u64::from(probe.status.is_late());
        counters.reordered += u64::from(overtaken);
        if let Some(id) = found {
            self.collector.found(id, sent_at(probe));
        }
        if self.complete {
            if !result.blame.is_empty() {
                self.collector.blame(probe.seq, result.blame.clone());
            }
            self.collector.probe(probe);
        } else {
            self.collector.judged(result);
        }
    }

    fn lost(&mut self, result: ProbeResult) {
        let ProbeResult { probe, loss, .. } = result;
        let unknown = Loss {
            place: Place::Unknown,
            last: None,
            device: None,
            drop: None,
            error: None,
        };
        let key = (probe.seq, sent_at(&probe));
        self.collector.counters().sent += 1;
        let id = self.collector.lost(probe, loss.unwrap_or(unknown));
        if self.lost.len() < MAX_LOST {
            self.lost.insert(key, id);
        }
    }

    fn finish(mut self, end: Option<(i64, u64)>, known: SavedResults) -> (Outcome, Vec<Judged>) {
        let now = end.map_or(self.time(self.now_ns), |(unix_ns, elapsed_ns)| Time {
            ns: self.start.ns.saturating_add(elapsed_ns),
            unix_ns,
        });
        let all = known.summary.as_ref().map(|s| s.counters.replied);
        let replied = all.unwrap_or(self.collector.counters().replied);
        let outcome = if replied > 0 {
            Outcome::Answered
        } else {
            Outcome::Unanswered
        };
        let judged = self.collector.finish(now, |replayed| known.amend(replayed));
        (outcome, judged)
    }
}

#[cfg(test)]
#[path = "../../../report/tests/common/mod.rs"]
pub(crate) mod example;

#[cfg(test)]
mod tests {
    use super::example::{example_lines, mutate};
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use tempfile::TempDir;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    static LINES: LazyLock<Vec<String>> = LazyLock::new(example_lines);

    /// Replays into a log; what became of it, and the log's FILE.stat.
    fn replay(text: &[u8], more: &[&str]) -> (Result<Outcome>, String) {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        fs::write(file("run.json"), text).unwrap();
        let (run, log, image) = (file("run.json"), file("log"), file("run.svg"));
        let args = ["replay", &run, "--log", &log, "--image", &image, "-n"];
        let args = Cli::try_parse_from(args.iter().chain(more)).unwrap();
        let files = OpenFiles::new(&args.args).unwrap();
        let outcome = super::run(&args.args, files);
        let stat = fs::read_to_string(file("log.stat")).unwrap_or_default();
        (outcome, stat)
    }

    #[test]
    fn a_stamp_that_is_far_away_gives_no_intervals_without_end() {
        let mut lines = LINES.clone();
        lines.retain(|line| !line.contains("\"stat\""));
        let far = |line: &mut String| {
            let near = line.clone();
            *line = near.replacen(
                "\"ns\":7000190000000",
                &format!("\"ns\":{}", 1_u64 << 60),
                1,
            );
            near != *line
        };
        assert_eq!(
            lines
                .iter_mut()
                .filter_map(|line| far(line).then_some(()))
                .count(),
            1
        );
        let (outcome, stat) = replay(
            (lines.join("\n") + "\n").as_bytes(),
            &["-o", "log", "--stat-interval", "1ms"],
        );
        assert!(matches!(outcome, Ok(Outcome::Answered)));
        let intervals = stat.matches("\"type\":\"interval\"").count();
        assert!((3..1_000).contains(&intervals), "{intervals}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is changed in a saved run, it is replayed, or refused with one line.
        #[test]
        fn any_file_is_replayed_or_refused(changes in mutate::changes(), drawn in 0..8) {
            let text = mutate::changed(&LINES, &changes);
            let outputs = if drawn == 0 { "log,image" } else { "log" };
            let (outcome, stat) = replay(&text, &["-o", outputs, "--stat-interval", "1ms"]);
            prop_assert!(stat.lines().count() < 2 * (MAX_EMPTY_INTERVALS as usize + 100));
            if let Err(why) = outcome {
                let why = format!("{why:#}");
                prop_assert!(why.len() < 500 && !why.contains(char::is_control), "{why}");
            }
        }
    }
}

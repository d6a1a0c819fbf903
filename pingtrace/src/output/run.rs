//! Writes the results and summaries of a run on a thread of its own, so that writing never delays a receive.
//! A run with several targets has one such thread, and a [`Way`] to it for each.

use crate::control::Pulse;
use crate::options::{Origin, Results};
use crate::output::destinations::{self, Destinations};
use crate::output::entry::{About, Cost, Entry, Shown, Statistics};
use crate::output::live::{self, Feed, Present, Record};
use crate::output::metrics::Target;
use crate::output::names::NameBook;
use anyhow::{Context, Result, anyhow};
use report::analysis::hops::HopStats;
use report::draw;
use report::format::metrics::TargetView;
use report::format::target_table::TargetTable;
use report::model::{Capture, Names, ProbeResult, Run, Summary};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Upper bound on results that wait for a slow disk; beyond it the receiver waits too.
const QUEUE: usize = 65_536;

/// Of more targets text has only a table.
const MOST_SUMMARIES: usize = 8;

/// A message of the collector.
pub enum Message {
    /// The run began, or its mode changed.
    Run(Box<Run>),
    /// The server sent names of its namespaces and devices.
    Names(Box<Names>),
    /// A recorded probe.
    ProbeResult(Box<ProbeResult>),
    /// A probe that is not recorded, for the live view.
    Unrecorded(Box<ProbeResult>),
    /// What else the live view shows.
    Present(Box<Present>),
    /// An interval is over.
    Stat(Box<Stat>),
    /// The metrics of a target.
    Metrics(Target, Box<TargetView>),
    /// There will be no further ones.
    Retire(Target),
    /// SIGHUP: reopen the log files.
    Reopen,
    /// SIGQUIT or SIGUSR1: print this to stderr.
    SoFar(Box<SoFar>),
    /// Every target has said that: of many it is a table.
    AllSoFar,
    /// The end.
    End(Box<End>),
    /// What all targets together cost, if they are several: for the end of what is written.
    Cost(Box<Cost>),
}

/// Where the probes come from.
pub enum Source {
    /// This host, now; the service manager knows by this whether the writer goes on.
    Live(Pulse),
    /// A saved run, with these names. Its results wait for a slow reader.
    Saved(Names),
}

/// What is written.
pub struct Wanted<'a> {
    /// What of the results, and where to.
    pub results: &'a Results,
    /// Probes whose response is at least this are results, nanoseconds.
    pub threshold_ns: u64,
    /// How many targets the run begins with, if it can have several: then there is no picture.
    pub targets: Option<usize>,
    /// The terminal shows the run as it goes.
    pub live: bool,
}

/// Statistics during the run.
pub struct Stat {
    /// Time of the statistics, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
    /// Of the run so far.
    pub run: Summary,
    /// Of the interval that is over.
    pub interval: Summary,
}

/// The results until now.
pub struct SoFar {
    /// When that is, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
    /// The run.
    pub run: Run,
    /// Its statistics.
    pub summary: Summary,
}

/// The results of a run.
pub struct End {
    /// When it ended, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
    /// The last interval, which was cut short.
    pub interval: Option<Summary>,
    /// What a picture is drawn from.
    pub capture: Capture,
    /// Statistics of hops, if they are wanted.
    pub hops: Option<HopStats>,
}

/// The writing thread.
pub struct Outputs {
    queue: SyncSender<(u32, Message)>,
    thread: JoinHandle<Result<()>>,
    unread: Arc<AtomicBool>,
    /// Where files are written.
    pub directories: Vec<PathBuf>,
    is_quiet: bool,
    is_live: bool,
}

/// The way to the writing thread of one target's results.
pub struct Way {
    target: u32,
    queue: SyncSender<(u32, Message)>,
    unread: Arc<AtomicBool>,
    /// A live run without results on the terminal: it shows its progress there.
    pub is_quiet: bool,
    /// The live view wants all probes.
    pub is_live: bool,
}

impl Outputs {
    /// Opens all outputs, so that a wrong path is known before the first probe.
    pub fn start(wanted: &Wanted<'_>, source: Source) -> Result<Self> {
        let (origin, names, pulse) = match source {
            Source::Live(pulse) => (Origin::LiveRun, NameBook::default(), pulse),
            Source::Saved(names) => (Origin::SavedRun, NameBook::saved(names), Pulse::default()),
        };
        let results = wanted.results;
        let mut to = Destinations::open(&results.output, origin, "")?;
        let is_quiet = origin == Origin::LiveRun
            && !wanted.live
            && !(wanted.threshold_ns == 0 && to.scrolls());
        let unread = to.unread();
        let mut directories = to.directories();
        let view = wanted.live.then(|| Feed::start(origin, &results.output));
        let view = view.transpose()?;
        if view.is_some() {
            to.cover();
            directories.push(live::pictures(&results.output));
        }
        let writer = Writer {
            first: Some(names),
            targets: HashMap::new(),
            several: wanted.targets.is_some(),
            is_brief: wanted
                .targets
                .is_some_and(|targets| targets > MOST_SUMMARIES),
            table: TargetTable::default(),
            so_far: TargetTable::default(),
            view,
            hops: results.namespace,
            intervals: match results.stat_interval {
                Some(_) => Shown::Printed,
                None => Shown::Logged,
            },
            to,
            pulse,
        };
        let (queue, messages) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("output".into())
            .spawn({
                let ended = Arc::clone(&unread);
                move || {
                    let written = writer.run(&messages);
                    ended.store(true, Ordering::Relaxed);
                    written
                }
            })
            .context("start the output thread")?;
        Ok(Self {
            queue,
            thread,
            unread,
            directories,
            is_quiet,
            is_live: wanted.live,
        })
    }

    /// The way of a target's results; `target` is its number, from 0.
    pub fn way(&self, target: u32) -> Way {
        Way {
            target,
            queue: self.queue.clone(),
            unread: Arc::clone(&self.unread),
            is_quiet: self.is_quiet,
            is_live: self.is_live,
        }
    }

    /// Every target has passed on its results until now.
    pub fn all_so_far(&self) {
        let _ = self.queue.send((0, Message::AllSoFar));
    }

    /// Passes on what no target alone says.
    pub fn cost(&self, cost: Cost) {
        let _ = self.queue.send((0, Message::Cost(Box::new(cost))));
    }

    /// Returns when all that was passed on is written, by ways that are gone.
    pub fn finish(self) -> Result<()> {
        drop(self.queue);
        self.thread
            .join()
            .map_err(|_| anyhow!("the output thread panicked"))?
    }
}

impl Way {
    /// Passes a message on; a failure of the writer shows at the end.
    pub fn send(&self, message: Message) {
        let _ = self.queue.send((self.target, message));
    }

    /// Whether the reader of stdout has left, or the writer gave up.
    pub fn failed(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }
}

struct Writer {
    /// The names that a saved run begins with.
    first: Option<NameBook>,
    targets: HashMap<u32, Box<Known>>,
    several: bool,
    /// A summary of each target would be too long a text.
    is_brief: bool,
    /// A line for each target that has ended.
    table: TargetTable,
    /// One for each of many that is asked how it stands.
    so_far: TargetTable,
    view: Option<Feed>,
    hops: bool,
    intervals: Shown,
    to: Destinations,
    pulse: Pulse,
}

/// What is known of a target.
#[derive(Default)]
struct Known {
    run: Run,
    names: NameBook,
}

impl Writer {
    fn run(mut self, messages: &Receiver<(u32, Message)>) -> Result<()> {
        let mut cost = None;
        while let Ok((target, message)) = self.pulse.awaits(|| messages.recv()) {
            let are_many = self.targets.len() > MOST_SUMMARIES;
            let first = &mut self.first;
            let known = self.targets.entry(target).or_insert_with(|| {
                Box::new(Known {
                    names: first.take().unwrap_or_default(),
                    ..Known::default()
                })
            });
            match message {
                Message::Reopen => self.to.reopen(),
                Message::Cost(all) => cost = Some(all),
                Message::SoFar(now) if are_many => self.so_far.add(&now.run, &now.summary),
                Message::AllSoFar => {
                    let table = std::mem::take(&mut self.so_far).text();
                    if !table.is_empty() {
                        destinations::print_to_stderr(&Entry::Heading(&table));
                    }
                }
                Message::End(mut end) => {
                    if let Some(view) = &mut self.view {
                        view.left(target);
                    }
                    known.prepare_end(&mut end, self.hops, self.intervals, &mut self.to);
                    let last = known.last(&end, self.hops, self.is_brief);
                    if !self.several {
                        self.view.take().map_or(Ok(()), Feed::finish)?;
                        return self.to.finish(&last, |path| {
                            Ok(draw::write(draw::Picture::Run(&end.capture), path)?)
                        });
                    }
                    for entry in &last {
                        self.to.write(entry);
                    }
                    let End { capture, .. } = &*end;
                    self.table.add(&capture.run, &capture.summary);
                    self.targets.remove(&target);
                }
                message => {
                    known.show(target, &message, self.view.as_mut());
                    known.write(message, self.hops, self.intervals, &mut self.to);
                }
            }
        }
        self.view.take().map_or(Ok(()), Feed::finish)?;
        // Without an end a run ended before it began.
        if self.several {
            let table = self.table.text();
            let cost = cost.iter().map(|cost| Entry::Cost(cost));
            let last: Vec<_> = [Entry::Heading(&table)].into_iter().chain(cost).collect();
            self.to.finish(&last, |_| Ok(()))
        } else {
            Ok(())
        }
    }
}

impl Known {
    /// Passes on what the live view shows.
    fn show(&mut self, target: u32, message: &Message, view: Option<&mut Feed>) {
        let Some(view) = view else { return };
        let record = match message {
            Message::Run(run) => Record::Run(run.clone()),
            Message::ProbeResult(result) | Message::Unrecorded(result) => {
                if result.verdict.is_some() || result.loss.is_some() {
                    self.names.learn(&result.probe);
                    view.names(target, self.names.names());
                }
                Record::Probe(result.clone())
            }
            Message::Present(present) => Record::Present(present.clone()),
            _ => return,
        };
        view.pass(target, record);
    }

    fn write(&mut self, message: Message, hops: bool, shown: Shown, to: &mut Destinations) {
        match message {
            Message::Run(run) => {
                to.write(&Entry::Run(&run));
                self.names.probes_of(&run);
                self.run = *run;
            }
            Message::Names(names) => self.names.take(*names),
            Message::ProbeResult(mut result) => {
                self.names.name(&mut result);
                to.write(&Entry::Probe(&result, about(&self.run, &self.names, hops)));
            }
            Message::Stat(mut stat) => {
                let Stat {
                    time_unix_ns: time, ..
                } = *stat;
                let interval = self.statistics(&stat.interval, time, hops);
                to.write(&Entry::Interval(interval, shown));
                self.names.name_losses(&mut stat.run.losses);
                to.write(&Entry::SoFar(self.statistics(&stat.run, time, hops)));
            }
            Message::SoFar(mut so_far) => {
                self.names.name_losses(&mut so_far.summary.losses);
                let now = Statistics {
                    summary: &so_far.summary,
                    about: about(&so_far.run, &self.names, hops),
                    time_unix_ns: so_far.time_unix_ns,
                };
                destinations::print_to_stderr(&Entry::Summary(now));
            }
            Message::Metrics(target, mut view) => {
                self.names.name_losses(&mut view.losses);
                target.publish(*view);
            }
            Message::Retire(target) => target.retire(),
            // Not of one target alone, or for the view alone.
            Message::Reopen
            | Message::AllSoFar
            | Message::End(_)
            | Message::Cost(_)
            | Message::Unrecorded(_)
            | Message::Present(_) => {}
        }
    }

    fn statistics<'a>(&'a self, summary: &'a Summary, time: i64, hops: bool) -> Statistics<'a> {
        Statistics {
            summary,
            about: about(&self.run, &self.names, hops),
            time_unix_ns: time,
        }
    }

    /// Writes the last interval, and names what the rest mentions.
    fn prepare_end(&mut self, end: &mut End, hops: bool, shown: Shown, to: &mut Destinations) {
        if let Some(interval) = &end.interval {
            let interval = self.statistics(interval, end.time_unix_ns, hops);
            to.write(&Entry::Interval(interval, shown));
        }
        let capture = &mut end.capture;
        self.names.name_losses(&mut capture.summary.losses);
        let slowest = capture.slowest.iter();
        slowest.for_each(|r| self.names.learn(&r.probe));
        capture.names = self.names.names().clone();
    }

    /// What is written last; `brief`: the summary is a line of a table.
    fn last<'a>(&'a self, end: &'a End, hops: bool, brief: bool) -> Vec<Entry<'a>> {
        let whole = Statistics {
            summary: &end.capture.summary,
            about: about(&end.capture.run, &self.names, hops),
            time_unix_ns: end.time_unix_ns,
        };
        let hops = end.hops.as_ref();
        let hops = hops.map(|hops| Entry::Hops(hops, whole.about));
        let summary = if brief {
            Entry::Brief(whole)
        } else {
            Entry::Summary(whole)
        };
        [summary].into_iter().chain(hops).collect()
    }
}

fn about<'a>(run: &'a Run, names: &'a NameBook, hops: bool) -> About<'a> {
    let names = names.names();
    About { run, names, hops }
}

//! Writes the results and summaries of a run on a thread of its own, so that writing never delays a receive.

use crate::options::{Origin, Output};
use crate::output::destinations::{self, Destinations};
use crate::output::entry::{About, Entry, Shown, Statistics};
use crate::output::metrics::Target;
use crate::output::names::NameBook;
use anyhow::{Context, Result, anyhow};
use report::analysis::hops::HopStats;
use report::draw;
use report::format::metrics::TargetView;
use report::model::{Capture, Names, ProbeResult, Run, Summary};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Upper bound on results that wait for a slow disk; beyond it the receiver waits too.
const QUEUE: usize = 65_536;

/// A message of the collector.
pub enum Message {
    /// The run began, or its mode changed.
    Run(Box<Run>),
    /// The server sent names of its namespaces and devices.
    Names(Box<Names>),
    /// A recorded probe.
    ProbeResult(Box<ProbeResult>),
    /// An interval is over.
    Stat(Box<Stat>),
    /// The metrics of a target.
    Metrics(Target, Box<TargetView>),
    /// SIGHUP: reopen the log files.
    Reopen,
    /// SIGQUIT or SIGUSR1: print this to stderr.
    SoFar(Box<SoFar>),
    /// The end.
    End(Box<End>),
}

/// Where the probes come from.
pub enum Source {
    /// This host, now.
    Live,
    /// A saved run, with these names. Its results wait for a slow reader.
    Saved(Names),
}

/// What is written.
pub struct Wanted<'a> {
    /// Where to.
    pub output: &'a Output,
    /// Probes whose response is at least this are results, nanoseconds.
    pub threshold_ns: u64,
    /// The hops of each probe, too.
    pub hops: bool,
    /// Where is shown what an interval had.
    pub intervals: Shown,
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
    queue: SyncSender<Message>,
    thread: JoinHandle<Result<()>>,
    unread: Arc<AtomicBool>,
    /// Where files are written.
    pub directories: Vec<PathBuf>,
    /// A live run without results on the terminal: it shows its progress there.
    pub is_quiet: bool,
}

impl Outputs {
    /// Opens all outputs, so that a wrong path is known before the first probe.
    pub fn start(wanted: &Wanted<'_>, source: Source) -> Result<Self> {
        let (origin, names) = match source {
            Source::Live => (Origin::LiveRun, NameBook::default()),
            Source::Saved(names) => (Origin::SavedRun, NameBook::saved(names)),
        };
        let to = Destinations::open(wanted.output, origin, "")?;
        let is_quiet = origin == Origin::LiveRun && !(wanted.threshold_ns == 0 && to.scrolls());
        let unread = to.unread();
        let directories = to.directories();
        let writer = Writer {
            run: Run::default(),
            names,
            hops: wanted.hops,
            intervals: wanted.intervals,
            to,
        };
        let (queue, messages) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("output".into())
            .spawn(move || writer.run(&messages))
            .context("start the output thread")?;
        Ok(Self {
            queue,
            thread,
            unread,
            directories,
            is_quiet,
        })
    }

    /// Passes a message on; a failure of the writer shows at the end.
    pub fn send(&self, message: Message) {
        let _ = self.queue.send(message);
    }

    /// Whether the reader of stdout has left, or the writer gave up.
    pub fn failed(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.thread.is_finished()
    }

    /// Writes summary and picture; returns when all is written.
    pub fn finish(self, end: End) -> Result<()> {
        self.send(Message::End(Box::new(end)));
        drop(self.queue);
        self.thread
            .join()
            .map_err(|_| anyhow!("the output thread panicked"))?
    }
}

struct Writer {
    run: Run,
    names: NameBook,
    hops: bool,
    intervals: Shown,
    to: Destinations,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) -> Result<()> {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Run(run) => {
                    self.to.write(&Entry::Run(&run));
                    self.names.probes_of(&run);
                    self.run = *run;
                }
                Message::Names(names) => self.names.take(*names),
                Message::ProbeResult(mut result) => {
                    self.names.name(&mut result);
                    let about = about(&self.run, &self.names, self.hops);
                    self.to.write(&Entry::Probe(&result, about));
                }
                Message::Stat(mut stat) => {
                    self.interval(&stat.interval, stat.time_unix_ns);
                    self.names.name_losses(&mut stat.run.losses);
                    let so_far = Statistics {
                        summary: &stat.run,
                        about: about(&self.run, &self.names, self.hops),
                        time_unix_ns: stat.time_unix_ns,
                    };
                    self.to.write(&Entry::SoFar(so_far));
                }
                Message::Metrics(target, mut view) => {
                    self.names.name_losses(&mut view.losses);
                    target.publish(*view);
                }
                Message::Reopen => self.to.reopen(),
                Message::SoFar(mut so_far) => {
                    self.names.name_losses(&mut so_far.summary.losses);
                    let now = Statistics {
                        summary: &so_far.summary,
                        about: about(&so_far.run, &self.names, self.hops),
                        time_unix_ns: so_far.time_unix_ns,
                    };
                    destinations::print_to_stderr(&Entry::Summary(now));
                }
                Message::End(end) => return self.end(*end),
            }
        }
        Ok(())
    }

    /// Where an interval is written: the log has every one, stdout those that were asked for.
    fn interval(&mut self, summary: &Summary, time_unix_ns: i64) {
        let interval = Statistics {
            summary,
            about: about(&self.run, &self.names, self.hops),
            time_unix_ns,
        };
        self.to.write(&Entry::Interval(interval, self.intervals));
    }

    fn end(mut self, end: End) -> Result<()> {
        let End {
            time_unix_ns,
            mut capture,
            interval,
            hops,
        } = end;
        if let Some(interval) = &interval {
            self.interval(interval, time_unix_ns);
        }
        self.names.name_losses(&mut capture.summary.losses);
        let slowest = capture.slowest.iter();
        slowest.for_each(|r| self.names.learn(&r.probe));
        capture.names = self.names.names().clone();
        let whole = Statistics {
            summary: &capture.summary,
            about: about(&capture.run, &self.names, self.hops),
            time_unix_ns,
        };
        let hops = hops.as_ref();
        let mut last = vec![Entry::Summary(whole)];
        last.extend(hops.map(|hops| Entry::Hops(hops, self.names.names())));
        self.to.finish(&last, |path| {
            Ok(draw::write(draw::Picture::Run(&capture), path)?)
        })
    }
}

fn about<'a>(run: &'a Run, names: &'a NameBook, hops: bool) -> About<'a> {
    let names = names.names();
    About { run, names, hops }
}

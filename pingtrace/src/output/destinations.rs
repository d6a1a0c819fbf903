//! Writes records and summaries, on a thread of its own: printing never delays a receive.
//!
//! Results go to stdout (with both text and JSON, text goes to stderr), to the rotating files
//! FILE.seq and FILE.stat, and into a picture at the end. The story goes through the logger.

use crate::options::{Output, Results};
use crate::output::files::{self, suffixed};
use crate::output::names::NameBook;
use crate::output::printer::{self, Full, Printer};
use crate::output::rotate::RotatingFile;
use crate::output::screen::Screen;
use crate::output::story;
use anyhow::{Context, Result, anyhow, bail};
use report::analysis::hops::HopStats;
use report::analysis::marks::Marks;
use report::draw;
use report::format::json::Part;
use report::format::{json, text};
use report::model::{Capture, Names, Record, Run, Summary};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Records that may wait for a slow disk before the receiver waits too.
const QUEUE: usize = 65_536;

/// What the collector has to tell.
pub enum Message {
    /// The run began, or its mode changed.
    Run(Box<Run>),
    /// A recorded probe.
    Record(Box<Record>),
    /// An interval is over.
    Stat(Box<Stat>),
    /// SIGHUP: open the log files anew.
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

/// Statistics while the run goes on.
pub struct Stat {
    /// When that was, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
    /// Of the run so far.
    pub run: Summary,
    /// Of the interval that is over.
    pub interval: Summary,
}

/// The results until now.
pub struct SoFar {
    /// The run.
    pub run: Run,
    /// Its statistics.
    pub summary: Summary,
    /// Marks that the summary explains.
    pub marks: Marks,
}

/// The results of a run.
pub struct End {
    /// When it ended, nanoseconds since the Unix epoch.
    pub time_unix_ns: i64,
    /// The last interval, which was cut short.
    pub interval: Option<Summary>,
    /// What a picture is drawn from.
    pub capture: Capture,
    /// Marks that the summary explains.
    pub marks: Marks,
    /// Statistics of hops, if they are wanted.
    pub hops: Option<HopStats>,
}

/// The writing thread.
pub struct Outputs {
    queue: SyncSender<Message>,
    thread: JoinHandle<Result<()>>,
    unread: Arc<AtomicBool>,
    /// A live run of which no results scroll over the terminal: it is to show that it lives.
    pub is_quiet: bool,
}

impl Outputs {
    /// Opens everything that is to be written, so that a wrong path is known before the first probe.
    /// A probe is a result if it takes `threshold_ns`.
    pub fn start(wanted: &Results, source: Source, threshold_ns: u64) -> Result<Self> {
        let unread = Arc::default();
        let is_live = matches!(source, Source::Live);
        let writer = Writer::new(wanted, source, &unread)?;
        let (queue, messages) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("output".into())
            .spawn(move || writer.run(&messages))
            .context("start the output thread")?;
        Ok(Self {
            queue,
            thread,
            unread,
            is_quiet: is_live && !(threshold_ns == 0 && prints_to_terminal(wanted)),
        })
    }

    /// Passes a message on; a writer that failed is found out at the end.
    pub fn send(&self, message: Message) {
        let _ = self.queue.send(message);
    }

    /// Nobody reads stdout any more, or the writer gave up.
    pub fn failed(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.thread.is_finished()
    }

    /// Writes summary and picture; returns when all is on disk.
    pub fn finish(self, end: End) -> Result<()> {
        self.send(Message::End(Box::new(end)));
        drop(self.queue);
        self.thread
            .join()
            .map_err(|_| anyhow!("the output thread panicked"))?
    }
}

/// Whether results go to a terminal.
fn prints_to_terminal(wanted: &Results) -> bool {
    let (text, json) = (wanted.wants(Output::Text), wanted.wants(Output::Json));
    (text || json) && Screen::Stdout.is_terminal() || (text && json) && Screen::Stderr.is_terminal()
}

struct Logs {
    sequence: RotatingFile,
    stat: RotatingFile,
}

struct Writer {
    run: Run,
    text: Option<Printer>,
    /// Where text goes.
    screen: Screen,
    json: Option<Printer>,
    logs: Option<Logs>,
    image: Option<PathBuf>,
    namespaces: bool,
    /// Intervals are shown on stdout too.
    intervals: bool,
    names: NameBook,
}

impl Writer {
    fn new(wanted: &Results, source: Source, unread: &Arc<AtomicBool>) -> Result<Self> {
        let (names, full) = match source {
            Source::Live => (NameBook::default(), Full::Drop),
            Source::Saved(names) => (NameBook::saved(names), Full::Wait),
        };
        let json = wanted.wants(Output::Json);
        let text = wanted.wants(Output::Text);
        // A reader that left ends the run only if nothing else is written.
        let files = wanted.wants(Output::Log) || wanted.wants(Output::Image);
        let goes_on = files || json && text;
        let unread = if goes_on {
            Arc::default()
        } else {
            Arc::clone(unread)
        };
        let stdout = || Printer::stdout(full, Arc::clone(&unread));
        let image = wanted
            .wants(Output::Image)
            .then(|| image_path(wanted.image()))
            .transpose()?;
        Ok(Self {
            run: Run::default(),
            screen: if json { Screen::Stderr } else { Screen::Stdout },
            text: match (text, json) {
                (true, true) => Some(Printer::stderr(full)?),
                (true, false) => Some(stdout()?),
                (false, _) => None,
            },
            json: json.then(stdout).transpose()?,
            logs: wanted
                .wants(Output::Log)
                .then(|| Logs::open(wanted))
                .transpose()?,
            image,
            namespaces: wanted.namespace,
            intervals: wanted.stat_interval.is_some(),
            names,
        })
    }

    fn run(mut self, messages: &Receiver<Message>) -> Result<()> {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Run(run) => {
                    self.run_line(&run)?;
                    self.names.probes_of(&run);
                    self.run = *run;
                }
                Message::Record(mut record) => {
                    self.names.name(&mut record);
                    self.record(&record)?;
                }
                Message::Stat(mut stat) => {
                    self.interval(&stat.interval, stat.time_unix_ns)?;
                    self.names.name_losses(&mut stat.run.losses);
                    let names = self.names.names();
                    let line = json::stat_line(&self.run, &stat.run, names, stat.time_unix_ns);
                    self.stat(&line)?;
                }
                Message::Reopen => self.reopen(),
                Message::SoFar(mut so_far) => {
                    self.names.name_losses(&mut so_far.summary.losses);
                    let SoFar {
                        run,
                        summary,
                        marks,
                    } = &*so_far;
                    let style = Screen::Stderr.style();
                    let text = text::summary(run, summary, self.names.names(), *marks, &style);
                    story::say(style.render(&text));
                }
                Message::End(end) => return self.end(*end),
            }
        }
        Ok(())
    }

    fn run_line(&mut self, run: &Run) -> Result<()> {
        let line = json::run_line(run, Part::First);
        self.stat(&line)?;
        self.sequence(&line)?;
        if let Some(logs) = &mut self.logs {
            let header = json::run_line(run, Part::Continued) + "\n";
            logs.sequence.set_header(&header);
            logs.stat.set_header(&header);
        }
        print(&mut self.json, || line + "\n");
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        if self.json.is_some() || self.logs.is_some() {
            let line = json::probe_line(record, self.names.names());
            self.sequence(&line)?;
            print(&mut self.json, || line + "\n");
        }
        let (names, namespaces) = (self.names.names(), self.namespaces);
        let (run, screen) = (&self.run, self.screen);
        print(&mut self.text, || {
            let style = screen.style();
            let mut lines = text::probe_line(record, run, names, &style) + "\n";
            if namespaces {
                lines += &text::hops(record, names);
            }
            style.render(&lines)
        });
        Ok(())
    }

    /// A line for FILE.seq.
    fn sequence(&mut self, line: &str) -> Result<()> {
        let Some(logs) = &mut self.logs else {
            return Ok(());
        };
        writeln!(logs.sequence, "{line}").context("write the log")
    }

    /// A line for FILE.stat.
    fn stat(&mut self, line: &str) -> Result<()> {
        let Some(logs) = &mut self.logs else {
            return Ok(());
        };
        writeln!(logs.stat, "{line}").context("write the log")
    }

    /// The log has every interval, stdout those that were asked for.
    fn interval(&mut self, interval: &Summary, time_unix_ns: i64) -> Result<()> {
        let line = json::interval_line(interval, self.names.names(), time_unix_ns);
        self.stat(&line)?;
        if self.intervals {
            print(&mut self.json, || line + "\n");
            let (run, style) = (&self.run, self.screen.style());
            print(&mut self.text, || {
                style.render(&text::interval(interval, time_unix_ns, run))
            });
        }
        Ok(())
    }

    fn reopen(&mut self) {
        let Some(logs) = &mut self.logs else { return };
        for file in [&mut logs.sequence, &mut logs.stat] {
            if let Err(e) = file.reopen() {
                log::error!("cannot open the log anew after SIGHUP: {e}");
            }
        }
    }

    /// The logs first, then the picture: neither waits for a reader of stdout. Whatever fails, the
    /// rest is written.
    fn end(mut self, end: End) -> Result<()> {
        story::progress(String::new());
        let End {
            time_unix_ns,
            mut capture,
            interval,
            marks,
            hops,
        } = end;
        if let Some(interval) = &interval {
            self.interval(interval, time_unix_ns)?;
        }
        self.names.name_losses(&mut capture.summary.losses);
        let slowest = capture.slowest.iter();
        slowest.for_each(|r| self.names.learn(&r.probe));
        let (run, summary, names) = (&capture.run, &capture.summary, self.names.names());
        let mut json = json::stat_line(run, summary, names, time_unix_ns) + "\n";
        let style = self.screen.style();
        let mut text = text::summary(run, summary, names, marks, &style);
        self.stat(json.trim_end())?;
        if let Some(hops) = &hops {
            let line = json::hops_line(hops, self.names.names());
            self.sequence(&line)?;
            json += &(line + "\n");
            text.push('\n');
            text += &text::hop_table(hops, self.names.names(), &style);
        }
        let drawn = self.draw(capture);
        let finish = |printer: Option<Printer>, last| printer.map_or(Ok(()), |p| p.finish(last));
        let printed = [
            finish(self.json.take(), json),
            finish(self.text.take(), style.render(&text)),
        ];
        drawn?;
        printed.into_iter().collect::<Result<()>>()?;
        self.no_line_was_lost()
    }

    fn draw(&self, mut capture: Capture) -> Result<()> {
        let Some(path) = &self.image else {
            return Ok(());
        };
        capture.names = self.names.names().clone();
        draw::write(draw::Picture::Run(&capture), path)?;
        log::info!("picture: {}", path.display());
        Ok(())
    }

    fn no_line_was_lost(&self) -> Result<()> {
        let lost = self.logs.as_ref().map_or(0, |logs| {
            logs.sequence.lost_lines() + logs.stat.lost_lines()
        });
        if lost > 0 {
            bail!("{lost} log lines (--log) could not be written");
        }
        Ok(())
    }
}

fn print(printer: &mut Option<Printer>, result: impl FnOnce() -> String) {
    if let Some(printer) = printer {
        printer.print(result());
    }
}

impl Logs {
    fn open(wanted: &Results) -> Result<Self> {
        let open = |suffix| {
            let path = suffixed(&wanted.log, suffix);
            RotatingFile::open(&path, wanted.logsize, wanted.logbackup as usize)
                .with_context(|| format!("open the log {} (--log)", path.display()))
        };
        Ok(Self {
            sequence: open("seq")?,
            stat: open("stat")?,
        })
    }
}

/// Opens what a capture is going to write, and closes it again: what would fail is known now.
pub fn check(wanted: &Results) -> Result<()> {
    if wanted.wants(Output::Log) {
        Logs::open(wanted)?;
    }
    if wanted.wants(Output::Image) {
        image_path(wanted.image())?;
    }
    Ok(())
}

/// A line between two captures, for the logs and for stdout.
pub fn between_captures(wanted: &Results, line: &str) -> Result<()> {
    if wanted.wants(Output::Json) {
        printer::to_stdout(&format!("{line}\n"))?;
    }
    if wanted.wants(Output::Log) {
        let mut logs = Logs::open(wanted)?;
        for log in [&mut logs.sequence, &mut logs.stat] {
            writeln!(log, "{line}").context("write the log")?;
        }
    }
    Ok(())
}

/// Fills in the time, and finds out now what would fail at the end.
pub fn image_path(pattern: &Path) -> Result<PathBuf> {
    let text = pattern
        .to_str()
        .context("the picture's name (--image) is not UTF-8")?;
    let items = chrono::format::StrftimeItems::new(text).parse();
    let items = items.map_err(|_| anyhow!("'{text}' (--image) has an unknown strftime field"))?;
    let path = PathBuf::from(
        chrono::Local::now()
            .format_with_items(items.iter())
            .to_string(),
    );
    draw::Format::from_path(&path)?;
    files::check_picture(&path)?;
    Ok(path)
}

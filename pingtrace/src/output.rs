//! Writes records and summaries, on a thread of its own: printing never delays a receive.
//!
//! Results go to stdout (with both text and JSON, text goes to stderr), to the rotating files
//! FILE.seq and FILE.stat, and into a picture at the end. The story goes through the logger.

use crate::cli::{Cli, Output};
use crate::names::NameBook;
use crate::plan::Plan;
use crate::rotate::{RotatingFile, suffixed};
use crate::units::realtime_ns;
use anyhow::{Context, Result, anyhow, bail};
use report::hops::HopStats;
use report::model::{Capture, Record, Run, Summary};
use report::stats::Marks;
use report::{draw, json, text};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Records that may wait for a slow terminal before the receiver waits too.
const QUEUE: usize = 65_536;
/// Printed lines are seen after this long at the latest.
const FLUSH: Duration = Duration::from_millis(100);

/// What the collector has to tell.
pub enum Message {
    /// The run began, or its mode changed.
    Run(Box<Run>),
    /// A recorded probe.
    Record(Box<Record>),
    /// Statistics of the run so far.
    Stat(Box<Summary>),
    /// SIGHUP: open the log files anew.
    Reopen,
    /// The end.
    End(Box<End>),
}

/// The results of a run.
pub struct End {
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
}

impl Outputs {
    /// Opens everything that is to be written, so that a wrong path is known before the first probe.
    pub fn start(cli: &Cli, plan: &Plan) -> Result<Self> {
        let writer = Writer::new(cli, plan)?;
        let (queue, messages) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("output".into())
            .spawn(move || writer.run(&messages))
            .context("start the output thread")?;
        Ok(Self { queue, thread })
    }

    /// Passes a message on; a writer that failed is found out at the end.
    pub fn send(&self, message: Message) {
        let _ = self.queue.send(message);
    }

    /// The writer gave up, for example because nobody reads stdout any more.
    pub fn failed(&self) -> bool {
        self.thread.is_finished()
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

struct Logs {
    sequence: RotatingFile,
    stat: RotatingFile,
}

struct Writer {
    text: Option<Box<dyn Write + Send>>,
    json: Option<Box<dyn Write + Send>>,
    logs: Option<Logs>,
    image: Option<PathBuf>,
    namespaces: bool,
    names: NameBook,
}

impl Writer {
    fn new(cli: &Cli, _plan: &Plan) -> Result<Self> {
        let json = cli.wants(Output::Json);
        let stdout = || Box::new(BufWriter::new(io::stdout())) as Box<dyn Write + Send>;
        let stderr = || Box::new(BufWriter::new(io::stderr())) as Box<dyn Write + Send>;
        let image = cli
            .wants(Output::Image)
            .then(|| image_path(&cli.image))
            .transpose()?;
        Ok(Self {
            text: cli
                .wants(Output::Text)
                .then(if json { stderr } else { stdout }),
            json: json.then(stdout),
            logs: cli
                .wants(Output::Log)
                .then(|| Logs::open(cli))
                .transpose()?,
            image,
            namespaces: cli.namespace,
            names: NameBook::default(),
        })
    }

    fn run(mut self, messages: &Receiver<Message>) -> Result<()> {
        loop {
            let message = match messages.recv_timeout(FLUSH) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.flush()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            };
            match message {
                Message::Run(run) => self.line(&json::run_line(&run), true)?,
                Message::Record(mut record) => {
                    self.names.name(&mut record);
                    self.record(&record)?;
                }
                Message::Stat(mut summary) => {
                    self.names.name_losses(&mut summary.losses);
                    self.stat(&summary, false)?;
                }
                Message::Reopen => self.reopen(),
                Message::End(end) => return self.end(*end),
            }
        }
    }

    /// A JSON line for stdout and the log.
    fn line(&mut self, line: &str, also_stat: bool) -> Result<()> {
        if let Some(out) = &mut self.json {
            writeln!(out, "{line}").context(STDOUT)?;
        }
        if let Some(logs) = &mut self.logs {
            logs.sequence
                .write_all(format!("{line}\n").as_bytes())
                .context("write the log")?;
            if also_stat {
                logs.stat
                    .write_all(format!("{line}\n").as_bytes())
                    .context("write the log")?;
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        if self.json.is_some() || self.logs.is_some() {
            let line = json::probe_line(record, self.names.names());
            self.line(&line, false)?;
        }
        if let Some(out) = &mut self.text {
            writeln!(out, "{}", text::probe_line(record)).context(STDOUT)?;
            if self.namespaces {
                write!(out, "{}", text::hops(record, self.names.names())).context(STDOUT)?;
            }
        }
        Ok(())
    }

    /// The log has every summary, stdout only the last one.
    fn stat(&mut self, summary: &Summary, last: bool) -> Result<()> {
        let line = json::stat_line(summary, realtime_ns());
        if let Some(out) = self.json.as_mut().filter(|_| last) {
            writeln!(out, "{line}").context(STDOUT)?;
        }
        if let Some(logs) = &mut self.logs {
            logs.stat
                .write_all(format!("{line}\n").as_bytes())
                .context("write the log")?;
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

    fn end(mut self, end: End) -> Result<()> {
        let End {
            mut capture,
            marks,
            hops,
        } = end;
        self.names.name_losses(&mut capture.summary.losses);
        self.stat(&capture.summary, true)?;
        capture
            .slowest
            .iter()
            .for_each(|r| self.names.learn(&r.probe));
        if let Some(hops) = &hops {
            let line = json::hops_line(hops, self.names.names());
            self.line(&line, false)?;
        }
        if let Some(out) = &mut self.text {
            write!(
                out,
                "{}",
                text::summary(&capture.run, &capture.summary, marks)
            )
            .context(STDOUT)?;
            if let Some(hops) = &hops {
                write!(out, "\n{}", text::hop_table(hops, self.names.names())).context(STDOUT)?;
            }
        }
        self.flush()?;
        if let Some(path) = &self.image {
            capture.names = self.names.names().clone();
            draw::write(&capture, path)?;
            log::info!("picture: {}", path.display());
        }
        self.no_line_was_lost()
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

    fn flush(&mut self) -> Result<()> {
        for out in [&mut self.text, &mut self.json].into_iter().flatten() {
            out.flush().context(STDOUT)?;
        }
        Ok(())
    }
}

const STDOUT: &str = "write the result to stdout";

impl Logs {
    fn open(cli: &Cli) -> Result<Self> {
        let open = |suffix| {
            let path = suffixed(&cli.log, suffix);
            RotatingFile::open(&path, cli.logsize, cli.logbackup as usize)
                .with_context(|| format!("open the log {} (--log)", path.display()))
        };
        Ok(Self {
            sequence: open("seq")?,
            stat: open("stat")?,
        })
    }
}

/// Fills in the time, and finds out now what would fail at the end.
fn image_path(pattern: &Path) -> Result<PathBuf> {
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
    let directory = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !directory.is_dir() {
        return Err(anyhow!(
            "the picture's directory {} does not exist (--image): make it first",
            directory.display()
        ));
    }
    Ok(path)
}

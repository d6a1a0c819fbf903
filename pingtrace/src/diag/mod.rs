//! The companions, subcommands that look at one host, and what they share. Each loads its own kernel
//! programs, turns what they saw into [`Row`]s, and writes them to a [`Sink`].

mod cgroups;
mod floor;
pub mod iofsstat;
pub mod irqoff;
pub mod memleak;
mod monitor;
pub mod nosched;
pub mod runqlat;
mod stolen;

use crate::control::Control;
use crate::options::{self, heading};
use crate::output::destinations as output;
use crate::output::printer::{Full, Printer};
use crate::output::rotate::RotatingFile;
use crate::output::screen::Screen;
use crate::output::story::{self, Progress};
use crate::units::{self, Time};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use report::companion::{Chart, Row, Summary};
use report::draw;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

// A doc comment would be the help of the subcommand.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the subcommand"
)]
pub struct Results {
    /// What to write: one or more, separated by commas; text and json go to stdout (text to stderr
    /// if both are given)
    #[arg(short, long, value_enum, value_delimiter = ',', default_value = "text", help_heading = heading::OUTPUT)]
    pub output: Vec<Output>,

    /// Write the rows to this log file too: text with its header, or JSON lines with -o json
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub log: Option<PathBuf>,

    /// Size at which the log file is rotated, with K, M or G
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = units::bytes, help_heading = heading::OUTPUT)]
    pub logsize: u64,

    /// Rotated log files to keep
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = heading::OUTPUT)]
    pub logbackup: u32,

    /// Picture file: .png, .svg or .html; strftime fields (%Y%m%d-%H%M) are replaced
    /// [default: ./pingtrace-SUBCOMMAND.png]
    #[arg(long, value_name = "FILE", value_parser = options::image, help_heading = heading::OUTPUT)]
    pub image: Option<PathBuf>,

    /// Log more, including libbpf's messages
    #[arg(long, help_heading = heading::OUTPUT)]
    pub debug: bool,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table and a summary
    Text,
    /// JSON lines
    Json,
    /// A picture at the end
    Image,
}

/// Where the rows of a companion go. Printing and logging never block: what is not read in time is
/// dropped and counted.
pub struct Sink {
    text: Option<Printer>,
    /// Where text goes.
    screen: Screen,
    json: Option<Printer>,
    log: Option<RotatingFile>,
    log_json: bool,
    image: Option<PathBuf>,
    unread: Arc<AtomicBool>,
    start: Time,
    companion: &'static str,
    progress: Progress,
}

impl Sink {
    /// Opens everything that is to be written. `header` is the table's first line or lines, and
    /// stands in text once, and once at the head of each log file.
    pub fn open(wanted: &Results, companion: &'static str, header: &str) -> Result<Self> {
        let wants = |output| wanted.output.contains(&output);
        let json = wants(Output::Json);
        let unread = Arc::<AtomicBool>::default();
        let image = || {
            let default = PathBuf::from(format!("./pingtrace-{companion}.png"));
            output::image_path(wanted.image.as_ref().unwrap_or(&default))
        };
        let image = wants(Output::Image).then(image).transpose()?;
        let log_header = if json { "" } else { header };
        let log = wanted.log.as_ref().map(|path| {
            RotatingFile::open(path, wanted.logsize, wanted.logbackup as usize)
                .and_then(|log| log.with_header(log_header))
                .with_context(|| format!("open the log {} (--log)", path.display()))
        });
        let log = log.transpose()?;
        let text = wants(Output::Text);
        let screen = if json { Screen::Stderr } else { Screen::Stdout };
        // A reader that left ends the run only if nothing else is written.
        let alone = log.is_none() && image.is_none() && !(json && text);
        let left = if alone {
            Arc::clone(&unread)
        } else {
            Arc::default()
        };
        let stdout = || Printer::stdout(Full::Drop, left);
        let (mut text, json) = match (text, json) {
            (true, true) => (Some(Printer::stderr(Full::Drop)?), Some(stdout()?)),
            (true, false) => (Some(stdout()?), None),
            (false, true) => (None, Some(stdout()?)),
            (false, false) => (None, None),
        };
        if let Some(text) = &mut text {
            text.print(screen.style().render(header));
        }
        Ok(Self {
            text,
            screen,
            log_json: json.is_some(),
            json,
            log,
            image,
            unread,
            start: Time::now(),
            companion,
            progress: Progress::default(),
        })
    }

    /// Whether a picture is drawn; if not, what only a picture needs is not kept.
    pub fn draws(&self) -> bool {
        self.image.is_some()
    }

    /// Whether the reader of stdout has left and nothing else is written.
    pub fn failed(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// When it was opened.
    pub fn start(&self) -> Time {
        self.start
    }

    /// Writes a row to every output.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        let json = (self.json.is_some() || self.log_json).then(|| row.json() + "\n");
        let text = || row.text();
        if let Some(log) = &mut self.log {
            let line = json.clone().unwrap_or_else(text);
            log.write_all(line.as_bytes()).context("write the log")?;
        }
        if let (Some(printer), Some(json)) = (&mut self.json, json) {
            printer.print(json);
        }
        if let Some(printer) = &mut self.text {
            printer.print(self.screen.style().render(&text()));
        }
        Ok(())
    }

    /// Writes a line that is not a row, such as the header of one of several tables, to the text outputs.
    pub fn heading(&mut self, line: &str) -> Result<()> {
        if let Some(log) = self.log.as_mut().filter(|_| !self.log_json) {
            log.write_all(line.as_bytes()).context("write the log")?;
        }
        if let Some(printer) = &mut self.text {
            printer.print(self.screen.style().render(line));
        }
        Ok(())
    }

    /// Reopens the log if SIGHUP asked for it since the last call. Returns whether the summary so far
    /// was asked for.
    pub fn housekeep(&mut self, control: &Control) -> bool {
        let asked = control.asked();
        if asked.reopen
            && let Some(Err(e)) = self.log.as_mut().map(RotatingFile::reopen)
        {
            log::error!("cannot open the log anew after SIGHUP: {e}");
        }
        asked.summary
    }

    /// Shows the progress on a terminal, at most once a second. `scrolls`: the rows come so often that
    /// they show it.
    pub fn progress(&mut self, scrolls: bool, line: impl FnOnce() -> String) {
        let prints = self.text.is_some() || self.json.is_some();
        if scrolls && prints && Screen::Stdout.is_terminal() || !self.progress.is_due() {
            return;
        }
        story::progress(format!("{}: {}", self.companion, line()));
    }

    /// Prints the summary as it would be now to stderr.
    pub fn say_so_far(&self, summary: Summary) {
        story::say(Row::Summary(self.complete(summary)).text());
    }

    /// Adds what the sink knows to a summary.
    fn complete(&self, summary: Summary) -> Summary {
        let now = Time::now();
        Summary {
            companion: self.companion,
            time: report::companion::Time(now.unix_ns),
            elapsed_ns: now.ns - self.start.ns,
            ..summary
        }
    }

    /// Writes the last row and the picture; if one fails, the other is written all the same.
    pub fn finish(mut self, summary: Summary, chart: impl FnOnce() -> Chart) -> Result<()> {
        story::progress(String::new());
        let summary = self.complete(summary);
        let logged = self.row(&Row::Summary(summary));
        let drawn = self.image.as_ref().map_or(Ok(()), |path| -> Result<()> {
            draw::write(draw::Picture::Companion(&chart()), path)?;
            log::info!("picture: {}", path.display());
            Ok(())
        });
        let printed = [self.json.take(), self.text.take()]
            .map(|printer| printer.map_or(Ok(()), |p| p.finish(String::new())));
        let lost = self.log.as_ref().map_or(0, RotatingFile::lost_lines);
        logged?;
        drawn?;
        printed.into_iter().collect::<Result<()>>()?;
        if lost > 0 {
            bail!("{lost} log lines (--log) could not be written");
        }
        Ok(())
    }
}

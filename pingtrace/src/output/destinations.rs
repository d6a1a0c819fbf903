//! Where results go, of runs and companions alike: stdout (with both text and JSON, text goes to
//! stderr), the log, the system's log, and a picture at the end. An [`Entry`] knows its form in each of them.
//!
//! A new destination is a file beside this one, a field here, and a line each in [`Destinations::open`],
//! [`Destinations::write_files`], or `write` and `finish` if it is a printer.

use crate::options::{Format, Origin, Output};
use crate::output::entry::Entry;
use crate::output::events::{Events, Reader};
use crate::output::files::directory;
use crate::output::logs::{self, Logs};
use crate::output::picture;
use crate::output::printer::{Full, Printer};
use crate::output::save::{self, Save};
use crate::output::screen::Screen;
use crate::output::story;
use crate::output::trace::TraceFile;
use anyhow::Result;
use report::format::csv;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All outputs.
pub struct Destinations {
    text: Option<Printer>,
    /// Where text goes.
    screen: Screen,
    json: Option<Printer>,
    csv: Option<Table>,
    trace: Option<TraceFile>,
    save: Option<Save>,
    logs: Logs,
    events: Vec<Events>,
    pictures: Vec<PathBuf>,
    unread: Arc<AtomicBool>,
    /// The terminal shows something else until the end.
    is_covered: bool,
}

impl Destinations {
    /// Opens all outputs, so that a wrong path is known before the first result. `header` begins the text:
    /// once on the screen, and at the head of each log file.
    pub fn open(output: &Output, origin: Origin, header: &str) -> Result<Self> {
        output.check(origin)?;
        let (text, json) = (output.wants(Format::Text), output.wants(Format::Json));
        let csv = output.wants(Format::Csv);
        let pictures = pictures(output, origin)?;
        let trace = trace(output, origin).map(|path| TraceFile::create(&path));
        let trace = trace.transpose()?;
        let save = saved(output)?.map(Save::new);
        let logs = Logs::open(output, origin, header)?;
        let readers = [
            (Format::Journald, Reader::Journald),
            (Format::Syslog, Reader::Syslog),
        ];
        let readers = readers
            .into_iter()
            .filter(|(format, _)| output.wants(*format));
        let events: Vec<_> = readers
            .map(|(_, reader)| Events::open(reader))
            .collect::<Result<_>>()?;
        let unread = Arc::<AtomicBool>::default();
        // A reader that has left ends the run only if nothing else is written.
        let has_files =
            !logs.is_empty() || !pictures.is_empty() || trace.is_some() || save.is_some();
        let goes_on = has_files || !events.is_empty() || (json || csv) && text;
        let left = if goes_on {
            Arc::default()
        } else {
            Arc::clone(&unread)
        };
        let full = match origin {
            Origin::SavedRun => Full::Wait,
            Origin::LiveRun | Origin::Companion(_) => Full::Drop,
        };
        let screen = if json || csv {
            Screen::Stderr
        } else {
            Screen::Stdout
        };
        let print = |to: Screen| match to {
            Screen::Stdout => Printer::stdout(full, Arc::clone(&left)),
            Screen::Stderr => Printer::stderr(full),
        };
        let mut destinations = Self {
            text: text.then(|| print(screen)).transpose()?,
            screen,
            json: json.then(|| print(Screen::Stdout)).transpose()?,
            csv: csv
                .then(|| print(Screen::Stdout).map(Table::new))
                .transpose()?,
            trace,
            save,
            logs,
            events,
            pictures,
            unread,
            is_covered: false,
        };
        if let Some(text) = destinations.text.as_mut().filter(|_| !header.is_empty()) {
            text.print(screen.style().render(header));
        }
        Ok(destinations)
    }

    /// Until the end nothing is printed: the terminal shows something else.
    pub fn cover(&mut self) {
        self.is_covered = true;
    }

    /// Writes an entry to every output: first the log, which never blocks.
    pub fn write(&mut self, entry: &Entry<'_>) {
        let json = self.write_files(entry);
        if !entry.is_printed() || self.is_covered {
            return;
        }
        if let (Some(printer), Some(json)) = (&mut self.json, json) {
            printer.print(json);
        }
        if let (Some(table), Some(row)) = (&mut self.csv, entry.csv()) {
            table.print(row);
        }
        if let Some(printer) = &mut self.text {
            let style = self.screen.style();
            if let Some(text) = entry.text(&style) {
                printer.print(style.render(&text));
            }
        }
    }

    /// Writes an entry to the files that have it; returns it as JSON, if an output needs that.
    fn write_files(&mut self, entry: &Entry<'_>) -> Option<String> {
        let needs_json = self.json.is_some() || self.logs.has_json() || !self.events.is_empty();
        let json = needs_json.then(|| entry.json()).flatten();
        self.logs.write(entry, json.as_deref());
        for events in &mut self.events {
            events.write(entry, json.as_deref());
        }
        if let Some(trace) = &mut self.trace {
            trace.write(entry);
        }
        if let Some(save) = &mut self.save {
            save.write(entry);
        }
        json
    }

    /// Reopens the log files, after SIGHUP.
    pub fn reopen(&mut self) {
        self.logs.reopen();
    }

    /// Where files are written.
    pub fn directories(&self) -> Vec<PathBuf> {
        let pictures = self.pictures.iter().map(PathBuf::as_path);
        let files = self.logs.paths().chain(pictures).map(directory);
        let saved = self.save.iter().map(Save::directory);
        files.chain(saved).map(Path::to_owned).collect()
    }

    /// Whether a picture will be drawn; if not, what only a picture needs is not kept.
    pub fn draws(&self) -> bool {
        !self.pictures.is_empty()
    }

    /// Whether many results would scroll over a terminal.
    pub fn scrolls(&self) -> bool {
        let scrolls =
            |printer: &Option<Printer>, screen: Screen| printer.is_some() && screen.is_terminal();
        scrolls(&self.json, Screen::Stdout)
            || scrolls(&self.text, self.screen)
            || self.csv.is_some() && Screen::Stdout.is_terminal()
    }

    /// Whether the reader of stdout has left and nothing else is written.
    pub fn unread(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unread)
    }

    /// The same, now.
    pub fn failed(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Writes the last entries and, by `draw`, the picture; returns when all is written. The log comes
    /// first, then the picture: neither waits for a reader of stdout. If one fails, the others are
    /// written all the same.
    pub fn finish(mut self, last: &[Entry<'_>], draw: impl Fn(&Path) -> Result<()>) -> Result<()> {
        story::progress(String::new());
        let style = self.screen.style();
        let (mut all_json, mut all_text) = (String::new(), String::new());
        for entry in last {
            all_json += &self.write_files(entry).unwrap_or_default();
            if self.text.is_some() {
                all_text += &entry.text(&style).unwrap_or_default();
            }
        }
        let draw =
            |path: PathBuf| draw(&path).inspect(|()| log::info!("picture: {}", path.display()));
        let drawn: Vec<_> = self.pictures.into_iter().map(draw).collect();
        let traced = self.trace.map_or(Ok(()), TraceFile::finish);
        let saved = self.save.map_or(Ok(()), Save::finish);
        let finish = |printer: Option<Printer>, last| printer.map_or(Ok(()), |p| p.finish(last));
        let printed = [
            finish(self.json, all_json),
            self.csv.map_or(Ok(()), Table::finish),
            finish(self.text, style.render(&all_text)),
        ];
        drawn.into_iter().collect::<Result<()>>()?;
        traced?;
        saved?;
        printed.into_iter().collect::<Result<()>>()?;
        self.logs.finish()?;
        self.events.into_iter().try_for_each(Events::finish)
    }

    /// The same without a picture: it is that of somebody else.
    pub fn close(self, last: &[Entry<'_>]) -> Result<()> {
        let pictures = Vec::new();
        Self { pictures, ..self }.finish(last, |_| Ok(()))
    }
}

/// A table on stdout. Its first row comes with the second, or at the end: what is opened may be for a trial.
struct Table {
    printer: Printer,
    has_header: bool,
}

impl Table {
    fn new(printer: Printer) -> Self {
        Self {
            printer,
            has_header: false,
        }
    }

    fn print(&mut self, row: String) {
        if !std::mem::replace(&mut self.has_header, true) {
            self.printer.print(csv::header());
        }
        self.printer.print(row);
    }

    fn finish(self) -> Result<()> {
        let header = if self.has_header {
            String::new()
        } else {
            csv::header()
        };
        self.printer.finish(header)
    }
}

/// The pictures that will be drawn.
fn pictures(output: &Output, origin: Origin) -> Result<Vec<PathBuf>> {
    let names = output.images(origin).into_iter();
    names.map(|path| picture::resolve(&path)).collect()
}

/// The trace that will be written, if one is wanted.
fn trace(output: &Output, origin: Origin) -> Option<PathBuf> {
    output
        .wants(Format::Perfetto)
        .then(|| origin.file("pftrace"))
}

/// The file in which the run will be saved, if one is wanted.
fn saved(output: &Output) -> Result<Option<PathBuf>> {
    output.save.as_deref().map(save::resolve).transpose()
}

/// Where files will be written.
pub fn directories(output: &Output, origin: Origin) -> Result<Vec<PathBuf>> {
    output.check(origin)?;
    let logs = logs::files(output, origin).into_iter();
    let files = logs.map(|(_, path)| path);
    let files = files
        .chain(pictures(output, origin)?)
        .chain(trace(output, origin))
        .chain(saved(output)?);
    Ok(files.map(|path| directory(&path).to_owned()).collect())
}

/// Writes an entry to stderr, when a signal asked for it: see [`story`].
pub fn print_to_stderr(entry: &Entry<'_>) {
    let style = Screen::Stderr.style();
    if let Some(text) = entry.text(&style) {
        story::print(style.render(&text));
    }
}

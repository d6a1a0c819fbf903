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
use crate::output::screen::Screen;
use crate::output::story;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All outputs.
pub struct Destinations {
    text: Option<Printer>,
    /// Where text goes.
    screen: Screen,
    json: Option<Printer>,
    logs: Logs,
    events: Vec<Events>,
    picture: Option<PathBuf>,
    unread: Arc<AtomicBool>,
    /// The terminal shows something else until the end.
    is_covered: bool,
}

impl Destinations {
    /// Opens all outputs, so that a wrong path is known before the first result. `header` begins the text:
    /// once on the screen, and at the head of each log file.
    pub fn open(output: &Output, origin: Origin, header: &str) -> Result<Self> {
        let (text, json) = (output.wants(Format::Text), output.wants(Format::Json));
        let picture = output.image(origin);
        let picture = picture.map(|path| picture::resolve(&path)).transpose()?;
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
        let goes_on = !logs.is_empty() || !events.is_empty() || picture.is_some() || json && text;
        let left = if goes_on {
            Arc::default()
        } else {
            Arc::clone(&unread)
        };
        let full = match origin {
            Origin::SavedRun => Full::Wait,
            Origin::LiveRun | Origin::Companion(_) => Full::Drop,
        };
        let screen = if json { Screen::Stderr } else { Screen::Stdout };
        let print = |to: Screen| match to {
            Screen::Stdout => Printer::stdout(full, Arc::clone(&left)),
            Screen::Stderr => Printer::stderr(full),
        };
        let mut destinations = Self {
            text: text.then(|| print(screen)).transpose()?,
            screen,
            json: json.then(|| print(Screen::Stdout)).transpose()?,
            logs,
            events,
            picture,
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
        json
    }

    /// Reopens the log files, after SIGHUP.
    pub fn reopen(&mut self) {
        self.logs.reopen();
    }

    /// Where files are written.
    pub fn directories(&self) -> Vec<PathBuf> {
        let files = self.logs.paths().chain(self.picture.as_deref());
        files.map(|path| directory(path).to_owned()).collect()
    }

    /// Whether a picture will be drawn; if not, what only a picture needs is not kept.
    pub fn draws(&self) -> bool {
        self.picture.is_some()
    }

    /// Whether many results would scroll over a terminal.
    pub fn scrolls(&self) -> bool {
        let scrolls =
            |printer: &Option<Printer>, screen: Screen| printer.is_some() && screen.is_terminal();
        scrolls(&self.json, Screen::Stdout) || scrolls(&self.text, self.screen)
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
    pub fn finish(
        mut self,
        last: &[Entry<'_>],
        draw: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        story::progress(String::new());
        let style = self.screen.style();
        let (mut all_json, mut all_text) = (String::new(), String::new());
        for entry in last {
            all_json += &self.write_files(entry).unwrap_or_default();
            if self.text.is_some() {
                all_text += &entry.text(&style).unwrap_or_default();
            }
        }
        let drawn = self.picture.map_or(Ok(()), |path| {
            draw(&path).inspect(|()| log::info!("picture: {}", path.display()))
        });
        let finish = |printer: Option<Printer>, last| printer.map_or(Ok(()), |p| p.finish(last));
        let printed = [
            finish(self.json, all_json),
            finish(self.text, style.render(&all_text)),
        ];
        drawn?;
        printed.into_iter().collect::<Result<()>>()?;
        self.logs.finish()?;
        self.events.into_iter().try_for_each(Events::finish)
    }

    /// The same without a picture: it is that of somebody else.
    pub fn close(self, last: &[Entry<'_>]) -> Result<()> {
        let picture = None;
        Self { picture, ..self }.finish(last, |_| Ok(()))
    }
}

/// Where files will be written.
pub fn directories(output: &Output, origin: Origin) -> Result<Vec<PathBuf>> {
    let picture = output.image(origin);
    let picture = picture.map(|path| picture::resolve(&path)).transpose()?;
    let logs = logs::files(output, origin).into_iter();
    let files = logs.map(|(_, path)| path).chain(picture);
    Ok(files.map(|path| directory(&path).to_owned()).collect())
}

/// Writes an entry to stderr, when a signal asked for it: see [`story`].
pub fn print_to_stderr(entry: &Entry<'_>) {
    let style = Screen::Stderr.style();
    if let Some(text) = entry.text(&style) {
        story::print(style.render(&text));
    }
}

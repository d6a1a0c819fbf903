//! The live view: one more consumer of a run's results, on the terminal.
//!
//! The output thread passes on a copy of what it writes ([`Feed`]). A thread of its own, at low priority, takes it
//! all twice a second and draws; a key is answered at once. A live run never waits for it: what finds no room
//! is counted, and shown. What is drawn is a function of records and keys ([`state::View`]), without a terminal.

mod draw;
mod history;
mod keys;
mod signals;
mod state;
mod target;
pub mod terminal;
mod thread;

#[cfg(test)]
mod tests;

pub use target::{Present, Record};

use crate::exit::Usage;
use crate::kernel::confine::allow_terminal;
use crate::options::{Format, Origin, Output};
use crate::output::files::directory;
use crate::output::screen::Screen;
use crate::output::{picture, story};
use anyhow::{Context, Result, anyhow};
use report::model::Names;
use rustix::termios::isatty;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use thread::{Message, Showing};

/// Upper bound on records that wait to be shown.
const QUEUE: usize = 65_536;
/// The default picture, with the time at which it is saved.
const PICTURE: &str = "./pingtrace-%Y%m%d-%H%M%S.png";

/// Fails where the view cannot be shown, with the remedy; before the process is confined, which lets it keep the
/// terminal.
pub fn check(output: &Output, origin: Origin) -> Result<()> {
    let why = if output.wants(Format::Json) || output.wants(Format::Csv) {
        "--live and -o json or csv both need stdout: write JSON to a log (-o log)"
    } else if !Screen::Stdout.is_terminal() {
        "--live needs a terminal, and stdout is none: leave out --live, or start it on a terminal (ssh -t)"
    } else if !isatty(std::io::stdin()) {
        match origin {
            Origin::SavedRun => {
                "--live reads keys from stdin, which is no terminal: name the FILE, and start it on a terminal"
            }
            _ => {
                "--live reads keys from stdin, which is no terminal: start it on a terminal (ssh -t)"
            }
        }
    } else {
        allow_terminal();
        return Ok(());
    };
    Err(Usage(why.to_owned()).into())
}

/// Where pictures are saved.
pub fn pictures(output: &Output) -> PathBuf {
    directory(&pattern(output)).to_owned()
}

/// Their name, with the fields of the time.
fn pattern(output: &Output) -> PathBuf {
    output.image.clone().unwrap_or_else(|| PICTURE.into())
}

/// Gives the terminal back, whatever became of the view.
pub fn give_back() {
    terminal::leave();
    story::uncover();
}

/// The output thread's end.
pub struct Feed {
    queue: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
    missed: Arc<AtomicU64>,
    is_saved: bool,
    /// What was passed on last.
    names: HashMap<u32, Names>,
}

impl Feed {
    /// Takes the terminal; before the process is confined.
    pub fn start(origin: Origin, output: &Output) -> Result<Self> {
        let pattern = pattern(output);
        picture::resolve(&pattern)?;
        let (queue, records) = sync_channel(QUEUE);
        let missed = Arc::<AtomicU64>::default();
        let is_saved = origin == Origin::SavedRun;
        let said = queue.clone();
        let showing = Showing::start(records, Arc::clone(&missed), pattern, is_saved)?;
        story::cover(move |lines| {
            // A view that is busy shows a later one; all are written at the end.
            let _ = said.try_send(Message::Said(lines.trim_end().to_owned()));
        });
        let thread = std::thread::Builder::new().name("live".into());
        let thread = thread.spawn(move || showing.run());
        Ok(Self {
            queue,
            thread: Some(thread.context("start the thread of the live view")?),
            missed,
            is_saved,
            names: HashMap::new(),
        })
    }

    /// Passes a record on.
    pub fn pass(&mut self, target: u32, record: Record) {
        let message = Message::Record(target, record);
        if self.is_saved {
            // Gone: the user has seen enough.
            let _ = self.queue.send(message);
        } else if let Err(TrySendError::Full(_)) = self.queue.try_send(message) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes on the names that are known, if they changed.
    pub fn names(&mut self, target: u32, names: &Names) {
        if self.names.get(&target) != Some(names) {
            self.names.insert(target, names.clone());
            self.pass(target, Record::Names(Box::new(names.clone())));
        }
    }

    /// A target of a live run is probed no more. What a saved run shows stays.
    pub fn left(&mut self, target: u32) {
        self.names.remove(&target);
        if !self.is_saved {
            self.pass(target, Record::Left);
        }
    }

    /// Ends the view of a live run; that of a saved one ends when its user has seen enough.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let _ = self.queue.send(Message::End);
        let shown = thread.join();
        give_back();
        shown.map_err(|_| anyhow!("the live view panicked"))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // What the view would say is not why the output thread gives up.
        let _ = self.end();
    }
}

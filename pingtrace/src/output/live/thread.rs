//! The thread that draws.

use crate::output::live::draw::draw;
use crate::output::live::keys::Keys;
use crate::output::live::signals::Signals;
use crate::output::live::state::{Asked, View};
use crate::output::live::target::Record;
use crate::output::live::terminal::{self, Frame};
use crate::output::picture;
use crate::output::screen::Screen;
use anyhow::{Context, Result};
use ratatui_core::layout::Rect;
use ratatui_core::terminal::{Terminal, TerminalOptions, Viewport};
use ratatui_crossterm::CrosstermBackend;
use report::model::Capture;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::setpriority_process;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Time between two drawings, unless a key is pressed.
const STEP: Duration = Duration::from_millis(500);
/// The rest of a key's sequence follows sooner.
const KEY: Duration = Duration::from_millis(50);
/// Below everything that measures.
const NICE: i32 = 10;

/// What the thread is sent.
pub enum Message {
    /// What became known of a target.
    Record(u32, Record),
    /// Lines of the story.
    Said(String),
    /// The run is over.
    End,
}

type Screenful = Terminal<CrosstermBackend<Frame>>;

/// A screen on which nothing is. `Terminal::clear` and `resize` would ask the terminal where its cursor is, and wait
/// for the answer among the keys.
fn screen() -> io::Result<Screenful> {
    let viewport = Viewport::Fixed(terminal::area());
    let backend = CrosstermBackend::new(Frame::default());
    Terminal::with_options(backend, TerminalOptions { viewport })
}

/// The view and its terminal.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says another thing of the terminal or the run"
)]
pub struct Showing {
    view: View,
    records: Receiver<Message>,
    /// Records that found no room.
    missed: Arc<AtomicU64>,
    /// The pictures' name.
    pattern: PathBuf,
    is_saved: bool,
    terminal: Screenful,
    signals: Signals,
    keys: Keys,
    /// Something was lost on its way to the terminal, or it has another size.
    is_stale: bool,
    /// The run is over, or the user has seen enough.
    is_over: bool,
    /// The terminal hung up: there are no keys.
    is_deaf: bool,
}

impl Showing {
    /// Takes the terminal.
    pub fn start(
        records: Receiver<Message>,
        missed: Arc<AtomicU64>,
        pattern: PathBuf,
        is_saved: bool,
    ) -> Result<Self> {
        let signals = Signals::install(is_saved)?;
        let screen = screen().context("draw on the terminal (--live)")?;
        terminal::enter()?;
        Ok(Self {
            view: View::new(Screen::Stdout.style().color, is_saved),
            records,
            missed,
            pattern,
            is_saved,
            terminal: screen,
            signals,
            keys: Keys::default(),
            is_stale: false,
            is_over: false,
            is_deaf: false,
        })
    }

    /// Shows what is sent until the end.
    pub fn run(mut self) {
        // Of this thread alone; who may not, measures all the same.
        let _ = setpriority_process(None, NICE);
        let mut due = Instant::now();
        while !self.is_over {
            if Instant::now() >= due {
                self.take_records();
                due = Instant::now() + STEP;
            }
            self.draw();
            self.wait(due);
        }
        terminal::leave();
    }

    fn take_records(&mut self) {
        loop {
            match self.records.try_recv() {
                Ok(Message::Record(target, record)) => self.view.take(target, record),
                Ok(Message::Said(lines)) => self.view.says(lines),
                // A saved run is looked at when it is read.
                Ok(Message::End) | Err(TryRecvError::Disconnected) if self.is_saved => break,
                Ok(Message::End) | Err(TryRecvError::Disconnected) => {
                    self.is_over = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        self.view.missed = self.missed.load(Ordering::Relaxed);
    }

    fn draw(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            match terminal::clear().and_then(|()| screen()) {
                Ok(screen) => self.terminal = screen,
                Err(_) => self.is_stale = true,
            }
        }
        let view = &self.view;
        let drawn = self.terminal.draw(|frame| draw(view, frame.buffer_mut()));
        self.is_stale |= drawn.is_err();
    }

    /// Until then, a key, or a signal.
    fn wait(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let stdin = io::stdin();
        let mut ready = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        let count = if self.is_deaf { 1 } else { 2 };
        let _ = poll(&mut ready[..count], Some(&timespec(left)));
        let keys = ready[1].revents();
        if !keys.is_empty() && !self.is_deaf {
            self.read_keys();
        }
        self.follow_signals();
    }

    fn read_keys(&mut self) {
        let mut bytes = [0; 256];
        let keys = match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(count @ 1..) => self.keys.take(&bytes[..count]),
            Err(Errno::INTR | Errno::AGAIN) => Vec::new(),
            Ok(_) | Err(_) => {
                self.is_deaf = true;
                Vec::new()
            }
        };
        for key in keys {
            self.press(key);
        }
        let stdin = io::stdin();
        let mut more = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut more, Some(&timespec(KEY))) == Ok(0)
            && let Some(key) = self.keys.rest()
        {
            self.press(key);
        }
    }

    fn press(&mut self, key: crate::output::live::keys::Key) {
        match self.view.press(key) {
            Some(Asked::Quit) if self.is_saved => self.is_over = true,
            // As Ctrl-C: the run ends with its statistics.
            Some(Asked::Quit) => {
                let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
            }
            Some(Asked::Picture(capture)) => {
                let said = self.save(&capture);
                let said = said.unwrap_or_else(|e| format!("no picture: {e:#}"));
                self.view.says(said);
            }
            None => {}
        }
    }

    fn save(&self, capture: &Capture) -> Result<String> {
        let path = picture::resolve(&self.pattern)?;
        report::draw::write(report::draw::Picture::Run(capture), &path)?;
        Ok(format!("picture: {}", path.display()))
    }

    fn follow_signals(&mut self) {
        self.signals.drain();
        self.is_over |= self.signals.end();
        if self.signals.stop() {
            terminal::leave();
            let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
            // Stopped here, until SIGCONT.
            self.is_stale = terminal::enter().is_ok();
        }
        if self.signals.redraw() {
            self.is_stale = terminal::area() != Rect::ZERO && terminal::enter().is_ok();
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

//! Keeps a list of targets up to date on a thread of its own: names can take long to resolve.

use super::{TargetList, Update};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How soon a file that was written is read.
const TICK: Duration = Duration::from_millis(100);

/// Upper bound on the time between two looks for this host, where it is not in the list yet.
const WAITING: Duration = Duration::from_secs(1);

/// What changes in the list, as it changes.
pub struct Updates {
    changes: Receiver<Update>,
    reloads: Arc<Reloads>,
    over: Arc<AtomicBool>,
}

/// How often the list was to be read at once, and how often that was done.
#[derive(Default)]
struct Reloads {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Updates {
    /// Resolves names again each time `every` has passed.
    pub fn start(list: TargetList, every: Duration) -> Result<Self> {
        let (to, changes) = channel();
        let (reloads, over) = (Arc::<Reloads>::default(), Arc::<AtomicBool>::default());
        let keeper = Keeper {
            list,
            every,
            reloads: Arc::clone(&reloads),
            over: Arc::clone(&over),
        };
        let thread = thread::Builder::new().name("targets".into());
        thread
            .spawn(move || keeper.run(&to))
            .context("start the thread that resolves targets")?;
        Ok(Self {
            changes,
            reloads,
            over,
        })
    }

    /// Reads the list now, after SIGHUP.
    pub fn reload(&self) {
        self.reloads.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether that is done: what has changed is next.
    pub fn has_reloaded(&self) -> bool {
        let Reloads { asked, done } = &*self.reloads;
        done.load(Ordering::Acquire) == asked.load(Ordering::Relaxed)
    }

    /// The next change, if there is one.
    pub fn next(&self) -> Option<Update> {
        self.changes.try_recv().ok()
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Keeper {
    list: TargetList,
    every: Duration,
    reloads: Arc<Reloads>,
    over: Arc<AtomicBool>,
}

impl Keeper {
    /// When names are resolved again.
    fn next(&self) -> Instant {
        let every = if self.list.is_waiting() {
            self.every.min(WAITING)
        } else {
            self.every
        };
        Instant::now() + every
    }

    fn run(mut self, to: &Sender<Update>) {
        let mut due = self.next();
        while !self.over.load(Ordering::Relaxed) {
            let Reloads { asked, done } = &*self.reloads;
            let asked = asked.load(Ordering::Relaxed);
            let is_asked = asked != done.load(Ordering::Relaxed);
            if !is_asked && !self.list.has_changed() && Instant::now() < due {
                thread::sleep(TICK);
                continue;
            }
            match self.list.update() {
                Ok(update) if update.is_empty() => {}
                Ok(update) => {
                    if to.send(update).is_err() {
                        return;
                    }
                }
                Err(e) => log::error!("{e:#}; the targets stay as they are"),
            }
            done.store(asked, Ordering::Release);
            due = self.next();
        }
    }
}

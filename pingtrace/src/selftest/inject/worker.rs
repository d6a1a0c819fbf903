//! Threads that end by themselves, on a flag, and on drop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::units::monotonic_ns;

/// A thread that ends by itself, on a flag, and on drop.
pub struct Worker<T: Default> {
    tid: u32,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Default + Send + 'static> Worker<T> {
    /// Returns when `begin`, in the new thread, has made what `run` needs, or has failed.
    pub fn start<S>(
        name: &str,
        begin: impl FnOnce() -> io::Result<S> + Send + 'static,
        run: impl FnOnce(S, &AtomicBool) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (state, outcome) = match begin() {
                    Ok(state) => (Some(state), Ok(rustix::thread::gettid())),
                    Err(error) => (None, Err(error)),
                };
                // The starter waits for this, unless it panicked.
                let _ = ready.send(outcome);
                state.map_or_else(T::default, |state| run(state, &stop))
            }
        })?;
        let mut this = Self {
            tid: 0,
            stop,
            thread: Some(thread),
        };
        let tid = started.recv().map_err(io::Error::other)??;
        this.tid = tid.as_raw_nonzero().get().cast_unsigned();
        Ok(this)
    }
}

impl<T: Default> Worker<T> {
    /// Its thread id.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// The result of the thread, once it has ended by itself.
    pub fn wait(&mut self) -> T {
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended.unwrap_or_default()
    }

    /// Ends the thread; returns its result.
    pub fn stop(&mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }
}

impl<T: Default> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sleeps in slices of at most 10 ms; `false` as soon as `stop` is set.
pub fn sleep_until(until_ns: u64, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = until_ns.saturating_sub(monotonic_ns());
        if left == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_nanos(left.min(10_000_000)));
    }
}

/// In ns, at most 2^63 (292 years).
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

//! A thread that wants its CPU at known times, and says by its own clock when it got it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingtrace::kernel::thread::{Priority, pin, prioritise};
use pingtrace::selftest::inject::load::MAX_SPANS;
use pingtrace::selftest::inject::worker::{Worker, nanos};
use pingtrace::units::{monotonic_ns, sleep_until};

/// The thread's name.
pub const COMM: &str = "victim";

/// When and where it wants to run.
#[derive(Clone, Copy, Debug)]
pub struct Wakes {
    /// Where.
    pub cpu: usize,
    /// Its scheduling class.
    pub priority: Priority,
    /// How often.
    pub interval: Duration,
    /// It ends by itself after this long.
    pub limit: Duration,
}

/// One wake-up, in ns of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The timer's time.
    pub due_ns: u64,
    /// When the thread ran.
    pub woke_ns: u64,
}

impl Wake {
    /// How late it was: the timer's own delay, and the wait for the CPU.
    pub fn late_ns(&self) -> u64 {
        self.woke_ns.saturating_sub(self.due_ns)
    }
}

/// The thread.
pub struct Victim(Worker<Vec<Wake>>);

impl Victim {
    /// Starts it; on return it is pinned and has its priority.
    pub fn start(wakes: Wakes) -> io::Result<Self> {
        let place = move || pin(wakes.cpu).and_then(|()| prioritise(wakes.priority));
        Worker::start(COMM, place, move |(), stop| wakes.run(stop)).map(Self)
    }

    /// Its thread id.
    pub fn tid(&self) -> u32 {
        self.0.tid()
    }

    /// Ends it. All its wake-ups, the oldest 65,536.
    pub fn stop(mut self) -> Vec<Wake> {
        self.0.stop()
    }

    /// Waits until its time is over.
    pub fn wait(mut self) -> Vec<Wake> {
        self.0.wait()
    }
}

impl Wakes {
    /// One timer after the other: what is due while it waits is left out.
    fn run(&self, stop: &AtomicBool) -> Vec<Wake> {
        let interval = nanos(self.interval).max(1);
        let start = monotonic_ns();
        let end = start + nanos(self.limit);
        let mut wakes = Vec::with_capacity(1024);
        let mut due_ns = start + interval;
        while due_ns < end && !stop.load(Ordering::Relaxed) {
            sleep_until(due_ns);
            let woke_ns = monotonic_ns();
            if woke_ns < due_ns {
                continue; // a signal
            }
            if wakes.len() < MAX_SPANS {
                wakes.push(Wake { due_ns, woke_ns });
            }
            due_ns += interval * ((woke_ns - due_ns) / interval + 1);
        }
        wakes
    }
}

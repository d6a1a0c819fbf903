//! Parts of one process that start beside each other, as the server and the client of an agent do: each says when
//! it has attached and opened everything, and the last one confines all.

use anyhow::Result;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The other part failed before it was ready, and says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherFailed;

impl fmt::Display for OtherFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other part of this process did not start")
    }
}

impl std::error::Error for OtherFailed {}

/// How far the parts are.
pub(super) struct Parts {
    state: Mutex<State>,
    changed: Condvar,
}

/// How many parts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many are not ready, of all.
    Missing(u32, Count),
    /// All were ready. Once for ever: a schedule is confined before its captures begin.
    Confined,
    /// One will never be ready.
    Failed,
}

impl Parts {
    /// One part.
    pub(super) const fn one() -> Self {
        Self {
            state: Mutex::new(State::Missing(1, Count::One)),
            changed: Condvar::new(),
        }
    }

    /// Two parts.
    pub(super) fn expect_two(&self) {
        *self.lock() = State::Missing(2, Count::Two);
    }

    /// A part has ended: one that waits for it waits no more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Missing(..)) {
            *state = State::Failed;
            self.changed.notify_all();
        }
    }

    /// A part is ready. Returns when all are, and the last one has confined them.
    pub(super) fn ready(&self, confine: impl FnOnce(Count) -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        if let State::Missing(1, count) = *state {
            let confined = confine(count);
            *state = match confined {
                Ok(()) => State::Confined,
                Err(_) => State::Failed,
            };
            self.changed.notify_all();
            return confined;
        }
        if let State::Missing(missing, count) = *state {
            *state = State::Missing(missing - 1, count);
        }
        let waiting = |state: &mut State| matches!(state, State::Missing(..));
        let waited = self.changed.wait_while(state, waiting);
        match *waited.unwrap_or_else(PoisonError::into_inner) {
            State::Failed => Err(OtherFailed.into()),
            State::Confined | State::Missing(..) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    #[test]
    fn the_last_part_confines_all() {
        let (parts, confined) = (Parts::one(), AtomicU32::new(0));
        parts.expect_two();
        let part = || {
            parts.ready(|count| {
                assert_eq!(count, Count::Two);
                confined.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })?;
            anyhow::Ok(confined.load(Ordering::Relaxed))
        };
        let seen: Vec<_> = thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(part));
            threads.map(|thread| thread.join().unwrap().unwrap()).into()
        });
        assert_eq!(seen, [1, 1]);
        // A further capture finds everything confined.
        assert_eq!(part().unwrap(), 1);
    }

    #[test]
    fn a_part_that_failed_is_not_waited_for() {
        let parts = Parts::one();
        parts.expect_two();
        let waited = thread::scope(|scope| {
            let waiting = scope.spawn(|| parts.ready(|_| panic!("it is not the last one")));
            parts.end();
            waiting.join().unwrap()
        });
        assert!(waited.unwrap_err().is::<OtherFailed>());
        let parts = Parts::one();
        assert!(parts.ready(|_| bail!("refused")).is_err());
    }
}

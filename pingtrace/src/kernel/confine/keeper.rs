//! The keeper: the one thread that keeps the rights to enter namespaces and to read the kernel's symbols, and
//! does that for the others.

use super::restriction::{Refused, Restriction};
use anyhow::{Context, Result, ensure};
use rustix::thread::{Pid, gettid};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

type Errand = Box<dyn FnOnce() + Send>;

static KEEPER: OnceLock<Sender<Errand>> = OnceLock::new();

/// Does something that needs those rights: on the keeper, or here as long as this process is not confined.
pub fn run<T: Send + 'static>(errand: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(keeper) = KEEPER.get() else {
        return errand();
    };
    let (done, result) = channel();
    let errand = move || {
        // The one who waits has not gone.
        let _ = done.send(catch_unwind(AssertUnwindSafe(errand)));
    };
    keeper.send(Box::new(errand)).expect("the keeper runs");
    let result = result.recv().expect("the keeper answers");
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Starts it, restricted to what it needs; returns its number.
pub(super) fn start(restriction: Restriction) -> Result<Pid> {
    let (keeper, errands) = channel::<Errand>();
    let (ready, started) = channel();
    let serve = move || {
        let refused = restriction.apply();
        let _ = ready.send((gettid(), refused));
        serve(&errands);
    };
    let thread = thread::Builder::new().name("keeper".into());
    thread.spawn(serve).context("start the keeper")?;
    let (number, refused) = started.recv().context("start the keeper")?;
    // What else is refused is refused to the other threads, and said there.
    ensure!(
        !refused.has(Refused::CAPABILITIES),
        "the keeper could not give up its capabilities"
    );
    let _ = KEEPER.set(keeper);
    Ok(number)
}

fn serve(errands: &Receiver<Errand>) {
    for errand in errands {
        errand();
    }
}

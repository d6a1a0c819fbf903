//! The same restriction for every thread of this process: capabilities and Landlock are a thread's own, and a
//! thread can change only its own. A signal makes each one do so.

#![expect(unsafe_code, reason = "a signal handler, and a signal for one thread")]

use super::restriction::{Refused, Restriction};
use anyhow::{Context, Result, bail};
use rustix::thread::{Pid, gettid};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The threads of this process, by number.
const THREADS: &str = "/proc/self/task";
/// A thread that has not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for the answer.
const PAUSE: Duration = Duration::from_micros(100);

/// What the handler is to apply.
static RESTRICTION: AtomicPtr<Restriction> = AtomicPtr::new(null_mut());
/// Threads that have applied it, and what was refused to any of them.
static DONE: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// The signal: no other part of the program uses one of real time.
fn signal() -> i32 {
    libc::SIGRTMAX()
}

/// Lets the signal through in this thread and those that it starts: a parent may have blocked it.
pub(super) fn unblock() -> io::Result<()> {
    // SAFETY: a set of signals is plain data, and is initialised before it is used.
    let result = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, null_mut())
    };
    match result {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Restricts all threads but the keeper, the calling one last. Returns what was refused to any of them.
pub(super) fn restrict(left: &'static Restriction, keeper: Option<Pid>) -> Result<Refused> {
    RESTRICTION.store(std::ptr::from_ref(left).cast_mut(), Ordering::Release);
    let before = handle(at_signal as *const () as libc::sighandler_t)?;
    let mut done: BTreeSet<i32> = keeper.into_iter().chain([gettid()]).map(number).collect();
    // A thread that was not restricted yet may have started others meanwhile.
    loop {
        let new: Vec<i32> = list()?.difference(&done).copied().collect();
        if new.is_empty() {
            break;
        }
        for thread in new {
            restrict_one(thread)?;
            done.insert(thread);
        }
    }
    handle(before)?;
    let Refused(own) = left.apply();
    Ok(Refused(own | REFUSED.load(Ordering::Acquire)))
}

/// Sets what the signal does; returns what it did.
fn handle(disposition: libc::sighandler_t) -> io::Result<libc::sighandler_t> {
    // SAFETY: plain data, of which zeros are valid; the handler makes only system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = disposition;
        action.sa_flags = libc::SA_RESTART;
        match libc::sigaction(signal(), &raw const action, &raw mut before) {
            0 => Ok(before.sa_sigaction),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

extern "C" fn at_signal(_: i32) {
    // SAFETY: what was stored is never freed.
    let left = unsafe { RESTRICTION.load(Ordering::Acquire).as_ref() };
    if let Some(left) = left {
        let Refused(refused) = left.apply_unless_inherited();
        REFUSED.fetch_or(refused, Ordering::AcqRel);
    }
    DONE.fetch_add(1, Ordering::AcqRel);
}

/// Returns when the thread is restricted, or has ended.
fn restrict_one(thread: i32) -> Result<()> {
    let before = DONE.load(Ordering::Acquire);
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: numbers.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
    if sent != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ESRCH) => Ok(()),
            _ => Err(error).context("signal a thread"),
        };
    }
    let path = Path::new(THREADS).join(thread.to_string());
    let deadline = Instant::now() + PATIENCE;
    while DONE.load(Ordering::Acquire) == before && path.exists() {
        if Instant::now() > deadline {
            bail!("thread {thread} does not answer");
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn list() -> Result<BTreeSet<i32>> {
    let entries = fs::read_dir(THREADS).with_context(|| format!("list {THREADS}"))?;
    let numbers = entries.flatten();
    Ok(numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

fn number(thread: Pid) -> i32 {
    thread.as_raw_nonzero().get()
}

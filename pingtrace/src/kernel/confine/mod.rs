//! What a run keeps once its programs are attached.
//!
//! Starting needs many rights, going on needs few. [`begin`] is called before there is any other thread, and
//! [`confine`] when everything is attached: it takes the rest from every thread, whoever started it, and
//! nothing gives it back. [`Mode`] has one list for each kind of run: capabilities,
//! system calls (seccomp), and files (Landlock). What needs more later, which is to name
//! namespaces and functions of the kernel, is asked of one thread, the [keeper].

mod calls;
mod extra;
mod files;
pub mod keeper;
mod lists;
mod restriction;
mod threads;

pub use extra::{allow_accepting, allow_reading, allow_writing};
pub use lists::Mode;

use anyhow::{Context, Result, ensure};
use restriction::{Refused, Restriction};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Confined once for ever: a schedule is before its captures are.
static CONFINED: AtomicBool = AtomicBool::new(false);

/// Before there is any other thread: nothing that is executed gets rights of its own.
pub fn begin() -> Result<()> {
    threads::unblock().context("unblock the signal that confines threads")?;
    rustix::thread::set_no_new_privs(true).context("give up new privileges (no_new_privs)")
}

/// Leaves every thread of this process what `mode` needs to go on. `written`, `read`: the directories of its files.
pub fn confine(mode: Mode, written: &[PathBuf], read: &[PathBuf]) -> Result<()> {
    if CONFINED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut extra = extra::taken();
    extra.written.extend_from_slice(written);
    extra.read.extend_from_slice(read);
    let keeper = Restriction::of_keeper(mode)?
        .map(keeper::start)
        .transpose()?;
    // Threads that start later begin with what is left to this one; it lives as long as they do.
    let left: &'static _ = Box::leak(Box::new(Restriction::new(mode, &extra)?));
    let refused = threads::restrict(left, keeper).context("confine the threads of this process")?;
    ensure!(
        !refused.has(Refused::CAPABILITIES),
        "a thread could not give up its capabilities"
    );
    // Measuring goes on: what is to be measured may be an incident.
    if refused.has(Refused::CALLS) {
        log::warn!("system calls stay unrestricted: no seccomp here");
    }
    if refused.has(Refused::FILES) || left.files.is_none() && mode.confines_files() {
        log::warn!(
            "files stay unrestricted: no Landlock here (Linux 5.13, and `landlock` among lsm=)"
        );
    }
    Ok(())
}

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
mod parts;
mod restriction;
mod threads;

pub use extra::{allow_accepting, allow_drivers, allow_reading, allow_terminal, allow_writing};
pub use lists::Mode;
pub use parts::OtherFailed;

use anyhow::{Context, Result, ensure};
use parts::{Count, Parts};
use restriction::{Refused, Restriction};
use std::path::PathBuf;

static PARTS: Parts = Parts::one();

/// Before there is any other thread: nothing that is executed gets rights of its own.
pub fn begin() -> Result<()> {
    threads::unblock().context("unblock the signal that confines threads")?;
    rustix::thread::set_no_new_privs(true).context("give up new privileges (no_new_privs)")
}

/// This process will have two parts, a server and a client: each calls [`confine`], which returns when both have, and
/// leaves both what an agent needs.
pub fn expect_two_parts() {
    PARTS.expect_two();
}

/// One of the two parts has ended.
pub fn end_part() {
    PARTS.end();
}

/// Leaves every thread of this process what `mode` needs to go on. `written`, `read`: the directories of its files.
pub fn confine(mode: Mode, written: &[PathBuf], read: &[PathBuf]) -> Result<()> {
    for directory in written {
        allow_writing(directory);
    }
    for directory in read {
        allow_reading(directory);
    }
    PARTS.ready(|count| match count {
        Count::One => confine_all(mode),
        Count::Two => confine_all(Mode::Agent),
    })
}

fn confine_all(mode: Mode) -> Result<()> {
    let extra = extra::taken();
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

//! Makes the kernel reclaim, to see what stays: the test of what may be cache.
//!
//! `/proc/sys/vm/drop_caches` takes what nobody uses of dentries and inodes (2), and waits for no
//! shortage. Gentler means do not answer the question: memory.reclaim of a cgroup takes pages that
//! processes use before it comes to slab, and shrinking a slab cache (`/sys/kernel/slab/*/shrink`)
//! gives back slabs without objects only.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// The right to make the kernel reclaim.
pub struct Reclaim(File);

impl Reclaim {
    /// Fails where that is not allowed.
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().write(true).open(DROP_CACHES);
        let file = file.with_context(|| {
            format!("cannot write {DROP_CACHES} (--reclaim): needs root on a host whose /proc/sys is writable")
        })?;
        Ok(Self(file))
    }

    /// Unused dentries and inodes of the whole host go, with the cached pages of these files.
    pub fn run(&mut self) -> Result<()> {
        self.0
            .write_all(b"2\n")
            .with_context(|| format!("write {DROP_CACHES}"))
    }
}

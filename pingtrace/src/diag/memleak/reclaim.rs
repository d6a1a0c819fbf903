//! Makes the kernel reclaim, to see what stays: a test of what may be cache.
//!
//! Writing 2 to `/proc/sys/vm/drop_caches` drops unused dentries and inodes at once. Gentler means do
//! not answer the question: memory.reclaim of a cgroup takes pages in use before it reaches slab, and
//! shrinking a slab cache (`/sys/kernel/slab/*/shrink`) frees only slabs without objects.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// The opened file that makes the kernel reclaim.
pub struct Reclaim(File);

impl Reclaim {
    /// Fails if this process is not allowed to.
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().write(true).open(DROP_CACHES);
        let file = file.with_context(|| {
            format!("cannot write {DROP_CACHES} (--reclaim): needs root on a host whose /proc/sys is writable")
        })?;
        Ok(Self(file))
    }

    /// Drops the unused dentries and inodes of the whole host, with the cached pages of their files.
    pub fn run(&mut self) -> Result<()> {
        self.0
            .write_all(b"2\n")
            .with_context(|| format!("write {DROP_CACHES}"))
    }
}

//! Does memory leak? Pure parts of `pingtrace memleak`: what the kernel's own books say at several
//! moments ([`Snapshot`]), what of that grows ([`suspects`]), and what follows from following
//! single objects ([`judge`]).
//!
//! The hard idea: an allocation without a free that was seen is no leak yet. Objects that are
//! freed by RCU in bulk (`kfree_rcu`) leave without a tracepoint, so a tracker alone calls them
//! leaked. The kernel's books know better: a cache whose objects leave does not grow. So a leak is
//! what three witnesses agree on: the books grow steadily, the followed objects explain the
//! growth, and old ones are not freed.

mod areas;
mod cache;
mod judge;
pub(super) mod rows;
mod snapshot;
mod suspect;
mod trend;

pub use areas::{Areas, Held};
pub use cache::{Origin, host_growth, origin};
pub use judge::{Evidence, Judgement, judge, nothing_grows, unfollowed};
pub use snapshot::{
    Area, Cache, Process, Snapshot, meminfo, slabinfo, status, unused, vmallocinfo,
};
pub use suspect::{Suspect, floor, suspects};
pub use trend::{ENOUGH, Trend};

use serde::Serialize;

/// Who hands out memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    /// kmalloc and the caches of /proc/slabinfo.
    Slab,
    /// Whole pages that are in no other book.
    Page,
    /// The areas of /proc/vmallocinfo.
    Vmalloc,
    /// One copy for each CPU.
    Percpu,
    /// Memory of processes.
    User,
}

impl Allocator {
    /// As on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slab => "slab",
            Self::Page => "page",
            Self::Vmalloc => "vmalloc",
            Self::Percpu => "percpu",
            Self::User => "user",
        }
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// Nothing that stays.
    No,
    /// Too little was seen for an answer.
    Unknown,
    /// It grows, but that it is never given back is not shown.
    Growing,
    /// It grows steadily, and what is old is not given back.
    Yes,
}

impl Leak {
    /// In text.
    pub fn words(self) -> &'static str {
        match self {
            Self::No => "no leak",
            Self::Unknown => "unknown",
            Self::Growing => "growing",
            Self::Yes => "leak",
        }
    }
}

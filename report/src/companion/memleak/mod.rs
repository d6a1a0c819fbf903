//! Does memory leak? Pure parts of `pingtrace memleak`: the kernel's accounting at several moments
//! ([`Snapshot`]), what of it grows ([`suspects`]), and the verdict from followed objects ([`judge()`]).
//!
//! The hard idea: an allocation without a visible free is not yet a leak. Objects that RCU frees in bulk
//! (`kfree_rcu`) pass no tracepoint, so a tracker alone calls them leaked. The kernel's accounting knows
//! better: a cache whose objects are freed does not grow. So a leak needs three witnesses: the accounting
//! grows steadily, the followed objects explain the growth, and old objects are not freed.

mod allocator; // who hands out memory
mod areas; // those of vmalloc over time
mod cache; // what the kernel would give back
mod judge; // the verdict, from what was followed
mod leak; // the answer
mod rows; // of text and JSON
mod snapshot; // the kernel's own books at a moment
mod suspect; // which allocator grows
mod trend; // whether a quantity rises

pub use allocator::Allocator;
pub use areas::{AreaCounts, Areas};
pub use cache::{Origin, host_growth, origin};
pub use judge::{Evidence, Judgement, judge, nothing_grows, unfollowed};
pub use leak::Leak;
pub use rows::{Cohort, Site, Verdict, memleak_header};
pub use snapshot::{
    Area, Cache, Process, Snapshot, meminfo, slabinfo, status, unused, vmallocinfo,
};
pub use suspect::{Suspect, floor, suspects};
pub use trend::{ENOUGH, Trend};

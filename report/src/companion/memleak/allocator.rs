//! The allocators.

use serde::Serialize;

/// An allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    /// kmalloc and the caches of /proc/slabinfo.
    Slab,
    /// Whole pages that no other account contains.
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

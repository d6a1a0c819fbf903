//! What memleak can follow object by object.

use report::companion::memleak::Allocator;
use std::fmt;

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// These caches, or all of them when none is named.
    Slab(Vec<String>),
    /// Pages that belong to no process, file or slab.
    Page,
    /// Areas of vmalloc.
    Vmalloc,
    /// Per-CPU memory.
    Percpu,
    /// New pages of a process.
    Faults(u32),
    /// `malloc()` of a process.
    Malloc(u32),
}

impl Follow {
    /// The process.
    pub fn process(&self) -> Option<u32> {
        match self {
            Self::Faults(pid) | Self::Malloc(pid) => Some(*pid),
            _ => None,
        }
    }

    /// The allocator.
    pub fn allocator(&self) -> Allocator {
        match self {
            Self::Slab(_) => Allocator::Slab,
            Self::Page => Allocator::Page,
            Self::Vmalloc => Allocator::Vmalloc,
            Self::Percpu => Allocator::Percpu,
            Self::Faults(_) | Self::Malloc(_) => Allocator::User,
        }
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slab(caches) if caches.is_empty() => f.write_str("all of slab"),
            Self::Slab(caches) => write!(f, "slab: {}", caches.join(", ")),
            Self::Page => f.write_str("pages"),
            Self::Vmalloc => f.write_str("vmalloc"),
            Self::Percpu => f.write_str("per-CPU memory"),
            Self::Faults(pid) => write!(f, "page faults of process {pid}"),
            Self::Malloc(pid) => write!(f, "malloc of process {pid}"),
        }
    }
}

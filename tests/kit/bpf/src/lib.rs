//! The programs in the kernel that only tests and benches load: one module an object, generated
//! from `*.bpf.c` when the crate is built.

#![allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]

// The skeletons use it.
use libbpf_rs as _;

/// The recorder's buckets, as the kernel counts.
pub mod buckets {
    include!(concat!(env!("OUT_DIR"), "/buckets.skel.rs"));
}

/// Empty programs at the hooks of the product's.
pub mod empty {
    include!(concat!(env!("OUT_DIR"), "/empty.skel.rs"));
}

/// Faults at one side of one device.
pub mod hold {
    include!(concat!(env!("OUT_DIR"), "/hold.skel.rs"));
}

/// The keyed hash, as the kernel computes it.
pub mod siphash {
    include!(concat!(env!("OUT_DIR"), "/siphash.skel.rs"));
}

/// A CPU that is held up for a known time.
pub mod stall {
    include!(concat!(env!("OUT_DIR"), "/stall.skel.rs"));
}

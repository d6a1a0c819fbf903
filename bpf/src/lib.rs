//! Everything that runs in the kernel, and its ABI: one module an object, generated from
//! `src/*.bpf.c` and `include/*.h` when the crate is built.

/// Stamping programs of both roles.
#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
pub mod pingtrace {
    include!(concat!(env!("OUT_DIR"), "/pingtrace.skel.rs"));
}

/// In-band stamping of echo replies at tc egress.
#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
pub mod inband {
    include!(concat!(env!("OUT_DIR"), "/inband.skel.rs"));
}

/// Programs that do nothing: the baseline of measurements.
#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
pub mod empty {
    include!(concat!(env!("OUT_DIR"), "/empty.skel.rs"));
}

/// For tests: a fault of known size in the softirqs of one CPU.
#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
pub mod burn {
    include!(concat!(env!("OUT_DIR"), "/burn.skel.rs"));
}

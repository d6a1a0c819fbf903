//! Everything that runs in the kernel, and its ABI: one module an object, generated from
//! `src/*.bpf.c` and `include/*.h` when the crate is built.

// The skeletons use it.
use libbpf_rs as _;

macro_rules! skeleton {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[allow(
            unsafe_code,
            missing_docs,
            unused_qualifications,
            clippy::all,
            clippy::pedantic,
            clippy::undocumented_unsafe_blocks
        )]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
        }
    };
}

skeleton! {
    /// Stamping programs of both roles.
    pingtrace
}
skeleton! {
    /// In-band stamping of echo replies at tc egress.
    inband
}
skeleton! {
    /// For the self-test: faults of known place and size.
    burn
}
skeleton! {
    /// How the kernel numbers the tasks of a PID namespace.
    ids
}
skeleton! {
    /// Who allocated what is still there.
    memleak
}
skeleton! {
    /// What ran on each CPU, and what was held up there.
    recorder
}
skeleton! {
    /// Who reads and writes which device and file.
    iofsstat
}

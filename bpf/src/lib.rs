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
    /// Where CPUs spend their time, and what tasks wait for.
    profile
}
skeleton! {
    /// What ran on each CPU, and what was held up there.
    recorder
}
skeleton! {
    /// Who reads and writes which device and file.
    iofsstat
}

/// Values that programs and user space share as bytes.
///
/// # Safety
/// Any bytes are a valid value, and every byte belongs to a field (generated types name their padding).
#[expect(
    unsafe_code,
    reason = "a promise about the layout of types, which no compiler checks"
)]
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

/// Structs of integers, of arrays and of structs of them.
macro_rules! plain {
    ($($type:ty),+ $(,)?) => {
        $(
            #[expect(unsafe_code, reason = "a generated type of integers, with named padding")]
            // SAFETY: each type of the list is an integer or is generated from a struct of integers.
            unsafe impl Plain for $type {}
        )+
    };
}

plain!(u8, u16, u32, u64, i8, i32, i64);
plain!(
    pingtrace::types::pt_drop,
    pingtrace::types::pt_keys,
    pingtrace::types::pt_name,
    pingtrace::types::pt_place,
    pingtrace::types::pt_refused,
    pingtrace::types::pt_session,
    pingtrace::types::pt_stamp,
    pingtrace::types::pt_stamp_slot,
    pingtrace::types::pt_target,
    recorder::types::pt_cpu,
    recorder::types::pt_event,
    recorder::types::pt_hist,
    recorder::types::pt_hist_key,
    recorder::types::pt_ring,
    recorder::types::pt_stack,
    ids::types::pt_task_ids,
    memleak::types::ml_key,
    memleak::types::ml_outstanding,
    memleak::types::ml_site,
    profile::types::pr_key,
    profile::types::pr_left,
    profile::types::pr_stack,
    profile::types::pr_sum,
    iofsstat::types::io_file_key,
    iofsstat::types::io_part,
    iofsstat::types::io_part_key,
    iofsstat::types::io_path,
    iofsstat::types::io_process,
    iofsstat::types::io_row,
    iofsstat::types::io_row_key,
    iofsstat::types::io_use,
    iofsstat::types::io_use_key,
);

#[expect(unsafe_code, reason = "as of its elements")]
// SAFETY: elements of an array follow each other without padding.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

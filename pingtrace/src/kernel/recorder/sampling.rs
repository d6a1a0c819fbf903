//! The software clock of a CPU (`perf_event_open`), which triggers samples.

#![expect(
    unsafe_code,
    reason = "perf_event_open has no safe wrapper in the crates at hand"
)]

use crate::kernel::confine::keeper;
use anyhow::{Context, Result};
use libbpf_rs::libbpf_sys::{PERF_COUNT_SW_CPU_CLOCK, PERF_TYPE_SOFTWARE, perf_event_attr};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `include/uapi/linux/perf_event.h`
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// Opens it, with this many ticks a second. Debian's kernels may want `CAP_SYS_ADMIN` for that, which only the
/// keeper has when a run has begun.
pub fn cpu_clock(cpu: u32, hz: u32) -> Result<OwnedFd> {
    let opened = keeper::run(move || open(cpu, hz));
    opened.with_context(|| {
        format!(
            "open the sampling clock of CPU {cpu} (perf_event_open); where kernel.perf_event_paranoid is 3 \
             it needs CAP_SYS_ADMIN"
        )
    })
}

fn open(cpu: u32, hz: u32) -> io::Result<OwnedFd> {
    let mut attributes = perf_event_attr {
        type_: PERF_TYPE_SOFTWARE,
        size: size_of::<perf_event_attr>() as u32,
        config: PERF_COUNT_SW_CPU_CLOCK.into(),
        ..perf_event_attr::default()
    };
    attributes.__bindgen_anon_1.sample_period = 1_000_000_000 / u64::from(hz.max(1));
    // SAFETY: the attributes outlive the call; the result is a descriptor that nothing else owns.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1,
            cpu,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        );
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd as i32))
        }
    }
}

//! The software clock of a CPU (`perf_event_open`), which triggers samples.

#![expect(
    unsafe_code,
    reason = "perf_event_open has no safe wrapper in the crates at hand"
)]

use crate::kernel::confine::keeper;
use anyhow::{Context, Result};
use libbpf_rs::libbpf_sys::{PERF_COUNT_SW_CPU_CLOCK, PERF_TYPE_SOFTWARE, perf_event_attr};
use libbpf_rs::{Link, PerfEventOpts, ProgramMut};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd as _, OwnedFd};

/// `include/uapi/linux/perf_event.h`
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// Runs a program once in a period, ns, on this CPU, as long as the result lives.
pub fn attach(program: &ProgramMut<'_>, cpu: u32, period_ns: u64) -> Result<Link> {
    let clock = cpu_clock(cpu, period_ns)?.into_raw_fd();
    let link = program.attach_perf_event_with_opts(clock, PerfEventOpts::default());
    link.with_context(|| format!("sample CPU {cpu}"))
}

/// The period of this many ticks a second, ns.
pub fn period_ns(hz: u32) -> u64 {
    1_000_000_000 / u64::from(hz.max(1))
}

/// Opens it, with one tick in a period, ns. Debian's kernels may want `CAP_SYS_ADMIN` for that, which only the
/// keeper has when a run has begun.
pub fn cpu_clock(cpu: u32, period_ns: u64) -> Result<OwnedFd> {
    let opened = keeper::run(move || open(cpu, period_ns));
    opened.with_context(|| {
        format!(
            "open the sampling clock of CPU {cpu} (perf_event_open); where kernel.perf_event_paranoid is 3 \
             it needs CAP_SYS_ADMIN"
        )
    })
}

fn open(cpu: u32, period_ns: u64) -> io::Result<OwnedFd> {
    let mut attributes = perf_event_attr {
        type_: PERF_TYPE_SOFTWARE,
        size: size_of::<perf_event_attr>() as u32,
        config: PERF_COUNT_SW_CPU_CLOCK.into(),
        ..perf_event_attr::default()
    };
    attributes.__bindgen_anon_1.sample_period = period_ns;
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

//! The CPU and the scheduling class of the calling thread.

use std::io;

use rustix::thread::CpuSet;

/// How a thread competes for its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Only when the CPU is idle otherwise (`SCHED_IDLE`).
    Idle,
    /// As any other thread.
    Normal,
    /// `SCHED_FIFO` with this priority (1 to 99): everything of lower priority waits.
    Fifo(i32),
}

/// Puts the calling thread on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!("there is no CPU {cpu}")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Gives the calling thread its scheduling class; `Fifo` needs `CAP_SYS_NICE`.
#[expect(unsafe_code, reason = "no safe wrapper of sched_setscheduler")]
pub fn prioritise(priority: Priority) -> io::Result<()> {
    let (policy, level) = match priority {
        Priority::Normal => (libc::SCHED_OTHER, 0),
        Priority::Idle => (libc::SCHED_IDLE, 0),
        Priority::Fifo(level) => (libc::SCHED_FIFO, level),
    };
    let parameters = libc::sched_param {
        sched_priority: level,
    };
    // SAFETY: the parameters outlive the call, and thread 0 is the calling one.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

//! The system calls that a run keeps (seccomp). Any other fails with ENOSYS, as on a kernel without it: the C
//! library then takes its older way, and a run that measures is not killed by a newer library.

#![expect(
    unsafe_code,
    reason = "a program that the crate does not set in a signal handler"
)]

use super::lists::Mode;
use anyhow::Result;
use libc as l;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// Conditions by the call's number; none: whatever its arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Whatever their arguments are.
const ALWAYS: &[l::c_long] = &[
    // Memory, time, the thread itself.
    l::SYS_brk,
    l::SYS_munmap,
    l::SYS_mremap,
    l::SYS_madvise,
    l::SYS_clock_gettime,
    l::SYS_clock_getres,
    l::SYS_clock_nanosleep,
    l::SYS_nanosleep,
    l::SYS_gettimeofday,
    l::SYS_getpid,
    l::SYS_gettid,
    l::SYS_getppid,
    l::SYS_getuid,
    l::SYS_geteuid,
    l::SYS_getgid,
    l::SYS_getegid,
    l::SYS_getpgid,
    l::SYS_getrusage,
    l::SYS_prlimit64,
    l::SYS_getrandom,
    l::SYS_uname,
    l::SYS_sysinfo,
    l::SYS_capget,
    l::SYS_getcpu,
    l::SYS_sched_yield,
    l::SYS_sched_getaffinity,
    l::SYS_futex,
    l::SYS_rseq,
    l::SYS_set_robust_list,
    l::SYS_membarrier,
    l::SYS_restart_syscall,
    l::SYS_exit,
    l::SYS_exit_group,
    l::SYS_rt_sigaction,
    l::SYS_rt_sigprocmask,
    l::SYS_rt_sigreturn,
    l::SYS_sigaltstack,
    // Descriptors that it has.
    l::SYS_read,
    l::SYS_readv,
    l::SYS_pread64,
    l::SYS_write,
    l::SYS_writev,
    l::SYS_pwrite64,
    l::SYS_lseek,
    l::SYS_close,
    l::SYS_dup,
    l::SYS_dup3,
    l::SYS_fcntl,
    l::SYS_ppoll,
    l::SYS_epoll_create1,
    l::SYS_epoll_ctl,
    l::SYS_epoll_pwait,
    l::SYS_eventfd2,
    l::SYS_pipe2,
    // Files to look at.
    l::SYS_fstat,
    l::SYS_newfstatat,
    l::SYS_statx,
    l::SYS_statfs,
    l::SYS_fstatfs,
    l::SYS_readlinkat,
    l::SYS_faccessat,
    l::SYS_faccessat2,
    l::SYS_getdents64,
    l::SYS_getcwd,
    // Sockets.
    l::SYS_bind,
    l::SYS_connect,
    l::SYS_socketpair,
    l::SYS_sendto,
    l::SYS_sendmsg,
    l::SYS_sendmmsg,
    l::SYS_recvfrom,
    l::SYS_recvmsg,
    l::SYS_recvmmsg,
    l::SYS_setsockopt,
    l::SYS_getsockopt,
    l::SYS_getsockname,
    l::SYS_getpeername,
    l::SYS_shutdown,
];

/// Names of older calls, which the C library of x86-64 still uses.
#[cfg(target_arch = "x86_64")]
const OLD: &[l::c_long] = &[
    l::SYS_poll,
    l::SYS_epoll_wait,
    l::SYS_stat,
    l::SYS_lstat,
    l::SYS_access,
    l::SYS_readlink,
    l::SYS_getpgrp,
    l::SYS_time,
    l::SYS_dup2,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[l::c_long] = &[];

/// Logs that are rotated, pictures that take another's place.
const WRITING: &[l::c_long] = &[
    l::SYS_ftruncate,
    l::SYS_fchmod,
    l::SYS_fsync,
    l::SYS_fdatasync,
    l::SYS_unlinkat,
    l::SYS_renameat2,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    l::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    l::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    l::SYS_unlink,
];

/// Commands of `bpf()` for maps and programs that are loaded (`enum bpf_cmd`): look up, update, delete, next
/// key, information, raw tracepoint, batches, link, iterator; and for programs of others: next id, by id.
const BPF_COMMANDS: [u64; 14] = [1, 2, 3, 4, 11, 13, 15, 17, 24, 25, 26, 27, 28, 33];
/// Requests of `ioctl()`: bytes to read; size, settings and foreground processes of a terminal; the number
/// of a device.
const IOCTLS: [u64; 5] = [
    l::FIONREAD,
    l::TIOCGWINSZ,
    l::TCGETS,
    l::TIOCGPGRP,
    l::SIOCGIFINDEX,
];
/// Families of sockets: probes, netlink, names of hosts.
const FAMILIES: [u64; 4] = [
    l::AF_INET as u64,
    l::AF_INET6 as u64,
    l::AF_NETLINK as u64,
    l::AF_UNIX as u64,
];
/// Options of `prctl()`: the thread's name, its timer slack.
const THREAD_SETTINGS: [u64; 2] = [l::PR_SET_NAME as u64, l::PR_SET_TIMERSLACK as u64];
/// Flags of `clone()` for new namespaces.
const NEW_NAMESPACES: i32 = l::CLONE_NEWNS
    | l::CLONE_NEWCGROUP
    | l::CLONE_NEWUTS
    | l::CLONE_NEWIPC
    | l::CLONE_NEWUSER
    | l::CLONE_NEWPID
    | l::CLONE_NEWNET;
/// Flags of `openat()` that change a file.
const CHANGING: i32 = l::O_WRONLY | l::O_RDWR | l::O_CREAT | l::O_TRUNC;

/// A filter.
pub(super) struct Calls(BpfProgram);

impl Calls {
    /// The keeper's: it enters network namespaces, and writes no file.
    pub(super) fn of_keeper(mode: Mode) -> Result<Self> {
        let mut rules = common(mode)?;
        rules.insert(l::SYS_setns, any(1, [l::CLONE_NEWNET as u64])?);
        read_only(&mut rules)?;
        compile(rules)
    }

    /// That of all others; `write`: there are files to write.
    pub(super) fn of_others(mode: Mode, write: bool) -> Result<Self> {
        let mut rules = common(mode)?;
        if write {
            rules.extend(WRITING.iter().map(|call| (*call, Vec::new())));
        } else {
            read_only(&mut rules)?;
        }
        compile(rules)
    }

    /// Restricts the calling thread; whether that worked.
    pub(super) fn restrict(&self) -> bool {
        let program = l::sock_fprog {
            len: self.0.len() as u16,
            filter: self.0.as_ptr().cast_mut().cast(),
        };
        let mode = l::SECCOMP_SET_MODE_FILTER;
        // SAFETY: the kernel copies the program, whose instructions have the layout of its own.
        unsafe { l::syscall(l::SYS_seccomp, mode, 0, &raw const program) == 0 }
    }
}

/// What all threads may call.
fn common(mode: Mode) -> Result<Rules> {
    let mut rules: Rules = ALWAYS
        .iter()
        .chain(OLD)
        .map(|call| (*call, Vec::new()))
        .collect();
    // Names of hosts are looked up, for which the C library loads code, and each capture starts anew.
    if mode == Mode::Schedule {
        let starting = [
            l::SYS_mmap,
            l::SYS_mprotect,
            l::SYS_sched_setaffinity,
            l::SYS_sched_setscheduler,
        ];
        rules.extend(starting.map(|call| (call, Vec::new())));
    } else {
        rules.insert(l::SYS_mmap, vec![none_of(2, l::PROT_EXEC)?]);
        rules.insert(l::SYS_mprotect, vec![none_of(2, l::PROT_EXEC)?]);
    }
    rules.insert(l::SYS_clone, vec![none_of(0, NEW_NAMESPACES)?]);
    rules.insert(l::SYS_socket, any(0, FAMILIES)?);
    rules.insert(l::SYS_ioctl, any(1, IOCTLS)?);
    rules.insert(l::SYS_prctl, any(0, THREAD_SETTINGS)?);
    rules.insert(l::SYS_tgkill, any(0, [std::process::id().into()])?);
    rules.insert(l::SYS_perf_event_open, Vec::new());
    if matches!(mode, Mode::Schedule | Mode::Memleak) {
        // Loads programs; libbpf holds a place in the table of descriptors by a file in memory.
        rules.extend([l::SYS_bpf, l::SYS_memfd_create].map(|call| (call, Vec::new())));
    } else {
        rules.insert(l::SYS_bpf, any(0, BPF_COMMANDS)?);
    }
    rules.insert(l::SYS_openat, Vec::new());
    #[cfg(target_arch = "x86_64")]
    rules.insert(l::SYS_open, Vec::new());
    Ok(rules)
}

/// Files are opened to read only.
fn read_only(rules: &mut Rules) -> Result<()> {
    rules.insert(l::SYS_openat, vec![none_of(2, CHANGING)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(l::SYS_open, vec![none_of(1, CHANGING)?]);
    Ok(())
}

fn compile(rules: Rules) -> Result<Calls> {
    // Without a program the kernel refuses, which is said.
    let Ok(architecture) = std::env::consts::ARCH.try_into() else {
        return Ok(Calls(BpfProgram::new()));
    };
    let refused = SeccompAction::Errno(l::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
    Ok(Calls(filter.try_into()?))
}

/// The argument is one of these.
fn any<const N: usize>(argument: u8, values: [u64; N]) -> Result<Vec<SeccompRule>> {
    let is = |value| condition(argument, SeccompCmpOp::Eq, value);
    values.into_iter().map(is).collect()
}

/// None of these bits is set in the argument.
fn none_of(argument: u8, bits: i32) -> Result<SeccompRule> {
    condition(
        argument,
        SeccompCmpOp::MaskedEq(bits.cast_unsigned().into()),
        0,
    )
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

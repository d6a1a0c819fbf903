//! The system calls that a run keeps (seccomp). Any other fails with ENOSYS, as on a kernel without it: the C
//! library then takes its older way, and a run that measures is not killed by a newer library.

#![expect(
    unsafe_code,
    reason = "a program that the crate does not set in a signal handler"
)]

use super::extra::Extra;
use super::lists::Mode;
use anyhow::Result;
use libc as l;
use rustix::thread::CapabilitySet;
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
];

/// What measures also has sockets.
const SOCKETS: &[l::c_long] = &[
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

/// What no laboratory has a use for: other processes' memory, modules, other kernels, clocks, keys, users.
const HARMFUL: &[l::c_long] = &[
    l::SYS_ptrace,
    l::SYS_process_vm_readv,
    l::SYS_process_vm_writev,
    l::SYS_pidfd_getfd,
    l::SYS_userfaultfd,
    l::SYS_io_uring_setup,
    l::SYS_init_module,
    l::SYS_finit_module,
    l::SYS_delete_module,
    l::SYS_kexec_load,
    l::SYS_reboot,
    l::SYS_swapon,
    l::SYS_swapoff,
    l::SYS_acct,
    l::SYS_quotactl,
    l::SYS_settimeofday,
    l::SYS_clock_settime,
    l::SYS_clock_adjtime,
    l::SYS_adjtimex,
    l::SYS_add_key,
    l::SYS_request_key,
    l::SYS_keyctl,
    l::SYS_open_by_handle_at,
    l::SYS_pivot_root,
    l::SYS_chroot,
    l::SYS_personality,
    l::SYS_setuid,
    l::SYS_setgid,
    l::SYS_setresuid,
    l::SYS_setresgid,
    l::SYS_setgroups,
    #[cfg(target_arch = "x86_64")]
    l::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    l::SYS_ioperm,
];

/// Commands of `bpf()` for maps and programs that are loaded (`enum bpf_cmd`): look up, update, delete, next
/// key, information, raw tracepoint, batches, link, iterator; and for programs of others: next id, by id.
const BPF_COMMANDS: [u64; 14] = [1, 2, 3, 4, 11, 13, 15, 17, 24, 25, 26, 27, 28, 33];
/// `PERF_EVENT_IOC_ENABLE`, `_DISABLE` and `_SET_BPF` of `include/uapi/linux/perf_event.h`: a kprobe is one.
const PERF_ENABLE: u64 = 0x2400;
const PERF_DISABLE: u64 = 0x2401;
const PERF_SET_BPF: u64 = 0x4004_2408;
/// Requests of `ioctl()`: bytes to read; size, settings and foreground processes of a terminal; the number
/// of a device; a server that attaches its kprobes.
const IOCTLS: [u64; 8] = [
    PERF_ENABLE,
    PERF_DISABLE,
    PERF_SET_BPF,
    l::FIONREAD,
    l::TIOCGWINSZ,
    l::TCGETS,
    l::TIOCGPGRP,
    l::SIOCGIFINDEX,
];
/// The same where a view takes the terminal: its settings, to read and to change (`tcgetattr`, `tcsetattr`).
const TERMINAL: [u64; 2] = [l::TCGETS2, l::TCSETS2];
/// Families of sockets: probes, netlink, names of hosts.
const FAMILIES: [u64; 4] = [
    l::AF_INET as u64,
    l::AF_INET6 as u64,
    l::AF_NETLINK as u64,
    l::AF_UNIX as u64,
];
/// Options of `prctl()`: the thread's name, its timer slack; the size of a page (`PR_GET_AUXV`).
const THREAD_SETTINGS: [u64; 3] = [
    l::PR_SET_NAME as u64,
    l::PR_SET_TIMERSLACK as u64,
    0x4155_5856,
];
/// Flags of `clone()` for new namespaces.
const NEW_NAMESPACES: i32 = l::CLONE_NEWNS
    | l::CLONE_NEWCGROUP
    | l::CLONE_NEWUTS
    | l::CLONE_NEWIPC
    | l::CLONE_NEWUSER
    | l::CLONE_NEWPID
    | l::CLONE_NEWNET;
/// As on a kernel without the call.
const REFUSED: SeccompAction = SeccompAction::Errno(l::ENOSYS as u32);
/// Refused without a word: the C library tries it first whenever a thread starts, as its flags cannot be seen
/// by a filter.
const TRIED: l::c_long = l::SYS_clone3;
/// Flags of `openat()` that change a file.
const CHANGING: i32 = l::O_WRONLY | l::O_RDWR | l::O_CREAT | l::O_TRUNC;

/// A filter for what is refused without a word, and one that the kernel logs the refusals of. The kernel takes
/// the stricter answer of the two.
pub(super) struct Calls {
    quiet: BpfProgram,
    logged: BpfProgram,
}

impl Calls {
    /// The keeper's: it enters network namespaces, opens clocks of CPUs, and writes no file.
    pub(super) fn of_keeper(mode: Mode) -> Result<Self> {
        let mut rules = common(mode)?;
        rules.insert(l::SYS_perf_event_open, Vec::new());
        rules.insert(l::SYS_setns, any(1, [l::CLONE_NEWNET as u64])?);
        read_only(&mut rules)?;
        compile(rules)
    }

    /// That of all others.
    pub(super) fn of_others(mode: Mode, extra: &Extra) -> Result<Self> {
        if mode == Mode::Selftest {
            return all_but(HARMFUL);
        }
        let mut rules = common(mode)?;
        if extra.accepts {
            rules.insert(l::SYS_accept4, Vec::new());
        }
        let may_change = mode.capabilities().contains(CapabilitySet::NET_ADMIN);
        let terminal = TERMINAL.iter().filter(|_| extra.takes_terminal);
        let drivers = [l::SIOCETHTOOL].into_iter();
        let drivers = drivers.filter(|_| extra.asks_drivers && !may_change);
        let requests = IOCTLS.into_iter().chain(terminal.copied()).chain(drivers);
        rules.insert(l::SYS_ioctl, any(1, requests)?);
        if extra.written.is_empty() {
            read_only(&mut rules)?;
        } else {
            rules.extend(WRITING.iter().map(|call| (*call, Vec::new())));
        }
        compile(rules)
    }

    /// Restricts the calling thread; whether that worked.
    pub(super) fn restrict(&self) -> bool {
        install(&self.quiet, 0)
            && (install(&self.logged, l::SECCOMP_FILTER_FLAG_LOG) || install(&self.logged, 0))
    }
}

fn install(filter: &BpfProgram, flags: l::c_ulong) -> bool {
    let program = l::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let mode = l::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies the program, whose instructions have the layout of its own.
    unsafe { l::syscall(l::SYS_seccomp, mode, flags, &raw const program) == 0 }
}

/// What all threads may call.
fn common(mode: Mode) -> Result<Rules> {
    let mut rules = ground(mode)?;
    if mode.measures() {
        measuring(mode, &mut rules)?;
    }
    Ok(rules)
}

fn ground(mode: Mode) -> Result<Rules> {
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
    rules.insert(l::SYS_ioctl, any(1, IOCTLS)?);
    rules.insert(l::SYS_prctl, any(0, THREAD_SETTINGS)?);
    rules.insert(l::SYS_tgkill, any(0, [std::process::id().into()])?);
    rules.insert(l::SYS_openat, Vec::new());
    #[cfg(target_arch = "x86_64")]
    rules.insert(l::SYS_open, Vec::new());
    Ok(rules)
}

/// Sockets, maps and programs.
fn measuring(mode: Mode, rules: &mut Rules) -> Result<()> {
    rules.extend(SOCKETS.iter().map(|call| (*call, Vec::new())));
    rules.insert(l::SYS_socket, any(0, FAMILIES)?);
    if matches!(mode, Mode::Schedule | Mode::Memleak) {
        // Loads programs; libbpf holds a place in the table of descriptors by a file in memory.
        let loading = [l::SYS_bpf, l::SYS_perf_event_open, l::SYS_memfd_create];
        rules.extend(loading.map(|call| (call, Vec::new())));
    } else {
        rules.insert(l::SYS_bpf, any(0, BPF_COMMANDS)?);
    }
    Ok(())
}

/// Files are opened to read only.
fn read_only(rules: &mut Rules) -> Result<()> {
    rules.insert(l::SYS_openat, vec![none_of(2, CHANGING)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(l::SYS_open, vec![none_of(1, CHANGING)?]);
    Ok(())
}

/// Programs that are executed inherit it.
fn all_but(calls: &[l::c_long]) -> Result<Calls> {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let logged = program(rules, SeccompAction::Allow, REFUSED)?;
    let quiet = program(Rules::new(), SeccompAction::Allow, REFUSED)?;
    Ok(Calls { quiet, logged })
}

fn compile(mut rules: Rules) -> Result<Calls> {
    let tried = Rules::from([(TRIED, Vec::new())]);
    let quiet = program(tried.clone(), SeccompAction::Allow, REFUSED)?;
    rules.extend(tried);
    let logged = program(rules, REFUSED, SeccompAction::Allow)?;
    Ok(Calls { quiet, logged })
}

fn program(rules: Rules, others: SeccompAction, listed: SeccompAction) -> Result<BpfProgram> {
    // Without a program the kernel refuses, which is said.
    let Ok(architecture) = std::env::consts::ARCH.try_into() else {
        return Ok(BpfProgram::new());
    };
    let filter = SeccompFilter::new(rules, others, listed, architecture)?;
    Ok(filter.try_into()?)
}

/// The argument is one of these.
fn any(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>> {
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

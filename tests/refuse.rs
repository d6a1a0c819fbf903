//! A kernel that refuses BPF programs: what a child asks of `bpf()` is decided by this process
//! (`seccomp_unotify(2)`), as a security module or a container's filter would.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// What fails with EPERM.
#[derive(Clone, Copy, Debug)]
pub enum Refuse {
    /// `BPF_PROG_LOAD` of the program of this name.
    Program(&'static str),
    /// This command of `bpf()`.
    Command(u64),
}

/// `enum bpf_cmd` of linux/bpf.h.
const BPF_PROG_LOAD: u64 = 5;
pub const BPF_RAW_TRACEPOINT_OPEN: u64 = 17;
pub const BPF_ITER_CREATE: u64 = 33;
/// `prog_name` in `union bpf_attr`, and its length with the zero.
const NAME_AT: u64 = 48;
const NAME: usize = 16;
/// Where the child has the listener: no other file of its has this number.
const LISTENER: i32 = 250;

/// Starts a child that is refused this.
pub fn spawn(command: &mut Command, refuse: Refuse) -> Child {
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(ask_first) };
    let child = command.spawn().expect("start the program");
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a number");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("open the child");
    let listener = pidfd_getfd(&pidfd, LISTENER, PidfdGetfdFlags::empty());
    let listener = listener.expect("take the child's listener");
    thread::spawn(move || while decide(&listener, refuse).is_ok() {});
    child
}

/// Makes a system call one that the child's kernel does not have.
pub fn without(command: &mut Command, call: libc::c_long) {
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let filter = move || filter(call, missing, 0).map(drop);
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(filter) };
}

/// From now on each `bpf()` waits for a decision.
fn ask_first() -> io::Result<()> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = filter(libc::SYS_bpf, libc::SECCOMP_RET_USER_NOTIF, flags)?;
    // SAFETY: takes numbers.
    match unsafe { libc::dup2(listener, LISTENER) } {
        LISTENER => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does this with a system call, and allows all others. Returns the listener if the flags ask for one.
fn filter(call: libc::c_long, action: u32, flags: libc::c_ulong) -> io::Result<i32> {
    let step = |code: u32, k: u32, jump: u8| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump,
        k,
    };
    // seccomp_data.nr comes first.
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, action, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// Answers one call; an error when the child has ended.
fn decide(listener: &OwnedFd, refuse: Refuse) -> io::Result<()> {
    wait(listener)?;
    // SAFETY: plain integers, of which the kernel wants zeros.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    call(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked)?;
    let mut answer = libc::seccomp_notif_resp {
        id: asked.id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    if is_refused(&asked, refuse)? {
        (answer.error, answer.flags) = (-libc::EPERM, 0);
    }
    call(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer)
}

/// Until it asks; an error when there is nobody left to ask.
fn wait(listener: &OwnedFd) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry.
    let count = unsafe { libc::poll(&raw mut poll, 1, -1) };
    if count == 1 && poll.revents & libc::POLLIN != 0 {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn call<T>(listener: &OwnedFd, request: libc::Ioctl, value: &mut T) -> io::Result<()> {
    // SAFETY: the callers give each request the struct that it asks for.
    match unsafe { libc::ioctl(listener.as_raw_fd(), request, value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_refused(asked: &libc::seccomp_notif, refuse: Refuse) -> io::Result<bool> {
    let [command, attributes, ..] = asked.data.args;
    Ok(match refuse {
        Refuse::Command(refused) => command == refused,
        Refuse::Program(refused) if command == BPF_PROG_LOAD => {
            let mut name = [0; NAME];
            let memory = File::open(format!("/proc/{}/mem", asked.pid))?;
            memory.read_exact_at(&mut name, attributes + NAME_AT)?;
            let length = name.iter().position(|c| *c == 0).unwrap_or(NAME);
            // Longer ones are cut.
            name[..length] == refused.as_bytes()[..refused.len().min(NAME - 1)]
        }
        Refuse::Program(_) => false,
    })
}

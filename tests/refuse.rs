//! A kernel that refuses BPF programs, or lacks a kind of device: what a child asks of `bpf()`, or of netlink, is
//! decided by this process (`seccomp_unotify(2)`), as a security module or a container's filter would.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// What fails.
#[derive(Clone, Copy, Debug)]
pub enum Refuse {
    /// `BPF_PROG_LOAD` of the program of this name, with EPERM.
    Program(&'static str),
    /// This command of `bpf()`, with EPERM.
    Command(u64),
    /// Any netlink message with the name of this kind of device, with EOPNOTSUPP.
    Device(&'static str),
}

/// `enum bpf_cmd` of linux/bpf.h.
const BPF_PROG_LOAD: u64 = 5;
pub const BPF_RAW_TRACEPOINT_OPEN: u64 = 17;
pub const BPF_ITER_CREATE: u64 = 33;
/// `prog_name` in `union bpf_attr`, and its length with the zero.
const NAME_AT: u64 = 48;
const NAME: usize = 16;
/// Netlink messages to the kernel are sent without an address, and are no longer than this.
const MESSAGE: u32 = 256;
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
    let mut program = [
        load(0),
        jump(libc::BPF_JEQ, call as u32, (0, 1)),
        answer(missing),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = move || filter(&mut program, 0).map(drop);
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(filter) };
}

/// From now on each `bpf()`, and each short `send()`, waits for a decision.
fn ask_first() -> io::Result<()> {
    let argument = |n: u32| std::mem::offset_of!(libc::seccomp_data, args) as u32 + 8 * n;
    let mut program = [
        load(0),
        jump(libc::BPF_JEQ, libc::SYS_bpf as u32, (5, 0)),
        jump(libc::BPF_JEQ, libc::SYS_sendto as u32, (0, 5)),
        load(argument(2)),
        jump(libc::BPF_JGT, MESSAGE, (3, 0)),
        load(argument(5)),
        jump(libc::BPF_JEQ, 0, (0, 1)),
        answer(libc::SECCOMP_RET_USER_NOTIF),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let listener = filter(&mut program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: takes numbers.
    match unsafe { libc::dup2(listener, LISTENER) } {
        LISTENER => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A part of `seccomp_data`, whose system call comes first.
fn load(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, (0, 0))
}

/// Skips as many steps if it is so, and as many if not.
fn jump(test: u32, k: u32, skip: (u8, u8)) -> libc::sock_filter {
    step(libc::BPF_JMP | test | libc::BPF_K, k, skip)
}

fn answer(action: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, action, (0, 0))
}

fn step(code: u32, k: u32, (jt, jf): (u8, u8)) -> libc::sock_filter {
    let code = code as u16;
    libc::sock_filter { code, jt, jf, k }
}

/// Decides on each system call from now on. Returns the listener if the flags ask for one.
fn filter(program: &mut [libc::sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
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
        let error = match refuse {
            Refuse::Program(_) | Refuse::Command(_) => libc::EPERM,
            Refuse::Device(_) => libc::EOPNOTSUPP,
        };
        (answer.error, answer.flags) = (-error, 0);
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
    let [first, second, third, ..] = asked.data.args;
    let is_bpf = i64::from(asked.data.nr) == libc::SYS_bpf;
    let read = |buffer: &mut [u8], at| {
        let memory = File::open(format!("/proc/{}/mem", asked.pid))?;
        memory.read_exact_at(buffer, at)
    };
    Ok(match refuse {
        Refuse::Command(refused) => is_bpf && first == refused,
        Refuse::Program(refused) if is_bpf && first == BPF_PROG_LOAD => {
            let mut name = [0; NAME];
            read(&mut name, second + NAME_AT)?;
            let length = name.iter().position(|c| *c == 0).unwrap_or(NAME);
            // Longer ones are cut.
            name[..length] == refused.as_bytes()[..refused.len().min(NAME - 1)]
        }
        Refuse::Device(kind) if !is_bpf => {
            let mut message = vec![0; third as usize];
            read(&mut message, second)?;
            let mut parts = message.windows(kind.len());
            parts.any(|part| part == kind.as_bytes())
        }
        Refuse::Program(_) | Refuse::Device(_) => false,
    })
}

//! A CPU that is held up for a known time: interrupts off, preemption off, softirqs off or one
//! that takes long. What a companion says of it can be compared with what was done.
//!
//! Each time a thread of its own, `stall`, pinned to that CPU, walks into a program that spins
//! where the kernel has already turned off what is wanted; `stall.bpf.c` says where. So the
//! culprit has a name, a thread id and a stack that are known: see [`Kind`].

use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kit_bpf::stall::types::{stall_order, stall_span};
use kit_bpf::stall::{StallSkel, StallSkelBuilder};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, OpenObject};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use pingtrace::kernel::thread::pin;

/// The thread's name.
pub const COMM: &str = "stall";
/// More is refused: the program's loop has an end.
pub const LONGEST: Duration = Duration::from_millis(50);
/// How long the softirq daemon may take to run a softirq.
const BY_SOFTIRQ_DAEMON: Duration = Duration::from_millis(100);
/// Within this time a thread that runs has passed the tracepoint.
const SOON: Duration = Duration::from_secs(20);

/// What is off meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Hard interrupts. The stack has `do_timerfd_settime`, also when interrupts come on again.
    IrqOff,
    /// Preemption; interrupts are served. At the entry of the system call `getpgid`.
    PreemptOff,
    /// Softirqs are delayed after `NET_RX` was raised: its entry is this much later. The stack has
    /// `__dev_queue_xmit`.
    SoftirqDelay,
    /// `NET_RX` runs this long, as seen by a program that was attached to its entry before.
    SoftirqRun,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From when, ns of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// Until when, likewise.
    pub to_ns: u64,
    /// Where.
    pub cpu: usize,
    /// The thread that ran there: `stall`, or for [`Kind::SoftirqRun`] possibly another.
    pub tid: u32,
}

impl Span {
    /// Its length.
    pub fn ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }
}

/// The one loaded program, at its tracepoint until this is dropped.
pub struct Stall<'a> {
    skel: StallSkel<'a>,
    _link: Link,
    kind: Kind,
}

impl<'a> Stall<'a> {
    /// Loads and attaches the program for this kind alone. Needs Linux 5.17.
    pub fn load(storage: &'a mut MaybeUninit<OpenObject>, kind: Kind) -> Result<Self> {
        let opened = StallSkelBuilder::default().open(storage);
        let mut open = opened.context("open the programs that hold up a CPU")?;
        let progs = &mut open.progs;
        match kind {
            Kind::IrqOff => &mut progs.irq_off,
            Kind::PreemptOff => &mut progs.preempt_off,
            Kind::SoftirqDelay => &mut progs.softirq_delay,
            Kind::SoftirqRun => &mut progs.softirq_run,
        }
        .set_autoload(true);
        let loaded = open.load();
        let skel = loaded.context("load a program that holds up a CPU (bpf_loop: Linux 5.17)")?;
        let progs = &skel.progs;
        let program = match kind {
            Kind::IrqOff => &progs.irq_off,
            Kind::PreemptOff => &progs.preempt_off,
            Kind::SoftirqDelay => &progs.softirq_delay,
            Kind::SoftirqRun => &progs.softirq_run,
        };
        let link = program.attach();
        let link = link.with_context(|| format!("attach what holds up a CPU ({kind:?})"))?;
        Ok(Self {
            skel,
            _link: link,
            kind,
        })
    }

    /// Holds up a thread that runs already, wherever it passes the tracepoint next; for
    /// [`Kind::PreemptOff`] with this system call. An error if it does not pass soon.
    pub fn task(&mut self, tid: u32, syscall: libc::c_long, takes: Duration) -> Result<Span> {
        ensure!(takes <= LONGEST, "hold up {tid} for {takes:?}");
        let bss = self.skel.maps.bss_data.as_deref_mut();
        let bss = bss.context("the object has no .bss")?;
        let before = read(&bss.span).count;
        let order = |armed| stall_order {
            ns: takes.as_nanos() as u64,
            tid,
            cpu: 0,
            syscall: syscall as u32,
            armed,
        };
        write(&mut bss.order, order(1));
        let done = fulfilled(&bss.span, before, SOON);
        write(&mut bss.order, order(0));
        done.with_context(|| format!("hold up the thread {tid}"))
    }

    /// Holds up the CPU for this long, now. An error if it was held up for less, or not at all.
    pub fn once(&mut self, cpu: usize, takes: Duration) -> Result<Span> {
        ensure!(
            takes <= LONGEST,
            "hold up a CPU for {takes:?}: at most {LONGEST:?}"
        );
        let bss = self.skel.maps.bss_data.as_deref_mut();
        let bss = bss.context("the object has no .bss")?;
        let (order, span) = (&mut bss.order, &mut bss.span);
        let kind = self.kind;
        let done = thread::scope(|scope| {
            let victim = thread::Builder::new().name(COMM.into());
            let walk = move || walk_into(kind, cpu, takes, order, span);
            let walked = victim.spawn_scoped(scope, walk)?.join();
            walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .with_context(|| format!("hold up CPU {cpu} ({kind:?})"))?;
        ensure!(
            done.cpu == cpu && u128::from(done.ns()) >= takes.as_nanos(),
            "hold up CPU {cpu} for {takes:?} ({kind:?}): got {done:?}"
        );
        Ok(done)
    }
}

/// In the thread: gives the order and does what passes the tracepoint.
fn walk_into(
    kind: Kind,
    cpu: usize,
    takes: Duration,
    order: &mut stall_order,
    span: &mut stall_span,
) -> Result<Span> {
    pin(cpu)?;
    let trigger = Trigger::new(kind)?;
    let before = read(span).count;
    let give = |armed| stall_order {
        ns: takes.as_nanos() as u64,
        tid: rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned(),
        cpu: cpu as u32,
        syscall: libc::SYS_getpgid as u32,
        armed,
    };
    write(order, give(1));
    let pulled = trigger.pull();
    let done = fulfilled(span, before, BY_SOFTIRQ_DAEMON);
    write(order, give(0));
    pulled?;
    done
}

/// What was done since the count was `before`.
fn fulfilled(span: &stall_span, before: u32, within: Duration) -> Result<Span> {
    let deadline = Instant::now() + within;
    let mut done = read(span);
    while done.count == before {
        ensure!(
            Instant::now() < deadline,
            "the kernel did not pass the tracepoint"
        );
        thread::sleep(Duration::from_millis(1));
        done = read(span);
    }
    Ok(Span {
        from_ns: done.from,
        to_ns: done.to,
        cpu: done.cpu as usize,
        tid: done.tid,
    })
}

/// What passes the tracepoint, prepared so that pulling it is one system call.
enum Trigger {
    Timer(rustix::fd::OwnedFd),
    Syscall,
    Packet(UdpSocket),
}

impl Trigger {
    fn new(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::IrqOff => Self::Timer(timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC,
            )?),
            Kind::PreemptOff => Self::Syscall,
            Kind::SoftirqDelay | Kind::SoftirqRun => {
                let socket = UdpSocket::bind("127.0.0.1:0").context("open a UDP socket")?;
                socket.connect(socket.local_addr()?)?;
                Self::Packet(socket)
            }
        })
    }

    fn pull(&self) -> Result<()> {
        match self {
            Self::Timer(timer) => {
                let zero = Timespec::default();
                let far = Itimerspec {
                    it_interval: zero,
                    it_value: Timespec {
                        tv_sec: 3600,
                        ..zero
                    },
                };
                timerfd_settime(timer, TimerfdTimerFlags::empty(), &far)
                    .context("start a timer")?;
            }
            Self::Syscall => {
                rustix::process::getpgid(None).context("getpgid")?;
            }
            Self::Packet(socket) => {
                socket.send(&[0]).context("send to the loopback")?;
            }
        }
        Ok(())
    }
}

/// The kernel changes it, which the compiler cannot know.
#[expect(unsafe_code, reason = "memory that is shared with the kernel")]
fn read(span: &stall_span) -> stall_span {
    // SAFETY: a reference is valid for reads, and every bit pattern is a span.
    unsafe { std::ptr::read_volatile(span) }
}

/// The kernel reads it, which the compiler cannot know.
#[expect(unsafe_code, reason = "memory that is shared with the kernel")]
fn write(order: &mut stall_order, given: stall_order) {
    // SAFETY: an exclusive reference is valid for writes.
    unsafe { std::ptr::write_volatile(order, given) }
}

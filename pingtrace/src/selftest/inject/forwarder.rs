//! A wire whose delay is known: a thread that carries Ethernet frames between two TAP devices
//! and delays, drops, duplicates, reorders or corrupts chosen probes.
//!
//! Probes inside a VXLAN over IPv4 are found too. Everything that is not a probe (ARP, neighbour discovery,
//! other traffic) passes at once. A
//! delayed frame leaves at its time within some tens of microseconds: the thread sleeps until shortly
//! before, then spins. Compare a result not with the plan but with the [log](Entry), which says when each
//! frame was read and when it was written.
//!
//! Memory is bounded: frames over [`MAX_QUEUED`] are dropped and log entries over [`MAX_LOG`]
//! are not kept; both are counted in [`Totals`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use report::model::Direction;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::kernel::thread::{Priority, prioritise};
use crate::units::monotonic_ns;

/// Length of the header of an Ethernet frame.
const ETHERNET: usize = 14;
/// Upper bound on waiting frames of both directions.
pub const MAX_QUEUED: usize = 4096;
/// Upper bound on log entries.
pub const MAX_LOG: usize = 1 << 16;

/// Before a frame is due, the thread spins this long instead of sleeping.
const SPIN_NS: u64 = 80_000;
/// Frames read from one side before the other side and the timers have their turn.
const BATCH: usize = 32;
/// A reordered frame that nothing follows leaves after this long.
const MAX_HOLD_NS: u64 = 500_000_000;
/// Consecutive failed reads after which a device is given up, 1 ms apart.
const MAX_FAILURES: u32 = 1000;

/// What kind of probe packet a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An echo request.
    Request,
    /// An echo reply that is not a stamp packet.
    Reply,
    /// An echo reply with `DONTADD`.
    Record,
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only the base delay of its direction.
    Pass,
    /// This much longer than the base delay.
    Delay(Duration),
    /// It does not arrive.
    Drop,
    /// It leaves several times more, each some time after the one before.
    Duplicate {
        /// How many times more.
        copies: u32,
        /// Between two of them.
        gap: Duration,
    },
    /// It leaves right after the next probe packet of its kind and direction that leaves.
    Hold,
    /// The byte at this offset of the ICMP message is changed by XOR with `mask`; the checksum stays.
    /// An offset past the end means the last byte.
    Corrupt {
        /// From the ICMP type on, bytes.
        offset: usize,
        /// The bits to flip.
        mask: u8,
    },
}

/// An action and the probes that it applies to.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of these frames,
    pub direction: Direction,
    /// this becomes.
    pub action: Action,
    /// Sequence numbers; empty means all.
    pub sequences: Vec<u32>,
    /// A further set of sequence numbers.
    pub range: Option<RangeInclusive<u32>>,
    /// `None` means requests, replies and records alike.
    pub kind: Option<Kind>,
    /// `None` means any session.
    pub session: Option<u32>,
}

impl Rule {
    /// Applies `action` to every probe of a direction.
    pub fn all(direction: Direction, action: Action) -> Self {
        Self {
            direction,
            action,
            sequences: Vec::new(),
            range: None,
            kind: None,
            session: None,
        }
    }

    /// Applies `action` to these sequence numbers of a direction.
    pub fn at(direction: Direction, sequences: impl Into<Vec<u32>>, action: Action) -> Self {
        Self {
            sequences: sequences.into(),
            ..Self::all(direction, action)
        }
    }

    fn applies(&self, direction: Direction, probe: &Probe) -> bool {
        let every = self.sequences.is_empty() && self.range.is_none();
        self.direction == direction
            && self.kind.is_none_or(|kind| kind == probe.kind)
            && self.session.is_none_or(|session| session == probe.session)
            && (every
                || self.sequences.contains(&probe.seq)
                || self
                    .range
                    .as_ref()
                    .is_some_and(|range| range.contains(&probe.seq)))
    }
}

/// What the wire does. The first rule that applies to a frame decides.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Of every probe on its way to the server.
    pub base_request: Duration,
    /// Of every reply.
    pub base_reply: Duration,
    /// Of every frame that is no probe, each way.
    pub base_other: Duration,
    /// In the order in which they are tried.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// The same base delay in both directions and these rules.
    pub fn new(base: Duration, rules: impl Into<Vec<Rule>>) -> Self {
        Self {
            base_request: base,
            base_reply: base,
            rules: rules.into(),
            ..Self::default()
        }
    }

    fn base_ns(&self, direction: Direction) -> u64 {
        nanos(match direction {
            Direction::Request => self.base_request,
            Direction::Reply => self.base_reply,
        })
    }

    fn action(&self, direction: Direction, probe: &Probe) -> Action {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.applies(direction, probe));
        rule.map_or(Action::Pass, |rule| rule.action)
    }
}

/// What was done to one frame; a duplicate has an entry of its own for each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The probe's sequence number.
    pub seq: u32,
    /// The probe's session.
    pub session: u32,
    /// The kind of packet.
    pub kind: Kind,
    /// Which way it went.
    pub direction: Direction,
    /// What was asked for.
    pub action: Action,
    /// `CLOCK_MONOTONIC` when the frame was read from the one device,
    pub read_ns: u64,
    /// and just before it was written to the other; `None`: it was not.
    pub written_ns: Option<u64>,
    /// The time between the two: what was injected. 0 if the frame was not written.
    pub injected_ns: u64,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Probe frames read.
    pub probes: u64,
    /// Requests among them.
    pub requests: u64,
    /// Other frames read.
    pub others: u64,
    /// Frames written, copies included.
    pub written: u64,
    /// Frames that the other device did not take.
    pub write_errors: u64,
    /// Frames dropped because [`MAX_QUEUED`] were waiting.
    pub overflowed: u64,
    /// Entries beyond [`MAX_LOG`].
    pub unlogged: u64,
    /// Frames still waiting at the end; they were not written.
    pub unsent: u64,
    /// The thread had real-time priority; without it delays are less exact.
    pub realtime: bool,
}

/// What a forwarder did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was done to each probe, in the order in which they left or were dropped.
    pub log: Vec<Entry>,
    /// The same in numbers.
    pub totals: Totals,
    /// Why it ended early: a device was removed.
    pub error: Option<String>,
}

impl Outcome {
    /// The entries of one probe in one direction.
    pub fn entries_for(&self, seq: u32, direction: Direction) -> impl Iterator<Item = &Entry> {
        self.log
            .iter()
            .filter(move |entry| entry.seq == seq && entry.direction == direction)
    }
}

/// The forwarding thread. It ends on [`stop`](Self::stop) and on drop.
pub struct Forwarder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    wake: OwnedFd,
    plan: Mutex<Plan>,
    outcome: Mutex<Outcome>,
}

impl Forwarder {
    /// Forwards between two TAP devices, `a` of the client and `b` of the server, opened with `IFF_NO_PI` and without `IFF_VNET_HDR`.
    /// They may be in any namespaces.
    pub fn start(a: OwnedFd, b: OwnedFd, plan: Plan) -> io::Result<Self> {
        for tap in [&a, &b] {
            let flags = rustix::fs::fcntl_getfl(tap)?;
            rustix::fs::fcntl_setfl(tap, flags | OFlags::NONBLOCK)?;
        }
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            plan: Mutex::new(plan),
            outcome: Mutex::default(),
        });
        let (ready, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("forwarder".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let realtime = prepare_thread();
                    lock(&shared.outcome).totals.realtime = realtime;
                    // The starter waits for this, unless it panicked.
                    let _ = ready.send(());
                    let mut wire = Wire::new(a, b, &shared);
                    let ended = wire.run();
                    let mut outcome = lock(&shared.outcome);
                    outcome.totals.unsent = (wire.queue.len() + wire.held.len()) as u64;
                    outcome.error = ended.err().map(|error| error.to_string());
                }
            })?;
        let this = Self {
            shared,
            thread: Some(thread),
        };
        started.recv().map_err(io::Error::other)?;
        Ok(this)
    }

    /// The counts so far.
    pub fn totals(&self) -> Totals {
        lock(&self.shared.outcome).totals
    }

    /// From the next frame on it does this.
    pub fn follow(&self, plan: Plan) {
        *lock(&self.shared.plan) = plan;
    }

    /// What it did so far.
    pub fn so_far(&self) -> Outcome {
        lock(&self.shared.outcome).clone()
    }

    /// Ends it; frames still waiting are not written.
    pub fn stop(mut self) -> Outcome {
        self.join();
        std::mem::take(&mut lock(&self.shared.outcome))
    }

    fn join(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A full counter has woken the thread already.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.join();
    }
}

/// A frame that waits: for its time in the queue, or for the next one in the hold.
struct Waiting {
    due_ns: u64,
    /// Frames due at the same time leave in the order of their numbers.
    order: u64,
    frame: Vec<u8>,
    to: Direction,
    /// `None` for a frame that is not a probe and so is not logged.
    note: Option<Note>,
}

#[derive(Clone, Copy)]
struct Note {
    probe: Probe,
    action: Action,
    read_ns: u64,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.due_ns, self.order) == (other.due_ns, other.order)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_ns, self.order).cmp(&(other.due_ns, other.order))
    }
}

struct Wire<'s> {
    a: OwnedFd,
    b: OwnedFd,
    shared: &'s Shared,
    queue: BinaryHeap<Reverse<Waiting>>,
    held: Vec<Waiting>,
    orders: u64,
    /// Failed reads in a row, by direction.
    failures: [u32; 2],
}

impl<'s> Wire<'s> {
    fn new(a: OwnedFd, b: OwnedFd, shared: &'s Shared) -> Self {
        Self {
            a,
            b,
            shared,
            queue: BinaryHeap::new(),
            held: Vec::new(),
            orders: 0,
            failures: [0; 2],
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.write_due();
            self.release_expired();
            self.wait()?;
            self.read_all(Direction::Request, &mut buffer)?;
            self.read_all(Direction::Reply, &mut buffer)?;
        }
        Ok(())
    }

    /// Until a frame arrives, the wake-up descriptor is written, or a frame is nearly due.
    fn wait(&self) -> io::Result<()> {
        let now = monotonic_ns();
        let queued = self
            .queue
            .peek()
            .map(|Reverse(first)| first.due_ns.saturating_sub(SPIN_NS));
        let held = self.held.iter().map(|held| held.due_ns).min();
        let left = queued
            .into_iter()
            .chain(held)
            .min()
            .map(|until| until.saturating_sub(now));
        let timeout = left.map(|ns| Timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as i64,
        });
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [
            readable(self.a.as_fd()),
            readable(self.b.as_fd()),
            readable(self.shared.wake.as_fd()),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_all(&mut self, direction: Direction, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let read = rustix::io::read(self.source(direction), &mut *buffer);
            match read {
                Ok(len) => self.arrived(direction, &buffer[..len]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return self.read_failed(direction, error),
            }
            self.failures[direction as usize] = 0;
            if read.is_err() {
                break;
            }
            self.write_due();
        }
        Ok(())
    }

    /// Waits for a device that is down for a moment; a removed one ends the thread.
    fn read_failed(&mut self, direction: Direction, error: Errno) -> io::Result<()> {
        let failures = &mut self.failures[direction as usize];
        *failures += 1;
        if *failures > MAX_FAILURES {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    fn arrived(&mut self, to: Direction, frame: &[u8]) {
        let read_ns = monotonic_ns();
        let Some(probe) = Probe::find(frame) else {
            self.total(|totals| totals.others += 1);
            let base_ns = nanos(lock(&self.shared.plan).base_other);
            return match base_ns {
                0 => drop(self.write(to, frame)),
                _ => self.enqueue(read_ns + base_ns, frame.to_vec(), to, None),
            };
        };
        self.total(|totals| {
            totals.probes += 1;
            totals.requests += u64::from(probe.kind == Kind::Request);
        });
        let (base_ns, action) = {
            let plan = lock(&self.shared.plan);
            (plan.base_ns(to), plan.action(to, &probe))
        };
        let note = Note {
            probe,
            action,
            read_ns,
        };
        let due_ns = read_ns + base_ns;
        match action {
            Action::Pass => self.enqueue(due_ns, frame.to_vec(), to, Some(note)),
            Action::Delay(delay) => {
                self.enqueue(due_ns + nanos(delay), frame.to_vec(), to, Some(note));
            }
            Action::Drop => self.log(to, note, None),
            Action::Duplicate { copies, gap } => {
                for copy in 0..=u64::from(copies) {
                    self.enqueue(due_ns + copy * nanos(gap), frame.to_vec(), to, Some(note));
                }
            }
            Action::Hold => self.hold(frame.to_vec(), to, note),
            Action::Corrupt { offset, mask } => {
                let mut frame = frame.to_vec();
                let at = (probe.start + offset).min(probe.end - 1);
                frame[at] ^= mask;
                self.enqueue(due_ns, frame, to, Some(note));
            }
        }
    }

    fn enqueue(&mut self, due_ns: u64, frame: Vec<u8>, to: Direction, note: Option<Note>) {
        if self.is_full(to, note) {
            return;
        }
        let order = self.next_order();
        self.queue.push(Reverse(Waiting {
            due_ns,
            order,
            frame,
            to,
            note,
        }));
    }

    fn hold(&mut self, frame: Vec<u8>, to: Direction, note: Note) {
        if self.is_full(to, Some(note)) {
            return;
        }
        let order = self.next_order();
        let due_ns = note.read_ns + MAX_HOLD_NS;
        self.held.push(Waiting {
            due_ns,
            order,
            frame,
            to,
            note: Some(note),
        });
    }

    fn is_full(&mut self, to: Direction, note: Option<Note>) -> bool {
        let full = self.queue.len() + self.held.len() >= MAX_QUEUED;
        if full {
            self.total(|totals| totals.overflowed += 1);
            if let Some(note) = note {
                self.log(to, note, None);
            }
        }
        full
    }

    fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    /// Writes every frame whose time has come, and spins for one that is nearly due.
    fn write_due(&mut self) {
        while let Some(Reverse(first)) = self.queue.peek() {
            let due_ns = first.due_ns;
            if due_ns > monotonic_ns() + SPIN_NS {
                return;
            }
            while monotonic_ns() < due_ns {
                std::hint::spin_loop();
            }
            if let Some(Reverse(waiting)) = self.queue.pop() {
                self.send(&waiting);
                self.release_behind(&waiting);
            }
        }
    }

    fn send(&mut self, waiting: &Waiting) {
        let now = monotonic_ns();
        let written = self.write(waiting.to, &waiting.frame);
        if let Some(note) = waiting.note {
            self.log(waiting.to, note, written.then_some(now));
        }
    }

    /// Sends the held frames that waited for one such as `passed`.
    fn release_behind(&mut self, passed: &Waiting) {
        let kind = |waiting: &Waiting| waiting.note.map(|note| note.probe.kind);
        let follows = |held: &mut Waiting| held.to == passed.to && kind(held) == kind(passed);
        let released: Vec<_> = self.held.extract_if(.., follows).collect();
        for held in released {
            self.send(&held);
        }
    }

    fn release_expired(&mut self) {
        let now = monotonic_ns();
        let released: Vec<_> = self
            .held
            .extract_if(.., |held| held.due_ns <= now)
            .collect();
        for held in released {
            self.send(&held);
        }
    }

    fn source(&self, direction: Direction) -> BorrowedFd<'_> {
        match direction {
            Direction::Request => self.a.as_fd(),
            Direction::Reply => self.b.as_fd(),
        }
    }

    fn write(&self, direction: Direction, frame: &[u8]) -> bool {
        let target = match direction {
            Direction::Request => self.b.as_fd(),
            Direction::Reply => self.a.as_fd(),
        };
        let written = rustix::io::retry_on_intr(|| rustix::io::write(target, frame)).is_ok();
        self.total(|totals| {
            if written {
                totals.written += 1;
            } else {
                totals.write_errors += 1;
            }
        });
        written
    }

    fn log(&self, direction: Direction, note: Note, written_ns: Option<u64>) {
        let Note {
            probe,
            action,
            read_ns,
        } = note;
        let mut outcome = lock(&self.shared.outcome);
        if outcome.log.len() >= MAX_LOG {
            outcome.totals.unlogged += 1;
            return;
        }
        outcome.log.push(Entry {
            seq: probe.seq,
            session: probe.session,
            kind: probe.kind,
            direction,
            action,
            read_ns,
            written_ns,
            injected_ns: written_ns.map_or(0, |written| written - read_ns),
        });
    }

    fn total(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut lock(&self.shared.outcome).totals);
    }
}

/// The probe in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    kind: Kind,
    session: u32,
    seq: u32,
    /// Where the ICMP message starts in the frame, and where it ends.
    start: usize,
    end: usize,
}

impl Probe {
    fn find(frame: &[u8]) -> Option<Self> {
        const DONTADD: u16 = 1;
        let inner = vxlan(frame).unwrap_or(0);
        let (start, end, request, reply) = icmp(&frame[inner..])?;
        let (start, end) = (inner + start, inner + end);
        let message = frame.get(start..end)?;
        if message.len() < 24 || be16(message, 12) != 0x7ace {
            return None;
        }
        let kind = match message[0] {
            icmp_type if icmp_type == request => Kind::Request,
            icmp_type if icmp_type != reply => return None,
            _ if be16(message, 10) & DONTADD != 0 => Kind::Record,
            _ => Kind::Reply,
        };
        Some(Self {
            kind,
            session: be32(message, 16),
            seq: be32(message, 20),
            start,
            end,
        })
    }
}

/// Where the frame starts that this one carries in a VXLAN over IPv4.
fn vxlan(frame: &[u8]) -> Option<usize> {
    const UDP: u8 = 17;
    const PORT: u16 = 4789;
    const HEADERS: usize = 8 + 8;
    let packet = frame.get(ETHERNET..)?;
    let is_udp = be16(frame, 12) == 0x0800 && packet.len() >= 20 && packet[9] == UDP;
    let udp = is_udp.then(|| usize::from(packet[0] & 0x0f) * 4)?;
    let inner = udp + HEADERS;
    let fits = inner + ETHERNET <= packet.len() && be16(packet, udp + 2) == PORT;
    fits.then_some(ETHERNET + inner)
}

/// Start and end of the ICMP message in an Ethernet frame, and its echo types.
fn icmp(frame: &[u8]) -> Option<(usize, usize, u8, u8)> {
    let packet = frame.get(ETHERNET..)?;
    let (header, len, types) = match be16(frame, 12) {
        0x0800 => {
            let fragment = |packet: &[u8]| be16(packet, 6) & 0x3fff;
            let whole = packet.len() >= 20 && packet[9] == 1 && fragment(packet) == 0;
            whole.then(|| {
                (
                    usize::from(packet[0] & 0x0f) * 4,
                    usize::from(be16(packet, 2)),
                    (8, 0),
                )
            })?
        }
        0x86dd => {
            let whole = packet.len() >= 40 && packet[6] == 58;
            whole.then(|| (40, 40 + usize::from(be16(packet, 4)), (128, 129)))?
        }
        _ => return None,
    };
    let fits = header < len && len <= packet.len();
    fits.then_some((ETHERNET + header, ETHERNET + len, types.0, types.1))
}

/// Makes the thread's timers exact; says whether it has real-time priority.
fn prepare_thread() -> bool {
    // An old kernel without it only makes sleeps 50 us longer, which SPIN_NS covers.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    prioritise(Priority::Fifo(3)).is_ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

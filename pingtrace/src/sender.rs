//! The sender, and what it shares with the receiver.

use crate::control::Control;
use crate::negotiation::Format;
use crate::packet::Probe;
use crate::plan::Plan;
use crate::socket::{self, ProbeSocket};
use crate::table::Table;
use crate::units::{SECOND, monotonic_ns};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

/// When the youngest probes were sent, `CLOCK_MONOTONIC` ns, and on which CPU: more of them than
/// there are records.
pub struct SendTimes(Vec<(AtomicU64, AtomicU16)>);

impl SendTimes {
    /// The times of this many probes are kept at least.
    const MIN: usize = 65_536;

    /// For a table of this many records, a power of two.
    fn new(records: u32) -> Self {
        let length = (8 * records as usize).max(Self::MIN);
        let places = (0..length).map(|_| (AtomicU64::new(0), AtomicU16::new(0)));
        Self(places.collect())
    }

    fn place(&self, index: u64) -> &(AtomicU64, AtomicU16) {
        &self.0[index as usize & (self.0.len() - 1)]
    }

    /// Before the count of probes sent says that this one was.
    fn set(&self, index: u64, ns: u64, cpu: u16) {
        // Whoever reads the new value where it wants the old one sees the count that tells so.
        fence(Ordering::Release);
        let (time, on) = self.place(index);
        time.store(ns, Ordering::Relaxed);
        on.store(cpu, Ordering::Relaxed);
    }

    /// `None` if younger probes took its place.
    fn get(&self, index: u64, sent: &AtomicU64) -> Option<(u64, u16)> {
        let (time, on) = self.place(index);
        let found = (time.load(Ordering::Relaxed), on.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        // The place is being taken from the moment on at which so many were sent.
        (sent.load(Ordering::Relaxed) < index + self.0.len() as u64).then_some(found)
    }
}

/// What the sender and the receiver share.
pub struct Shared {
    /// Probes in flight.
    pub table: Arc<Table>,
    /// Both send and receive on it.
    pub socket: ProbeSocket,
    /// Session id.
    pub session: u32,
    /// Start of the schedule, `CLOCK_MONOTONIC` ns.
    pub start_ns: u64,
    /// Probes sent so far, or just being sent: the index of the next one. The sequence number on
    /// the wire is its low 32 bits.
    pub sent: AtomicU64,
    send_times: SendTimes,
    /// Sends that failed.
    pub send_errors: AtomicU32,
    /// A [`Format`], chosen by the receiver.
    pub format: AtomicU8,
    /// The oldest probe of which the server is to say what became of it, plus one; 0: none.
    pub question: AtomicU64,
    /// The sender has nothing more to send.
    pub done: AtomicBool,
    /// Why the run cannot go on.
    pub failure: Mutex<Option<String>>,
}

impl Shared {
    /// Of a run that starts at `start_ns`.
    pub fn new(
        table: Arc<Table>,
        socket: ProbeSocket,
        session: u32,
        format: Format,
        start_ns: u64,
    ) -> Self {
        Self {
            send_times: SendTimes::new(table.slots()),
            table,
            socket,
            session,
            start_ns,
            sent: AtomicU64::new(0),
            send_errors: AtomicU32::new(0),
            format: AtomicU8::new(format as u8),
            question: AtomicU64::new(0),
            done: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// The question that the probe with this index carries: how many sequence numbers back the
    /// oldest probe is that it is about, and how long ago that one was sent, ns.
    pub fn question(&self, index: u64, now: u64) -> Option<(u16, u64)> {
        if self.format.load(Ordering::Relaxed) != Format::Inband as u8 {
            return None;
        }
        let oldest = self.question.load(Ordering::Relaxed).checked_sub(1)?;
        let back = u16::try_from(index.checked_sub(oldest)?).ok()?;
        let sent_ns = self.sent_ns(oldest)?;
        Some((back, now.saturating_sub(sent_ns)))
    }

    /// When a probe was sent, `CLOCK_MONOTONIC` ns, if that is still known.
    pub fn sent_ns(&self, index: u64) -> Option<u64> {
        let (ns, _) = self.send_times.get(index, &self.sent)?;
        Some(ns)
    }

    /// The CPU that a probe was sent on, if that is still known.
    pub fn sent_cpu(&self, index: u64) -> Option<u16> {
        let (_, cpu) = self.send_times.get(index, &self.sent)?;
        Some(cpu)
    }
}

/// Sends one probe after the other.
pub struct Sender<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    probes: [Probe; 4],
    margin: Margin,
}

/// How long before its time the sender wakes up and spins.
///
/// It follows the 99.5th percentile of the sleeps' overshoots: a sleep that ends too late raises
/// it by 199 steps, any other lowers it by one, and the two balance when 1 of 200 is too late.
/// An overshoot counts as one, however long: a sender that was preempted does not spin for long
/// afterwards.
struct Margin(u64);

impl Margin {
    const STEP_NS: u64 = 100;
    const LATE_STEPS: u64 = 199;
    const MIN_NS: u64 = 20_000;
    const MAX_NS: u64 = 300_000;

    const fn new() -> Self {
        Self(100_000)
    }

    fn learn(&mut self, overshoot_ns: u64) {
        let next = if overshoot_ns > self.0 {
            self.0 + Self::LATE_STEPS * Self::STEP_NS
        } else {
            self.0.saturating_sub(Self::STEP_NS)
        };
        self.0 = next.clamp(Self::MIN_NS, Self::MAX_NS);
    }
}

impl<'a> Sender<'a> {
    /// Intervals up to this spin for the last part of the wait.
    const SPIN_BELOW_NS: u64 = 1_000_000;

    /// For one run.
    pub fn new(plan: &'a Plan, shared: &'a Shared) -> Self {
        Self {
            plan,
            shared,
            probes: Format::probes(plan, shared.session),
            margin: Margin::new(),
        }
    }

    /// The open loop.
    pub fn run(mut self, control: &Control) {
        let interval = self.plan.interval_ns.unwrap_or(0);
        // Exact timers instead of the default slack of 50 us.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        for k in 0..self.plan.probes() {
            let due = self.shared.start_ns + k * interval;
            if self
                .plan
                .time_ns
                .is_some_and(|t| due >= self.shared.start_ns + t)
                || !self.wait_until(due, control)
            {
                break;
            }
            if !self.send(k) {
                break;
            }
        }
        self.shared.done.store(true, Ordering::Release);
    }

    /// Sleeps, and spins for the rest of a short interval; false when the run is to end.
    fn wait_until(&mut self, due: u64, control: &Control) -> bool {
        let spin = self
            .plan
            .interval_ns
            .is_some_and(|i| i <= Self::SPIN_BELOW_NS);
        loop {
            if control.stop.load(Ordering::Relaxed) || self.shared.done.load(Ordering::Relaxed) {
                return false;
            }
            let now = monotonic_ns();
            if now >= due {
                return true;
            }
            let margin = if spin { self.margin.0 } else { 0 };
            if due - now <= margin {
                std::hint::spin_loop();
                continue;
            }
            // At most a tick, so that a stop is seen soon.
            let wake = (due - margin).min(now + socket::RECEIVE_TICK.as_nanos() as u64);
            sleep_until(wake);
            self.margin.learn(monotonic_ns().saturating_sub(wake));
        }
    }

    /// Sends the probe with this index; false when the run cannot go on.
    pub fn send(&mut self, index: u64) -> bool {
        let sequence = index as u32;
        let shared = self.shared;
        let format = usize::from(shared.format.load(Ordering::Relaxed));
        let now = monotonic_ns();
        let cpu = rustix::thread::sched_getcpu() as u16;
        shared.send_times.set(index, now, cpu);
        if shared.table.is_mapped() {
            shared.table.prepare(shared.session, sequence, now);
        }
        let question = shared.question(index, now);
        let message = self.probes[format].asking(sequence, now, question);
        // Before the send: over veth and loopback the reply can be there before sendto returns.
        shared.sent.store(index + 1, Ordering::Release);
        let result = shared.socket.send(message, &self.plan.peer);
        let Err(e) = result else { return true };
        shared.send_errors.fetch_add(1, Ordering::Relaxed);
        if matches!(
            e.raw_os_error(),
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)
        ) {
            return true;
        }
        let why = socket::explain_send(&e, self.plan.ip, self.plan.size);
        *shared
            .failure
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(why);
        false
    }
}

fn sleep_until(ns: u64) {
    let at = Timespec {
        tv_sec: (ns / SECOND).cast_signed(),
        tv_nsec: (ns % SECOND).cast_signed(),
    };
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}

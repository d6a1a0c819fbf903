//! The sender, and what it shares with the receiver.

use crate::client::index::ProbeIndex;
use crate::client::plan::Plan;
use crate::client::warm_up::Wake;
use crate::control::Control;
use crate::kernel::table::Table;
use crate::units::{monotonic_ns, sleep_until};
use crate::wire::flows::Flows;
use crate::wire::number::{Sequence, SessionId};
use crate::wire::probe::Probe;
use crate::wire::socket::{self, ProbeSocket};
use crate::wire::stamp_return::StampReturn;
use report::model::send_error::SendError;
use socket2::SockAddr;
use std::io;
use std::net::SocketAddrV6;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use strum::VariantArray;

/// Send times (`CLOCK_MONOTONIC` ns) and CPUs of the newest probes: of more probes than there are slots.
pub struct SendTimes(Vec<(AtomicU64, AtomicU16)>);

impl SendTimes {
    /// Lower bound on the number of probes whose times are kept.
    const MIN: usize = 65_536;

    /// For a table of this many slots, a power of two.
    fn new(records: u32) -> Self {
        let length = (8 * records as usize).max(Self::MIN);
        let places = (0..length).map(|_| (AtomicU64::new(0), AtomicU16::new(0)));
        Self(places.collect())
    }

    fn place(&self, index: ProbeIndex) -> &(AtomicU64, AtomicU16) {
        &self.0[index.0 as usize & (self.0.len() - 1)]
    }

    /// Stores the time, before the count of probes sent includes the probe.
    fn set(&self, index: ProbeIndex, ns: u64, cpu: u16) {
        // A reader that gets the new value instead of the old one also sees the new count, and discards it.
        fence(Ordering::Release);
        let (time, on) = self.place(index);
        time.store(ns, Ordering::Relaxed);
        on.store(cpu, Ordering::Relaxed);
    }

    /// `None` if a newer probe took its place.
    fn get(&self, index: ProbeIndex, sent: &AtomicU64) -> Option<(u64, u16)> {
        let (time, on) = self.place(index);
        let found = (time.load(Ordering::Relaxed), on.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        // The place is being reused once this many probes were sent.
        (sent.load(Ordering::Relaxed) < index.0 + self.0.len() as u64).then_some(found)
    }
}

/// Upper bound on failed sends that wait for the receiver.
const MAX_FAILED: usize = 65_536;
/// Upper bound, ns, on the time in which late probes of the schedule may leave after the end; also a
/// tenth of the run's time.
const MAX_CATCH_UP_NS: u64 = 100_000_000;

/// What the sender and the receiver share.
pub struct Shared {
    /// Probes in flight.
    pub table: Arc<Table>,
    /// Both send and receive on it.
    pub socket: ProbeSocket,
    /// Session id.
    pub session: SessionId,
    /// Start of the schedule, `CLOCK_MONOTONIC` ns.
    pub start_ns: u64,
    /// Probes sent so far, or just being sent: the index of the next one. The sequence number on
    /// the wire is its low 32 bits.
    pub sent: AtomicU64,
    send_times: SendTimes,
    /// Sends that failed.
    pub send_errors: AtomicU32,
    /// Those that the receiver has not taken yet, in order.
    failed: Mutex<Vec<(ProbeIndex, SendError)>>,
    peer: SockAddr,
    flows: Flows,
    /// The device of a link-local peer, see [`Plan::zone`], and its index.
    zone: Option<(String, AtomicU32)>,
    /// The [`StampReturn`] that the probes ask for, chosen by the receiver.
    asked: AtomicU8,
    /// The oldest probe that the server is asked about, plus one; 0: none.
    pub question: AtomicU64,
    /// The last cookie of the server, which the next probes return; 0: none.
    pub cookie: AtomicU64,
    /// The sender has nothing more to send.
    pub done: AtomicBool,
    /// Probes of the schedule that had not left when the time was over.
    pub unsent: AtomicU64,
    /// Probes that were sent to warm up, or to wake the server.
    pub warm_up: AtomicU64,
}

impl Shared {
    /// Of a run that starts at `start_ns`.
    pub fn new(
        plan: &Plan,
        table: Arc<Table>,
        socket: ProbeSocket,
        session: SessionId,
        start_ns: u64,
    ) -> Self {
        let zone = plan.peer.as_socket_ipv6().map_or(0, |to| to.scope_id());
        let zone = plan.zone.clone().map(|name| (name, AtomicU32::new(zone)));
        Self {
            send_times: SendTimes::new(table.slots()),
            table,
            socket,
            session,
            start_ns,
            sent: AtomicU64::new(0),
            send_errors: AtomicU32::new(0),
            failed: Mutex::default(),
            peer: plan.peer.clone(),
            flows: plan.flows,
            zone,
            asked: AtomicU8::new(plan.mode.first() as u8),
            question: AtomicU64::new(0),
            cookie: AtomicU64::new(0),
            done: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            warm_up: AtomicU64::new(0),
        }
    }

    /// Sends the message of a probe to the peer. After a failure, the devices that the run is bound to by
    /// name are looked up again.
    pub fn send(&self, sequence: Sequence, message: &[u8]) -> io::Result<()> {
        let sent = match self.peer.as_socket_ipv6() {
            Some(peer) => self.socket.send(message, &self.to_v6(peer, sequence)),
            None => self.socket.send(message, &self.peer),
        };
        sent.inspect_err(|_| {
            self.socket.follow_device();
            if let Some((zone, index)) = &self.zone
                && let Some(new) = socket::device_index(zone)
            {
                index.store(new, Ordering::Relaxed);
            }
        })
    }

    /// The peer, by the device of its zone, with the flow label of a probe.
    fn to_v6(&self, peer: SocketAddrV6, sequence: Sequence) -> SockAddr {
        let zone = self.zone.as_ref();
        let scope = zone.map_or(peer.scope_id(), |(_, index)| index.load(Ordering::Relaxed));
        let label = self.flows.label(self.session, sequence).to_be();
        SocketAddrV6::new(*peer.ip(), 0, label, scope).into()
    }

    /// The probe with this index could not be sent.
    fn fail(&self, index: ProbeIndex, error: SendError) {
        self.send_errors.fetch_add(1, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // Beyond the limit a probe is given up without its reason.
        if failed.len() < MAX_FAILED {
            failed.push((index, error));
        }
    }

    /// One probe template for each [`StampReturn`], indexed by it.
    pub fn probes(&self, plan: &Plan) -> Vec<Probe> {
        let probe = |way: &StampReturn| {
            let (version, flags) = (way.version(), way.flags());
            Probe::new(plan.family, version, self.session, plan.size, flags)
                .in_flows(plan.flows)
                .with_keys(plan.keys)
        };
        StampReturn::VARIANTS.iter().map(probe).collect()
    }

    /// What the probes ask for.
    pub fn asked(&self) -> StampReturn {
        StampReturn::VARIANTS[usize::from(self.asked.load(Ordering::Relaxed))]
    }

    /// Lets the probes ask for something else from now on.
    pub fn ask_for(&self, way: StampReturn) {
        self.asked.store(way as u8, Ordering::Relaxed);
    }

    /// The probes that could not be sent since the last call, and why.
    pub fn take_failed(&self) -> Vec<(ProbeIndex, SendError)> {
        std::mem::take(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The question that the probe with this index carries: how many sequence numbers back its first probe
    /// is, and how long ago that one was sent, ns.
    pub fn question(&self, index: ProbeIndex, now: u64) -> Option<(u16, u64)> {
        if self.asked() != StampReturn::Inband {
            return None;
        }
        let oldest = self.question.load(Ordering::Relaxed).checked_sub(1)?;
        let back = u16::try_from(index.0.checked_sub(oldest)?).ok()?;
        let sent_ns = self.sent_ns(ProbeIndex(oldest))?;
        Some((back, now.saturating_sub(sent_ns)))
    }

    /// When a probe was sent, `CLOCK_MONOTONIC` ns, if that is still known.
    pub fn sent_ns(&self, index: ProbeIndex) -> Option<u64> {
        let (ns, _) = self.send_times.get(index, &self.sent)?;
        Some(ns)
    }

    /// The CPU that a probe was sent on, if that is still known.
    pub fn sent_cpu(&self, index: ProbeIndex) -> Option<u16> {
        let (_, cpu) = self.send_times.get(index, &self.sent)?;
        Some(cpu)
    }
}

/// Sends one probe after the other.
pub struct Sender<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    /// See [`Shared::probes`].
    probes: Vec<Probe>,
    wake: Option<Wake>,
    margin: Margin,
}

/// How long before a probe is due the sender wakes up and spins, ns.
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
    /// For intervals up to this, ns, the sender spins for the last part of the wait.
    const SPIN_BELOW_NS: u64 = 1_000_000;

    /// For one run.
    pub fn new(plan: &'a Plan, shared: &'a Shared) -> Self {
        Self {
            plan,
            shared,
            probes: shared.probes(plan),
            wake: Wake::new(plan, shared.session),
            margin: Margin::new(),
        }
    }

    /// The open loop.
    pub fn run(mut self, control: &Control) {
        let interval = self.plan.interval_ns.unwrap_or(0);
        // Exact timers instead of the default slack of 50 us.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let start = self.shared.start_ns;
        let planned = self.plan.probes_in_time();
        let last = self
            .plan
            .time_ns
            .map(|t| start + t + (t / 10).min(MAX_CATCH_UP_NS));
        for k in 0..planned.unwrap_or(self.plan.probes()) {
            let due = start + k * interval;
            // The warm-up has just been before the first one.
            if k > 0 && self.wake.is_some() && self.wait_until(Wake::before(due), control) {
                self.wake();
            }
            if !self.wait_until(due, control) {
                break;
            }
            if last.is_some_and(|last| monotonic_ns() >= last) {
                let unsent = planned.unwrap_or(k) - k;
                self.shared.unsent.store(unsent, Ordering::Relaxed);
                break;
            }
            self.send(ProbeIndex(k));
        }
        self.shared.done.store(true, Ordering::Release);
    }

    fn wake(&mut self) {
        if let Some((sequence, message)) = self.wake.as_mut().map(Wake::message)
            && self.shared.send(sequence, message).is_ok()
        {
            self.shared.warm_up.fetch_add(1, Ordering::Relaxed);
        }
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

    /// Sends the probe with this index; false if it could not be sent.
    pub fn send(&mut self, index: ProbeIndex) -> bool {
        let sequence = index.sequence();
        let shared = self.shared;
        let asked = shared.asked();
        let now = monotonic_ns();
        let cpu = rustix::thread::sched_getcpu() as u16;
        shared.send_times.set(index, now, cpu);
        if shared.table.is_mapped() {
            shared.table.prepare(shared.session, sequence, now);
        }
        let question = shared.question(index, now);
        let cookie = shared.cookie.load(Ordering::Relaxed);
        let message = self.probes[asked as usize].asking(sequence, cookie, question);
        // Before the send: over veth and loopback the reply can be there before sendto returns.
        shared.sent.store(index.0 + 1, Ordering::Release);
        let sent = shared.send(sequence, message);
        if let Err(e) = &sent {
            shared.fail(index, socket::send_error(e));
        }
        sent.is_ok()
    }
}

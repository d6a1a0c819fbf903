//! The sender, and what it shares with the receiver.

use crate::client::due::Due;
use crate::client::index::ProbeIndex;
use crate::client::plan::Plan;
use crate::client::warm_up::{Few, Wake};
use crate::control::Control;
use crate::kernel::table::Table;
use crate::kernel::targets::{LostStamps, TargetSlots};
use crate::units::{monotonic_ns, sleep_until};
use crate::wire::ancillary::Ancillary;
use crate::wire::number::{Sequence, SessionId};
use crate::wire::probe::Probe;
use crate::wire::protocol::Family;
use crate::wire::socket::{self, ProbeSocket};
use crate::wire::stamp_return::StampReturn;
use report::model::send_error::SendError;
use socket2::SockAddr;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::SocketAddrV6;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use strum::VariantArray;

/// Send times (`CLOCK_MONOTONIC` ns) and CPUs of the newest probes: of more probes than there are slots.
pub struct SendTimes(Vec<(AtomicU64, AtomicU16)>);

impl SendTimes {
    /// Of so many probes, a power of two.
    fn new(length: usize) -> Self {
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

/// How soon a stop, and a target that joins, are seen, ns.
const TICK_NS: u64 = socket::RECEIVE_TICK.as_nanos() as u64;
/// Upper bound on failed sends that wait for the receiver.
const MAX_FAILED: usize = 65_536;
/// Upper bound, ns, on the time in which late probes of the schedule may leave after the end; also a
/// tenth of the run's time.
const MAX_CATCH_UP_NS: u64 = 100_000_000;

/// What the sender and the receiver share of a target.
pub struct Shared {
    /// What is probed, and how.
    pub plan: Plan,
    /// Probes in flight.
    pub table: Table,
    /// Stamps for which it had no room.
    pub lost_stamps: LostStamps,
    /// Both send and receive on it.
    pub socket: Arc<ProbeSocket>,
    /// Session id.
    pub session: SessionId,
    /// When its probes are due.
    pub due: Due,
    /// Probes sent so far, or just being sent: the index of the next one. The sequence number on
    /// the wire is its low 32 bits.
    pub sent: AtomicU64,
    send_times: SendTimes,
    /// Sends that failed.
    pub send_errors: AtomicU32,
    /// Those that the receiver has not taken yet, in order.
    failed: Mutex<Vec<(ProbeIndex, SendError)>>,
    /// Of each packet, where the target has some of its own.
    options: Ancillary,
    /// Index of the device of a link-local peer, see [`Plan::zone`].
    zone: AtomicU32,
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
    /// Of a target whose probes are due at these times.
    pub fn new(plan: Plan, slots: TargetSlots, socket: Arc<ProbeSocket>, due: Due) -> Self {
        let zone = plan.peer.as_socket_ipv6().map_or(0, |to| to.scope_id());
        let TargetSlots {
            session,
            table,
            lost_stamps,
        } = slots;
        Self {
            send_times: SendTimes::new(plan.memory.send_times(table.slots())),
            options: Ancillary::new(plan.tos, plan.from, plan.family == Family::V4),
            zone: AtomicU32::new(zone),
            asked: AtomicU8::new(plan.mode.first() as u8),
            plan,
            table,
            lost_stamps,
            socket,
            session,
            due,
            sent: AtomicU64::new(0),
            send_errors: AtomicU32::new(0),
            failed: Mutex::default(),
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
        let Plan { peer, zone, .. } = &self.plan;
        let sent = match peer.as_socket_ipv6() {
            Some(peer) => {
                let to = self.to_v6(peer, sequence);
                self.socket.send_with(message, &to, &self.options)
            }
            None => self.socket.send_with(message, peer, &self.options),
        };
        sent.inspect_err(|_| {
            self.socket.follow_device();
            if let Some(new) = zone.as_deref().and_then(socket::device_index) {
                self.zone.store(new, Ordering::Relaxed);
            }
        })
    }

    /// The peer, by the device of its zone, with the flow label of a probe.
    fn to_v6(&self, peer: SocketAddrV6, sequence: Sequence) -> SockAddr {
        let scope = self.zone.load(Ordering::Relaxed);
        let label = self.plan.flows.label(self.session, sequence).to_be();
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

    /// The probes that ask for this.
    fn template(&self, way: StampReturn) -> Probe {
        let (plan, version, flags) = (&self.plan, way.version(), way.flags());
        Probe::new(plan.family, version, self.session, plan.size, flags)
            .in_flows(plan.flows)
            .with_keys(plan.keys)
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

/// A probe for each [`StampReturn`] that was asked for, by its number.
#[derive(Default)]
pub struct Templates([Option<Probe>; StampReturn::VARIANTS.len()]);

impl Templates {
    /// That of a target's probes which ask for this.
    pub fn of(&mut self, shared: &Shared, way: StampReturn) -> &mut Probe {
        self.0[way as usize].get_or_insert_with(|| shared.template(way))
    }
}

/// A target, as the sender sees it.
struct Job {
    shared: Arc<Shared>,
    probes: Templates,
    next: ProbeIndex,
    /// Before the first probe, if the target is one of many.
    few: Few,
    wake: Option<Wake>,
    /// The server was woken for the next probe.
    is_woken: bool,
}

impl Job {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            probes: Templates::default(),
            few: Few::new(&shared.plan),
            wake: Wake::new(&shared.plan, shared.session),
            // The warm-up has just been before the first one.
            is_woken: true,
            shared,
            next: ProbeIndex::default(),
        }
    }

    /// When the next message is due; `None`: there is no further one.
    fn due_ns(&self) -> Option<u64> {
        let Shared { plan, due, .. } = &*self.shared;
        let planned = plan.probes_in_time().unwrap_or(plan.probes());
        let due_ns = due.leaves_ns(self.next, plan.interval_ns.unwrap_or(0));
        let due_ns = match (self.few.before(due_ns), self.wakes()) {
            (Some(before_ns), _) => before_ns,
            (None, true) => Wake::before(due_ns),
            (None, false) => due_ns,
        };
        (self.next.0 < planned).then_some(due_ns)
    }

    /// Whether the next message wakes the server for the next probe.
    fn wakes(&self) -> bool {
        self.wake.is_some() && !self.is_woken
    }

    /// Sends the next message.
    fn step(&mut self) {
        let shared = &*self.shared;
        let cookie = shared.cookie.load(Ordering::Relaxed);
        let message = if self.few.is_left() {
            let probe = self.probes.of(shared, shared.asked());
            let sequence = self.few.next(cookie);
            sequence.map(|sequence| (sequence, probe.at(sequence, cookie)))
        } else if self.wakes() {
            self.is_woken = true;
            self.wake.as_mut().map(Wake::message)
        } else {
            self.send();
            return;
        };
        if let Some((sequence, message)) = message
            && shared.send(sequence, message).is_ok()
        {
            shared.warm_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the time is over, and with it the patience for those that did not leave in it.
    fn is_too_late(&self, now: u64) -> bool {
        let Shared { plan, due, .. } = &*self.shared;
        let is_over = |t: u64| now >= due.start_ns + t + (t / 10).min(MAX_CATCH_UP_NS);
        plan.time_ns.is_some_and(is_over)
    }

    /// The time is over: counts the probes that had not left.
    fn count_unsent(&self) {
        let planned = self.shared.plan.probes_in_time();
        let unsent = planned.map_or(0, |planned| planned.saturating_sub(self.next.0));
        self.shared.unsent.store(unsent, Ordering::Relaxed);
    }

    /// No further probe is sent.
    fn end(&self) {
        self.shared.done.store(true, Ordering::Release);
    }

    /// Sends the next probe; false if it could not be sent.
    fn send(&mut self) -> bool {
        let (index, shared) = (self.next, &*self.shared);
        self.next.0 += 1;
        self.is_woken = false;
        let sequence = index.sequence();
        let asked = shared.asked();
        let now = monotonic_ns();
        let cpu = rustix::thread::sched_getcpu() as u16;
        shared.send_times.set(index, now, cpu);
        if shared.table.is_mapped() {
            shared.table.prepare(shared.session, sequence, now);
        }
        let question = shared.question(index, now);
        let cookie = shared.cookie.load(Ordering::Relaxed);
        let probe = self.probes.of(shared, asked);
        let message = probe.asking(sequence, cookie, question);
        // Before the send: over veth and loopback the reply can be there before sendto returns.
        shared.sent.store(index.0 + 1, Ordering::Release);
        let sent = shared.send(sequence, message);
        if let Err(e) = &sent {
            shared.fail(index, socket::send_error(e));
        }
        sent.is_ok()
    }
}

/// What changes while the sender runs.
pub enum Change {
    /// A target joins.
    Join(Arc<Shared>),
    /// The target of this session is probed no more.
    Leave(SessionId),
}

/// Sends the probes of all targets, each when it is due.
pub struct Sender {
    changes: Receiver<Change>,
    /// There will be no further change.
    is_closed: bool,
    jobs: HashMap<SessionId, Job>,
    /// When the next probe of each is due, `CLOCK_MONOTONIC` ns.
    due: BinaryHeap<Reverse<(u64, SessionId)>>,
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

impl Sender {
    /// For intervals up to this, ns, the sender spins for the last part of the wait.
    const SPIN_BELOW_NS: u64 = 1_000_000;

    /// Of the targets that come from there.
    pub fn new(changes: Receiver<Change>) -> Self {
        Self {
            changes,
            is_closed: false,
            jobs: HashMap::new(),
            due: BinaryHeap::new(),
            margin: Margin::new(),
        }
    }

    /// The open loop, until no target is left and none can join.
    pub fn run(mut self, control: &Control) {
        // Exact timers instead of the default slack of 50 us.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let pulse = control.part().pulse();
        while !control.stopped() {
            pulse.beats();
            self.take_changes();
            match self.due.peek() {
                Some(Reverse((due, session))) => {
                    let (due, session) = (*due, *session);
                    if self.wait(due, session) {
                        self.send(session);
                    }
                }
                None if self.is_closed => break,
                None => sleep_until(monotonic_ns() + TICK_NS),
            }
        }
        self.take_changes();
        self.jobs.values().for_each(Job::end);
    }

    fn take_changes(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(Change::Join(shared)) => self.join(shared),
                Ok(Change::Leave(session)) => self.end(session),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.is_closed = true;
                    return;
                }
            }
        }
    }

    fn join(&mut self, shared: Arc<Shared>) {
        let (session, job) = (shared.session, Job::new(shared));
        let due = job.due_ns();
        self.jobs.insert(session, job);
        match due {
            Some(due) => self.due.push(Reverse((due, session))),
            None => self.end(session),
        }
    }

    fn end(&mut self, session: SessionId) {
        if let Some(job) = self.jobs.remove(&session) {
            job.end();
        }
    }

    /// Sleeps, and spins for the rest of a short interval; at most a tick, so that a stop is seen soon. Returns
    /// whether the probe is due.
    fn wait(&mut self, due: u64, session: SessionId) -> bool {
        let interval_ns = self
            .jobs
            .get(&session)
            .and_then(|j| j.shared.plan.interval_ns);
        let now = monotonic_ns();
        if now >= due {
            return true;
        }
        let spins = interval_ns.is_some_and(|i| i <= Self::SPIN_BELOW_NS);
        let margin = if spins { self.margin.0 } else { 0 };
        if due - now <= margin {
            std::hint::spin_loop();
        } else {
            let wake = (due - margin).min(now + TICK_NS);
            sleep_until(wake);
            self.margin.learn(monotonic_ns().saturating_sub(wake));
        }
        false
    }

    /// Sends the probe that is due first, which is one of this session.
    fn send(&mut self, session: SessionId) {
        self.due.pop();
        let Some(job) = self.jobs.get_mut(&session) else {
            return;
        };
        if job.is_too_late(monotonic_ns()) {
            job.count_unsent();
        } else {
            job.step();
            if let Some(due) = job.due_ns() {
                self.due.push(Reverse((due, session)));
                return;
            }
        }
        self.end(session);
    }
}

/// Sends the probes of an adaptive target, each when it is asked for.
pub struct Adaptive(Job);

impl Adaptive {
    /// For one target.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(Job::new(shared))
    }

    /// Sends the next probe: its index, and whether it left.
    pub fn send(&mut self) -> (ProbeIndex, bool) {
        (self.0.next, self.0.send())
    }

    /// No further probe is sent.
    pub fn end(&self) {
        self.0.end();
    }
}

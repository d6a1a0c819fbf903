//! The client: an open-loop sender, a receiver, and what they agree on with the other end.
//!
//! Probe k leaves at t0 + k x interval whatever the replies do, so a slow reply never hides the
//! probes behind it (no coordinated omission). The sender has a thread of its own and shares only
//! the table of records and a counter with the receiver. An adaptive run (`-A`) sends from the
//! receiving thread instead, one probe at each reply.

use crate::cli::{Cli, Mode};
use crate::collector::Collector;
use crate::host;
use crate::journey::{Arrival, Identity, Journey};
use crate::packet::{self, INBAND, Packet, Probe, RECORD, Version};
use crate::plan::Plan;
use crate::socket::{self, MAX_MESSAGE, ProbeSocket, Received};
use crate::table::Table;
use crate::tracer::{Role, Setup, Storage, Tracer};
use crate::units::{SECOND, monotonic_ns, realtime_ns};
use anyhow::{Context, Result, bail};
use report::model::{Counters, Status};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A reply that takes longer than this many timeouts is not waited for any more.
const GIVE_UP_TIMEOUTS: u64 = 3;
/// A peer that answers at least this many probes, over at least this time, without stamps is
/// taken not to give any.
const MISSES: u32 = 3;
const MISS_GRACE_NS: u64 = 100_000_000;
/// How often the loop looks at clocks and counters, apart from packets.
const HOUSEKEEPING_NS: u64 = 10_000_000;
/// Extra probes at the end, which only bring late stamps home, and how long they and record
/// packets are waited for.
const COLLECT_PROBES: u32 = 4;
const COLLECT_WAIT_NS: u64 = 100_000_000;

/// Set by signals: end the run; reopen the logs.
#[derive(Debug, Default)]
pub struct Control {
    /// SIGINT or SIGTERM came.
    pub stop: Arc<AtomicBool>,
    /// SIGHUP came.
    pub reopen: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one probe was answered.
    Answered,
    /// None was.
    Unanswered,
}

/// What the probes ask of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Format {
    Inband,
    Compact,
    V0,
    Plain,
}

impl Format {
    const ALL: [Self; 4] = [Self::Inband, Self::Compact, Self::V0, Self::Plain];

    /// One probe template for each format, indexed by it.
    fn probes(plan: &Plan, session: u32) -> [Probe; 4] {
        Self::ALL.map(|f| {
            let (version, flags) = match f {
                Self::Inband => (Version::V1, INBAND),
                Self::Compact => (Version::V1, RECORD),
                Self::V0 => (Version::V0, 0),
                Self::Plain => (Version::V1, 0),
            };
            Probe::new(plan.family, version, session, plan.size, flags, host::id())
        })
    }
}

/// What the sender and the receiver share.
struct Shared {
    table: Arc<Table>,
    socket: ProbeSocket,
    session: u32,
    start_ns: u64,
    /// Probes sent so far, or just being sent; their sequence numbers are below it.
    sent: AtomicU32,
    send_errors: AtomicU32,
    /// A [`Format`], chosen by the receiver.
    format: AtomicU8,
    /// The sender has nothing more to send.
    done: AtomicBool,
    /// Why the run cannot go on.
    failure: Mutex<Option<String>>,
}

/// Runs one capture.
pub fn run(
    cli: &Cli,
    plan: &Plan,
    control: &Control,
    collector: &mut Collector,
) -> Result<Outcome> {
    let session = host::session()?;
    let mut storage = Storage::new();
    let setup = Setup {
        role: Role::Client { session },
        slots: plan.slots(),
        only_netns: plan.only_netns(),
    };
    let tracer = start_tracer(&mut storage, &setup);
    let table = match &tracer {
        Some(t) => Arc::clone(&t.table),
        None => Arc::new(Table::anonymous(setup.slots)?),
    };
    let socket = ProbeSocket::open(plan.family, &plan.options)?;
    if let Some(filter) = tracer.as_ref().and_then(|t| t.socket_filter(&setup.role)) {
        socket
            .attach_filter(filter)
            .context("attach the filter to the client's socket")?;
    }
    let format = match cli.mode {
        Mode::Auto | Mode::Inband => Format::Inband,
        Mode::Compact => Format::Compact,
        Mode::Pingpong => Format::Plain,
    };
    let shared = Shared {
        table,
        socket,
        session,
        start_ns: monotonic_ns(),
        sent: AtomicU32::new(0),
        send_errors: AtomicU32::new(0),
        format: AtomicU8::new(format as u8),
        done: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    collector.begin(shared.start_ns, tracer.as_ref());
    let mut receiver = Receiver::new(plan, &shared, tracer, collector, cli.mode);
    if plan.interval_ns.is_none() {
        receiver.adaptive(control)?;
    } else {
        thread::scope(|scope| {
            scope.spawn(|| Sender::new(plan, &shared).run(control));
            let result = receiver.open_loop(control);
            shared.done.store(true, Ordering::Relaxed);
            result
        })?;
    }
    receiver.finish()
}

fn start_tracer<'a>(storage: &'a mut Storage, setup: &Setup) -> Option<Tracer<'a>> {
    match Tracer::start(storage, setup) {
        Ok(tracer) => Some(tracer),
        Err(e) => {
            log::warn!(
                "no kernel stamps, only totals: {e:#}; BPF needs root (CAP_BPF, CAP_PERFMON) and a kernel with BTF"
            );
            None
        }
    }
}

/// Sends one probe after the other.
struct Sender<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    probes: [Probe; 4],
    /// How long before its time the sender wakes up and spins, ns; follows the sleep's overshoot.
    margin_ns: u64,
}

impl<'a> Sender<'a> {
    /// Intervals up to this spin for the last part of the wait.
    const SPIN_BELOW_NS: u64 = 1_000_000;

    fn new(plan: &'a Plan, shared: &'a Shared) -> Self {
        Self {
            plan,
            shared,
            probes: Format::probes(plan, shared.session),
            margin_ns: 100_000,
        }
    }

    /// The open loop.
    fn run(mut self, control: &Control) {
        let interval = self.plan.interval_ns.unwrap_or(0);
        // Exact timers instead of the default slack of 50 us.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        for k in 0..self.plan.count.unwrap_or(u32::MAX) {
            let due = self.shared.start_ns + u64::from(k) * interval;
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
            let margin = if spin { self.margin_ns } else { 0 };
            if due - now <= margin {
                std::hint::spin_loop();
                continue;
            }
            // At most a tick, so that a stop is seen soon.
            let wake = (due - margin).min(now + socket::RECEIVE_TICK.as_nanos() as u64);
            sleep_until(wake);
            let overshoot = monotonic_ns().saturating_sub(wake);
            self.margin_ns =
                (self.margin_ns - self.margin_ns / 16 + overshoot / 8).clamp(20_000, 200_000);
        }
    }

    /// Sends probe `sequence`; false when the run cannot go on.
    fn send(&mut self, sequence: u32) -> bool {
        let shared = self.shared;
        let format = usize::from(shared.format.load(Ordering::Relaxed));
        let now = monotonic_ns();
        shared.table.prepare(shared.session, sequence, now);
        let message = self.probes[format].at(sequence, now);
        // Before the send: over veth and loopback the reply can be there before sendto returns.
        shared.sent.store(sequence + 1, Ordering::Release);
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Flying,
    Answered,
    Lost,
}

/// Takes replies, and finds out what became of every probe.
struct Receiver<'a, 'k> {
    plan: &'a Plan,
    shared: &'a Shared,
    tracer: Option<Tracer<'k>>,
    collector: &'a mut Collector,
    journey: Journey,
    negotiation: Negotiation,
    /// By slot: sequence number and fate.
    fates: Vec<(u32, Fate)>,
    /// All probes below it have their fate.
    oldest: u32,
    /// The highest sequence number that was answered, plus one.
    frontier: u32,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    epoch_ns: i64,
    housekeeping_ns: u64,
    buffer: Vec<MaybeUninit<u8>>,
    collecting: bool,
}

impl<'a, 'k> Receiver<'a, 'k> {
    fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        tracer: Option<Tracer<'k>>,
        collector: &'a mut Collector,
        mode: Mode,
    ) -> Self {
        let identity = Identity {
            peer: plan.ip,
            own_namespace_only: plan.own_namespace_only,
            two_hosts: plan.two_hosts,
        };
        Self {
            plan,
            shared,
            tracer,
            collector,
            journey: Journey::new(identity),
            negotiation: Negotiation::new(mode),
            fates: vec![(u32::MAX, Fate::Flying); shared.table.slots() as usize],
            oldest: 0,
            frontier: 0,
            epoch_ns: realtime_ns() - monotonic_ns().cast_signed(),
            housekeeping_ns: 0,
            buffer: vec![MaybeUninit::uninit(); MAX_MESSAGE],
            collecting: false,
        }
    }

    /// Receives until every probe of the sender has its fate.
    fn open_loop(&mut self, control: &Control) -> Result<()> {
        let mut drained_at = None;
        loop {
            self.receive()?;
            let now = self.housekeep(control)?;
            if !self.shared.done.load(Ordering::Acquire) {
                continue;
            }
            if self.in_flight() == 0 {
                return Ok(());
            }
            let end = *drained_at.get_or_insert(now + self.plan.timeout_ns);
            if now >= end
                || control.stop.load(Ordering::Relaxed)
                    && now + self.plan.timeout_ns >= end + STOP_GRACE_NS
            {
                return Ok(());
            }
        }
    }

    /// Sends the next probe at each reply, or at the timeout.
    fn adaptive(&mut self, control: &Control) -> Result<()> {
        let plan = self.plan;
        let mut sender = Sender::new(plan, self.shared);
        for sequence in 0..plan.count.unwrap_or(u32::MAX) {
            if control.stop.load(Ordering::Relaxed) || !sender.send(sequence) {
                break;
            }
            let sent_ns = self
                .shared
                .table
                .sent_ns(self.shared.session, sequence)
                .unwrap_or(0);
            loop {
                self.receive()?;
                if self.fate(sequence) == Fate::Answered || control.stop.load(Ordering::Relaxed) {
                    break;
                }
                if self.housekeep(control)?.saturating_sub(sent_ns) >= plan.timeout_ns {
                    break;
                }
            }
            if plan.time_ns.is_some_and(|t| {
                self.now_after_housekeeping(control)
                    .is_ok_and(|n| n >= self.shared.start_ns + t)
            }) {
                break;
            }
        }
        self.shared.done.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Housekeeping at most every [`HOUSEKEEPING_NS`]; the time.
    fn now_after_housekeeping(&mut self, control: &Control) -> Result<u64> {
        let now = monotonic_ns();
        if now < self.housekeeping_ns {
            Ok(now)
        } else {
            self.housekeep(control)
        }
    }

    /// Probes without a fate.
    fn in_flight(&self) -> u32 {
        let sent = self.shared.sent.load(Ordering::Acquire);
        (self.oldest..sent)
            .filter(|s| self.fate(*s) == Fate::Flying)
            .take(1)
            .count() as u32
    }

    fn fate(&self, sequence: u32) -> Fate {
        let (of, fate) = self.fates[self.slot(sequence)];
        if of == sequence { fate } else { Fate::Flying }
    }

    fn slot(&self, sequence: u32) -> usize {
        (sequence & (self.shared.table.slots() - 1)) as usize
    }

    fn settle(&mut self, sequence: u32, fate: Fate) {
        let slot = self.slot(sequence);
        self.fates[slot] = (sequence, fate);
    }

    /// Waits for one packet, for a tick at most.
    fn receive(&mut self) -> Result<()> {
        if let Some(tracer) = &mut self.tracer {
            tracer.begin_wait();
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self.shared.socket.receive(&mut buffer);
        let now = monotonic_ns();
        match received.context("receive from the raw socket")? {
            Received::Reply(message, from) => self.reply(message, from, now),
            Received::Error(e) if e.id == self.shared.session as u16 => self.icmp_error(&e),
            Received::Error(_) | Received::Nothing => {}
        }
        self.buffer = buffer;
        Ok(())
    }

    fn icmp_error(&mut self, e: &socket::IcmpError) {
        self.collector.icmp_error(e);
    }

    fn reply(&mut self, message: &[u8], from: IpAddr, now: u64) {
        let packet = match packet::parse(message, self.plan.family) {
            Ok(p) if p.session != self.shared.session => return,
            Err(packet::Malformed::Magic) => return,
            Ok(p) if from == self.plan.ip && !p.request => p,
            Ok(_) | Err(_) => {
                self.collector.counters().malformed += 1;
                return;
            }
        };
        if !packet.checksum_ok {
            self.collector.counters().bad_checksum += 1;
            // A version 0 peer gets about one in a thousand of its own packets wrong.
            if packet.version == Version::V1 {
                return;
            }
        }
        if packet.is_record() {
            if self.journey.remote(&packet) > 0 {
                self.stamps_seen(if packet.version == Version::V0 {
                    "v0"
                } else {
                    "compact"
                });
            }
        } else {
            self.echo(&packet, now);
        }
        self.hand_out(now);
    }

    /// An echo reply of the other end's kernel.
    fn echo(&mut self, packet: &Packet<'_>, now: u64) {
        let sequence = packet.sequence;
        if sequence >= self.shared.sent.load(Ordering::Acquire) {
            if self.collecting {
                self.journey.late(packet);
            } else {
                self.collector.counters().malformed += 1;
            }
            return;
        }
        let Some(sent_ns) = self.shared.table.sent_ns(self.shared.session, sequence) else {
            // Its record was reused long ago: it counts as lost, or was a duplicate.
            self.collector.counters().dup += 1;
            return;
        };
        let before = self.fate(sequence);
        if before == Fate::Answered {
            let sent_unix_ns = self.unix_ns(sent_ns);
            self.collector.dup(sequence, sent_ns, sent_unix_ns, now);
            return;
        }
        let status = if now - sent_ns > self.plan.timeout_ns {
            Status::Late
        } else {
            Status::Ok
        };
        self.count_answer(sequence, before, status);
        self.settle(sequence, Fate::Answered);
        self.advance();
        let (woken, oncpu) = self.sleep_before(now);
        let arrival = Arrival {
            sequence,
            sent_ns,
            sent_unix_ns: self.unix_ns(sent_ns),
            received_ns: now,
            woken,
            oncpu,
            status,
        };
        let deadline = now + self.plan.timeout_ns + self.plan.interval_ns.unwrap_or(0);
        if self
            .journey
            .answered(&self.shared.table, arrival, packet, deadline)
        {
            self.stamps_seen("inband");
        } else {
            self.no_stamps(now);
        }
    }

    fn count_answer(&mut self, sequence: u32, before: Fate, status: Status) {
        let overtaken = sequence < self.frontier;
        self.frontier = self.frontier.max(sequence + 1);
        let counters: &mut Counters = self.collector.counters();
        counters.replied += 1;
        counters.late += u64::from(status == Status::Late);
        counters.reordered += u64::from(overtaken);
        if before == Fate::Lost {
            counters.lost -= 1;
        }
    }

    /// Wake-up and switch-in of this thread's last sleep; the breakdown drops what precedes the
    /// reply's arrival at the socket.
    fn sleep_before(&mut self, now: u64) -> (Option<(u64, u16)>, Option<(u64, u16)>) {
        let Some(tracer) = &mut self.tracer else {
            return (None, None);
        };
        let sleep = tracer.last_sleep();
        let valid = |ns: u64, cpu: u32| (ns != 0 && ns <= now).then_some((ns, cpu as u16));
        (
            valid(sleep.woken_ns, sleep.woken_cpu),
            valid(sleep.oncpu_ns, sleep.oncpu_cpu),
        )
    }

    fn unix_ns(&self, monotonic: u64) -> i64 {
        monotonic.cast_signed() + self.epoch_ns
    }

    fn stamps_seen(&mut self, how: &'static str) {
        if self.negotiation.seen(how) {
            self.collector.mode(how);
        }
    }

    fn no_stamps(&mut self, now: u64) {
        let current = Format::ALL[usize::from(self.shared.format.load(Ordering::Relaxed))];
        if let Some(next) = self.negotiation.missed(now, current) {
            self.shared.format.store(next as u8, Ordering::Relaxed);
            if next == Format::Inband {
                self.collector.mode("pingpong");
            }
        }
    }

    /// Passes on probes whose stamps are complete.
    fn hand_out(&mut self, now: u64) {
        let collector = &mut *self.collector;
        self.journey
            .finished(now, self.negotiation.expects(), |probe| {
                collector.probe(probe)
            });
    }

    /// Everything that is not the arrival of a packet.
    fn housekeep(&mut self, control: &Control) -> Result<u64> {
        let now = monotonic_ns();
        if now < self.housekeeping_ns {
            return Ok(now);
        }
        self.housekeeping_ns = now + HOUSEKEEPING_NS;
        self.epoch_ns = realtime_ns() - now.cast_signed();
        self.expire(now);
        self.hand_out(now);
        self.update_counters();
        self.collector
            .tick(now, control.reopen.swap(false, Ordering::Relaxed));
        Ok(now)
    }

    /// Passes over probes that have their fate: their slots can be used again.
    fn advance(&mut self) {
        while self.fate(self.oldest) != Fate::Flying {
            self.oldest += 1;
        }
    }

    /// Finds the probes that will not be answered any more.
    fn expire(&mut self, now: u64) {
        let sent = self.shared.sent.load(Ordering::Acquire);
        while self.oldest < sent {
            if self.fate(self.oldest) == Fate::Flying {
                match self.shared.table.sent_ns(self.shared.session, self.oldest) {
                    Some(at)
                        if now.saturating_sub(at) < GIVE_UP_TIMEOUTS * self.plan.timeout_ns =>
                    {
                        break;
                    }
                    at => self.lose(self.oldest, at),
                }
            }
            self.oldest += 1;
        }
    }

    fn lose(&mut self, sequence: u32, sent_ns: Option<u64>) {
        self.settle(sequence, Fate::Lost);
        let sent_ns = sent_ns.unwrap_or(
            self.shared.start_ns + u64::from(sequence) * self.plan.interval_ns.unwrap_or(0),
        );
        let sent_unix_ns = self.unix_ns(sent_ns);
        self.collector.lost(sequence, sent_ns, sent_unix_ns);
    }

    fn update_counters(&mut self) {
        let losses = self.tracer.as_ref().map(Tracer::losses).unwrap_or_default();
        let journey = self.journey.counts;
        let counters = self.collector.counters();
        counters.sent = u64::from(self.shared.sent.load(Ordering::Acquire));
        counters.send_errors = u64::from(self.shared.send_errors.load(Ordering::Relaxed));
        counters.lost_stamps = losses.stamp_overflow + journey.orphans;
        counters.unknown_points = journey.unknown_points;
        counters.no_remote = journey.no_remote;
    }

    /// Brings the last late stamps home, and gives every probe its fate.
    fn finish(mut self) -> Result<Outcome> {
        self.hand_out(monotonic_ns());
        let format = Format::ALL[usize::from(self.shared.format.load(Ordering::Relaxed))];
        if self.negotiation.expects() && self.journey.waiting() > 0 {
            match format {
                Format::Inband => self.collect()?,
                Format::Compact | Format::V0 => self.receive_until_complete(monotonic_ns())?,
                Format::Plain => {}
            }
        }
        let collector = &mut *self.collector;
        self.journey
            .finished(u64::MAX, self.negotiation.expects(), |probe| {
                collector.probe(probe)
            });
        let sent = self.shared.sent.load(Ordering::Acquire);
        for sequence in self.oldest..sent {
            if self.fate(sequence) == Fate::Flying {
                self.lose(
                    sequence,
                    self.shared.table.sent_ns(self.shared.session, sequence),
                );
            }
        }
        self.update_counters();
        let failure = self
            .shared
            .failure
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let counters = *self.collector.counters();
        if let Some(why) = failure {
            bail!(why);
        }
        Ok(if counters.replied > 0 {
            Outcome::Answered
        } else {
            Outcome::Unanswered
        })
    }

    /// Waits for the last record packets, which come behind their replies.
    fn receive_until_complete(&mut self, since_ns: u64) -> Result<()> {
        while self.journey.waiting() > 0 && monotonic_ns() - since_ns < COLLECT_WAIT_NS {
            self.receive()?;
        }
        Ok(())
    }

    /// A few more echo requests, which count as nothing: their replies carry what the server saw
    /// after the last probe's reply had passed its last writable hook.
    fn collect(&mut self) -> Result<()> {
        self.collecting = true;
        let mut probes = Format::probes(self.plan, self.shared.session);
        let first = self.shared.sent.load(Ordering::Acquire);
        for extra in 0..COLLECT_PROBES {
            let sent_ns = monotonic_ns();
            let message = probes[Format::Inband as usize].at(first + extra, sent_ns);
            if self.shared.socket.send(message, &self.plan.peer).is_err() {
                break;
            }
            let before = self.journey.waiting();
            while self.journey.waiting() > 0 && monotonic_ns() - sent_ns < COLLECT_WAIT_NS {
                self.receive()?;
                if self.journey.waiting() < before {
                    break;
                }
            }
            if self.journey.waiting() == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// After a signal, replies that are under way get this long.
const STOP_GRACE_NS: u64 = 100_000_000;

/// Which way of getting remote stamps works with this peer.
struct Negotiation {
    mode: Mode,
    in_use: Option<&'static str>,
    misses: u32,
    missing_since_ns: u64,
    /// Both versions were tried in vain.
    local_only: bool,
}

impl Negotiation {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            in_use: None,
            misses: 0,
            missing_since_ns: 0,
            local_only: mode == Mode::Pingpong,
        }
    }

    /// Whether a probe is worth holding back until its remote stamps are there.
    fn expects(&self) -> bool {
        !self.local_only
    }

    /// Remote stamps arrived; true when that is news.
    fn seen(&mut self, how: &'static str) -> bool {
        self.misses = 0;
        self.local_only = false;
        let news = self.in_use != Some(how);
        if news {
            log::info!("remote stamps: {}", describe(how));
            self.in_use = Some(how);
        }
        news
    }

    /// A reply without stamps; the format to try next, if it is time for that.
    fn missed(&mut self, now: u64, current: Format) -> Option<Format> {
        if self.local_only || matches!(self.in_use, Some("compact" | "v0")) && self.misses == 0 {
            // Their stamps always come behind the reply.
            self.misses += u32::from(!self.local_only);
            self.missing_since_ns = now;
            return None;
        }
        if self.misses == 0 {
            self.missing_since_ns = now;
        }
        self.misses += 1;
        if self.misses < MISSES || now - self.missing_since_ns < MISS_GRACE_NS {
            return None;
        }
        self.misses = 0;
        self.give_up_on(current)
    }

    fn give_up_on(&mut self, current: Format) -> Option<Format> {
        let was = self.in_use.take();
        match (self.mode, current) {
            (Mode::Auto, Format::Inband) if was.is_none() => {
                log::debug!("no version 1 stamps in {MISSES} replies; trying version 0");
                return Some(Format::V0);
            }
            (Mode::Auto, Format::V0) => {
                log::warn!(
                    "no pingtrace server answers at the other end: local stages and one remote segment only"
                );
                self.local_only = true;
                return Some(Format::Inband);
            }
            _ => {}
        }
        log::warn!(
            "remote stamps have stopped; local stages and one remote segment until they come back"
        );
        self.local_only = true;
        None
    }
}

fn describe(how: &str) -> &'static str {
    match how {
        "inband" => "in band, in the echo reply itself",
        "compact" => "in record packets",
        _ => "in version 0 record packets (1 us resolution)",
    }
}

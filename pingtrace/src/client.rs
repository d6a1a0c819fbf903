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
use crate::negotiation::{Format, Negotiation};
use crate::packet::{self, Packet, Version};
use crate::plan::Plan;
use crate::sender::{Sender, Shared};
use crate::socket::{self, MAX_MESSAGE, ProbeSocket, Received};
use crate::table::{REPLY, REQUEST, Table};
use crate::tracer::{Role, Setup, Storage, Tracer};
use crate::units::{monotonic_ns, realtime_ns};
use anyhow::{Context, Result, bail};
use report::model::{Counters, Point, Status};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A reply that takes longer than this many timeouts is not waited for any more.
const GIVE_UP_TIMEOUTS: u64 = 3;
/// How often the loop looks at clocks and counters, apart from packets.
const HOUSEKEEPING_NS: u64 = 10_000_000;
/// Extra probes at the end, which only bring late stamps home, and how long they wait.
const COLLECT_PROBES: u32 = 4;
const COLLECT_WAIT_NS: u64 = 50_000_000;
/// After a signal, replies that are under way get this long.
const STOP_GRACE_NS: u64 = 100_000_000;

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
    /// At least one was, and an objective was missed.
    Missed,
}

/// Runs one capture.
pub fn run(
    cli: &Cli,
    plan: &Plan,
    control: &Control,
    collector: &mut Collector,
) -> Result<Outcome> {
    let session = host::session()?;
    let socket = ProbeSocket::open(plan.family, &plan.options)?;
    let mut storage = Storage::new();
    let setup = Setup {
        role: Role::Client { session },
        slots: plan.slots(),
        only_netns: plan.only_netns(),
        lab_clock: None,
    };
    let tracer = start_tracer(&mut storage, &setup);
    let table = match &tracer {
        Some(t) => Arc::clone(&t.table),
        None => Arc::new(Table::anonymous(setup.slots)?),
    };
    if let Some(filter) = tracer.as_ref().and_then(Tracer::socket_filter) {
        socket
            .attach_filter(filter)
            .context("attach the filter to the client's socket")?;
    }
    if tracer.is_none()
        && let Err(e) = socket.enable_timestamps()
    {
        log::warn!("no SO_TIMESTAMPING stamps either: {e}");
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
        sent: AtomicU64::new(0),
        send_errors: AtomicU32::new(0),
        format: AtomicU8::new(format as u8),
        done: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    collector.begin(shared.start_ns, setup.slots, tracer.as_ref());
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
    match Tracer::load(storage, setup) {
        Ok(mut tracer) => {
            tracer.attach();
            Some(tracer)
        }
        Err(e) => {
            log::warn!(
                "no BPF stamps here, SO_TIMESTAMPING instead: {e:#}; BPF needs root (CAP_BPF, CAP_PERFMON) and a kernel with BTF"
            );
            None
        }
    }
}

/// When, `CLOCK_MONOTONIC` ns, and on which CPU.
type Moment = Option<(u64, u16)>;

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
    /// By slot: index and fate.
    fates: Vec<(u64, Fate)>,
    /// All probes below it have their fate.
    oldest: u64,
    /// The highest index that was answered, plus one.
    frontier: u64,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    epoch_ns: i64,
    housekeeping_ns: u64,
    buffer: Vec<MaybeUninit<u8>>,
    collecting: bool,
    /// Probes given up because another one needed their record.
    evicted: u64,
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
            // Without programs of its own, the client sees no hop but its socket's.
            own_namespace_only: plan.own_namespace_only || tracer.is_none(),
            two_hosts: plan.two_hosts,
        };
        Self {
            plan,
            shared,
            tracer,
            collector,
            journey: Journey::new(identity),
            negotiation: Negotiation::new(mode),
            fates: vec![(u64::MAX, Fate::Flying); shared.table.slots() as usize],
            oldest: 0,
            frontier: 0,
            epoch_ns: realtime_ns() - monotonic_ns().cast_signed(),
            housekeeping_ns: 0,
            buffer: vec![MaybeUninit::uninit(); MAX_MESSAGE],
            collecting: false,
            evicted: 0,
        }
    }

    /// Receives until every probe of the sender has its fate.
    fn open_loop(&mut self, control: &Control) -> Result<()> {
        let mut drained_at = None;
        loop {
            self.receive()?;
            let now = self.housekeep(control);
            if !self.shared.done.load(Ordering::Acquire) {
                continue;
            }
            if !self.in_flight() {
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
        for index in 0..plan.probes() {
            if control.stop.load(Ordering::Relaxed) || !sender.send(index) {
                break;
            }
            let sent_ns = self.sent_ns(index).unwrap_or(0);
            loop {
                self.receive()?;
                if self.fate(index) == Fate::Answered || control.stop.load(Ordering::Relaxed) {
                    break;
                }
                if self.housekeep(control).saturating_sub(sent_ns) >= plan.timeout_ns {
                    break;
                }
            }
            let now = self.housekeep(control);
            let over = |t| now >= self.shared.start_ns + t;
            if plan.time_ns.is_some_and(over) {
                break;
            }
        }
        self.shared.done.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether any probe is without a fate.
    fn in_flight(&self) -> bool {
        let sent = self.shared.sent.load(Ordering::Acquire);
        (self.oldest..sent).any(|index| self.fate(index) == Fate::Flying)
    }

    fn fate(&self, index: u64) -> Fate {
        let (of, fate) = self.fates[self.slot(index)];
        if of == index { fate } else { Fate::Flying }
    }

    fn slot(&self, index: u64) -> usize {
        (index as u32 & (self.shared.table.slots() - 1)) as usize
    }

    fn settle(&mut self, index: u64, fate: Fate) {
        let slot = self.slot(index);
        self.fates[slot] = (index, fate);
    }

    /// The youngest probe that was sent with this sequence number, which wraps.
    fn index_of(&self, sequence: u32) -> Option<u64> {
        let sent = self.shared.sent.load(Ordering::Acquire);
        let back = (sent as u32).wrapping_sub(sequence);
        if back == 0 {
            return None;
        }
        sent.checked_sub(u64::from(back))
    }

    /// Waits for one packet, for a tick at most.
    fn receive(&mut self) -> Result<()> {
        if let Some(tracer) = &mut self.tracer {
            tracer.begin_wait();
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = if self.tracer.is_some() {
            self.shared.socket.receive(&mut buffer).map(|r| (r, None))
        } else {
            self.shared.socket.receive_stamped(&mut buffer)
        };
        let now = monotonic_ns();
        let (received, arrived) = received.context("receive from the raw socket")?;
        match received {
            Received::Reply(message, from) => {
                if let Some(at) = arrived {
                    self.take_timestamps(message, at);
                }
                self.reply(message, from, now);
            }
            Received::Error(e) if e.id == self.shared.session as u16 => self.icmp_error(&e),
            Received::Error(_) | Received::Nothing => {}
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Without BPF: puts the socket's own stamps where the programs would have put theirs.
    fn take_timestamps(&mut self, message: &[u8], arrived: i64) {
        let Shared {
            table,
            session,
            socket,
            ..
        } = self.shared;
        let monotonic = |real: i64| (real - self.epoch_ns).cast_unsigned();
        socket.sent_stamps(|number, point, at| {
            table.push(*session, number, REQUEST, point, monotonic(at));
        });
        if let Ok(p) = packet::parse(message, self.plan.family)
            && !p.is_record()
        {
            table.push(
                *session,
                p.sequence,
                REPLY,
                Point::LRxIprcv,
                monotonic(arrived),
            );
        }
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
        let Some(index) = self.index_of(sequence) else {
            if self.collecting {
                self.journey.late(packet);
            } else {
                self.collector.counters().malformed += 1;
            }
            return;
        };
        let Some(sent_ns) = self.shared.table.sent_ns(self.shared.session, sequence) else {
            // Its record was reused long ago: it counts as lost, or was a duplicate.
            self.collector.counters().dup += 1;
            return;
        };
        let before = self.fate(index);
        if before == Fate::Answered {
            let sent_unix_ns = self.unix_ns(sent_ns);
            let probe = self.journey.duplicate(sequence, sent_ns, sent_unix_ns, now);
            self.collector.dup(probe);
            return;
        }
        let status = if now - sent_ns > self.plan.timeout_ns {
            Status::Late
        } else {
            Status::Ok
        };
        self.count_answer(index, before, status);
        self.settle(index, Fate::Answered);
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

    fn count_answer(&mut self, index: u64, before: Fate, status: Status) {
        let overtaken = index < self.frontier;
        self.frontier = self.frontier.max(index + 1);
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
    fn sleep_before(&mut self, now: u64) -> (Moment, Moment) {
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
                collector.probe(probe);
            });
    }

    /// Everything that is not the arrival of a packet, at most every [`HOUSEKEEPING_NS`]; the time.
    fn housekeep(&mut self, control: &Control) -> u64 {
        let now = monotonic_ns();
        if now < self.housekeeping_ns {
            return now;
        }
        self.housekeeping_ns = now + HOUSEKEEPING_NS;
        self.epoch_ns = realtime_ns() - now.cast_signed();
        self.expire(now);
        self.hand_out(now);
        self.update_counters();
        self.collector
            .tick(now, control.reopen.swap(false, Ordering::Relaxed));
        if self.collector.outputs_failed() {
            control.stop.store(true, Ordering::Relaxed);
        }
        now
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
                match self.sent_ns(self.oldest) {
                    Some(at)
                        if now.saturating_sub(at) < GIVE_UP_TIMEOUTS * self.plan.timeout_ns =>
                    {
                        break;
                    }
                    sent => {
                        self.evicted += u64::from(sent.is_none());
                        self.lose(self.oldest);
                    }
                }
            }
            self.oldest += 1;
        }
    }

    /// When a probe was sent, unless its record has been reused since.
    fn sent_ns(&self, index: u64) -> Option<u64> {
        self.shared.table.sent_ns(self.shared.session, index as u32)
    }

    fn lose(&mut self, index: u64) {
        self.settle(index, Fate::Lost);
        let due = self.shared.start_ns + index * self.plan.interval_ns.unwrap_or(0);
        let sent_ns = self.sent_ns(index).unwrap_or(due);
        let sent_unix_ns = self.unix_ns(sent_ns);
        let probe = self
            .journey
            .lost(&self.shared.table, index as u32, sent_ns, sent_unix_ns);
        self.collector.lost(probe);
    }

    fn update_counters(&mut self) {
        let losses = self.tracer.as_ref().map(Tracer::losses).unwrap_or_default();
        let journey = self.journey.counts;
        let sent = self.shared.sent.load(Ordering::Acquire);
        let in_use = sent.saturating_sub(self.oldest);
        let slots = self.shared.table.slots();
        self.collector
            .table_use(in_use.min(slots.into()) as u32, self.evicted);
        let counters = self.collector.counters();
        counters.sent = sent;
        counters.send_errors = u64::from(self.shared.send_errors.load(Ordering::Relaxed));
        counters.lost_stamps = losses.stamp_overflow + journey.orphans;
        counters.unknown_points = journey.unknown_points;
        counters.no_remote = journey.no_remote;
    }

    /// Brings the last late stamps home, and gives every probe its fate.
    fn finish(mut self) -> Result<Outcome> {
        self.hand_out(monotonic_ns());
        if self.negotiation.expects() && self.journey.waiting() > 0 {
            self.collect()?;
        }
        let collector = &mut *self.collector;
        self.journey
            .finished(u64::MAX, self.negotiation.expects(), |probe| {
                collector.probe(probe);
            });
        let sent = self.shared.sent.load(Ordering::Acquire);
        for index in self.oldest..sent {
            if self.fate(index) == Fate::Flying {
                self.lose(index);
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

    /// Waits a little for the stamps that are still under way. In band they come with a reply: a
    /// few more echo requests, which count as nothing, bring home what the server saw after the
    /// last probe's reply had passed its last writable hook.
    fn collect(&mut self) -> Result<()> {
        self.collecting = true;
        let format = self.shared.format.load(Ordering::Relaxed);
        let mut probes = Format::probes(self.plan, self.shared.session);
        let first = self.shared.sent.load(Ordering::Acquire) as u32;
        for extra in 0..COLLECT_PROBES {
            let sent_ns = monotonic_ns();
            if format == Format::Inband as u8 {
                let message = probes[usize::from(format)].at(first.wrapping_add(extra), sent_ns);
                if self.shared.socket.send(message, &self.plan.peer).is_err() {
                    break;
                }
            }
            let before = self.journey.waiting();
            while self.journey.waiting() == before && monotonic_ns() - sent_ns < COLLECT_WAIT_NS {
                self.receive()?;
            }
            if self.journey.waiting() == 0 {
                break;
            }
        }
        Ok(())
    }
}

//! The client: an open-loop sender, a receiver, and their agreement with the server.
//!
//! Probe k leaves at t0 + k x interval whatever the replies do, so a slow reply never hides the
//! probes behind it (no coordinated omission). The sender has a thread of its own and shares only
//! the table of slots and a counter with the receiver. An adaptive run (`-A`) sends from the
//! receiving thread instead, one probe at each reply.

use super::args::{Args, Mode};
use super::overflows::Overflows;
use super::refusals::Refusals;
use super::session::{Answer, Event, FirstAnswer, Session, index_of, index_of_low};
use crate::capture::collector::Collector;
use crate::capture::explain;
use crate::client::journey::{Arrival, Identity, Journey, Unanswered};
use crate::client::negotiation::{Format, Negotiation};
use crate::client::plan::Plan;
use crate::client::sender::{Sender, Shared};
use crate::control::Control;
use crate::exit::Outcome;
use crate::kernel::host;
use crate::kernel::object::{self, Storage, Storages};
use crate::kernel::table::{REPLY, REQUEST, Table};
use crate::kernel::tracer::{Role, Setup, Tracer};
use crate::units::{Time, monotonic_ns, realtime_ns};
use crate::wire::icmp_error::IcmpError;
use crate::wire::packet::{self, About, Extension, Packet, Version};
use crate::wire::socket::{MAX_MESSAGE, ProbeSocket, RECEIVE_TICK, Received};
use anyhow::{Context, Result, bail};
use report::analysis::blame;
use report::analysis::loss::{Evidence, autopsy};
use report::model::send_error::SendError;
use report::model::{Counters, Host, Point, Status};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// Time between two readings of clocks and counters, ns.
const HOUSEKEEPING_NS: u64 = 10_000_000;
/// Extra probes at the end, which only fetch late stamps: at least this many, further ones as long as
/// each fetches some, and the wait for each, ns.
const COLLECT_PROBES: u64 = 4;
const COLLECT_MOST: u64 = 64;
const COLLECT_WAIT_NS: u64 = 50_000_000;
/// The first probe is due this long after everything is ready, ns, so that the start of the threads does
/// not count as lateness.
const LEAD_NS: u64 = 20_000_000;
/// After a signal, replies under way are awaited for this long, ns.
const STOP_GRACE_NS: u64 = 100_000_000;

/// Runs one capture.
pub fn run(
    args: &Args,
    plan: &Plan,
    control: &Control,
    collector: &mut Collector,
) -> Result<Outcome> {
    let session = host::session()?;
    let socket = ProbeSocket::open(plan.family, &plan.options)?;
    let mut storage = object::storages();
    let setup = Setup {
        role: Role::Client { session },
        explain: None,
        slots: plan.slots(),
        only_netns: plan.only_netns(),
        lab_clock: None,
        own_netns: plan.netns,
    };
    let tracer = start_tracer(&mut storage, &setup);
    let table = match &tracer {
        Some(tracer) => Arc::clone(&tracer.table),
        None => Arc::new(Table::anonymous(setup.slots)?),
    };
    prepare(&socket, tracer.as_ref())?;
    let mut recorder_storage = Storage::uninit();
    let recording = args
        .explain
        .map(|t| explain::Start::record(&mut recorder_storage, t));
    let recording = recording.transpose()?;
    let explainer = recording.as_ref().map(explain::Start::in_background);
    let explainer = explainer.transpose()?;
    let lead_ns = plan.interval_ns.map_or(0, |_| LEAD_NS);
    let start_ns = monotonic_ns() + lead_ns;
    let shared = Shared::new(
        plan,
        table,
        socket,
        session,
        Format::first(args.mode),
        start_ns,
    );
    let mut programs = tracer.as_ref().map(Tracer::programs).unwrap_or_default();
    programs.extend(recording.iter().flat_map(|r| r.recorder.programs()));
    programs.retain(|_| args.debug);
    collector.begin(shared.start_ns, setup.slots, tracer.as_ref(), programs);
    collector.explain(explainer.is_some());
    let mut receiver = Receiver::new(plan, &shared, tracer, collector, args.mode);
    receiver.explainer = explainer;
    if plan.interval_ns.is_none() {
        receiver.adaptive(control);
    } else {
        thread::scope(|scope| {
            scope.spawn(|| Sender::new(plan, &shared).run(control));
            receiver.open_loop(control);
            shared.done.store(true, Ordering::Relaxed);
        });
    }
    receiver.finish()
}

/// Lets the socket's filter program stamp arrivals, else the kernel (`SO_TIMESTAMPING`).
fn prepare(socket: &ProbeSocket, tracer: Option<&Tracer<'_>>) -> Result<()> {
    let Some(tracer) = tracer else {
        if let Err(e) = socket.enable_timestamps() {
            log::warn!("no SO_TIMESTAMPING stamps either: {e}");
        }
        return Ok(());
    };
    tracer.socket_filter().map_or(Ok(()), |filter| {
        let attached = socket.attach_filter(filter);
        attached.context("attach the filter to the client's socket")
    })
}

fn start_tracer<'a>(storage: &'a mut Storages, setup: &Setup) -> Option<Tracer<'a>> {
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

/// When the probe of this reply arrived at the server, on that clock, ns.
fn arrival_at_server(packet: &Packet<'_>) -> Option<u64> {
    let mut stamps = packet.entries().flatten();
    let arrival = stamps.find(|e| e.back == 0 && e.point == Point::RRxDevrcv)?;
    (packet.version == Version::V1).then_some(arrival.time)
}

/// When, `CLOCK_MONOTONIC` ns, and on which CPU.
type Moment = Option<(u64, u16)>;

/// Takes replies, and finds out the state of every probe.
struct Receiver<'a, 'k> {
    plan: &'a Plan,
    shared: &'a Shared,
    tracer: Option<Tracer<'k>>,
    collector: &'a mut Collector,
    journey: Journey,
    negotiation: Negotiation,
    session: Session,
    /// Every reply that had arrived by then was read, `CLOCK_MONOTONIC` ns.
    drained_ns: u64,
    /// When the socket's receive buffer was full.
    overflows: Overflows,
    /// Sends that failed.
    refusals: Refusals,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    epoch_ns: i64,
    housekeeping_ns: u64,
    /// Explains slow probes (`--explain`).
    explainer: Option<explain::Background>,
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
            session: shared.session,
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
            session: Session::new(shared.table.slots(), plan.timeout_ns),
            drained_ns: 0,
            overflows: Overflows::default(),
            refusals: Refusals::new(plan.ip, plan.size),
            epoch_ns: realtime_ns() - monotonic_ns().cast_signed(),
            housekeeping_ns: 0,
            buffer: vec![MaybeUninit::uninit(); MAX_MESSAGE],
            explainer: None,
            collecting: false,
        }
    }

    /// Receives until the state of every probe is final.
    fn open_loop(&mut self, control: &Control) {
        let mut done_ns = None;
        loop {
            self.receive();
            let now = self.housekeep(control);
            if !self.shared.done.load(Ordering::Acquire) {
                continue;
            }
            self.learn_of_sends();
            let done_ns = *done_ns.get_or_insert(now);
            let wait_ns = if control.stopped() {
                STOP_GRACE_NS
            } else {
                self.session.last_wait_ns()
            };
            if self.session.in_flight() == 0 || self.drained_ns >= done_ns + wait_ns {
                return;
            }
        }
    }

    /// Sends the next probe at each reply, or at the timeout.
    fn adaptive(&mut self, control: &Control) {
        let plan = self.plan;
        let mut sender = Sender::new(plan, self.shared);
        for index in 0..plan.probes() {
            if control.stop.load(Ordering::Relaxed) {
                break;
            }
            let was_sent = sender.send(index);
            self.learn_of_sends();
            let sent_ns = self.session.sent_ns(index).unwrap_or(0);
            loop {
                self.receive();
                // A probe that could not be sent takes a timeout too.
                let is_over = was_sent && !self.session.is_in_flight(index);
                if is_over || control.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.housekeep(control);
                if self.drained_ns.saturating_sub(sent_ns) >= plan.timeout_ns {
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
    }

    /// Takes the probes that the sender sent, or could not send, since the last call.
    fn learn_of_sends(&mut self) {
        let known = self.session.sent();
        let failed = self.shared.take_failed();
        let sent = self.shared.sent.load(Ordering::Acquire);
        self.journey.sent(sent);
        let mut events = Vec::new();
        while self.session.sent() < sent {
            let index = self.session.sent();
            let sent_ns = self.shared.sent_ns(index);
            if let Some(sent_ns) = sent_ns.filter(|_| !self.shared.table.is_mapped()) {
                let table = &self.shared.table;
                table.prepare(self.shared.session, index as u32, sent_ns);
            }
            self.session.send(sent_ns, |event| events.push(event));
            for event in events.drain(..) {
                self.session_event(event);
            }
        }
        for (index, error) in failed {
            self.refusals.add(index, error);
            self.lose(index, Some(error));
        }
        self.refusals.sent(known);
    }

    fn session_event(&mut self, event: Event) {
        match event {
            Event::RecordEnds(index) => self.journey.copy_record(&self.shared.table, index),
            Event::Forgotten(index, sent_ns) => {
                let at_ns = sent_ns.or(self.due_ns(index));
                let sent_unix_ns = self.unix_ns(at_ns.unwrap_or(self.shared.start_ns));
                let probe = self.journey.forgotten(index, sent_ns, sent_unix_ns);
                self.collector.forgotten(probe);
            }
        }
    }

    /// Waits for one packet, for a tick at most.
    fn receive(&mut self) {
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
        let (received, arrived) = received.unwrap_or_else(|e| {
            self.refusals.receive(&e);
            // Does not retry at once, in case the error persists.
            thread::sleep(RECEIVE_TICK);
            (Received::Nothing, None)
        });
        self.learn_of_sends();
        if let Some(at) = arrived {
            self.drained_ns = self.drained_ns.max((at - self.epoch_ns).cast_unsigned());
        }
        if self.tracer.is_none() {
            self.take_sent_stamps();
        }
        match received {
            Received::Reply(message, from) => {
                if let Some(at) = arrived {
                    self.take_arrival(message, at);
                }
                self.reply(message, from, now);
            }
            Received::Error(e) => self.icmp_error(&e),
            Received::Nothing => {}
        }
        self.buffer = buffer;
    }

    /// Without BPF: puts the socket's stamps of sends into the slots, as the programs do otherwise.
    fn take_sent_stamps(&self) {
        let shared = self.shared;
        let session = shared.session;
        shared.socket.sent_stamps(session, |sequence, point, at| {
            let ns = (at - self.epoch_ns).cast_unsigned();
            shared.table.push(session, sequence, REQUEST, point, ns);
        });
    }

    /// Without BPF: puts the stamp of a reply's arrival into its slot.
    fn take_arrival(&self, message: &[u8], arrived: i64) {
        let Shared { table, session, .. } = self.shared;
        if let Ok(p) = packet::parse(message, self.plan.family)
            && !p.is_record()
        {
            table.push(
                *session,
                p.sequence,
                REPLY,
                Point::LRxIprcv,
                (arrived - self.epoch_ns).cast_unsigned(),
            );
        }
    }

    /// Counts an ICMP error, which is believed only if it quotes a probe in flight.
    fn icmp_error(&mut self, e: &IcmpError) {
        let (session, peer) = (self.shared.session, self.plan.ip);
        let quoted = e.probe(session, peer);
        let index = quoted.and_then(|low| index_of_low(low, self.session.sent()));
        if index.is_some_and(|index| self.session.is_in_flight(index)) {
            self.collector.icmp_error(e);
        } else if e.concerns(session, peer) {
            self.collector.counters().icmp_unrelated += 1;
        }
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
            // A version 0 peer computes about one checksum in a thousand wrong.
            if packet.version == Version::V1 {
                return;
            }
        }
        self.take_statuses(&packet);
        self.take_blame(&packet);
        let dropped = self.journey.dropped(&packet);
        if packet.is_record() {
            if self.journey.remote(&packet) > 0 && !dropped {
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

    /// Takes an echo reply of the server's kernel.
    fn echo(&mut self, packet: &Packet<'_>, now: u64) {
        let sequence = packet.sequence;
        let Some(index) = index_of(sequence, self.session.sent()) else {
            if self.collecting {
                self.journey.late(packet);
            } else {
                self.collector.counters().malformed += 1;
            }
            return;
        };
        let arrived_ns = arrival_at_server(packet);
        match self.session.answer(index, now, arrived_ns) {
            Answer::First(answer) => self.answered(index, packet, answer, now),
            Answer::Duplicate {
                sent_ns,
                arrived_ns: first,
            } => {
                self.count_duplicate(first, arrived_ns);
                let sent_unix_ns = self.unix_ns(sent_ns);
                let probe = self.journey.duplicate(sequence, sent_ns, sent_unix_ns, now);
                self.collector.dup(probe);
            }
            Answer::Unmatched => self.collector.counters().unmatched += 1,
        }
    }

    /// Takes the first answer to a probe.
    fn answered(&mut self, index: u64, packet: &Packet<'_>, answer: FirstAnswer, now: u64) {
        self.count_answer(&answer);
        let (due_ns, sent_ns) = (self.due_ns(index), answer.sent_ns);
        let (woken, oncpu) = self.sleep_before(now);
        let arrival = Arrival {
            index,
            due_ns,
            sent_ns,
            sent_cpu: self.shared.sent_cpu(index),
            sent_unix_ns: self.unix_ns(sent_ns),
            received_ns: now,
            woken,
            oncpu,
            status: match answer {
                FirstAnswer {
                    amends: Some(_), ..
                } => Status::Amended,
                FirstAnswer { late: true, .. } => Status::Late,
                FirstAnswer { late: false, .. } => Status::Ok,
            },
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
        self.explain(index as u32, due_ns.unwrap_or(sent_ns), now);
    }

    /// Takes the blame that the server sent.
    fn take_blame(&mut self, packet: &Packet<'_>) {
        let text = packet.extensions().filter_map(|extension| match extension {
            Extension::Text {
                about: About::Blame,
                text,
                ..
            } => Some(text),
            _ => None,
        });
        let text: String = text.collect();
        if self.explainer.is_some() && !text.is_empty() {
            self.collector
                .blame(packet.sequence, blame::from_wire(&text));
        }
    }

    /// Asks what had this host's CPUs while a probe was slow.
    fn explain(&mut self, sequence: u32, due_ns: u64, now: u64) {
        let Some(explainer) = &self.explainer else {
            return;
        };
        let least_ns = explainer.least_ns();
        if now.saturating_sub(due_ns) < least_ns.max(self.plan.threshold_ns) {
            return;
        }
        let mut path = self.journey.path(sequence);
        // The CPU of this thread when it had the reply; without a sleep no stamp says it.
        let here = rustix::thread::sched_getcpu() as u16;
        let returned = path.iter_mut().filter(|s| s.point == Point::LRxUser);
        returned.for_each(|stamp| stamp.cpu = Some(here));
        // If both ends are on this kernel, this recorder saw both.
        let hosts = [Host::Client, Host::Server];
        let seen = if self.journey.is_one_kernel() { 2 } else { 1 };
        let windows = hosts.iter().take(seen);
        let windows = windows.flat_map(|host| blame::windows(&path, *host, least_ns));
        let windows: Vec<_> = windows.collect();
        if !windows.is_empty() {
            self.collector.expect_blame(sequence);
            explainer.ask(sequence, windows);
        }
    }

    /// Passes on the explanations that have arrived.
    fn take_explanations(&mut self) {
        for (sequence, blame) in self.explainer.iter().flat_map(explain::Background::answers) {
            self.collector.blame(sequence, blame);
        }
    }

    fn count_answer(&mut self, answer: &FirstAnswer) {
        let both = answer.arrivals;
        let counters: &mut Counters = self.collector.counters();
        counters.replied += 1;
        counters.late += u64::from(answer.late);
        counters.reordered += u64::from(answer.overtaken);
        counters.reordered_out += u64::from(both.is_some_and(|(this, other)| this > other));
        counters.reordered_in += u64::from(both.is_some_and(|(this, other)| this <= other));
        if let Some(id) = answer.amends {
            self.collector.found(id, answer.sent_ns);
        }
    }

    /// Counts a duplicate by direction: a duplicated request arrived at the server twice, a duplicated reply
    /// reports the same arrival again.
    fn count_duplicate(&mut self, first_ns: Option<u64>, second_ns: Option<u64>) {
        if let Some((first, second)) = first_ns.zip(second_ns) {
            let counters = self.collector.counters();
            counters.dup_out += u64::from(first != second);
            counters.dup_in += u64::from(first == second);
        }
    }

    /// Takes what the server says of unanswered probes.
    fn take_statuses(&mut self, packet: &Packet<'_>) {
        let sent = self.session.sent();
        for extension in packet.extensions() {
            let Extension::Window { back, statuses } = extension else {
                continue;
            };
            let first = packet.sequence.wrapping_sub(u32::from(back));
            for (sequence, status) in (0..).map(|k| first.wrapping_add(k)).zip(statuses) {
                if let Some((index, status)) = index_of(sequence, sent).zip(status) {
                    self.session.hear(index, status);
                }
            }
        }
    }

    /// Makes the next probes ask about the oldest probe in flight that was sent before `before_ns` and of
    /// which the server has not said anything. Returns that probe, if any.
    fn ask(&mut self, before_ns: u64) -> Option<u64> {
        let open = self.session.oldest_open();
        let sent_ns = |index| self.session.sent_ns(index);
        let overdue = open.filter(|index| sent_ns(*index).is_some_and(|at| at <= before_ns));
        let question = overdue.map_or(0, |index| index + 1);
        self.shared.question.store(question, Ordering::Relaxed);
        open
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

    /// When this probe is due, `CLOCK_MONOTONIC` ns, if there is a schedule.
    fn due_ns(&self, index: u64) -> Option<u64> {
        let interval_ns = self.plan.interval_ns?;
        Some(self.shared.start_ns + index * interval_ns)
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

    /// Does everything but the arrival of packets, at most every [`HOUSEKEEPING_NS`]. Returns the time.
    fn housekeep(&mut self, control: &Control) -> u64 {
        let now = monotonic_ns();
        if now < self.housekeeping_ns {
            return now;
        }
        self.housekeeping_ns = now + HOUSEKEEPING_NS;
        self.epoch_ns = realtime_ns() - now.cast_signed();
        self.overflows.note(self.shared.socket.dropped(), now);
        self.drained_ns = self.drained_ns.max(self.journey.read_up_to_ns());
        if self.shared.socket.is_drained() {
            self.drained_ns = now;
        }
        self.expire();
        self.take_explanations();
        self.ask(now.saturating_sub(self.plan.timeout_ns));
        self.hand_out(now);
        self.update_counters();
        let time = Time {
            ns: now,
            unix_ns: self.unix_ns(now),
        };
        self.collector.tick(time, control.asked());
        if self.collector.outputs_failed() {
            control.stop.store(true, Ordering::Relaxed);
        }
        now
    }

    /// Gives up overdue probes, but only after all packets in the socket were read: after a stall of this
    /// process they are the answers.
    fn expire(&mut self) {
        let inband = self.shared.format.load(Ordering::Relaxed) == Format::Inband as u8;
        let statuses = inband && self.negotiation.expects();
        while let Some(index) = self.session.expired(self.drained_ns, statuses) {
            self.lose(index, None);
        }
    }

    /// Gives up a probe in flight, or one that could not be sent.
    fn lose(&mut self, index: u64, send_error: Option<SendError>) {
        let Some(sent_ns) = self.session.sent_ns(index) else {
            return;
        };
        let sent_unix_ns = self.unix_ns(sent_ns);
        let Unanswered {
            probe,
            drops,
            seen_here,
        } = self
            .journey
            .lost(&self.shared.table, index, sent_ns, sent_unix_ns);
        let arrived = probe.path.iter().rfind(|s| s.point == Point::LRxIprcv);
        let evidence = Evidence {
            socket_full: arrived.is_some_and(|s| self.overflows.at(s.ns)),
            status: self.session.status(index),
            send_error,
            sees_queue: seen_here && self.sees(Point::LTxDevqueue),
            sees_driver: seen_here && self.sees(Point::LTxDevout),
        };
        let loss = autopsy(&probe, drops, evidence);
        let id = self.collector.lost(probe, loss);
        self.session.lose(index, id);
    }

    /// Whether stamps of this point can be expected. Programs see what they are attached to; a driver may
    /// give no software time stamp, so without BPF a point must have been seen once.
    fn sees(&self, point: Point) -> bool {
        match &self.tracer {
            Some(tracer) => tracer.points.iter().any(|(seen, _)| *seen == point),
            None => self.collector.has_seen(point),
        }
    }

    fn update_counters(&mut self) {
        let losses = self.tracer.as_ref().map(Tracer::losses).unwrap_or_default();
        let journey = self.journey.counts;
        let (sent, in_flight) = (self.session.sent(), self.session.in_flight());
        let slots = self.shared.table.slots();
        self.collector
            .table_use(in_flight.min(slots.into()) as u32, journey.evicted);
        let refused = journey.refused + self.collector.refused_blame();
        let counters = self.collector.counters();
        counters.sent = sent;
        counters.in_flight = in_flight;
        counters.refused = refused;
        counters.send_errors = u64::from(self.shared.send_errors.load(Ordering::Relaxed));
        counters.unsent = self.shared.unsent.load(Ordering::Relaxed);
        counters.lost_stamps = losses.stamp_overflow + journey.orphans;
        counters.unknown_points = journey.unknown_points;
        counters.no_remote = journey.no_remote;
    }

    /// Fetches the last late stamps, and makes the state of every probe final.
    fn finish(mut self) -> Result<Outcome> {
        self.hand_out(monotonic_ns());
        self.learn_of_sends();
        if self.negotiation.expects()
            && (self.journey.waiting() > 0 || self.session.in_flight() > 0)
        {
            self.collect();
        }
        let collector = &mut *self.collector;
        self.journey
            .finished(u64::MAX, self.negotiation.expects(), |probe| {
                collector.probe(probe);
            });
        // Probes that were not awaited long enough, as the run was ended, stay in flight.
        let overdue_ns = self.drained_ns.saturating_sub(self.plan.timeout_ns);
        for index in self.session.in_flight_since(overdue_ns) {
            self.lose(index, None);
        }
        let explainer = self.explainer.take();
        let answers = explain::Background::last_answers;
        for (sequence, blame) in explainer.into_iter().flat_map(answers) {
            self.collector.blame(sequence, blame);
        }
        self.update_counters();
        let counters = *self.collector.counters();
        if counters.unsent > 0 {
            let (sent, planned) = (counters.sent, counters.sent + counters.unsent);
            log::warn!(
                "could not keep up: {sent} of {planned} probes sent when the time (-t) was over"
            );
        }
        if counters.send_errors == counters.sent
            && let Some(why) = self.refusals.explain()
        {
            bail!("no probe could be sent: {why}");
        }
        Ok(if counters.replied > 0 {
            Outcome::Answered
        } else {
            Outcome::Unanswered
        })
    }

    /// Waits a little for stamps under way. In band they travel in a reply: a few more echo requests, which
    /// no statistics count, fetch the stamps taken after the last reply had passed the last writable hook.
    fn collect(&mut self) {
        self.collecting = true;
        let format = self.shared.format.load(Ordering::Relaxed);
        let mut probes = Format::probes(self.plan, self.shared.session);
        let first = self.session.sent();
        for index in first..first + COLLECT_MOST {
            let sent_ns = monotonic_ns();
            let before = (self.journey.waiting(), self.ask(sent_ns));
            if before == (0, None) {
                break;
            }
            if format == Format::Inband as u8 {
                let question = self.shared.question(index, sent_ns);
                let probe = &mut probes[usize::from(format)];
                let message = probe.asking(index as u32, sent_ns, question);
                if self.shared.send(message).is_err() {
                    break;
                }
            }
            let mut now = before;
            while now == before && monotonic_ns() - sent_ns < COLLECT_WAIT_NS {
                self.receive();
                now = (self.journey.waiting(), self.ask(sent_ns));
            }
            if now == before && index + 1 >= first + COLLECT_PROBES {
                break;
            }
        }
    }
}

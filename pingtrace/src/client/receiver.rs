//! The receiving thread: reads the socket, keeps time, and feeds the core.

use super::core::{Core, Setup};
use super::index::ProbeIndex;
use super::journey::Identity;
use super::refusals::Refusals;
use super::this_host::ThisHost;
use crate::client::sender::{Sender, Shared};
use crate::control::Control;
use crate::exit::Outcome;

use crate::kernel::tracer::Tracer;
use crate::units::{Time, monotonic_ns, realtime_ns};
use crate::wire::packet;
use crate::wire::socket::{MAX_MESSAGE, RECEIVE_TICK, Received};
use crate::wire::stamp_return::StampReturn;
use anyhow::{Result, bail};
use report::model::{Direction, Point};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::thread;

/// Time between two readings of clocks and counters, ns.
const HOUSEKEEPING_NS: u64 = 10_000_000;
/// Extra probes at the end, which only fetch late stamps: at least this many, further ones as long as
/// each fetches some, and the wait for each, ns.
const COLLECT_PROBES: u64 = 4;
const COLLECT_MOST: u64 = 64;
const COLLECT_WAIT_NS: u64 = 50_000_000;
/// After a signal, replies under way are awaited for this long, ns.
const STOP_GRACE_NS: u64 = 100_000_000;

/// Takes replies, and finds out the state of every probe.
pub struct Receiver<'a, 'k> {
    core: Core,
    here: ThisHost<'a, 'k>,
    /// Sends that failed.
    refusals: Refusals,
    housekeeping_ns: u64,
    buffer: Vec<MaybeUninit<u8>>,
}

impl<'a, 'k> Receiver<'a, 'k> {
    /// For one run.
    pub fn new(here: ThisHost<'a, 'k>) -> Self {
        let (plan, shared) = (here.plan, here.shared);
        let setup = Setup {
            identity: Identity {
                session: shared.session,
                peer: plan.ip,
                netns: plan.netns,
                flows: plan.flows,
                // Without programs of its own, the client sees no hop but its socket's.
                own_namespace_only: plan.own_namespace_only || here.tracer.is_none(),
                two_hosts: plan.two_hosts,
            },
            family: plan.family,
            slots: shared.table.slots(),
            mode: plan.mode,
            start_ns: shared.start_ns,
            interval_ns: plan.interval_ns,
            timeout_ns: plan.timeout_ns,
            keys: plan.keys,
        };
        let mut core = Core::new(setup, realtime_ns() - monotonic_ns().cast_signed());
        core.key_check.knows(shared.cookie.load(Ordering::Relaxed));
        Self {
            core,
            refusals: Refusals::new(plan.ip, plan.size),
            housekeeping_ns: 0,
            buffer: vec![MaybeUninit::uninit(); MAX_MESSAGE],
            here,
        }
    }

    /// Receives until the state of every probe is final.
    pub fn open_loop(&mut self, control: &Control) {
        let mut done_ns = None;
        loop {
            self.receive();
            let now = self.housekeep(control);
            if !self.here.shared.done.load(Ordering::Acquire) {
                continue;
            }
            self.learn_of_sends();
            let done_ns = *done_ns.get_or_insert(now);
            let grace_ns = control.stopped().then_some(STOP_GRACE_NS);
            if self.core.is_over(done_ns, grace_ns) {
                return;
            }
        }
    }

    /// Sends the next probe at each reply, or at the timeout.
    pub fn adaptive(&mut self, control: &Control) {
        let (plan, shared) = (self.here.plan, self.here.shared);
        let mut sender = Sender::new(plan, shared);
        for index in (0..plan.probes()).map(ProbeIndex) {
            if control.stop.load(Ordering::Relaxed) {
                break;
            }
            let was_sent = sender.send(index);
            self.learn_of_sends();
            let sent_ns = self.core.session.sent_ns(index).unwrap_or(0);
            loop {
                self.receive();
                // A probe that could not be sent takes a timeout too.
                let is_over = was_sent && !self.core.session.is_in_flight(index);
                if is_over || control.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.housekeep(control);
                if self.core.drained_ns().saturating_sub(sent_ns) >= plan.timeout_ns {
                    break;
                }
            }
            let now = self.housekeep(control);
            let over = |t| now >= shared.start_ns + t;
            if plan.time_ns.is_some_and(over) {
                break;
            }
        }
        shared.done.store(true, Ordering::Relaxed);
    }

    /// Takes the probes that the sender sent, or could not send, since the last call.
    fn learn_of_sends(&mut self) {
        let shared = self.here.shared;
        let known = self.core.session.sent();
        let failed = shared.take_failed();
        let sent = shared.sent.load(Ordering::Acquire);
        for index in (known..sent).map(ProbeIndex) {
            let sent_ns = shared.sent_ns(index);
            if let Some(sent_ns) = sent_ns.filter(|_| !shared.table.is_mapped()) {
                shared
                    .table
                    .prepare(shared.session, index.sequence(), sent_ns);
            }
            self.core.sent(sent_ns, &mut self.here);
        }
        for (index, error) in failed {
            self.refusals.add(index, error);
            self.core.lose(index, Some(error), &mut self.here);
        }
        self.refusals.sent(known);
    }

    /// Waits for one packet, for a tick at most.
    fn receive(&mut self) {
        let shared = self.here.shared;
        if let Some(tracer) = &mut self.here.tracer {
            tracer.begin_wait();
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = shared.socket.receive(&mut buffer);
        let now = monotonic_ns();
        let (received, arrived) = received.unwrap_or_else(|e| {
            self.refusals.receive(&e);
            // Does not retry at once, in case the error persists.
            thread::sleep(RECEIVE_TICK);
            (Received::Nothing, None)
        });
        self.learn_of_sends();
        if self.here.tracer.is_none() {
            self.take_sent_stamps();
        }
        let arrived_ns = arrived.map(|at| (at - self.core.epoch_ns).cast_unsigned());
        self.core.drained(arrived_ns.unwrap_or(0));
        match received {
            Received::Reply(reply) => {
                if let Some(ns) = arrived_ns {
                    self.take_arrival(reply.message, ns);
                }
                let answered = self.core.reply(&reply, now, &mut self.here);
                if let Some(answered) = answered {
                    self.here.explain(answered, now, &self.core.journey);
                }
                self.core.hand_out(now, &mut self.here);
            }
            Received::Error(e) => self.core.icmp_error(&e, &mut self.here),
            Received::Nothing => {}
        }
        self.buffer = buffer;
    }

    /// Without BPF: puts the socket's stamps of sends into the slots, as the programs do otherwise.
    fn take_sent_stamps(&self) {
        let Shared { session, table, .. } = self.here.shared;
        let socket = &self.here.shared.socket;
        socket.sent_stamps(*session, |sequence, point, at| {
            let ns = (at - self.core.epoch_ns).cast_unsigned();
            table.push(*session, sequence, Direction::Request, point, ns);
        });
    }

    /// Without BPF: puts the stamp of a reply's arrival into its slot.
    fn take_arrival(&self, message: &[u8], ns: u64) {
        let Shared { session, table, .. } = self.here.shared;
        if let Ok(p) = packet::parse(message, self.here.plan.family)
            && !p.is_stamp_packet()
        {
            table.push(*session, p.sequence, Direction::Reply, Point::LRxIprcv, ns);
        }
    }

    /// Makes the next probes ask about the oldest probe in flight that was sent before `before_ns` and of
    /// which the server has not said anything. Returns that probe, if any.
    fn ask(&mut self, before_ns: u64) -> Option<ProbeIndex> {
        let open = self.core.open_probe(before_ns);
        let overdue = open.filter(|(_, is_overdue)| *is_overdue);
        let question = overdue.map_or(0, |(index, _)| index.0 + 1);
        let shared = self.here.shared;
        shared.question.store(question, Ordering::Relaxed);
        open.map(|(index, _)| index)
    }

    /// Does everything but the arrival of packets, at most every [`HOUSEKEEPING_NS`] and half of the time: on
    /// a busy machine the statistics of an interval can take longer than the interval. Returns the time.
    fn housekeep(&mut self, control: &Control) -> u64 {
        let now = monotonic_ns();
        if now < self.housekeeping_ns {
            return now;
        }
        self.core.epoch_ns = realtime_ns() - now.cast_signed();
        let socket = &self.here.shared.socket;
        self.core.overflows.note(socket.dropped(), now);
        let drained = socket.is_drained().then_some(now);
        self.core
            .drained(drained.unwrap_or_else(|| self.core.journey.read_up_to_ns()));
        self.core.expire(&mut self.here);
        self.here.take_explanations();
        self.here.follow_receivers();
        self.ask(now.saturating_sub(self.core.session.overdue_after_ns()));
        self.core.hand_out(now, &mut self.here);
        self.update_counters();
        let time = Time {
            ns: now,
            unix_ns: self.core.unix_ns(now),
        };
        self.here.collector.join_intervals(now, 0);
        self.here.collector.tick(time, control.asked());
        if self.here.collector.outputs_failed() {
            control.stop.store(true, Ordering::Relaxed);
        }
        let end = monotonic_ns();
        self.housekeeping_ns = (now + HOUSEKEEPING_NS).max(end + (end - now));
        now
    }

    fn update_counters(&mut self) {
        let (shared, collector) = (self.here.shared, &mut *self.here.collector);
        let losses = self.here.tracer.as_ref().map(Tracer::losses);
        let in_use = self
            .core
            .session
            .in_flight()
            .min(shared.table.slots().into());
        collector.table_use(in_use as u32, self.core.journey.counts().evicted);
        let refused = collector.refused_blame() + self.here.host_names.refused;
        let counters = collector.counters();
        self.core.count(counters);
        counters.refused += refused;
        counters.lost_stamps += losses.unwrap_or_default().stamp_overflow;
        counters.send_errors = u64::from(shared.send_errors.load(Ordering::Relaxed));
        counters.unsent = shared.unsent.load(Ordering::Relaxed);
        counters.warm_up = shared.warm_up.load(Ordering::Relaxed);
    }

    /// Fetches the last late stamps, and makes the state of every probe final.
    pub fn finish(mut self) -> Result<Outcome> {
        self.core.hand_out(monotonic_ns(), &mut self.here);
        self.learn_of_sends();
        if self.core.awaits_stamps() {
            self.collect();
        }
        self.core.finish(&mut self.here);
        self.here.last_explanations();
        self.update_counters();
        let counters = *self.here.collector.counters();
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

    /// Waits a little for stamps under way. A few more echo requests, which no statistics count, fetch in their
    /// replies the stamps taken after the last reply had passed the last writable hook, and in their stamp
    /// packets those of probes that had none: the first ones, which returned no cookie yet.
    fn collect(&mut self) {
        self.core.collect();
        let shared = self.here.shared;
        let asked = shared.asked();
        let mut probes = shared.probes(self.here.plan);
        let first = self.core.session.sent();
        for index in (first..first + COLLECT_MOST).map(ProbeIndex) {
            let sent_ns = monotonic_ns();
            let before = (self.core.journey.waiting(), self.ask(sent_ns));
            if before == (0, None) {
                break;
            }
            if matches!(asked, StampReturn::Inband | StampReturn::Compact) {
                let question = shared.question(index, sent_ns);
                let probe = &mut probes[asked as usize];
                let cookie = shared.cookie.load(Ordering::Relaxed);
                let message = probe.asking(index.sequence(), cookie, question);
                if shared.send(index.sequence(), message).is_err() {
                    break;
                }
            }
            let mut now = before;
            while now == before && monotonic_ns() - sent_ns < COLLECT_WAIT_NS {
                self.receive();
                now = (self.core.journey.waiting(), self.ask(sent_ns));
            }
            if now == before && index.0 + 1 >= first + COLLECT_PROBES {
                break;
            }
        }
    }
}

//! A target while it is probed: the core that knows its probes, and what that core is fed with.

use super::core::{Core, Setup};
use super::host_names::HostNames;
use super::index::ProbeIndex;
use super::journey::Identity;
use super::refusals::Refusals;
use super::sender::{Shared, Templates};
use super::this_host::{ThisHost, View};
use crate::capture::collector::Collector;
use crate::control::Asked;
use crate::exit::Outcome;
use crate::output::story;
use crate::units::{Time, monotonic_ns, realtime_ns};
use crate::wire::icmp_error::IcmpError;
use crate::wire::number::Sequence;
use crate::wire::packet;
use crate::wire::socket::Reply;
use crate::wire::stamp_return::StampReturn;
use anyhow::{Result, bail};
use report::model::{Blame, Direction, Judged, Point};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Extra probes at the end, which only fetch late stamps: at least this many, further ones as long as
/// each fetches some, and the wait for each, ns.
const COLLECT_PROBES: u64 = 4;
const COLLECT_MOST: u64 = 64;
const COLLECT_WAIT_NS: u64 = 50_000_000;

/// One of the hosts that are probed.
pub struct Target {
    /// The state of every probe.
    pub core: Core,
    /// With the sender.
    pub shared: Arc<Shared>,
    /// Takes the results.
    pub collector: Collector,
    names: HostNames,
    /// Sends that failed.
    refusals: Refusals,
    /// When nothing more was to be sent, `CLOCK_MONOTONIC` ns.
    done_ns: Option<u64>,
    collecting: Option<Collecting>,
    /// It was asked for late stamps, or had none: that is so at the end.
    has_collected: bool,
    /// Slots in use, and evicted so far.
    table_use: (u32, u64),
    /// Its name, if it is not the only one.
    name: Option<Arc<str>>,
}

/// How it ended.
pub struct Ended {
    /// Its name, if it was not the only one.
    pub name: Option<Arc<str>>,
    /// What became of the probes.
    pub outcome: Result<Outcome>,
    /// Its objectives.
    pub judged: Vec<Judged>,
}

/// The probes at the end, which only fetch stamps.
struct Collecting {
    probes: Templates,
    first: ProbeIndex,
    next: ProbeIndex,
    sent_ns: u64,
    /// What is still to come.
    open: Open,
}

/// Probes that wait for stamps, and the oldest of which the server has said nothing.
type Open = (usize, Option<ProbeIndex>);

impl Target {
    /// Whose first probe is not sent yet.
    pub fn new(shared: Arc<Shared>, collector: Collector, host: &ThisHost<'_>) -> Self {
        let plan = &shared.plan;
        let setup = Setup {
            identity: Identity {
                session: shared.session,
                peer: plan.ip,
                netns: plan.netns,
                flows: plan.flows,
                // Without programs of its own, the client sees no hop but its socket's.
                own_namespace_only: plan.own_namespace_only || host.tracer.is_none(),
                two_hosts: plan.two_hosts,
            },
            family: plan.family,
            slots: shared.table.slots(),
            recent: plan.memory.recent(shared.table.slots()),
            mode: plan.mode,
            start_ns: shared.due.start_ns,
            interval_ns: plan.interval_ns,
            timeout_ns: plan.timeout_ns,
            keys: plan.keys,
        };
        let mut core = Core::new(setup, realtime_ns() - monotonic_ns().cast_signed());
        core.key_check.knows(shared.cookie.load(Ordering::Relaxed));
        Self {
            core,
            names: HostNames::default(),
            refusals: Refusals::new(plan.ip, plan.size),
            done_ns: None,
            collecting: None,
            has_collected: false,
            table_use: (0, 0),
            name: plan.name.as_ref().map(|target| target.name.as_str().into()),
            shared,
            collector,
        }
    }

    /// Whatever is said meanwhile is about this target.
    pub fn speaks(&self) -> Option<story::About> {
        self.name.as_ref().map(story::about)
    }

    /// The core, and what it needs.
    fn split<'a, 'k>(&'a mut self, host: &'a mut ThisHost<'k>) -> (&'a mut Core, View<'a, 'k>) {
        let view = View {
            host,
            shared: &self.shared,
            collector: &mut self.collector,
            names: &mut self.names,
        };
        (&mut self.core, view)
    }

    /// Takes the probes that the sender sent, or could not send, since the last call.
    pub fn learn_of_sends(&mut self, host: &mut ThisHost<'_>) {
        let shared = Arc::clone(&self.shared);
        let known = self.core.session.sent();
        let failed = shared.take_failed();
        let sent = shared.sent.load(Ordering::Acquire);
        for index in (known..sent).map(ProbeIndex) {
            let sent_ns = shared.sent_ns(index);
            if let Some(sent_ns) = sent_ns.filter(|_| !shared.table.is_mapped()) {
                let sequence = index.sequence();
                shared.table.prepare(shared.session, sequence, sent_ns);
            }
            let (core, mut view) = self.split(host);
            core.sent(sent_ns, &mut view);
        }
        for (index, error) in failed {
            self.refusals.add(index, error);
            let (core, mut view) = self.split(host);
            core.lose(index, Some(error), &mut view);
        }
        self.refusals.sent(known);
    }

    /// A packet of this session, read at `now`; it arrived at `arrived_ns` if the kernel says so.
    pub fn reply(
        &mut self,
        reply: &Reply<'_>,
        now: u64,
        arrived_ns: Option<u64>,
        host: &mut ThisHost<'_>,
    ) {
        self.learn_of_sends(host);
        self.core.drained(arrived_ns.unwrap_or(0));
        if let Some(ns) = arrived_ns {
            self.take_arrival(reply.message, ns);
        }
        let (core, mut view) = self.split(host);
        if let Some(answered) = core.reply(reply, now, &mut view) {
            view.explain(answered, now, &core.journey);
        }
        core.hand_out(now, &mut view);
    }

    /// Without BPF: puts the stamp of a reply's arrival into its slot.
    fn take_arrival(&self, message: &[u8], ns: u64) {
        let Shared { session, table, .. } = &*self.shared;
        if let Ok(p) = packet::parse(message, self.shared.plan.family)
            && !p.is_stamp_packet()
        {
            table.push(*session, p.sequence, Direction::Reply, Point::LRxIprcv, ns);
        }
    }

    /// Without BPF: the socket's stamp of a send, `CLOCK_REALTIME` ns.
    pub fn take_sent_stamp(&self, sequence: Sequence, point: Point, at: i64) {
        let Shared { session, table, .. } = &*self.shared;
        let ns = self.monotonic_ns(at);
        table.push(*session, sequence, Direction::Request, point, ns);
    }

    /// The same moment on the other clock.
    pub fn monotonic_ns(&self, unix_ns: i64) -> u64 {
        (unix_ns - self.core.epoch_ns).cast_unsigned()
    }

    /// Takes an ICMP error, if it is about one of its probes.
    pub fn icmp_error(&mut self, error: &IcmpError, host: &mut ThisHost<'_>) -> bool {
        if !self.core.is_concerned(error) {
            return false;
        }
        self.learn_of_sends(host);
        let (core, mut view) = self.split(host);
        core.icmp_error(error, &mut view)
    }

    /// Blame for one of its probes.
    pub fn blame(&mut self, sequence: Sequence, blame: Vec<Blame>) {
        self.collector.blame(sequence.0, blame);
    }

    /// Does everything but the arrival of packets.
    pub fn housekeep(&mut self, now: u64, asked: Asked, host: &mut ThisHost<'_>) {
        self.learn_of_sends(host);
        // Both clocks at once: stamps of the socket are put on the other one with it.
        self.core.epoch_ns = realtime_ns() - monotonic_ns().cast_signed();
        let socket = &self.shared.socket;
        self.core.overflows.note(socket.dropped(), now);
        let drained = socket.is_drained().then_some(now);
        let drained = drained.unwrap_or_else(|| self.core.journey.read_up_to_ns());
        self.core.drained(drained);
        let (core, mut view) = self.split(host);
        core.expire(&mut view);
        self.ask(now.saturating_sub(self.core.session.overdue_after_ns()));
        let (core, mut view) = self.split(host);
        core.hand_out(now, &mut view);
        self.update_counters(host);
        let time = Time {
            ns: now,
            unix_ns: self.core.unix_ns(now),
        };
        self.collector.join_intervals(now, 0);
        self.collector.tick(time, asked);
        // What many keep for their next probe is megabytes.
        if self.name.is_some() {
            self.core.journey.shrink();
            self.collector.shrink();
        }
    }

    /// Makes the next probes ask about the oldest probe in flight that was sent before `before_ns` and of
    /// which the server has not said anything. Returns that probe, if any.
    fn ask(&mut self, before_ns: u64) -> Option<ProbeIndex> {
        let open = self.core.open_probe(before_ns);
        let overdue = open.filter(|(_, is_overdue)| *is_overdue);
        let question = overdue.map_or(0, |(index, _)| index.0 + 1);
        self.shared.question.store(question, Ordering::Relaxed);
        open.map(|(index, _)| index)
    }

    fn update_counters(&mut self, host: &mut ThisHost<'_>) {
        let (shared, collector) = (&*self.shared, &mut self.collector);
        let in_use = self.core.session.in_flight();
        let in_use = in_use.min(shared.table.slots().into()) as u32;
        let evicted = self.core.journey.counts().evicted;
        collector.table_use(in_use, evicted);
        let before = std::mem::replace(&mut self.table_use, (in_use, evicted));
        if let Some(meter) = &mut host.meter {
            meter.note(before, self.table_use);
        }
        let refused = collector.refused_blame() + self.names.refused;
        let counters = collector.counters();
        self.core.count(counters);
        counters.refused += refused;
        counters.lost_stamps += shared.lost_stamps.count();
        counters.send_errors = u64::from(shared.send_errors.load(Ordering::Relaxed));
        counters.unsent = shared.unsent.load(Ordering::Relaxed);
        counters.warm_up = shared.warm_up.load(Ordering::Relaxed);
    }

    /// Whether the state of every probe is final, as far as waiting helps: `grace_ns` after the last one was
    /// sent if the run was stopped.
    pub fn is_over(&mut self, now: u64, grace_ns: Option<u64>, host: &mut ThisHost<'_>) -> bool {
        if !self.shared.done.load(Ordering::Acquire) {
            return false;
        }
        self.learn_of_sends(host);
        let done_ns = *self.done_ns.get_or_insert(now);
        self.core.is_over(done_ns, grace_ns)
    }

    /// Begins to wait a little for stamps under way. A few more echo requests, which no statistics count, fetch
    /// in their replies the stamps taken after the last reply had passed the last writable hook, and in their
    /// stamp packets those of probes that had none: the first ones, which returned no cookie yet.
    pub fn begin_collecting(&mut self, host: &mut ThisHost<'_>) {
        let (core, mut view) = self.split(host);
        core.hand_out(monotonic_ns(), &mut view);
        self.learn_of_sends(host);
        self.has_collected = true;
        if self.core.awaits_stamps() {
            self.core.collect();
            let first = ProbeIndex(self.core.session.sent());
            self.collecting = Some(Collecting {
                probes: Templates::default(),
                first,
                next: first,
                sent_ns: 0,
                open: (0, None),
            });
        }
    }

    /// Goes on to leave, when the sender sends it no further probe: the last ones are answered or given up, then late
    /// stamps are fetched. True when that is over.
    pub fn has_left(&mut self, now: u64, host: &mut ThisHost<'_>) -> bool {
        if !self.has_collected {
            if !self.is_over(now, None, host) {
                return false;
            }
            self.begin_collecting(host);
        }
        !self.collect()
    }

    /// Goes on with that; false when it is over.
    pub fn collect(&mut self) -> bool {
        let Some(mut collecting) = self.collecting.take() else {
            return false;
        };
        let goes_on = self.collect_more(&mut collecting);
        self.collecting = Some(collecting).filter(|_| goes_on);
        goes_on
    }

    fn collect_more(&mut self, collecting: &mut Collecting) -> bool {
        let now = monotonic_ns();
        let sent = collecting.next.0 - collecting.first.0;
        if sent > 0 {
            let open = self.open(collecting.sent_ns);
            if open == collecting.open {
                if now - collecting.sent_ns < COLLECT_WAIT_NS {
                    return true;
                }
                if sent >= COLLECT_PROBES {
                    return false;
                }
            }
        }
        collecting.sent_ns = now;
        collecting.open = self.open(now);
        if sent >= COLLECT_MOST || collecting.open == (0, None) {
            return false;
        }
        let index = collecting.next;
        collecting.next.0 += 1;
        self.fetch(&mut collecting.probes, index, now)
    }

    fn open(&mut self, asked_ns: u64) -> Open {
        (self.core.journey.waiting(), self.ask(asked_ns))
    }

    /// Sends an echo request for stamps, where they come by one; false if that failed.
    fn fetch(&self, probes: &mut Templates, index: ProbeIndex, now: u64) -> bool {
        let shared = &self.shared;
        let asked = shared.asked();
        if !matches!(asked, StampReturn::Inband | StampReturn::Compact) {
            return true;
        }
        let question = shared.question(index, now);
        let cookie = shared.cookie.load(Ordering::Relaxed);
        let probe = probes.of(shared, asked);
        let message = probe.asking(index.sequence(), cookie, question);
        shared.send(index.sequence(), message).is_ok()
    }

    /// Makes the state of every probe final.
    pub fn end(&mut self, host: &mut ThisHost<'_>) {
        let (core, mut view) = self.split(host);
        core.finish(&mut view);
    }

    /// Passes the results on, when every probe has its blame.
    pub fn finish(mut self, host: &mut ThisHost<'_>) -> Ended {
        let _about = self.speaks();
        let outcome = self.outcome(host);
        if let Some(meter) = &mut host.meter {
            meter.note(self.table_use, (0, self.table_use.1));
        }
        let judged = self.collector.finish(Time::now(), |summary| summary);
        Ended {
            name: self.name,
            outcome,
            judged,
        }
    }

    fn outcome(&mut self, host: &mut ThisHost<'_>) -> Result<Outcome> {
        self.update_counters(host);
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
}

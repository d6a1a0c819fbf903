//! What became of each probe: a state machine that is fed with what happened, and says what follows. It
//! reads no clock and waits for nothing; the socket, the kernel's table of slots, the threads and the
//! outputs are the [`Shell`]'s.
//!
//! Times are `CLOCK_MONOTONIC` nanoseconds of the client, unless they are said to be the server's.

mod shell;

pub use shell::{Moment, Shell};

use super::args::Mode;
use super::index::ProbeIndex;
use super::journey::{Arrival, Identity, Journey, Unanswered};
use super::key_check::KeyCheck;
use super::negotiation::Negotiation;
use super::overflows::Overflows;
use super::session::{Answer, Event, FirstAnswer, Session};
use super::slot_stamps::SlotStamps;
use super::warm_up;
use crate::wire::extension::Extension;
use crate::wire::icmp_error::IcmpError;
use crate::wire::key::Keys;
use crate::wire::number::Sequence;
use crate::wire::packet::{self, Packet};
use crate::wire::protocol::{Family, Version};
use crate::wire::socket::Reply;
use crate::wire::stamp_return::StampReturn;
use report::analysis::loss::{Evidence, ServerStatus, Silent, autopsy};
use report::model::host_time::ServerNs;
use report::model::send_error::SendError;
use report::model::{ClockRelation, Counters, Host, Point, Probe, Status, Ttl};

/// What a run has from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Whose probes these are.
    pub identity: Identity,
    /// Of the probes.
    pub family: Family,
    /// Slots of the kernel's table, a power of two.
    pub slots: u32,
    /// The newest probes whose state is known in any case: a power of two, no smaller than `slots`.
    pub recent: usize,
    /// How stamps are to return.
    pub mode: Mode,
    /// When the first probe is due.
    pub start_ns: u64,
    /// Time between probes, if there is a schedule.
    pub interval_ns: Option<u64>,
    /// A later reply is late.
    pub timeout_ns: u64,
    /// Those that the server may have too.
    pub keys: Option<Keys>,
}

/// A probe that was just answered for the first time.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Its sequence number.
    pub sequence: Sequence,
    /// When it was due, or else sent.
    pub since_ns: u64,
}

/// Every probe of a run.
pub struct Core {
    setup: Setup,
    /// Joins the stamps of answered probes.
    pub journey: Journey,
    negotiation: Negotiation,
    /// Whether the server has the key.
    pub key_check: KeyCheck,
    /// The state of each probe.
    pub session: Session,
    /// Times at which the socket's receive buffer was full.
    pub overflows: Overflows,
    /// What probes ask for.
    asked: StampReturn,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    pub epoch_ns: i64,
    /// Every reply that had arrived by then was read.
    drained_ns: u64,
    collecting: bool,
    events: Vec<Event>,
}

impl Core {
    /// Nothing was sent yet.
    pub fn new(setup: Setup, epoch_ns: i64) -> Self {
        Self {
            journey: Journey::new(setup.identity),
            negotiation: Negotiation::new(setup.mode, setup.timeout_ns),
            key_check: KeyCheck::new(setup.keys),
            session: Session::new(setup.recent, setup.slots, setup.timeout_ns),
            overflows: Overflows::default(),
            asked: setup.mode.first(),
            epoch_ns,
            drained_ns: 0,
            collecting: false,
            events: Vec::new(),
            setup,
        }
    }

    /// The next probe was sent, at `sent_ns` if that is known.
    pub fn sent(&mut self, sent_ns: Option<u64>, shell: &mut impl Shell) {
        let mut events = std::mem::take(&mut self.events);
        self.session.send(sent_ns, |event| events.push(event));
        self.journey.sent(self.session.sent());
        for event in events.drain(..) {
            match event {
                Event::SlotEnds(index) => {
                    let slot = |into: &mut SlotStamps| shell.read_slot(index, into);
                    self.journey.copy_slot(index, slot);
                }
                Event::Forgotten(index, sent_ns) => {
                    let at_ns = sent_ns.or(self.due_ns(index));
                    let sent_unix_ns = self.unix_ns(at_ns.unwrap_or(self.setup.start_ns));
                    shell.forgotten(self.journey.forgotten(index, sent_ns, sent_unix_ns));
                }
            }
        }
        self.events = events;
    }

    /// A message arrived, and was read at `now`. Returns the probe that it answers first.
    pub fn reply(
        &mut self,
        reply: &Reply<'_>,
        now: u64,
        shell: &mut impl Shell,
    ) -> Option<Answered> {
        let Reply { message, from, ttl } = *reply;
        let Identity { session, peer, .. } = self.setup.identity;
        let packet = match packet::parse(message, self.setup.family) {
            Ok(p) if p.session != session => return None,
            Err(packet::Malformed::Magic) => return None,
            Ok(p) if from == peer && !p.request => p,
            Ok(_) | Err(_) => {
                shell.counters().malformed += 1;
                return None;
            }
        };
        if !packet.checksum_ok {
            shell.counters().bad_checksum += 1;
            // A version 0 peer computes about one checksum in a thousand wrong.
            if packet.version == Version::V1 {
                return None;
            }
        }
        if !self.key_check.admits(&packet, message) {
            shell.counters().untagged += 1;
            return None;
        }
        if packet.cookie != 0 {
            shell.keep_cookie(packet.cookie);
        }
        if warm_up::has_number(packet.sequence, self.session.sent()) {
            return None;
        }
        self.take_statuses(&packet, now);
        shell.extensions(&packet, self.journey.on_the_way());
        let dropped = self.journey.dropped(&packet);
        if !packet.is_stamp_packet() {
            return self.echo(&packet, ttl, now, shell);
        }
        if self.collecting
            && ProbeIndex::from_sequence(packet.sequence, self.session.sent()).is_none()
        {
            self.journey.late(&packet);
        } else if self.journey.remote(&packet) > 0 && !dropped {
            self.stamps_seen(StampReturn::by_packet(packet.version), shell);
        }
        None
    }

    /// An echo reply of the server's kernel.
    fn echo(
        &mut self,
        packet: &Packet<'_>,
        ttl: Option<Ttl>,
        now: u64,
        shell: &mut impl Shell,
    ) -> Option<Answered> {
        let sequence = packet.sequence;
        let Some(index) = ProbeIndex::from_sequence(sequence, self.session.sent()) else {
            if self.collecting {
                self.journey.late(packet);
            } else {
                shell.counters().malformed += 1;
            }
            return None;
        };
        let arrived = arrival_at_server(packet);
        match self.session.answer(index, now, arrived) {
            Answer::First(answer) => Some(self.answered(index, packet, answer, ttl, now, shell)),
            Answer::Duplicate {
                sent_ns,
                arrived: first,
            } => {
                count_duplicate(shell.counters(), first, arrived);
                let sent_unix_ns = self.unix_ns(sent_ns);
                let probe = self.journey.duplicate(sequence, sent_ns, sent_unix_ns, now);
                shell.duplicate(probe);
                None
            }
            Answer::Unmatched => {
                shell.counters().unmatched += 1;
                None
            }
        }
    }

    /// The first answer to a probe.
    fn answered(
        &mut self,
        index: ProbeIndex,
        packet: &Packet<'_>,
        answer: FirstAnswer,
        ttl: Option<Ttl>,
        now: u64,
        shell: &mut impl Shell,
    ) -> Answered {
        count_answer(shell.counters(), &answer);
        if let Some(id) = answer.amends {
            shell.found(id, answer.sent_ns);
        }
        let sent_ns = answer.sent_ns;
        let due_ns = self.due_ns(index).map(|due_ns| due_ns.min(sent_ns));
        let (woken, oncpu) = shell.last_sleep(now);
        let arrival = Arrival {
            index,
            due_ns,
            sent_ns,
            sent_cpu: shell.sent_cpu(index),
            sent_unix_ns: self.unix_ns(sent_ns),
            received_ns: now,
            ttl,
            woken,
            oncpu,
            status: status(&answer),
        };
        let deadline = self.next_ns(index, now) + self.setup.timeout_ns;
        let slot = |into: &mut SlotStamps| shell.read_slot(index, into);
        if self.journey.answered(arrival, packet, deadline, slot) {
            self.stamps_seen(StampReturn::Inband, shell);
        } else {
            self.no_stamps(now, shell);
        }
        Answered {
            sequence: packet.sequence,
            since_ns: due_ns.unwrap_or(sent_ns),
        }
    }

    /// Whether an ICMP error is about a packet to the peer, or one of the session's ids.
    pub fn is_concerned(&self, error: &IcmpError) -> bool {
        let Identity {
            session,
            peer,
            flows,
            ..
        } = self.setup.identity;
        error.concerns(session, flows, peer)
    }

    /// Takes an ICMP error, which is believed only if it quotes a probe in flight; false if it does not.
    pub fn icmp_error(&mut self, error: &IcmpError, shell: &mut impl Shell) -> bool {
        let Identity {
            session,
            peer,
            flows,
            ..
        } = self.setup.identity;
        let quoted = error.probe(session, flows, peer);
        let index = quoted.and_then(|low| ProbeIndex::from_low(low, self.session.sent()));
        let of_wake = error.probe(warm_up::Wake::session(session), flows, peer);
        let is_early = |low| warm_up::has_low(low, self.session.sent());
        let is_believed = of_wake.is_some()
            || quoted.is_some_and(is_early)
            || index.is_some_and(|index| self.session.is_in_flight(index));
        if is_believed {
            shell.icmp_error(error);
        }
        is_believed
    }

    /// What the server says of unanswered probes, read at `now`. One that was not overdue when the question
    /// was sent may have got further since.
    fn take_statuses(&mut self, packet: &Packet<'_>, now: u64) {
        let sent = self.session.sent();
        let asked = ProbeIndex::from_sequence(packet.sequence, sent);
        // A probe that only collects is sent when all others have been waited for.
        let asked_ns = asked.map_or(Some(u64::MAX), |index| self.session.sent_ns(index));
        let wait_ns = self.session.overdue_after_ns();
        let before_ns = asked_ns.unwrap_or(0).saturating_sub(wait_ns);
        for extension in packet.extensions() {
            let Extension::Window {
                back,
                running_ns,
                statuses,
            } = extension
            else {
                continue;
            };
            let seen_since_ns = now.saturating_sub(running_ns);
            let first = packet.sequence.back(back);
            for (sequence, status) in first.onward().zip(statuses) {
                let index = ProbeIndex::from_sequence(sequence, sent);
                let sent_ns = index.and_then(|index| self.session.sent_ns(index));
                if let (Some(index), Some(sent_ns), Some(status)) = (index, sent_ns, status)
                    && sent_ns <= before_ns
                {
                    let status = if sent_ns < seen_since_ns {
                        older(status)
                    } else {
                        status
                    };
                    self.session.note_status(index, status);
                }
            }
        }
    }

    /// The oldest probe in flight of which the server has not said anything, and whether it was sent at
    /// `before_ns` or before: then the next probes are to ask about it.
    pub fn open_probe(&mut self, before_ns: u64) -> Option<(ProbeIndex, bool)> {
        let index = self.session.oldest_open()?;
        let sent_ns = self.session.sent_ns(index);
        Some((index, sent_ns.is_some_and(|at| at <= before_ns)))
    }

    /// Every reply that had arrived at `at_ns` was read.
    pub fn drained(&mut self, at_ns: u64) {
        self.drained_ns = self.drained_ns.max(at_ns);
    }

    /// Every reply that had arrived by then was read.
    pub fn drained_ns(&self) -> u64 {
        self.drained_ns
    }

    /// Whether nothing has been sent and not answered for long enough, when nothing more has been sent since
    /// `done_ns`.
    pub fn is_over(&self, done_ns: u64, stopped_grace_ns: Option<u64>) -> bool {
        let wait_ns = stopped_grace_ns.unwrap_or_else(|| self.session.overdue_after_ns());
        self.session.in_flight() == 0 || self.drained_ns >= done_ns + wait_ns
    }

    /// Gives up overdue probes, but only after all packets in the socket were read: after a stall of this
    /// process they are the answers.
    pub fn expire(&mut self, shell: &mut impl Shell) {
        let statuses = self.asked == StampReturn::Inband && self.expects_stamps();
        while let Some(index) = self.session.expired(self.drained_ns, statuses) {
            self.lose(index, None, shell);
        }
    }

    /// Gives up a probe in flight, or one that could not be sent.
    pub fn lose(
        &mut self,
        index: ProbeIndex,
        send_error: Option<SendError>,
        shell: &mut impl Shell,
    ) {
        let Some(sent_ns) = self.session.sent_ns(index) else {
            return;
        };
        let sent_unix_ns = self.unix_ns(sent_ns);
        let slot = |into: &mut SlotStamps| shell.read_slot(index, into);
        let Unanswered {
            probe,
            drops,
            seen_here,
        } = self.journey.lost(index, sent_ns, sent_unix_ns, slot);
        let evidence = Evidence {
            silent: self.silent(&probe, shell),
            status: self.session.status(index),
            send_error,
            sees_queue: seen_here && shell.sees(Point::LTxDevqueue),
            sees_driver: seen_here && shell.sees(Point::LTxDevout),
        };
        let loss = autopsy(&probe, drops, evidence);
        let id = shell.lost(probe, loss);
        self.session.lose(index, id);
    }

    /// What can have dropped a probe without a notice.
    fn silent(&self, probe: &Probe, shell: &mut impl Shell) -> Option<Silent> {
        let arrived = probe.path.iter().rfind(|s| s.point == Point::LRxIprcv);
        let full = arrived.is_some_and(|s| self.overflows.at(s.ns));
        let last = probe.path.last()?;
        if full {
            return Some(Silent::SocketFull);
        }
        let here = last.host == Host::Client || probe.clock == ClockRelation::Same;
        let received = matches!(last.point, Point::MRxDevecho | Point::RRxDevrcv);
        (here && received && shell.ignores_echo(last.netns)).then_some(Silent::EchoIgnored)
    }

    /// Whether probes wait for stamps of the server.
    pub fn expects_stamps(&self) -> bool {
        self.negotiation.expects()
    }

    /// Whether stamps, or answers, may still come.
    pub fn awaits_stamps(&self) -> bool {
        self.expects_stamps() && (self.journey.waiting() > 0 || self.session.in_flight() > 0)
    }

    /// Replies to probes that were not announced by [`sent`](Self::sent) only bring stamps of others from now
    /// on.
    pub fn collect(&mut self) {
        self.collecting = true;
    }

    /// Passes on the probes whose stamps are complete at `now`; `u64::MAX`: all that were answered.
    pub fn hand_out(&mut self, now: u64, shell: &mut impl Shell) {
        let expects = self.expects_stamps();
        self.journey
            .finished(now, expects, |probe| shell.answered(probe));
    }

    /// Gives up the probes that were awaited for as long as any other; those that were not, as the run was
    /// ended, stay in flight.
    pub fn finish(&mut self, shell: &mut impl Shell) {
        self.hand_out(u64::MAX, shell);
        let overdue_ns = self.drained_ns.saturating_sub(self.setup.timeout_ns);
        for index in self.session.in_flight_since(overdue_ns) {
            self.lose(index, None, shell);
        }
    }

    /// Brings the counters of states up to date.
    pub fn count(&self, counters: &mut Counters) {
        let journey = self.journey.counts();
        counters.sent = self.session.sent();
        counters.in_flight = self.session.in_flight();
        counters.unknown_points = journey.unknown_points;
        counters.no_remote = journey.no_remote;
        counters.refused = journey.refused;
        counters.lost_stamps = journey.orphans;
    }

    /// When this probe is due, if there is a schedule; the first one may have been sent ahead of that.
    fn due_ns(&self, index: ProbeIndex) -> Option<u64> {
        Some(self.setup.start_ns + index.0 * self.setup.interval_ns?)
    }

    /// Upper bound on when the probe after this one, answered at `now`, is sent.
    fn next_ns(&self, index: ProbeIndex, now: u64) -> u64 {
        let due_ns = self.due_ns(ProbeIndex(index.0 + 1)).unwrap_or(0);
        due_ns.max(now + self.setup.interval_ns.unwrap_or(0))
    }

    /// Nanoseconds since the Unix epoch.
    pub fn unix_ns(&self, monotonic: u64) -> i64 {
        monotonic.cast_signed() + self.epoch_ns
    }

    fn stamps_seen(&mut self, way: StampReturn, shell: &mut impl Shell) {
        if self.negotiation.seen(way) {
            shell.mode(way);
        }
    }

    fn no_stamps(&mut self, now: u64, shell: &mut impl Shell) {
        let Some(next) = self.negotiation.missed(now, self.asked) else {
            return;
        };
        self.asked = next;
        shell.ask_for(next);
        if next == StampReturn::Inband {
            shell.mode(StampReturn::Pingpong);
        }
    }
}

/// When the probe of this reply arrived at the server.
fn arrival_at_server(packet: &Packet<'_>) -> Option<ServerNs> {
    let mut stamps = packet.entries().flatten();
    let arrival = stamps.find(|e| e.back == 0 && e.point == Point::RRxDevrcv)?;
    (packet.version == Version::V1).then_some(ServerNs(arrival.time))
}

/// What a server says of a probe that may have arrived before the server ran.
fn older(status: ServerStatus) -> ServerStatus {
    match status {
        ServerStatus::Unseen => ServerStatus::Forgotten,
        seen => seen,
    }
}

fn status(answer: &FirstAnswer) -> Status {
    match answer {
        FirstAnswer {
            amends: Some(_), ..
        } => Status::Amended,
        FirstAnswer { late: true, .. } => Status::Late,
        FirstAnswer { late: false, .. } => Status::Ok,
    }
}

fn count_answer(counters: &mut Counters, answer: &FirstAnswer) {
    let both = answer.arrivals;
    counters.replied += 1;
    counters.late += u64::from(answer.late);
    counters.reordered += u64::from(answer.overtaken);
    counters.reordered_out += u64::from(both.is_some_and(|(this, other)| this > other));
    counters.reordered_in += u64::from(both.is_some_and(|(this, other)| this <= other));
}

/// Counts a duplicate by direction: a duplicated request arrived at the server twice, a duplicated reply
/// reports the same arrival again.
fn count_duplicate(counters: &mut Counters, first: Option<ServerNs>, second: Option<ServerNs>) {
    if let Some((first, second)) = first.zip(second) {
        counters.dup_out += u64::from(first != second);
        counters.dup_in += u64::from(first == second);
    }
}

#[cfg(test)]
mod tests;

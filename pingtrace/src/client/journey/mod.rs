//! Joins the stamps of both ends of a probe, by session and sequence number, into one path.
//!
//! With a reply come the client's own stamps (from the table of slots) and the server's stamps up to the
//! last hook where a packet can be written. The server's later stamps, of its queueing discipline and
//! driver, come with a later reply or in a stamp packet; until then the probe waits here. The wait ends
//! with the stamps, after a fixed number of further replies (the stamps must have been lost), or at a deadline.

mod arrival;
mod early;
mod path;
mod pending;
mod server_drops;
mod transit;

pub use arrival::{Arrival, Identity, Unanswered};
pub use pending::stamp;
pub use transit::Hosts as HostsOnTheWay;

use crate::client::index::ProbeIndex;
use crate::client::slot_stamps::SlotStamps;
use crate::client::warm_up;
use crate::wire::entry::{Entry, PROVISIONAL, TRANSIT};
use crate::wire::extension::Extension;
use crate::wire::number::Sequence;
use crate::wire::packet::Packet;
use crate::wire::protocol::Version;
use early::Early;
use path::{Ends, Seen, lay, lay_all, user};
use pending::Pending;
use report::model::{ClockRelation, Host, KernelDrop, Netns, Point, Probe, Stamp, Status};
use server_drops::ServerDrops;
use std::collections::{BTreeMap, VecDeque};

/// Counts of what did not fit together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Entries with an unknown point.
    pub unknown_points: u64,
    /// Stamps for a probe that is no longer waited for.
    pub orphans: u64,
    /// Answered probes that ended without the server stamps they waited for.
    pub no_remote: u64,
    /// Probes whose slot was reused before it was read.
    pub evicted: u64,
    /// Stamps, drops and parts of names refused: more than a probe can have, or of none that was
    /// sent.
    pub refused: u64,
}

/// Late stamps travel with the next reply that has room: after this many replies they are lost.
const LATE_WITHIN: u64 = 64;
/// Upper bound on probes whose slot was copied before it was reused.
const MAX_COPIES: usize = 32_768;

/// Probes that wait for the rest of their stamps, oldest reply first.
pub struct Journey {
    identity: Identity,
    waiting: VecDeque<Pending>,
    spare: Vec<Pending>,
    /// Probes sent.
    sent: u64,
    early: Early,
    /// Contents of the slots of probes in flight when they were reused, by index.
    copies: BTreeMap<ProbeIndex, SlotStamps>,
    /// When the last reply that was read reached the socket, as far as that is known, ns.
    at_socket_ns: u64,
    drops: ServerDrops,
    /// Hosts on the way that stamp probes.
    on_the_way: transit::Hosts,
    /// The server runs on this kernel, in this namespace.
    server_netns: Option<Netns>,
    /// Replies so far.
    answered: u64,
    /// The 32-bit microseconds of a version 0 peer, continued in 64 bits.
    v0_clock_us: Option<u64>,
    scratch: Probe,
    counts: Counts,
}

impl Journey {
    /// Nothing waits yet.
    pub fn new(identity: Identity) -> Self {
        let scratch = Probe {
            seq: 0,
            sent_unix_ns: 0,
            peer: identity.peer,
            flow: 0,
            ttl: [None; 2],
            status: Status::Ok,
            clock: ClockRelation::Separate,
            path: Vec::new(),
        };
        Self {
            identity,
            // Most often one waits, and there may be many targets.
            waiting: VecDeque::with_capacity(1),
            spare: Vec::with_capacity(1),
            sent: 0,
            early: Early::default(),
            copies: BTreeMap::new(),
            at_socket_ns: 0,
            drops: ServerDrops::default(),
            on_the_way: transit::Hosts::default(),
            server_netns: None,
            answered: 0,
            v0_clock_us: None,
            scratch,
            counts: Counts::default(),
        }
    }

    /// What did not fit together so far.
    pub fn counts(&self) -> Counts {
        Counts {
            orphans: self.early.orphans,
            refused: self.counts.refused + self.drops.refused,
            ..self.counts
        }
    }

    /// Hosts on the way that stamp probes.
    pub fn on_the_way(&self) -> &HostsOnTheWay {
        &self.on_the_way
    }

    /// Sets the number of probes sent: stamps of others are refused.
    pub fn sent(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// Gives back the memory that is kept for the next probe.
    pub fn shrink(&mut self) {
        self.spare.clear();
        self.scratch.path = Vec::new();
    }

    /// Probes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A probe that was answered: takes the client's stamps, which `slot` reads (see
    /// [`copy_slot`](Self::copy_slot)), and those in the reply itself. Returns whether the reply carried
    /// server stamps.
    pub fn answered(
        &mut self,
        arrival: Arrival,
        packet: &Packet<'_>,
        deadline_ns: u64,
        slot: impl FnOnce(&mut SlotStamps) -> bool,
    ) -> bool {
        let mut p = self.spare.pop().unwrap_or_default();
        p.deadline_ns = deadline_ns;
        self.answered += 1;
        p.number = self.answered;
        self.take_slot(arrival.index, &mut p.here, slot);
        let mut reply = p.here.reply.iter();
        let at_socket = reply.rfind(|s| s.point == Point::LRxSkdataready);
        let at_socket = at_socket.map(|s| s.ns);
        self.at_socket_ns = self.at_socket_ns.max(at_socket.unwrap_or(0));
        // A sleep that ended before the reply reached the socket was another reply's.
        let after = |(ns, _): &(u64, u16)| at_socket.is_some_and(|socket| socket <= *ns);
        p.arrival = Some(Arrival {
            woken: arrival.woken.filter(after),
            oncpu: arrival.oncpu.filter(after),
            ..arrival
        });
        self.early.take_into(arrival.index, &mut p);
        self.waiting.push_back(p);
        self.remote(packet) > 0
    }

    /// Takes this host's stamps of a probe from its slot, or from the copy. Returns whether there was either.
    fn take_slot(
        &mut self,
        index: ProbeIndex,
        into: &mut SlotStamps,
        slot: impl FnOnce(&mut SlotStamps) -> bool,
    ) -> bool {
        let copied = self.copies.remove(&index);
        if slot(into) {
            self.counts.unknown_points += into.unknown;
            return true;
        }
        // The stamps read may be another probe's.
        match copied {
            Some(copied) => *into = copied,
            None => into.clear(),
        }
        let known = !into.is_empty();
        self.counts.evicted += u64::from(!known);
        known
    }

    /// Copies the slot of a probe in flight, which is about to be reused; beyond the limit the oldest copies
    /// are forgotten. `slot` reads it, and returns false if it was reused meanwhile.
    pub fn copy_slot(&mut self, index: ProbeIndex, slot: impl FnOnce(&mut SlotStamps) -> bool) {
        let mut copied = SlotStamps::default();
        if !self.take_slot(index, &mut copied, slot) {
            return;
        }
        if self.copies.len() >= MAX_COPIES {
            self.copies.pop_first();
        }
        self.copies.insert(index, copied);
    }

    /// Replies that reached the socket before this have been read, `CLOCK_MONOTONIC` ns.
    pub fn read_up_to_ns(&self) -> u64 {
        self.at_socket_ns
    }

    /// Stamps of the server, for this probe or for older ones; returns how many were taken.
    pub fn remote(&mut self, packet: &Packet<'_>) -> usize {
        self.take(packet, |_| true)
    }

    /// Only the stamps for older probes, of a reply that is no probe's itself.
    pub fn late(&mut self, packet: &Packet<'_>) {
        self.take(packet, |e| e.back != 0 && e.back != PROVISIONAL);
    }

    /// Takes the server's drop reports. Returns whether there were any.
    pub fn dropped(&mut self, packet: &Packet<'_>) -> bool {
        self.drops.take_from(packet, self.sent)
    }

    fn take(&mut self, packet: &Packet<'_>, wanted: impl Fn(&Entry) -> bool) -> usize {
        let mut taken = 0;
        self.on_the_way.learn(packet);
        for entry in packet.entries().filter(|e| e.is_none_or(|e| wanted(&e))) {
            let Some(mut e) = entry else {
                self.counts.unknown_points += 1;
                continue;
            };
            if packet.version == Version::V0 {
                if e.time == 0 || !is_remote(e.point) {
                    continue;
                }
                e.time = self.continue_v0_clock(e.time as u32);
            }
            if self.saw_it_all(&e) {
                continue;
            }
            let of_server = e.host & TRANSIT == 0;
            if !of_server {
                let Some(index) = self.on_the_way.index(e.host) else {
                    self.counts.refused += 1;
                    continue;
                };
                e.host = TRANSIT | index;
            }
            let back = if e.back == PROVISIONAL { 0 } else { e.back };
            let sequence = packet.sequence.back(back);
            if warm_up::has_number(sequence, self.sent) {
                continue;
            }
            let fits = if let Some(p) = self.find(sequence) {
                p.take(&e)
            } else {
                let index = ProbeIndex::from_sequence(sequence, self.sent);
                index.is_some_and(|index| self.early.keep(index, e))
            };
            self.counts.refused += u64::from(!fits);
            taken += usize::from(fits && of_server);
        }
        self.take_ttls(packet);
        taken
    }

    /// Takes the TTLs of requests whose replies are here.
    fn take_ttls(&mut self, packet: &Packet<'_>) {
        for extension in packet.extensions() {
            if let Extension::Ttl { ttl, back } = extension
                && let Some(p) = self.find(packet.sequence.back(back))
            {
                p.request_ttl = Some(ttl);
            }
        }
    }

    /// A stamp of this very kernel that the client's own programs took too: a late one, or any between the
    /// two ends.
    fn saw_it_all(&self, e: &Entry) -> bool {
        (e.host == 0 && e.back != 0 || e.host == TRANSIT) && !self.identity.own_namespace_only
    }

    /// Continues a version 0 peer's 32-bit microseconds (they wrap every 71.6 minutes), as ns.
    fn continue_v0_clock(&mut self, us: u32) -> u64 {
        let last = self.v0_clock_us.unwrap_or(u64::from(us));
        let step = i64::from(us.wrapping_sub(last as u32).cast_signed());
        let now = last.saturating_add_signed(step);
        self.v0_clock_us = Some(now);
        now * 1_000
    }

    /// Sequence numbers wait in the order of their replies; the one that is sought is most often
    /// the youngest or the one before.
    fn find(&mut self, sequence: Sequence) -> Option<&mut Pending> {
        self.waiting
            .iter_mut()
            .rev()
            .find(|p| p.arrival.is_some_and(|a| a.sequence() == sequence))
    }

    /// The server is on this kernel, and this host's own stamps are all there are.
    pub fn is_one_kernel(&self) -> bool {
        self.server_netns.is_some() && !self.identity.own_namespace_only
    }

    /// The path of an answered probe that waits, as far as it is known by now.
    pub fn path(&self, sequence: Sequence) -> Vec<Stamp> {
        let mut path = Vec::new();
        let waiting = self.waiting.iter().rev();
        let mut arrived = waiting.filter_map(|p| Some((p, p.arrival.as_ref()?)));
        if let Some((p, a)) = arrived.find(|(_, a)| a.sequence() == sequence) {
            lay_all(p, a, self.seen(p), &mut path);
        }
        path
    }

    /// Hands out every probe that is complete, or waited long enough. With `expect_remote` false
    /// no stamp of the server is waited for.
    pub fn finished(&mut self, now_ns: u64, expect_remote: bool, mut sink: impl FnMut(&Probe)) {
        while let Some(p) = self.waiting.front() {
            let late = self.overtaken(p) || now_ns >= p.deadline_ns;
            let complete = !expect_remote || self.complete(p);
            let all_there = complete && p.transit.is_complete();
            if !late && !all_there {
                break;
            }
            let Some(mut p) = self.waiting.pop_front() else {
                break;
            };
            self.counts.no_remote += u64::from(!complete);
            self.assemble(&p);
            sink(&self.scratch);
            p.clear();
            self.spare.push(p);
        }
    }

    /// Its stamps, known to the server before its reply came, should have come with the next ones.
    fn overtaken(&self, p: &Pending) -> bool {
        self.answered - p.number >= LATE_WITHIN
    }

    /// On one kernel the client's own programs saw everything but `icmp_rcv`.
    fn complete(&self, p: &Pending) -> bool {
        p.has_left() || (p.same_kernel && !self.identity.own_namespace_only && !p.remote.is_empty())
    }

    /// A probe that was not answered, with what both hosts saw of it and dropped. `slot` reads its slot.
    pub fn lost(
        &mut self,
        index: ProbeIndex,
        sent_ns: u64,
        sent_unix_ns: i64,
        slot: impl FnOnce(&mut SlotStamps) -> bool,
    ) -> Unanswered {
        let mut p = Pending::default();
        let seen_here = self.take_slot(index, &mut p.here, slot);
        let here = p.here.drop.take().map(|drop| self.located(drop));
        let drops = here.into_iter().chain(self.drops.remove(index)).collect();
        self.early.take_into(index, &mut p);
        p.remote.sort_by_key(|s| s.ns);
        let mut path = vec![user(Point::LTxUser, sent_ns, None)];
        lay(&p, self.seen(&p), &mut path);
        let mut probe = self.alone(index.sequence(), sent_unix_ns, Status::Lost, path);
        if p.same_kernel || self.server_netns.is_some() {
            probe.clock = self.one_clock();
        }
        Unanswered {
            probe,
            drops,
            seen_here,
        }
    }

    /// A probe of which nobody knows what became of it.
    pub fn forgotten(
        &mut self,
        index: ProbeIndex,
        sent_ns: Option<u64>,
        sent_unix_ns: i64,
    ) -> Probe {
        self.copies.remove(&index);
        let path = sent_ns.map(|ns| user(Point::LTxUser, ns, None));
        let path = path.into_iter().collect();
        self.alone(index.sequence(), sent_unix_ns, Status::Forgotten, path)
    }

    /// On one kernel, a drop is of the host at whose namespace it was.
    fn located(&self, drop: KernelDrop) -> KernelDrop {
        let host = match self.server_netns {
            Some(_) if self.identity.own_namespace_only => drop.host,
            Some(server) if server == drop.netns => Host::Server,
            Some(_) => self.ends(None).host(drop.netns),
            None => drop.host,
        };
        KernelDrop { host, ..drop }
    }

    /// The ends of a probe on one kernel, whose server was seen in this namespace.
    fn ends(&self, server: Option<Netns>) -> Ends {
        Ends {
            client: self.identity.netns,
            server: server.or(self.server_netns),
        }
    }

    /// How the clocks of two ends on one kernel relate.
    fn one_clock(&self) -> ClockRelation {
        if self.identity.two_hosts {
            ClockRelation::Separate
        } else {
            ClockRelation::Same
        }
    }

    /// A further answer to a probe that had one already.
    pub fn duplicate(
        &self,
        sequence: Sequence,
        sent_ns: u64,
        sent_unix_ns: i64,
        received_ns: u64,
    ) -> Probe {
        let path = vec![
            user(Point::LTxUser, sent_ns, None),
            user(Point::LRxUser, received_ns, None),
        ];
        self.alone(sequence, sent_unix_ns, Status::Dup, path)
    }

    fn alone(
        &self,
        sequence: Sequence,
        sent_unix_ns: i64,
        status: Status,
        path: Vec<Stamp>,
    ) -> Probe {
        Probe {
            seq: sequence.0,
            sent_unix_ns,
            peer: self.identity.peer,
            flow: self.identity.flows.of(sequence),
            ttl: [None; 2],
            status,
            clock: ClockRelation::Separate,
            path,
        }
    }

    /// Lays all stamps of a probe in path order.
    fn assemble(&mut self, p: &Pending) {
        let Some(a) = p.arrival else { return };
        if p.same_kernel {
            self.server_netns = p.server_netns().or(self.server_netns);
        }
        let mut path = std::mem::take(&mut self.scratch.path);
        path.clear();
        lay_all(p, &a, self.seen(p), &mut path);
        self.scratch = Probe {
            seq: a.sequence().0,
            sent_unix_ns: a.sent_unix_ns,
            peer: self.identity.peer,
            flow: self.identity.flows.of(a.sequence()),
            ttl: [p.request_ttl, a.ttl],
            status: a.status,
            clock: if p.same_kernel {
                self.one_clock()
            } else {
                ClockRelation::Separate
            },
            path,
        };
    }

    /// Whose stamps this host's programs took.
    fn seen(&self, p: &Pending) -> Seen {
        let same_kernel = p.same_kernel || p.arrival.is_none() && self.server_netns.is_some();
        if same_kernel && !self.identity.own_namespace_only {
            Seen::BothEnds(self.ends(p.server_netns()))
        } else {
            Seen::OwnHost
        }
    }
}

fn is_remote(point: Point) -> bool {
    matches!(
        point,
        Point::RRxIcmprcv | Point::RTxDevout | Point::RRxDevrcv
    )
}

#[cfg(test)]
mod tests;

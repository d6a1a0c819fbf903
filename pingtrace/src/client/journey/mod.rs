//! Joins the stamps of both ends of a probe, by session and sequence number, into one path.
//!
//! With a reply come the client's own stamps (from the table of slots) and the server's stamps up to the
//! last hook where a packet can be written. The server's later stamps, of its queueing discipline and
//! driver, come with a later reply or in a stamp packet; until then the probe waits here. The wait ends
//! with the stamps, after so many further replies that they must have been lost, or at a deadline.

use crate::client::session::index_of;
use crate::kernel::drops;
use crate::kernel::table::{REPLY, REQUEST, Table};
use crate::wire::packet::{About, Entry, Extension, PROVISIONAL, Packet, Version};
use bpf::pingtrace::types::{pt_drop, pt_stamp, pt_stamp_slot};
use report::model::{ClockRelation, Host, KernelDrop, Point, Probe, Stamp, Status, Symbol};
use std::collections::{BTreeMap, VecDeque};
use std::mem::offset_of;
use std::net::IpAddr;

/// What the client asks of a run, as far as joining needs it.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Session id.
    pub session: u32,
    /// The host that is probed.
    pub peer: IpAddr,
    /// Stamps of the own namespace only are wanted, so a server on the same kernel has its own.
    pub own_namespace_only: bool,
    /// The user wants one kernel to count as two hosts.
    pub two_hosts: bool,
}

/// What user space knows of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which probe; its low 32 bits are the sequence number.
    pub index: u64,
    /// `l_tx_due`, `CLOCK_MONOTONIC` ns, if there is a schedule.
    pub due_ns: Option<u64>,
    /// `l_tx_user`, `CLOCK_MONOTONIC` ns.
    pub sent_ns: u64,
    /// On this CPU, if that is still known.
    pub sent_cpu: Option<u16>,
    /// Wall-clock time of the send, ns since the Unix epoch.
    pub sent_unix_ns: i64,
    /// `l_rx_user`, `CLOCK_MONOTONIC` ns.
    pub received_ns: u64,
    /// Wake-up of the receiving thread, if it slept: ns and CPU.
    pub woken: Option<(u64, u16)>,
    /// When it ran again.
    pub oncpu: Option<(u64, u16)>,
    /// In time or late.
    pub status: Status,
}

impl Arrival {
    /// The sequence number.
    fn sequence(&self) -> u32 {
        self.index as u32
    }
}

/// A probe that was not answered.
pub struct Unanswered {
    /// With the stamps of both hosts.
    pub probe: Probe,
    /// What their kernels dropped of it.
    pub drops: Vec<KernelDrop>,
    /// Its slot was there: what has no stamp in it did not happen.
    pub seen_here: bool,
}

/// The contents of a probe's slot.
#[derive(Debug, Default)]
struct Copied {
    request: Vec<Stamp>,
    reply: Vec<Stamp>,
    drop: Option<pt_drop>,
}

/// Counts of what did not fit together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Entries with an unknown point.
    pub unknown_points: u64,
    /// Stamps for a probe that is no longer waited for.
    pub orphans: u64,
    /// Answered probes that ended without the server stamps they waited for.
    pub no_remote: u64,
    /// Probes whose record was reused before it was read.
    pub evicted: u64,
    /// Stamps, drops and parts of names refused: more than a probe can have, or of none that was
    /// sent.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Pending {
    arrival: Option<Arrival>,
    request: Vec<Stamp>,
    reply: Vec<Stamp>,
    remote: Vec<Stamp>,
    /// What this host's kernel dropped.
    drop: Option<pt_drop>,
    provisional: Option<Stamp>,
    same_kernel: bool,
    handed_over: bool,
    /// Which reply it was, from 1.
    number: u64,
    deadline_ns: u64,
}

/// Late stamps travel with the next reply that has room: after this many replies they are lost.
const LATE_WITHIN: u64 = 64;
/// Upper bound on probes whose stamps arrived before their reply.
const MAX_EARLY: usize = 8192;
/// Upper bound on such stamps, of all probes together: 40 bytes each.
const MAX_EARLY_STAMPS: usize = 65_536;
/// Upper bound on a server's stamps of a probe: those of a slot, in both directions.
const MAX_REMOTE: usize =
    (size_of::<pt_stamp_slot>() - offset_of!(pt_stamp_slot, stamp)) / size_of::<pt_stamp>();
/// Upper bound on the length of a kernel's name, bytes.
const MAX_NAME: usize = 255;
/// Upper bound on probes whose slot was copied before it was reused.
const MAX_COPIES: usize = 32_768;

/// Probes that wait for the rest of their stamps, oldest reply first.
pub struct Journey {
    identity: Identity,
    waiting: VecDeque<Pending>,
    spare: Vec<Pending>,
    /// Probes sent.
    sent: u64,
    /// Stamps that overtook their probe's own reply, by index.
    early: BTreeMap<u64, Vec<Entry>>,
    /// How many these are.
    early_stamps: usize,
    /// Contents of the slots of probes in flight when they were reused, by index.
    copies: BTreeMap<u64, Copied>,
    /// When the last reply that was read reached the socket, as far as that is known, ns.
    at_socket_ns: u64,
    /// What the server's kernel dropped, by index.
    drops: BTreeMap<u64, KernelDrop>,
    /// The server runs on this kernel, in this namespace.
    server_netns: Option<u32>,
    /// Replies so far.
    answered: u64,
    /// The 32-bit microseconds of a version 0 peer, continued in 64 bits.
    v0_clock_us: Option<u64>,
    scratch: Probe,
    /// What did not fit.
    pub counts: Counts,
}

impl Journey {
    /// Nothing waits yet.
    pub fn new(identity: Identity) -> Self {
        let scratch = Probe {
            seq: 0,
            sent_unix_ns: 0,
            peer: identity.peer,
            status: Status::Ok,
            clock: ClockRelation::Separate,
            path: Vec::new(),
        };
        Self {
            identity,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            sent: 0,
            early: BTreeMap::new(),
            early_stamps: 0,
            copies: BTreeMap::new(),
            at_socket_ns: 0,
            drops: BTreeMap::new(),
            server_netns: None,
            answered: 0,
            v0_clock_us: None,
            scratch,
            counts: Counts::default(),
        }
    }

    /// Sets the number of probes sent: stamps of others are refused.
    pub fn sent(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// Probes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A probe that was answered: takes the client's stamps, and those in the reply itself.
    /// Returns whether the reply carried server stamps.
    pub fn answered(
        &mut self,
        table: &Table,
        arrival: Arrival,
        packet: &Packet<'_>,
        deadline_ns: u64,
    ) -> bool {
        let mut p = self.spare.pop().unwrap_or_default();
        p.deadline_ns = deadline_ns;
        self.answered += 1;
        p.number = self.answered;
        self.take_record(table, arrival.index, &mut p);
        let at_socket = p.reply.iter().rfind(|s| s.point == Point::LRxSkdataready);
        let at_socket = at_socket.map(|s| s.ns);
        self.at_socket_ns = self.at_socket_ns.max(at_socket.unwrap_or(0));
        // A sleep that ended before the reply reached the socket was another reply's.
        let after = |(ns, _): &(u64, u16)| at_socket.is_some_and(|socket| socket <= *ns);
        p.arrival = Some(Arrival {
            woken: arrival.woken.filter(after),
            oncpu: arrival.oncpu.filter(after),
            ..arrival
        });
        self.take_early(arrival.index, &mut p);
        self.waiting.push_back(p);
        self.remote(packet) > 0
    }

    /// Takes this host's stamps of a probe from its slot, or from the copy. Returns whether there was either.
    fn take_record(&mut self, table: &Table, index: u64, p: &mut Pending) -> bool {
        let copied = self.copies.remove(&index);
        let mut unknown = 0;
        let read = table.read(self.identity.session, index as u32, |slot| {
            for (direction, into) in [(REQUEST, &mut p.request), (REPLY, &mut p.reply)] {
                slot.stamps(direction, |e| match e {
                    Some(e) => into.push(local(&e)),
                    None => unknown += 1,
                });
            }
            p.drop = slot.dropped();
        });
        if read.is_some() {
            self.counts.unknown_points += unknown;
            return true;
        }
        // The stamps read may be another probe's.
        let Copied {
            request,
            reply,
            drop,
        } = copied.unwrap_or_default();
        (p.request, p.reply, p.drop) = (request, reply, drop);
        let known = !p.request.is_empty() || !p.reply.is_empty() || p.drop.is_some();
        self.counts.evicted += u64::from(!known);
        known
    }

    /// Copies the slot of a probe in flight, which is about to be reused; beyond the limit the oldest copies
    /// are forgotten.
    pub fn copy_record(&mut self, table: &Table, index: u64) {
        let mut p = Pending::default();
        if !self.take_record(table, index, &mut p) {
            return;
        }
        if self.copies.len() >= MAX_COPIES {
            self.copies.pop_first();
        }
        let Pending {
            request,
            reply,
            drop,
            ..
        } = p;
        let copied = Copied {
            request,
            reply,
            drop,
        };
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

    fn take(&mut self, packet: &Packet<'_>, wanted: impl Fn(&Entry) -> bool) -> usize {
        let mut taken = 0;
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
            if e.back != 0 && self.saw_it_all(&e) {
                continue;
            }
            let back = if e.back == PROVISIONAL { 0 } else { e.back };
            let sequence = packet
                .sequence
                .wrapping_sub(i32::from(back).cast_unsigned());
            match self.find(sequence) {
                Some(p) => {
                    let taken = p.take(&e);
                    self.counts.refused += u64::from(!taken);
                }
                None => self.keep(sequence, e),
            }
            taken += 1;
        }
        taken
    }

    /// Takes the server's drop reports. Returns whether there were any.
    pub fn dropped(&mut self, packet: &Packet<'_>) -> bool {
        let mut any = false;
        for extension in packet.extensions() {
            match extension {
                Extension::Drop {
                    ns,
                    netns,
                    ifindex,
                    reply,
                    back,
                } => {
                    let drop = KernelDrop {
                        host: Host::Server,
                        reply,
                        ns,
                        netns,
                        ifindex,
                        reason: Symbol::default(),
                        location: Symbol::default(),
                        device: None,
                        netns_name: None,
                        mtu: None,
                    };
                    any |= self.keep_drop(packet.sequence.wrapping_sub(u32::from(back)), drop);
                }
                Extension::Text { about, text, back } => {
                    let sequence = packet.sequence.wrapping_sub(u32::from(back));
                    let index = index_of(sequence, self.sent);
                    let drop = index.and_then(|index| self.drops.get_mut(&index));
                    if let Some(name) = drop.and_then(|drop| name(drop, about)) {
                        let name = name.get_or_insert_default();
                        if name.len() + text.len() <= MAX_NAME {
                            name.push_str(&text);
                        } else {
                            self.counts.refused += 1;
                        }
                    }
                }
                Extension::Window { .. } => {}
            }
        }
        any
    }

    /// For a reply that is still on its way, or lost; the oldest are forgotten.
    fn keep(&mut self, sequence: u32, e: Entry) {
        let index = index_of(sequence, self.sent);
        let full = |index: &u64| {
            self.early
                .get(index)
                .is_some_and(|of| of.len() >= MAX_REMOTE)
        };
        let Some(index) = index.filter(|index| !full(index)) else {
            self.counts.refused += 1;
            return;
        };
        while self.early.len() >= MAX_EARLY || self.early_stamps >= MAX_EARLY_STAMPS {
            let forgotten = self.early.pop_first();
            let forgotten = forgotten.map_or(0, |(_, stamps)| stamps.len());
            self.early_stamps -= forgotten;
            self.counts.orphans += forgotten as u64;
        }
        self.early.entry(index).or_default().push(e);
        self.early_stamps += 1;
    }

    /// Stamps that came before the probe was known to be answered, or lost.
    fn take_early(&mut self, index: u64, p: &mut Pending) {
        let early = self.early.remove(&index).unwrap_or_default();
        self.early_stamps -= early.len();
        for e in early {
            p.take(&e);
        }
    }

    /// For a probe that is in flight; the oldest are forgotten. Whether it was sent at all.
    fn keep_drop(&mut self, sequence: u32, drop: KernelDrop) -> bool {
        let Some(index) = index_of(sequence, self.sent) else {
            self.counts.refused += 1;
            return false;
        };
        if self.drops.len() >= MAX_EARLY {
            self.drops.pop_first();
        }
        self.drops.insert(index, drop);
        true
    }

    /// A stamp of this very kernel, whose late ones the client's own programs took too.
    fn saw_it_all(&self, e: &Entry) -> bool {
        e.host == 0 && !self.identity.own_namespace_only
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
    fn find(&mut self, sequence: u32) -> Option<&mut Pending> {
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
    pub fn path(&self, sequence: u32) -> Vec<Stamp> {
        let mut path = Vec::new();
        let waiting = self.waiting.iter().rev();
        let mut arrived = waiting.filter_map(|p| Some((p, p.arrival.as_ref()?)));
        if let Some((p, a)) = arrived.find(|(_, a)| a.sequence() == sequence) {
            self.lay_all(p, a, &mut path);
        }
        path
    }

    /// Hands out every probe that is complete, or waited long enough. With `expect_remote` false
    /// nothing is waited for.
    pub fn finished(&mut self, now_ns: u64, expect_remote: bool, mut sink: impl FnMut(&Probe)) {
        while let Some(p) = self.waiting.front() {
            let overtaken = self.overtaken(p);
            let due = now_ns >= p.deadline_ns;
            if expect_remote && !overtaken && !due && !self.complete(p) {
                break;
            }
            let Some(p) = self.waiting.pop_front() else {
                break;
            };
            if expect_remote && !self.complete(&p) {
                self.counts.no_remote += 1;
            }
            self.assemble(&p);
            sink(&self.scratch);
            self.recycle(p);
        }
    }

    /// Its stamps, known to the server before its reply came, should have come with the next ones.
    fn overtaken(&self, p: &Pending) -> bool {
        self.answered - p.number >= LATE_WITHIN
    }

    /// On one kernel the client's own programs saw everything but `icmp_rcv`.
    fn complete(&self, p: &Pending) -> bool {
        p.handed_over
            || (p.same_kernel && !self.identity.own_namespace_only && !p.remote.is_empty())
    }

    /// A probe that was not answered, with what both hosts saw of it and dropped.
    pub fn lost(
        &mut self,
        table: &Table,
        index: u64,
        sent_ns: u64,
        sent_unix_ns: i64,
    ) -> Unanswered {
        let seq = index as u32;
        let mut p = Pending::default();
        let seen_here = self.take_record(table, index, &mut p);
        let mut drops: Vec<_> = p.drop.iter().map(|d| self.dropped_here(d)).collect();
        drops.extend(self.drops.remove(&index));
        self.take_early(index, &mut p);
        p.remote.sort_by_key(|s| s.ns);
        let mut path = vec![user(Point::LTxUser, sent_ns, None)];
        self.lay(&p, &mut path);
        let mut probe = self.alone(seq, sent_unix_ns, Status::Lost, path);
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
    pub fn forgotten(&mut self, index: u64, sent_ns: Option<u64>, sent_unix_ns: i64) -> Probe {
        let seq = index as u32;
        self.copies.remove(&index);
        let path = sent_ns.map(|ns| user(Point::LTxUser, ns, None));
        self.alone(
            seq,
            sent_unix_ns,
            Status::Forgotten,
            path.into_iter().collect(),
        )
    }

    /// On one kernel, the server's drops are those in its namespace.
    fn dropped_here(&self, drop: &pt_drop) -> KernelDrop {
        let mut drop = drops::local(drop);
        if !self.identity.own_namespace_only && self.server_netns == Some(drop.netns) {
            drop.host = Host::Server;
        }
        drop
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
    pub fn duplicate(&self, seq: u32, sent_ns: u64, sent_unix_ns: i64, received_ns: u64) -> Probe {
        let path = vec![
            user(Point::LTxUser, sent_ns, None),
            user(Point::LRxUser, received_ns, None),
        ];
        self.alone(seq, sent_unix_ns, Status::Dup, path)
    }

    fn alone(&self, seq: u32, sent_unix_ns: i64, status: Status, path: Vec<Stamp>) -> Probe {
        Probe {
            seq,
            sent_unix_ns,
            peer: self.identity.peer,
            status,
            clock: ClockRelation::Separate,
            path,
        }
    }

    fn recycle(&mut self, mut p: Pending) {
        p.arrival = None;
        p.request.clear();
        p.reply.clear();
        p.remote.clear();
        p.drop = None;
        p.provisional = None;
        p.same_kernel = false;
        p.handed_over = false;
        self.spare.push(p);
    }

    /// Lays all stamps of a probe in path order.
    fn assemble(&mut self, p: &Pending) {
        let Some(a) = p.arrival else { return };
        if p.same_kernel {
            self.server_netns = p.server_netns().or(self.server_netns);
        }
        let mut path = std::mem::take(&mut self.scratch.path);
        path.clear();
        self.lay_all(p, &a, &mut path);
        self.scratch = Probe {
            seq: a.sequence(),
            sent_unix_ns: a.sent_unix_ns,
            peer: self.identity.peer,
            status: a.status,
            clock: if p.same_kernel {
                self.one_clock()
            } else {
                ClockRelation::Separate
            },
            path,
        };
    }

    /// All stamps, those of user space too.
    fn lay_all(&self, p: &Pending, a: &Arrival, path: &mut Vec<Stamp>) {
        let of_thread =
            |point, at: Option<(u64, u16)>| at.map(|(ns, cpu)| user(point, ns, Some(cpu)));
        path.extend(a.due_ns.map(|ns| user(Point::LTxDue, ns, None)));
        path.push(user(Point::LTxUser, a.sent_ns, a.sent_cpu));
        self.lay(p, path);
        path.extend(of_thread(Point::LRxWakeup, a.woken));
        path.extend(of_thread(Point::LRxOncpu, a.oncpu));
        path.push(user(Point::LRxUser, a.received_ns, None));
    }

    /// The stamps of both hosts' kernels.
    fn lay(&self, p: &Pending, path: &mut Vec<Stamp>) {
        let same_kernel = p.same_kernel || p.arrival.is_none() && self.server_netns.is_some();
        if same_kernel && !self.identity.own_namespace_only {
            one_kernel(p, p.server_netns().or(self.server_netns), path);
        } else {
            two_ends(p, path);
        }
    }
}

impl Pending {
    /// False if it is more than a probe can have.
    fn take(&mut self, e: &Entry) -> bool {
        let stamp = Stamp {
            host: Host::Server,
            ..local(e)
        };
        if e.host == 0 {
            self.same_kernel = true;
        }
        if e.back == PROVISIONAL {
            self.provisional = Some(stamp);
            return true;
        }
        // What was handed over with another reply may come again with the probe's own.
        let known = self.remote.contains(&stamp);
        if !known && self.remote.len() >= MAX_REMOTE {
            return false;
        }
        self.handed_over |= e.point == Point::RTxDevout;
        if !known {
            self.remote.push(stamp);
        }
        true
    }

    /// The namespace of the server's last receive.
    fn server_netns(&self) -> Option<u32> {
        let mut received = self.remote.iter().rev();
        let last = received.find(|s| s.point == Point::RRxDevrcv);
        last.map(|s| s.netns)
    }
}

/// The name of a drop that a text gives.
fn name(drop: &mut KernelDrop, about: About) -> Option<&mut Option<String>> {
    match about {
        About::Reason => Some(&mut drop.reason.name),
        About::Location => Some(&mut drop.location.name),
        About::Device => Some(&mut drop.device),
        About::Netns => Some(&mut drop.netns_name),
        About::Blame => None,
    }
}

/// Each end reported its own stamps.
fn two_ends(p: &Pending, path: &mut Vec<Stamp>) {
    path.extend(&p.request);
    path.extend(first_poll_only(&p.remote));
    let queued = p.remote.iter().any(|s| s.point == Point::RTxDevqueue);
    path.extend(p.provisional.filter(|_| !queued));
    path.extend(first_poll_only(&p.reply));
}

/// One kernel: the client's programs saw the server's hops too. Those in the server's namespace
/// (where its last receive was) are the server's; everything else is the client host's.
fn one_kernel(p: &Pending, server_ns: Option<u32>, path: &mut Vec<Stamp>) {
    let of_server = |s: &Stamp, point| Stamp {
        point,
        host: Host::Server,
        ..*s
    };
    for s in &p.request {
        match s.point {
            Point::MRxDevecho if Some(s.netns) == server_ns => {
                path.push(of_server(s, Point::RRxDevrcv));
            }
            Point::RRxSoftirq | Point::RRxNapi if Some(s.netns) == server_ns => {
                path.push(of_server(s, s.point));
            }
            Point::RRxSoftirq | Point::RRxNapi => {}
            _ => path.push(*s),
        }
    }
    path.extend(p.remote.iter().filter(|s| s.point == Point::RRxIcmprcv));
    for s in first_poll_only(&p.reply) {
        match s.point {
            Point::MTxQueuereply if Some(s.netns) == server_ns => {
                path.push(of_server(s, Point::RTxDevqueue));
            }
            Point::MTxDevreply if Some(s.netns) == server_ns => {
                path.push(of_server(s, Point::RTxDevout));
            }
            _ => path.push(*s),
        }
    }
}

/// The softirq and NAPI stamps of the first receive alone: those of later devices of the same
/// host are no wait for the wire.
fn first_poll_only(stamps: &[Stamp]) -> impl Iterator<Item = &Stamp> {
    let first = stamps
        .iter()
        .position(|s| matches!(s.point, Point::RRxDevrcv | Point::LRxIprcv));
    stamps
        .iter()
        .enumerate()
        .filter(move |(i, s)| {
            let poll = matches!(
                s.point,
                Point::RRxSoftirq | Point::RRxNapi | Point::LRxSoftirq | Point::LRxNapi
            );
            !poll || first.is_none_or(|f| *i < f)
        })
        .map(|(_, s)| s)
}

fn is_remote(point: Point) -> bool {
    matches!(
        point,
        Point::RRxIcmprcv | Point::RTxDevout | Point::RRxDevrcv
    )
}

/// A stamp of the client's own programs.
fn local(e: &Entry) -> Stamp {
    Stamp {
        point: e.point,
        host: Host::Client,
        ns: e.time,
        cpu: e.cpu,
        ifindex: e.ifindex,
        netns: e.netns,
    }
}

fn user(point: Point, ns: u64, cpu: Option<u16>) -> Stamp {
    Stamp {
        point,
        host: Host::Client,
        ns,
        cpu,
        ifindex: 0,
        netns: 0,
    }
}

#[cfg(test)]
mod tests;

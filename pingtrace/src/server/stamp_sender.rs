//! Stamp packets: what the programs owe to clients that cannot be stamped in band, or of which
//! stamps came later.

use super::names::Names;
use super::slot::{
    address, family, is_own_reply, is_trusted, left_by, notified, packet, probe, stamps,
};
use crate::capture::explain::Explainer;
use crate::kernel::table::Table;
use crate::server::reports::{self, DropReports};
use crate::units::monotonic_ns;
use crate::wire::entry::Entry;
use crate::wire::extension::Extension;
use crate::wire::key::Keys;
use crate::wire::number::{Sequence, SessionId};
use crate::wire::protocol::{Family, Version};
use crate::wire::socket::ProbeSocket;
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_pending, pt_pending_kind, pt_stamp_slot, pt_state};
use report::analysis::blame;
use report::model::{Direction, Host, Netns, Stamp, Ttl};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Slots, about 1.6 kB each: requests whose replies have not left yet.
pub const SLOTS: u32 = 8192;
/// Stamp packets a second: to one client, and to all.
const SOURCE_RATE: u64 = 20_000;
const TOTAL_RATE: u64 = 50_000;
/// Upper bounds on clients whose rate is remembered, and on local addresses with a socket.
const MAX_SOURCES: usize = 4096;
const MAX_SOCKETS: usize = 64;

/// Sends pending stamps to clients.
pub struct StampSender {
    /// By slot: session and sequence number of the last stamps sent, and how many of the reply those were.
    done: Vec<(SessionId, Sequence, u16)>,
    sockets: HashMap<SocketAddr, ProbeSocket>,
    limits: Limits,
    pub drops: DropReports,
    pub explainer: Option<Explainer>,
    /// Absent if none are to be sent.
    names: Option<Names>,
    /// Stamp packets have a tag, if there are any.
    keys: Option<Keys>,
    /// Number of slow probes whose blame was sent.
    pub blamed: u64,
    /// Requests have come with the tag of another key, and nobody was told yet.
    pub other_key: bool,
    pub sent: u64,
    pub limited: u64,
    pub failed: u64,
    /// Slots that were reused before their packet was sent.
    pub reused: u64,
}

impl StampSender {
    /// Nothing is pending yet.
    pub fn new(
        own_netns: Netns,
        explainer: Option<Explainer>,
        names: Option<Names>,
        keys: Option<Keys>,
    ) -> Self {
        Self {
            keys,
            explainer,
            drops: DropReports::new(own_netns, names.is_some()),
            names,
            blamed: 0,
            done: vec![Default::default(); SLOTS as usize],
            sockets: HashMap::new(),
            limits: Limits::default(),
            other_key: false,
            sent: 0,
            limited: 0,
            failed: 0,
            reused: 0,
        }
    }

    /// When to continue without any event, `CLOCK_MONOTONIC` ns.
    pub fn wake_at(&self, deadline: Option<u64>) -> Option<u64> {
        self.drops.wake_at().into_iter().chain(deadline).min()
    }

    /// Number of places whose names clients did not get.
    pub fn nameless(&self) -> u64 {
        self.names.as_ref().map_or(0, Names::nameless)
    }

    /// Looks at the names again if devices have changed.
    pub fn devices_changed(&mut self, any: bool) {
        if let Some(names) = self.names.as_mut().filter(|_| any) {
            names.devices_changed();
        }
    }

    /// Takes new events; returns the probes whose stamps can be sent now.
    fn ready(&mut self, table: &Table, pending: &mut Vec<pt_pending>) -> Vec<pt_stamp_slot> {
        let mut ready = Vec::new();
        for o in pending.drain(..) {
            match pt_pending_kind(o.what) {
                pt_pending_kind::PT_PENDING_DROP => self.drops.add(monotonic_ns(), o),
                pt_pending_kind::PT_PENDING_BLAME => self.blame(table, &o),
                // Only wakes this process.
                pt_pending_kind::PT_PENDING_RECEIVER => {}
                pt_pending_kind::PT_PENDING_OTHER_KEY => self.other_key = true,
                pt_pending_kind::PT_PENDING_NAME => {
                    self.names.iter_mut().for_each(|names| names.wanted(&o));
                }
                _ => ready.extend(self.unsent(table, &o)),
            }
        }
        ready
    }

    /// The slot of an event, unless its stamps were sent already. A reply in the queue of a further device
    /// will have an event again.
    fn unsent(&mut self, table: &Table, o: &pt_pending) -> Option<pt_stamp_slot> {
        let slot = self.slot(table, o).filter(has_left)?;
        let (session, sequence) = probe(&slot);
        let stamps = (session, sequence, slot.used[Direction::Reply as usize]);
        let done = self.done.get_mut(o.slot as usize)?;
        (std::mem::replace(done, stamps) != stamps).then_some(slot)
    }

    /// The slot of an event, if it was not reused and this namespace answered the probe.
    fn slot(&mut self, table: &Table, o: &pt_pending) -> Option<pt_stamp_slot> {
        let slot = table.copy(o.slot);
        if probe(&slot) != notified(o) {
            self.reused += 1;
            return None;
        }
        is_own_reply(&slot).then_some(slot)
    }

    /// Sends blame to the client of a probe that stayed long in this host.
    fn blame(&mut self, table: &Table, o: &pt_pending) {
        let Some(slot) = self.slot(table, o) else {
            return;
        };
        // A client on this kernel explains it itself.
        if slot.version == 0 || slot.host == 0 {
            return;
        }
        let Some(explainer) = &mut self.explainer else {
            return;
        };
        let path: Vec<Stamp> = stamps(&slot, 0).iter().map(at_server).collect();
        let windows = blame::windows(&path, Host::Server, explainer.min_ns());
        let blame = explainer.blame(&windows);
        let Some(message) = reports::blame_message(&slot, &blame) else {
            return;
        };
        self.blamed += 1;
        let device = left_by(&slot);
        let (from, to) = (address(&slot.local, device), address(&slot.peer, device));
        self.transmit(from, to, family(&slot), message);
    }

    /// Sends what is ready: one packet a probe in version 0, as many probes as fit in version 1.
    pub fn send(&mut self, table: &Table, pending: &mut Vec<pt_pending>) {
        let mut ready = self.ready(table, pending);
        ready.sort_by_key(|slot| (slot.peer, slot.session));
        let mut rest = ready.as_slice();
        while let Some(first) = rest.first() {
            let max_batch = if first.version == 0 { 1 } else { MAX_BATCH };
            let same =
                |slot: &&pt_stamp_slot| slot.peer == first.peer && slot.session == first.session;
            let batch = rest.iter().take(max_batch).take_while(same).count();
            let taken = self.send_some(&rest[..batch]);
            rest = &rest[taken..];
        }
        for report in self.drops.due(table, monotonic_ns()) {
            self.transmit(report.from, report.to, report.family, report.message);
        }
    }

    /// Sends the stamps of as many of these probes of one session as fit; returns how many.
    fn send_some(&mut self, batch: &[pt_stamp_slot]) -> usize {
        let head = &batch[0];
        let family = family(head);
        let version = if head.version == 0 {
            Version::V0
        } else {
            Version::V1
        };
        let (_, sequence) = probe(head);
        let mut packet = packet(head, version);
        let (mut taken, mut sent) = (0, Vec::new());
        for slot in batch {
            let back = sequence.since(probe(slot).1).cast_signed();
            let Ok(back) = i16::try_from(back) else {
                break;
            };
            let entries = stamps(slot, back);
            if taken > 0 && entries.len() > packet.room() {
                break;
            }
            for e in &entries {
                packet.push(e);
            }
            if let Some(ttl) = Ttl::new(slot.ttl) {
                packet.push_extension(&Extension::Ttl { ttl, back });
            }
            taken += 1;
            sent.extend(entries);
        }
        if let Some(names) = self.names.as_mut().filter(|_| is_trusted(head)) {
            names.fill(&mut packet, &sent);
        }
        let device = left_by(head);
        self.transmit(
            address(&head.local, device),
            address(&head.peer, device),
            family,
            packet.finish(),
        );
        taken
    }

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, family: Family, mut message: Vec<u8>) {
        if let Some(keys) = &self.keys {
            keys.tag_packet(&mut message, family);
        }
        if !self.limits.take(monotonic_ns(), to) {
            self.limited += 1;
            return;
        }
        match self
            .socket(from, family)
            .and_then(|s| Ok(s.send(&message, &to.into())?))
        {
            Ok(()) => self.sent += 1,
            Err(e) => {
                self.failed += 1;
                log::debug!("cannot send a stamp packet to {}: {e:#}", to.ip());
            }
        }
    }

    /// A socket that sends from the address that was probed.
    fn socket(&mut self, from: SocketAddr, family: Family) -> Result<&ProbeSocket> {
        if self.sockets.len() >= MAX_SOCKETS && !self.sockets.contains_key(&from) {
            self.sockets.clear();
        }
        if let std::collections::hash_map::Entry::Vacant(e) = self.sockets.entry(from) {
            e.insert(ProbeSocket::sender(family, from)?);
        }
        self.sockets.get(&from).context("no socket")
    }
}

/// Probes in one stamp packet; their distance must fit in 16 bits.
const MAX_BATCH: usize = 64;

/// Whether no device of this host queues the reply any more.
fn has_left(slot: &pt_stamp_slot) -> bool {
    slot.state & pt_state::PT_REC_OUT.0 as u16 != 0
}

/// A stamp of this host.
fn at_server(e: &Entry) -> Stamp {
    Stamp {
        point: e.point,
        host: Host::Server,
        ns: e.time,
        cpu: e.cpu,
        ifindex: e.ifindex,
        netns: e.netns,
        flags: e.flags,
    }
}

/// What keeps a flood of requests from becoming a flood of stamp packets.
#[derive(Debug, Default)]
struct Limits {
    sources: HashMap<SocketAddr, Bucket>,
    total: Bucket,
}

impl Limits {
    /// Whether one more packet may go to this client now.
    fn take(&mut self, now: u64, to: SocketAddr) -> bool {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&to) {
            self.sources.clear();
        }
        let source = self.sources.entry(to).or_default();
        source.take(now, SOURCE_RATE) && self.total.take(now, TOTAL_RATE)
    }
}

/// A token bucket that holds a tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When the bucket would have been empty, monotonic ns.
    empty_ns: u64,
}

impl Bucket {
    fn take(&mut self, now: u64, per_second: u64) -> bool {
        const BURST_NS: u64 = 100_000_000;
        let empty = self.empty_ns.max(now.saturating_sub(BURST_NS));
        let after = empty + crate::units::SECOND / per_second;
        if after > now {
            return false;
        }
        self.empty_ns = after;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let start = 10 * crate::units::SECOND;
        let burst = (0..1000).filter(|_| bucket.take(start, 1000)).count();
        assert_eq!(burst, 100);
        let later = start + crate::units::SECOND / 100;
        assert_eq!((0..1000).filter(|_| bucket.take(later, 1000)).count(), 10);
    }

    #[test]
    fn many_sources_share_one_limit_and_little_memory() {
        let mut limits = Limits::default();
        let start = 10 * crate::units::SECOND;
        let client = |n: usize| SocketAddr::new(Ipv6Addr::from(n as u128).into(), 0);
        let burst = |limits: &mut Limits, now, sources: usize, each: usize| {
            let asked = (0..sources * each).map(|n| client(n % sources));
            asked.filter(|to| limits.take(now, *to)).count() as u64
        };
        assert_eq!(burst(&mut limits, start, 1, 9_000), SOURCE_RATE / 10);
        let rest = (TOTAL_RATE - SOURCE_RATE) / 10;
        assert_eq!(burst(&mut limits, start, 90_000, 1), rest);
        assert!(limits.sources.len() <= MAX_SOURCES);
        let later = start + crate::units::SECOND / 100;
        assert_eq!(burst(&mut limits, later, 9_000, 1), TOTAL_RATE / 100);
    }
}

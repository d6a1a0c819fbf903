//! Stamp packets: what the programs owe to clients that cannot be stamped in band, or of which
//! stamps came later.
//!
//! A probe has at most one packet on top of the kernel's reply, no longer than its request, and only if it is
//! proven: its source has returned a cookie. The stamps of a probe that has no packet of its own wait in its
//! slot for that of a later probe of the session.

use super::clients::Clients;
use super::limits::{Counts, Limits, Withheld};
use super::names::Names;
use super::slot::{
    self, address, family, is_own_reply, is_trusted, left_by, notified, probe, stamps,
};
use crate::capture::explain::Explainer;
use crate::kernel::table::Table;
use crate::server::reports::{DropReports, Report};
use crate::units::monotonic_ns;
use crate::wire::entry::Entry;
use crate::wire::extension::{About, Extension};
use crate::wire::key::Keys;
use crate::wire::layout::TEXT;
use crate::wire::number::{Sequence, SessionId};
use crate::wire::protocol::Family;
use crate::wire::socket::ProbeSocket;
use crate::wire::stamp_packet::StampPacket;
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_pending, pt_pending_kind, pt_stamp_slot};
use report::analysis::blame;
use report::model::{Blame, Direction, Host, Netns, Stamp, Ttl};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Slots, about 1.6 kB each: requests whose replies have not left yet.
pub const SLOTS: u32 = 8192;
/// Upper bound on local addresses with a socket.
const MAX_SOCKETS: usize = 64;
/// Upper bound on probes whose stamps wait for a later packet.
const MAX_WAITING: usize = 2 * SLOTS as usize;
/// How many sequence numbers back a probe may be whose stamps another one's packet carries.
const MAX_BACK: u16 = 64;

/// A probe, and how many of its reply's stamps there are.
type Known = (SessionId, Sequence, u16);

/// Sends pending stamps to clients.
pub struct StampSender {
    /// By slot: the last stamps sent.
    done: Vec<Option<Known>>,
    /// Slots of probes whose stamps may have to be sent.
    waiting: HashMap<(SessionId, Sequence), u32>,
    /// By slot: the last probe that had its packet.
    spent: Vec<Option<(SessionId, Sequence)>>,
    sockets: HashMap<SocketAddr, ProbeSocket>,
    pub limits: Limits,
    /// Stamp packets of version 0 may be longer than their requests.
    long_v0: bool,
    pub drops: DropReports,
    pub explainer: Option<Explainer>,
    /// Whom it serves.
    pub clients: Clients,
    /// Absent if none are to be sent.
    names: Option<Names>,
    /// Stamp packets have a tag, if there are any.
    pub keys: Option<Keys>,
    /// Number of slow probes whose blame was sent.
    pub blamed: u64,
    /// Requests have come with the tag of another key, and nobody was told yet.
    pub other_key: bool,
    pub sent: u64,
    /// Packets that had only a cookie.
    pub cookies: u64,
    pub withheld: Counts,
    pub failed: u64,
    /// Slots that were reused before their packet was sent.
    pub reused: u64,
}

/// A packet that is being filled, and whose stamps are in it.
struct Filling {
    packet: StampPacket,
    entries: Vec<Entry>,
    parts: Vec<(u32, Known)>,
}

impl StampSender {
    /// Nothing is pending yet.
    pub fn new(
        own_netns: Netns,
        explainer: Option<Explainer>,
        names: Option<Names>,
        keys: Option<Keys>,
        clients: Clients,
        long_v0: bool,
    ) -> Self {
        Self {
            keys,
            explainer,
            clients,
            drops: DropReports::new(own_netns, names.is_some()),
            names,
            blamed: 0,
            done: vec![None; SLOTS as usize],
            waiting: HashMap::new(),
            spent: vec![None; SLOTS as usize],
            sockets: HashMap::new(),
            limits: Limits::default(),
            other_key: false,
            long_v0,
            sent: 0,
            cookies: 0,
            withheld: Counts::default(),
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

    /// Takes new events, and sends what is due. The youngest probe comes first: its packet has room for older
    /// ones.
    pub fn send(&mut self, table: &Table, pending: &mut Vec<pt_pending>) {
        let mut probes = Vec::new();
        for event in pending.drain(..) {
            match pt_pending_kind(event.what) {
                pt_pending_kind::PT_PENDING_DROP => self.drops.add(monotonic_ns(), event),
                // Only wakes this process.
                pt_pending_kind::PT_PENDING_WAKE => {}
                pt_pending_kind::PT_PENDING_OTHER_KEY => self.other_key = true,
                pt_pending_kind::PT_PENDING_NAME => {
                    self.names.iter_mut().for_each(|names| names.wanted(&event));
                }
                _ => probes.push(event),
            }
        }
        // Strangers can fill it: then the first stamps of other sessions are missing, and counted there.
        if self.waiting.len() + probes.len() > MAX_WAITING {
            self.waiting.clear();
        }
        let slots = probes.iter().map(|event| (notified(event), event.slot));
        self.waiting.extend(slots);
        for event in probes.iter().rev() {
            self.serve(table, event);
        }
        for report in self.drops.due(table, monotonic_ns()) {
            self.report(report);
        }
    }

    fn report(&mut self, report: Report) {
        let Report {
            place,
            slot,
            device,
            message,
        } = report;
        let may = self.may_have(place, &slot);
        let within = may.and_then(|()| self.limits.take(monotonic_ns(), slot::peer(&slot)));
        if let Err(why) = within {
            self.withhold(&slot, why);
            return;
        }
        let sent = self.transmit(&slot, device, message);
        self.spend(place, &slot, sent);
    }

    /// Sends the packet of a probe: its stamps, what held it up, and stamps of earlier probes.
    fn serve(&mut self, table: &Table, event: &pt_pending) {
        let slot = table.copy(event.slot);
        let is_reused = probe(&slot) != notified(event);
        self.reused += u64::from(is_reused);
        let stamps = self.unsent(event.slot, &slot);
        let is_slow = pt_pending_kind(event.what) == pt_pending_kind::PT_PENDING_BLAME;
        if is_reused || !is_own_reply(&slot) || stamps.is_none() {
            self.waiting.remove(&notified(event));
        }
        if is_reused || !is_own_reply(&slot) {
            return;
        }
        if stamps.is_none() && !is_slow {
            return;
        }
        if let Err(why) = self.may_have(event.slot, &slot) {
            self.withhold(&slot, why);
            if why == Withheld::Unproven && stamps.is_some() && !slot::is_cookie_given(&slot) {
                self.give_cookie(&slot);
            }
            return;
        }
        let blame = if is_slow {
            self.blame(&slot)
        } else {
            Vec::new()
        };
        if stamps.is_none() && blame.is_empty() {
            return;
        }
        match self.packet(&slot) {
            Ok(packet) => self.fill(table, event.slot, &slot, packet, stamps, &blame),
            Err(why) => self.withhold(&slot, why),
        }
    }

    /// The stamps of a slot that are to be sent; none if they were sent, or travel in the reply, or a device of
    /// this host queues that still.
    fn unsent(&self, place: u32, slot: &pt_stamp_slot) -> Option<Known> {
        let (session, sequence) = probe(slot);
        let known = (session, sequence, slot.used[Direction::Reply as usize]);
        let done = self.done.get(place as usize)?;
        (slot::is_due(slot) && *done != Some(known)).then_some(known)
    }

    /// What held up a probe that stayed long in this host.
    fn blame(&mut self, slot: &pt_stamp_slot) -> Vec<Blame> {
        // A client on this kernel explains it itself.
        if slot.version == 0 || slot.host == 0 {
            return Vec::new();
        }
        let Some(explainer) = &mut self.explainer else {
            return Vec::new();
        };
        let path: Vec<Stamp> = stamps(slot, 0).iter().map(at_server).collect();
        explainer.blame(&blame::windows(&path, Host::Server, explainer.min_ns()))
    }

    /// Whether a probe may have a packet. Peers of version 0 know no cookie.
    fn may_have(&self, place: u32, slot: &pt_stamp_slot) -> Result<(), Withheld> {
        if slot.version > 0 && !slot::is_proven(slot) {
            return Err(Withheld::Unproven);
        }
        if self.spent.get(place as usize) == Some(&Some(probe(slot))) {
            return Err(Withheld::Second);
        }
        Ok(())
    }

    /// An empty packet for the client of a probe, within the limits.
    fn packet(&mut self, slot: &pt_stamp_slot) -> Result<StampPacket, Withheld> {
        let packet = slot::packet(slot, self.long_v0).ok_or(Withheld::TooSmall)?;
        self.limits.take(monotonic_ns(), slot::peer(slot))?;
        Ok(packet)
    }

    /// A packet is not sent.
    fn withhold(&mut self, slot: &pt_stamp_slot, why: Withheld) {
        self.withheld.add(why);
        self.clients.withheld(slot, why);
    }

    /// A probe has had its packet, if that was sent.
    fn spend(&mut self, place: u32, slot: &pt_stamp_slot, sent: bool) {
        self.sent += u64::from(sent);
        if sent {
            self.clients.sent(slot);
        }
        if let Some(spent) = self.spent.get_mut(place as usize).filter(|_| sent) {
            *spent = Some(probe(slot));
        }
    }

    /// Fills the packet of a probe, and sends it.
    fn fill(
        &mut self,
        table: &Table,
        place: u32,
        slot: &pt_stamp_slot,
        packet: StampPacket,
        stamps: Option<Known>,
        blame: &[Blame],
    ) {
        let mut filling = Filling {
            packet,
            entries: Vec::new(),
            parts: Vec::new(),
        };
        if let Some(known) = stamps {
            filling.add(place, slot, known, 0);
        }
        self.blamed += u64::from(filling.add_blame(blame));
        if slot.version > 0 {
            self.add_earlier(table, slot, &mut filling);
        }
        if let Some(names) = self.names.as_mut().filter(|_| is_trusted(slot)) {
            names.fill(&mut filling.packet, &filling.entries);
        }
        let message = filling.packet.trimmed().finish();
        let sent = self.transmit(slot, left_by(slot), message);
        self.spend(place, slot, sent);
        for (place, known) in filling.parts.into_iter().filter(|_| sent) {
            let (session, sequence, _) = known;
            self.waiting.remove(&(session, sequence));
            self.done[place as usize] = Some(known);
        }
    }

    /// Adds the stamps of earlier probes of the session that have had no packet, the oldest first, as long as
    /// there is room.
    fn add_earlier(&self, table: &Table, head: &pt_stamp_slot, into: &mut Filling) {
        let (session, sequence) = probe(head);
        for back in (1..=MAX_BACK).rev() {
            let wanted = (session, sequence.back(back));
            let Some(&place) = self.waiting.get(&wanted) else {
                continue;
            };
            let slot = table.copy(place);
            let is_of = probe(&slot) == wanted
                && slot.peer == head.peer
                && slot.version == head.version
                && is_own_reply(&slot);
            let Some(known) = self.unsent(place, &slot).filter(|_| is_of) else {
                continue;
            };
            if !into.add(place, &slot, known, back.cast_signed()) {
                return;
            }
        }
    }

    /// Where no program wrote it into the reply, a client has no other way to get a cookie.
    fn give_cookie(&mut self, slot: &pt_stamp_slot) {
        if let Err(why) = self.limits.take_cookie(monotonic_ns()) {
            self.withhold(slot, why);
            return;
        }
        let Some(packet) = slot::packet(slot, false) else {
            return;
        };
        let sent = self.transmit(slot, left_by(slot), packet.trimmed().finish());
        self.cookies += u64::from(sent);
    }

    /// Sends a message to the client of a probe, by this device if its address is link-local.
    fn transmit(&mut self, slot: &pt_stamp_slot, device: u32, mut message: Vec<u8>) -> bool {
        if let Some(keys) = &self.keys {
            keys.tag_packet(&mut message, family(slot));
        }
        let (from, to) = (address(&slot.local, device), address(&slot.peer, device));
        let sent = match self.socket(from, family(slot)) {
            Ok(socket) => socket.send(&message, &to.into()).map_err(Into::into),
            Err(e) => Err(e),
        };
        if let Err(e) = &sent {
            self.failed += 1;
            log::debug!("cannot send a stamp packet to {}: {e:#}", to.ip());
        }
        sent.is_ok()
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

impl Filling {
    /// Adds the stamps of a probe that is `back` sequence numbers older than the packet's own, and with which
    /// TTL it arrived; false if there is no room for them. Of the packet's own probe what has room is added.
    fn add(&mut self, place: u32, slot: &pt_stamp_slot, known: Known, back: i16) -> bool {
        let entries = stamps(slot, back);
        let ttl = Ttl::new(slot.ttl);
        if back != 0 && entries.len() + usize::from(ttl.is_some()) > self.packet.room() {
            return false;
        }
        for e in &entries {
            self.packet.push(e);
        }
        if let Some(ttl) = ttl {
            self.packet.push_extension(&Extension::Ttl { ttl, back });
        }
        self.entries.extend(entries);
        self.parts.push((place, known));
        true
    }

    /// Adds blame for the slow segments of the packet's own probe, as far as there is room. Returns whether
    /// there was any.
    fn add_blame(&mut self, blame: &[Blame]) -> bool {
        let text = blame::to_wire(blame, self.packet.room() * TEXT);
        for extension in Extension::texts(About::Blame, &text, 0) {
            self.packet.push_extension(&extension);
        }
        !text.is_empty()
    }
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

//! Drop reports: a server reports to a client the packets that the server's kernel dropped. A report is a
//! stamp packet with the probe's stamps, the drop, and its names by the server's kernel.

use super::slot::{is_own_reply, is_trusted, left_by, notified, packet, probe, stamps};
use crate::kernel::drops;
use crate::kernel::table::Table;
use crate::output::names::NameBook;
use crate::wire::entry::Entry;
use crate::wire::extension::{About, Extension};
use crate::wire::stamp_packet::StampPacket;
use bpf::pingtrace::types::{pt_pending, pt_stamp_slot};
use report::model::{KernelDrop, Netns};

/// Delay of a report, ns: a reply that leaves after all in this time is not lost, and a queue that dropped it has
/// room again. The client waits for longer.
const SETTLE_NS: u64 = 100_000_000;
/// Upper bound on waiting reports.
const MAX_WAITING: usize = 8192;

struct Waiting {
    at_ns: u64,
    event: pt_pending,
}

/// A report that is due.
pub struct Report {
    /// Number of the slot of the probe.
    pub place: u32,
    /// That slot.
    pub slot: pt_stamp_slot,
    /// The device by which a link-local client is reached.
    pub device: u32,
    /// The ICMP message.
    pub message: Vec<u8>,
}

/// Drops that are to be reported to clients.
pub struct DropReports {
    own_netns: Netns,
    waiting: Vec<Waiting>,
    names: NameBook,
    /// Names of devices and namespaces are sent.
    send_names: bool,
    /// Drops that were not reported because too many were waiting.
    pub forgotten: u64,
}

impl DropReports {
    /// For the server of this namespace.
    pub fn new(own_netns: Netns, send_names: bool) -> Self {
        Self {
            own_netns,
            waiting: Vec::new(),
            names: NameBook::default(),
            send_names,
            forgotten: 0,
        }
    }

    /// A packet was dropped.
    pub fn add(&mut self, now: u64, event: pt_pending) {
        if self.waiting.len() >= MAX_WAITING {
            self.forgotten += 1;
            return;
        }
        self.waiting.push(Waiting {
            at_ns: now + SETTLE_NS,
            event,
        });
    }

    /// When the next report is due, `CLOCK_MONOTONIC` ns.
    pub fn wake_at(&self) -> Option<u64> {
        self.waiting.iter().map(|w| w.at_ns).min()
    }

    /// The reports that are due.
    pub fn due(&mut self, table: &Table, now: u64) -> Vec<Report> {
        let (due, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w: &Waiting| w.at_ns <= now);
        self.waiting = later;
        let reports = due.iter().filter_map(|w| self.report(table, &w.event));
        reports.collect()
    }

    fn report(&mut self, table: &Table, event: &pt_pending) -> Option<Report> {
        let slot = table.copy(event.slot);
        let same = probe(&slot) == notified(event);
        let mine = Netns(slot.drop.netns) == self.own_netns || is_own_reply(&slot);
        if !same || !mine || !is_lost(&slot) {
            return None;
        }
        let drop = self.told(&slot);
        // The device also of a link-local client whose packet was dropped before a reply was queued.
        let device = Some(left_by(&slot)).filter(|device| *device != 0);
        let device = device.unwrap_or(slot.drop.ifindex);
        Some(Report {
            place: event.slot,
            device,
            message: message(&slot, &drop)?,
            slot,
        })
    }

    /// The drop as far as the client may know it: a stranger gets its reason, and its device if that is in the
    /// namespace that answers.
    fn told(&mut self, slot: &pt_stamp_slot) -> KernelDrop {
        let mut drop = drops::local(&slot.drop);
        self.names.name_drop(&mut drop);
        if !self.send_names || !is_trusted(slot) {
            (drop.device, drop.netns_name) = (None, None);
        }
        if !is_trusted(slot) {
            drop.location.name = None;
            if drop.netns != self.own_netns {
                (drop.netns, drop.ifindex) = Default::default();
            }
        }
        drop
    }
}

/// Whether the packet was not seen after the drop: else a copy was dropped.
fn is_lost(slot: &pt_stamp_slot) -> bool {
    let later = |e: &Entry| e.time > slot.drop.ns;
    slot.drop.ns != 0 && !stamps(slot, 0).iter().any(later)
}

/// The message of a report; what a small packet has no room for is left out, the least important parts
/// first.
fn message(slot: &pt_stamp_slot, drop: &KernelDrop) -> Option<Vec<u8>> {
    let mut packet = packet(slot, false)?;
    packet.push_extension(&Extension::Drop {
        ns: drop.ns,
        netns: drop.netns,
        ifindex: drop.ifindex,
        direction: drop.direction,
        back: 0,
    });
    name(&mut packet, About::Reason, drop.reason.name.as_ref());
    name(&mut packet, About::Location, drop.location.name.as_ref());
    for stamp in stamps(slot, 0) {
        packet.push(&stamp);
    }
    name(&mut packet, About::Device, drop.device.as_ref());
    name(&mut packet, About::Netns, drop.netns_name.as_ref());
    Some(packet.trimmed().finish())
}

fn name(packet: &mut StampPacket, about: About, name: Option<&String>) {
    let texts = name.map_or_else(Vec::new, |name| Extension::texts(about, name, 0));
    // A cut name would be a wrong one.
    if texts.len() <= packet.room() {
        for text in &texts {
            packet.push_extension(text);
        }
    }
}

//! Reads a slot of the kernel's table: where a probe was answered, its addresses and stamps.

use crate::wire::entry::Entry;
use crate::wire::layout::{V0_ENTRY, V0_HEADER, V0_RESERVED};
use crate::wire::number::{Sequence, SessionId};
use crate::wire::protocol::{Family, Version};
use crate::wire::stamp_packet::StampPacket;
use bpf::pingtrace::types::{pt_pending, pt_stamp_slot, pt_state};
use report::model::{Direction, Point};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Whether the served namespace made the reply: ICMP received the request there, and no device of this kernel
/// received the reply before one of it queued it.
pub fn is_own_reply(slot: &pt_stamp_slot) -> bool {
    let first = entries(slot, Direction::Reply).next();
    let queued = first.is_none_or(|e| e.point == Point::RTxDevqueue);
    queued && slot.state & pt_state::PT_REC_DELIVERED.0 as u16 != 0
}

/// Whether its client may know everything, not only what a stranger may.
pub fn is_trusted(slot: &pt_stamp_slot) -> bool {
    slot.state & pt_state::PT_REC_TRUSTED.0 as u16 != 0
}

/// The first device that the reply left by; 0 if that was not seen.
pub fn left_by(slot: &pt_stamp_slot) -> u32 {
    let mut reply = entries(slot, Direction::Reply);
    let queued = reply.find(|e| e.point == Point::RTxDevqueue);
    queued.map_or(0, |e| e.ifindex.0)
}

/// The stamps of one direction, in their order.
pub fn entries(
    slot: &pt_stamp_slot,
    direction: Direction,
) -> impl DoubleEndedIterator<Item = Entry> + '_ {
    let used = usize::from(slot.used[direction as usize]);
    let stamps = slot.stamp[direction as usize].iter().take(used);
    stamps.filter_map(Entry::from_stamp)
}

/// All stamps of a slot, for a packet whose own probe is `back` sequence numbers newer.
pub fn stamps(slot: &pt_stamp_slot, back: i16) -> Vec<Entry> {
    entries(slot, Direction::Request)
        .chain(entries(slot, Direction::Reply))
        .map(|e| Entry { back, ..e })
        .collect()
}

/// The probe of a slot.
pub fn probe(slot: &pt_stamp_slot) -> (SessionId, Sequence) {
    (SessionId(slot.session), Sequence(slot.sequence))
}

fn has_state(slot: &pt_stamp_slot, state: pt_state) -> bool {
    slot.state & state.0 as u16 != 0
}

/// Whether the request returned a valid cookie.
pub fn is_proven(slot: &pt_stamp_slot) -> bool {
    has_state(slot, pt_state::PT_REC_PROVEN)
}

/// Whether the reply has a cookie.
pub fn is_cookie_given(slot: &pt_stamp_slot) -> bool {
    has_state(slot, pt_state::PT_REC_GIVEN)
}

/// Whether its stamps are to be sent in a packet, and no device of this host queues the reply any more.
pub fn is_due(slot: &pt_stamp_slot) -> bool {
    has_state(slot, pt_state::PT_REC_PENDING) && has_state(slot, pt_state::PT_REC_OUT)
}

/// An empty stamp packet for the client of a slot, as long as the request. In version 0 there is none if that has
/// no room for a stamp; with `long_v0` it has room for all of them.
pub fn packet(slot: &pt_stamp_slot, long_v0: bool) -> Option<StampPacket> {
    let (session, sequence) = probe(slot);
    let mut length = usize::from(slot.length);
    let version = if slot.version == 0 {
        let entries = if long_v0 { stamps(slot, 0).len() } else { 1 };
        let needed = V0_HEADER + (usize::from(V0_RESERVED) + entries) * V0_ENTRY;
        if long_v0 {
            length = length.max(needed);
        }
        if length < needed {
            return None;
        }
        Version::V0
    } else {
        Version::V1
    };
    let packet = StampPacket::new(family(slot), version, session, sequence, length);
    let packet = packet.answering(slot.flow, u16::from_be(slot.id));
    // The same bytes as in a reply.
    Some(packet.with_cookie(u64::from_be(slot.cookie)))
}

/// The probe of an event.
pub fn notified(event: &pt_pending) -> (SessionId, Sequence) {
    (SessionId(event.session), Sequence(event.sequence))
}

/// Address family of the client's packets.
pub fn family(slot: &pt_stamp_slot) -> Family {
    if slot.family == 4 {
        Family::V4
    } else {
        Family::V6
    }
}

/// The client's address.
pub fn peer(slot: &pt_stamp_slot) -> IpAddr {
    address(&slot.peer, 0).ip()
}

/// An address of a slot; a link-local one needs the device to name a host.
pub fn address(words: &[u32; 4], device: u32) -> SocketAddr {
    let mut octets = [0; 16];
    for (chunk, word) in octets.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    match Ipv6Addr::from(octets).to_canonical() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, device).into(),
        ip => SocketAddr::new(ip, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_mapped_back() {
        let v4 = [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([10, 0, 0, 1])];
        assert_eq!(address(&v4, 3), "10.0.0.1:0".parse().unwrap());
    }

    #[test]
    fn link_local_addresses_have_their_device() {
        let link_local = [0xfe80_0000_u32.to_be(), 0, 0, 1_u32.to_be()];
        assert_eq!(address(&link_local, 3), "[fe80::1%3]:0".parse().unwrap());
    }
}

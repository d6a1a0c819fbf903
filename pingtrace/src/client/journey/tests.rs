use super::early::{MAX_EARLY, MAX_EARLY_STAMPS};
use super::server_drops::MAX_NAME;
use super::*;
use crate::client::slot_stamps::MAX_REMOTE;
use crate::wire::extension::{About, Extension};
use crate::wire::flows::Flows;
use crate::wire::number::SessionId;
use crate::wire::packet;
use crate::wire::protocol::Family;
use crate::wire::stamp_packet::StampPacket;
use report::model::{Direction, Ifindex, Netns, StampFlags};

const SESSION: SessionId = SessionId(7);

fn journey() -> Journey {
    let mut journey = Journey::new(Identity {
        session: SESSION,
        peer: [10, 0, 0, 2].into(),
        netns: Netns(1),
        flows: Flows::ONE,
        own_namespace_only: true,
        two_hosts: false,
    });
    journey.sent(1_000);
    journey
}

/// A stamp packet of this probe, full of stamps that nobody took.
fn forged(sequence: u32, salt: u64) -> Vec<u8> {
    let mut packet = StampPacket::new(Family::V4, Version::V1, SESSION, Sequence(sequence), 576);
    let stamp = |time| Entry {
        time,
        netns: Netns(1),
        ifindex: Ifindex(1),
        host: 1,
        point: Point::RRxDevrcv,
        cpu: Some(0),
        back: 0,
        flags: StampFlags::default(),
    };
    let mut time = salt * 100;
    while packet.push(&stamp(time)) {
        time += 1;
    }
    packet.finish()
}

fn takes(journey: &mut Journey, message: &[u8]) {
    let packet = packet::parse(message, Family::V4).expect("a packet");
    journey.dropped(&packet);
    journey.remote(&packet);
}

/// Whatever arrives for a probe, it has no more stamps than a path; what is more is counted.
#[test]
fn forged_records_for_one_probe_take_no_memory() {
    let mut journey = journey();
    for salt in 0..10_000 {
        takes(&mut journey, &forged(500, salt));
    }
    assert_eq!(journey.early.stamps, MAX_REMOTE);
    assert_eq!(journey.early.by_index[&ProbeIndex(500)].len(), MAX_REMOTE);
    let lost = journey.lost(ProbeIndex(500), 1, 1, |_| false);
    assert!(lost.probe.path.len() <= MAX_REMOTE + 1);
    assert_eq!(journey.early.stamps, 0);
    assert!(journey.counts().refused > 100_000, "{:?}", journey.counts());
}

/// Nor do records for probes that were never sent, or for all that were.
#[test]
fn forged_records_for_many_probes_take_bounded_memory() {
    let mut journey = journey();
    for sequence in [1_000, 0x7000_0000, u32::MAX] {
        takes(&mut journey, &forged(sequence, 0));
    }
    assert_eq!((journey.early.by_index.len(), journey.early.stamps), (0, 0));
    let refused = journey.counts().refused;
    assert!(refused > 0);
    journey.sent(100_000);
    for sequence in 0..100_000 {
        takes(&mut journey, &forged(sequence, 0));
    }
    assert!(journey.early.by_index.len() <= MAX_EARLY && journey.early.stamps <= MAX_EARLY_STAMPS);
    let kept: usize = journey.early.by_index.values().map(Vec::len).sum();
    assert_eq!(kept, journey.early.stamps);
    assert!(
        journey.early.by_index.contains_key(&ProbeIndex(99_999)),
        "the oldest are forgotten first"
    );
    assert_eq!(journey.counts().refused, refused);
    assert!(journey.counts().orphans > 0);
}

/// A name is no longer than a kernel's can be.
#[test]
fn forged_names_end() {
    let mut journey = journey();
    let mut packet = StampPacket::new(Family::V4, Version::V1, SESSION, Sequence(500), 576);
    packet.push_extension(&Extension::Drop {
        ns: 1,
        netns: Netns(1),
        ifindex: Ifindex(1),
        direction: Direction::Request,
        back: 0,
    });
    takes(&mut journey, &packet.finish());
    for _ in 0..1_000 {
        let mut packet = StampPacket::new(Family::V4, Version::V1, SESSION, Sequence(500), 576);
        for extension in Extension::texts(About::Device, &"x".repeat(160), 0) {
            packet.push_extension(&extension);
        }
        takes(&mut journey, &packet.finish());
    }
    let device = journey.drops.by_index[&ProbeIndex(500)]
        .device
        .as_deref()
        .expect("a name");
    assert!((160..=MAX_NAME).contains(&device.len()), "{device}");
    assert!(journey.counts().refused > 1_000);
}

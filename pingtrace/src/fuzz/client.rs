//! A client among hostile hosts: what happens to it, in any order, and what any host sends.
//!
//! An input is a list of events, each a number and what it needs. After every event the books balance; what
//! is answered passes through all analyses.

use super::input::Input;
use super::results::Results;
use crate::client::args::Mode;
use crate::client::core::{Core, Moment, Setup, Shell};
use crate::client::host_names::HostNames;
use crate::client::index::ProbeIndex;
use crate::client::journey::{HostsOnTheWay, Identity};
use crate::client::slot_stamps::SlotStamps;
use crate::wire::entry::Entry;
use crate::wire::extension::{About, Extension};
use crate::wire::flows::Flows;
use crate::wire::icmp_error::IcmpError;
use crate::wire::layout::{MAGIC, V0_HEADER, set_checksum};
use crate::wire::number::{Sequence, SessionId};
use crate::wire::packet::Packet;
use crate::wire::protocol::{DONTADD, Family, Version};
use crate::wire::socket::Reply;
use crate::wire::stamp_packet::StampPacket;
use crate::wire::stamp_return::StampReturn;
use pnet_packet::util::checksum;
use report::analysis::blame;
use report::analysis::loss::LossId;
use report::model::send_error::SendError;
use report::model::{
    Counters, Direction, Host, Ifindex, KernelDrop, Loss, Netns, Point, Probe, ProbeResult, Stamp,
    StampFlags, Symbol, Ttl,
};
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU8;

const SESSION: SessionId = SessionId(7);
const US: u64 = 1_000;
const START_NS: u64 = 10_000_000_000_000;
const TIMEOUT_NS: u64 = 1_000_000;
const SLOTS: u32 = 16;
/// Upper bounds on events, and on probes.
const MAX_EVENTS: usize = 400;
const MAX_PROBES: u64 = 400;

pub fn check(data: &[u8]) {
    let mut run = Run::new(Input(data));
    for _ in 0..MAX_EVENTS {
        if run.input.is_empty() {
            break;
        }
        run.event();
        run.check_books();
    }
    run.end();
}

/// The kernel's table and the outputs, as far as the core needs them.
struct TestHost {
    slots: HashMap<ProbeIndex, SlotStamps>,
    blind: bool,
    sleep: (Moment, Moment),
    names: HostNames,
    results: Results,
}

impl Shell for TestHost {
    fn read_slot(&self, index: ProbeIndex, into: &mut SlotStamps) -> bool {
        let slot = self.slots.get(&index);
        if let Some(slot) = slot {
            into.clone_from(slot);
        }
        slot.is_some()
    }

    fn sent_cpu(&self, index: ProbeIndex) -> Option<u16> {
        Some(index.0 as u16 & 3)
    }

    fn last_sleep(&mut self, _: u64) -> (Moment, Moment) {
        self.sleep
    }

    fn sees(&self, _: Point) -> bool {
        !self.blind
    }

    fn ignores_echo(&mut self, netns: Netns) -> bool {
        netns == Netns(1)
    }

    fn ask_for(&mut self, _: StampReturn) {}

    fn mode(&mut self, _: StampReturn) {}

    fn keep_cookie(&mut self, cookie: u64) {
        assert_ne!(cookie, 0, "no cookie");
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.results.stats.counters
    }

    fn answered(&mut self, probe: &Probe) {
        self.results.answered(probe);
    }

    fn lost(&mut self, probe: Probe, loss: Loss) -> LossId {
        let id = self.results.stats.lost(&loss);
        self.results.check_result(&ProbeResult {
            loss: Some(loss),
            ..ProbeResult::new(probe)
        });
        id
    }

    fn found(&mut self, id: LossId, _: u64) {
        self.results.stats.found(id);
    }

    fn forgotten(&mut self, probe: Probe) {
        self.results.stats.counters.forgotten += 1;
        self.results.check_result(&ProbeResult::new(probe));
    }

    fn duplicate(&mut self, probe: Probe) {
        self.results.stats.counters.dup += 1;
        self.results.check_result(&ProbeResult::new(probe));
    }

    fn icmp_error(&mut self, _: &IcmpError) {}

    fn extensions(&mut self, packet: &Packet<'_>, hosts: &HostsOnTheWay) {
        if let Some(names) = self.names.take_from(packet, hosts) {
            self.results.names = names;
        }
        let text = packet.extensions().filter_map(|extension| match extension {
            Extension::Text {
                about: About::Blame,
                text,
                ..
            } => Some(text),
            _ => None,
        });
        let text: String = text.collect();
        for blame in blame::from_wire(&text) {
            assert!(blame.unexplained_ns() <= blame.window_ns);
        }
    }
}

struct Run<'a> {
    input: Input<'a>,
    core: Core,
    host: TestHost,
    family: Family,
    peer: IpAddr,
    flows: Flows,
    first: u64,
    now: u64,
}

impl<'a> Run<'a> {
    fn new(mut input: Input<'a>) -> Self {
        const MODES: [Mode; 4] = [
            Mode::Auto,
            Mode::Only(StampReturn::Inband),
            Mode::Only(StampReturn::Compact),
            Mode::Only(StampReturn::Pingpong),
        ];
        let how = input.byte();
        let (family, peer) = match how & 1 {
            0 => (Family::V4, IpAddr::from([10, 0, 0, 2])),
            _ => (Family::V6, IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 2])),
        };
        let flows = Flows(NonZeroU8::new(1 + (how >> 1 & 1)).unwrap_or(NonZeroU8::MIN));
        // Sequence numbers wrap at 16 and at 32 bits.
        let first = [0, (1 << 16) - 3, (1 << 32) - 3, (1 << 33) - 1][input.below(4)];
        let setup = Setup {
            identity: Identity {
                session: SESSION,
                peer,
                netns: Netns(1),
                flows,
                own_namespace_only: how & 4 != 0,
                two_hosts: how & 8 != 0,
            },
            family,
            slots: SLOTS,
            recent: 65_536,
            mode: MODES[usize::from(how >> 4 & 3)],
            start_ns: START_NS.wrapping_sub(first * US),
            interval_ns: (how & 64 != 0).then_some(US),
            timeout_ns: TIMEOUT_NS,
            keys: None,
        };
        let mut core = Core::new(setup, 1_700_000_000_000_000_000);
        core.session.skip_to(first);
        let host = TestHost {
            slots: HashMap::new(),
            blind: how & 128 != 0,
            sleep: (None, None),
            names: HostNames::default(),
            results: Results::new(),
        };
        Self {
            input,
            core,
            host,
            family,
            peer,
            flows,
            first,
            now: START_NS,
        }
    }

    fn event(&mut self) {
        match self.input.byte() % 16 {
            0..=2 => self.send(),
            3 => self.now += u64::from(self.input.u16()),
            4 => self.now += u64::from(self.input.u16()) * US,
            5 => self.see(),
            6 => {
                let index = self.probe();
                self.host.slots.remove(&index);
            }
            7..=9 => self.stamps(),
            10 | 11 => self.message(),
            12 => self.icmp_error(),
            13 => self.core.overflows.note(self.input.u32(), self.now),
            14 => self.tick(),
            _ => self.rarely(),
        }
    }

    /// One of the last probes sent, or the next one.
    fn probe(&mut self) -> ProbeIndex {
        let back = u64::from(self.input.byte() & 63);
        ProbeIndex(self.core.session.sent().saturating_sub(back))
    }

    fn sequence(&mut self) -> Sequence {
        self.probe().sequence()
    }

    fn send(&mut self) {
        for _ in 0..=self.input.below(20) {
            let sent = self.core.session.sent();
            if sent - self.first >= MAX_PROBES {
                return;
            }
            let reused = sent.checked_sub(u64::from(SLOTS)).map(ProbeIndex);
            self.core.sent(Some(self.now), &mut self.host);
            reused.map(|reused| self.host.slots.remove(&reused));
            self.host
                .slots
                .insert(ProbeIndex(sent), SlotStamps::default());
            self.now += US;
        }
    }

    /// What the client's own programs see of a probe: its times are true.
    fn see(&mut self) {
        let index = self.probe();
        let number = self.input.u16();
        let dropped = self.input.flag().then(|| self.drop_here());
        let Some(slot) = self.host.slots.get_mut(&index) else {
            return;
        };
        slot.drop = dropped.or(slot.drop.take());
        let Some(point) = Point::from_wire(number % 32) else {
            slot.unknown += 1;
            return;
        };
        let stamp = Stamp {
            point,
            host: Host::Client,
            ns: self.now,
            cpu: Some(number >> 14),
            ifindex: Ifindex(u32::from(number >> 6 & 3)),
            netns: Netns(u32::from(number >> 8 & 3)),
            flags: StampFlags {
                direct: number & 1 << 10 != 0,
                interrupts_unknown: number & 1 << 11 != 0,
                underlay_unseen: number & 1 << 12 != 0,
            },
        };
        let stamps = match point.direction() {
            Direction::Reply => &mut slot.reply,
            Direction::Request => &mut slot.request,
        };
        if stamps.len() < 32 {
            stamps.push(stamp);
        }
        self.now += 100;
    }

    fn drop_here(&mut self) -> KernelDrop {
        KernelDrop {
            host: Host::Client,
            direction: Direction::from_number(u32::from(self.input.flag())),
            ns: self.now,
            netns: Netns(1),
            ifindex: Ifindex(u32::from(self.input.byte())),
            reason: Symbol::named("QDISC_DROP"),
            location: Symbol::named("__dev_queue_xmit"),
            device: None,
            netns_name: None,
            mtu: None,
        }
    }

    /// A well-formed message with any stamps: an echo reply or a stamp packet.
    fn stamps(&mut self) {
        let how = self.input.byte();
        let version = if how & 1 == 0 {
            Version::V1
        } else {
            Version::V0
        };
        let sequence = self.sequence();
        let mut packet = StampPacket::new(self.family, version, SESSION, sequence, 576);
        let near_ns = self.now + u64::from(how >> 4) * 77_000_000_000;
        for _ in 0..how >> 2 & 15 {
            let Some(entry) = self.entry(near_ns) else {
                continue;
            };
            packet.push(&entry);
        }
        let mut message = packet
            .answering(0, self.flows.id(SESSION, sequence))
            .finish();
        if how & 2 == 0 {
            let flags = u16::from_be_bytes([message[10], message[11]]) & !DONTADD;
            message[10..12].copy_from_slice(&flags.to_be_bytes());
        }
        self.reply(message);
    }

    fn entry(&mut self, near_ns: u64) -> Option<Entry> {
        let point = Point::from_wire(u16::from(self.input.byte() & 31))?;
        let place = self.input.byte();
        let rare = self.input.byte();
        Some(Entry {
            time: self.input.near(near_ns),
            netns: Netns(u32::from(place & 3)),
            ifindex: Ifindex(u32::from(place >> 2 & 3)),
            host: match place >> 4 & 3 {
                0 | 1 => 0,
                2 => 1,
                _ => self.input.u16(),
            },
            point,
            cpu: Some(u16::from(place >> 6)),
            back: match rare >> 5 {
                0..=3 => 0,
                4..=6 => i16::from(rare & 31),
                _ => self.input.u16().cast_signed(),
            },
            flags: StampFlags {
                direct: rare & 1 != 0,
                interrupts_unknown: rare & 2 != 0,
                underlay_unseen: rare & 4 != 0,
            },
        })
    }

    /// Any bytes as a message of this session.
    fn message(&mut self) {
        let how = self.input.byte();
        let sequence = self.sequence();
        let length = usize::from(self.input.u16()) % 700;
        let mut message = self.input.bytes(length).to_vec();
        if message.len() >= V0_HEADER && how & 1 == 0 {
            message[0] = self.family.reply();
            message[1] = 0;
            message[8] = how >> 1 & 1;
            message[12..14].copy_from_slice(&MAGIC.to_be_bytes());
            message[16..20].copy_from_slice(&SESSION.0.to_be_bytes());
            message[20..24].copy_from_slice(&sequence.0.to_be_bytes());
            message[6..8].copy_from_slice(&sequence.low().to_be_bytes());
            let id = self.flows.id(SESSION, sequence);
            message[4..6].copy_from_slice(&id.to_be_bytes());
        }
        self.reply(message);
    }

    /// With a checksum that is right.
    fn reply(&mut self, mut message: Vec<u8>) {
        if message.len() >= 4 {
            set_checksum(&mut message, 0);
            let sum = checksum(&message, 1);
            set_checksum(&mut message, sum);
        }
        let reply = Reply {
            message: &message,
            from: self.peer,
            ttl: Ttl::new(self.input.byte()),
        };
        self.host.sleep = self.sleep();
        let answered = self.core.reply(&reply, self.now, &mut self.host);
        assert!(answered.is_none_or(|answered| answered.since_ns <= self.now));
        self.core.hand_out(self.now, &mut self.host);
    }

    /// The receiver slept until a little before now.
    fn sleep(&mut self) -> (Moment, Moment) {
        let (woken, oncpu) = (u64::from(self.input.byte()), u64::from(self.input.byte()));
        let at = |before: u64| (before > 7).then(|| (self.now - before, 1));
        (at(woken + oncpu), at(oncpu))
    }

    fn icmp_error(&mut self) {
        let length = usize::from(self.input.byte());
        let message = self.input.bytes(length);
        if let Some(error) = IcmpError::parse(message, self.family, self.peer) {
            self.core.icmp_error(&error, &mut self.host);
        }
    }

    fn tick(&mut self) {
        self.core.drained(self.now);
        self.core.expire(&mut self.host);
        self.core.hand_out(self.now, &mut self.host);
    }

    fn rarely(&mut self) {
        match self.input.below(4) {
            0 => self.core.collect(),
            1 => drop(self.core.open_probe(self.now)),
            2 => {
                let index = ProbeIndex(self.core.session.sent());
                self.core.sent(Some(self.now), &mut self.host);
                self.now += US;
                let error = SendError::from_name("ENOBUFS");
                self.core.lose(index, error, &mut self.host);
            }
            _ => {
                let interval = self.host.results.stats.interval(self.now - START_NS);
                assert!(interval.counters.sent <= MAX_PROBES + MAX_EVENTS as u64);
            }
        }
    }

    fn check_books(&mut self) {
        let counters = &mut self.host.results.stats.counters;
        self.core.count(counters);
        counters.sent -= self.first;
        assert!(counters.balance(), "{counters:?}");
    }

    fn end(mut self) {
        self.tick();
        self.core.finish(&mut self.host);
        self.check_books();
        self.host.results.end(self.now - START_NS);
    }
}

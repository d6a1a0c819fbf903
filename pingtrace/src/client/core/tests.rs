//! Runs from files in `tests/data/client`: what happened, in time order, and after `=>` what the core said
//! of it. A line is a time in microseconds and an event:
//!
//! - `send [COUNT]`, `unsent ERRNO`: probes leave, 1 us apart; one cannot;
//! - `slot SEQ POINT...`, `slot SEQ drop-request|drop-reply`, `reused SEQ`: this host's programs see it; its
//!   slot goes to a younger probe;
//! - `reply SEQ [STAMP...]`, `stamps SEQ STAMP...`, `v0 SEQ STAMP...`: an echo reply, a stamp packet, or one of
//!   version 0 with these stamps of the server: `POINT` or `POINT/BACK`, the latter of an older probe;
//! - `says SEQ STATUS...`: a reply in which the server says what it saw of the probes from SEQ on;
//! - `dropped SEQ request|reply REASON`: the server reports a drop;
//! - `forged WHAT SEQ`: a reply with another session, source, type, checksum or magic;
//! - `full`: the socket's receive buffer has been full until now;
//! - `tick`: every reply in the socket was read, and what is due is done;
//! - `end`: the run ends.
//!
//! Before the first event: `mode MODE`, `first INDEX` (the first probe has this index), `blind` (no programs).

use super::*;
use crate::client::args::Mode;
use crate::client::index::ProbeIndex;
use crate::client::journey::HostsOnTheWay;
use crate::wire::entry::Entry;
use crate::wire::extension::About;
use crate::wire::flows::Flows;
use crate::wire::layout::{EntryV1, Header, V1_HEADER, WindowEntry, set_checksum};
use crate::wire::number::SessionId;
use crate::wire::packet::Packet;
use crate::wire::protocol::DONTADD;
use crate::wire::stamp_packet::StampPacket;
use bpf::pingtrace::types::pt_extension;
use clap::ValueEnum as _;
use pnet_packet::util::checksum;
use report::analysis::loss::LossId;
use report::analysis::stats::Stats;
use report::model::{
    Direction, Host, Ifindex, KernelDrop, Loss, Netns, Probe, Stamp, StampFlags, Symbol,
};
use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

const SESSION: SessionId = SessionId(7);
const US: u64 = 1_000;
const START_NS: u64 = 10_000_000_000_000;
/// The server's clock is ahead by this much.
const AHEAD_NS: u64 = 77_000_000_000;

/// Stands in for the kernel's table and the outputs, and writes down what the core says.
#[derive(Default)]
struct TestHost {
    slots: HashMap<ProbeIndex, SlotStamps>,
    blind: bool,
    stats: Stats,
    said: Vec<String>,
}

fn points(probe: &Probe) -> String {
    let stamp = |s: &Stamp| format!(" {}", s.point.name());
    probe.path.iter().map(stamp).collect()
}

impl Shell for TestHost {
    fn read_slot(&self, index: ProbeIndex, into: &mut SlotStamps) -> bool {
        let slot = self.slots.get(&index);
        if let Some(slot) = slot {
            into.clone_from(slot);
        }
        slot.is_some()
    }

    fn ignores_echo(&mut self, _: Netns) -> bool {
        false
    }

    fn sent_cpu(&self, _: ProbeIndex) -> Option<u16> {
        None
    }

    fn last_sleep(&mut self, _: u64) -> (Moment, Moment) {
        (None, None)
    }

    fn sees(&self, _: Point) -> bool {
        !self.blind
    }

    fn ask_for(&mut self, way: StampReturn) {
        self.said.push(format!("format {way}"));
    }

    fn keep_cookie(&mut self, cookie: u64) {
        self.said.push(format!("cookie {cookie}"));
    }

    fn mode(&mut self, way: StampReturn) {
        self.said.push(format!("mode {way}"));
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.stats.counters
    }

    fn answered(&mut self, probe: &Probe) {
        let line = format!("{} {}{}", probe.status.name(), probe.seq, points(probe));
        self.said.push(line);
    }

    fn lost(&mut self, probe: Probe, loss: Loss) -> LossId {
        let reason = loss.drop.as_ref().and_then(|drop| drop.reason.name.clone());
        let reason = reason.map_or_else(String::new, |reason| format!(" {reason}"));
        let (seq, place) = (probe.seq, loss.place.name());
        self.said.push(format!("lost {seq} {place}{reason}"));
        self.stats.lost(&loss)
    }

    fn found(&mut self, id: LossId, _: u64) {
        self.stats.found(id);
    }

    fn forgotten(&mut self, probe: Probe) {
        self.stats.counters.forgotten += 1;
        self.said.push(format!("forgotten {}", probe.seq));
    }

    fn duplicate(&mut self, probe: Probe) {
        self.stats.counters.dup += 1;
        self.said.push(format!("dup {}", probe.seq));
    }

    fn icmp_error(&mut self, _: &IcmpError) {}

    fn extensions(&mut self, _: &Packet<'_>, _: &HostsOnTheWay) {}
}

/// A run of one file.
struct Run {
    core: Core,
    host: TestHost,
    /// The index that `SEQ` 0 stands for.
    first: u64,
}

fn peer() -> IpAddr {
    [10, 0, 0, 2].into()
}

impl Run {
    /// Whose schedule starts at `START_NS + start_us`.
    fn new(mode: Mode, first: u64, start_us: u64, blind: bool) -> Self {
        let setup = Setup {
            identity: Identity {
                session: SESSION,
                peer: peer(),
                netns: Netns(1),
                flows: Flows::ONE,
                own_namespace_only: true,
                two_hosts: false,
            },
            family: Family::V4,
            slots: 64,
            recent: 65_536,
            mode,
            start_ns: START_NS + start_us * US - first * US,
            interval_ns: Some(US),
            timeout_ns: 1_000_000,
            keys: None,
        };
        let mut core = Core::new(setup, 0);
        core.session.skip_to(first);
        let host = TestHost {
            blind,
            ..TestHost::default()
        };
        Self { core, host, first }
    }

    fn index(&self, seq: &str) -> ProbeIndex {
        ProbeIndex(self.first + seq.parse::<u64>().expect("a number of a probe"))
    }

    fn event(&mut self, now: u64, words: &[&str]) {
        match words {
            ["send"] => self.send(now, 1),
            ["send", count] => self.send(now, count.parse().expect("a count")),
            ["unsent", errno] => {
                let index = ProbeIndex(self.core.session.sent());
                self.send(now, 1);
                let error = SendError::from_name(errno).expect("an error");
                self.core.lose(index, Some(error), &mut self.host);
            }
            ["slot", seq, seen @ ..] => self.see(now, self.index(seq), seen),
            ["reused", seq] => {
                self.host.slots.remove(&self.index(seq));
            }
            ["reply", seq, stamps @ ..] => {
                let message = self.packet(now, Version::V1, seq, stamps);
                self.reply(now, &reply_to_probe(message), peer());
            }
            ["stamps", seq, stamps @ ..] => {
                let message = self.packet(now, Version::V1, seq, stamps);
                self.reply(now, &message.finish(), peer());
            }
            ["v0", seq, stamps @ ..] => {
                let message = self.packet(now, Version::V0, seq, stamps);
                self.reply(now, &message.finish(), peer());
            }
            ["says", seq, statuses @ ..] => self.says(now, seq, u16::MAX, statuses),
            ["started-and-says", seq, statuses @ ..] => self.says(now, seq, 0, statuses),
            ["dropped", seq, way, reason] => self.dropped(now, seq, way, reason),
            ["forged", what, seq] => self.forged(now, what, seq),
            ["full"] => self.core.overflows.note(1, now),
            ["tick"] => self.tick(now),
            ["end"] => self.end(now),
            _ => panic!("no such event: {words:?}"),
        }
        self.check();
    }

    fn send(&mut self, now: u64, count: u64) {
        for k in 0..count {
            self.host
                .slots
                .insert(ProbeIndex(self.core.session.sent()), SlotStamps::default());
            self.core.sent(Some(now + k * US), &mut self.host);
        }
    }

    fn see(&mut self, now: u64, index: ProbeIndex, seen: &[&str]) {
        let slot = self.host.slots.get_mut(&index).expect("a slot");
        for (k, what) in seen.iter().enumerate() {
            if let Some(way) = what.strip_prefix("drop-") {
                slot.drop = Some(drop_at(Host::Client, direction(way), now));
                continue;
            }
            let point = Point::from_name(what).expect("a point");
            let stamp = Stamp {
                point,
                host: Host::Client,
                ns: now + k as u64,
                cpu: None,
                ifindex: Ifindex(1),
                netns: Netns(1),
                flags: StampFlags::default(),
            };
            if point.direction() == Direction::Reply {
                slot.reply.push(stamp);
            } else {
                slot.request.push(stamp);
            }
        }
    }

    fn packet(&self, now: u64, version: Version, seq: &str, stamps: &[&str]) -> StampPacket {
        let sequence = self.index(seq).sequence();
        let mut packet = StampPacket::new(Family::V4, version, SESSION, sequence, 576);
        for (k, stamp) in stamps.iter().enumerate() {
            let (point, back) = stamp.split_once('/').unwrap_or((stamp, "0"));
            let pushed = packet.push(&Entry {
                time: now + AHEAD_NS + k as u64 * US,
                netns: Netns(2),
                ifindex: Ifindex(2),
                host: 1,
                point: Point::from_name(point).expect("a point"),
                cpu: None,
                back: back.parse().expect("how many back"),
                flags: StampFlags::default(),
            });
            assert!(pushed, "{stamp}");
        }
        packet
    }

    fn reply(&mut self, now: u64, message: &[u8], from: IpAddr) {
        let answered = self.core.reply(
            &Reply {
                message,
                from,
                ttl: None,
            },
            now,
            &mut self.host,
        );
        assert!(answered.is_none_or(|answered| answered.since_ns <= now));
        self.core.hand_out(now, &mut self.host);
    }

    /// An in-band reply to the youngest probe, with a window that begins at `seq`, of a server that has run for
    /// that many units.
    fn says(&mut self, now: u64, seq: &str, running: u16, statuses: &[&str]) {
        let youngest = self.core.session.sent() - 1;
        let back = u16::try_from(youngest - self.index(seq).0).expect("near");
        let mut window = WindowEntry::new_zeroed();
        window.kind = (pt_extension::PT_EXTENSION_WINDOW.0 as u16).into();
        window.running = running.into();
        window.back = back.into();
        for (k, name) in statuses.iter().enumerate() {
            window.statuses[k / 2] |= status_code(name) << (k % 2 * 4);
        }
        let seq = (youngest - self.first).to_string();
        let mut message = reply_to_probe(self.packet(now, Version::V1, &seq, &["r_rx_devrcv"]));
        let at = V1_HEADER + size_of::<EntryV1>();
        message[at..at + size_of::<WindowEntry>()].copy_from_slice(window.as_bytes());
        let (header, _) = Header::mut_from_prefix(&mut message).expect("a header");
        header.num += 1;
        self.reply(now, &with_checksum(message), peer());
    }

    fn dropped(&mut self, now: u64, seq: &str, way: &str, reason: &str) {
        let mut packet = self.packet(now, Version::V1, seq, &[]);
        packet.push_extension(&Extension::Drop {
            ns: now + AHEAD_NS,
            netns: Netns(2),
            ifindex: Ifindex(2),
            direction: direction(way),
            back: 0,
        });
        for text in Extension::texts(About::Reason, reason, 0) {
            packet.push_extension(&text);
        }
        self.reply(now, &packet.finish(), peer());
    }

    fn forged(&mut self, now: u64, what: &str, seq: &str) {
        let mut message = reply_to_probe(self.packet(now, Version::V1, seq, &["r_rx_devrcv"]));
        let (header, _) = Header::mut_from_prefix(&mut message).expect("a header");
        let mut from = peer();
        match what {
            "session" => {
                header.session = (SESSION.0 + 1).into();
                header.id = (SESSION.id(0) + 1).into();
            }
            "magic" => header.magic = 0.into(),
            "type" => header.kind = Family::V4.request(),
            "source" => from = [10, 0, 0, 3].into(),
            "checksum" => {}
            _ => panic!("no such part: {what}"),
        }
        message = with_checksum(message);
        if what == "checksum" {
            message[V1_HEADER] ^= 1;
        }
        self.reply(now, &message, from);
    }

    fn tick(&mut self, now: u64) {
        self.core.drained(now);
        self.core.expire(&mut self.host);
        self.core.hand_out(now, &mut self.host);
    }

    fn end(&mut self, now: u64) {
        self.core.drained(now);
        self.core.hand_out(now, &mut self.host);
        self.core.finish(&mut self.host);
    }

    /// The books balance after every event.
    fn check(&mut self) {
        let counters = &mut self.host.stats.counters;
        self.core.count(counters);
        counters.sent -= self.first;
        assert!(counters.balance(), "{counters:?}");
    }
}

/// The same message as the reply of a kernel to the probe itself.
fn reply_to_probe(packet: StampPacket) -> Vec<u8> {
    let mut message = packet.finish();
    let (header, _) = Header::mut_from_prefix(&mut message).expect("a header");
    header.flags = (header.flags.get() & !DONTADD).into();
    with_checksum(message)
}

fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
    set_checksum(&mut message, 0);
    let sum = checksum(&message, 1);
    set_checksum(&mut message, sum);
    message
}

fn drop_at(host: Host, direction: Direction, ns: u64) -> KernelDrop {
    KernelDrop {
        host,
        direction,
        ns,
        netns: Netns(1),
        ifindex: Ifindex(1),
        reason: Symbol::named("QDISC_DROP"),
        location: Symbol::default(),
        device: None,
        netns_name: None,
        mtu: None,
    }
}

fn direction(name: &str) -> Direction {
    Direction::from_name(name).expect("a direction")
}

fn status_code(name: &str) -> u8 {
    let names = [
        "-",
        "unseen",
        "arrived",
        "delivered",
        "replied",
        "left",
        "forgotten",
        "reply_dropped",
    ];
    let code = names.iter().position(|known| *known == name);
    code.expect("a status") as u8
}

/// What the core says in a run of this file, and what it should say.
fn play(text: &str) -> (Vec<String>, Vec<String>) {
    let (happened, expected) = text.split_once("=>").expect("an end");
    let lines = happened.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<Vec<&str>> = lines
        .map(|line| line.split_whitespace().collect())
        .collect();
    let (mut mode, mut first, mut start_us, mut blind) = (Mode::Auto, 0, 0, false);
    let mut run = None;
    for words in lines.iter().filter(|words| !words.is_empty()) {
        match words.as_slice() {
            ["mode", name] => mode = Mode::from_str(name, false).expect("a mode"),
            ["first", index] => first = index.parse().expect("an index"),
            ["start", us] => start_us = us.parse().expect("a time"),
            ["blind"] => blind = true,
            [at, event @ ..] => {
                let us: u64 = at.parse().expect("a time");
                let run = run.get_or_insert_with(|| Run::new(mode, first, start_us, blind));
                run.event(START_NS + us * US, event);
            }
            [] => {}
        }
    }
    let Run { mut host, .. } = run.expect("an event");
    host.said.push(counted(&host.stats.counters));
    let expected = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    (host.said, expected.map(str::to_owned).collect())
}

fn counted(counters: &Counters) -> String {
    let Counters {
        sent,
        replied,
        lost,
        in_flight,
        forgotten,
        late,
        dup,
        reordered,
        amended,
        malformed,
        bad_checksum,
        unmatched,
        refused,
        no_remote,
        ..
    } = *counters;
    let all = [
        ("sent", sent),
        ("replied", replied),
        ("lost", lost),
        ("in_flight", in_flight),
        ("forgotten", forgotten),
        ("late", late),
        ("dup", dup),
        ("reordered", reordered),
        ("amended", amended),
        ("malformed", malformed),
        ("bad_checksum", bad_checksum),
        ("unmatched", unmatched),
        ("refused", refused),
        ("no_remote", no_remote),
    ];
    let counted = all.iter().filter(|(_, count)| *count > 0);
    let counted: Vec<_> = counted
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    counted.join(" ")
}

#[test]
fn every_case() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/client");
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(folder).expect("tests/data/client") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a case");
        let (said, expected) = play(&text);
        if said != expected {
            let name = path.file_name().unwrap_or_default().display();
            wrong.push(format!("{name}: the core said\n=>\n{}", said.join("\n")));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 15);
}

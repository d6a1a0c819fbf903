//! Who learns what: a stranger, a client with the key, one with another key, and one that is not served.

use super::harness::{SOON, Server, client, sh};
use super::kit::stranger::{KeyFiles, OLD, Stranger, stamps, texts, with_server};
use netns::{Lab, Namespace};
use pingtrace::units::monotonic_ns;
use pingtrace::wire::entry::Entry;
use pingtrace::wire::extension::{About, Extension};
use pingtrace::wire::key::Keys;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, INBAND, RECORD, Version};
use pnet_packet::util::checksum;
use report::model::{Ifindex, Netns, Point};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::thread;
use std::time::{Duration, Instant};

/// A server that counts a client on its kernel as one of another host, and explains what is slow.
const ANOTHER_HOST: &str = "--userid 7 --explain=1us";
const HOUR_NS: u64 = 3_600_000_000_000;

fn is_like_clock(stamp: &Entry) -> bool {
    stamp.time.abs_diff(monotonic_ns()) < HOUR_NS
}

#[test]
fn a_stranger_gets_stages_but_no_names_and_no_clock() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start_closed(&lab.server.ns, ANOTHER_HOST);
    let mut stranger = Stranger::new(&lab);
    let mut origins = Vec::new();
    for (session, flags) in [(1, INBAND), (2, INBAND), (3, RECORD)].map(|(s, f)| (SessionId(s), f))
    {
        let came = stranger.learns(session, flags);
        let stamps = stamps(&came);
        for point in [Point::RRxDevrcv, Point::RTxDevqueue, Point::RTxDevout] {
            assert!(
                stamps.iter().any(|s| s.point == point),
                "{point:?}: {stamps:#?}"
            );
        }
        assert!(!stamps.iter().any(is_like_clock), "{stamps:#?}");
        // Differences are those of the clock.
        let times = stamps.iter().map(|s| s.time);
        let span = times.clone().max().unwrap() - times.clone().min().unwrap();
        assert!(span < 600_000_000_000, "{stamps:#?}");
        assert_eq!(texts(&came), 0, "{session:?}");
        origins.push(times.min().unwrap());
    }
    origins.sort_unstable();
    assert!(
        origins.windows(2).all(|pair| pair[1] - pair[0] > HOUR_NS),
        "{origins:?}"
    );
}

#[test]
fn an_open_server_tells_everybody_everything_and_says_so() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start_closed(&lab.server.ns, &format!("{ANOTHER_HOST} --open"));
    assert!(server.said("whoever can ping this host learns"));
    let mut stranger = Stranger::new(&lab);
    let deadline = Instant::now() + SOON;
    // A name is looked up when it is first wanted.
    loop {
        let came = stranger.learns(SessionId(1), INBAND);
        assert!(stamps(&came).iter().all(is_like_clock), "{came:?}");
        if texts(&came) > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "no names");
    }
}

/// A request that no socket of IP has sent is another host's: the server's kernel stamps it in every namespace.
#[test]
fn a_stranger_gets_no_numbers_of_other_namespaces() {
    let lab = Lab::veth_pair().unwrap();
    for (args, hidden) in [("", true), ("--open", false)] {
        let _server = Server::start_closed(&lab.server.ns, args);
        let mut stranger = Stranger::new(&lab);
        let frames = packet_socket(&lab.client.ns);
        let mut probe = Probe::new(Family::V4, Version::V1, SessionId(9), 512, INBAND);
        let mut seen = Vec::new();
        for _ in 0..20 {
            let message = probe
                .at(Sequence(stranger.sequence), stranger.cookie)
                .to_vec();
            frames
                .send_to(&ipv4(&lab, &message), &on_device(&lab))
                .unwrap();
            seen.extend(stamps(&stranger.reply(SessionId(9))));
            stranger.sequence += 1;
        }
        let server = Netns(lab.server.ns.inode());
        let client = Netns(lab.client.ns.inode());
        assert!(seen.iter().any(|s| s.netns == server), "{seen:#?}");
        let elsewhere: Vec<_> = seen
            .iter()
            .filter(|s| ![Netns(0), server].contains(&s.netns))
            .collect();
        assert!(!elsewhere.is_empty(), "{seen:#?}");
        for stamp in elsewhere {
            let real = (stamp.netns, stamp.ifindex) == (client, Ifindex(lab.client.ifindex));
            assert_eq!(real, !hidden, "{stamp:?}");
            assert!(
                !hidden || stamp.netns.0 <= 0x10000 && stamp.ifindex.0 <= 0x10000,
                "{stamp:?}"
            );
        }
    }
}

fn packet_socket(ns: &Namespace) -> Socket {
    let open = || Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)));
    ns.run(open).unwrap().unwrap()
}

fn ipv4(lab: &Lab, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(20 + message.len() as u16).to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 1]);
    packet[12..16].copy_from_slice(&lab.client.v4.octets());
    packet[16..20].copy_from_slice(&lab.server.v4.octets());
    let sum = checksum(&packet, 5);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(message);
    packet
}

fn on_device(lab: &Lab) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage has room for every kind of address.
    let to = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    to.sll_ifindex = lab.client.ifindex.cast_signed();
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&[0xff; 6]);
    // SAFETY: an address of this kind was written.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}

/// What somebody learns who sends echo requests, with blame and drops: the columns of a row in docs/security.md.
#[expect(clippy::struct_excessive_bools, reason = "columns of a table")]
#[derive(Debug, Default, PartialEq, Eq)]
struct Learnt {
    stages: bool,
    reason: bool,
    own_numbers: bool,
    other_numbers: bool,
    clock: bool,
    names: bool,
    blame: bool,
    function: bool,
}

impl Learnt {
    const NOTHING: Self = Self {
        stages: false,
        reason: false,
        own_numbers: false,
        other_numbers: false,
        clock: false,
        names: false,
        blame: false,
        function: false,
    };
    const STRANGER: Self = Self {
        stages: true,
        reason: true,
        own_numbers: true,
        ..Self::NOTHING
    };
    const EVERYTHING: Self = Self {
        stages: true,
        reason: true,
        own_numbers: true,
        other_numbers: true,
        clock: true,
        names: true,
        blame: true,
        function: true,
    };

    /// Takes what a packet of the server says.
    fn take(&mut self, lab: &Lab, message: &[u8]) {
        let packet = packet::parse(message, Family::V4).unwrap();
        for stamp in packet.entries().flatten() {
            self.stages = true;
            self.clock |= is_like_clock(&stamp);
            self.own_numbers |= stamp.netns == Netns(lab.server.ns.inode());
            self.other_numbers |= stamp.netns == Netns(lab.client.ns.inode());
        }
        for extension in packet.extensions() {
            let Extension::Text { about, .. } = extension else {
                continue;
            };
            match about {
                About::Reason => self.reason = true,
                About::Location => self.function = true,
                About::Blame => self.blame = true,
                About::Device | About::Netns | About::Name => self.names = true,
            }
        }
    }

    fn row(&self, mode: &str) -> String {
        let cells = [
            self.stages,
            self.reason,
            self.own_numbers,
            self.other_numbers,
            self.clock,
            self.names,
            self.blame,
            self.function,
        ];
        let cells = cells.map(|told| if told { "yes" } else { "no" });
        format!("| {mode} | {} |", cells.join(" | "))
    }
}

/// Asks until it has learnt what is expected, or for a while if that is less; in the end replies are dropped. The
/// requests are those of another host: no socket of IP sends them.
fn learn(lab: &Lab, keys: Option<Keys>, expected: &Learnt) -> Learnt {
    let (mut learnt, mut stranger) = (Learnt::default(), Stranger::new(lab));
    let frames = packet_socket(&lab.client.ns);
    let session = SessionId(77);
    for (flags, drops) in [(INBAND, false), (RECORD, false), (INBAND | RECORD, true)] {
        let mut probe = Probe::new(Family::V4, Version::V1, session, 512, flags).with_keys(keys);
        let mut wanted = Learnt { ..*expected };
        if drops {
            sh(&lab.server.ns, DROP_REPLIES);
        } else {
            (wanted.reason, wanted.function) = (false, false);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(250) || learnt != wanted {
            assert!(begin.elapsed() < SOON, "{learnt:?}, not {wanted:?}");
            let message = probe
                .at(Sequence(stranger.sequence), stranger.cookie)
                .to_vec();
            frames
                .send_to(&ipv4(lab, &message), &on_device(lab))
                .unwrap();
            stranger.sequence += 1;
            thread::sleep(Duration::from_millis(20));
            for message in stranger.drain(session) {
                learnt.take(lab, &message);
            }
        }
    }
    sh(&lab.server.ns, "nft delete table inet dropped");
    learnt
}

/// Those of 512 bytes: reports are shorter.
const DROP_REPLIES: &str = "nft add table inet dropped
nft add chain inet dropped out '{ type filter hook output priority 0 ; }'
nft add rule inet dropped out icmp type echo-reply meta length 532 drop";

#[test]
fn who_learns_what_is_as_the_table_says() {
    let documented = include_str!("../docs/security.md");
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let key = files.with(&[OLD]);
    let keys = Some(files.keys(&[OLD]));
    let private = Learnt {
        names: false,
        ..Learnt::EVERYTHING
    };
    let mut missing = Vec::new();
    for (mode, args, keys, expected) in [
        (
            "neither `--key-file` nor `--open`",
            "",
            None,
            Learnt::STRANGER,
        ),
        ("`--open`", "--open", None, Learnt::EVERYTHING),
        (
            "`--open --private`",
            "--open --private",
            None,
            Learnt { ..private },
        ),
        (
            "`--key-file`, a peer with the key",
            &key,
            keys,
            Learnt::EVERYTHING,
        ),
        (
            "`--key-file --private`, a peer with the key",
            &format!("--private {key}"),
            keys,
            private,
        ),
        ("`--key-file`, anybody else", &key, None, Learnt::NOTHING),
        (
            "`--deny`, `--allow` of others",
            "--open --deny 10.77.0.1",
            None,
            Learnt::NOTHING,
        ),
    ] {
        let _server = Server::start_closed(&lab.server.ns, &format!("--explain=1us {args}"));
        let learnt = learn(&lab, keys, &expected);
        assert_eq!(learnt, expected, "{mode}");
        let row = learnt.row(mode);
        if !documented.contains(&row) {
            missing.push(row);
        }
    }
    assert!(
        missing.is_empty(),
        "not in docs/security.md:\n{}",
        missing.join("\n")
    );
}

#[test]
fn only_who_is_allowed_is_served() {
    let lab = Lab::veth_pair().unwrap();
    for (args, served, served6) in [
        ("--deny 10.77.0.0/24", false, true),
        ("--allow 10.77.0.1", true, false),
        ("--allow 10.0.0.0/8,fd77::/64 --deny 10.77.0.1", false, true),
        ("--deny 0.0.0.0/0,::/0 --allow fd77::1", false, true),
    ] {
        let server = Server::start(&lab.server.ns, args);
        for (to, served) in [("10.77.0.2", served), ("fd77::2", served6)] {
            let args_of_client = format!("-c {to} -i 10ms -C 10 -o json");
            let run = client(&lab.client.ns, &args_of_client);
            assert_eq!(run.stat()["replied"], 10, "{run:#?}");
            assert_eq!(with_server(&run) > 0, served, "{args} {to}: {run:#?}");
        }
        let (_, story) = server.stop(libc::SIGTERM);
        let refused = story
            .iter()
            .any(|l| l.contains("requests from addresses that are not served: "));
        assert_eq!(refused, !(served && served6), "{args}: {story:#?}");
    }
}

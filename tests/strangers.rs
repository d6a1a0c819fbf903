//! Who learns what: a stranger, a client with the key, one with another key, and one that is not served.

use super::harness::{Finished, Server, client, finish, pingtrace, refused, sh};
use netns::{Lab, Namespace};
use pingtrace::exit;
use pingtrace::units::monotonic_ns;
use pingtrace::wire::entry::Entry;
use pingtrace::wire::extension::{About, Extension};
use pingtrace::wire::key::Keys;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{DONTADD, Family, INBAND, RECORD, Version};
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use pnet_packet::util::checksum;
use report::model::{Ifindex, Netns, Point};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::fs;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that counts a client on its kernel as one of another host, and explains what is slow.
const ANOTHER_HOST: &str = "--userid 7 --explain=1us";
const HOUR_NS: u64 = 3_600_000_000_000;
/// Exit status.
const USAGE: i32 = exit::USAGE as i32;
const SOON: Duration = Duration::from_secs(20);

/// Sends echo requests by hand.
struct Stranger<'a> {
    lab: &'a Lab,
    socket: ProbeSocket,
    /// What the last reply gave.
    cookie: u64,
    sequence: u32,
}

impl<'a> Stranger<'a> {
    fn new(lab: &'a Lab) -> Self {
        let open = || ProbeSocket::open(Family::V4, &Options::default());
        Self {
            lab,
            socket: lab.client.ns.run(open).unwrap().unwrap(),
            cookie: 0,
            sequence: 0,
        }
    }

    /// Everything that comes back of some probes of a session, the echo replies and what is sent on top.
    fn learns(&mut self, session: SessionId, flags: u16) -> Vec<Vec<u8>> {
        let mut probe = Probe::new(Family::V4, Version::V1, session, 512, flags);
        let to = SocketAddr::new(self.lab.server.v4.into(), 0).into();
        let mut came = Vec::new();
        for _ in 0..20 {
            let message = probe.at(Sequence(self.sequence), self.cookie).to_vec();
            self.socket.send(&message, &to).unwrap();
            came.extend(self.reply(session));
            self.sequence += 1;
        }
        came
    }

    /// The packets of the server that have come so far.
    fn drain(&mut self, session: SessionId) -> Vec<Vec<u8>> {
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        let mut came = Vec::new();
        while let (Received::Reply(reply), _) = self.socket.receive(&mut buffer).unwrap() {
            if let Ok(packet) = packet::parse(reply.message, Family::V4)
                && !packet.request
                && packet.session == session
            {
                self.cookie = packet.cookie;
                came.push(reply.message.to_vec());
            }
        }
        came
    }

    /// The packets up to the echo reply of the last request.
    fn reply(&mut self, session: SessionId) -> Vec<Vec<u8>> {
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        let (mut came, deadline) = (Vec::new(), Instant::now() + SOON);
        loop {
            assert!(Instant::now() < deadline, "no reply");
            let (Received::Reply(reply), _) = self.socket.receive(&mut buffer).unwrap() else {
                continue;
            };
            let Ok(packet) = packet::parse(reply.message, Family::V4) else {
                continue;
            };
            if packet.request || packet.session != session {
                continue;
            }
            came.push(reply.message.to_vec());
            self.cookie = packet.cookie;
            if !packet.is_stamp_packet() && packet.sequence == Sequence(self.sequence) {
                return came;
            }
        }
    }
}

fn stamps(messages: &[Vec<u8>]) -> Vec<Entry> {
    let packets = messages
        .iter()
        .map(|m| packet::parse(m, Family::V4).unwrap());
    packets
        .flat_map(|packet| packet.entries().flatten().collect::<Vec<_>>())
        .collect()
}

/// Blame, names, functions.
fn texts(messages: &[Vec<u8>]) -> usize {
    let packets = messages
        .iter()
        .map(|m| packet::parse(m, Family::V4).unwrap());
    let is_text = |e: &Extension| matches!(e, Extension::Text { .. } | Extension::Place { .. });
    packets
        .map(|packet| packet.extensions().filter(is_text).count())
        .sum()
}

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
        while begin.elapsed() < Duration::from_millis(500) || learnt != wanted {
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
    let keys = Some(Keys::of_file(key.rsplit(' ').next().unwrap()).unwrap());
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

const OLD: &str = "000102030405060708090a0b0c0d0e0f";
const NEW: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

/// Key files of one test.
struct KeyFiles(TempDir);

impl KeyFiles {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The option that names a file with these lines.
    fn option(&self, lines: &str, mode: u32) -> String {
        let name = format!(
            "{}-{mode:o}",
            lines.len() * 1000 + usize::from(lines.as_bytes()[0])
        );
        let path = self.0.path().join(name);
        fs::write(&path, lines).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        format!("--key-file {}", path.display())
    }

    fn with(&self, keys: &[&str]) -> String {
        self.option(&keys.join("\n"), 0o600)
    }
}

/// Answered probes with a stamp of the server.
fn with_server(run: &Finished) -> usize {
    let of_server = |probe: &serde_json::Value| {
        let points = probe["points"].as_array().unwrap();
        points.iter().any(|point| point["host"] == "server")
    };
    run.probes().iter().filter(|probe| of_server(probe)).count()
}

#[test]
fn who_has_the_key_learns_everything_and_others_nothing() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let key = files.with(&[OLD]);
    let server = Server::start_closed(&lab.server.ns, &format!("{ANOTHER_HOST} {key}"));
    for mode in ["auto", "compact"] {
        let args = format!("-c 10.77.0.2 --userid 3 -i 20ms -C 20 -o json --mode {mode} {key}");
        let run = client(&lab.client.ns, &args);
        assert!(with_server(&run) >= 10, "{mode}: {run:#?}");
        assert_eq!(run.stat()["untagged"].as_u64().unwrap_or(0), 0, "{run:#?}");
        assert!(!run.stderr.contains("key"), "{run:#?}");
    }
    let mut stranger = Stranger::new(&lab);
    for (session, flags) in [(1, INBAND), (2, RECORD)] {
        let came = stranger.learns(SessionId(session), flags);
        assert_eq!((came.len(), stamps(&came).len(), texts(&came)), (20, 0, 0));
        assert_eq!(stranger.cookie, 0, "what it sent");
    }
    let (_, story) = server.stop(libc::SIGTERM);
    let untagged = "requests without a tag, as this server has keys: 40";
    assert!(
        story.iter().any(|line| line.contains(untagged)),
        "{story:#?}"
    );
}

#[test]
fn two_ends_with_different_keys_both_say_so() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let [old, new] = [OLD, NEW].map(|key| files.with(&[key]));
    let server = Server::start_closed(&lab.server.ns, &old);
    let args = format!("-c 10.77.0.2 -i 10ms -C 40 -o json {new}");
    let run = client(&lab.client.ns, &args);
    assert_eq!((run.status, with_server(&run)), (0, 0), "{run:#?}");
    assert!(
        run.stderr
            .contains("the server has another key (--key-file)"),
        "{run:#?}"
    );
    let (_, story) = server.stop(libc::SIGTERM);
    let words = "requests with the tag of another key (--key-file): 1, the last one from 10.77.0.1";
    assert!(story.iter().any(|line| line.contains(words)), "{story:#?}");
    let _server = Server::start_closed(&lab.server.ns, "");
    let run = client(&lab.client.ns, &args);
    assert!(with_server(&run) >= 30, "{run:#?}");
    assert!(
        run.stderr.contains("the server has no key (--key-file)"),
        "{run:#?}"
    );
}

/// Each end may have the new key first or second while it is replaced, and the old one alone before that.
#[test]
fn keys_are_replaced_without_a_gap() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let both = [files.with(&[OLD, NEW]), files.with(&[NEW, OLD])];
    let alone = [files.with(&[OLD]), files.with(&[NEW])];
    for (server, clients) in [
        (&both[0], [&alone[0], &both[0], &both[1]]),
        (&both[1], [&alone[1], &both[0], &both[1]]),
    ] {
        let _server = Server::start_closed(&lab.server.ns, server);
        for (client_key, mode) in clients
            .into_iter()
            .flat_map(|key| [(key, "auto"), (key, "compact")])
        {
            let args = format!("-c 10.77.0.2 -i 10ms -C 20 -o json --mode {mode} {client_key}");
            let run = client(&lab.client.ns, &args);
            assert!(with_server(&run) >= 10, "{mode}: {run:#?}");
            assert_eq!(run.stat()["untagged"].as_u64().unwrap_or(0), 0, "{run:#?}");
        }
    }
}

/// Requests of a client as they arrive, by a raw socket on the server's host.
fn overheard(lab: &Lab, args: &str, wanted: usize) -> (Vec<Vec<u8>>, Finished) {
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let socket = lab.server.ns.run(open).unwrap().unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let run = pingtrace(&lab.client.ns, args);
    let mut requests = Vec::new();
    let mut buffer = [0; 2048];
    while requests.len() < wanted {
        let length = (&socket).read(&mut buffer).expect("a request");
        let message = &buffer[20..length];
        if message[0] == Family::V4.request() {
            requests.push(message.to_vec());
        }
    }
    (requests, finish(run))
}

#[test]
fn what_was_overheard_gets_no_stamps_when_it_is_sent_again() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let key = files.with(&[OLD]);
    let server = Server::start_closed(&lab.server.ns, &key);
    let args = format!("-c 10.77.0.2 -i 10ms -C 30 -o json {key}");
    let (requests, run) = overheard(&lab, &args, 30);
    assert!(with_server(&run) >= 29, "{run:#?}");
    let mut again = Stranger::new(&lab);
    let to = SocketAddr::new(lab.server.v4.into(), 0).into();
    for request in &requests {
        let packet = packet::parse(request, Family::V4).unwrap();
        again.sequence = packet.sequence.0;
        again.socket.send(request, &to).unwrap();
        let came = again.reply(packet.session);
        assert_eq!(stamps(&came).len(), 0, "{packet:#?}");
    }
    let (_, story) = server.stop(libc::SIGTERM);
    let words = "requests whose tag was used before: 30";
    assert!(story.iter().any(|line| line.contains(words)), "{story:#?}");
}

/// Somebody who sees the probes, but has no key.
#[test]
fn a_forged_stamp_packet_is_counted_and_ignored() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let key = files.with(&[OLD]);
    let _server = Server::start_closed(&lab.server.ns, &key);
    let open = || ProbeSocket::sender(Family::V4, SocketAddr::new(lab.server.v4.into(), 0));
    let liar = lab.server.ns.run(open).unwrap().unwrap();
    let listen = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let listener = lab.server.ns.run(listen).unwrap().unwrap();
    listener.set_read_timeout(Some(SOON)).unwrap();
    let args = format!("-c 10.77.0.2 -i 20ms -C 50 -o json {key}");
    let run = pingtrace(&lab.client.ns, &args);
    let to = SocketAddr::new(lab.client.v4.into(), 0).into();
    let mut buffer = [0; 2048];
    let mut forged = 0;
    while forged < 20 {
        let length = (&listener).read(&mut buffer).expect("a request");
        let mut message = buffer[20..length].to_vec();
        let packet = packet::parse(&message, Family::V4).unwrap();
        // The server shows its key in its first reply.
        if !packet.request || packet.sequence.0 < 5 {
            continue;
        }
        message[0] = Family::V4.reply();
        message[11] |= DONTADD as u8;
        let sum = checksum(&message, 1);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        liar.send(&message, &to).unwrap();
        forged += 1;
    }
    let run = finish(run);
    assert_eq!(run.stat()["untagged"], 20, "{run:#?}");
    assert!(with_server(&run) >= 49, "{run:#?}");
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

#[test]
fn bad_keys_and_networks_are_refused_with_a_remedy() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let key = files.with(&[OLD]);
    for (args, words) in [
        (
            files.option(OLD, 0o644),
            &["others can read", "chmod 0600"][..],
        ),
        (
            files.with(&["abcd"]),
            &["too short", "openssl rand -hex 16"],
        ),
        (
            files.with(&[OLD, NEW, "11111111111111111111111111111111"]),
            &["3 keys, and two at most"],
        ),
        (
            "--key-file /none/key".to_owned(),
            &["/none/key", "No such file"],
        ),
        (format!("--open {key}"), &["--open", "--key-file"]),
        (
            "--allow 10.0.0.0/33".to_owned(),
            &["'10.0.0.0/33'", "10.0.0.0/8"],
        ),
        ("--deny web1".to_owned(), &["'web1' is neither a network"]),
        (
            "--allow 10.0.0.1 --deny 10.0.0.1".to_owned(),
            &["10.0.0.1/32 is in --allow and in --deny"],
        ),
    ] {
        refused(&client(&lab.server.ns, &format!("-s {args}")), USAGE, words);
    }
    for option in ["--open", "--private", "--allow 10.0.0.1", "--deny 10.0.0.1"] {
        let args = format!("-c 10.77.0.2 -C 1 {option}");
        let name = option.split(' ').next().unwrap();
        refused(&client(&lab.client.ns, &args), USAGE, &[name, "--client"]);
    }
}

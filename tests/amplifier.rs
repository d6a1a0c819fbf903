//! A server is no amplifier: what it sends on top of the kernel's own echo, counted on the wire at the attacker
//! or at the victim. Each test prints a row of the table in docs/security.md.

use super::harness::{Server, client, sh};
use super::kit::attacker::{Counter, Injector, Traffic, summed};
use netns::{Host, Lab, Namespace, Netlink};
use pingtrace::wire::layout::V1_HEADER;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, INBAND, RECORD, Version};
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// Requests of an attack.
const COUNT: u64 = 100;
/// In it every report has been sent, also that of a drop, which waits for 100 ms.
const SETTLED: Duration = Duration::from_millis(400);
/// The default size of a probe's message.
const SIZE: usize = 512;
/// IP headers.
const IP4: u64 = 20;

/// A server, and an attacker next to it.
struct Field {
    family: Family,
    lab: Lab,
    _server: Server,
    to: IpAddr,
    /// The next session: no attack uses probes of another one.
    next: Cell<u32>,
}

impl Field {
    fn new(args: &str) -> Self {
        Self::over(Family::V4, args)
    }

    fn over(family: Family, args: &str) -> Self {
        let lab = Lab::veth_pair().unwrap();
        let server = Server::start(&lab.server.ns, args);
        Self {
            family,
            to: address_of(&lab.server, family),
            lab,
            _server: server,
            next: Cell::new(0x1234_5678),
        }
    }

    fn session(&self) -> SessionId {
        SessionId(self.next.replace(self.next.get() + 1))
    }

    fn own(&self) -> IpAddr {
        address_of(&self.lab.client, self.family)
    }

    /// The cookie that honest probes of a session get, from this namespace's own address. A reply for which no
    /// program ran has none.
    fn cookie(&self, ns: &Namespace, session: SessionId) -> u64 {
        let family = self.family;
        let open = || ProbeSocket::open(family, &Options::default());
        let socket = ns.run(open).unwrap().unwrap();
        let mut probe = Probe::new(self.family, Version::V1, session, SIZE, INBAND);
        let to = SocketAddr::new(self.to, 0).into();
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        for k in 0..20 {
            let sequence = Sequence(0x1000 + k);
            socket.send(probe.at(sequence, 0), &to).unwrap();
            let (Received::Reply(reply), _) = socket.receive(&mut buffer).unwrap() else {
                continue;
            };
            match packet::parse(reply.message, self.family) {
                Ok(reply) if !reply.request && reply.cookie != 0 => return reply.cookie,
                _ => {}
            }
        }
        panic!("the server gives no cookie");
    }

    /// What requests from this address cause at a namespace's device; each has another sequence number. Waits
    /// until at least `owed` packets on top have come.
    fn attack(
        &self,
        what: &str,
        at: &Namespace,
        from: IpAddr,
        owed: u64,
        each: impl Fn(u32) -> Vec<u8>,
    ) -> Traffic {
        let counter = Counter::start(at, self.to);
        let mut injector = Injector::new(&self.lab.client.ns, from, self.to);
        for k in 1..=COUNT as u32 {
            injector.message(&each(k));
        }
        counter.wait_on_top(owed);
        told(what, counter)
    }

    /// From the attacker's own address.
    fn own_attack(&self, what: &str, each: impl Fn(u32) -> Vec<u8>) -> Traffic {
        let traffic = self.attack(what, &self.lab.client.ns, self.own(), 0, each);
        assert_eq!(traffic.asked.0, COUNT, "{what}: {traffic:?}");
        traffic
    }

    /// The same requests, which deserve a packet each: at most that, and no more bytes. For some requests no
    /// program of the kernel runs.
    fn served(&self, what: &str, each: impl Fn(u32) -> Vec<u8>) -> Traffic {
        let traffic = self.attack(what, &self.lab.client.ns, self.own(), COUNT / 2, each);
        within_requests(traffic);
        traffic
    }

    /// The victim: a host behind the attacker's, whose address the attacker forges.
    fn victim(&self) -> (Namespace, IpAddr) {
        let of_family = |v4: &str, v6: &str| -> IpAddr {
            let text = if self.to.is_ipv4() { v4 } else { v6 };
            text.parse().unwrap()
        };
        let [near, far] =
            [("10.79.0.1", "fd79::1"), ("10.79.0.2", "fd79::2")].map(|(v4, v6)| of_family(v4, v6));
        let prefix = if self.to.is_ipv4() { 24 } else { 64 };
        let victim = Namespace::anonymous().unwrap();
        let set_up = |device: &str, address| {
            let mut netlink = Netlink::open()?;
            let index = netlink.link_named(device)?.index;
            netlink.add_address(index, address, prefix)?;
            netlink.set_up(index)
        };
        // It has its address at once, without duplicate detection.
        for ns in [&self.lab.client.ns, &victim] {
            sh(ns, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        }
        let middle = || {
            Netlink::open()?.add_veth("victim", "eth0", &victim)?;
            set_up("victim", near)
        };
        self.lab.client.ns.run(middle).unwrap().unwrap();
        victim.run(|| set_up("eth0", far)).unwrap().unwrap();
        sh(&self.lab.client.ns, FORWARD);
        for (ns, network, via) in [
            (
                &self.lab.server.ns,
                of_family("10.79.0.0", "fd79::"),
                self.own(),
            ),
            (&victim, of_family("10.77.0.0", "fd77::"), near),
        ] {
            let route = || Netlink::open()?.add_route(network, prefix, via);
            ns.run(route).unwrap().unwrap();
        }
        (victim, far)
    }
}

const FORWARD: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";

fn address_of(host: &Host, family: Family) -> IpAddr {
    match family {
        Family::V4 => host.v4.into(),
        Family::V6 => host.v6.into(),
    }
}

/// Waits until all was sent, and prints the row.
fn told(what: &str, counter: Counter) -> Traffic {
    thread::sleep(SETTLED);
    let traffic = counter.stop();
    let row = [traffic.asked, traffic.echoed, traffic.on_top];
    let row = row.map(|(packets, bytes)| format!("{packets} / {bytes}"));
    println!("| {what} | {} |", row.join(" | "));
    traffic
}

fn probe(session: SessionId, size: usize, flags: u16) -> Probe {
    Probe::new(Family::V4, Version::V1, session, size, flags)
}

/// A request of the default size.
fn message(session: SessionId, sequence: u32, flags: u16, cookie: u64) -> Vec<u8> {
    probe(session, SIZE, flags)
        .at(Sequence(sequence), cookie)
        .to_vec()
}

/// With a wrong checksum.
fn spoiled(mut message: Vec<u8>) -> Vec<u8> {
    message[2] ^= 0x55;
    message
}

/// The first bytes of a message.
fn cut(mut message: Vec<u8>, size: usize) -> Vec<u8> {
    message.truncate(size);
    summed(message)
}

/// Version 0 requests of this size.
fn v0(field: &Field, size: usize) -> impl Fn(u32) -> Vec<u8> {
    let session = field.session();
    move |k| {
        let mut probe = Probe::new(Family::V4, Version::V0, session, size, 0);
        cut(probe.at(Sequence(k), 0).to_vec(), size)
    }
}

fn nothing_on_top(traffic: Traffic) {
    assert_eq!(traffic.on_top, (0, 0), "{traffic:?}");
}

/// At most a packet for each request, and no more bytes.
fn within_requests(traffic: Traffic) {
    let Traffic { asked, on_top, .. } = traffic;
    assert!(on_top.0 <= asked.0 && on_top.1 <= asked.1, "{traffic:?}");
}

#[test]
fn version_0_requests_get_no_more_than_their_size() {
    let field = Field::new("--nslocal");
    nothing_on_top(field.own_attack("version 0, 32 bytes", v0(&field, 32)));
    nothing_on_top(field.own_attack("version 0, 144 bytes", v0(&field, 144)));
    nothing_on_top(field.own_attack("version 0, 167 bytes", v0(&field, 167)));
    field.served("version 0, 552 bytes", v0(&field, 552));
}

/// What `--v0` permits.
#[test]
fn version_0_requests_get_more_on_demand() {
    let field = Field::new("--nslocal --v0");
    let (ns, own) = (&field.lab.client.ns, field.own());
    let what = "version 0, 144 bytes, --v0";
    let traffic = field.attack(what, ns, own, COUNT / 2, v0(&field, 144));
    assert!(traffic.on_top.0 <= COUNT, "{traffic:?}");
    assert!(traffic.on_top.1 > traffic.on_top.0 * 164, "{traffic:?}");
}

#[test]
fn short_requests_get_nothing() {
    let field = Field::new("--nslocal");
    for size in [32, 47] {
        let session = field.session();
        let cookie = field.cookie(&field.lab.client.ns, session);
        let what = format!("version 1, {size} bytes, RECORD");
        let traffic = field.own_attack(&what, |k| {
            let mut message = probe(session, V1_HEADER, RECORD);
            cut(message.at(Sequence(k), cookie).to_vec(), size)
        });
        nothing_on_top(traffic);
    }
}

#[test]
fn without_a_cookie_nothing_is_sent() {
    let field = Field::new("--nslocal --explain=1us");
    for (how, flags) in [
        ("RECORD", RECORD),
        ("INBAND", INBAND),
        ("both", RECORD | INBAND),
    ] {
        for (what, cookie) in [("no cookie", 0), ("a guessed cookie", 0x5555_5555)] {
            let session = field.session();
            let what = format!("{what}, {how}, --explain");
            nothing_on_top(field.own_attack(&what, |k| message(session, k, flags, cookie)));
        }
    }
}

/// A forged address, without a cookie, or with one that the attacker got for its own address.
#[test]
fn a_third_party_gets_only_the_kernels_echo() {
    let field = Field::new("--nslocal --explain=1us");
    let (victim, address) = field.victim();
    for (how, has_cookie) in [("no cookie", false), ("the attacker's cookie", true)] {
        for (asks, flags) in [("RECORD", RECORD), ("INBAND", INBAND)] {
            let session = field.session();
            let own = has_cookie.then(|| field.cookie(&field.lab.client.ns, session));
            let cookie = own.unwrap_or(0);
            let what = format!("forged address, {how}, {asks}");
            let traffic = field.attack(&what, &victim, address, 0, |k| {
                message(session, k, flags, cookie)
            });
            assert_eq!(traffic.echoed.0, COUNT, "{traffic:?}");
            nothing_on_top(traffic);
        }
    }
    let what = "forged address, version 0, 144 bytes";
    nothing_on_top(field.attack(what, &victim, address, 0, v0(&field, 144)));
}

/// Of another session, or of another source: the victim's own does not serve the attacker.
#[test]
fn a_cookie_serves_one_source_and_one_session() {
    let field = Field::new("--nslocal");
    let (victim, _) = field.victim();
    let [of_source, of_session, other] = [(); 3].map(|()| field.session());
    for (whose, session, cookie) in [
        (
            "another source",
            of_source,
            field.cookie(&victim, of_source),
        ),
        (
            "another session",
            of_session,
            field.cookie(&field.lab.client.ns, other),
        ),
    ] {
        let what = format!("the cookie of {whose}");
        nothing_on_top(field.own_attack(&what, |k| message(session, k, RECORD, cookie)));
    }
}

/// The same cookie serves its session until it is too old. The server's clock is stepped some seconds after its start,
/// later on a machine that was too slow for that.
#[test]
fn a_replayed_cookie_grows_old() {
    let steps = [3, 6, 12, 24, 48];
    let in_time = steps.into_iter().any(is_served_until_a_step);
    assert!(in_time, "{COUNT} requests take longer than {steps:?} s");
}

/// Whether there was time enough before the step.
fn is_served_until_a_step(after_s: u64) -> bool {
    let begun = Instant::now();
    let field = Field::new(&format!("--nslocal --lab-clock step={after_s}s:200s"));
    // The server read its clock for the last time when it started.
    let is_over = Instant::now() + Duration::from_secs(after_s);
    let (attacker, session) = (&field.lab.client.ns, field.session());
    let cookie = field.cookie(attacker, session);
    let replayed = |k| message(session, k, RECORD, cookie);
    let counter = Counter::start(attacker, field.to);
    let mut injector = Injector::new(attacker, field.own(), field.to);
    (1..=COUNT as u32).for_each(|k| injector.message(&replayed(k)));
    while counter.on_top() < COUNT / 2 {
        if begun.elapsed().as_secs() >= after_s {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    within_requests(told("a cookie replayed", counter));
    thread::sleep(is_over.saturating_duration_since(Instant::now()));
    let old = |k| replayed(1_000 + k);
    nothing_on_top(field.own_attack("a cookie of 200 s ago", old));
    true
}

#[test]
fn a_probe_has_one_packet() {
    let field = Field::new("--nslocal");
    let session = field.session();
    let cookie = field.cookie(&field.lab.client.ns, session);
    let traffic = field.own_attack("one probe, 100 times", |_| {
        message(session, 9, RECORD, cookie)
    });
    within_requests(traffic);
}

/// Blame, and stamps with it, in one packet.
#[test]
fn blame_is_no_second_packet() {
    let field = Field::new("--nslocal --userid 7 --explain=1us");
    for (how, flags) in [
        ("INBAND", INBAND),
        ("RECORD", RECORD),
        ("both", RECORD | INBAND),
    ] {
        let session = field.session();
        let cookie = field.cookie(&field.lab.client.ns, session);
        let what = format!("{how}, --explain");
        let ns = &field.lab.client.ns;
        // Explaining has a share of a CPU: not all are explained.
        let traffic = field.attack(&what, ns, field.own(), 1, |k| {
            message(session, k, flags, cookie)
        });
        within_requests(traffic);
    }
}

#[test]
fn a_wrong_checksum_gets_nothing() {
    let field = Field::new("--nslocal --explain=1us");
    for (how, flags) in [("INBAND", INBAND), ("RECORD", RECORD)] {
        let what = format!("a wrong checksum, {how}");
        let session = field.session();
        let cookie = field.cookie(&field.lab.client.ns, session);
        let traffic = field.own_attack(&what, |k| spoiled(message(session, k, flags, cookie)));
        assert_eq!(traffic.echoed.0, 0, "{traffic:?}");
        nothing_on_top(traffic);
    }
}

/// The header says more than there is, or less.
#[test]
fn a_wrong_length_gets_nothing() {
    let field = Field::new("--nslocal");
    let session = field.session();
    let cookie = field.cookie(&field.lab.client.ns, session);
    for (after, what, size, total) in [
        (0, "68 bytes that say they are 532", V1_HEADER, SIZE),
        (1_000, "532 bytes that say they are 60", SIZE, 40),
    ] {
        let counter = Counter::start(&field.lab.client.ns, field.to);
        let injector = Injector::new(&field.lab.client.ns, field.own(), field.to);
        for k in 1..=COUNT as u32 {
            let message = message(session, after + k, RECORD | INBAND, cookie);
            injector.lie(&field.lab.client, &cut(message, size), total);
        }
        let traffic = told(what, counter);
        assert_eq!(traffic.asked.0, COUNT, "{traffic:?}");
        nothing_on_top(traffic);
    }
}

/// Drops of proven requests are reported once, others never.
#[test]
fn a_drop_is_one_packet() {
    let field = Field::new("--nslocal");
    let ns = &field.lab.server.ns;
    let [unproven, proven] = [(); 2].map(|()| field.session());
    let cookie = field.cookie(&field.lab.client.ns, proven);
    sh(ns, "ip rule add pref 10 table local; ip rule del pref 0");
    sh(ns, "ip rule add pref 5 iif eth0 blackhole");
    let traffic = field.own_attack("dropped, no cookie", |k| message(unproven, k, INBAND, 0));
    nothing_on_top(traffic);
    let traffic = field.served("dropped", |k| message(proven, k, INBAND, cookie));
    assert_eq!(traffic.echoed.0, 0, "{traffic:?}");
}

/// Nothing on top of any of these, so they share a count.
#[test]
fn over_ipv6_the_same_attacks_get_nothing() {
    let field = Field::over(Family::V6, "--nslocal --explain=1us");
    let (victim, address) = field.victim();
    let attacker = &field.lab.client.ns;
    let [short, dropped, of_source] = [(); 3].map(|()| field.session());
    let [short_cookie, cookie] = [short, dropped].map(|session| field.cookie(attacker, session));
    let others = field.cookie(&victim, of_source);
    let [unproven, lying] = [(); 2].map(|()| field.session());
    let lies = field.cookie(attacker, lying);
    let both = RECORD | INBAND;
    let of = |session, flags, cookie| move |k| message(session, k, flags, cookie);
    let attacks: [&dyn Fn(u32) -> Vec<u8>; 7] = [
        &of(unproven, both, 0),
        &of(field.session(), RECORD, 0x5555_5555),
        &of(of_source, RECORD, others),
        &v0(&field, 144),
        &|k| cut(message(short, k, RECORD, short_cookie), V1_HEADER - 1),
        &|k| spoiled(message(dropped, k, INBAND, cookie)),
        &|k| spoiled(message(dropped, k, RECORD, cookie)),
    ];
    let counter = Counter::start(attacker, field.to);
    let mut injector = Injector::new(attacker, field.own(), field.to);
    for each in attacks {
        (1..=COUNT as u32).for_each(|k| injector.message(&each(k)));
    }
    for (after, size, says) in [(0, V1_HEADER, SIZE), (1_000, SIZE, 40)] {
        for k in 1..=COUNT as u32 {
            let message = cut(message(lying, after + k, both, lies), size);
            injector.lie(&field.lab.client, &message, says);
        }
    }
    let traffic = told("over IPv6, nine of these attacks", counter);
    assert_eq!(traffic.asked.0, 9 * COUNT, "{traffic:?}");
    nothing_on_top(traffic);
    let forged: [&dyn Fn(u32) -> Vec<u8>; 3] = [
        &of(field.session(), both, 0),
        &of(lying, both, lies),
        &v0(&field, 144),
    ];
    let counter = Counter::start(&victim, field.to);
    let mut injector = Injector::new(attacker, address, field.to);
    for each in forged {
        (1..=COUNT as u32).for_each(|k| injector.message(&each(2_000 + k)));
    }
    let traffic = told(
        "over IPv6, a forged address, three of these attacks",
        counter,
    );
    assert_eq!(traffic.echoed.0, 3 * COUNT, "{traffic:?}");
    nothing_on_top(traffic);
    let (session, ns) = (field.session(), &field.lab.client.ns);
    let cookie = field.cookie(ns, session);
    field.served("over IPv6, a cookie replayed", of(session, RECORD, cookie));
    field.served("over IPv6, version 0, 552 bytes", v0(&field, 552));
}

/// Where no program writes into replies, unproven sources get cookies alone: few and short ones.
#[test]
fn without_tc_cookies_are_few_and_short() {
    /// Packets a second, and a burst of a tenth of that.
    const RATE: f64 = 100.0;
    let field = Field::new("--nslocal -I lo");
    let session = field.session();
    let begun = Instant::now();
    let traffic = field.own_attack("no tc, no cookie", |k| message(session, k, RECORD, 0));
    let most = RATE / 10.0 + RATE * begun.elapsed().as_secs_f64();
    assert!(
        (1.0..=most).contains(&(traffic.on_top.0 as f64)),
        "{traffic:?}"
    );
    assert_eq!(
        traffic.on_top.1,
        traffic.on_top.0 * (IP4 + V1_HEADER as u64)
    );
    for mode in ["auto", "compact"] {
        all_stamps(&field, mode);
    }
}

#[test]
fn honest_clients_get_their_stamps() {
    let field = Field::new("--nslocal");
    for mode in ["inband", "compact"] {
        all_stamps(&field, mode);
    }
}

/// Also of a run with one probe, whose cookie comes too late for it.
fn all_stamps(field: &Field, mode: &str) {
    for run in ["-i 5ms -C 100", "-C 1"] {
        let args = format!("-c {} --nslocal --mode {mode} {run} -W 5 -o json", field.to);
        let run = client(&field.lab.client.ns, &args);
        let stat = run.stat();
        assert_eq!(run.status, 0, "{run:#?}");
        for key in ["no_remote", "lost_stamps", "refused", "malformed"] {
            assert_eq!(stat[key], 0, "{mode}, {key}: {stat:#}");
        }
    }
}

//! The tools of the tests do what they say: the v0 peer, the wire with a known delay, and load.

use report::model::Direction;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::harness::alone;
use super::packets;
use super::v0peer::{self, Checksum, Client, Family, Fault, Server, ServerOptions};
use pingtrace::kernel::thread::Priority;
use pingtrace::selftest::inject::forwarder::{self, Action, Forwarder, Plan, Rule};
use pingtrace::selftest::inject::load::{CpuHog, Flood, Hog, UdpFlood};

const MS: Duration = Duration::from_millis(1);

/// A v0 client and a v0 server understand each other, and the stamps of the server lie within
/// the round trip.
#[test]
fn v0_peers_agree() {
    let _alone = alone();
    for address in ["127.0.0.1", "::1"] {
        let results = v0_run(address, ServerOptions::default(), v0peer::DEFAULT_LEN);
        assert_eq!(results.len(), 20);
        for result in results {
            assert_eq!(result.faults(), [], "{address} {}", result.sequence);
            assert_eq!(result.duplicates, 0);
            let echo = result.echo.as_ref().expect("an echo");
            assert!(echo.packet.added().is_empty());
            let record = result.record.as_ref().expect("a record");
            assert!(
                record.at_ns >= result.sent_ns + 2_000_000,
                "the record came at once"
            );
            let points: Vec<_> = record
                .packet
                .added()
                .iter()
                .map(|entry| entry.point)
                .collect();
            assert_eq!(points, [9, 3, 4]);
            let first_us = u64::from(record.packet.added()[0].time_us);
            // This peer stamps in user space, which may be after the kernel's echo.
            let (sent_us, record_us) = (result.sent_ns / 1000, record.at_ns / 1000);
            let since_sent_us = first_us.wrapping_sub(sent_us & 0xffff_ffff) & 0xffff_ffff;
            assert!(
                since_sent_us <= record_us - sent_us,
                "{since_sent_us} us after sending"
            );
        }
    }
}

/// Each mistake that the server can be told to make is seen by the client as that mistake.
#[test]
fn v0_mistakes_are_mistakes() {
    let _alone = alone();
    let wrong_sum = ServerOptions {
        checksum: Checksum::SingleFoldWrong,
        ..ServerOptions::default()
    };
    for result in v0_run("127.0.0.1", wrong_sum, v0peer::DEFAULT_LEN) {
        assert!(result.record.is_some(), "no record of {}", result.sequence);
        assert_eq!(result.faults(), [Fault::Checksum]);
    }
    let overrun = ServerOptions {
        extra_num: 100,
        ..ServerOptions::default()
    };
    for result in v0_run("127.0.0.1", overrun, v0peer::DEFAULT_LEN) {
        assert_eq!(
            result.faults(),
            [Fault::Overrun {
                num: 111,
                slots: 33
            }]
        );
    }
    let points = ServerOptions {
        extra_points: vec![11, 14, 15, 999],
        ..ServerOptions::default()
    };
    for result in v0_run("127.0.0.1", points, v0peer::DEFAULT_LEN) {
        assert_eq!(result.faults(), [Fault::Point(15), Fault::Point(999)]);
    }
    let late = ServerOptions {
        record_after: 30 * MS,
        without_devout: true,
        ..ServerOptions::default()
    };
    for result in v0_run("127.0.0.1", late, v0peer::DEFAULT_LEN) {
        let record = result.record.expect("a late record");
        assert!(record.at_ns >= result.sent_ns + 30_000_000);
        assert_eq!(record.packet.added().len(), 2);
    }
    let silent = ServerOptions {
        silent: vec![3, 4],
        ..ServerOptions::default()
    };
    let without: Vec<_> = v0_run("127.0.0.1", silent, v0peer::DEFAULT_LEN)
        .iter()
        .filter(|result| result.record.is_none())
        .map(|result| result.sequence)
        .collect();
    assert_eq!(without, [3, 4]);
}

/// The smallest documented packet has no room for a remote stamp.
#[test]
fn v0_smallest_packet_carries_no_stamp() {
    let _alone = alone();
    for result in v0_run("127.0.0.1", ServerOptions::default(), 140) {
        assert_eq!(result.faults(), []);
        assert!(result.record.expect("a record").packet.added().is_empty());
    }
}

/// Probes get the planned delay, exactly and in the right direction, and the log says so.
#[test]
fn forwarder_does_what_its_log_says() {
    let _alone = alone();
    let flip = Action::Corrupt {
        offset: 60,
        mask: 0xff,
    };
    let twice = Action::Duplicate { copies: 2, gap: MS };
    let plan = Plan::new(
        MS,
        [
            Rule::at(Direction::Request, [3], Action::Delay(5 * MS)),
            Rule::at(Direction::Reply, [6], Action::Delay(7 * MS)),
            Rule::at(Direction::Request, [9], Action::Drop),
            Rule::at(Direction::Reply, [12], twice),
            Rule::at(Direction::Reply, [15], Action::Hold),
            Rule::at(Direction::Request, [18], flip),
        ],
    );
    for addresses in [["10.77.1.1", "10.77.1.2"], ["fd77::1", "fd77::2"]] {
        let (results, outcome) = over_wire(addresses, plan.clone());
        assert_eq!(outcome.error, None);
        assert_eq!(
            (outcome.totals.overflowed, outcome.totals.write_errors),
            (0, 0)
        );
        let injected = |seq, direction| {
            outcome
                .entries_for(seq, direction)
                .map(|entry| entry.injected_ns)
                .next()
        };
        for result in &results {
            let seq = result.sequence;
            let echoed = result.rtt_ns();
            assert_eq!(
                echoed.is_none(),
                [9, 18].contains(&seq),
                "{seq} in {addresses:?}"
            );
            let Some(rtt) = echoed else { continue };
            let there = injected(seq, Direction::Request).expect("a log entry");
            let back = injected(seq, Direction::Reply).expect("a log entry");
            assert!(
                rtt > there + back,
                "{seq}: {there} + {back} ns injected, {rtt} ns seen"
            );
        }
        let near = |value: Option<u64>, planned: Duration| {
            let planned = planned.as_nanos() as u64;
            let value = value.expect("a log entry");
            assert!(
                (planned..planned + 1_000_000).contains(&value),
                "{value} ns for {planned} ns"
            );
        };
        let passed = outcome
            .log
            .iter()
            .filter(|entry| entry.action == Action::Pass);
        let mut late: Vec<_> = passed.map(|entry| entry.injected_ns - 1_000_000).collect();
        late.sort_unstable();
        let median = late[late.len() / 2];
        assert!(
            median < 100_000,
            "half of the frames left {median} ns late or more"
        );
        near(injected(3, Direction::Request), 6 * MS);
        near(injected(3, Direction::Reply), MS);
        near(injected(6, Direction::Reply), 8 * MS);
        near(injected(6, Direction::Request), MS);
        assert_eq!(
            outcome
                .entries_for(9, Direction::Request)
                .next()
                .map(|entry| entry.written_ns),
            Some(None)
        );
        assert_eq!(results[12].duplicates, 2);
        let echo_at = |seq: usize| results[seq].echo.as_ref().expect("an echo").at_ns;
        assert!(echo_at(15) > echo_at(16), "15 and 16 came in order");
        assert_eq!(
            outcome.entries_for(18, Direction::Reply).count(),
            0,
            "a corrupt request was answered"
        );
    }
}

/// A frame with nothing behind it is not held for ever.
#[test]
fn forwarder_lets_go_of_the_last() {
    let _alone = alone();
    let hold = Plan::new(
        Duration::ZERO,
        [Rule::at(Direction::Request, [19], Action::Hold)],
    );
    let (results, _) = over_wire(["10.77.1.1", "10.77.1.2"], hold);
    assert!(results[19].rtt_ns().expect("an echo") > 400_000_000);
}

/// The packets of version 0 in the data files read as their expectations say, by a reader that
/// the product does not share.
#[test]
fn packet_data_agrees_with_the_v0_peer() {
    let cases = packets::all();
    assert!(cases.len() > 80, "{} packets", cases.len());
    for case in cases {
        let family = if case.key("family") == "6" {
            Family::V6
        } else {
            Family::V4
        };
        let read = v0peer::parse(&case.bytes, family);
        match case.expected() {
            Err(_) if case.bytes.get(8) == Some(&1) => {}
            Err(name) if name == "inconsistent" => {
                let faults = read.expect(&case.name).faults;
                let seen = faults.contains(&Fault::Id) || faults.contains(&Fault::Sequence);
                assert!(seen, "{}: {faults:?}", case.name);
            }
            Err(name) => {
                let named = match read.expect_err(&case.name) {
                    Fault::Short(_) => "truncated",
                    Fault::Magic(_) => "magic",
                    Fault::Version(_) => "version",
                    Fault::Type(_) => "type",
                    other => panic!("{}: {other}", case.name),
                };
                assert_eq!(named, name, "{}", case.name);
            }
            Ok(fields) if fields.number("version") == 1 => {
                assert_eq!(read, Err(Fault::Version(1)), "{}", case.name);
                assert_eq!(
                    case.entries.len() as u64,
                    fields.number("entries"),
                    "{}",
                    case.name
                );
            }
            Ok(fields) => agrees(&case, &fields, &read.expect(&case.name)),
        }
    }
}

fn agrees(case: &packets::Packet, fields: &packets::Fields, read: &v0peer::Packet) {
    let name = &case.name;
    let count = |wanted: fn(&Fault) -> bool| {
        read.faults.iter().filter(|fault| wanted(fault)).count() as u64
    };
    assert_eq!(u64::from(read.session), fields.number("session"), "{name}");
    assert_eq!(u64::from(read.sequence), fields.number("seq"), "{name}");
    assert_eq!(u64::from(read.flags), fields.number("flags"), "{name}");
    assert_eq!(u64::from(read.num), fields.number("num"), "{name}");
    assert_eq!(
        count(|fault| matches!(fault, Fault::Point(_))),
        fields.number("unknown"),
        "{name}"
    );
    assert_eq!(
        count(|fault| matches!(fault, Fault::Overrun { .. })) > 0,
        fields.number("overrun") > 0,
        "{name}"
    );
    let checksum = ["bad", "single-fold"].contains(&case.key("checksum"));
    assert_eq!(read.faults.contains(&Fault::Checksum), checksum, "{name}");
    let known: Vec<_> = read
        .added()
        .iter()
        .filter(|entry| entry.point <= v0peer::LAST_POINT)
        .collect();
    assert_eq!(known.len() as u64, fields.number("entries"), "{name}");
    assert_eq!(known.len(), case.entries.len(), "{name}");
    for (entry, wanted) in known.iter().zip(&case.entries) {
        let wanted = v0peer::Entry {
            netns: wanted.number("netns") as u32,
            ifindex: wanted.number("ifindex") as u32,
            user: wanted.number("user") as u16,
            point: wanted.number("point") as u16,
            time_us: wanted.number("time_us") as u32,
        };
        assert_eq!(**entry, wanted, "{name}");
    }
}

/// A hog keeps its CPU for its bursts, and ends when it is dropped.
#[test]
fn hog_hogs_and_ends() {
    let _alone = alone();
    let burst = Some((5 * MS, 20 * MS));
    let hog = Hog {
        cpu: 0,
        priority: Priority::Fifo(10),
        limit: Duration::from_secs(5),
        burst,
    };
    let running = CpuHog::start(hog).expect("a hog");
    std::thread::sleep(100 * MS);
    let spans = running.stop();
    assert!((1..=20).contains(&spans.len()), "{spans:?}");
    // A burst that begins late, on a busy machine, is shorter: it keeps to its schedule.
    let whole = |(from, to): &&(u64, u64)| (4_000_000..50_000_000).contains(&(to - from));
    let kept = spans.iter().filter(whole).count();
    assert!(kept * 2 >= spans.len(), "{spans:?}");
    let steady = Hog {
        priority: Priority::Normal,
        limit: 50 * MS,
        burst: None,
        ..hog
    };
    let before = v0peer::monotonic_ns();
    let running = CpuHog::start(steady).expect("a hog");
    std::thread::sleep(80 * MS);
    let [(from, to)] = running.stop()[..] else {
        panic!("more than one burst")
    };
    assert!(from >= before && (20_000_000..1_000_000_000).contains(&(to - from)));
    let nowhere = Hog { cpu: 1000, ..hog };
    assert!(CpuHog::start(nowhere).is_err());
}

/// A flood sends what it was told to, at the rate it was told to.
#[test]
fn flood_is_bounded() {
    let _alone = alone();
    let dst = "127.0.0.1:9".parse().expect("an address");
    let slow = Flood {
        dst,
        size: 100,
        cpu: Some(0),
        rate: Some(1000),
        count: u64::MAX,
        limit: 200 * MS,
    };
    let done = UdpFlood::start(loopback, slow).expect("a flood").wait();
    assert!((1..=200).contains(&done.sent), "{done:?}");
    let fast = Flood {
        rate: None,
        count: 5000,
        limit: 10_000 * MS,
        ..slow
    };
    let done = UdpFlood::start(loopback, fast).expect("a flood").wait();
    assert_eq!(done.sent + done.refused, 5000);
    let refused = UdpFlood::start(|| Err(io::Error::other("no")), fast)
        .err()
        .expect("an error");
    assert_eq!(refused.to_string(), "no");
}

/// 20 probes, 3 ms apart, to a server on the loopback device of a new namespace.
fn v0_run(address: &str, options: ServerOptions, len: usize) -> Vec<v0peer::V0Result> {
    let address: IpAddr = address.parse().expect("an address");
    in_new_thread(move || {
        loopback().expect("a namespace");
        let stop = AtomicBool::new(false);
        let server = Server::bind(options).expect("sockets");
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve(&stop));
            let client = Client {
                len,
                ..Client::new(address)
            };
            let results = client.run(20, 3 * MS, 100 * MS);
            stop.store(true, Ordering::Relaxed);
            let totals = serving.join().expect("no panic").expect("served");
            assert_eq!((totals.requests, totals.faulty), (20, 0));
            results.expect("results")
        })
    })
}

/// 20 probes, 3 ms apart, between two namespaces joined by a [`Forwarder`].
fn over_wire(addresses: [&str; 2], plan: Plan) -> (Vec<v0peer::V0Result>, forwarder::Outcome) {
    let addresses = addresses.map(String::from);
    in_new_thread(move || {
        let far = in_new_thread({
            let address = addresses[1].clone();
            move || tap(&address)
        });
        let near = tap(&addresses[0]);
        let wire = Forwarder::start(near.0, far.0, plan).expect("a forwarder");
        let dst = addresses[1].parse().expect("an address");
        let results = Client::new(dst).run(20, 3 * MS, 600 * MS).expect("results");
        drop(far.1);
        (results, wire.stop())
    })
}

fn in_new_thread<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(task).join().expect("no panic")
}

/// Moves this thread into a network namespace of its own, with only a loopback device.
#[expect(unsafe_code, reason = "rustix calls unshare unsafe")]
fn loopback() -> io::Result<()> {
    // SAFETY: only the network namespace of this thread changes; no file descriptor or memory does.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
    ip(&["link", "set", "lo", "up"]);
    Ok(())
}

/// A TAP device with this address in a network namespace of its own, and what keeps that alive.
#[expect(unsafe_code, reason = "no safe wrapper of TUNSETIFF")]
fn tap(address: &str) -> (OwnedFd, File) {
    const TUNSETIFF: u64 = 0x4004_54ca;
    loopback().expect("a namespace");
    let tap = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("/dev/net/tun");
    let mut request = [0_u8; 40];
    request[..4].copy_from_slice(b"tap0");
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one ifreq, 40 bytes, at the address given.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF as _, request.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    let nodad: &[&str] = if address.contains(':') {
        &["nodad"]
    } else {
        &[]
    };
    let prefix = format!("{address}/{}", if address.contains(':') { 64 } else { 24 });
    ip(&["link", "set", "tap0", "up"]);
    ip(&[&["addr", "add", &prefix, "dev", "tap0"], nodad].concat());
    let namespace = File::open("/proc/thread-self/ns/net").expect("this namespace");
    (tap.into(), namespace)
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("ip runs");
    assert!(status.success(), "ip {}", arguments.join(" "));
}

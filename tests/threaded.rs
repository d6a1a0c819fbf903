//! Threaded NAPI: a kernel thread receives, and its wait for a CPU is the host's.

use super::harness::{Client, Server, alone, delay, pin, until};
use netns::{Host, Lab};
use pingtrace::kernel::thread::Priority;
use pingtrace::selftest::inject::load::{CpuHog, Hog};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// Where the thread runs.
const CPU: usize = 1;

/// include/uapi/linux/sockios.h, ethtool.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGRO: u32 = 0x2c;

/// What `ethtool -K` does.
fn set(host: &Host, feature: u32, on: bool) {
    host.ns
        .run(|| ethtool(&host.dev, [feature, on.into()]))
        .expect("enter the namespace");
}

fn ethtool(dev: &str, mut value: [u32; 2]) {
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(dev.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: the request and the value that it points to outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The NAPI threads of the devices of this name.
fn napi_threads(dev: &str) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let tids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |tid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{tid}/comm"));
        comm.is_ok_and(|comm| comm.starts_with(&format!("napi/{dev}-")))
    };
    tids.filter(is_one).collect()
}

/// Lets a thread on [`CPU`] receive for this device. A veth device has NAPI for GRO, and uses it for what a
/// peer without TSO sends.
fn thread_receives(host: &Host, peer: &Host) {
    let before = napi_threads(&host.dev);
    set(host, ETHTOOL_SGRO, true);
    set(peer, ETHTOOL_STSO, false);
    host.set_threaded().expect("threaded NAPI");
    until("its thread is there", || {
        napi_threads(&host.dev).difference(&before).count() == 1
    });
    let after = napi_threads(&host.dev);
    pin(*after.difference(&before).next().expect("one"), CPU);
}

/// When a probe passed a point, ns.
fn at(probe: &Value, point: &str) -> Option<u64> {
    let points = probe["points"].as_array().expect("points");
    points.iter().find(|s| s["point"] == point)?["ns"].as_u64()
}

/// An end whose NAPI thread is starved.
struct End {
    /// It and the other one.
    hosts: fn(&Lab) -> [&Host; 2],
    /// Where a probe leaves for it.
    departure: &'static str,
    wire: &'static str,
    segment: &'static str,
}

/// A probe whose packet woke the thread while it had no CPU waited for one, and on no wire.
fn starved(end: &End) {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let [host, peer] = (end.hosts)(&lab);
    thread_receives(host, peer);
    let _server = Server::start(&lab.server.ns, "--userid 7 --explain");
    let args = "-c 10.77.0.2 --userid 3 --explain -i 3ms -m 1 -o json";
    let mut client = Client::start(&lab.client.ns, args);
    client.hear("server stamps");
    pin(client.pid(), 0);
    thread::sleep(500 * MS);
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Fifo(1),
        limit: Duration::from_millis(2400),
        burst: Some((8 * MS, 60 * MS)),
    });
    thread::sleep(2_400 * MS);
    let run = client.stop();
    let spans = hog.unwrap().stop();
    let waited = |probe: &Value| {
        let (Some(left), Some(woken)) = (at(probe, end.departure), at(probe, end.segment)) else {
            return false;
        };
        let during = |(from, to): &(u64, u64)| *from < woken && woken + 2_000_000 < *to;
        woken >= left && spans.iter().any(during)
    };
    let hit: Vec<Value> = run.probes().into_iter().filter(waited).collect();
    assert!(hit.len() >= 5, "{} probes", hit.len());
    let is_right = |probe: &&Value| {
        delay(probe, end.segment) >= 1_500_000 && delay(probe, end.wire) < 1_000_000
    };
    let right = hit.iter().filter(is_right).count();
    println!("{}: {right} of {}", end.segment, hit.len());
    assert!(right * 100 >= hit.len() * 90, "{right}: {:#}", hit[0]);
    let owner = |probe: &Value| probe["verdict"]["owner"].as_str().map(str::to_owned);
    let on_wire = |probe: &&Value| owner(probe).is_some_and(|owner| owner.starts_with("wire"));
    assert_eq!(hit.iter().find(on_wire), None);
    // What the recorders had time to explain.
    let blame = hit.iter().filter_map(|probe| probe["blame"].as_array());
    let of_segment = |b: &&Value| b["segment"] == end.segment;
    let blame: Vec<&Value> = blame.flatten().filter(of_segment).collect();
    // The hog, whatever interrupted it; after it another task may have had the CPU first.
    let without_hog = |b: &&&Value| {
        let parts = b["parts"].as_array().into_iter().flatten();
        let of_hog = parts.filter(|part| part["comm"] == "hog");
        of_hog.filter_map(|part| part["ns"].as_u64()).sum::<u64>() < 1_500_000
    };
    assert_eq!(blame.iter().find(without_hog), None);
}

#[test]
fn a_starved_napi_thread_of_the_server_is_the_servers() {
    starved(&End {
        hosts: |lab| [&lab.server, &lab.client],
        departure: "l_tx_devout",
        wire: "l_tx_outlink",
        segment: "r_rx_softirq",
    });
}

#[test]
fn a_starved_napi_thread_of_the_client_is_the_clients() {
    starved(&End {
        hosts: |lab| [&lab.client, &lab.server],
        departure: "r_tx_devout",
        wire: "l_rx_inlink",
        segment: "l_rx_softirq",
    });
}

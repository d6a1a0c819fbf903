//! `--explain`: of all counters of this host those are named that moved while probes were slow or lost.

use super::harness::{
    Finished, Server, alone, at_device, finish, interrupt, kill, pingtrace, status,
};
use super::kit::attacker::wait_for_cookie;
use netns::{Host, Lab};
use pingtrace::wire::protocol::Family;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A queue of the client that drops nothing, and afterwards what exceeds `burst` bytes.
fn queue(host: &Host, burst: u32) {
    at_device(&host.ns, "eth0", |netlink, eth0| {
        netlink.tbf(eth0, 12_500_000, burst, 100_000)
    });
}

/// What moved at the client's host.
fn moved(run: &Finished) -> Value {
    let stat = run.stat();
    let all = stat["moved"].as_array().cloned().unwrap_or_default();
    let of_client = all.into_iter().find(|moved| moved["host"] == "client");
    of_client.unwrap_or(Value::Null)
}

fn counter(moved: &Value, source: &str, name: &str) -> Option<Value> {
    let all = moved["counters"].as_array()?.iter();
    let mut own = all.filter(|of| of["source"] == source && of["counter"] == name);
    own.next().cloned()
}

/// Probes that a queue drops for a while: its counter of drops is named, with how many, and none outside. By the
/// threshold only lost probes count: a busy machine makes others slow.
#[test]
fn the_drops_of_a_full_queue_are_named() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    queue(&lab.client, 100_000);
    let _server = Server::start(&lab.server.ns, "--userid 7");
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("run.html");
    let picture = picture.to_str().unwrap();
    let to = lab.server.v4;
    let args = format!(
        "-c {to} --userid 3 --explain -m 500ms -i 5ms -C 600 -W 1 -o json,image --image {picture}"
    );
    let child = pingtrace(&lab.client.ns, &args);
    wait_for_cookie(&lab.server.ns, Family::V4);
    thread::sleep(1000 * MS);
    queue(&lab.client, 500);
    thread::sleep(400 * MS);
    queue(&lab.client, 100_000);
    let run = finish(child);
    assert_eq!(run.status, 0, "{run:#?}");
    let probes = run.probes();
    let lost = probes.iter().filter(|probe| status(probe) == "lost");
    let lost = lost.count() as u64;
    assert!(lost > 20, "{lost} lost: {:#}", run.stat());
    let moved = moved(&run);
    let drops = counter(&moved, "qdisc", "tbf drops").unwrap_or_else(|| panic!("{moved:#}"));
    assert_eq!(drops["device"], "eth0");
    assert!(
        drops["inside"].as_u64() >= Some(lost),
        "{lost} lost: {drops:#}"
    );
    assert_eq!(drops["outside"], 0, "{drops:#}");
    // What every probe moves, in and outside, is not named.
    for (source, name) in [("link", "tx_packets"), ("protocol", "IcmpOutMsgs")] {
        assert_eq!(counter(&moved, source, name), None, "{moved:#}");
    }
    // A cell of its table.
    let page = fs::read_to_string(picture).unwrap();
    assert!(page.contains("client eth0 qdisc tbf drops</td>"), "{page}");
}

/// Ends a thread, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A queue that drops other packets all the time did not move, although probes were slow meanwhile: the client
/// was stopped.
#[test]
fn what_goes_on_all_the_time_has_not_moved() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    queue(&lab.client, 500);
    let _server = Server::start(&lab.server.ns, "--userid 7");
    let over = AtomicBool::new(false);
    let to = SocketAddr::from((lab.server.v4, 9));
    thread::scope(|scope| {
        let end = Ends(&over);
        let over = &over;
        let noise = move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            while !over.load(Ordering::Relaxed) {
                let _ = socket.send_to(&[0; 900], to);
                thread::sleep(2 * MS);
            }
        };
        let ns = &lab.client.ns;
        scope.spawn(move || ns.run(noise).unwrap());
        let args = format!(
            "-c {} --userid 3 --explain -m 80ms -b 300 -i 5ms -t 60 -W 5 -o json",
            lab.server.v4
        );
        let child = pingtrace(&lab.client.ns, &args);
        wait_for_cookie(&lab.server.ns, Family::V4);
        thread::sleep(2000 * MS);
        for _ in 0..3 {
            kill(child.id(), libc::SIGSTOP);
            thread::sleep(120 * MS);
            kill(child.id(), libc::SIGCONT);
            thread::sleep(1500 * MS);
        }
        let run = interrupt(child);
        drop(end);
        assert_eq!(run.status, 0, "{run:#?}");
        let moved = moved(&run);
        assert!(
            moved["windows"].as_u64() >= Some(1),
            "{moved:#} {:#}",
            run.stat()
        );
        assert_eq!(counter(&moved, "qdisc", "tbf drops"), None, "{moved:#}");
    });
}

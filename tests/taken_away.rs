//! What is taken from a run while it goes on: its CPU, the MTU, addresses, devices; and what it leaves to others.

use super::goes_on::assert_balanced;
use super::harness::{Client, Finished, Server, client, delay, kill, points, sh, status};
use super::kit::hold::redirect;
use kit_bpf::hold::HoldSkelBuilder;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{AsRawLibbpf, Link, MapCore, MapFlags, ProgramAttachType, ProgramMut, libbpf_sys};
use netns::Lab;
use serde_json::Value;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::thread;
use std::time::Duration;

/// The losses of the run: how many, where, and why.
fn losses(run: &Finished) -> Vec<(u64, String, String)> {
    let stat = run.stat();
    let text = |loss: &Value, key: &str| loss[key].as_str().unwrap_or_default().to_owned();
    let losses = stat["losses"].as_array().into_iter().flatten();
    let loss = |l: &Value| {
        (
            l["count"].as_u64().unwrap(),
            text(l, "place"),
            text(l, "reason"),
        )
    };
    losses.map(loss).collect()
}

/// Answered until something was taken away, and again when it was back.
fn assert_interrupted(run: &Finished) {
    assert_eq!(run.status, 0, "{run:#?}");
    assert_balanced(run);
    let mut probes = run.probes();
    probes.sort_by_key(|probe| probe["seq"].as_u64());
    let ends = [probes.first(), probes.last()].map(|probe| status(probe.expect("probes")));
    assert_eq!(ends, ["ok"; 2], "{run:#?}");
    assert!(!losses(run).is_empty(), "{run:#?}");
}

/// A run from which `take` takes something that `give` gives back.
fn interrupted(args: &str, [take, give]: [&str; 2], of_client: bool, said: [&str; 2]) -> Finished {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c 10.77.0.2 --nslocal -i 5ms -o json {args}");
    let mut run = Client::start(&lab.client.ns, &args);
    server.wait_for_probes(20);
    let host = if of_client { &lab.client } else { &lab.server };
    let at = |line: &str| sh(&host.ns, &line.replace("DEV", &host.dev));
    at(take);
    run.hear(said[0]);
    at(give);
    run.hear(said[1]);
    let run = run.stop();
    assert_interrupted(&run);
    run
}

const MTU: [&str; 2] = ["ip link set DEV mtu 1000", "ip link set DEV mtu 1500"];
const NOT_SENT: [&str; 2] = ["cannot send to 10.77.0.2", "probes leave again"];
const NO_REPLY: [&str; 2] = ["no reply since", "replies again"];

#[test]
fn a_lower_mtu_of_the_client_is_its_send() {
    let run = interrupted("-b 1400", MTU, true, NOT_SENT);
    for (_, place, reason) in losses(&run) {
        assert_eq!([place, reason], ["client_send", "EMSGSIZE"], "{run:#?}");
    }
}

/// A device that gets a longer packet drops it; the last one that saw it is the client's.
#[test]
fn a_lower_mtu_of_the_server_is_seen_where_the_packet_is_dropped() {
    let run = interrupted("-b 1400 -W 0.2", MTU, false, NO_REPLY);
    for (_, place, _) in losses(&run) {
        assert_eq!(place, "client_driver", "{run:#?}");
    }
}

#[test]
fn an_address_of_the_client_that_is_removed_is_its_send() {
    let address = [
        "ip address del 10.77.0.1/24 dev DEV",
        "ip address add 10.77.0.1/24 dev DEV",
    ];
    let run = interrupted("", address, true, NOT_SENT);
    for (_, place, reason) in losses(&run) {
        assert_eq!([place, reason], ["client_send", "ENETUNREACH"], "{run:#?}");
    }
}

#[test]
fn an_address_of_the_server_that_is_removed_is_its_receive() {
    let address = [
        "ip address del 10.77.0.2/24 dev DEV",
        "ip address add 10.77.0.2/24 dev DEV",
    ];
    let run = interrupted("-W 0.2", address, false, NO_REPLY);
    for (_, place, _) in losses(&run) {
        assert_eq!(place, "server_receive", "{run:#?}");
    }
}

/// The server's programs do the work, and the client sends what is due when it can.
#[test]
fn processes_that_are_stopped_lose_nothing() {
    const STOPPED: Duration = Duration::from_secs(2);
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 --nslocal -i 10ms -o json";
    let run = Client::start(&lab.client.ns, args);
    server.wait_for_probes(20);
    for pid in [server.pid(), run.pid()] {
        kill(pid, libc::SIGSTOP);
    }
    thread::sleep(STOPPED);
    kill(run.pid(), libc::SIGCONT);
    // What was due, and more.
    server.wait_for_probes(20 + 200 + 20);
    kill(server.pid(), libc::SIGCONT);
    let run = run.stop();
    assert_eq!(run.status, 0, "{run:#?}");
    assert_balanced(&run);
    let stat = run.stat();
    assert_eq!(stat["lost"], 0, "{stat:#}");
    let probes = run.probes();
    let late = probes.iter().map(|p| delay(p, "l_tx_late")).max();
    let stopped_ns = STOPPED.as_nanos() as u64;
    assert!(late >= Some(stopped_ns * 9 / 10), "{late:?}");
    let stamped = |p: &&Value| points(p).contains(&"r_rx_devrcv");
    let without = probes.len() - probes.iter().filter(stamped).count();
    assert_eq!(without, 0, "{stat:#}");
}

/// Attaches a program to what a device sends, before all others.
fn attach_tcx(program: &ProgramMut<'_>, ifindex: u32) -> Link {
    let program = program.as_libbpf_object().as_ptr();
    // SAFETY: the program is loaded; null options are allowed.
    let link =
        unsafe { libbpf_sys::bpf_program__attach_tcx(program, ifindex.cast_signed(), ptr::null()) };
    let link = NonNull::new(link).expect("TCX (Linux 6.6)");
    // SAFETY: libbpf has just made it, and nobody else owns it.
    unsafe { Link::from_ptr(link) }
}

/// Programs of somebody else at the hooks of a server: XDP at both ends, and TCX where it stamps replies.
#[test]
fn programs_of_somebody_else_stay_and_work() {
    const DROPPED: u32 = 5;
    let lab = Lab::veth_pair().unwrap();
    let _xdp = [&lab.client, &lab.server].map(|host| {
        let _inside = host.ns.enter().unwrap();
        redirect("xdp_pass", &host.dev, &host.dev).expect("XDP")
    });
    let mut storage = MaybeUninit::uninit();
    let mut open = HoldSkelBuilder::default().open(&mut storage).unwrap();
    for mut program in open.open_object_mut().progs_mut() {
        program.set_autoload(program.name() == "drop");
        program.set_attach_type(ProgramAttachType::TcxEgress);
    }
    let rodata = open.maps.rodata_data.as_deref_mut().unwrap();
    rodata.reply = true;
    let skel = open.load().unwrap();
    let (key, value) = (DROPPED.to_ne_bytes(), 1_u32.to_ne_bytes());
    skel.maps
        .chosen
        .update(&key, &value, MapFlags::ANY)
        .unwrap();
    let inside = lab.server.ns.enter().unwrap();
    let _link = attach_tcx(&skel.progs.drop, lab.server.ifindex);
    drop(inside);
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let server = Server::start(&lab.server.ns, "--nslocal");
        let args = "-c 10.77.0.2 --nslocal -i 5ms -C 20 -o json";
        let run = client(&lab.client.ns, args);
        server.stop(signal);
        assert_balanced(&run);
        let probes = run.probes();
        let lost = probes.iter().filter(|p| status(p) == "lost");
        let lost: Vec<_> = lost.map(|p| p["seq"].as_u64()).collect();
        assert_eq!(lost, [Some(DROPPED.into())], "{run:#?}");
        let answered = |p: &&Value| status(p) != "lost";
        let stamped = |p: &Value| points(p).contains(&"r_tx_devqueue");
        assert!(probes.iter().filter(answered).all(stamped), "{run:#?}");
        for host in [&lab.client, &lab.server] {
            let device = &host.dev;
            sh(
                &host.ns,
                &format!("ip -details link show dev {device} | grep -q prog/xdp"),
            );
        }
    }
}

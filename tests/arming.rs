//! A server is idle until a request comes: nothing of it is on the packet path. It is armed by one that may have
//! stamps, and idle again some time after the last one.

use super::harness::{Server, client, kill, points, until};
use super::v0peer;
use netns::Lab;
use pingtrace::wire::protocol::Family;
use pingtrace::wire::socket::{Options, ProbeSocket};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::NamedTempFile;

const PROBES: &str = "-i 5ms -C 20 -m 0 -o json";

/// The links of BPF programs, and the perf events, that a process holds.
fn attached(pid: u32) -> usize {
    let fds = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let is_link = |fd: &fs::DirEntry| {
        let text = fs::read_to_string(fd.path()).unwrap_or_default();
        let number = fd.file_name();
        let what =
            fs::read_link(format!("/proc/{pid}/fd/{}", number.display())).unwrap_or_default();
        text.contains("link_type:") || what.display().to_string().contains("perf_event")
    };
    fds.flatten().filter(is_link).count()
}

fn until_idle(server: &Server) {
    until("the server is idle", || attached(server.pid()) == 0);
}

/// Every counted probe has the stamps of the server.
fn assert_stamped(lab: &Lab, args: &str) {
    let run = client(
        &lab.client.ns,
        &format!("-c {} {PROBES} --userid 3 {args}", lab.server.v4),
    );
    let stat = run.stat();
    assert_eq!(
        (&stat["sent"], &stat["replied"]),
        (&20.into(), &20.into()),
        "{run:#?}"
    );
    assert_eq!(stat["no_remote"], 0, "{run:#?}");
    assert!(stat["warm_up"].as_u64().unwrap() >= 1, "{run:#?}");
    for probe in run.probes() {
        for point in [
            "r_rx_devrcv",
            "r_rx_icmprcv",
            "r_tx_devqueue",
            "r_tx_devout",
        ] {
            assert!(points(&probe).contains(&point), "{point}: {probe:#}");
        }
    }
}

fn said(story: &[String], words: &str) {
    assert!(
        story.iter().any(|line| line.contains(words)),
        "{words}: {story:#?}"
    );
}

#[test]
fn it_is_armed_by_the_first_probe_and_idle_after_the_last() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--userid 7 --linger 1 --explain=1s");
    assert_eq!(attached(server.pid()), 0);
    assert_stamped(&lab, "");
    assert!(attached(server.pid()) > 0);
    until_idle(&server);
    assert_stamped(&lab, "");
    until_idle(&server);
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success(), "{story:#?}");
    said(&story, "armed by a request from 10.77.0.1");
    said(&story, "idle: no request for 1.00 s (--linger)");
    said(&story, "idle; armed 2 times so far");
}

#[test]
fn it_can_be_armed_always() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--userid 7 --linger infinity");
    assert!(attached(server.pid()) > 0);
    assert_stamped(&lab, "");
    let (_, story) = server.stop(libc::SIGTERM);
    said(&story, "always armed");
}

#[test]
fn who_gets_no_stamps_arms_nothing() {
    let lab = Lab::veth_pair().unwrap();
    let mut key = NamedTempFile::new().unwrap();
    writeln!(key, "{:032x}", 7).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    key.as_file().set_permissions(mode).unwrap();
    let key = format!("--key-file {}", key.path().display());
    for options in ["--open --deny 10.77.0.1", &key] {
        let server = Server::start_closed(
            &lab.server.ns,
            &format!("--userid 7 --linger 30s {options}"),
        );
        let run = client(&lab.client.ns, &format!("-c 10.77.0.2 {PROBES}"));
        assert_eq!(run.stat()["replied"], 20, "{run:#?}");
        assert_eq!(attached(server.pid()), 0);
        if options == key {
            assert_stamped(&lab, &key);
        } else {
            let (_, story) = server.stop(libc::SIGTERM);
            said(
                &story,
                "idle; armed 0 times so far, for 0 ns in all; 0 requests came before",
            );
        }
    }
}

/// A request of version 0 has no tag, and no more than its kernel's echo until the server is armed.
#[test]
fn a_request_of_version_0_arms_it() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--linger 30s");
    let request = v0peer::request(7, 0, 552, v0peer::Family::V4);
    let open = || ProbeSocket::open(Family::V4, &Options::default());
    let socket = lab.client.ns.run(open).unwrap().unwrap();
    let to = SocketAddr::new(lab.server.v4.into(), 0).into();
    socket.send(&request, &to).unwrap();
    until("the server is armed", || attached(server.pid()) > 0);
}

#[test]
fn a_host_without_a_server_gets_a_warm_up_and_no_more() {
    let lab = Lab::veth_pair().unwrap();
    let run = client(&lab.client.ns, &format!("-c 10.77.0.2 {PROBES}"));
    let stat = run.stat();
    let warm_up = stat["warm_up"].as_u64().unwrap();
    assert!((1..=15).contains(&warm_up), "{run:#?}");
    assert_eq!(
        (&stat["sent"], &stat["replied"]),
        (&20.into(), &20.into()),
        "{run:#?}"
    );
    for nothing in [
        "malformed",
        "refused",
        "unmatched",
        "dup",
        "lost",
        "icmp_unrelated",
    ] {
        assert_eq!(stat[nothing], 0, "{nothing}: {run:#?}");
    }
    // Nobody's stamps are wanted, so nobody is to be armed.
    let run = client(
        &lab.client.ns,
        &format!("-c 10.77.0.2 {PROBES} --mode pingpong"),
    );
    assert_eq!(run.stat()["warm_up"].as_u64().unwrap_or(0), 0, "{run:#?}");
}

#[test]
fn one_that_is_killed_while_it_is_armed_leaves_nothing() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--userid 7 --linger 30s");
    assert_stamped(&lab, "");
    assert!(attached(server.pid()) > 0);
    kill(server.pid(), libc::SIGKILL);
    let (_, _) = server.stop(libc::SIGKILL);
    let server = Server::start(&lab.server.ns, "--userid 7 --linger 30s");
    assert_eq!(attached(server.pid()), 0);
    assert_stamped(&lab, "");
}

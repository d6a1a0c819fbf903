//! What cannot be done is said in one clear line, and in the exit status.

use super::harness::{Finished, Server, client, finish, pingtrace, program, start, until};
use netns::{Lab, Namespace, Netlink};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNANSWERED: i32 = 3;

/// One line of complaint with all these words, nothing on stdout, this exit status.
fn refused(run: &Finished, status: i32, words: &[&str]) {
    let furniture =
        |l: &&str| !l.is_empty() && !l.starts_with("Usage:") && !l.starts_with("For more");
    let lines: Vec<_> = run.stderr.lines().filter(furniture).collect();
    assert_eq!(run.status, status, "{run:#?}");
    assert_eq!(run.stdout, "", "{run:#?}");
    assert_eq!(lines.len(), 1, "{run:#?}");
    for word in words {
        assert!(lines[0].contains(word), "no '{word}' in: {}", lines[0]);
    }
}

fn run(ns: &Namespace, args: &[&str]) -> Finished {
    finish(start(ns, program().args(args)))
}

/// 10.77.0.1 and 10.77.0.2.
fn lab() -> Lab {
    Lab::veth_pair().unwrap()
}

fn ip(ns: &Namespace, args: &str) {
    let mut command = Command::new("ip");
    let child = start(ns, command.args(args.split_whitespace()));
    let done = finish(child);
    assert_eq!(done.status, 0, "ip {args}: {}", done.stderr);
}

#[test]
fn a_wrong_command_line_is_refused() {
    let lab = lab();
    let ns = &lab.client.ns;
    let host = ["-c", "10.77.0.2"];
    let cases: [(&[&str], &[&str]); 22] = [
        (&["-i", "0"], &["--interval", "flood", "-A"]),
        (&["-i", "1"], &["--interval", "1 us", "-i 1s", "-i 1us"]),
        (
            &["-i", "200"],
            &["200 us", "5000 probes a second", "-i 200us"],
        ),
        (&["-i", "-1"], &["--interval", "'-1' is not a duration"]),
        (&["-t", "0"], &["--time", "leave it out"]),
        (&["-t", "-5s"], &["--time", "'-5s' is not a duration"]),
        (&["-C", "-5"], &["--count", "'-5'", "leave -C out"]),
        (&["-b", "-5"], &["--size", "'-5' is not a number of bytes"]),
        (
            &["10.77.0.2"],
            &["'10.77.0.2' stands alone", "each host with -c"],
        ),
        (&["-i", "1x"], &["--interval", "unknown unit 'x'", "ms"]),
        (&["-t", "soon"], &["--time", "unknown unit"]),
        (&["-W", "0"], &["--timeout", "late"]),
        (&["-C", "0"], &["--count"]),
        (&["-Q", "256"], &["--tos", "not a byte"]),
        (&["-b", "100"], &["size 100 (-b)", "minimum of 144"]),
        (
            &["-b", "100", "--schedule", "* * * * * *", "-t", "1"],
            &["size 100 (-b)"],
        ),
        (&["--logsize", "1Q"], &["--logsize", "256M"]),
        (
            &["-o", "image", "--image", "x.bmp"],
            &["--image", "x.bmp", ".png, .svg or .html"],
        ),
        (
            &["-t", "1", "--schedule", "noon"],
            &["--schedule", "'noon'", "*/10 * * * *"],
        ),
        (
            &["--slo", "loss<1%,p99(eth0)<1ms"],
            &[
                "--slo",
                "column 13",
                "'eth0'",
                "total, response or a segment (l_tx_late",
            ],
        ),
        (&["-s"], &["--server", "--client"]),
        (&["-o", "xml"], &["--output", "xml"]),
    ];
    for (args, words) in cases {
        let mut done = run(ns, &[&host[..], args].concat());
        // A schedule says when it begins, a choice what there is and what may be meant.
        let aside = ["next capture", "possible values", "tip: a similar value"];
        let lines = done.stderr.lines();
        let complaint: Vec<_> = lines
            .filter(|l| !aside.iter().any(|a| l.contains(a)))
            .collect();
        done.stderr = complaint.join("\n");
        refused(&done, USAGE, words);
    }
    let without_option: [(&[&str], &[&str]); 4] = [
        (&["10.77.0.2"], &["pingtrace -c 10.77.0.2"]),
        (&["-i", "1s", "web1"], &["pingtrace -c web1"]),
        (&["-c", "5", "web1"], &["pingtrace -c web1 -C 5"]),
        (&["segmnets"], &["is 'segments' meant?"]),
    ];
    for (args, words) in without_option {
        refused(&run(ns, args), USAGE, words);
    }
    let neither = run(ns, &[]);
    assert_eq!(neither.status, USAGE);
    assert!(
        neither
            .stderr
            .contains("<--server|--client <HOST>|--targets <FILE>>"),
        "{neither:#?}"
    );
    let unscheduled = run(ns, &["-c", "10.77.0.2", "--schedule", "* * * * *"]);
    assert_eq!(unscheduled.status, USAGE);
    assert!(
        unscheduled.stderr.contains("--time <T>"),
        "{unscheduled:#?}"
    );
}

#[test]
fn what_this_host_cannot_do_is_refused() {
    let lab = lab();
    let ns = &lab.client.ns;
    let cases: [(&str, &[&str]); 11] = [
        ("-c fe80::1", &["fe80::1", "needs its zone", "fe80::1%eth0"]),
        ("-c fe80::1%", &["zone ''", "no such device"]),
        (
            "-c no.such.host.invalid",
            &["unknown host no.such.host.invalid"],
        ),
        ("-c 192.0.2.1", &["192.0.2.1", "unreachable", "no route"]),
        (
            "-c 2001:db8::1",
            &["2001:db8::1", "unreachable", "no route"],
        ),
        ("-c fe80::1%nodev0", &["nodev0", "no such device"]),
        (
            "-c 10.77.0.2 -b 1481",
            &["size 1481 (-b)", "1480", "MTU 1500"],
        ),
        ("-c 10.77.0.2 -I nodev0", &["nodev0 (-I)", "No such device"]),
        ("-s -I nodev0", &["no device nodev0 (-I)"]),
        (
            "-c 10.77.0.2 -o log --log /nonexistent/x",
            &["/nonexistent/x.seq", "does not exist", "create it"],
        ),
        (
            "-c 10.77.0.2 -o image --image /nonexistent/x.png",
            &["/nonexistent", "--image", "does not exist"],
        ),
    ];
    for (args, words) in cases {
        refused(&client(ns, args), FAILED, words);
    }
}

#[test]
fn what_is_not_one_host_is_refused_with_the_remedy() {
    let lab = lab();
    let ns = &lab.client.ns;
    for (host, words) in [
        (
            "0.0.0.0",
            &["0.0.0.0 is no host's address", "127.0.0.1"][..],
        ),
        ("::", &["no host's address", "::1"]),
        ("255.255.255.255", &["broadcast", "name one of them"]),
        ("10.77.0.255", &["broadcast", "name one of them"]),
        ("224.0.0.1", &["multicast", "name one of them"]),
        ("ff02::1", &["multicast", "name one of them"]),
        ("http://10.77.0.2/x", &["is a URL", "-c 10.77.0.2"]),
        ("10.77.0.2:80", &["port", "-c 10.77.0.2"]),
        ("[2001:db8::1]:80", &["port", "-c 2001:db8::1"]),
        ("10.77.0.0/24", &["network", "-c 10.77.0.0"]),
        ("", &["names no host", "a name or an address"]),
        ("5", &["-C the number of probes"]),
    ] {
        let done = run(ns, &["-c", host, "-C", "1"]);
        refused(&done, USAGE, words);
        assert!(!done.stderr.contains("os error"), "{done:#?}");
    }
}

#[test]
fn no_message_has_an_error_number() {
    let lab = lab();
    let ns = &lab.client.ns;
    for args in [
        "replay /nonexistent/file",
        "diff /nonexistent/a /nonexistent/b",
        "-c 10.77.0.2 -I nodev0",
        "-c 192.0.2.1",
        "-c 10.77.0.2 -o log --log /nonexistent/x",
        "irqoff --log /nonexistent/x 1",
    ] {
        let done = client(ns, args);
        assert_eq!(done.status, FAILED, "{done:#?}");
        assert!(!done.stderr.contains("os error"), "{done:#?}");
        assert!(!done.stderr.is_empty(), "{args}");
    }
}

#[test]
fn a_route_that_refuses_is_named() {
    let lab = lab();
    let ns = &lab.client.ns;
    for (kind, net, words) in [
        ("blackhole", 1, ["10.1.0.1", "blackhole"]),
        ("prohibit", 2, ["10.2.0.1", "prohibits"]),
        ("unreachable", 3, ["10.3.0.1", "no route"]),
    ] {
        ip(ns, &format!("route add {kind} 10.{net}.0.0/24"));
        refused(&client(ns, &format!("-c 10.{net}.0.1")), FAILED, &words);
    }
    ip(ns, "-6 route add blackhole 2001:db8::/64");
    refused(&client(ns, "-c 2001:db8::1"), FAILED, &["blackhole"]);
}

#[test]
fn a_router_without_a_route_is_named() {
    let lab = Lab::routed().unwrap();
    let router = lab.router.as_ref().unwrap();
    let via: IpAddr = router.client_side.v4.into();
    let add = || Netlink::open()?.add_route("192.0.2.0".parse().unwrap(), 24, via);
    lab.client.ns.run(add).unwrap().unwrap();
    let run = client(&lab.client.ns, "-c 192.0.2.1 -i 2ms -C 10 -W 200ms -o json");
    assert_eq!(run.status, UNANSWERED, "{run:#?}");
    assert!(
        run.stderr
            .contains(&format!("{via} says: network unreachable")),
        "{run:#?}"
    );
    assert_eq!(run.stderr.matches("says:").count(), 1, "{run:#?}");
    assert!(run.stderr.contains("no probe was answered"));
    let stat = run.stat();
    assert!(stat["icmp_errors"].as_u64().unwrap() > 0, "{stat}");
    assert_eq!(
        (stat["sent"].as_u64(), stat["lost"].as_u64()),
        (Some(10), Some(10))
    );
}

/// Starts the program without these capabilities, nor a way to get them.
fn without(ns: &Namespace, capabilities: std::ops::Range<i32>, args: &str) -> Finished {
    let mut command = program();
    command.args(args.split_whitespace());
    let drop_them = move || {
        for capability in capabilities.clone() {
            // SAFETY: takes plain numbers; those beyond the last capability are refused.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: only prctl is called between fork and exec.
    unsafe { command.pre_exec(drop_them) };
    finish(start(ns, &mut command))
}

#[test]
fn a_missing_capability_is_named() {
    const CAP_SYS_ADMIN: i32 = 21;
    const CAPS: i32 = 64;
    let lab = lab();
    let ns = &lab.client.ns;
    let none = without(ns, 0..CAPS, "-c 10.77.0.2 -C 1");
    refused(&none, FAILED, &["raw ICMP socket", "CAP_NET_RAW"]);
    let none = without(ns, 0..CAPS, "-s");
    refused(
        &none,
        FAILED,
        &["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "not permitted"],
    );
    // Only the kernel's stamps are missing, so the totals remain.
    let totals = without(ns, CAP_SYS_ADMIN..CAPS, "-c 10.77.0.2 -C 5 -i 2ms -o json");
    assert_eq!(totals.status, 0, "{totals:#?}");
    assert!(totals.stderr.contains("CAP_BPF"), "{totals:#?}");
    assert_eq!(totals.stat()["replied"], 5);
}

#[test]
fn a_second_server_is_refused() {
    let lab = lab();
    let _first = Server::start(&lab.server.ns, "");
    refused(
        &client(&lab.server.ns, "-s"),
        FAILED,
        &["another pingtrace server", "namespace"],
    );
    let _elsewhere = Server::start(&lab.client.ns, "");
}

/// An ordinary user cannot keep a server from starting.
#[test]
fn a_server_starts_beside_a_squatter() {
    let lab = lab();
    let squat = || thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    let _squatted = lab.server.ns.run(squat).unwrap();
    let _first = Server::start(&lab.server.ns, "");
    refused(
        &client(&lab.server.ns, "-s"),
        FAILED,
        &["another pingtrace server", "namespace"],
    );
}

/// Takes what an ordinary user can have of the names that servers have used, and tries the other. The thread
/// stays that user's.
fn as_nobody() -> UnixListener {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: takes numbers; of the calling thread only, unlike the C library's.
    let become_nobody = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!(become_nobody, 0, "{}", io::Error::last_os_error());
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(253)));
    let error = raw.expect_err("CAP_NET_RAW is needed");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let name = SocketAddr::from_abstract_name("pingtrace-server").unwrap();
    UnixListener::bind_addr(&name).unwrap()
}

#[test]
fn a_device_that_goes_away_for_good_is_said_and_the_run_ends_with_statistics() {
    let lab = lab();
    let mut run = pingtrace(&lab.client.ns, "-c 10.77.0.2 -i 5ms -C 400 -W 0.2 -o json");
    let mut stdout = BufReader::new(run.stdout.take().unwrap());
    let mut first = String::new();
    while !first.contains("\"probe\"") {
        assert!(stdout.read_line(&mut first).unwrap() > 0);
    }
    let index = lab.client.ifindex;
    lab.client
        .ns
        .run(|| Netlink::open()?.delete_link(index))
        .unwrap()
        .unwrap();
    run.stdout = Some(stdout.into_inner());
    let run = finish(run);
    assert_eq!(run.status, 0, "{run:#?}");
    let told = run.stderr.matches("cannot send to 10.77.0.2").count();
    assert_eq!(told, 1, "{run:#?}");
    let stat = run.stdout.lines().last().unwrap();
    assert!(stat.contains("\"sent\":400,"), "{stat}");
    assert!(!stat.contains("\"replied\":0,"), "{stat}");
    assert!(!stat.contains("\"send_errors\":0,"), "{stat}");
}

#[test]
fn a_reader_that_goes_away_ends_an_endless_run() {
    let lab = lab();
    for args in ["-c 10.77.0.2 -i 2ms", "-c 10.77.0.2 -A -o json"] {
        let mut run = pingtrace(&lab.client.ns, args);
        let mut first = String::new();
        BufReader::new(run.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let ended = std::cell::RefCell::new(&mut run);
        until("the run ends", || {
            matches!(ended.borrow_mut().try_wait(), Ok(Some(_)))
        });
        let stderr = io::read_to_string(run.stderr.take().unwrap()).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(0), "{stderr}");
        let complaint = ["Broken pipe", "panicked", "error"];
        assert!(!complaint.iter().any(|c| stderr.contains(c)), "{stderr}");
    }
}

//! Options that shape the packets reach the wire.

use super::harness::{
    Finished, Server, client, finish, pingtrace, points, program, shown, start, terminal,
};
use netns::{Lab, Namespace, Netlink};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn tos_size_and_device_are_used() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let listener = lab.server.ns.run(open).unwrap().unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let dev = &lab.client.dev;
    let args = format!("-c 10.77.0.2 -Q 0xb8 -b 300 -I {dev} -i 5ms -C 20 -o json");
    let run = finish(pingtrace(&lab.client.ns, &args));
    let mut packet = [0; 2048];
    let length = (&listener).read(&mut packet).unwrap();
    assert_eq!((packet[1], length), (0xb8, 20 + 300));
    assert_eq!((run.status, run.probes().len()), (0, 20), "{run:#?}");
}

/// A link-local address means a host only together with a device: its zone, or that of `-I`.
#[test]
fn a_link_local_server_is_reached_by_its_zone() {
    let lab = Lab::veth_pair().unwrap();
    let nowhere = Namespace::anonymous().unwrap();
    for (host, address, far) in [
        (&lab.client, "fe80::77:1", "far1"),
        (&lab.server, "fe80::77:2", "far2"),
    ] {
        let address = address.parse().unwrap();
        // Two devices have the network: the kernel must be told which one.
        let add = || {
            let mut netlink = Netlink::open()?;
            netlink.add_veth("aside", far, &nowhere)?;
            let aside = netlink.link_named("aside")?.index;
            netlink.set_up(aside)?;
            netlink.add_address(aside, "fe80::77:9".parse().unwrap(), 64)?;
            netlink.add_address(host.ifindex, address, 64)
        };
        host.ns.run(add).unwrap().unwrap();
    }
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let (dev, index) = (&lab.client.dev, lab.client.ifindex);
    for zone in [
        format!("-c fe80::77:2%{dev}"),
        format!("-c fe80::77:2%{index}"),
        format!("-c fe80::77:2 -I {dev}"),
        format!("-c fe80::77:2%{dev} -I {dev}"),
    ] {
        for (mode, used) in [("auto", "inband"), ("compact", "compact")] {
            let args = format!("{zone} --mode {mode} --nslocal -i 5ms -C 40 -o json");
            let run = client(&lab.client.ns, &args);
            assert_eq!((run.status, run.probes().len()), (0, 40), "{run:#?}");
            let begun = run.lines("run").pop().unwrap();
            assert_eq!(begun["mode"], used, "{args}: {}", run.stderr);
            assert_eq!(begun["client"]["dev"], dev.as_str(), "{begun:#}");
            let typed = zone.split(' ').nth(1).filter(|host| host.contains('%'));
            let host = begun["server"].get("host").and_then(|host| host.as_str());
            assert_eq!(host, typed, "{begun:#}");
            let stamped = |p: &&serde_json::Value| points(p).contains(&"r_tx_devout");
            // The records of the last probes can come too late; those are counted.
            let with = run.probes().iter().filter(stamped).count() as u64;
            let without = run.stat()["no_remote"].as_u64().unwrap();
            assert!(with > 0 && with + without == 40, "{args}: {:#}", run.stat());
        }
    }
    let elsewhere = client(&lab.client.ns, "-c fe80::77:2%aside -C 1 -W 50ms -o json");
    assert_eq!(elsewhere.status, 3, "{elsewhere:#?}");
    assert_eq!(elsewhere.lines("run")[0]["client"]["dev"], "aside");
}

#[test]
fn the_help_is_grouped_and_ends_with_examples() {
    let ns = Namespace::anonymous().unwrap();
    for help in ["-h", "--help"] {
        let done = client(&ns, help);
        assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{done:#?}");
        let place = |words: &str| {
            let found = done.stdout.find(words);
            found.unwrap_or_else(|| panic!("no '{words}' in {}", done.stdout))
        };
        let headings = [
            "What to probe:",
            "How often and how long:",
            "What to record:",
            "Output:",
            "Diagnosis:",
            "Addressing:",
            "Server:",
            "Examples:",
        ];
        assert!(headings.map(place).is_sorted(), "{}", done.stdout);
        let examples = &done.stdout[place("Examples:")..];
        assert_eq!(
            examples.matches("\n    pingtrace -c ").count(),
            3,
            "{examples}"
        );
        assert!(examples.contains("pingtrace segments"), "{examples}");
    }
}

/// What `segments` explains is what a run shows.
#[test]
fn segments_explains_what_a_run_names() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let explained = client(&lab.client.ns, "segments");
    assert_eq!(explained.status, 0, "{explained:#?}");
    let first_words: Vec<_> = explained
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let run = client(&lab.client.ns, "-c 10.77.0.2 -i 5ms -C 10 -o json");
    let probes = run.probes();
    let delays = probes.iter().flat_map(|p| p["delays"].as_array().unwrap());
    let names: Vec<_> = delays.map(|d| d["delay"].as_str().unwrap()).collect();
    assert!(!names.is_empty(), "{run:#?}");
    for name in names.into_iter().chain(probes.iter().flat_map(points)) {
        assert!(first_words.contains(&name), "{name}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let ns = Namespace::anonymous().unwrap();
    for args in ["segments", "--help", "memleak --help"] {
        let mut command = program();
        command.args(args.split_whitespace());
        let mut child = start(&ns, &mut command);
        drop(child.stdout.take());
        let mut stderr = String::new();
        let mut told = child.stderr.take().unwrap();
        told.read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args}");
    }
}

/// Without the sequences that set colours.
fn colourless(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').unwrap().1)
}

#[test]
fn text_fits_the_terminal_and_is_coloured_there_alone() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let run = |columns: u16, more: &str, no_color: &str| {
        let (person, slave) = terminal(columns);
        let mut command = program();
        let args = format!("-c 10.77.0.2 -i 5ms -C 25 -n {more}");
        command.args(args.split_whitespace()).stdin(Stdio::null());
        command.env("TERM", "xterm").env("NO_COLOR", no_color);
        command.stdout(slave).stderr(Stdio::null());
        let mut child = lab.client.ns.run(|| command.spawn()).unwrap().unwrap();
        drop(command);
        let text = shown(person);
        assert!(child.wait().unwrap().success(), "{text}");
        text
    };
    for columns in [80, 100, 132] {
        let text = run(columns, "", "");
        assert!(text.contains("\u{1b}["), "{text}");
        let text = colourless(&text);
        assert!(text.contains("sent 25, replied 25"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= columns.into(), "{columns}: {line}");
        }
    }
    for (more, no_color) in [("", "1"), ("--color never", "")] {
        assert!(!run(80, more, no_color).contains('\u{1b}'), "{more}");
    }
    let piped = |more| client(&lab.client.ns, &format!("-c 10.77.0.2 -C 1 {more}")).stdout;
    assert!(!piped("").contains('\u{1b}'));
    assert!(piped("--color always").contains("\u{1b}["));
}

#[test]
fn the_typed_name_stands_beside_the_address() {
    let lab = Lab::veth_pair().unwrap();
    let run = |args: &str| client(&lab.client.ns, &format!("-4 -c localhost {args}"));
    let text = run("-C 1").stdout;
    let (probe, summary) = text.split_once('\n').unwrap();
    assert!(probe.contains("#0 localhost (127.0.0.1) ok"), "{text}");
    assert!(summary.contains("localhost (127.0.0.1): "), "{text}");
    let json = run("-C 1 -o json");
    let begun = &json.lines("run")[0]["server"];
    assert_eq!(
        (&begun["host"], &begun["addr"]),
        (&"localhost".into(), &"127.0.0.1".into())
    );
}

#[test]
fn times_are_local_or_utc() {
    let lab = Lab::veth_pair().unwrap();
    let run = |utc: &[&str]| -> (String, Finished) {
        let mut command = program();
        command.env("TZ", "XYZ-5:30");
        command
            .args(["-c", "10.77.0.2", "-C", "1", "-o", "text,json"])
            .args(utc);
        let done = finish(start(&lab.client.ns, &mut command));
        let time = done.probes()[0]["time"].as_str().unwrap().to_owned();
        (time, done)
    };
    // 2026-01-01T12:34:56.789012Z
    let (time, done) = run(&["--utc"]);
    assert!(
        done.stderr.contains(&format!("{}     #0 ", &time[11..23])),
        "{time}: {done:#?}"
    );
    let (time, done) = run(&[]);
    assert!(!done.stderr.contains(&time[11..16]), "{time}: {done:#?}");
}

#[test]
fn few_probes_are_counted_and_not_given_in_percent() {
    let lab = Lab::veth_pair().unwrap();
    let run = client(&lab.client.ns, "-c 10.77.0.9 -C 3 -i 5ms -W 50ms");
    assert_eq!(run.status, 3, "{run:#?}");
    assert!(run.stdout.contains("replied 0, lost 3 of 3"), "{run:#?}");
}

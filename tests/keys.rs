//! Keys: who has one learns everything, who has another one or none nothing, and keys are replaced.

use super::harness::{Client, Finished, SOON, Server, client, finish, kill, pingtrace, refused};
use super::kit::attacker::{Injector, summed};
use super::kit::stranger::{KeyFiles, NEW, OLD, Stranger, stamps, texts, with_server};
use netns::Lab;
use pingtrace::exit;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{DONTADD, Family, INBAND, RECORD, Version};
use pingtrace::wire::socket::ProbeSocket;
use pnet_packet::util::checksum;
use report::model::Point;
use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

/// A server that counts a client on its kernel as one of another host, and explains what is slow.
const ANOTHER_HOST: &str = "--userid 7 --explain=1us";
/// Exit status.
const USAGE: i32 = exit::USAGE as i32;

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
    let words = "requests with the tag of another key (--key-file) from 10.77.0.1";
    assert!(story.iter().any(|line| line.contains(words)), "{story:#?}");
    let _server = Server::start_closed(&lab.server.ns, "");
    let run = client(&lab.client.ns, &args);
    assert!(with_server(&run) >= 30, "{run:#?}");
    assert!(
        run.stderr.contains("the server has no key (--key-file)"),
        "{run:#?}"
    );
}

/// Of each peer once, however many requests others have sent before; and a table says all of them.
#[test]
fn a_server_lists_whom_it_refuses_and_why() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let [ours, others] = [OLD, NEW].map(|key| files.with(&[key]));
    let server = Server::start_closed(&lab.server.ns, &format!("{ours} --deny fd77::/64"));
    Stranger::new(&lab).learns(SessionId(0xabc), INBAND);
    let run = format!("-c 10.77.0.2 -i 10ms -C 30 -o json {others}");
    client(&lab.client.ns, &run);
    let other_key = Some(files.keys(&[NEW]));
    let peers = [5, 6].map(|host| IpAddr::from([10, 77, 0, host]));
    for peer in peers {
        let mut injector = Injector::new(&lab.client.ns, peer, lab.server.v4.into());
        let probe = Probe::new(Family::V4, Version::V1, SessionId(0xdef), 512, INBAND);
        let mut probe = probe.with_keys(other_key);
        for n in 0..30 {
            injector.message(&summed(probe.at(Sequence(n), 0).to_vec()));
            thread::sleep(Duration::from_millis(10));
        }
    }
    client(&lab.client.ns, &format!("-c fd77::2 -i 5ms -C 10 {ours}"));
    kill(server.pid(), libc::SIGUSR1);
    let (_, story) = server.stop(libc::SIGTERM);
    for peer in ["10.77.0.1", "10.77.0.5", "10.77.0.6"] {
        let said = format!("the tag of another key (--key-file) from {peer}");
        let count = story.iter().filter(|l| l.ends_with(&said)).count();
        assert_eq!(count, 1, "{peer}: {story:#?}");
    }
    let table = story
        .iter()
        .skip_while(|l| !l.ends_with("requests refused"));
    let table: Vec<String> = table.map(|l| words_of(l)).collect();
    for row in [
        "10.77.0.1 ",
        " without a tag, as this server has keys, ",
        "10.77.0.5 00000def",
        "10.77.0.6 00000def",
        " 30 30 with the tag of another key",
        "fd77::1 ",
        " from addresses that are not served",
    ] {
        assert!(
            table.iter().any(|l| l.contains(row)),
            "no '{row}': {story:#?}"
        );
    }
    assert!(
        !table.iter().any(|l| l.contains("other sources")),
        "{story:#?}"
    );
}

/// With single spaces.
fn words_of(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
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

/// While a client goes on; the server keeps no right but to read the directory of the file.
#[test]
fn a_server_reads_its_keys_again_at_a_hangup() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let [old, new] = [OLD, NEW].map(|key| files.with(&[key]));
    let of_server = files.with(&[OLD]) + "-of-server";
    let path = of_server.rsplit(' ').next().unwrap();
    let replace_by = |option: String| {
        fs::rename(option.rsplit(' ').next().unwrap(), path).unwrap();
    };
    replace_by(files.with(&["# old", OLD]));
    let mut server = Server::start_closed(&lab.server.ns, &of_server);
    let hang_up = |server: &mut Server, words: &str| {
        kill(server.pid(), libc::SIGHUP);
        server.hear(words);
    };
    let run = |key: &str, mode: &str| {
        let args = format!("-c 10.77.0.2 -i 10ms -C 20 -o json --mode {mode} {key}");
        client(&lab.client.ns, &args)
    };
    let goes_on = Client::start(
        &lab.client.ns,
        &format!("-c 10.77.0.2 -i 10ms -o json {old}"),
    );
    server.wait_for_probes(10);
    replace_by(files.with(&[NEW, OLD]));
    hang_up(&mut server, "--key-file was read again");
    for mode in ["auto", "compact"] {
        let run = run(&new, mode);
        assert!(with_server(&run) >= 10, "{mode}: {run:#?}");
        assert_eq!(run.stat()["untagged"].as_u64().unwrap_or(0), 0, "{run:#?}");
    }
    let goes_on = goes_on.stop();
    let probes = goes_on.probes().len();
    assert!(with_server(&goes_on) + 1 >= probes, "{goes_on:#?}");
    assert!(!goes_on.stderr.contains("key"), "{goes_on:#?}");
    replace_by(files.with(&["# new", NEW]));
    hang_up(&mut server, "--key-file was read again");
    let refused = run(&old, "auto");
    assert_eq!(with_server(&refused), 0, "{refused:#?}");
    assert!(
        refused.stderr.contains("the server has another key"),
        "{refused:#?}"
    );
    replace_by(files.option("short", 0o600));
    hang_up(&mut server, "the keys that were read before stay in use");
    assert!(with_server(&run(&new, "auto")) >= 10);
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success(), "{story:#?}");
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

/// A request again, also by somebody who knows its session and number but has no key: what the server still
/// owes of the first one is delivered, as it was.
#[test]
fn a_repetition_without_the_key_takes_nothing_from_a_probe() {
    let (lab, files) = (Lab::veth_pair().unwrap(), KeyFiles::new());
    let [ours, other] = [OLD, NEW].map(|key| Some(files.keys(&[key])));
    let server = Server::start_closed(&lab.server.ns, &files.with(&[OLD]));
    let mut sender = Stranger::new(&lab);
    for (n, repeated_with) in (1..).zip([None, other, ours]) {
        let session = SessionId(n);
        let probe =
            |keys| Probe::new(Family::V4, Version::V1, session, 512, INBAND).with_keys(keys);
        for _ in 0..3 {
            sender.asks(&mut probe(ours), session);
            sender.sequence += 1;
        }
        sender.asks(&mut probe(ours), session);
        let again = sender.asks(&mut probe(repeated_with), session);
        assert_eq!(stamps(&again), [], "{n}");
        sender.sequence += 1;
        let came = sender.asks(&mut probe(ours), session);
        let late = stamps(&came).into_iter().filter(|s| s.back == 1);
        let points: Vec<Point> = late.map(|s| s.point).collect();
        assert_eq!(
            points,
            [Point::RTxDevqueue, Point::RTxDevout],
            "{n}: {came:?}"
        );
    }
    let (_, story) = server.stop(libc::SIGTERM);
    assert!(!story.iter().any(|l| l.contains("reused")), "{story:#?}");
}

/// Without keys anybody may repeat a request: then what was owed of the first one is lost, and counted.
#[test]
fn what_a_repetition_displaces_is_counted() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start_closed(&lab.server.ns, "--userid 7");
    let mut sender = Stranger::new(&lab);
    let session = SessionId(1);
    let mut probe = Probe::new(Family::V4, Version::V1, session, 512, INBAND);
    for _ in 0..3 {
        sender.asks(&mut probe, session);
        sender.sequence += 1;
    }
    sender.asks(&mut probe, session);
    sender.asks(&mut probe, session);
    // Nor does one that has returned no cookie take over the slot of one that has.
    let cookie = std::mem::take(&mut sender.cookie);
    assert_ne!(cookie, 0);
    sender.asks(&mut probe, session);
    let (_, story) = server.stop(libc::SIGTERM);
    let words = "slots reused before their late stamps were sent: 1";
    assert!(story.iter().any(|l| l.ends_with(words)), "{story:#?}");
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
        if !packet.request || !(5..1000).contains(&packet.sequence.0) {
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

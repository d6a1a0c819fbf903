//! A run goes on through what happens to its host meanwhile: each probe that could not be sent is
//! lost there, with the reason, and the books balance.

use super::harness::{Finished, Server, finish, kill, pingtrace, status};
use netns::{Host, Lab, Netlink};
use pingtrace::packet::Family;
use pingtrace::socket::ProbeSocket;
use pnet_packet::util::checksum;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdout};

/// A client whose results are read as they come.
struct Live {
    run: Child,
    lines: BufReader<ChildStdout>,
    seen: String,
}

impl Live {
    /// Begins an endless run, and waits until it has answers.
    fn start(lab: &Lab, args: &str) -> Self {
        let mut run = pingtrace(&lab.client.ns, &format!("{args} --nslocal -o json"));
        let lines = BufReader::new(run.stdout.take().expect("piped"));
        let mut live = Self {
            run,
            lines,
            seen: String::new(),
        };
        live.wait_for("ok", 20);
        live
    }

    /// Reads on until so many more probes have this status.
    fn wait_for(&mut self, wanted: &str, times: u32) {
        let mut count = 0;
        while count < times {
            let begin = self.seen.len();
            let read = self.lines.read_line(&mut self.seen).expect("UTF-8");
            if read == 0 {
                let stderr = std::io::read_to_string(self.run.stderr.take().expect("piped"));
                panic!("the run ended: {stderr:?}\n{}", self.seen);
            }
            let line: Value = serde_json::from_str(&self.seen[begin..]).expect("JSON");
            count += u32::from(line["type"] == "probe" && status(&line) == wanted);
        }
    }

    /// Ends it as Ctrl-C does; all that it wrote.
    fn stop(self) -> Finished {
        kill(self.run.id(), libc::SIGINT);
        let mut stdout = self.seen;
        let mut run = self.run;
        let mut lines = self.lines;
        // `finish` wants a pipe.
        lines.read_to_string(&mut stdout).expect("UTF-8");
        run.stdout = Some(lines.into_inner());
        let done = finish(run);
        Finished { stdout, ..done }
    }
}

/// Every probe sent has one final status, lines and summary agree, and each loss has its place.
fn assert_balanced(run: &Finished) {
    let stat = run.stat();
    let count = |key: &str| stat[key].as_u64().unwrap_or(0);
    let settled = count("replied") + count("lost") + count("forgotten");
    assert_eq!(count("sent"), settled + count("in_flight"), "{stat:#}");
    let probes = run.probes();
    let lines = |wanted: &str| probes.iter().filter(|p| status(p) == wanted).count() as u64;
    let amended = lines("amended");
    assert_eq!(
        lines("ok") + lines("late") + amended,
        count("replied"),
        "{stat:#}"
    );
    assert_eq!(lines("lost"), count("lost") + amended, "{stat:#}");
    let losses = stat["losses"].as_array().into_iter().flatten();
    let placed: u64 = losses.map(|l| l["count"].as_u64().unwrap()).sum();
    assert_eq!(placed, count("lost"), "{stat:#}");
}

fn number(run: &Finished, key: &str) -> u64 {
    run.stat()[key].as_u64().unwrap_or(0)
}

/// "Fragmentation needed", or "packet too big", from the server to the client, as anybody on the
/// way could send it; it quotes an echo request to the server that nobody sent.
fn forge_too_big(lab: &Lab, family: Family, mtu: u16) {
    let (from, to): (IpAddr, IpAddr) = match family {
        Family::V4 => (lab.server.v4.into(), lab.client.v4.into()),
        Family::V6 => (lab.server.v6.into(), lab.client.v6.into()),
    };
    let mut message = vec![0; 8];
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    let mut quoted = match (to, from) {
        (IpAddr::V4(source), IpAddr::V4(peer)) => {
            message[0..2].copy_from_slice(&[3, 4]);
            let mut ip = vec![0; 12];
            [ip[0], ip[3], ip[8], ip[9]] = [0x45, 48, 64, 1];
            [ip, source.octets().to_vec(), peer.octets().to_vec()].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(peer)) => {
            message[0] = 2;
            let mut ip = vec![0; 8];
            [ip[0], ip[5], ip[6], ip[7]] = [0x60, 28, 58, 64];
            [ip, source.octets().to_vec(), peer.octets().to_vec()].concat()
        }
        _ => panic!("two families"),
    };
    quoted.extend([family.request(), 0, 0, 0, 0x66, 0x66, 0, 1]);
    quoted.extend([0; 20]);
    message.extend(quoted);
    if family == Family::V4 {
        let sum = checksum(&message, 1);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let open = || ProbeSocket::sender(family, (from, 0).into());
    let socket = lab.server.ns.run(open).unwrap().unwrap();
    let to = SocketAddr::new(to, 0).into();
    socket.send(&message, &to).expect("send");
}

/// What the client's kernel believes of the path's MTU.
fn path_mtu(host: &Host, to: IpAddr) -> u32 {
    let ask = || Netlink::open()?.route_get(to, None);
    host.ns.run(ask).unwrap().unwrap().mtu
}

/// A forged "too big" is believed by the kernel for ten minutes, and by the run not at all.
#[test]
fn a_forged_too_big_neither_ends_a_run_nor_refuses_the_next() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for (family, mtu, believed) in [(Family::V4, 68, 552), (Family::V6, 1280, 1280)] {
        let peer: IpAddr = match family {
            Family::V4 => lab.server.v4.into(),
            Family::V6 => lab.server.v6.into(),
        };
        let args = format!("-c {peer} -i 2ms -b 1400");
        let mut live = Live::start(&lab, &args);
        forge_too_big(&lab, family, mtu);
        live.wait_for("ok", 50);
        assert_eq!(
            path_mtu(&lab.client, peer),
            believed,
            "the kernel believes it"
        );
        let run = live.stop();
        assert_eq!(run.status, 0, "{run:#?}");
        assert_balanced(&run);
        for (what, times) in [("lost", 0), ("icmp_errors", 0), ("icmp_unrelated", 1)] {
            assert_eq!(number(&run, what), times, "{what}: {:#}", run.stat());
        }
        let mut again = Live::start(&lab, &args);
        again.wait_for("ok", 20);
        let again = again.stop();
        assert_eq!((again.status, number(&again, "lost")), (0, 0), "{again:#?}");
    }
}

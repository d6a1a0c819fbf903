//! What the programs of a running pingtrace cost a packet that is no probe, by the kernel's own
//! accounting, beside programs that do nothing at the same hooks at the same time.
//!
//! Usage: hooks NETNS ADDRESS SERVER-PID CLIENT-PID. Sends its traffic from the namespace that
//! it runs in to ADDRESS in NETNS. Prints one line for each kind of traffic and hook: calls, ns
//! a call of the empty program, and ns more of the server's and of the client's.

#![expect(
    unsafe_code,
    reason = "libbpf-rs does not wrap bpf_enable_stats; one call, one descriptor"
)]

use anyhow::{Context, Result, bail};
use kit_bpf::empty::EmptySkelBuilder;
use libbpf_rs::libbpf_sys::{BPF_STATS_RUN_TIME, bpf_enable_stats};
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use netns::Namespace;
use pingtrace::wire::protocol::Family;
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket};
use pnet_packet::util::checksum;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::thread;

/// Rounds, of which the median counts.
const ROUNDS: usize = 7;
/// Packets of a round; of TCP, exchanges.
const PACKETS: u32 = 20_000;
/// Hooks that were called less often in a round say nothing.
const MIN_CALLS: u64 = 1_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [netns, address, server, client] = arguments.as_slice() else {
        bail!("usage: hooks NETNS ADDRESS SERVER-PID CLIENT-PID");
    };
    let netns = Namespace::named(netns)?;
    let address = address.parse().context("ADDRESS")?;

    let mut storage = MaybeUninit::uninit();
    let mut empty = EmptySkelBuilder::default().open(&mut storage)?.load()?;
    empty.attach().context("attach the empty programs")?;
    let owners = [
        programs_of(&std::process::id().to_string())?,
        programs_of(server)?,
        programs_of(client)?,
    ];
    let _accounting = enable_stats()?;
    let traffic = Traffic::new(&netns, address)?;
    println!("traffic hook calls empty_ns server_more_ns client_more_ns");
    for kind in [Kind::Udp, Kind::Tcp, Kind::Ping] {
        print(kind, &measure(&traffic, kind, &owners)?);
    }
    Ok(())
}

/// Switches the accounting on for as long as the descriptor is open.
fn enable_stats() -> Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { bpf_enable_stats(BPF_STATS_RUN_TIME) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd)).context("switch on the accounting");
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Numbers of the programs that a process holds.
fn programs_of(pid: &str) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let path = format!("/proc/{pid}/fdinfo");
    for entry in fs::read_dir(&path).with_context(|| format!("read {path}"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let number = text.lines().find_map(|l| l.strip_prefix("prog_id:"));
        found.extend(number.and_then(|n| n.trim().parse::<u32>().ok()));
    }
    Ok(found)
}

/// By program number: name, run time in ns, calls.
type Usage = BTreeMap<u32, (String, u64, u64)>;

fn usage() -> Usage {
    ProgInfoIter::default()
        .map(|p| {
            let name = p.name.to_string_lossy().into_owned();
            (p.id, (name, p.run_time_ns, p.run_cnt))
        })
        .collect()
}

/// By hook, for each owner: ns a call and calls, of each round.
type Rounds = BTreeMap<String, [Vec<(f64, u64)>; 3]>;

fn measure(traffic: &Traffic, kind: Kind, owners: &[BTreeSet<u32>; 3]) -> Result<Rounds> {
    let mut rounds = Rounds::new();
    for _ in 0..ROUNDS {
        let before = usage();
        traffic.send(kind)?;
        let after = usage();
        for (id, (name, time, calls)) in &after {
            let Some((_, time_before, calls_before)) = before.get(id) else {
                continue;
            };
            let calls = calls - calls_before;
            let Some(owner) = owners.iter().position(|ids| ids.contains(id)) else {
                continue;
            };
            if calls >= MIN_CALLS {
                let each = (time - time_before) as f64 / calls as f64;
                rounds.entry(name.clone()).or_default()[owner].push((each, calls));
            }
        }
    }
    Ok(rounds)
}

fn print(kind: Kind, rounds: &Rounds) {
    for (hook, [empty, server, client]) in rounds {
        let base = median(empty);
        let more = |of: &[(f64, u64)]| match (median(of), base) {
            (None, _) => "-".to_owned(),
            (Some(ns), Some(base)) => format!("{:+.1}", ns - base),
            (Some(ns), None) => format!("{ns:.1}(all)"),
        };
        let calls = [empty, server, client].into_iter().flatten();
        println!(
            "{} {hook} {} {} {} {}",
            kind.name(),
            calls.map(|(_, n)| *n).max().unwrap_or(0),
            base.map_or("-".to_owned(), |ns| format!("{ns:.1}")),
            more(server),
            more(client),
        );
    }
}

fn median(of: &[(f64, u64)]) -> Option<f64> {
    let mut each: Vec<f64> = of.iter().map(|(ns, _)| *ns).collect();
    each.sort_by(f64::total_cmp);
    each.get(each.len() / 2).copied()
}

#[derive(Clone, Copy)]
enum Kind {
    Udp,
    Tcp,
    Ping,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Ping => "ping",
        }
    }
}

/// Ordinary packets to sockets in the other namespace.
struct Traffic {
    udp: UdpSocket,
    _udp_sink: UdpSocket,
    tcp: TcpStream,
    icmp: ProbeSocket,
    peer: SocketAddr,
}

impl Traffic {
    fn new(netns: &Namespace, address: IpAddr) -> Result<Self> {
        let any = SocketAddr::new(address, 0);
        let (sink, listener) = netns.run(|| (UdpSocket::bind(any), TcpListener::bind(any)))?;
        let (sink, listener) = (sink?, listener?);
        let udp = UdpSocket::bind(SocketAddr::new(unspecified(address), 0))?;
        udp.connect(sink.local_addr()?)?;
        let tcp = TcpStream::connect(listener.local_addr()?)?;
        tcp.set_nodelay(true)?;
        let (echo, _) = listener.accept()?;
        thread::spawn(move || echo_back(echo));
        Ok(Self {
            udp,
            _udp_sink: sink,
            tcp,
            icmp: ProbeSocket::open(family(address), &Options::default())?,
            peer: any,
        })
    }

    fn send(&self, kind: Kind) -> Result<()> {
        for _ in 0..PACKETS {
            match kind {
                Kind::Udp => drop(self.udp.send(&[0; 200])?),
                Kind::Tcp => {
                    (&self.tcp).write_all(&[0; 200])?;
                    (&self.tcp).read_exact(&mut [0; 200])?;
                }
                Kind::Ping => self.ping()?,
            }
        }
        Ok(())
    }

    /// An echo request of another program, and its reply.
    fn ping(&self) -> Result<()> {
        let mut message = [0x55; 64];
        message[..8].copy_from_slice(&[family(self.peer.ip()).request(), 0, 0, 0, 1, 2, 3, 4]);
        let sum = checksum(&message, 1);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.icmp.send(&message, &self.peer.into())?;
        self.icmp
            .receive(&mut vec![MaybeUninit::uninit(); MAX_MESSAGE])?;
        Ok(())
    }
}

fn echo_back(mut stream: TcpStream) {
    let mut buffer = [0; 200];
    while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
}

const fn family(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

//! How fast other traffic is: a flood of small UDP packets, and TCP with a small MSS, to sockets in another namespace
//! of this kernel.
//!
//! Usage: `foreign NETNS ADDRESS SECONDS [empty]`; sends from the namespace that it runs in. Prints UDP packets and TCP
//! segments a second of CPU time of this process, so that other load on the machine counts little: over a veth pair the
//! kernel does all the work on behalf of the sender. With `empty`, programs that do nothing are attached meanwhile to
//! the hooks of an armed server: less than they cost no server can.

use anyhow::{Context, Result, bail};
use kit_bpf::empty::EmptySkelBuilder;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, Object};
use netns::Namespace;
use pingtrace::units::{SECOND, monotonic_ns, process_cpu_ns};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

/// Payload of a UDP packet, bytes.
const PAYLOAD: usize = 64;
/// MSS of the TCP connection, bytes.
const MSS: u32 = 536;
/// Sends between two looks at the clock.
const BATCH: u32 = 256;
/// Empty programs at hooks of a client only.
const OF_CLIENT: [&str; 2] = ["on_sched_wakeup", "on_sched_switch"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [netns, address, seconds, empty @ ..] = arguments.as_slice() else {
        bail!("usage: foreign NETNS ADDRESS SECONDS [empty]");
    };
    let netns = Namespace::named(netns)?;
    let address: IpAddr = address.parse().context("ADDRESS")?;
    let seconds: f64 = seconds.parse().context("SECONDS")?;
    let ns = (seconds * SECOND as f64) as u64;
    let mut storage = MaybeUninit::uninit();
    let programs = EmptySkelBuilder::default().open(&mut storage)?.load()?;
    let _attached = match empty {
        [] => Vec::new(),
        [word] if word == "empty" => attach(programs.object())?,
        _ => bail!("what is {empty:?}?"),
    };
    println!(
        "{:.0} {:.0}",
        udp(&netns, address, ns)?,
        tcp(&netns, address, ns)?
    );
    Ok(())
}

/// Attaches the programs at a server's hooks.
fn attach(object: &Object) -> Result<Vec<Link>> {
    let programs = object.progs_mut();
    let of_server =
        programs.filter(|program| !OF_CLIENT.iter().any(|name| program.name() == *name));
    let links = of_server.map(|program| program.attach());
    links
        .collect::<Result<_, _>>()
        .context("attach the empty programs")
}

/// Packets a second; the receiver does not read, so most are dropped at its socket.
fn udp(netns: &Namespace, address: IpAddr, ns: u64) -> Result<f64> {
    let sink = netns.run(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
    let socket = Socket::new(Domain::for_address(sink.local_addr()?), Type::DGRAM, None)?;
    socket.connect(&sink.local_addr()?.into())?;
    rate(ns, || {
        for _ in 0..BATCH {
            socket.send(&[0; PAYLOAD])?;
        }
        Ok(u64::from(BATCH))
    })
}

/// Segments a second.
fn tcp(netns: &Namespace, address: IpAddr, ns: u64) -> Result<f64> {
    let listener = netns.run(|| TcpListener::bind(SocketAddr::new(address, 0)))??;
    SockRef::from(&listener).set_tcp_mss(MSS)?;
    let mut out = TcpStream::connect(listener.local_addr()?)?;
    let (mut into, _) = listener.accept()?;
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while into.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    let block = vec![0; 1 << 16];
    let bytes = rate(ns, || Ok(out.write(&block)? as u64))?;
    drop(out);
    let _ = reader.join();
    Ok(bytes / f64::from(MSS))
}

/// What `step` does, a second of CPU time.
fn rate(ns: u64, mut step: impl FnMut() -> Result<u64>) -> Result<f64> {
    let (end, cpu_ns) = (monotonic_ns() + ns, process_cpu_ns());
    let mut done = 0;
    while monotonic_ns() < end {
        done += step()?;
    }
    Ok(done as f64 / (process_cpu_ns() - cpu_ns) as f64 * SECOND as f64)
}

//! The baseline of scripts/bench.sh: the client's packets and socket in the shortest loop that
//! sends one probe at each reply, without kernel programs and without statistics.
//!
//! Usage: `flood ADDRESS [SECONDS [BYTES]]`; prints sent, answered, and answered per second.

use anyhow::{Context, Result, bail};
use pingtrace::units::{SECOND, monotonic_ns};
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, Version};
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use socket2::SockAddr;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

const TIMEOUT_NS: u64 = SECOND;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(peer) = arguments.first() else {
        bail!("usage: flood ADDRESS [SECONDS [BYTES]]");
    };
    let peer: IpAddr = peer.parse().context("ADDRESS")?;
    let seconds: f64 = arguments.get(1).map_or(Ok(1.5), |a| a.parse())?;
    let size: usize = arguments.get(2).map_or(Ok(556), |a| a.parse())?;

    let start = monotonic_ns();
    let (sent, answered) = flood(peer, size, start + (seconds * SECOND as f64) as u64)?;
    let elapsed = (monotonic_ns() - start) as f64 / SECOND as f64;
    println!("{sent} {answered} {:.0}", f64::from(answered) / elapsed);
    Ok(())
}

/// Probes sent and answered until `end`, ns.
fn flood(peer: IpAddr, size: usize, end: u64) -> Result<(u32, u32)> {
    let family = match peer {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let session = SessionId(std::process::id());
    let socket = ProbeSocket::open(family, &Options::default())?;
    let to = SockAddr::from(SocketAddr::new(peer, 0));
    let mut probe = Probe::new(family, Version::V1, session, size, 0);
    let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
    let (mut sent, mut answered) = (0, 0);
    loop {
        let now = monotonic_ns();
        if now >= end {
            return Ok((sent, answered));
        }
        socket
            .send(probe.at(Sequence(sent), now), &to)
            .context("send a probe")?;
        while monotonic_ns() < now + TIMEOUT_NS {
            let (Received::Reply(reply), _) = socket.receive(&mut buffer)? else {
                continue;
            };
            let reply = packet::parse(reply.message, family);
            if reply.is_ok_and(|p| p.session == session && p.sequence == Sequence(sent)) {
                answered += 1;
                break;
            }
        }
        sent += 1;
    }
}

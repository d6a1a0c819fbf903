//! A crowd at a server: a probe a second of each of 1 000 sessions, until it is ended.
//!
//! Usage: `crowd ADDRESS`.

use anyhow::{Context, Result};
use pingtrace::units::{SECOND, monotonic_ns, sleep_until};
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, INBAND, Version};
use pingtrace::wire::socket::{Deliver, Options, ProbeSocket};
use std::net::{IpAddr, SocketAddr};

const SESSIONS: u32 = 1_000;
const SIZE: usize = 512;

fn main() -> Result<()> {
    let peer = std::env::args().nth(1).context("usage: crowd ADDRESS")?;
    let peer: IpAddr = peer.parse().context("ADDRESS")?;
    let family = if peer.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let socket = ProbeSocket::open(family, &Options::default())?;
    socket.deliver(Deliver::Nothing)?;
    let to = SocketAddr::new(peer, 0).into();
    let probe = |id| Probe::new(family, Version::V1, SessionId(id), SIZE, INBAND);
    let mut probes: Vec<_> = (1..=SESSIONS).map(probe).collect();
    let begin_ns = monotonic_ns();
    for round in 0.. {
        for (k, probe) in (0..).zip(&mut probes) {
            sleep_until(begin_ns + u64::from(round) * SECOND + k * SECOND / u64::from(SESSIONS));
            socket.send(probe.at(Sequence(round), 0), &to)?;
        }
    }
    Ok(())
}

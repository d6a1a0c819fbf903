//! What goes into the joining of a probe's stamps, and what comes out of it if there was no answer.

use crate::client::index::ProbeIndex;
use crate::wire::flows::Flows;
use crate::wire::number::{Sequence, SessionId};
use report::model::{KernelDrop, Netns, Probe, Status, Ttl};
use std::net::IpAddr;

/// What the client asks of a run, as far as joining needs it.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Session id.
    pub session: SessionId,
    /// The host that is probed.
    pub peer: IpAddr,
    /// The namespace of the client.
    pub netns: Netns,
    /// In which the probes leave.
    pub flows: Flows,
    /// Stamps of the own namespace only are wanted, so a server on the same kernel has its own.
    pub own_namespace_only: bool,
    /// The user wants one kernel to count as two hosts.
    pub two_hosts: bool,
}

/// What user space knows of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which probe; its low 32 bits are the sequence number.
    pub index: ProbeIndex,
    /// `l_tx_due`, `CLOCK_MONOTONIC` ns, if there is a schedule.
    pub due_ns: Option<u64>,
    /// `l_tx_user`, `CLOCK_MONOTONIC` ns.
    pub sent_ns: u64,
    /// On this CPU, if that is still known.
    pub sent_cpu: Option<u16>,
    /// Wall-clock time of the send, ns since the Unix epoch.
    pub sent_unix_ns: i64,
    /// `l_rx_user`, `CLOCK_MONOTONIC` ns.
    pub received_ns: u64,
    /// With which TTL it arrived, if that is known.
    pub ttl: Option<Ttl>,
    /// Wake-up of the receiving thread, if it slept: ns and CPU.
    pub woken: Option<(u64, u16)>,
    /// When it ran again.
    pub oncpu: Option<(u64, u16)>,
    /// In time or late.
    pub status: Status,
}

impl Arrival {
    /// The sequence number.
    pub fn sequence(&self) -> Sequence {
        self.index.sequence()
    }
}

/// A probe that was not answered.
pub struct Unanswered {
    /// With the stamps of both hosts.
    pub probe: Probe,
    /// What their kernels dropped of it.
    pub drops: Vec<KernelDrop>,
    /// Its slot was there: what has no stamp in it did not happen.
    pub seen_here: bool,
}

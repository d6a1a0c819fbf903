//! The warm-up: probes before the first one, until one brings stamps of a server. A server that nobody has probed
//! for a while has no programs attached, and its stamps begin some milliseconds after the first request.
//!
//! A run whose probes are rare finds an idle server each time, and wakes it before each of them.
//!
//! The probes of the warm-up are of the run's session, with the numbers before 0, so that the server knows the session by
//! then; they are counted by themselves, and what they find is in no result.

use super::args::Mode;
use super::plan::Plan;
use crate::control::Control;
use crate::units::monotonic_ns;
use crate::wire::entry::TRANSIT;
use crate::wire::icmp_error::IcmpError;
use crate::wire::number::{Sequence, SessionId};
use crate::wire::packet::{self, Packet};
use crate::wire::probe::Probe;
use crate::wire::protocol::Version;
use crate::wire::socket::{MAX_MESSAGE, ProbeSocket, Received};
use crate::wire::stamp_return::StampReturn;
use report::model::Point;
use std::mem::MaybeUninit;

/// Time between its probes, and its duration where no stamps arrive, ns.
const INTERVAL_NS: u64 = 20_000_000;
const DURATION_NS: u64 = 300_000_000;
/// Numbers that its probes can have.
const NUMBERS: u32 = 16;

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct WarmUp {
    /// Probes sent.
    pub sent: u32,
    /// The last cookie of the server; 0: none.
    pub cookie: u64,
    /// That a host refused one: then it ended, as routers say so only now and then.
    pub refused: Option<IcmpError>,
    has_stamps: bool,
}

impl WarmUp {
    /// Sends probes until one has stamps of the server, where the run wants any, or the time is over.
    pub fn run(plan: &Plan, socket: &ProbeSocket, session: SessionId, control: &Control) -> Self {
        let mut this = Self::default();
        let way = plan.mode.first();
        if plan.mode == Mode::Only(StampReturn::Pingpong) {
            return this;
        }
        let mut probe = Probe::new(plan.family, way.version(), session, plan.size, way.flags())
            .in_flows(plan.flows)
            .with_keys(plan.keys);
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        let begin_ns = monotonic_ns();
        while !this.has_stamps && this.refused.is_none() && !control.stopped() {
            let now = monotonic_ns() - begin_ns;
            if now >= DURATION_NS {
                break;
            }
            if now >= u64::from(this.sent) * INTERVAL_NS {
                let message = probe.at(number(this.sent), this.cookie);
                // What the run says when its own probes cannot be sent.
                if socket.send(message, &plan.peer).is_err() {
                    break;
                }
                this.sent += 1;
            }
            match socket.receive(&mut buffer) {
                Ok((Received::Reply(reply), _)) if reply.from == plan.ip => {
                    if let Ok(packet) = packet::parse(reply.message, plan.family) {
                        this.take(&packet, session);
                    }
                }
                Ok((Received::Error(e), _)) if e.probe(session, plan.flows, plan.ip).is_some() => {
                    this.refused = Some(e);
                }
                _ => {}
            }
        }
        this
    }

    fn take(&mut self, packet: &Packet<'_>, session: SessionId) {
        if packet.session != session || packet.request || !packet.checksum_ok {
            return;
        }
        if packet.cookie != 0 {
            self.cookie = packet.cookie;
        }
        let of_server = |point| matches!(point, Point::RRxDevrcv | Point::RRxIcmprcv);
        let mut entries = packet.entries().flatten();
        self.has_stamps |= entries.any(|e| e.host & TRANSIT == 0 && of_server(e.point));
    }
}

/// The warm-up of one of many targets: a few probes at fixed times, so that none waits for another. It ends early
/// when the server has answered with a cookie.
pub struct Few {
    left: u32,
}

impl Few {
    const COUNT: u32 = 3;

    /// None where no stamps are wanted, and for the only target, which has a [`WarmUp`].
    pub fn new(plan: &Plan) -> Self {
        let is_wanted = plan.name.is_some() && plan.mode != Mode::Only(StampReturn::Pingpong);
        Self {
            left: if is_wanted { Self::COUNT } else { 0 },
        }
    }

    /// How long before the first probe it begins, ns.
    pub fn duration_ns(&self) -> u64 {
        u64::from(self.left) * (DURATION_NS / u64::from(Self::COUNT))
    }

    /// Whether the next message is one of it.
    pub fn is_left(&self) -> bool {
        self.left > 0
    }

    /// When the next one is due, if the first probe is due then, ns.
    pub fn before(&self, first_ns: u64) -> Option<u64> {
        self.is_left()
            .then(|| first_ns.saturating_sub(self.duration_ns()))
    }

    /// The number of the next one, unless there is a cookie.
    pub fn next(&mut self, cookie: u64) -> Option<Sequence> {
        let sequence = number(Self::COUNT - self.left);
        self.left = if cookie == 0 { self.left - 1 } else { 0 };
        (cookie == 0).then_some(sequence)
    }
}

/// Wakes the server before each probe of a run that has so few that it is idle again meanwhile.
pub struct Wake {
    /// Of another session: within that of the run a server with keys takes no number for new that is less than the last.
    probe: Probe,
    sent: u32,
}

impl Wake {
    /// Runs with less time between probes keep a server armed (`--linger`).
    const FROM_INTERVAL_NS: u64 = 10_000_000_000;

    /// Absent where nobody is to be woken.
    pub fn new(plan: &Plan, session: SessionId) -> Option<Self> {
        let is_rare = plan
            .interval_ns
            .is_some_and(|interval| interval >= Self::FROM_INTERVAL_NS);
        let is_wanted = plan.mode != Mode::Only(StampReturn::Pingpong);
        let probe = || {
            Probe::new(
                plan.family,
                Version::V1,
                Self::session(session),
                plan.size,
                0,
            )
            .with_keys(plan.keys)
        };
        (is_rare && is_wanted).then(|| Self {
            probe: probe(),
            sent: 0,
        })
    }

    /// When to send it for a probe that is due then, ns.
    pub fn before(due_ns: u64) -> u64 {
        due_ns.saturating_sub(DURATION_NS)
    }

    /// The message, and its number.
    pub fn message(&mut self) -> (Sequence, &[u8]) {
        let sequence = Sequence(self.sent);
        self.sent = self.sent.wrapping_add(1);
        (sequence, self.probe.at(sequence, 0))
    }

    /// The session of the probes that wake, of a run's.
    pub fn session(of_run: SessionId) -> SessionId {
        SessionId(of_run.0 ^ (1 << 31))
    }
}

/// The number of the probe after `before` others.
fn number(before: u32) -> Sequence {
    Sequence(before.wrapping_sub(NUMBERS))
}

/// Whether a packet is of the warm-up, in a run of so many probes so far.
pub fn has_number(sequence: Sequence, sent: u64) -> bool {
    sent < u64::from(number(0).0) && sequence.0 >= number(0).0
}

/// The same by the low half of the number.
pub fn has_low(low: u16, sent: u64) -> bool {
    sent < u64::from(number(0).low()) && low >= number(0).low()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_numbers_are_before_those_of_the_run() {
        for before in 0..DURATION_NS.div_ceil(INTERVAL_NS) as u32 {
            assert!(has_number(number(before), 0));
            assert!(has_low(number(before).low(), 0));
        }
        assert_eq!(number(NUMBERS), Sequence(0));
        assert!(!has_number(Sequence(0), 0) && !has_low(0, 1));
        // A probe of a run that has come so far may have them itself.
        assert!(!has_number(number(0), 1 << 32) && !has_low(number(0).low(), 0xffff));
    }
}

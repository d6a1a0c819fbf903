//! What one target has to do with the counters: which devices its probes pass, and when they were slow or lost.

use super::request::Request;
use report::model::{Host, Ifindex, Moved, Netns, Owner, Place, Probe, ProbeResult};
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

/// Upper bound on the wait for the last reading.
const LAST: Duration = Duration::from_secs(5);

/// The counters of this host, for the probes of one target.
pub struct OfTarget {
    target: u32,
    netns: Netns,
    requests: Sender<Request>,
    devices: Vec<Ifindex>,
}

impl OfTarget {
    pub(super) fn new(target: u32, netns: Netns, requests: Sender<Request>) -> Self {
        Self {
            target,
            netns,
            requests,
            devices: Vec::new(),
        }
    }

    /// The counters of devices of this namespace that a probe passed are read from now on.
    pub fn passed(&mut self, probe: &Probe) {
        let here = probe.path.iter().filter(|stamp| {
            stamp.host == Host::Client && stamp.netns == self.netns && stamp.ifindex.is_some()
        });
        for stamp in here {
            if !self.devices.contains(&stamp.ifindex) {
                self.devices.push(stamp.ifindex);
                let _ = self.requests.send(Request::Device(stamp.ifindex.0));
            }
        }
    }

    /// Takes a probe that was slow or lost; `usual_ns`: within this time the reply to a lost one would have come.
    pub fn slow_or_lost(&self, result: &ProbeResult, usual_ns: u64) {
        if let Some(window) = window(result, usual_ns) {
            let _ = self.requests.send(Request::Slow(self.target, window));
        }
    }

    /// Which of them moved until now; `None` if no probe was slow or lost.
    pub fn result(&self) -> Option<Moved> {
        let (answer, result) = sync_channel(1);
        let asked = self.requests.send(Request::Result(self.target, answer));
        asked.ok()?;
        result.recv_timeout(LAST).unwrap_or_else(|_| {
            log::warn!("--explain: the counters of this host were not read in time: which moved is not known");
            None
        })
    }
}

/// From when to when this host may have made a probe slow, or lost it, `CLOCK_MONOTONIC` ns; `None` if it was
/// the server's host.
fn window(result: &ProbeResult, usual_ns: u64) -> Option<(u64, u64)> {
    let sent_ns = result.probe.sent_ns()?;
    if let Some(loss) = &result.loss {
        let by_server = matches!(loss.place, Place::ServerReceive | Place::ServerReply);
        return (!by_server).then_some((sent_ns, sent_ns + usual_ns));
    }
    let by_server = result.verdict?.owner == Owner::Remote;
    let breakdown = result.breakdown.as_ref().filter(|_| !by_server)?;
    let received_ns = sent_ns + breakdown.total_ns;
    Some((
        received_ns.saturating_sub(breakdown.response_ns()),
        received_ns,
    ))
}

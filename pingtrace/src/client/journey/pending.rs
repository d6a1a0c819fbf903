//! A probe that waits for the rest of its stamps.

use super::arrival::Arrival;
use super::transit::Transit;
use crate::client::slot_stamps::{MAX_REMOTE, SlotStamps};
use crate::wire::entry::{Entry, PROVISIONAL, TRANSIT};
use report::model::{Host, Netns, Point, Stamp, Ttl};

/// What is known of a probe so far.
#[derive(Debug, Default)]
pub struct Pending {
    /// Absent while it is not answered.
    pub arrival: Option<Arrival>,
    /// What this host's programs saw.
    pub here: SlotStamps,
    /// The server's stamps.
    pub remote: Vec<Stamp>,
    /// The stamps of hosts on the way.
    pub transit: Transit,
    /// Stands in for the hand-over to the queue until the exact one is here.
    pub provisional: Option<Stamp>,
    /// With which TTL the request arrived at the server, if that is known.
    pub request_ttl: Option<Ttl>,
    /// The server runs on this kernel.
    pub same_kernel: bool,
    /// Which reply it was, from 1.
    pub number: u64,
    /// The end of the wait, `CLOCK_MONOTONIC` ns.
    pub deadline_ns: u64,
}

impl Pending {
    /// Takes a stamp of the server, or of a host on the way by its index; false if it is more than a probe can
    /// have.
    pub fn take(&mut self, e: &Entry) -> bool {
        if e.host & TRANSIT != 0 {
            return self.transit.take(Stamp {
                host: Host::Transit(e.host & !TRANSIT),
                ..stamp(e)
            });
        }
        let stamp = Stamp {
            host: Host::Server,
            ..stamp(e)
        };
        if e.host == 0 {
            self.same_kernel = true;
        }
        if e.back == PROVISIONAL {
            self.provisional = Some(stamp);
            return true;
        }
        // What was handed over with another reply may come again with the probe's own.
        let known = self.remote.contains(&stamp);
        if !known && self.remote.len() >= MAX_REMOTE {
            return false;
        }
        if !known {
            self.remote.push(stamp);
        }
        true
    }

    /// Whether the reply was last handed to a driver of the server, and no device queued it again.
    pub fn has_left(&self) -> bool {
        let at_device = |s: &&Stamp| matches!(s.point, Point::RTxDevqueue | Point::RTxDevout);
        let last = self.remote.iter().filter(at_device).max_by_key(|s| s.ns);
        last.is_some_and(|s| s.point == Point::RTxDevout)
    }

    /// The namespace of the server's last receive.
    pub fn server_netns(&self) -> Option<Netns> {
        let mut received = self.remote.iter().rev();
        let last = received.find(|s| s.point == Point::RRxDevrcv);
        last.map(|s| s.netns)
    }

    /// Keeps its memory for another probe.
    pub fn clear(&mut self) {
        self.arrival = None;
        self.here.clear();
        self.remote.clear();
        self.transit.clear();
        self.provisional = None;
        self.request_ttl = None;
        self.same_kernel = false;
    }
}

/// A stamp of the client's own programs.
pub fn stamp(e: &Entry) -> Stamp {
    Stamp {
        point: e.point,
        host: Host::Client,
        ns: e.time,
        cpu: e.cpu,
        ifindex: e.ifindex,
        netns: e.netns,
        flags: e.flags,
    }
}

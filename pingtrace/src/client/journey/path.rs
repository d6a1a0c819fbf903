//! Lays the stamps of a probe in path order.

use super::arrival::Arrival;
use super::pending::Pending;
use report::model::{Host, Ifindex, Netns, Point, Stamp, StampFlags};

/// What one host's programs saw.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// The stamps of their own host alone.
    OwnHost,
    /// Those of both ends, which are on one kernel, and of the namespaces between.
    BothEnds(Ends),
}

/// The namespaces of two ends on one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Of the client.
    pub client: Netns,
    /// Of the server, as far as that is known.
    pub server: Option<Netns>,
}

/// The namespaces between two ends on one kernel.
const BETWEEN: Host = Host::Transit(2);

/// All stamps of an answered probe, those of user space too.
pub fn lay_all(p: &Pending, a: &Arrival, seen: Seen, path: &mut Vec<Stamp>) {
    let of_thread = |point, at: Option<(u64, u16)>| at.map(|(ns, cpu)| user(point, ns, Some(cpu)));
    path.extend(a.due_ns.map(|ns| user(Point::LTxDue, ns, None)));
    path.push(user(Point::LTxUser, a.sent_ns, a.sent_cpu));
    lay(p, seen, path);
    path.extend(of_thread(Point::LRxWakeup, a.woken));
    path.extend(of_thread(Point::LRxOncpu, a.oncpu));
    path.push(user(Point::LRxUser, a.received_ns, None));
}

/// The stamps of both hosts' kernels.
pub fn lay(p: &Pending, seen: Seen, path: &mut Vec<Stamp>) {
    match seen {
        Seen::BothEnds(ends) => by_namespace(p, ends, path),
        Seen::OwnHost => two_ends(p, path),
    }
}

/// A stamp of the client's user space.
pub fn user(point: Point, ns: u64, cpu: Option<u16>) -> Stamp {
    Stamp {
        point,
        host: Host::Client,
        ns,
        cpu,
        ifindex: Ifindex(0),
        netns: Netns(0),
        flags: StampFlags::default(),
    }
}

/// Each end reported its own stamps.
fn two_ends(p: &Pending, path: &mut Vec<Stamp>) {
    path.extend(&p.here.request);
    path.extend(p.transit.request());
    path.extend(first_poll_only(p.remote.iter().copied()));
    let queued = p.remote.iter().any(|s| s.point == Point::RTxDevqueue);
    path.extend(p.provisional.filter(|_| !queued));
    path.extend(p.transit.reply());
    path.extend(first_poll_only(p.here.reply.iter().copied()));
}

/// One kernel: the client's programs saw the hops of both ends, and those between.
fn by_namespace(p: &Pending, ends: Ends, path: &mut Vec<Stamp>) {
    let of_ends = |stamps: &[Stamp]| {
        let own: Vec<_> = stamps.iter().filter_map(|s| ends.own(s)).collect();
        since_hand_over(own)
    };
    path.extend(of_ends(&p.here.request));
    path.extend(p.remote.iter().filter(|s| s.point == Point::RRxIcmprcv));
    path.extend(first_poll_only(of_ends(&p.here.reply)));
}

/// On one kernel the softirq that receives a packet may be the one that sent it on: the packet has
/// waited for it only since the stamp before.
fn since_hand_over(stamps: Vec<Stamp>) -> impl Iterator<Item = Stamp> {
    let mut before_ns = 0;
    stamps.into_iter().map(move |s| {
        if is_poll(s.point) {
            let ns = s.ns.max(before_ns);
            return Stamp { ns, ..s };
        }
        before_ns = s.ns;
        s
    })
}

/// Whether this is a stamp of a softirq, which is not the packet's alone.
fn is_poll(point: Point) -> bool {
    matches!(
        point,
        Point::RRxSoftirq | Point::RRxNapi | Point::LRxSoftirq | Point::LRxNapi
    )
}

impl Ends {
    /// The host at a namespace, one that is not the server's.
    pub fn host(self, netns: Netns) -> Host {
        if netns == self.client {
            Host::Client
        } else {
            BETWEEN
        }
    }

    /// A stamp of the client's programs as one of the host that it belongs to. What a softirq waited for
    /// between the ends is no end's.
    fn own(self, s: &Stamp) -> Option<Stamp> {
        let at_server = self.server == Some(s.netns);
        let (host, point) = match s.point {
            Point::MRxDevecho if at_server => (Host::Server, Point::RRxDevrcv),
            Point::MTxQueuereply if at_server => (Host::Server, Point::RTxDevqueue),
            Point::MTxDevreply if at_server => (Host::Server, Point::RTxDevout),
            Point::RRxSoftirq | Point::RRxNapi if at_server => (Host::Server, s.point),
            Point::RRxSoftirq | Point::RRxNapi => return None,
            // It has no device.
            Point::LRxSkdataready => (Host::Client, s.point),
            _ if self.client == s.netns => (Host::Client, s.point),
            Point::LRxSoftirq | Point::LRxNapi => return None,
            _ if at_server => (Host::Server, forwarded(s.point)),
            _ => (BETWEEN, forwarded(s.point)),
        };
        Some(Stamp { point, host, ..*s })
    }
}

/// What an end's point is called where the packet is forwarded.
fn forwarded(point: Point) -> Point {
    match point {
        Point::LTxDevqueue => Point::MTxQueueecho,
        Point::LTxDevout => Point::MTxDevecho,
        Point::LRxIprcv => Point::MRxDevreply,
        _ => point,
    }
}

/// The softirq and NAPI stamps of the first receive alone: those of later devices of the same
/// host are no wait for the wire.
fn first_poll_only(stamps: impl Iterator<Item = Stamp>) -> impl Iterator<Item = Stamp> {
    let mut received = false;
    stamps.filter(move |s| {
        received |= matches!(s.point, Point::RRxDevrcv | Point::LRxIprcv);
        !(is_poll(s.point) && received)
    })
}

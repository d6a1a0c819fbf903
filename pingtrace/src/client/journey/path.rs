//! Lays the stamps of a probe in path order.

use super::arrival::Arrival;
use super::pending::Pending;
use report::model::{Host, Ifindex, Netns, Point, Stamp};

/// What one host's programs saw.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// The stamps of their own host alone.
    OwnHost,
    /// Those of both ends, which are on one kernel; the server is in this namespace, as far as that is known.
    BothEnds(Option<Netns>),
}

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
        Seen::BothEnds(server_netns) => by_namespace(p, server_netns, path),
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
    }
}

/// Each end reported its own stamps.
fn two_ends(p: &Pending, path: &mut Vec<Stamp>) {
    path.extend(&p.here.request);
    path.extend(first_poll_only(&p.remote));
    let queued = p.remote.iter().any(|s| s.point == Point::RTxDevqueue);
    path.extend(p.provisional.filter(|_| !queued));
    path.extend(first_poll_only(&p.here.reply));
}

/// One kernel: the client's programs saw the server's hops too. Those in the server's namespace
/// (where its last receive was) are the server's; everything else is the client host's.
fn by_namespace(p: &Pending, server_netns: Option<Netns>, path: &mut Vec<Stamp>) {
    let of_server = |s: &Stamp, point| Stamp {
        point,
        host: Host::Server,
        ..*s
    };
    for s in &p.here.request {
        match s.point {
            Point::MRxDevecho if Some(s.netns) == server_netns => {
                path.push(of_server(s, Point::RRxDevrcv));
            }
            Point::RRxSoftirq | Point::RRxNapi if Some(s.netns) == server_netns => {
                path.push(of_server(s, s.point));
            }
            Point::RRxSoftirq | Point::RRxNapi => {}
            _ => path.push(*s),
        }
    }
    path.extend(p.remote.iter().filter(|s| s.point == Point::RRxIcmprcv));
    for s in first_poll_only(&p.here.reply) {
        match s.point {
            Point::MTxQueuereply if Some(s.netns) == server_netns => {
                path.push(of_server(s, Point::RTxDevqueue));
            }
            Point::MTxDevreply if Some(s.netns) == server_netns => {
                path.push(of_server(s, Point::RTxDevout));
            }
            _ => path.push(*s),
        }
    }
}

/// The softirq and NAPI stamps of the first receive alone: those of later devices of the same
/// host are no wait for the wire.
fn first_poll_only(stamps: &[Stamp]) -> impl Iterator<Item = &Stamp> {
    let first = stamps
        .iter()
        .position(|s| matches!(s.point, Point::RRxDevrcv | Point::LRxIprcv));
    stamps
        .iter()
        .enumerate()
        .filter(move |(i, s)| {
            let poll = matches!(
                s.point,
                Point::RRxSoftirq | Point::RRxNapi | Point::LRxSoftirq | Point::LRxNapi
            );
            !poll || first.is_none_or(|f| *i < f)
        })
        .map(|(_, s)| s)
}

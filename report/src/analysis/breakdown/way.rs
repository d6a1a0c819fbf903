//! The way between the ends, part by part, where hosts on it stamp probes too.
//!
//! The time within a host is exact by its own clock. So is the time outside it: from when the request left it
//! until the reply was back, less the same of the next host, both packets were on the wire between the two. Only
//! how that divides into the directions depends on clocks, those of the two neighbours, and is
//! estimated by a [`WireSplit`] of their own. Where the last host that stamps is not the server, all
//! behind it is one exact span.

use super::chain::Picked;
use crate::analysis::clock::{Crossing, Glitch, Leg, WireSplit};
use crate::model::{ClockRelation, Direction, Host, Kept, Probe, State, Stretch, WayPart, WayTime};

/// When a host on the way had the packets of a probe, by its own clock: its first and its last stamp of the
/// request and of the reply.
#[derive(Clone, Copy)]
pub struct Visit {
    host: Host,
    had: [Option<(u64, u64)>; 2],
}

/// The hosts on the way that stamped a probe, in the order in which its request passed them.
pub fn visits(probe: &Probe) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::new();
    let on_way = |host| matches!(host, Host::Transit(_));
    let stamps = probe.path.iter().filter(|stamp| on_way(stamp.host));
    // On one clock both wires are exact as they are.
    for stamp in stamps.filter(|_| probe.clock == ClockRelation::Separate) {
        let known = visits.iter().position(|visit| visit.host == stamp.host);
        let at = known.unwrap_or_else(|| {
            visits.push(Visit {
                host: stamp.host,
                had: [None; 2],
            });
            visits.len() - 1
        });
        let had = &mut visits[at].had[stamp.point.direction() as usize];
        let (first, last) = had.unwrap_or((stamp.ns, stamp.ns));
        *had = Some((first.min(stamp.ns), last.max(stamp.ns)));
    }
    visits
}

/// What they took of the probe's time.
pub fn kept(visits: &[Visit]) -> Kept {
    visits.iter().fold(Kept::default(), |kept, visit| {
        let [request_ns, reply_ns] = visit.times().map(Option::unwrap_or_default);
        Kept {
            request_ns: kept.request_ns.saturating_add(request_ns),
            reply_ns: kept.reply_ns.saturating_add(reply_ns),
        }
    })
}

/// When a host had the request and the reply, first and last.
#[derive(Clone, Copy)]
struct Station {
    host: Host,
    request: (u64, u64),
    reply: (u64, u64),
}

/// Lays out the parts of the way. A host that did not stamp both packets divides no wire.
pub fn lay_way(visits: &[Visit], picked: &Picked, wire: &mut WireSplit, way: &mut Vec<WayPart>) {
    let Some(mut near) = at_client(picked).filter(|_| !visits.is_empty()) else {
        return;
    };
    let mut first = 0;
    for (at, visit) in visits.iter().enumerate() {
        if let Some(far) = visit.station() {
            way.extend(between(near, far, kept(&visits[first..at]), wire));
            (near, first) = (far, at + 1);
        }
        way.extend(within(visit, wire));
    }
    let kept = kept(&visits[first..]);
    match at_server(picked) {
        Some(server) => way.extend(between(near, server, kept, wire)),
        None => way.extend(behind(near, kept, wire)),
    }
}

impl Visit {
    /// How long it had the request and the reply, nanoseconds.
    fn times(&self) -> [Option<u64>; 2] {
        self.had.map(|had| had.map(|(first, last)| last - first))
    }

    fn station(&self) -> Option<Station> {
        let [request, reply] = self.had;
        Some(Station {
            host: self.host,
            request: request?,
            reply: reply?,
        })
    }
}

fn at_client(picked: &Picked) -> Option<Station> {
    let (left, back) = picked.client_places();
    let (left, back) = (picked.client[left]?.0, picked.client[back]?.0);
    Some(Station {
        host: Host::Client,
        request: (left, left),
        reply: (back, back),
    })
}

fn at_server(picked: &Picked) -> Option<Station> {
    let (arrived, returned) = picked.server_places()?;
    let (arrived, returned) = (picked.server[arrived]?.0, picked.server[returned]?.0);
    Some(Station {
        host: Host::Server,
        request: (arrived, arrived),
        reply: (returned, returned),
    })
}

/// The wire between two hosts, of which others between them `kept` a part.
fn between(near: Station, far: Station, kept: Kept, wire: &mut WireSplit) -> Option<WayPart> {
    let of = Stretch::Between(near.host, far.host);
    let split = wire.part(of)?;
    let crossing = Crossing::from([near.request.1, far.request.0, far.reply.1, near.reply.0]);
    let crossing = crossing.without(kept)?;
    let (out, back) = split.split(&crossing, Kept::default(), ClockRelation::Separate)?;
    let estimate = split.estimate();
    let known = estimate
        .is_some_and(|e| e.state == State::Lock && matches!(e.glitch, None | Some(Glitch::Old)));
    let time = |leg: Leg| {
        known.then_some(WayTime {
            ns: leg.ns,
            bounds: leg.bounds,
        })
    };
    Some(WayPart {
        of,
        ns: out.ns + back.ns,
        base_ns: out.base_ns + back.base_ns,
        directions: [time(out), time(back)],
    })
}

fn within(visit: &Visit, wire: &mut WireSplit) -> Option<WayPart> {
    let of = Stretch::Within(visit.host);
    let times = visit.times();
    // Stamps of another host may be anything: so long no packet was anywhere.
    let mut both = times.into_iter().flatten();
    let ns = both.try_fold(0_u64, u64::checked_add)?;
    let part = wire.part(of)?;
    let base = Direction::ALL.map(|direction| {
        let ns = times[direction as usize];
        ns.map_or(0, |ns| part.one_way(direction, ns).base_ns)
    });
    Some(WayPart {
        of,
        ns,
        base_ns: base.into_iter().fold(0, u64::saturating_add),
        directions: times.map(|ns| {
            Some(WayTime {
                ns: ns?,
                bounds: None,
            })
        }),
    })
}

fn behind(near: Station, kept: Kept, wire: &mut WireSplit) -> Option<WayPart> {
    let of = Stretch::Behind(near.host);
    let ns = near.reply.0.checked_sub(near.request.1)?;
    let ns = ns.checked_sub(kept.sum_ns())?;
    let all = wire.part(of)?.unsplit(ns, Kept::default());
    Some(WayPart {
        of,
        ns,
        base_ns: all.base_ns,
        directions: [None; 2],
    })
}

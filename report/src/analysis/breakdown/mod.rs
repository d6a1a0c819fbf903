//! From stamps to segments: where the time of one probe went.
//!
//! The points that certainly bracket the packet form a chain, `CHAIN`; each link is the segment
//! that ends there. A missing point joins its two links: to one segment, named by its end, if they
//! have the same owner, else the time is nobody's: [`Segment::Unattributed`]. The links that
//! cross from one host to the other are measured by [`WireSplit`].
//!
//! Softirq raise and softirq entry are not in the chain. They can belong to an earlier packet and
//! precede the arrival of this one, so they are taken out of the span that crosses to their
//! host: NAPI first, then softirq, and only as much as that span is above its base, so that the
//! wire never falls below the shortest it was ever seen. Where more was asked for, the segment
//! is `clamped`. On one clock a raise or entry later than the packet's departure needs no such
//! care: nothing but this host can have held the packet since.
//!
//! The spans telescope, so the segments sum to the total exactly, whatever was missing, out of
//! order or estimated. What precedes the send is beside it: [`Segment::LTxLate`] heads the path
//! where there is a schedule, and is no part of the total.

mod carve;
mod chain;
mod devices;
mod doubt;
mod way;

use crate::analysis::clock::{Leg, WireSplit};
use crate::model::host_time::{ClientNs, HostTime};
use crate::model::{Breakdown, ClockRelation, Delay, Doubt, Kept, Probe, Segment};
use carve::{Carved, carve};
pub(crate) use chain::CHAIN;
use chain::{
    Picked, RX_IPRCV, RX_ONCPU, RX_SKDATAREADY, RX_USER, SERVER_DEVRCV, Softirq, TX_DEVOUT, TX_USER,
};
use way::{kept, lay_way, visits};

/// Splits the total of a probe into segments. `wire` carries what earlier probes of the run say
/// about the wire, and learns from this one. Absent when `l_tx_user` or `l_rx_user` is missing
/// or they contradict each other: then there is no total.
pub fn breakdown(probe: &Probe, wire: &mut WireSplit) -> Option<Breakdown> {
    let mut into = Breakdown::default();
    breakdown_into(probe, wire, &mut into).then_some(into)
}

/// Like [`breakdown`], into an existing value whose memory is used again. Returns whether there
/// is a total; if not, `into` is left empty.
pub fn breakdown_into(probe: &Probe, wire: &mut WireSplit, into: &mut Breakdown) -> bool {
    into.total_ns = 0;
    into.delays.clear();
    into.unordered = 0;
    into.wire = None;
    into.way.clear();
    wire.start_probe(probe.peer);
    let mut picked = Picked::from_path(&probe.path);
    let (Some(start), Some(end)) = (picked.client[TX_USER], picked.client[RX_USER]) else {
        return false;
    };
    let Some(total_ns) = end.checked_since(start) else {
        return false;
    };
    picked.leave_out_contradictions(probe.clock);
    into.total_ns = total_ns;
    into.unordered = picked.unordered;
    into.delays.reserve(Segment::ALL.len());
    if let Some(due) = picked.due {
        match start.checked_since(due) {
            Some(ns) => into.delays.push(exact(Segment::LTxLate, ns, false, None)),
            None => into.unordered += 1,
        }
    }
    let mut segments = Segments {
        delays: &mut into.delays,
        unattributed: Sum::default(),
        picked: &picked,
    };
    let visits = visits(probe);
    segments.of_probe(probe.clock, kept(&visits), wire);
    segments.finish();
    into.wire = wire.excess();
    lay_way(&visits, &picked, wire, &mut into.way);
    true
}

/// What a host's softirq and NAPI are called.
const LOCAL: [Segment; 2] = [Segment::LRxSoftirq, Segment::LRxNapi];
const REMOTE: [Segment; 2] = [Segment::RRxSoftirq, Segment::RRxNapi];

/// A span between two places of the chain: its segment, and whether it stands for several.
fn segment_between(from: usize, to: usize, several_devices: bool) -> (Segment, bool) {
    match (from, to) {
        (TX_DEVOUT, RX_IPRCV) => (Segment::Remote, false),
        (RX_IPRCV, RX_USER) => (Segment::LRxKern, false),
        // The receiver did not sleep: whatever the packet waited for in the socket, it was busy.
        (RX_SKDATAREADY, RX_USER) => (Segment::LRxTaskRun, false),
        (RX_SKDATAREADY, RX_ONCPU) => (Segment::LRxTaskQueue, false),
        _ => {
            let end = CHAIN[to];
            let links = &CHAIN[from + 1..=to];
            if links
                .iter()
                .any(|link| !link.owner().same_host(end.owner()))
            {
                return (Segment::Unattributed, false);
            }
            let path = end == Segment::LTxQdisc && several_devices;
            (if path { Segment::LTxPath } else { end }, links.len() > 1)
        }
    }
}

/// Exact and estimated spans added up, nanoseconds.
#[derive(Clone, Copy, Default)]
struct Sum {
    ns: u64,
    lo: u64,
    hi: u64,
    spans: u32,
    estimated: bool,
    doubt: Option<Doubt>,
}

impl Sum {
    fn add(&mut self, ns: u64, bounds: Option<(u64, u64)>, doubt: Option<Doubt>) {
        let (lo, hi) = bounds.unwrap_or((ns, ns));
        self.ns += ns;
        self.lo += lo;
        self.hi += hi;
        self.spans += 1;
        self.estimated |= bounds.is_some();
        self.doubt = self.doubt.or(doubt);
    }
}

/// The segments of one probe in the making.
struct Segments<'a> {
    delays: &'a mut Vec<Delay>,
    unattributed: Sum,
    picked: &'a Picked,
}

/// How the span of a crossing ends, on the receiving host's clock.
#[derive(Clone, Copy)]
struct End<T> {
    at: Option<T>,
    /// Of the poll that ended there.
    softirq: Option<Softirq<T>>,
    /// When the packet left the other host, where that is known by this clock.
    departure: Option<T>,
}

impl Segments<'_> {
    fn of_probe(&mut self, clock: ClockRelation, kept: Kept, wire: &mut WireSplit) {
        let picked = self.picked;
        let (left, back) = picked.client_places();
        self.within_host(&picked.client, TX_USER, left);
        if let Some((arrived, returned)) = picked.server_places() {
            self.around_server([left, arrived, returned, back], clock, kept, wire);
        } else {
            let ends = picked.client[left].zip(picked.client[back]);
            let leg = wire.unsplit(ends.map_or(0, |(left, back)| back.since(left)), kept);
            self.crossing((left, back), leg, end_at_client(picked, back), LOCAL);
        }
        self.within_host(&picked.client, back, RX_USER);
    }

    /// Exact spans between the stamps of one host.
    fn within_host<T: HostTime>(&mut self, at: &[Option<T>], first: usize, last: usize) {
        let mut from = first;
        for to in first + 1..=last {
            if let (Some(start), Some(end)) = (at[from], at[to]) {
                let (segment, merged) = segment_between(from, to, self.picked.several_devices);
                let doubt = self.picked.doubt(from, to);
                self.push(exact(segment, end.since(start), merged, doubt));
                from = to;
            }
        }
    }

    /// Wire out, server, wire in.
    fn around_server(
        &mut self,
        [left, arrived, returned, back]: [usize; 4],
        clock: ClockRelation,
        kept: Kept,
        wire: &mut WireSplit,
    ) {
        let picked = self.picked;
        let out = (left, arrived);
        let inward = (returned, back);
        let nobodys = |(from, to)| segment_between(from, to, false).0 == Segment::Unattributed;
        let Some(crossing) = picked.crossing() else {
            return;
        };
        if clock == ClockRelation::Separate && nobodys(out) && nobodys(inward) {
            // Their sum is exact, and no estimate would tell more.
            self.within_host(&picked.server, arrived, returned);
            let doubt = picked.doubt(left, arrived);
            let doubt = doubt.or_else(|| picked.doubt(returned, back));
            self.unattributed
                .add(crossing.round_ns().unwrap_or(0), None, doubt);
            return;
        }
        let Some((leg_out, leg_in)) = wire.split(&crossing, kept, clock) else {
            return;
        };
        let at_server = End {
            at: picked.server[arrived],
            softirq: (arrived == SERVER_DEVRCV).then_some(picked.server_softirq),
            departure: clock.on_server(crossing.left),
        };
        self.crossing(out, leg_out, at_server, REMOTE);
        self.within_host(&picked.server, arrived, returned);
        let at_client = End {
            departure: clock.on_client(crossing.returned),
            ..end_at_client(picked, back)
        };
        self.crossing(inward, leg_in, at_client, LOCAL);
    }

    /// A span from one host to the other, less what the receiving host's softirq took of it, which
    /// is named by `softirq` and `napi`.
    fn crossing<T: HostTime>(
        &mut self,
        (from, to): (usize, usize),
        leg: Leg,
        end: End<T>,
        [softirq, napi]: [Segment; 2],
    ) {
        let (segment, mut merged) = segment_between(from, to, self.picked.several_devices);
        let doubt = self.picked.doubt(from, to);
        let mut carved = Carved::default();
        if let (Some(softirq), Some(at)) = (end.softirq, end.at) {
            carved = carve(softirq, at, &leg, end.departure);
            merged |= self.picked.not_raised(to).is_some() && segment != Segment::Unattributed;
        }
        let [inside, inside_lo, inside_hi] = carved.total();
        let bounds = leg.bounds.map(|(lo, hi)| (lo - inside_lo, hi - inside_hi));
        self.push(Delay {
            segment,
            ns: leg.ns - inside,
            bounds,
            merged,
            clamped: false,
            doubt,
        });
        for (part, segment) in [(carved.softirq, softirq), (carved.napi, napi)] {
            if let Some(part) = part {
                self.push(part.delay(segment, self.picked.of_poll(to, &part)));
            }
        }
    }

    fn push(&mut self, delay: Delay) {
        if delay.segment == Segment::Unattributed {
            self.unattributed.add(delay.ns, delay.bounds, delay.doubt);
        } else {
            self.delays.push(delay);
        }
    }

    fn finish(self) {
        let Sum {
            ns,
            lo,
            hi,
            spans,
            estimated,
            doubt,
        } = self.unattributed;
        if spans > 0 {
            self.delays.push(Delay {
                segment: Segment::Unattributed,
                ns,
                bounds: estimated.then_some((lo, hi)),
                merged: false,
                clamped: false,
                doubt,
            });
        }
    }
}

/// Where a reply was received, at this place of the client.
fn end_at_client(picked: &Picked, place: usize) -> End<ClientNs> {
    End {
        at: picked.client[place],
        softirq: (place == RX_IPRCV).then_some(picked.client_softirq),
        departure: None,
    }
}

/// A segment between two stamps of one host.
fn exact(segment: Segment, ns: u64, merged: bool, doubt: Option<Doubt>) -> Delay {
    Delay {
        segment,
        ns,
        bounds: None,
        merged,
        clamped: false,
        doubt,
    }
}

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

use crate::analysis::clock::{Crossing, Leg, WireSplit};
use crate::model::{Breakdown, ClockRelation, Delay, Host, Point, Probe, Segment, Stamp};

/// Stamps of one host may disagree with their order by less than this, nanoseconds: user space
/// and kernel round the same clock differently.
const GRANULARITY_NS: u64 = 1_000;

/// The segments that end at each point of the chain, in path order.
const CHAIN: [Segment; 12] = [
    Segment::Unattributed, // nothing ends at l_tx_user
    Segment::LTxKern,
    Segment::LTxQdisc,
    Segment::LTxOutlink,
    Segment::RRxKern,
    Segment::RTxKern,
    Segment::RTxQdisc,
    Segment::LRxInlink,
    Segment::LRxKern,
    Segment::LRxTaskWaking,
    Segment::LRxTaskQueue,
    Segment::LRxTaskRun,
];
const TX_USER: usize = 0;
const TX_DEVQUEUE: usize = 1;
const TX_DEVOUT: usize = 2;
const SERVER_DEVRCV: usize = 3;
const SERVER_ICMPRCV: usize = 4;
const SERVER_DEVQUEUE: usize = 5;
const SERVER_DEVOUT: usize = 6;
const RX_IPRCV: usize = 7;
const RX_SKDATAREADY: usize = 8;
const RX_WAKEUP: usize = 9;
const RX_ONCPU: usize = 10;
const RX_USER: usize = 11;

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
    wire.start_probe(probe.peer);
    let mut picked = Picked::from_path(&probe.path);
    let (Some(start), Some(end)) = (picked.at[TX_USER], picked.at[RX_USER]) else {
        return false;
    };
    let Some(total_ns) = end.checked_sub(start) else {
        return false;
    };
    picked.leave_out_contradictions(probe.clock);
    into.total_ns = total_ns;
    into.unordered = picked.unordered;
    into.delays.reserve(Segment::ALL.len());
    if let Some(due) = picked.due {
        match start.checked_sub(due) {
            Some(ns) => into.delays.push(exact(Segment::LTxLate, ns, false)),
            None => into.unordered += 1,
        }
    }
    let mut segments = Segments {
        delays: &mut into.delays,
        unattributed: Sum::default(),
        several_devices: picked.several_devices,
    };
    segments.of_probe(&picked, probe.clock, wire);
    segments.finish();
    into.wire = wire.excess();
    true
}

/// Softirq raise and entry of one host, nanoseconds of its clock.
#[derive(Clone, Copy, Default)]
struct Softirq {
    raise: Option<u64>,
    entry: Option<u64>,
}

/// The stamps that count, by their place in the chain.
#[derive(Default)]
struct Picked {
    due: Option<u64>,
    at: [Option<u64>; CHAIN.len()],
    client: Softirq,
    server: Softirq,
    several_devices: bool,
    unordered: u32,
}

impl Picked {
    /// Picks the first stamp of each point, and the last of a driver hand-over.
    fn from_path(path: &[Stamp]) -> Self {
        let mut picked = Self::default();
        let mut device = None;
        for stamp in path {
            let Some((slot, last)) = picked.slot(stamp) else {
                continue;
            };
            if last || slot.is_none() {
                *slot = Some(stamp.ns);
            }
            let sent = matches!(stamp.point, Point::LTxDevqueue | Point::LTxDevout);
            if sent && (stamp.netns, stamp.ifindex) != (0, 0) {
                let here = (stamp.netns, stamp.ifindex);
                picked.several_devices |= *device.get_or_insert(here) != here;
            }
        }
        picked
    }

    /// Where a stamp belongs, and whether the last of its kind counts.
    fn slot(&mut self, stamp: &Stamp) -> Option<(&mut Option<u64>, bool)> {
        let at = &mut self.at;
        let slot = match (stamp.host, stamp.point) {
            (Host::Client, Point::LTxDue) => &mut self.due,
            (Host::Client, Point::LTxUser) => &mut at[TX_USER],
            (Host::Client, Point::LTxDevqueue) => &mut at[TX_DEVQUEUE],
            (Host::Client, Point::LTxDevout) => return Some((&mut at[TX_DEVOUT], true)),
            (Host::Server, Point::RRxSoftirq) => &mut self.server.raise,
            (Host::Server, Point::RRxNapi) => &mut self.server.entry,
            (Host::Server, Point::RRxDevrcv) => &mut at[SERVER_DEVRCV],
            (Host::Server, Point::RRxIcmprcv) => &mut at[SERVER_ICMPRCV],
            (Host::Server, Point::RTxDevqueue) => &mut at[SERVER_DEVQUEUE],
            (Host::Server, Point::RTxDevout) => return Some((&mut at[SERVER_DEVOUT], true)),
            (Host::Client, Point::LRxSoftirq) => &mut self.client.raise,
            (Host::Client, Point::LRxNapi) => &mut self.client.entry,
            (Host::Client, Point::LRxIprcv) => &mut at[RX_IPRCV],
            (Host::Client, Point::LRxSkdataready) => &mut at[RX_SKDATAREADY],
            (Host::Client, Point::LRxWakeup) => &mut at[RX_WAKEUP],
            (Host::Client, Point::LRxOncpu) => &mut at[RX_ONCPU],
            (Host::Client, Point::LRxUser) => &mut at[RX_USER],
            _ => return None,
        };
        Some((slot, false))
    }

    /// Leaves out stamps that contradict their order, and moves those that are only a little off.
    fn leave_out_contradictions(&mut self, clock: ClockRelation) {
        match clock {
            ClockRelation::Same => self.put_in_order(|_| true),
            ClockRelation::Separate => {
                self.put_in_order(|place| !is_server(place));
                self.put_in_order(is_server);
                if self
                    .crossing()
                    .is_some_and(|crossing| crossing.round_ns().is_none())
                {
                    for stamp in &mut self.at[SERVER_DEVRCV..=SERVER_DEVOUT] {
                        self.unordered += u32::from(stamp.take().is_some());
                    }
                }
            }
        }
        self.unordered += order_softirq(&mut self.server, self.at[SERVER_DEVRCV]);
        self.unordered += order_softirq(&mut self.client, self.at[RX_IPRCV]);
    }

    /// Orders the places of one clock. What the client's user space says is never in doubt.
    fn put_in_order(&mut self, on_clock: impl Fn(usize) -> bool) {
        let ends = on_clock(TX_USER).then_some((self.at[TX_USER], self.at[RX_USER]));
        let (mut floor, ceiling) = match ends {
            Some((Some(start), Some(end))) => (start, end),
            _ => (0, u64::MAX),
        };
        for place in (TX_DEVQUEUE..RX_USER).filter(|&place| on_clock(place)) {
            let Some(ns) = self.at[place] else { continue };
            // A wake-up before the packet reached the socket was for another packet.
            let slack = if matches!(place, RX_WAKEUP | RX_ONCPU) {
                0
            } else {
                GRANULARITY_NS
            };
            self.at[place] = settle(ns, floor, ceiling, slack);
            match self.at[place] {
                Some(ns) => floor = ns,
                None => self.unordered += 1,
            }
        }
    }

    /// First and last place at the server, if it was seen there at all.
    fn server_places(&self) -> Option<(usize, usize)> {
        let seen = |&place: &usize| self.at[place].is_some();
        let first = (SERVER_DEVRCV..=SERVER_DEVOUT).find(seen)?;
        let last = (SERVER_DEVRCV..=SERVER_DEVOUT).rfind(seen)?;
        Some((first, last))
    }

    /// Last place at the client on the way out, first on the way in.
    fn client_places(&self) -> (usize, usize) {
        let seen = |&place: &usize| self.at[place].is_some();
        let left = (TX_USER..=TX_DEVOUT).rfind(seen).unwrap_or(TX_USER);
        let back = (RX_IPRCV..=RX_USER).find(seen).unwrap_or(RX_USER);
        (left, back)
    }

    /// The stamps nearest to the wires, if the server was seen at all.
    fn crossing(&self) -> Option<Crossing> {
        let (left, back) = self.client_places();
        let (arrived, returned) = self.server_places()?;
        Some(Crossing {
            left_ns: self.at[left]?,
            arrived_ns: self.at[arrived]?,
            returned_ns: self.at[returned]?,
            back_ns: self.at[back]?,
        })
    }

    /// Softirq stamps of the host on which a crossing ends at this place.
    fn softirq_at(&self, place: usize) -> Option<Softirq> {
        match place {
            SERVER_DEVRCV => Some(self.server),
            RX_IPRCV => Some(self.client),
            _ => None,
        }
    }
}

fn is_server(place: usize) -> bool {
    (SERVER_DEVRCV..=SERVER_DEVOUT).contains(&place)
}

/// A stamp that lies between its neighbours, if need be moved there by less than `slack`.
fn settle(ns: u64, floor: u64, ceiling: u64, slack: u64) -> Option<u64> {
    let settled = ns.clamp(floor, ceiling);
    (settled == ns || settled.abs_diff(ns) < slack).then_some(settled)
}

/// Puts raise and entry before the end of the poll that they began; returns how many were left out.
fn order_softirq(softirq: &mut Softirq, end: Option<u64>) -> u32 {
    let Some(end) = end else {
        *softirq = Softirq::default();
        return 0;
    };
    let seen = softirq.count();
    softirq.entry = softirq
        .entry
        .and_then(|ns| settle(ns, 0, end, GRANULARITY_NS));
    let end = softirq.entry.unwrap_or(end);
    softirq.raise = softirq
        .raise
        .and_then(|ns| settle(ns, 0, end, GRANULARITY_NS));
    seen - softirq.count()
}

impl Softirq {
    fn count(self) -> u32 {
        u32::from(self.raise.is_some()) + u32::from(self.entry.is_some())
    }
}

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
}

impl Sum {
    fn add(&mut self, ns: u64, bounds: Option<(u64, u64)>) {
        let (lo, hi) = bounds.unwrap_or((ns, ns));
        self.ns += ns;
        self.lo += lo;
        self.hi += hi;
        self.spans += 1;
        self.estimated |= bounds.is_some();
    }
}

/// The segments of one probe in the making.
struct Segments<'a> {
    delays: &'a mut Vec<Delay>,
    unattributed: Sum,
    several_devices: bool,
}

impl Segments<'_> {
    fn of_probe(&mut self, picked: &Picked, clock: ClockRelation, wire: &mut WireSplit) {
        let (left, back) = picked.client_places();
        self.within_host(picked, TX_USER, left);
        if let Some((arrived, returned)) = picked.server_places() {
            self.around_server(picked, [left, arrived, returned, back], clock, wire);
        } else {
            let ns = picked.at[back].unwrap_or(0) - picked.at[left].unwrap_or(0);
            let leg = wire.unsplit(ns);
            self.crossing(picked, (left, back), leg, None);
        }
        self.within_host(picked, back, RX_USER);
    }

    /// Exact spans between the stamps of one host.
    fn within_host(&mut self, picked: &Picked, first: usize, last: usize) {
        let mut from = first;
        for to in first + 1..=last {
            if let (Some(start), Some(end)) = (picked.at[from], picked.at[to]) {
                let (segment, merged) = segment_between(from, to, self.several_devices);
                self.push(exact(segment, end - start, merged));
                from = to;
            }
        }
    }

    /// Wire out, server, wire in.
    fn around_server(
        &mut self,
        picked: &Picked,
        [left, arrived, returned, back]: [usize; 4],
        clock: ClockRelation,
        wire: &mut WireSplit,
    ) {
        let out = (left, arrived);
        let inward = (returned, back);
        let nobodys = |(from, to)| segment_between(from, to, false).0 == Segment::Unattributed;
        let Some(crossing) = picked.crossing() else {
            return;
        };
        if clock == ClockRelation::Separate && nobodys(out) && nobodys(inward) {
            // Their sum is exact, and no estimate would tell more.
            self.within_host(picked, arrived, returned);
            self.unattributed
                .add(crossing.round_ns().unwrap_or(0), None);
            return;
        }
        let Some((leg_out, leg_in)) = wire.split(&crossing, clock) else {
            return;
        };
        let same = clock == ClockRelation::Same;
        self.crossing(picked, out, leg_out, same.then_some(crossing.left_ns));
        self.within_host(picked, arrived, returned);
        self.crossing(picked, inward, leg_in, same.then_some(crossing.returned_ns));
    }

    /// A span from one host to the other, less what the receiving host's softirq took of it.
    /// `departure_ns` is on the receiving host's clock, where that is known.
    fn crossing(
        &mut self,
        picked: &Picked,
        (from, to): (usize, usize),
        leg: Leg,
        departure_ns: Option<u64>,
    ) {
        let (segment, mut merged) = segment_between(from, to, self.several_devices);
        let mut carved = Carved::default();
        if let (Some(softirq), Some(end)) = (picked.softirq_at(to), picked.at[to]) {
            carved = carve(softirq, end, &leg, departure_ns);
            merged |= softirq.raise.is_none() && segment != Segment::Unattributed;
        }
        let [inside, inside_lo, inside_hi] = carved.total();
        let bounds = leg.bounds.map(|(lo, hi)| (lo - inside_lo, hi - inside_hi));
        self.push(Delay {
            segment,
            ns: leg.ns - inside,
            bounds,
            merged,
            clamped: false,
        });
        let at_server = is_server(to);
        if let Some(part) = carved.softirq {
            let segment = if at_server {
                Segment::RRxSoftirq
            } else {
                Segment::LRxSoftirq
            };
            self.push(part.delay(segment));
        }
        if let Some(part) = carved.napi {
            let segment = if at_server {
                Segment::RRxNapi
            } else {
                Segment::LRxNapi
            };
            self.push(part.delay(segment));
        }
    }

    fn push(&mut self, delay: Delay) {
        if delay.segment == Segment::Unattributed {
            self.unattributed.add(delay.ns, delay.bounds);
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
        } = self.unattributed;
        if spans > 0 {
            self.delays.push(Delay {
                segment: Segment::Unattributed,
                ns,
                bounds: estimated.then_some((lo, hi)),
                merged: false,
                clamped: false,
            });
        }
    }
}

/// A segment between two stamps of one host.
fn exact(segment: Segment, ns: u64, merged: bool) -> Delay {
    Delay {
        segment,
        ns,
        bounds: None,
        merged,
        clamped: false,
    }
}

/// A segment taken out of a crossing.
#[derive(Clone, Copy)]
struct Part {
    ns: u64,
    bounds: Option<(u64, u64)>,
    merged: bool,
    clamped: bool,
}

impl Part {
    fn delay(self, segment: Segment) -> Delay {
        let Self {
            ns,
            bounds,
            merged,
            clamped,
        } = self;
        Delay {
            segment,
            ns,
            bounds,
            merged,
            clamped,
        }
    }
}

/// What the receiving host's softirq takes of a crossing.
#[derive(Clone, Copy, Default)]
struct Carved {
    softirq: Option<Part>,
    napi: Option<Part>,
}

impl Carved {
    /// Nanoseconds: as estimated, and where the crossing took as little or as much as it can have.
    fn total(&self) -> [u64; 3] {
        let parts = [self.softirq, self.napi].into_iter().flatten();
        parts.fold([0; 3], |[ns, lo, hi], part| {
            let (part_lo, part_hi) = part.bounds.unwrap_or((part.ns, part.ns));
            [ns + part.ns, lo + part_lo, hi + part_hi]
        })
    }
}

/// Takes NAPI and softirq out of a crossing that ends at `end`. Without an entry stamp both are
/// one span, named by its end.
fn carve(softirq: Softirq, end: u64, leg: &Leg, departure_ns: Option<u64>) -> Carved {
    let (lo, hi) = leg.bounds.unwrap_or((leg.ns, leg.ns));
    let mut budgets = [leg.ns, lo, hi].map(|ns| ns.saturating_sub(leg.base_ns));
    let mut take = |from: u64, to: u64, merged: bool| {
        let span = to - from;
        let certain = departure_ns.is_some_and(|departure| departure <= from);
        let [ns, lo, hi] = budgets.map(|left| if certain { span } else { span.min(left) });
        for (left, taken) in budgets.iter_mut().zip([ns, lo, hi]) {
            *left = left.saturating_sub(taken);
        }
        Part {
            ns,
            bounds: (lo < hi).then_some((lo, hi)),
            merged,
            clamped: ns < span,
        }
    };
    match (softirq.raise, softirq.entry) {
        (Some(raise), Some(entry)) => {
            let napi = take(entry, end, false);
            let softirq = take(raise, entry, false);
            Carved {
                softirq: Some(softirq),
                napi: Some(napi),
            }
        }
        (None, Some(entry)) => Carved {
            softirq: None,
            napi: Some(take(entry, end, false)),
        },
        (Some(raise), None) => Carved {
            softirq: None,
            napi: Some(take(raise, end, true)),
        },
        (None, None) => Carved::default(),
    }
}

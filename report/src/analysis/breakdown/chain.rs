//! The stamps that count, by their place in the chain: picked from a probe's path, and put in order. Each
//! host's are of its own type ([`ClientNs`], [`ServerNs`]).

use super::devices::AtDevices;
use crate::analysis::clock::Crossing;
use crate::model::host_time::{ClientNs, HostTime, ServerNs};
use crate::model::{ClockRelation, Host, Point, Segment, Stamp};

/// Stamps of one host may disagree with their order by less than this, nanoseconds: user space
/// and kernel round the same clock differently.
const GRANULARITY_NS: u64 = 1_000;

/// The segments that end at each point of the chain, in path order.
pub const CHAIN: [Segment; 12] = [
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
/// The points at which they end, places of the chain.
pub const POINTS: [Point; CHAIN.len()] = [
    Point::LTxUser,
    Point::LTxDevqueue,
    Point::LTxDevout,
    Point::RRxDevrcv,
    Point::RRxIcmprcv,
    Point::RTxDevqueue,
    Point::RTxDevout,
    Point::LRxIprcv,
    Point::LRxSkdataready,
    Point::LRxWakeup,
    Point::LRxOncpu,
    Point::LRxUser,
];
pub const TX_USER: usize = 0;
const TX_DEVQUEUE: usize = 1;
pub const TX_DEVOUT: usize = 2;
pub const SERVER_DEVRCV: usize = 3;
const SERVER_ICMPRCV: usize = 4;
const SERVER_DEVQUEUE: usize = 5;
pub const SERVER_DEVOUT: usize = 6;
pub const RX_IPRCV: usize = 7;
pub const RX_SKDATAREADY: usize = 8;
const RX_WAKEUP: usize = 9;
pub const RX_ONCPU: usize = 10;
pub const RX_USER: usize = 11;

/// Times of one host by place in the chain.
type Places<T> = [Option<T>; CHAIN.len()];

/// Softirq raise and entry of one host.
#[derive(Clone, Copy, Default)]
pub struct Softirq<T> {
    pub raise: Option<T>,
    pub entry: Option<T>,
}

/// The stamps that count, by their place in the chain.
#[derive(Default)]
pub struct Picked {
    pub due: Option<ClientNs>,
    pub client: Places<ClientNs>,
    pub server: Places<ServerNs>,
    pub client_softirq: Softirq<ClientNs>,
    pub server_softirq: Softirq<ServerNs>,
    pub client_devices: AtDevices,
    pub server_devices: AtDevices,
    /// The request crossed several devices of the client's host.
    pub several_devices: bool,
    /// Stamps that were left out, as they contradict the order of the others.
    pub unordered: u32,
}

impl Picked {
    /// Picks the first stamp of each point, and the last of a driver hand-over; none of that where a device
    /// still had the packet in its queue.
    pub fn from_path(path: &[Stamp]) -> Self {
        let mut picked = Self::default();
        let mut device = None;
        for stamp in path {
            let known = match stamp.host {
                Host::Client => {
                    picked.client_devices.note(stamp);
                    keep(picked.at_client(stamp.point), ClientNs(stamp.ns))
                }
                Host::Server => {
                    picked.server_devices.note(stamp);
                    keep(picked.at_server(stamp.point), ServerNs(stamp.ns))
                }
                Host::Transit(_) => false,
            };
            let sent = matches!(stamp.point, Point::LTxDevqueue | Point::LTxDevout);
            let somewhere = (stamp.netns, stamp.ifindex) != Default::default();
            if known && sent && somewhere {
                let here = (stamp.netns, stamp.ifindex);
                picked.several_devices |= *device.get_or_insert(here) != here;
            }
        }
        if picked.client_devices.queued.is_some() {
            picked.client[TX_DEVOUT] = None;
        }
        if picked.server_devices.queued.is_some() {
            picked.server[SERVER_DEVOUT] = None;
        }
        picked
    }

    /// Where a stamp of the client belongs, and whether the last of its kind counts.
    fn at_client(&mut self, point: Point) -> Option<(&mut Option<ClientNs>, bool)> {
        let at = &mut self.client;
        let slot = match point {
            Point::LTxDue => &mut self.due,
            Point::LTxUser => &mut at[TX_USER],
            Point::LTxDevqueue => &mut at[TX_DEVQUEUE],
            Point::LTxDevout => return Some((&mut at[TX_DEVOUT], true)),
            Point::LRxSoftirq => &mut self.client_softirq.raise,
            Point::LRxNapi => &mut self.client_softirq.entry,
            Point::LRxIprcv => &mut at[RX_IPRCV],
            Point::LRxSkdataready => &mut at[RX_SKDATAREADY],
            Point::LRxWakeup => &mut at[RX_WAKEUP],
            Point::LRxOncpu => &mut at[RX_ONCPU],
            Point::LRxUser => &mut at[RX_USER],
            _ => return None,
        };
        Some((slot, false))
    }

    /// Where a stamp of the server belongs, and whether the last of its kind counts.
    fn at_server(&mut self, point: Point) -> Option<(&mut Option<ServerNs>, bool)> {
        let at = &mut self.server;
        let slot = match point {
            Point::RRxSoftirq => &mut self.server_softirq.raise,
            Point::RRxNapi => &mut self.server_softirq.entry,
            Point::RRxDevrcv => &mut at[SERVER_DEVRCV],
            Point::RRxIcmprcv => &mut at[SERVER_ICMPRCV],
            Point::RTxDevqueue => &mut at[SERVER_DEVQUEUE],
            Point::RTxDevout => return Some((&mut at[SERVER_DEVOUT], true)),
            _ => return None,
        };
        Some((slot, false))
    }

    /// Leaves out stamps that contradict their order, and moves those that are only a little off.
    pub fn leave_out_contradictions(&mut self, clock: ClockRelation) {
        // What the client's user space says is never in doubt.
        let (start, end) = (self.client[TX_USER], self.client[RX_USER]);
        let client_ends = start.zip(end).unwrap_or((ClientNs::MIN, ClientNs::MAX));
        match clock {
            ClockRelation::Same => {
                let mut all = self.client;
                let at_server = SERVER_DEVRCV..=SERVER_DEVOUT;
                let server = &mut self.server[at_server.clone()];
                for (on_client, time) in all[at_server.clone()].iter_mut().zip(&*server) {
                    *on_client = time.and_then(|time| clock.on_client(time));
                }
                self.unordered += put_in_order(&mut all, client_ends);
                for (time, on_client) in server.iter_mut().zip(&mut all[at_server]) {
                    *time = on_client.take().and_then(|time| clock.on_server(time));
                }
                self.client = all;
            }
            ClockRelation::Separate => {
                self.unordered += put_in_order(&mut self.client, client_ends);
                let server_ends = (ServerNs::MIN, ServerNs::MAX);
                self.unordered += put_in_order(&mut self.server, server_ends);
                let crossing = self.crossing();
                if crossing.is_some_and(|crossing| crossing.round_ns().is_none()) {
                    let left_out = self.server.iter_mut().filter_map(Option::take);
                    self.unordered += left_out.count() as u32;
                }
            }
        }
        self.unordered += self.server_softirq.order(self.server[SERVER_DEVRCV]);
        self.unordered += self.client_softirq.order(self.client[RX_IPRCV]);
    }

    /// First and last place at the server, if it was seen there at all.
    pub fn server_places(&self) -> Option<(usize, usize)> {
        let first = self.server.iter().position(Option::is_some)?;
        let last = self.server.iter().rposition(Option::is_some)?;
        Some((first, last))
    }

    /// Last place at the client on the way out, first on the way in.
    pub fn client_places(&self) -> (usize, usize) {
        let seen = |&place: &usize| self.client[place].is_some();
        let left = (TX_USER..=TX_DEVOUT).rfind(seen).unwrap_or(TX_USER);
        let back = (RX_IPRCV..=RX_USER).find(seen).unwrap_or(RX_USER);
        (left, back)
    }

    /// The stamps nearest to the wires, if the server was seen at all.
    pub fn crossing(&self) -> Option<Crossing> {
        let (left, back) = self.client_places();
        let (arrived, returned) = self.server_places()?;
        Some(Crossing {
            left: self.client[left]?,
            arrived: self.server[arrived]?,
            returned: self.server[returned]?,
            back: self.client[back]?,
        })
    }
}

/// Keeps the first time of a place, or the last one. Returns whether the chain has such a place.
fn keep<T>(slot: Option<(&mut Option<T>, bool)>, time: T) -> bool {
    let Some((slot, last)) = slot else {
        return false;
    };
    if last || slot.is_none() {
        *slot = Some(time);
    }
    true
}

/// Orders the places between the two ends. Returns how many stamps it left out.
fn put_in_order<T: HostTime>(at: &mut Places<T>, (mut floor, ceiling): (T, T)) -> u32 {
    let mut left_out = 0;
    for (place, slot) in at.iter_mut().enumerate().take(RX_USER).skip(TX_DEVQUEUE) {
        let Some(time) = *slot else { continue };
        // A wake-up before the packet reached the socket was for another packet.
        let slack = if matches!(place, RX_WAKEUP | RX_ONCPU) {
            0
        } else {
            GRANULARITY_NS
        };
        *slot = settle(time, floor, ceiling, slack);
        match *slot {
            Some(time) => floor = time,
            None => left_out += 1,
        }
    }
    left_out
}

/// A stamp that lies between its neighbours, if need be moved there by less than `slack`.
fn settle<T: HostTime>(time: T, floor: T, ceiling: T, slack: u64) -> Option<T> {
    let settled = time.clamp(floor, ceiling);
    let moved = settled.since(time).max(time.since(settled));
    (moved == 0 || moved < slack).then_some(settled)
}

impl<T: HostTime> Softirq<T> {
    /// Puts raise and entry before the end of the poll that they began; returns how many were left
    /// out.
    fn order(&mut self, end: Option<T>) -> u32 {
        let Some(end) = end else {
            (self.raise, self.entry) = (None, None);
            return 0;
        };
        let seen = self.count();
        let before = |time: T, end: T| settle(time, T::MIN, end, GRANULARITY_NS);
        self.entry = self.entry.and_then(|time| before(time, end));
        let end = self.entry.unwrap_or(end);
        self.raise = self.raise.and_then(|time| before(time, end));
        seen - self.count()
    }

    fn count(&self) -> u32 {
        u32::from(self.raise.is_some()) + u32::from(self.entry.is_some())
    }
}

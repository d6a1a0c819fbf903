//! The segments whose time is to be explained.

use std::collections::BTreeMap;

use crate::model::{Host, Owner, Point, Segment, Stamp};

/// A segment whose time is to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The segment.
    pub segment: Segment,
    /// On which host.
    pub host: Host,
    /// The CPU where it ended.
    pub cpu: u16,
    /// From, `CLOCK_MONOTONIC` ns of that host.
    pub from_ns: u64,
    /// To.
    pub to_ns: u64,
}

/// The segments of a host that took at least `min_ns`, by its own stamps alone. Wires have none.
pub fn windows(path: &[Stamp], host: Host, min_ns: u64) -> Vec<Window> {
    let mut places: BTreeMap<u16, &Stamp> = BTreeMap::new();
    for stamp in path.iter().filter(|stamp| stamp.host == host) {
        let last_counts = matches!(stamp.point, Point::LTxDevout | Point::RTxDevout);
        let place = places.entry(stamp.point as u16).or_insert(stamp);
        if last_counts {
            *place = stamp;
        }
    }
    // The poll of a reply may have been raised, or interrupts off, before its request left.
    let left_ns = places.get(&(Point::LTxDevout as u16)).map_or(0, |s| s.ns);
    let at = |stamp: &Stamp| match stamp.point {
        Point::LRxSoftirq | Point::LRxNapi => stamp.ns.max(left_ns),
        _ => stamp.ns,
    };
    let stamps = places.into_values();
    let mut stamps: Vec<Stamp> = stamps.map(|s| Stamp { ns: at(s), ..*s }).collect();
    stamps.sort_by_key(|stamp| stamp.ns);
    let pairs = stamps.windows(2).map(|pair| (&pair[0], &pair[1]));
    let window = |(from, to): (&Stamp, &Stamp)| {
        // Between the hand-over and the return lies the wire.
        let segment = segment_to(host, to.point).filter(|_| from.point != Point::LTxDevout)?;
        Some(Window {
            segment,
            host,
            cpu: to.cpu.or(from.cpu)?,
            from_ns: from.ns,
            to_ns: to.ns,
        })
    };
    let long = |window: &Window| window.to_ns - window.from_ns >= min_ns;
    pairs.filter_map(window).filter(long).collect()
}

/// The host's own segment that ends at a point.
fn segment_to(host: Host, point: Point) -> Option<Segment> {
    if point == Point::LRxUser {
        return Some(Segment::LRxTaskRun);
    }
    let of_host = |segment: &Segment| {
        let own = matches!(
            segment.owner(),
            Owner::Local | Owner::Receiver | Owner::Remote
        );
        own && segment.end() == Some((host, point))
    };
    Segment::ALL.into_iter().find(of_host)
}

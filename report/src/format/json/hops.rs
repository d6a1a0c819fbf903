//! The line of a run's hops.

use serde::Serialize;

use super::value::{Numbers, Place, StretchLine};
use crate::analysis::hops::{HopStat, HopStats};
use crate::analysis::way::WayStat;
use crate::model::{Host, Names, Point};

#[derive(Serialize)]
pub(super) struct HopsLine<'a> {
    hops: Vec<HopLine<'a>>,
    overflow: u64,
    unordered: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    way: Vec<WayStatLine>,
}

impl<'a> HopsLine<'a> {
    pub(super) fn new(hops: &HopStats, names: &'a Names) -> Self {
        let stats = hops.hops();
        Self {
            hops: stats.iter().map(|hop| HopLine::new(hop, names)).collect(),
            overflow: hops.overflow() + hops.way.overflow(),
            unordered: hops.unordered(),
            way: hops.way.parts().iter().map(WayStatLine::from).collect(),
        }
    }
}

/// A part of the way.
#[derive(Serialize)]
struct WayStatLine {
    #[serde(flatten)]
    of: StretchLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    both: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<Numbers>,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    back: Option<Numbers>,
}

impl From<&WayStat> for WayStatLine {
    fn from(stat: &WayStat) -> Self {
        let [both, out, back] = stat.times.each_ref().map(|t| t.as_ref().map(Numbers::from));
        Self {
            of: stat.of.into(),
            both,
            out,
            back,
        }
    }
}

#[derive(Serialize)]
struct HopLine<'a> {
    direction: &'static str,
    index: u16,
    point: Point,
    host: Host,
    #[serde(flatten)]
    place: Place<'a>,
    seen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_previous: Option<Numbers>,
}

impl<'a> HopLine<'a> {
    fn new(hop: &HopStat, names: &'a Names) -> Self {
        let key = hop.key;
        Self {
            direction: key.direction.name(),
            index: key.index,
            point: key.point,
            host: key.host,
            place: Place::new(key.host, key.netns, key.ifindex, names),
            seen: hop.seen,
            since_previous: hop.since_previous.as_ref().map(Numbers::from),
        }
    }
}

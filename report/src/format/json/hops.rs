//! The line of a run's hops.

use serde::Serialize;

use super::value::{Numbers, Place};
use crate::analysis::hops::{HopStat, HopStats};
use crate::model::{Host, Names, Point};

#[derive(Serialize)]
pub(super) struct HopsLine<'a> {
    hops: Vec<HopLine<'a>>,
    overflow: u64,
    unordered: u64,
}

impl<'a> HopsLine<'a> {
    pub(super) fn new(hops: &HopStats, names: &'a Names) -> Self {
        let stats = hops.hops();
        Self {
            hops: stats.iter().map(|hop| HopLine::new(hop, names)).collect(),
            overflow: hops.overflow(),
            unordered: hops.unordered(),
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

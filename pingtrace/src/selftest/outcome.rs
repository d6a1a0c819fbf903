//! What came of the probes, as pingtrace reported it and as the wire logged it.

use super::inject::forwarder::{self, Entry, Kind};
use super::plan::Place;
use anyhow::{Context, Result};
use report::format::json::{self, Line};
use report::model::{Direction, ProbeResult};
use std::collections::HashMap;

/// A probe as pingtrace reported it and as the wire logged it.
pub struct Seen {
    pub result: ProbeResult,
    /// `l_tx_user`, `CLOCK_MONOTONIC` ns.
    pub sent_ns: u64,
    pub response_ns: u64,
    pub out: Entry,
    pub back: Entry,
}

impl Seen {
    /// When it arrived at this place, `CLOCK_MONOTONIC` ns.
    pub fn at(&self, place: Place) -> Option<u64> {
        match place {
            Place::ClientSends => Some(self.sent_ns),
            Place::ServerReceives => self.out.written_ns,
            Place::ClientReceives => self.back.written_ns,
        }
    }
}

/// The answered probes in their order.
pub fn probes(written: &str, wire: &forwarder::Outcome) -> Result<Vec<Seen>> {
    let mut entries = HashMap::new();
    for entry in wire.log.iter().filter(|entry| entry.kind != Kind::Record) {
        let way = entry.direction == Direction::Request;
        entries.entry((entry.seq, way)).or_insert(*entry);
    }
    let mut probes = Vec::new();
    for line in written.lines() {
        let Line::Probe(read) = json::parse_line(line).context("read what the client wrote")?
        else {
            continue;
        };
        probes.extend(seen(read.result, &entries));
    }
    probes.sort_by_key(|seen| seen.result.probe.seq);
    Ok(probes)
}

fn seen(result: ProbeResult, entries: &HashMap<(u32, bool), Entry>) -> Option<Seen> {
    let seq = result.probe.seq;
    Some(Seen {
        sent_ns: result.probe.sent_ns()?,
        response_ns: result.breakdown.as_ref()?.response_ns(),
        out: *entries.get(&(seq, true))?,
        back: *entries.get(&(seq, false))?,
        result,
    })
}

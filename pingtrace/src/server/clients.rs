//! Whom the server serves: the sessions of the kernel's table, the busiest first.

use super::limits::Withheld;
use super::slot::address;
use crate::kernel::map::{Field, Mapping, field};
use crate::kernel::tracer::Tracer;
use crate::units::{SECOND, monotonic_ns};
use crate::wire::protocol::{INBAND, RECORD};
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_session, pt_stamp_slot};
use libbpf_rs::MapCore;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::os::fd::AsFd;
use strum::VariantArray as _;

/// Upper bound on rows of a table.
const ROWS: usize = 20;
/// A session without a request for this long is over, ns.
const OVER_NS: u64 = 300 * SECOND;

/// What this process counts in the kernel's table.
const PACKETS: Field<pt_session, u64> = field!(pt_session, packets);
const fn withheld(why: usize) -> Field<pt_session, u64> {
    field!(pt_session, withheld).element(why)
}
const _: () = assert!(Withheld::VARIANTS.len() <= field!(pt_session, withheld).elements());

/// A session: the client's address and the id.
type Key = ([u32; 4], u32);

/// The kernel's sessions, and what they had at the last look.
pub struct Clients {
    sessions: Mapping<pt_session>,
    rates: Rates<Key>,
}

/// Requests of each client at the last look, and when that was, `CLOCK_MONOTONIC` ns.
pub struct Rates<K> {
    last: HashMap<K, u64>,
    last_ns: u64,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self {
            last: HashMap::new(),
            last_ns: 0,
        }
    }
}

impl<K: Eq + Hash> Rates<K> {
    /// Requests a second of one that has had so many, since the last look or since its first one.
    pub fn rate(&self, client: &K, requests: u64, first_ns: u64, now: u64) -> f64 {
        let (before, since) = match self.last.get(client) {
            Some(before) if *before <= requests => (*before, self.last_ns),
            _ => (0, first_ns),
        };
        let seconds = now.saturating_sub(since).max(SECOND / 1000) as f64 / SECOND as f64;
        (requests - before) as f64 / seconds
    }

    /// What all of them have now.
    pub fn looked(&mut self, requests: impl Iterator<Item = (K, u64)>, now: u64) {
        (self.last, self.last_ns) = (requests.collect(), now);
    }
}

/// A session, with its requests a second since the last look, or since it began.
struct Row {
    session: pt_session,
    rate: f64,
}

impl Clients {
    /// Those of loaded programs.
    pub fn new(tracer: &Tracer<'_>) -> Result<Self> {
        let map = &tracer.maps().sessions;
        let sessions = Mapping::shared(map.as_fd(), map.max_entries() as usize);
        Ok(Self {
            sessions: sessions.context("cannot map the table of sessions")?,
            rates: Rates::default(),
        })
    }

    /// A stamp packet was sent for the probe of a slot.
    pub fn sent(&self, slot: &pt_stamp_slot) {
        self.count(slot, PACKETS);
    }

    /// The packet of the probe of a slot was not sent.
    pub fn withheld(&self, slot: &pt_stamp_slot, why: Withheld) {
        self.count(slot, withheld(why as usize));
    }

    fn count(&self, slot: &pt_stamp_slot, what: Field<pt_session, u64>) {
        let at = slot.session_at as usize;
        // The entry may be another session's since.
        if at < self.sessions.count() && key(&self.sessions.get(at)) == (slot.peer, slot.session) {
            let count = self.sessions.read(at, what);
            self.sessions.write(at, what, count + 1);
        }
    }

    /// Who is served: a line that counts them, the head of a table, and the busiest sessions.
    pub fn report(&mut self) -> Vec<String> {
        let now = monotonic_ns();
        let mut rows: Vec<Row> = self.served(now).map(|s| self.row(&s, now)).collect();
        rows.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        let requests = rows.iter().map(|r| (key(&r.session), r.session.requests));
        self.rates.looked(requests, now);
        lines(&rows)
    }

    /// Number of sessions that are served.
    pub fn count_served(&self) -> usize {
        self.served(monotonic_ns()).count()
    }

    fn served(&self, now: u64) -> impl Iterator<Item = pt_session> {
        let all = (0..self.sessions.count()).map(|at| self.sessions.get(at));
        all.filter(move |s| s.session != 0 && now.saturating_sub(s.last_ns) < OVER_NS)
    }

    fn row(&self, session: &pt_session, now: u64) -> Row {
        let (key, first_ns) = (key(session), session.first_ns);
        Row {
            session: *session,
            rate: self.rates.rate(&key, session.requests, first_ns, now),
        }
    }
}

fn key(session: &pt_session) -> Key {
    (session.peer, session.session)
}

fn source(session: &pt_session) -> IpAddr {
    address(&session.peer, 0).ip()
}

fn lines(rows: &[Row]) -> Vec<String> {
    let answered = rows.iter().filter(|r| r.session.own != 0);
    let sources: HashSet<IpAddr> = answered.clone().map(|r| source(&r.session)).collect();
    let count = answered.count();
    let mut lines = vec![format!("{} clients, {count} sessions", sources.len())];
    if rows.is_empty() {
        return lines;
    }
    let columns = [
        "session", "mode", "proven", "rate/s", "requests", "replies", "stamped", "packets",
    ];
    lines.push(line("source", columns.map(str::to_owned), "not given"));
    lines.extend(rows.iter().take(ROWS).map(cells));
    if let Some(more @ 1..) = rows.len().checked_sub(ROWS) {
        lines.push(format!("and {more} other sessions"));
    }
    lines
}

fn cells(row: &Row) -> String {
    let s = &row.session;
    let proven = if s.proven == 0 { "no" } else { "yes" };
    let cells = [
        format!("{:08x}", s.session),
        mode(s).to_owned(),
        proven.to_owned(),
        format!("{:.1}", row.rate),
        s.requests.to_string(),
        s.replies.to_string(),
        s.stamped.to_string(),
        s.packets.to_string(),
    ];
    line(&source(s).to_string(), cells, &refused(s))
}

fn line(source: &str, [session, mode, proven, numbers @ ..]: [String; 8], rest: &str) -> String {
    let numbers = numbers.map(|n| format!("{n:>9}")).join(" ");
    let line = format!("{source:<24} {session:<8} {mode:<8} {proven:<6} {numbers}  {rest}");
    line.trim_end().to_owned()
}

/// How the stamps of its last request return.
fn mode(session: &pt_session) -> &'static str {
    match session {
        s if s.replies > 0 && s.own == 0 => "transit",
        s if s.version == 0 => "v0",
        s if s.flags & INBAND != 0 => "inband",
        s if s.flags & RECORD != 0 => "compact",
        _ => "pingpong",
    }
}

/// What the session did not get, and why.
fn refused(session: &pt_session) -> String {
    let here = [
        ("no slot", session.refused),
        ("slot displaced", session.lost),
    ];
    let withheld = Withheld::VARIANTS.iter().map(|why| why.describe());
    let counts = here.into_iter().chain(withheld.zip(session.withheld));
    let counts = counts.filter(|(_, count)| *count > 0);
    let said: Vec<String> = counts.map(|(why, n)| format!("{n} {why}")).collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u32, own: u32) -> pt_session {
        pt_session {
            session: id,
            peer: [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([10, 0, 0, 1])],
            own,
            version: 1,
            flags: INBAND,
            requests: 20,
            replies: 19,
            stamped: 18,
            packets: 7,
            ..pt_session::default()
        }
    }

    #[test]
    fn each_session_has_a_row_and_the_rest_is_counted() {
        let mut rows: Vec<Row> = (1..=22)
            .map(|id| Row {
                session: session(id, 1),
                rate: 2.0,
            })
            .collect();
        rows[0].session.lost = 3;
        rows[1].session.refused = 2;
        rows[1].session.withheld[Withheld::SourceLimit as usize] = 4;
        rows[1].session.own = 0;
        let lines = lines(&rows);
        assert_eq!(lines.len(), 1 + 1 + ROWS + 1);
        assert_eq!(lines[0], "1 clients, 21 sessions");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(&lines[2]),
            "10.0.0.1 00000001 inband no 2.0 20 19 18 7 3 slot displaced"
        );
        assert_eq!(
            words(&lines[3]),
            "10.0.0.1 00000002 transit no 2.0 20 19 18 7 2 no slot, 4 rate limit of one client"
        );
        assert_eq!(lines[ROWS + 2], "and 2 other sessions");
    }
}

//! Whom the server refuses, and why: the sources of the kernel's table, those with most requests first.

use super::clients::Rates;
use super::slot::address;
use crate::kernel::map::Mapping;
use crate::kernel::tracer::{Refused, Tracer};
use crate::units::monotonic_ns;
use anyhow::{Context, Result};
use bpf::pingtrace::types::{pt_refusal, pt_refused};
use libbpf_rs::MapCore;
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::AsFd;

/// Upper bound on rows of a table.
const ROWS: usize = 20;
/// Upper bound on peers of which is said that they have another key.
const MAX_TOLD: usize = 256;
/// Upper bound on addresses in a line that says so.
const NAMED: usize = 4;

/// Which requests are refused, by `pt_refusal`.
const CAUSES: [&str; pt_refusal::PT_REFUSALS.0 as usize] = [
    "from addresses that are not served",
    "without a tag, as this server has keys",
    "with the tag of another key",
    "whose tag was used before",
];
const OTHER_KEY: usize = pt_refusal::PT_REFUSED_OTHER_KEY.0 as usize;

/// The kernel's table of sources, and who was told of.
pub struct RefusedSources {
    table: Mapping<pt_refused>,
    rates: Rates<[u32; 4]>,
    /// Peers with another key.
    told: HashSet<[u32; 4]>,
}

impl RefusedSources {
    /// Those of loaded programs.
    pub fn new(tracer: &Tracer<'_>) -> Result<Self> {
        let map = &tracer.maps().refused_sources;
        let table = Mapping::read_only(map.as_fd(), map.max_entries() as usize);
        Ok(Self {
            table: table.context("map the table of refused sources")?,
            rates: Rates::default(),
            told: HashSet::new(),
        })
    }

    fn sources(&self) -> impl Iterator<Item = pt_refused> {
        let all = (0..self.table.count()).map(|at| self.table.get(at));
        all.filter(|source| source.last_ns > 0)
    }

    /// Lines of a table of all sources, if there are any; `all` is the number of refused requests.
    pub fn report(&mut self, all: &Refused) -> Vec<String> {
        let now = monotonic_ns();
        let mut rows: Vec<(pt_refused, f64)> = self
            .sources()
            .map(|s| (s, self.rates.rate(&s.peer, requests(&s), s.first_ns, now)))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.last_ns.cmp(&a.0.last_ns)));
        let counts = rows.iter().map(|(s, _)| (s.peer, requests(s)));
        self.rates.looked(counts, now);
        lines(&rows, all.iter().sum())
    }

    /// Who had another key may have the right one now, and the other way round.
    pub fn keys_changed(&mut self) {
        self.told.clear();
    }

    /// Clients with another key of which nothing was said yet, in a line.
    pub fn new_other_keys(&mut self) -> Option<String> {
        let have = self.sources().filter(|s| s.count[OTHER_KEY] > 0);
        let new: Vec<_> = have
            .map(|s| s.peer)
            .filter(|peer| !self.told.contains(peer))
            .collect();
        let room = MAX_TOLD - self.told.len();
        if new.is_empty() || room == 0 {
            return None;
        }
        let said = &new[..room.min(new.len())];
        self.told.extend(said);
        Some(other_keys(said, self.told.len() == MAX_TOLD))
    }
}

/// The causes for which requests were refused, with their number.
pub fn by_cause(all: &Refused) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = CAUSES.into_iter().zip(*all);
    counts.filter(|(_, count)| *count > 0)
}

/// `last`: no others are named from then on.
fn other_keys(peers: &[[u32; 4]], last: bool) -> String {
    let names: Vec<String> = peers
        .iter()
        .take(NAMED)
        .map(|peer| ip(peer).to_string())
        .collect();
    let more = match peers.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} others"),
    };
    let last = if last {
        "; from now on such clients are only counted, and listed (SIGUSR1)"
    } else {
        ""
    };
    let names = names.join(", ");
    format!("requests with the tag of another key (--key-file) from {names}{more}{last}")
}

fn ip(peer: &[u32; 4]) -> IpAddr {
    address(peer, 0).ip()
}

fn requests(source: &pt_refused) -> u64 {
    source.count.iter().sum()
}

fn lines(rows: &[(pt_refused, f64)], all: u64) -> Vec<String> {
    if all == 0 {
        return Vec::new();
    }
    let head = format!("{all} requests refused");
    let columns = line("refused", "session", "rate/s", "requests", "why");
    let shown = &rows[..rows.len().min(ROWS)];
    let others = all.saturating_sub(shown.iter().map(|(s, _)| requests(s)).sum());
    let others = (others > 0).then(|| format!("and {others} refused requests of other sources"));
    let cells = shown.iter().map(|(source, rate)| cells(source, *rate));
    [head, columns]
        .into_iter()
        .chain(cells)
        .chain(others)
        .collect()
}

fn cells(source: &pt_refused, rate: f64) -> String {
    let why: Vec<String> = by_cause(&source.count)
        .map(|(why, n)| format!("{n} {why}"))
        .collect();
    line(
        &ip(&source.peer).to_string(),
        &format!("{:08x}", source.session),
        &format!("{rate:.1}"),
        &requests(source).to_string(),
        &why.join(", "),
    )
}

fn line(source: &str, session: &str, rate: &str, requests: &str, why: &str) -> String {
    format!("{source:<24} {session:<8} {rate:>9} {requests:>9}  {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(host: u8, count: Refused) -> pt_refused {
        pt_refused {
            peer: [
                0,
                0,
                0xffff_u32.to_be(),
                u32::from_ne_bytes([10, 0, 0, host]),
            ],
            session: 0xabc,
            count,
            ..pt_refused::default()
        }
    }

    #[test]
    fn each_source_has_a_row_and_the_rest_is_summed() {
        assert_eq!(lines(&[], 0), Vec::<String>::new());
        let rows: Vec<_> = (1..=22)
            .map(|host| (source(host, [0, 5, 0, 0]), 2.5))
            .collect();
        let lines_of_all = lines(&rows, 150);
        assert_eq!(lines_of_all.len(), 1 + 1 + ROWS + 1);
        assert_eq!(lines_of_all[0], "150 requests refused");
        assert_eq!(
            lines_of_all[ROWS + 2],
            "and 50 refused requests of other sources"
        );
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let row = cells(&source(9, [1, 2, 3, 4]), 0.25);
        assert_eq!(
            words(&row),
            "10.0.0.9 00000abc 0.2 10 1 from addresses that are not served, 2 without a tag, \
             as this server has keys, 3 with the tag of another key, 4 whose tag was used before"
        );
        assert_eq!(lines(&rows[..1], 5).len(), 3);
    }

    #[test]
    fn other_keys_are_said_by_peer_and_not_without_end() {
        let peers: Vec<_> = (1..=6).map(|host| source(host, [0; 4]).peer).collect();
        assert_eq!(
            other_keys(&peers[..2], false),
            "requests with the tag of another key (--key-file) from 10.0.0.1, 10.0.0.2"
        );
        let said = other_keys(&peers, true);
        assert!(
            said.contains("10.0.0.4 and 2 others; from now on"),
            "{said}"
        );
    }
}

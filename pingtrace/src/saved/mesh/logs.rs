//! What the logs of many hosts say of each other.

use crate::saved::files::{self, SavedFile, statistics_beside};
use anyhow::{Context, Result, bail};
use report::analysis::mesh::{Builder, Measured};
use report::format::saved::{End, Ends};
use report::model::{Cell, Faults, Run, Side, Summary};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

/// What a log says, and its name.
struct Log {
    file: String,
    ends: Ends,
    /// The addresses that it probes from.
    addresses: BTreeSet<IpAddr>,
    host: Option<String>,
}

/// The files of a host's log, or of its statistics where that is apart.
pub(super) fn open(path: &Path) -> Result<Vec<SavedFile>> {
    let beside = statistics_beside(path);
    files::open(beside.as_deref().unwrap_or(path))
}

/// Reads all logs.
pub(super) fn read(logs: &[Vec<SavedFile>], label: &str, into: &mut Builder) -> Result<()> {
    let logs: Vec<Log> = logs
        .iter()
        .map(|files| read_one(files))
        .collect::<Result<_>>()?;
    let mut times = BTreeMap::<&str, usize>::new();
    for host in logs.iter().filter_map(|log| log.host.as_deref()) {
        *times.entry(host).or_default() += 1;
    }
    let names: Vec<String> = logs.iter().map(|log| log.name(&times)).collect();
    for (log, name) in logs.iter().zip(&names) {
        into.client(name, None);
        for address in &log.addresses {
            into.client(name, Some(address.to_string()));
        }
    }
    for (log, name) in logs.iter().zip(&names) {
        log.measured(name, label, into);
    }
    Ok(())
}

fn read_one(files: &[SavedFile]) -> Result<Log> {
    let mut ends = Ends::default();
    for file in files {
        let lines = file.lines().with_context(|| file.reading())?;
        ends.read(lines).with_context(|| file.reading())?;
    }
    let file = files.last().map(SavedFile::name).unwrap_or_default();
    let runs = ends.0.values().filter_map(|end| end.run.as_ref());
    let addresses = runs.clone().filter_map(|run| run.client.addr).collect();
    let host = runs.clone().find_map(|run| run.client.host.clone());
    if runs.count() == 0 {
        bail!(
            "{file}: no line says what run this is; wanted is what -o json wrote, or a log's FILE.stat"
        );
    }
    if ends.0.values().all(|end| end.stat.is_none()) {
        bail!(
            "{file}: no statistics in it: the run wrote none yet (--stat-interval), or was killed"
        );
    }
    Ok(Log {
        file,
        ends,
        addresses,
        host,
    })
}

impl Log {
    /// The host's name; where several logs have the same, its first address.
    fn name(&self, times: &BTreeMap<&str, usize>) -> String {
        let address = self.addresses.first().map(ToString::to_string);
        let is_only = |host: &&String| times.get(host.as_str()) == Some(&1);
        let host = self.host.as_ref().filter(is_only).cloned();
        host.or(address)
            .or(self.host.clone())
            .unwrap_or_else(|| self.file.clone())
    }

    fn measured(&self, name: &str, label: &str, into: &mut Builder) {
        for (target, end) in &self.ends.0 {
            let End {
                run: Some(run),
                stat: Some((time_unix_ns, summary)),
            } = end
            else {
                continue;
            };
            into.during(run.start_unix_ns, *time_unix_ns);
            let server = &run.server;
            let names = [
                server.host.clone(),
                server.addr.map(|addr| addr.to_string()),
            ];
            let mut to: Vec<String> = names.into_iter().flatten().collect();
            if to.is_empty() {
                to.extend(target.clone());
            }
            into.add(Measured {
                from: name.to_owned(),
                to,
                group: group(run, label),
                cell: cell(summary),
            });
        }
    }
}

fn group(run: &Run, label: &str) -> Option<String> {
    run.target.as_ref()?.labels.get(label).cloned()
}

fn cell(summary: &Summary) -> Cell {
    let (mut slow, mut losses) = (Faults::default(), Faults::default());
    for cause in &summary.causes {
        slow.add_slow(cause.owner, cause.segment, cause.sure, cause.unsure());
    }
    for loss in &summary.losses {
        losses.add(
            Side::of_place(loss.place),
            loss.place.direction(),
            loss.count,
        );
    }
    let total = summary.delays.iter().find(|stat| stat.segment.is_none());
    Cell {
        sent: summary.counters.sent,
        lost: summary.counters.lost,
        p99_ns: total.filter(|stat| stat.count > 0).map(|stat| stat.p99),
        slow,
        losses,
        ..Cell::default()
    }
}

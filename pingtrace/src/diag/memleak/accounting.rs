//! Reads the kernel's accounting of its memory: /proc/meminfo, slabinfo, vmallocinfo, status.

use crate::kernel::ids;
use crate::units::monotonic_ns;
use anyhow::{Context, Result, anyhow, bail};
use report::companion::memleak::{
    Allocator, Process, Snapshot, meminfo, slabinfo, status, unused, vmallocinfo,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const SLABS: &str = "/sys/kernel/slab";
/// Upper bound on the aliases that are shown.
const ALIASES: usize = 6;

/// Which parts of the accounting are read.
pub struct Accounting {
    slab: bool,
    vmalloc: bool,
    processes: bool,
    pid: Option<u32>,
    reclaimable: BTreeSet<String>,
}

impl Accounting {
    /// The parts of one allocator, or all; an error if they cannot be read.
    pub fn open(allocator: Option<Allocator>, pid: Option<u32>) -> Result<Self> {
        let of = |wanted| allocator.is_none_or(|a| a == wanted);
        let mut accounting = Self {
            slab: of(Allocator::Slab),
            vmalloc: of(Allocator::Vmalloc),
            processes: of(Allocator::User) && pid.is_none(),
            pid,
            reclaimable: BTreeSet::new(),
        };
        let caches = accounting.read()?.caches;
        let flag = |name: &String| {
            let path = format!("{SLABS}/{name}/reclaim_account");
            fs::read_to_string(path).is_ok_and(|flag| flag.trim() == "1")
        };
        accounting.reclaimable = caches.into_keys().filter(flag).collect();
        Ok(accounting)
    }

    /// Takes a snapshot.
    pub fn read(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            ns: monotonic_ns(),
            meminfo: meminfo(&file("/proc/meminfo")?),
            unused: unused_objects(),
            ..Snapshot::default()
        };
        if self.slab {
            let caches = slabinfo(&file("/proc/slabinfo")?);
            snapshot.caches = caches.map_err(|e| anyhow!("read /proc/slabinfo: {e}"))?;
        }
        if self.vmalloc {
            let page_size = rustix::param::page_size() as u64;
            snapshot.areas = vmallocinfo(&file("/proc/vmallocinfo")?, page_size);
        }
        snapshot.processes = match self.pid {
            Some(pid) => process(pid).map(|p| (pid, p)).into_iter().collect(),
            None if self.processes => processes()?,
            None => BTreeMap::new(),
        };
        Ok(snapshot)
    }

    /// Names of caches that the kernel shrinks when memory is short.
    pub fn reclaimable(&self) -> &BTreeSet<String> {
        &self.reclaimable
    }

    /// The name in slabinfo of a cache, or of the one that it was merged with.
    pub fn resolve(&self, name: &str) -> Result<String> {
        let caches = self.read()?.caches;
        if caches.contains_key(name) {
            return Ok(name.to_owned());
        }
        let target = (!name.contains('/')).then(|| target(name)).flatten();
        let same = target.and_then(|t| {
            caches
                .into_keys()
                .find(|c| self::target(c) == Some(t.clone()))
        });
        match same {
            Some(same) => {
                log::info!("cache {name} is part of {same}: the kernel has merged them");
                Ok(same)
            }
            None => bail!("no slab cache '{name}' (-n): /proc/slabinfo lists them"),
        }
    }
}

/// Other caches whose objects are in this one.
pub fn aliases(cache: &str) -> Vec<String> {
    let (Some(mine), Ok(all)) = (target(cache), fs::read_dir(SLABS)) else {
        return Vec::new();
    };
    let names = all
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok());
    let others = names.filter(|n| n != cache && !n.starts_with(':'));
    let mut aliases: Vec<_> = others
        .filter(|n| target(n).as_ref() == Some(&mine))
        .collect();
    aliases.sort();
    if aliases.len() > ALIASES {
        let more = aliases.len() - ALIASES;
        aliases.truncate(ALIASES);
        aliases.push(format!("{more} more"));
    }
    aliases
}

/// Upper bound on the free objects of a cache that each CPU keeps ready: the accounting counts them
/// as in use.
pub fn ready(cache: &str, per_slab: u64) -> u64 {
    let partial = fs::read_to_string(format!("{SLABS}/{cache}/cpu_partial"));
    let partial = partial.ok().and_then(|n| n.trim().parse().ok());
    // Twice: some are in flight between CPUs.
    2 * (partial.unwrap_or(2 * per_slab) + per_slab)
}

/// The merged cache that a name in sysfs stands for.
fn target(name: &str) -> Option<std::path::PathBuf> {
    fs::canonicalize(Path::new(SLABS).join(name)).ok()
}

fn unused_objects() -> Option<u64> {
    let state = |of: &str| fs::read_to_string(format!("/proc/sys/fs/{of}-state")).ok();
    unused(&state("dentry")?, &state("inode")?)
}

fn file(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path} (root may)"))
}

/// The memory of a process; `None` if it has none or has ended.
pub fn process(pid: u32) -> Option<Process> {
    status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn processes() -> Result<BTreeMap<u32, Process>> {
    let all = fs::read_dir("/proc").context("list the processes")?;
    let pids = all
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    // pingtrace itself grows by its own accounting.
    let own = ids::own_process();
    let pids = pids.filter(|pid| Some(*pid) != own);
    Ok(pids.filter_map(|pid| Some((pid, process(pid)?))).collect())
}

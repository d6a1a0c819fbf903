//! Which allocator grows: the trend of each account of the kernel.

use super::allocator::Allocator;
use super::cache::host_growth;
use super::snapshot::{Cache, Snapshot};
use super::trend::Trend;
use std::collections::{BTreeMap, BTreeSet};

/// A probability of a trend below this counts as chance.
const SURE: f64 = 0.95;
/// Growth below this part of the first value does not count.
const FLOOR_PART: u64 = 100;

/// Growth below this does not count, bytes: processes vary, and CPUs keep pages ready.
pub fn floor(allocator: Allocator) -> u64 {
    match allocator {
        Allocator::Slab | Allocator::Vmalloc | Allocator::Percpu => 64 << 10,
        Allocator::Page | Allocator::User => 1 << 20,
    }
}

/// What may grow.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// The allocator.
    pub allocator: Allocator,
    /// The cache, the caller of vmalloc, or the process.
    pub name: Option<String>,
    /// Of the process.
    pub pid: Option<u32>,
    /// Of its bytes.
    pub trend: Trend,
    /// Growth below this does not matter, bytes.
    pub floor: u64,
    /// The kernel reclaims it when memory is short.
    pub reclaimable: bool,
    /// The kernel's caches grew by as many objects, so each of these may belong to one.
    pub may_be_cache: bool,
}

impl Suspect {
    /// Whether it grows and does not only scatter.
    pub fn grows(&self) -> bool {
        self.trend.rising >= SURE && self.trend.grown >= self.floor.cast_signed()
    }

    /// Whether it may be cache.
    pub fn is_cache_like(&self) -> bool {
        self.reclaimable || self.may_be_cache
    }

    /// For people.
    pub fn what(&self) -> String {
        match (self.allocator, &self.name, self.pid) {
            (Allocator::Slab, Some(name), _) => format!("slab cache {name}"),
            (Allocator::Vmalloc, Some(name), _) => format!("vmalloc by {name}"),
            (Allocator::User, Some(name), Some(pid)) => format!("process {name}/{pid}"),
            (Allocator::Page, ..) => "pages in no other book".to_owned(),
            (Allocator::Percpu, ..) => "per-CPU memory".to_owned(),
            (other, ..) => other.name().to_owned(),
        }
    }
}

/// Everything that has a trend, what grows most first; empty of fewer than five snapshots.
/// `reclaimable` names caches.
pub fn suspects(snapshots: &[Snapshot], reclaimable: &BTreeSet<String>) -> Vec<Suspect> {
    let mut all = series(snapshots, reclaimable);
    all.sort_by_key(|s| (s.is_cache_like(), std::cmp::Reverse(s.trend.grown)));
    all
}

fn series(snapshots: &[Snapshot], reclaimable: &BTreeSet<String>) -> Vec<Suspect> {
    let mut all = Vec::new();
    let (Some(first), Some(last)) = (snapshots.first(), snapshots.last()) else {
        return all;
    };
    let hosts = host_growth(first, last, reclaimable);
    let mut add = |allocator, name: Option<&str>, pid, value: &Value<'_>| {
        let points: Vec<_> = snapshots.iter().map(|s| (s.ns, value(s))).collect();
        let Some(trend) = Trend::new(&points) else {
            return;
        };
        let cache = name.filter(|_| allocator == Allocator::Slab);
        let size = cache.and_then(|name| Some(last.caches.get(name)?.size));
        let grown = |size: u64| trend.grown.max(0) as f64 / size.max(1) as f64;
        let may_be_cache = size
            .zip(hosts)
            .is_some_and(|(s, hosts)| explains(hosts, grown(s)));
        all.push(Suspect {
            allocator,
            name: name.map(str::to_owned),
            pid,
            trend,
            floor: floor(allocator).max(points[0].1 / FLOOR_PART),
            reclaimable: cache.is_some_and(|name| reclaimable.contains(name)),
            may_be_cache,
        });
    };
    for name in last.caches.keys() {
        let bytes = |s: &Snapshot| s.caches.get(name).map_or(0, Cache::bytes);
        add(Allocator::Slab, Some(name), None, &bytes);
    }
    for caller in by_caller(last).keys() {
        let bytes = |s: &Snapshot| by_caller(s).get(caller).copied().unwrap_or(0);
        add(Allocator::Vmalloc, Some(caller), None, &bytes);
    }
    for (pid, process) in &last.processes {
        // An account that did not exist at the start has grown from nothing, but may only be new.
        if snapshots.iter().all(|s| s.processes.contains_key(pid)) {
            let bytes = |s: &Snapshot| s.processes[pid].bytes;
            add(Allocator::User, Some(&process.comm), Some(*pid), &bytes);
        }
    }
    if last.meminfo.contains_key("Percpu") {
        let bytes = |s: &Snapshot| field(s, "Percpu");
        add(Allocator::Percpu, None, None, &bytes);
    }
    if last.meminfo.contains_key("MemTotal") {
        add(Allocator::Page, None, None, &in_no_book);
    }
    all
}

/// Whether the growth of the kernel's reclaimable objects explains that of other objects: nearly one each, as a directory counts as used while an entry of it is cached.
pub fn explains(hosts: u64, objects: f64) -> bool {
    const SHARE: f64 = 0.5;
    hosts > 0 && hosts as f64 >= SHARE * objects
}

type Value<'a> = dyn Fn(&Snapshot) -> u64 + 'a;

fn by_caller(snapshot: &Snapshot) -> BTreeMap<&str, u64> {
    let mut bytes = BTreeMap::new();
    for area in &snapshot.areas {
        *bytes.entry(area.caller.as_str()).or_default() += area.bytes;
    }
    bytes
}

fn field(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot.meminfo.get(name).copied().unwrap_or(0)
}

/// Memory that is neither free nor in any account of /proc/meminfo: whole pages of drivers and sockets.
fn in_no_book(snapshot: &Snapshot) -> u64 {
    // Shmem is part of Cached, and Mlocked of the others.
    const BOOKS: [&str; 12] = [
        "MemFree",
        "Buffers",
        "Cached",
        "SwapCached",
        "AnonPages",
        "Slab",
        "KernelStack",
        "PageTables",
        "SecPageTables",
        "Percpu",
        "VmallocUsed",
        "Hugetlb",
    ];
    let known: u64 = BOOKS.iter().map(|book| field(snapshot, book)).sum();
    // With CONFIG_VMAP_STACK kernel stacks are vmalloc areas: then they are in two accounts.
    let stacks: u64 = field(snapshot, "KernelStack").min(field(snapshot, "VmallocUsed"));
    (field(snapshot, "MemTotal") + stacks).saturating_sub(known)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{Area, Process};
    use super::*;

    fn growing(step: u64) -> Vec<Snapshot> {
        let at = |k: u64| Snapshot {
            ns: k * 1_000_000_000,
            unused: None,
            meminfo: [
                ("MemTotal".to_owned(), 1 << 30),
                ("MemFree".to_owned(), (1 << 29) - k * 16 * step),
                ("Percpu".to_owned(), 1 << 20),
            ]
            .into(),
            caches: [
                ("leaky".to_owned(), cache(1000 + k * step)),
                ("dentry".to_owned(), cache(1000 + k * step)),
                ("quiet".to_owned(), cache(1000)),
            ]
            .into(),
            areas: vec![Area {
                range: "1".to_owned(),
                caller: "f+0x1/0x2".to_owned(),
                bytes: 4096,
            }],
            processes: [(7, process(k * step * 1000))].into(),
        };
        (0..6).map(at).collect()
    }

    fn cache(active: u64) -> Cache {
        Cache {
            active,
            size: 64,
            per_slab: 64,
            slabs: active / 64,
        }
    }

    fn process(bytes: u64) -> Process {
        Process {
            comm: "hog".to_owned(),
            bytes,
        }
    }

    fn named(suspects: &[Suspect]) -> Vec<String> {
        let grow = suspects.iter().filter(|s| s.grows());
        grow.map(Suspect::what).collect()
    }

    #[test]
    fn what_grows_is_named_and_what_can_be_reclaimed_comes_last() {
        let reclaimable = BTreeSet::from(["dentry".to_owned()]);
        let all = suspects(&growing(1000), &reclaimable);
        assert_eq!(
            named(&all),
            ["process hog/7", "slab cache leaky", "slab cache dentry"]
        );
        let dentry = all.iter().find(|s| s.name.as_deref() == Some("dentry"));
        assert!(dentry.unwrap().reclaimable);
    }

    #[test]
    fn what_grows_no_faster_than_what_can_be_given_back_may_be_cache() {
        let none = BTreeSet::new();
        let mut looks = growing(1000);
        for (k, look) in (0..).zip(&mut looks) {
            look.unused = Some(k * 900);
        }
        let may_be = |looks: &[Snapshot], name: &str| {
            let all = suspects(looks, &none);
            let suspect = all.iter().find(|s| s.name.as_deref() == Some(name));
            suspect.unwrap().may_be_cache
        };
        assert!(may_be(&looks, "leaky"));
        assert!(!may_be(&looks, "hog"), "of a process");
        for (k, look) in (0..).zip(&mut looks) {
            look.unused = Some(k * 10);
        }
        assert!(!may_be(&looks, "leaky"));
        assert!(!may_be(&growing(1000), "leaky"), "unknown");
    }

    #[test]
    fn nothing_grows_on_a_quiet_machine_and_little_growth_does_not_count() {
        let none = BTreeSet::new();
        assert_eq!(named(&suspects(&growing(0), &none)), [""; 0]);
        assert_eq!(named(&suspects(&growing(10), &none)), [""; 0]);
    }

    #[test]
    fn too_few_snapshots_say_nothing() {
        assert_eq!(suspects(&growing(1000)[..4], &BTreeSet::new()), []);
        assert_eq!(suspects(&[], &BTreeSet::new()), []);
    }
}

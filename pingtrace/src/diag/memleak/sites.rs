//! Sites: which code holds how much, from the tracker and from the kernel's accounting of vmalloc.

use super::follow::Follow;
use super::monitor::{Group, Monitor, SNAPSHOTS};
use super::tracker::{self, Key, RawSite, Tracker};
use crate::kernel::symbols::Symbols;
use crate::units::monotonic_ns;
use bpf::memleak::types::ml_kind;
use report::companion::memleak::{Allocator, AreaCounts, Cohort, Origin, Site, Snapshot, origin};
use report::companion::{Frame, beyond_tracing};
use std::collections::{BTreeMap, HashMap};

/// A site, and its bytes over time.
pub struct Found {
    /// The row that is written.
    pub row: Site,
    /// The purpose of its objects.
    pub origin: Origin,
    pub allocated: [u64; tracker::GENERATIONS as usize],
    pub live: [u64; tracker::GENERATIONS as usize],
    /// `CLOCK_MONOTONIC` ns, bytes.
    pub series: Vec<(u64, u64)>,
}

impl Found {
    /// What it is judged with.
    pub fn group(&self) -> Group {
        (self.row.alloc, self.row.cache.clone(), self.origin)
    }
}

/// Bytes of all sites over time.
pub fn total(sites: &[&Found]) -> Vec<(u64, u64)> {
    let mut total: BTreeMap<u64, u64> = BTreeMap::new();
    for (ns, bytes) in sites.iter().flat_map(|s| &s.series) {
        *total.entry(*ns).or_default() += bytes;
    }
    total.into_iter().collect()
}

pub fn cohorts(monitor: &Monitor<'_>, site: &Found) -> Vec<Cohort> {
    let now = monotonic_ns();
    let generations = monitor
        .generations
        .iter()
        .zip(site.allocated.iter().zip(&site.live));
    let cohort = |(begin, (allocated, live)): (&u64, (&u64, &u64))| Cohort {
        age_ns: now.saturating_sub(*begin),
        came: *allocated,
        live: *live,
    };
    generations.map(cohort).filter(|c| c.came > 0).collect()
}

/// The sites of the tracker, with names.
pub fn tracked_sites(monitor: &Monitor<'_>) -> Vec<Found> {
    let symbols = Symbols::default();
    let stacks = stacks(&monitor.raw);
    let named = monitor.raw.iter().filter(|s| s.kind != ml_kind::ML_STACK);
    // Areas come from the accounting; the tracker has only their stacks.
    let others = named.filter(|s| s.kind != ml_kind::ML_VMALLOC);
    let found = others.map(|site| found(monitor, site, &stacks, &symbols));
    found.collect()
}

/// The stacks of each site, that with the most live objects first.
fn stacks(raw: &[RawSite]) -> HashMap<Key, Vec<&RawSite>> {
    let mut stacks: HashMap<Key, Vec<&RawSite>> = HashMap::new();
    for stack in raw.iter().filter(|s| s.kind == ml_kind::ML_STACK) {
        stacks.entry(stack.above).or_default().push(stack);
    }
    for of_site in stacks.values_mut() {
        of_site.sort_by_key(|stack| std::cmp::Reverse(stack.live()));
    }
    stacks
}

/// The purpose of a site's objects: that of the majority of objects with a known stack.
fn origin_of(
    monitor: &Monitor<'_>,
    site: &RawSite,
    stacks: &[&RawSite],
    symbols: &Symbols,
) -> Origin {
    let mut weights: BTreeMap<Origin, u64> = BTreeMap::new();
    let own = [site];
    let known: &[&RawSite] = match site.kind {
        ml_kind::ML_PAGE => &own,
        ml_kind::ML_SLAB | ml_kind::ML_SIZED => stacks,
        _ => &[],
    };
    for stack in known.iter().filter(|stack| stack.live() > 0) {
        let mut origins = monitor.origins.borrow_mut();
        let of_stack = origins.entry(stack.key).or_insert_with(|| {
            let frames = symbols.kernel(&stack.frames);
            let name =
                |frame: &'_ Frame| Some(frame.name.as_deref()?.split('+').next()?.to_owned());
            let names: Vec<Option<String>> = frames.iter().map(name).collect();
            origin(names.iter().map(Option::as_deref))
        });
        *weights.entry(*of_stack).or_default() += stack.live();
    }
    let heaviest = weights.into_iter().max_by_key(|(_, weight)| *weight);
    heaviest.map_or(Origin::Own, |(origin, _)| origin)
}

fn found(
    monitor: &Monitor<'_>,
    site: &RawSite,
    stacks: &HashMap<Key, Vec<&RawSite>>,
    symbols: &Symbols,
) -> Found {
    let (alloc, cache) = of_whom(monitor, site);
    let user = monitor.user().filter(|_| alloc == Allocator::User);
    let named = |frames: &[u64]| match user {
        Some(pid) => symbols.user(pid, frames),
        None => beyond_allocator(symbols.kernel(frames), alloc),
    };
    let own = named(&site.frames);
    let below = stacks.get(&site.key).map_or(&[][..], Vec::as_slice);
    let origin = origin_of(monitor, site, below, symbols);
    let first = match site.call_site {
        0 => own.first().cloned(),
        address => symbols.kernel(&[address]).pop(),
    };
    let shown = monitor.args.stacks || user.is_some();
    let (stack, stack_live) = match below.first().filter(|_| shown) {
        Some(below) => {
            let stack = from(named(&below.frames), site.call_site);
            (stack, Some(below.live()))
        }
        None => (own, None),
    };
    Found {
        row: Site {
            companion: "memleak",
            alloc,
            cache,
            site: first.unwrap_or(Frame {
                address: 0,
                name: None,
            }),
            live: site.live(),
            bytes: site.bytes,
            allocs: site.allocs,
            reused: site.reused,
            age_max_ns: None,
            slope_bytes_per_s: None,
            cohorts: Vec::new(),
            stack: if shown { stack } else { Vec::new() },
            stack_live,
        },
        origin,
        allocated: site.allocated,
        live: site.live,
        series: series(monitor, site.key),
    }
}

fn of_whom(monitor: &Monitor<'_>, site: &RawSite) -> (Allocator, Option<String>) {
    let alloc = match site.kind {
        ml_kind::ML_PAGE => Allocator::Page,
        ml_kind::ML_VMALLOC => Allocator::Vmalloc,
        ml_kind::ML_PERCPU => Allocator::Percpu,
        ml_kind::ML_FAULT | ml_kind::ML_MALLOC => Allocator::User,
        _ => Allocator::Slab,
    };
    let cache = match site.kind {
        ml_kind::ML_SLAB => Some(site.name.clone()),
        ml_kind::ML_SIZED => class_name(monitor, site),
        _ => None,
    };
    (alloc, cache)
}

/// The cache of a size class, which kmalloc does not report. Before 5.19 no allocation reports its
/// cache, and one of the wanted caches is named.
fn class_name(monitor: &Monitor<'_>, site: &RawSite) -> Option<String> {
    let caches = &monitor.snapshots.last()?.caches;
    let only_kmalloc = monitor.tracker.as_ref().is_some_and(Tracker::names_caches);
    let of_size = |name: &&String| {
        let same = caches.get(*name).is_some_and(|c| c.size == site.size);
        same && (!only_kmalloc || name.contains("kmalloc-"))
    };
    let wanted = monitor.followed.iter().find_map(|f| match f {
        Follow::Slab(names) => names.iter().find(of_size),
        _ => None,
    });
    let prefix = if site.account {
        "kmalloc-cg-"
    } else {
        "kmalloc-"
    };
    let plain = |prefix: &str| {
        let is_plain = |name: &&String| {
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())) && of_size(name)
        };
        caches.keys().find(is_plain)
    };
    let found = wanted
        .or_else(|| plain(prefix))
        .or_else(|| plain("kmalloc-"));
    found.cloned()
}

/// The stack from the call site on, without the functions of the allocator and of the BPF program.
fn from(mut stack: Vec<Frame>, call_site: u64) -> Vec<Frame> {
    if let Some(at) = stack.iter().position(|f| f.address == call_site) {
        stack.drain(..at);
    }
    stack
}

/// Functions that allocate on behalf of their caller.
const FOR_PAGES: [&str; 14] = [
    "alloc_pages",
    "__alloc_pages",
    "alloc_frozen_pages",
    "__alloc_frozen_pages",
    "get_free_pages",
    "__get_free_pages",
    "get_zeroed_page",
    "folio_alloc",
    "__folio_alloc",
    "vma_alloc_folio",
    "___kmalloc_large",
    "__kmalloc_large",
    "__page_frag",
    "make_alloc_exact",
];
const FOR_PERCPU: [&str; 3] = ["pcpu_alloc", "__alloc_percpu", "alloc_percpu"];

/// The stack from the function on that called the allocator.
fn beyond_allocator(stack: Vec<Frame>, alloc: Allocator) -> Vec<Frame> {
    let mut stack = beyond_tracing(stack);
    let own: &[&str] = match alloc {
        Allocator::Page => &FOR_PAGES,
        Allocator::Percpu => &FOR_PERCPU,
        _ => &[],
    };
    let is_own = |frame: &Frame| {
        let name = frame.name.as_deref().unwrap_or_default();
        own.iter().any(|prefix| name.starts_with(prefix))
    };
    let beyond = stack.iter().position(|frame| !is_own(frame));
    stack.drain(..beyond.unwrap_or(0));
    stack
}

/// The sites of vmalloc, from the accounting.
pub fn area_sites(monitor: &Monitor<'_>) -> Vec<Found> {
    if !monitor.followed.contains(&Follow::Vmalloc) {
        return Vec::new();
    }
    let counts = monitor.areas.counts();
    let stacks = area_stacks(monitor);
    let site = |(caller, counts): (String, AreaCounts)| {
        let by_generation = |of: &BTreeMap<u32, u64>| -> [u64; tracker::GENERATIONS as usize] {
            let mut generations = [0; tracker::GENERATIONS as usize];
            // There are more snapshots than generations: neighbours share one.
            let share = |generation: u32| {
                (generation * tracker::GENERATIONS / (SNAPSHOTS + 1)).min(tracker::GENERATIONS - 1)
            };
            for (generation, n) in of {
                generations[share(*generation) as usize] += n;
            }
            generations
        };
        let name = caller.split('/').next().unwrap_or(&caller).to_owned();
        let (allocated, live) = (
            by_generation(&counts.allocated),
            by_generation(&counts.live),
        );
        let stack = stacks.get(&name).cloned().unwrap_or_default();
        Found {
            row: Site {
                companion: "memleak",
                alloc: Allocator::Vmalloc,
                cache: None,
                site: Frame {
                    address: 0,
                    name: Some(name),
                },
                live: counts.live.values().sum(),
                bytes: counts.bytes,
                allocs: counts.allocated.values().sum(),
                reused: 0,
                age_max_ns: None,
                slope_bytes_per_s: None,
                cohorts: Vec::new(),
                stack,
                stack_live: None,
            },
            series: area_series(monitor, &caller),
            origin: Origin::Own,
            allocated,
            live,
        }
    };
    counts.into_iter().map(site).collect()
}

/// Bytes of a caller's areas beyond those at the start.
fn area_series(monitor: &Monitor<'_>, caller: &str) -> Vec<(u64, u64)> {
    let bytes = |snapshot: &Snapshot| {
        let mine = snapshot.areas.iter().filter(|a| a.caller == caller);
        mine.map(|a| a.bytes).sum::<u64>()
    };
    let looked = monitor.snapshots.get(monitor.since..).unwrap_or_default();
    let first = looked.first().map_or(0, bytes);
    let one = |s: &Snapshot| (s.ns, bytes(s).saturating_sub(first));
    looked.iter().map(one).collect()
}

/// Stacks of live areas by the functions in them.
fn area_stacks(monitor: &Monitor<'_>) -> HashMap<String, Vec<Frame>> {
    let is_area = |s: &&RawSite| s.kind == ml_kind::ML_VMALLOC && s.live() > 0;
    let mut raw: Vec<&RawSite> = monitor.raw.iter().filter(is_area).collect();
    raw.sort_by_key(|site| std::cmp::Reverse(site.bytes));
    let symbols = Symbols::default();
    let mut stacks = HashMap::new();
    for site in raw {
        let stack = symbols.kernel(&site.frames);
        for (at, frame) in stack.iter().enumerate() {
            let place = frame.name.clone().unwrap_or_default();
            stacks.entry(place).or_insert_with(|| stack[at..].to_vec());
        }
    }
    stacks
}

fn series(monitor: &Monitor<'_>, key: Key) -> Vec<(u64, u64)> {
    let at = |(ns, bytes): &(u64, HashMap<Key, u64>)| (*ns, bytes.get(&key).copied().unwrap_or(0));
    monitor.samples.iter().map(at).collect()
}

/// The name of a function, else its address.
pub fn label(frame: &Frame) -> String {
    frame
        .name
        .clone()
        .unwrap_or_else(|| format!("{:#x}", frame.address))
}

/// Merges sites that differ only in stack or size.
pub fn merge(sites: Vec<Found>) -> Vec<Found> {
    let mut merged: HashMap<(Group, String), Found> = HashMap::new();
    for site in sites {
        let key = (site.group(), label(&site.row.site));
        match merged.remove(&key) {
            Some(other) => merged.insert(key, add(other, site)),
            None => merged.insert(key, site),
        };
    }
    merged.into_values().collect()
}

/// The sum of two sites; the stack is that of the site with more live objects.
fn add(a: Found, b: Found) -> Found {
    let (mut larger, smaller) = if a.row.live >= b.row.live {
        (a, b)
    } else {
        (b, a)
    };
    larger.row.live += smaller.row.live;
    larger.row.bytes += smaller.row.bytes;
    larger.row.allocs += smaller.row.allocs;
    larger.row.reused += smaller.row.reused;
    for generation in 0..tracker::GENERATIONS as usize {
        larger.allocated[generation] += smaller.allocated[generation];
        larger.live[generation] += smaller.live[generation];
    }
    for (mine, other) in larger.series.iter_mut().zip(&smaller.series) {
        mine.1 += other.1;
    }
    larger
}

//! From the sites and the kernel's accounting to evidence and the verdict.

use super::accounting;
use super::follow::Follow;
use super::monitor::{Group, Holding, Monitor};
use super::sites::{Found, area_sites, cohorts, label, merge, total, tracked_sites};
use super::tracker::{self, Tracker};
use report::companion::memleak::Site;
use report::companion::memleak::{
    Allocator, Cache, Evidence, Judgement, Origin, Snapshot, Suspect, Trend, floor, host_growth,
    judge, nothing_grows, suspects, unfollowed,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Upper bound on caches whose aliases are reported.
const CACHES: usize = 7;

/// What was found.
pub struct Findings {
    /// The verdict.
    pub judgement: Judgement,
    /// The sites, those with the most bytes first.
    pub sites: Vec<Found>,
}

impl Findings {
    /// Slab caches of the sites that are shown.
    pub fn caches(&self) -> BTreeSet<&str> {
        let caches = self.sites.iter().filter_map(|s| s.row.cache.as_deref());
        caches.take(CACHES).collect()
    }
}

/// The live objects of each group.
pub fn holdings(monitor: &Monitor<'_>) -> HashMap<Group, Holding> {
    let mut all: HashMap<Group, Holding> = HashMap::new();
    for site in tracked_sites(monitor) {
        let holding = all.entry(site.group()).or_default();
        holding.old += site.live[..tracker::GENERATIONS as usize - 1]
            .iter()
            .sum::<u64>();
        holding.bytes += site.row.bytes;
    }
    all
}

/// The findings so far.
pub fn conclude(monitor: &Monitor<'_>) -> Findings {
    let mut sites = tracked_sites(monitor);
    sites.extend(area_sites(monitor));
    let mut sites = merge(sites);
    sites.retain(|site| site.row.live > 0);
    sites.sort_by_key(|site| std::cmp::Reverse(site.row.bytes));
    for site in &mut sites {
        let slope = Trend::new(&site.series).map(|t| t.per_s.round() as i64);
        site.row.slope_bytes_per_s = slope;
        site.row.cohorts = cohorts(monitor, site);
        site.row.age_max_ns = site
            .row
            .cohorts
            .iter()
            .find(|c| c.live > 0)
            .map(|c| c.age_ns);
    }
    let judgement = verdict(monitor, &sites);
    let judgement = match &monitor.cut {
        Some(cut) => judgement.cut_off(cut.share, &cut.why),
        None => judgement,
    };
    Findings { judgement, sites }
}

/// The worst of all verdicts; of equal ones, that on the most bytes.
fn verdict(monitor: &Monitor<'_>, sites: &[Found]) -> Judgement {
    let evidence = evidence(monitor, sites);
    let mut judged: Vec<(Judgement, u64)> = { evidence.iter() }
        .map(|e| (judge(e), e.held_bytes))
        .collect();
    let all = suspects(&monitor.snapshots, monitor.accounting.reclaimable());
    let all = of_interest(monitor, all);
    if judged.is_empty() {
        judged.extend(nothing_grows(&all).map(|judgement| (judgement, 0)));
    }
    let nothing_followed = monitor.followed.is_empty();
    let is_refused = |s: &&Suspect| {
        let refused = monitor.refused.iter();
        { refused }.any(|follow| follow.allocator() == s.allocator)
    };
    let mut unseen = all
        .iter()
        .filter(|s| s.grows() && (nothing_followed || is_refused(s)));
    judged.extend(
        unseen
            .next()
            .map(|s| (unfollowed(s), s.trend.grown.cast_unsigned())),
    );
    let worst = judged.into_iter();
    let rank =
        |(judgement, bytes): &(Judgement, u64)| (judgement.leak, !judgement.may_be_cache, *bytes);
    let worst = worst.max_by_key(rank);
    worst.map_or_else(
        || Judgement::unknown("too few snapshots for a trend".to_owned()),
        |(judgement, _)| judgement,
    )
}

fn of_interest(monitor: &Monitor<'_>, mut all: Vec<Suspect>) -> Vec<Suspect> {
    if let Ok(Some(wanted)) = monitor.args.allocator() {
        all.retain(|s| s.allocator == wanted);
    }
    if let Some(cache) = &monitor.args.cache {
        let resolved = monitor
            .accounting
            .resolve(cache)
            .unwrap_or_else(|_| cache.clone());
        all.retain(|s| s.name.as_ref() == Some(&resolved));
    }
    // A growing process is not remarkable if something else grows.
    let kernel = |s: &Suspect| s.allocator != Allocator::User && s.grows() && !s.is_cache_like();
    if all.iter().any(kernel) {
        all.retain(|s| s.allocator != Allocator::User);
    }
    all
}

/// The evidence for each cache and for each other followed allocator; what may be cache is judged
/// separately.
fn evidence(monitor: &Monitor<'_>, sites: &[Found]) -> Vec<Evidence> {
    let mut groups: BTreeMap<Group, Vec<&Found>> = BTreeMap::new();
    for follow in &monitor.followed {
        let names = match follow {
            Follow::Slab(names) => names.iter().cloned().map(Some).collect(),
            _ => vec![None],
        };
        for name in names {
            groups.insert((follow.allocator(), name, Origin::Own), Vec::new());
        }
    }
    for site in sites {
        groups.entry(site.group()).or_default().push(site);
    }
    let stayed = stayed(monitor, &groups);
    let sum = |counts: &[(String, u64)]| counts.iter().map(|(_, n)| n).sum();
    let lost = sum(&monitor.counts.lost);
    let followed = sum(monitor.counts.done.get(..1).unwrap_or_default());
    let each = |(group, mine): (&Group, &Vec<&Found>)| Evidence {
        followed,
        lost,
        stayed: stayed.get(group).copied(),
        ..evidence_of(monitor, group, mine, sites)
    };
    // A process that was not asked for and has ended gave all memory back.
    let is_over = monitor.process.is_none() && monitor.args.pid.is_none();
    let judged = { groups.iter() }.filter(|(group, _)| group.0 != Allocator::User || !is_over);
    judged.map(each).collect()
}

/// The share of each group that stayed after reclaim, 0 to 1.
fn stayed(monitor: &Monitor<'_>, groups: &BTreeMap<Group, Vec<&Found>>) -> HashMap<Group, f64> {
    let Some(before) = &monitor.before_reclaim else {
        return HashMap::new();
    };
    let after = holdings(monitor);
    let share = |group: &Group| {
        let before = before.get(group).filter(|holding| holding.old > 0)?;
        let after = after.get(group).map_or(0, |holding| holding.old);
        Some((group.clone(), after as f64 / before.old as f64))
    };
    let tested = |group: &&Group| matches!(group.0, Allocator::Slab | Allocator::Page);
    let all = groups.keys().chain(before.keys());
    all.filter(tested).filter_map(share).collect()
}

fn evidence_of(monitor: &Monitor<'_>, group: &Group, sites: &[&Found], all: &[Found]) -> Evidence {
    let (allocator, cache, origin) = (group.0, group.1.as_deref(), group.2);
    let sum = |of: fn(&Site) -> u64| sites.iter().map(|s| of(&s.row)).sum::<u64>();
    let bytes = sum(|site| site.bytes);
    let top = sites.iter().max_by_key(|s| s.row.bytes);
    let share = |top: &Found| top.row.bytes as f64 / bytes.max(1) as f64;
    let own_cache = cache.and_then(|name| monitor.snapshots.last()?.caches.get(name).copied());
    // Objects of the same cache for another purpose. The accounting is from before reclaim.
    let is_other = |g: &Group| (g.0, g.1.as_deref()) == (allocator, cache) && g.2 != origin;
    let others: u64 = if let Some(before) = &monitor.before_reclaim {
        let others = before.iter().filter(|(g, _)| is_other(g));
        others.map(|(_, holding)| holding.bytes).sum()
    } else {
        let others = all.iter().filter(|s| is_other(&s.group()));
        others.map(|s| s.row.bytes).sum()
    };
    Evidence {
        what: subject(monitor, allocator, cache),
        site: top.map(|top| (label(&top.row.site), share(top))),
        held: sum(|site| site.live),
        floor: floor(allocator),
        held_bytes: bytes,
        // Live vmalloc areas come from the accounting itself.
        books: match allocator {
            Allocator::Vmalloc => Some(bytes.cast_signed()),
            _ => books(monitor, allocator, cache).map(|b| b - others.cast_signed()),
        },
        noise: match (cache, own_cache) {
            (Some(name), Some(cache)) => noise(name, cache),
            _ => 0,
        },
        kept: kept(sites),
        looks: monitor.snapshots.len() - monitor.since,
        unchecked: allocator == Allocator::Page
            && !monitor.tracker.as_ref().is_some_and(Tracker::checks_pages),
        trend: Trend::new(&total(sites)),
        reused: sum(|site| site.reused),
        reclaimable: cache.is_some_and(|name| monitor.accounting.reclaimable().contains(name)),
        origin,
        hosts: hosts(monitor, allocator),
        ..Evidence::default()
    }
}

/// The growth, while the allocator was followed, of objects that the kernel can reclaim (dentries,
/// inodes, pages of files).
fn hosts(monitor: &Monitor<'_>, allocator: Allocator) -> Option<u64> {
    let (first, last) = (
        monitor.snapshots.get(monitor.since)?,
        monitor.snapshots.last()?,
    );
    let growth = host_growth(first, last, monitor.accounting.reclaimable());
    growth.filter(|_| allocator != Allocator::Page)
}

fn subject(monitor: &Monitor<'_>, allocator: Allocator, cache: Option<&str>) -> String {
    match (allocator, cache, monitor.user()) {
        (Allocator::Slab, Some(name), _) => format!("slab cache {name}"),
        (Allocator::Slab, None, _) => "slab".to_owned(),
        (Allocator::Page, ..) => "pages".to_owned(),
        (Allocator::Vmalloc, ..) => "vmalloc".to_owned(),
        (Allocator::Percpu, ..) => "per-CPU memory".to_owned(),
        (Allocator::User, _, Some(pid)) => format!("process {}", monitor.name_of(pid)),
        (Allocator::User, ..) => "process".to_owned(),
    }
}

/// The growth, bytes, in the kernel's accounting while the allocator was followed.
fn books(monitor: &Monitor<'_>, allocator: Allocator, cache: Option<&str>) -> Option<i64> {
    let value = |snapshot: &Snapshot| match (allocator, cache) {
        (Allocator::Slab, Some(name)) => snapshot.caches.get(name).map(Cache::bytes),
        (Allocator::User, _) => {
            let mut followed = monitor.followed.iter();
            let bytes = |pid| snapshot.processes.get(pid).map(|p| p.bytes);
            followed.find_map(|f| match f {
                Follow::Faults(pid) => bytes(pid),
                _ => None,
            })
        }
        _ => None,
    };
    let first = value(monitor.snapshots.get(monitor.since)?)?;
    let last = value(monitor.snapshots.last()?)?;
    Some(last.cast_signed() - first.cast_signed())
}

/// Upper bound on what the CPUs keep ready of a cache, bytes.
fn noise(name: &str, cache: Cache) -> u64 {
    let cpus = libbpf_rs::num_possible_cpus().unwrap_or(1) as u64;
    cpus * accounting::ready(name, cache.per_slab) * cache.size
}

/// The share of live objects among those allocated in the older half of the time.
fn kept(sites: &[&Found]) -> Option<f64> {
    let by_generation = |of: fn(&Found) -> &[u64; 16], generation: usize| {
        sites.iter().map(|s| of(s)[generation]).sum::<u64>()
    };
    let generations = 0..tracker::GENERATIONS as usize;
    let youngest =
        { generations }.rfind(|generation| by_generation(|s| &s.allocated, *generation) > 0)?;
    let old = 0..=youngest / 2;
    let allocated: u64 = old
        .clone()
        .map(|generation| by_generation(|s| &s.allocated, generation))
        .sum();
    let live: u64 = old
        .map(|generation| by_generation(|s| &s.live, generation))
        .sum();
    (allocated > 0).then(|| (live as f64 / allocated as f64).min(1.0))
}

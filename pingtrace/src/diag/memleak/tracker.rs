//! Loads the programs that follow objects, and reads their tables.

use super::follow::Follow;
use super::programs::{self, PAGE_CHECK, has_cache_argument};
use crate::kernel::confine::keeper;
use crate::kernel::features;
use crate::kernel::ids::Ids;
use crate::kernel::map;
use crate::kernel::meter::{self, Programs};
use crate::kernel::object::{self, Refusal, Storage, Storages};
use anyhow::{Context, Result};
use bpf::memleak::types::{ml_class, ml_count, ml_key, ml_kind, ml_outstanding, ml_site};
use bpf::memleak::{MemleakSkel, MemleakSkelBuilder, OpenMemleakSkel};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, UprobeOpts};
use report::companion::memleak::Cache;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Number of generations of objects.
pub const GENERATIONS: u32 = 16;
/// Upper bound on single caches that can be followed; more means all.
pub const CACHES: usize = 8;
/// Bytes of a cache's name that are compared; longer names are cut.
const NAME: usize = 31;

/// How objects are followed.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The stack is taken of one in this many slab objects, and of the first of each site.
    pub stack_rate: u32,
    /// Upper bound on objects followed at once.
    pub objects: u32,
    /// /proc/slabinfo: sizes of caches.
    pub caches: &'a BTreeMap<String, Cache>,
}

/// A site's name in the tables: the call site or the stack's hash, and the cache or the size.
pub type Key = (u64, u64);

/// A site as the programs count it.
#[derive(Clone, Debug)]
pub struct RawSite {
    /// Its key.
    pub key: Key,
    /// The kind of memory.
    pub kind: ml_kind,
    /// Of a stack: the key of its site.
    pub above: Key,
    /// The address of the caller; 0 if only the stack says it.
    pub call_site: u64,
    /// Bytes of an object; 0 if they differ.
    pub size: u64,
    /// Charged to a cgroup.
    pub account: bool,
    /// The cache.
    pub name: String,
    /// Allocations since the start.
    pub allocs: u64,
    /// Bytes of live objects.
    pub bytes: u64,
    /// Addresses that were allocated again before their free was seen.
    pub reused: u64,
    /// Objects allocated, by generation.
    pub allocated: [u64; GENERATIONS as usize],
    /// Live objects, by generation.
    pub live: [u64; GENERATIONS as usize],
    /// Addresses of the stack, the innermost first.
    pub frames: Vec<u64>,
}

impl RawSite {
    /// Live objects of all generations.
    pub fn live(&self) -> u64 {
        self.live.iter().sum()
    }
}

/// What the programs counted, by name.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// What they counted.
    pub done: Vec<(String, u64)>,
    /// What they lost.
    pub lost: Vec<(String, u64)>,
}

/// The attached programs.
pub struct Tracker<'a> {
    skel: MemleakSkel<'a>,
    programs: Programs,
    names_caches: bool,
    /// Finds the pages that are still in use, if the kernel allows the program.
    page_check: Option<Link>,
    /// Detached on drop.
    links: Vec<Link>,
}

impl<'a> Tracker<'a> {
    /// Loads and attaches what is needed, without the programs that the kernel refuses: `None` if
    /// nothing can be followed then. An error has another cause than a refused program.
    pub fn start(
        [first, second]: &'a mut Storages,
        what: &[Follow],
        options: &Options<'_>,
    ) -> Result<(Option<Self>, Vec<Refusal>)> {
        let mut what = what.to_vec();
        let all = programs::needed_by_all(&what);
        let mut refusals = Vec::new();
        let skel = match load(first, &all, &what, options) {
            Ok(skel) => skel,
            Err(e) => {
                let alone = Options {
                    objects: 1,
                    ..*options
                };
                refusals = object::find_refused(&all, |name| {
                    load(&mut Storage::uninit(), &[name], &what, &alone).map(drop)
                });
                if refusals.is_empty() {
                    return Err(e);
                }
                what.retain(|follow| !programs::is_blind(follow, &refusals));
                if what.is_empty() {
                    return Ok((None, refusals));
                }
                let mut rest = programs::needed_by_all(&what);
                rest.retain(|name| !refusals.iter().any(|r| r.program == *name));
                load(second, &rest, &what, options)?
            }
        };
        let mut tracker = Self {
            programs: meter::loaded(skel.object()),
            skel,
            names_caches: has_cache_argument(features::known(), "kmem_cache_alloc"),
            page_check: None,
            links: Vec::new(),
        };
        for follow in &what {
            match tracker.attach(follow) {
                Ok(links) => tracker.links.extend(links),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if let Err(refusal) = tracker.attach_page_check() {
            refusals.push(refusal);
        }
        let follows = !tracker.links.is_empty();
        Ok((follows.then_some(tracker), refusals))
    }

    /// Programs for frees are attached first: a free of an unknown object does no harm.
    fn attach(&self, follow: &Follow) -> Result<Vec<Link>, Refusal> {
        if let Follow::Malloc(pid) = follow {
            return self.attach_malloc(*pid);
        }
        let mut names = programs::needed_by(follow);
        names.retain(|name| *name != PAGE_CHECK);
        names.sort_by_key(|name| !name.contains("free"));
        let attach = |name| object::attach_by_name(self.skel.object(), name);
        names.into_iter().map(attach).collect()
    }

    fn attach_malloc(&self, pid: u32) -> Result<Vec<Link>, Refusal> {
        let library = c_library(pid);
        let library =
            library.map_err(|e| Refusal::new("ml_malloc", "attach", &format!("{e:#}")))?;
        let progs = &self.skel.progs;
        let probes = [
            (&progs.ml_free, "free", false),
            (&progs.ml_malloc_returns, "malloc", true),
            (&progs.ml_malloc_returns, "calloc", true),
            (&progs.ml_malloc_returns, "realloc", true),
            (&progs.ml_malloc, "malloc", false),
            (&progs.ml_calloc, "calloc", false),
            (&progs.ml_realloc, "realloc", false),
        ];
        let attach = |(program, function, retprobe): (&libbpf_rs::ProgramMut<'_>, &str, bool)| {
            let options = UprobeOpts {
                retprobe,
                func_name: Some(function.to_owned()),
                ..UprobeOpts::default()
            };
            let attached = program.attach_uprobe_with_opts(pid.cast_signed(), &library, 0, options);
            let step = format!("attach to {function} in {}", library.display());
            attached.map_err(|e| Refusal::new(&program.name().to_string_lossy(), &step, &e))
        };
        probes.into_iter().map(attach).collect()
    }

    fn attach_page_check(&mut self) -> Result<(), Refusal> {
        let program = &self.skel.progs.ml_page_check;
        if program.autoload() {
            let link = program.attach_iter(self.skel.maps.outstanding.as_fd());
            let link = link.map_err(|e| Refusal::new(PAGE_CHECK, "attach", &e))?;
            self.page_check = Some(link);
        }
        Ok(())
    }

    /// The programs, for their cost.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Whether allocations report their cache; then only kmalloc's sites have a size class.
    pub fn names_caches(&self) -> bool {
        self.names_caches
    }

    /// Puts objects allocated from now on into this generation.
    pub fn set_generation(&mut self, generation: u32) {
        if let Some(bss) = self.skel.maps.bss_data.as_deref_mut() {
            bss.generation = generation;
        }
    }

    /// All sites, and stacks below sites.
    pub fn sites(&self) -> Result<Vec<RawSite>> {
        let sites = map::entries::<ml_key, ml_site>(&self.skel.maps.sites);
        sites
            .map(|entry| entry.map(|(key, site)| raw_site(&key, &site)))
            .collect()
    }

    /// All objects: address, site and generation.
    pub fn objects(&self) -> Result<Vec<(u64, Key, u32)>> {
        let objects = map::entries::<u64, ml_outstanding>(&self.skel.maps.outstanding);
        let one = |(address, object): (u64, ml_outstanding)| {
            let site = (object.site.r#where, object.site.what);
            (address, site, object.generation)
        };
        objects.map(|entry| entry.map(one)).collect()
    }

    /// Removes pages without references from the tables: their free was not seen.
    pub fn check_pages(&mut self) -> Result<(), Refusal> {
        let Some(link) = &self.page_check else {
            return Ok(());
        };
        let run = || -> Result<()> {
            Iter::new(link)?.read_to_end(&mut Vec::new())?;
            Ok(())
        };
        let checked = run().map_err(|e| Refusal::new(PAGE_CHECK, "run", &format!("{e:#}")));
        if checked.is_err() {
            self.page_check = None;
        }
        checked
    }

    /// Whether [`check_pages`](Self::check_pages) does anything.
    pub fn checks_pages(&self) -> bool {
        self.page_check.is_some()
    }

    /// The counts so far.
    pub fn counts(&self) -> Result<Counts> {
        let count = |which: ml_count| -> Result<u64> {
            let key = which.0.to_ne_bytes();
            let cpus = self.skel.maps.counts.lookup_percpu(&key, MapFlags::ANY);
            let cpus = cpus.context("read the counts")?.unwrap_or_default();
            Ok(cpus.iter().map(|value| map::value::<u64>(value)).sum())
        };
        let named = |names: &[(&str, ml_count)]| -> Result<Vec<(String, u64)>> {
            let one = |(name, which): &(&str, ml_count)| Ok(((*name).to_owned(), count(*which)?));
            names.iter().map(one).collect()
        };
        let mut lost = named(&[
            ("objects_full", ml_count::ML_OUTSTANDING_FULL),
            ("sites_full", ml_count::ML_SITES_FULL),
            ("no_stack", ml_count::ML_NO_STACK),
        ])?;
        lost.push(("nested".to_owned(), meter::missed(&self.programs)));
        lost.retain(|(_, count)| *count > 0);
        let done = named(&[
            ("allocated", ml_count::ML_ALLOCS),
            ("freed", ml_count::ML_FREES),
            ("older_freed", ml_count::ML_OLDER),
            ("unseen_frees", ml_count::ML_REUSED),
        ])?;
        Ok(Counts { done, lost })
    }
}

fn raw_site(key: &ml_key, site: &ml_site) -> RawSite {
    let name = site.name.iter().take_while(|c| **c != 0);
    // A free may be booked before its allocation: below 0 for a moment.
    let positive = |n: &u32| u64::try_from(n.cast_signed()).unwrap_or(0);
    RawSite {
        key: (key.r#where, key.what),
        kind: site.kind,
        above: (site.above.r#where, site.above.what),
        call_site: site.call_site,
        size: site.size,
        account: site.account != 0,
        name: name.map(|c| *c as u8 as char).collect(),
        allocs: site.allocs,
        bytes: u64::try_from(site.bytes.cast_signed()).unwrap_or(0),
        reused: site.reused,
        allocated: site.allocated.map(u64::from),
        live: std::array::from_fn(|k| positive(&site.live[k])),
        frames: site
            .frames
            .iter()
            .copied()
            .take_while(|a| *a != 0)
            .collect(),
    }
}

/// Loads these programs.
fn load<'a>(
    storage: &'a mut Storage,
    names: &[&str],
    what: &[Follow],
    options: &Options<'_>,
) -> Result<MemleakSkel<'a>> {
    object::load(
        "the programs that follow allocations",
        MemleakSkelBuilder::default(),
        storage,
        |name| names.contains(&name),
        |open| configure(open, what, options),
    )
}

fn configure(open: &mut OpenMemleakSkel<'_>, what: &[Follow], options: &Options<'_>) -> Result<()> {
    let rodata = open.maps.rodata_data.as_deref_mut();
    let rodata = rodata.context("the object has no .rodata")?;
    rodata.page_size = rustix::param::page_size() as u32;
    rodata.possible_cpus = libbpf_rs::num_possible_cpus().context("count the CPUs")? as u32;
    rodata.stack_rate = options.stack_rate;
    rodata.gfp_account = GFP_ACCOUNT;
    rodata.all = true;
    for follow in what {
        match follow {
            Follow::Slab(names) if !names.is_empty() => {
                rodata.all = false;
                let sized = !has_cache_argument(features::known(), "kmem_cache_alloc");
                for (k, name) in names.iter().take(CACHES).enumerate() {
                    let cuts = name.bytes().take(NAME).enumerate();
                    cuts.for_each(|(at, c)| rodata.wanted[k][at] = c.cast_signed());
                    if sized || name.contains("kmalloc-") {
                        rodata.classes[k] = class(name, options.caches);
                    }
                }
            }
            Follow::Page => rodata.slab_pages = slab_functions(),
            Follow::Faults(pid) | Follow::Malloc(pid) => {
                let tgid = Ids::read()?.kernel(*pid);
                rodata.tgid_wanted = tgid.context("the process (-p) has ended")?;
            }
            _ => {}
        }
    }
    let outstanding = open.maps.outstanding.set_max_entries(options.objects);
    outstanding.context("set the size of the table of objects")
}

/// `include/linux/gfp_types.h`: the places of 5.10 to 7.2.
const GFP_DMA: u32 = 0x01;
const GFP_RECLAIMABLE: u32 = 0x10;
const GFP_ACCOUNT: u32 = 1 << 22;

/// How kmalloc chooses among its caches of a size (`include/linux/slab.h`, `kmalloc_type`).
fn class(name: &str, caches: &BTreeMap<String, Cache>) -> ml_class {
    let has = |kind: &str| caches.keys().any(|c| c.starts_with(kind));
    let account = if has("kmalloc-cg-") { GFP_ACCOUNT } else { 0 };
    let chooses = GFP_DMA | GFP_RECLAIMABLE | account;
    let (mask, gfp) = if name.starts_with("kmalloc-cg-") {
        (chooses, account)
    } else if name.starts_with("kmalloc-rcl-") {
        (GFP_DMA | GFP_RECLAIMABLE, GFP_RECLAIMABLE)
    } else if name.starts_with("dma-kmalloc-") {
        (GFP_DMA, GFP_DMA)
    } else if name.starts_with("kmalloc-") {
        (chooses, 0)
    } else {
        (0, 0)
    };
    ml_class {
        bytes: caches.get(name).map_or(0, |c| c.size),
        mask,
        gfp,
    }
}

/// The functions in which the slab allocator allocates pages, from /proc/kallsyms; empty if hidden.
fn slab_functions() -> [[u64; 2]; 2] {
    slab_functions_in(&keeper::run(|| fs::read_to_string("/proc/kallsyms")).unwrap_or_default())
}

/// The same of the text of /proc/kallsyms.
pub(crate) fn slab_functions_in(text: &str) -> [[u64; 2]; 2] {
    let address = |line: &str| u64::from_str_radix(line.split(' ').next()?, 16).ok();
    // Of modules there is none among these.
    let kernel = text.lines().filter(|l| !l.contains('['));
    let mut addresses: Vec<u64> = kernel.filter_map(address).collect();
    addresses.sort_unstable();
    let range = |name: &str| {
        let line = text.lines().find(|l| l.split(' ').nth(2) == Some(name))?;
        let from = address(line).filter(|a| *a != 0)?;
        let next = addresses.partition_point(|a| *a <= from);
        Some([from, *addresses.get(next)?])
    };
    let found = ["allocate_slab", "new_slab"].map(range);
    let inlined = ["___slab_alloc", "__slab_alloc"].map(range);
    [0, 1].map(|k| found[k].or(inlined[k]).unwrap_or_default())
}

/// The C library of a process, or the program itself if it is linked statically.
fn c_library(pid: u32) -> Result<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
    let maps = maps.with_context(|| format!("read the mappings of process {pid}"))?;
    Ok(match c_library_in(&maps) {
        Some(path) => PathBuf::from(format!("/proc/{pid}/root{path}")),
        None => PathBuf::from(format!("/proc/{pid}/exe")),
    })
}

/// The path of the C library in the text of /proc/PID/maps.
pub(crate) fn c_library_in(maps: &str) -> Option<&str> {
    let mut paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let is_libc = |path: &&str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.starts_with("libc.so") || file.starts_with("libc-") || file.starts_with("ld-musl")
    };
    paths.find(is_libc)
}

//! Which pages of a process are still there: /proc/PID/pagemap (admin-guide/mm/pagemap.rst).
//!
//! A page fault shows which code touched a page first, but no tracepoint shows its free, so the present
//! pages are looked up at the end. With huge pages one fault maps many pages: the whole folio counts for
//! the first touch.

use super::tracker::{GENERATIONS, Key, RawSite, Tracker};
use anyhow::{Context, Result};
use bpf::memleak::types::ml_kind;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
const PFN: u64 = (1 << 55) - 1;
/// /proc/kpageflags, `include/uapi/linux/kernel-page-flags.h`.
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;
const THP: u64 = 1 << 22;
/// Pages of the largest folio considered.
const LARGEST: u64 = 512;

/// The pages of a process.
struct Pages {
    map: File,
    /// /proc/kpageflags; `None` if it cannot be read: then each page counts by itself.
    flags: Option<File>,
    page_size: u64,
    folios: HashSet<u64>,
}

impl Pages {
    /// Opens the page map of a running process.
    fn open(pid: u32) -> Result<Self> {
        let map = format!("/proc/{pid}/pagemap");
        Ok(Self {
            map: File::open(&map).with_context(|| format!("open {map} (root may)"))?,
            flags: File::open("/proc/kpageflags").ok(),
            page_size: rustix::param::page_size() as u64,
            folios: HashSet::new(),
        })
    }

    /// Bytes mapped by the first touch of this address that are still present; 0 for pages of files and
    /// for a folio that was counted before.
    fn bytes(&mut self, address: u64) -> u64 {
        let entry = word(&self.map, address / self.page_size).unwrap_or(0);
        if entry & (PRESENT | SWAPPED) == 0 || entry & OF_FILE != 0 {
            return 0;
        }
        if entry & SWAPPED != 0 {
            return self.page_size;
        }
        self.folio(entry & PFN) * self.page_size
    }

    /// Number of pages of the folio that contains this page.
    fn folio(&mut self, pfn: u64) -> u64 {
        let flags = |pfn| self.flags.as_ref().and_then(|f| word(f, pfn)).unwrap_or(0);
        if pfn == 0 || flags(pfn) & THP == 0 {
            return 1;
        }
        let back = (0..LARGEST.min(pfn)).map(|n| pfn - n);
        let head = { back }
            .find(|pfn| flags(*pfn) & COMPOUND_HEAD != 0)
            .unwrap_or(pfn);
        let tails = (1..LARGEST).take_while(|n| flags(head + n) & COMPOUND_TAIL != 0);
        let pages = 1 + tails.count() as u64;
        if self.folios.insert(head) { pages } else { 0 }
    }
}

/// Keeps, of the pages that this process touched, those that are still present.
pub fn only_present(tracker: &Tracker<'_>, pid: u32, raw: &mut [RawSite]) -> Result<()> {
    let mut pages = Pages::open(pid)?;
    let mut live: HashMap<Key, (u64, [u64; GENERATIONS as usize])> = HashMap::new();
    for (address, site, generation) in tracker.objects()? {
        let bytes = pages.bytes(address);
        let (sum, generations) = live.entry(site).or_default();
        *sum += bytes;
        generations[generation as usize % generations.len()] += u64::from(bytes > 0);
    }
    for site in raw.iter_mut().filter(|s| s.kind == ml_kind::ML_FAULT) {
        (site.bytes, site.live) = live.get(&site.key).copied().unwrap_or_default();
    }
    Ok(())
}

fn word(file: &File, index: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, index * 8).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

//! The kernel's accounting of its memory at a moment.

use std::collections::BTreeMap;

/// The kernel's accounting at a moment. Parts that were not read are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When, `CLOCK_MONOTONIC` ns.
    pub ns: u64,
    /// /proc/meminfo, bytes.
    pub meminfo: BTreeMap<String, u64>,
    /// Unused dentries and inodes: /proc/sys/fs/dentry-state and inode-state.
    pub unused: Option<u64>,
    /// /proc/slabinfo by name.
    pub caches: BTreeMap<String, Cache>,
    /// /proc/vmallocinfo.
    pub areas: Vec<Area>,
    /// /proc/PID/status.
    pub processes: BTreeMap<u32, Process>,
}

/// A cache of the slab allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// Objects in use. What a CPU keeps ready counts as in use.
    pub active: u64,
    /// Bytes of one.
    pub size: u64,
    /// Objects of one slab.
    pub per_slab: u64,
    /// Slabs, each with a vector of its own where objects are charged to cgroups.
    pub slabs: u64,
}

impl Cache {
    /// Of all objects in use.
    pub fn bytes(&self) -> u64 {
        self.active.saturating_mul(self.size)
    }
}

/// An area of vmalloc.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Area {
    /// Begin and end as the kernel prints them: perhaps hashed, but constant as long as the area lives.
    pub range: String,
    /// The function that allocated it, `function+0x12/0x34`.
    pub caller: String,
    /// Of its pages.
    pub bytes: u64,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its name.
    pub comm: String,
    /// Anonymous memory, resident or swapped out, bytes.
    pub bytes: u64,
}

/// /proc/meminfo in bytes.
pub fn meminfo(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let mut words = value.split_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let scale = if words.next() == Some("kB") { 1024 } else { 1 };
        Some((name.to_owned(), number.checked_mul(scale)?))
    };
    text.lines().filter_map(line).collect()
}

/// /proc/slabinfo, version 2.1 (`mm/slab_common.c`); an error names the invalid line.
pub fn slabinfo(text: &str) -> Result<BTreeMap<String, Cache>, String> {
    let lines = text
        .lines()
        .skip_while(|l| l.starts_with("slabinfo") || l.starts_with('#'));
    let cache = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let mut number = || words.next()?.parse().ok();
        let (active, _all, size, per_slab) = (number()?, number()?, number()?, number()?);
        let after = line.split_once(" slabdata")?.1;
        let cache = Cache {
            active,
            size,
            per_slab,
            slabs: after.split_whitespace().nth(1)?.parse().ok()?,
        };
        Some((name, cache))
    };
    lines
        .map(|line| cache(line).ok_or_else(|| format!("'{line}' is no line of slabinfo 2.1")))
        .collect()
}

/// Unused dentries and inodes, of /proc/sys/fs/dentry-state and inode-state (`fs/dcache.c`,
/// `fs/inode.c`): each second number.
pub fn unused(dentry_state: &str, inode_state: &str) -> Option<u64> {
    let second = |text: &str| text.split_whitespace().nth(1)?.parse::<u64>().ok();
    second(dentry_state)?.checked_add(second(inode_state)?)
}

/// /proc/vmallocinfo: the areas that have pages of their own.
pub fn vmallocinfo(text: &str, page_size: u64) -> Vec<Area> {
    let area = |line: &str| {
        let mut words = line.split_whitespace();
        let (range, _size, caller) = (words.next()?, words.next()?, words.next()?);
        let pages: u64 = words.find_map(|w| w.strip_prefix("pages=")?.parse().ok())?;
        Some(Area {
            range: range.to_owned(),
            caller: caller.to_owned(),
            bytes: pages.checked_mul(page_size)?,
        })
    };
    text.lines().filter_map(area).collect()
}

/// /proc/PID/status; `None` of a kernel thread, which has no memory.
pub fn status(text: &str) -> Option<Process> {
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
    };
    let kib = |name: &str| field(name)?.split_whitespace().next()?.parse::<u64>().ok();
    Some(Process {
        comm: field("Name")?.trim().to_owned(),
        bytes: kib("RssAnon")?
            .checked_add(kib("VmSwap").unwrap_or(0))?
            .checked_mul(1024)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
eventpoll_epi        463    512    128   32    1 : tunables    0    0    0 : slabdata     16     16      0
kmalloc-64          2048   2048     64   64    1 : tunables    0    0    0 : slabdata     32     32      0
";

    #[test]
    fn slabinfo_is_read_or_the_line_is_named() {
        let caches = slabinfo(SLABINFO).unwrap();
        let epi = caches["eventpoll_epi"];
        assert_eq!((epi.active, epi.size, epi.per_slab), (463, 128, 32));
        assert_eq!(epi.slabs, 16);
        assert_eq!(caches["kmalloc-64"].bytes(), 131_072);
        let error = slabinfo("slabinfo - version: 2.1\nnonsense 1 x\n").unwrap_err();
        assert!(error.contains("'nonsense 1 x'"), "{error}");
    }

    /// Files that a container's runtime, not the kernel, has made up.
    #[test]
    fn numbers_that_no_kernel_has_are_no_numbers() {
        let max = u64::MAX;
        assert!(meminfo(&format!("MemTotal: {max} kB\n")).is_empty());
        assert_eq!(unused(&format!("1 {max}"), "1 1"), None);
        assert_eq!(status(&format!("Name: x\nRssAnon: {max} kB\n")), None);
        let area = format!("0x1-0x2 4096 f+0x1/0x2 pages={max} vmalloc\n");
        assert!(vmallocinfo(&area, 4096).is_empty());
        let cache = Cache {
            active: max,
            size: 2,
            ..Cache::default()
        };
        assert_eq!(cache.bytes(), max);
    }

    #[test]
    fn unused_are_dentries_and_inodes() {
        let (dentries, inodes) = ("122650\t120944\t45\t0\t18294\t0\n", "103779\t55\t0\t0\n");
        assert_eq!(unused(dentries, inodes), Some(120_999));
        assert_eq!(unused(dentries, ""), None);
    }

    #[test]
    fn only_areas_with_pages_are_memory() {
        let text = "\
0x0000000033bb7fda-0x000000009ffc7421   20480 irq_init_percpu_irqstack+0xca/0x100 vmap
0x00000000f4042b6c-0x00000000088f69f4   12288 acpi_os_map_iomem+0x1bc/0x1e0 phys=0x9f000 ioremap
0x00000000d5b9e98b-0x00000000d7b489e4   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4
";
        let areas = vmallocinfo(text, 4096);
        assert_eq!(areas.len(), 1);
        assert_eq!(areas[0].caller, "kernel_clone+0x94/0x3e0");
        assert_eq!(areas[0].bytes, 16384);
    }

    #[test]
    fn meminfo_is_in_bytes() {
        let info = meminfo("MemTotal:       24684084 kB\nHugePages_Total:       3\n");
        assert_eq!(info["MemTotal"], 24_684_084 * 1024);
        assert_eq!(info["HugePages_Total"], 3);
    }

    #[test]
    fn anonymous_memory_of_a_process_counts_swapped_out_too() {
        let text = "Name:\tweb server\nVmRSS:\t900 kB\nRssAnon:\t 100 kB\nVmSwap:\t 20 kB\n";
        let process = status(text).unwrap();
        assert_eq!(
            (process.comm.as_str(), process.bytes),
            ("web server", 120 * 1024)
        );
        assert_eq!(status("Name:\tkthreadd\n"), None);
    }
}

//! The kernel programs: selects those that fit this kernel, and reads the counts of a cycle.

use super::args::Mode;
use crate::kernel::features::{self, Features, Parameter};
use crate::kernel::ids::Ids;
use crate::kernel::map;
use crate::kernel::meter::{self, Programs as Loaded};
use crate::kernel::object::{self, Storage};
use anyhow::{Context, Result};
use bpf::Plain;
use bpf::iofsstat::types::{
    io_file_key, io_losses, io_notes, io_part, io_part_key, io_path, io_process, io_row,
    io_row_key, io_use, io_use_key,
};
use bpf::iofsstat::{IofsstatSkel, IofsstatSkelBuilder, OpenIofsstatSkel};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, MapCore};
use report::companion::iofsstat::Reading;
use report::companion::iofsstat::diskstats::{self, Device};
use rustix::thread::{MembarrierCommand, membarrier};
use std::fs;
use std::thread;
use std::time::Duration;

/// Bounds on remembered dirty folios, 72 bytes each.
const PAGES: (u32, u32) = (1 << 16, 1 << 20);
/// Time after which programs are done if the kernel cannot tell.
const DONE_AFTER: Duration = Duration::from_millis(20);

/// Programs of block mode.
const BLOCK: [&str; 5] = [
    "on_bio_queue",
    "on_split",
    "on_rq_issue",
    "on_rq_complete",
    "on_bio_complete",
];

/// Whether the programs know the system calls of this architecture.
const CALLS: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The loaded and attached programs.
pub struct Programs<'a> {
    skel: IofsstatSkel<'a>,
    _links: Vec<Link>,
    loaded: Loaded,
    epoch: u32,
    /// What cannot be counted on this kernel, and why.
    pub blind: Vec<String>,
}

/// What was counted from one cut to the next.
pub struct Taken {
    /// Requests.
    pub rows: Vec<(io_row_key, io_row)>,
    /// Bytes by the owner of the pages.
    pub parts: Vec<(io_part_key, io_part)>,
    /// Calls.
    pub uses: Vec<(io_use_key, io_use)>,
    /// The devices' counters just before and just after the cut.
    pub devices: Vec<(Device, Reading)>,
}

impl<'a> Programs<'a> {
    /// Loads and attaches what the mode needs; nothing is counted before the first cut.
    pub fn attach(storage: &'a mut Storage, mode: Mode, ids: &Ids) -> Result<Self> {
        let kernel = Kernel::new(features::running()?);
        let (wanted, blind) = kernel.programs(mode);
        let skel = object::load(
            "the programs of iofsstat",
            IofsstatSkelBuilder::default(),
            storage,
            |name| wanted.contains(&name),
            |open| configure(open, &kernel, mode, ids),
        )?;
        let programs = skel.object().progs_mut().filter(|p| p.autoload());
        let links: Result<Vec<Link>, _> = programs.map(|p| object::attach(&p)).collect();
        let links = links?;
        let loaded = meter::loaded(skel.object());
        Ok(Self {
            skel,
            _links: links,
            loaded,
            epoch: 0,
            blind,
        })
    }

    fn bss(&self) -> &bpf::iofsstat::types::bss {
        self.skel
            .maps
            .bss_data
            .as_deref()
            .expect("libbpf maps .bss")
    }

    /// Begins a new epoch, and takes what was counted in the last one.
    pub fn cut(&mut self) -> Result<Taken> {
        let last = self.epoch;
        let before = read_devices()?;
        self.epoch += 1;
        let bss = self.skel.maps.bss_data.as_deref_mut();
        bss.expect("libbpf maps .bss").epoch = self.epoch;
        let after = read_devices()?;
        wait_for_programs();
        let maps = &self.skel.maps;
        Ok(Taken {
            rows: take(&maps.rows, |key: &io_row_key| key.epoch == last)?,
            parts: take(&maps.parts, |key: &io_part_key| key.epoch == last)?,
            uses: take(&maps.uses, |key: &io_use_key| key.epoch == last)?,
            devices: pair(&before, after),
        })
    }

    /// Losses so far.
    pub fn losses(&self) -> io_losses {
        self.bss().losses
    }

    /// Blind spots met so far.
    pub fn notes(&self) -> io_notes {
        self.bss().notes
    }

    /// The programs, for their cost.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Runs of programs that the kernel skipped because they would have interrupted themselves.
    pub fn missed(&self) -> u64 {
        meter::missed(&self.loaded)
    }

    /// What the programs saw of a process.
    pub fn process(&self, who: u64) -> Option<io_process> {
        map::look_up(&self.skel.maps.processes, &who).ok()?
    }

    /// What the programs saw of a file's path.
    pub fn path(&self, inode: u64, fs: u32) -> Option<io_path> {
        let key = io_file_key {
            inode,
            fs,
            ..io_file_key::default()
        };
        map::look_up(&self.skel.maps.files, &key).ok()?
    }
}

fn configure(
    open: &mut OpenIofsstatSkel<'_>,
    kernel: &Kernel,
    mode: Mode,
    ids: &Ids,
) -> Result<()> {
    let rodata = open.maps.rodata_data.as_deref_mut();
    let rodata = rodata.context("the object has no .rodata")?;
    rodata.bio_queue_second = kernel.bio_queue_second;
    rodata.rq_issue_second = kernel.rq_issue_second;
    rodata.split_second = kernel.split_second;
    rodata.uring_layout = kernel.uring_layout;
    rodata.page_shift = rustix::param::page_size().trailing_zeros();
    rodata.split_writes = mode == Mode::Misc;
    rodata.count_files = mode == Mode::Files;
    rodata.own_tgid = ids.process()?;
    let pages = if mode == Mode::Misc { dirty_limit() } else { 1 };
    open.maps
        .owners
        .set_max_entries(pages)
        .context("size the table of dirty pages")
}

/// Folios that may be dirty at once, by the kernel's own limit.
fn dirty_limit() -> u32 {
    dirty_limit_in(&fs::read_to_string("/proc/vmstat").unwrap_or_default())
}

/// The same of the text of /proc/vmstat.
pub(crate) fn dirty_limit_in(text: &str) -> u32 {
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("nr_dirty_threshold "));
    let pages = line.and_then(|n| n.parse().ok()).unwrap_or(PAGES.1);
    pages.clamp(PAGES.0, PAGES.1)
}

/// Waits until every program that began in the last epoch is done with it.
fn wait_for_programs() {
    // They run as RCU readers, and this waits for all of those.
    if membarrier(MembarrierCommand::Global).is_err() {
        thread::sleep(DONE_AFTER);
    }
}

fn read_devices() -> Result<Vec<Device>> {
    let path = "/proc/diskstats";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    diskstats::parse(&text).with_context(|| format!("read {path}"))
}

/// Devices that were there at both readings.
fn pair(before: &[Device], after: Vec<Device>) -> Vec<(Device, Reading)> {
    let with_reading = |device: Device| {
        let same = |d: &&Device| (d.major, d.minor) == (device.major, device.minor);
        let reading = Reading {
            before: before.iter().find(same)?.counters,
            after: device.counters,
        };
        Some((device, reading))
    };
    after.into_iter().filter_map(with_reading).collect()
}

/// Takes the entries of a finished epoch out of a map.
fn take<K: Plain, V: Plain>(
    table: &impl MapCore,
    is_over: impl Fn(&K) -> bool,
) -> Result<Vec<(K, V)>> {
    let keys: Vec<K> = map::keys(table).filter(is_over).collect();
    let mut taken = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = map::look_up(table, &key)? {
            let removed = table.delete(map::bytes(&key));
            removed.with_context(|| format!("empty the map {}", table.name().display()))?;
            taken.push((key, value));
        }
    }
    Ok(taken)
}

/// The layout of this kernel's tracepoints.
struct Kernel {
    /// A queue comes before the bio.
    bio_queue_second: bool,
    /// A queue comes before the request.
    rq_issue_second: bool,
    /// A queue comes before the bio.
    split_second: bool,
    /// See `uring_layout` in the programs.
    uring_layout: u32,
    /// The program for dirtied pages: by folio or by page.
    dirty: &'static str,
}

impl Kernel {
    fn new(kernel: &Features) -> Self {
        let first_is_queue = |tracepoint| kernel.points_to(tracepoint, 0, "request_queue");
        Self {
            bio_queue_second: first_is_queue("block_bio_queue"),
            rq_issue_second: first_is_queue("block_rq_issue"),
            split_second: first_is_queue("block_split"),
            uring_layout: uring_layout(kernel.parameters("io_uring_complete")),
            dirty: if kernel.has_tracepoint("writeback_dirty_folio") {
                "on_dirty_folio"
            } else {
                "on_dirty_page"
            },
        }
    }

    /// The programs of a mode, and notes on what this kernel cannot show.
    fn programs(&self, mode: Mode) -> (Vec<&'static str>, Vec<String>) {
        let mut blind = Vec::new();
        let mut wanted = match mode {
            Mode::Block => BLOCK.to_vec(),
            Mode::Misc => [&BLOCK[..], &[self.dirty, "on_forget_folio"]].concat(),
            Mode::Files => vec![self.dirty, "on_add_folio"],
        };
        if mode == Mode::Files {
            if CALLS {
                wanted.push("on_sys_exit");
            } else {
                blind.push("not counted on this architecture: system calls".to_owned());
            }
            if self.uring_layout > 0 {
                wanted.push("on_uring_complete");
            } else {
                blind.push("not counted on this kernel: io_uring (Linux 5.19 or newer)".to_owned());
            }
        }
        (wanted, blind)
    }
}

/// `(ctx, request, user_data, result, ...)` since 5.19, `(ctx, request, entry)` since 6.14; earlier
/// kernels do not pass the request.
fn uring_layout(parameters: &[Parameter]) -> u32 {
    use Parameter::{Struct, Value};
    match parameters {
        [_, Value, ..] => 0,
        [_, _, Struct(entry)] if entry == "io_uring_cqe" => 2,
        [_, _, Value, Value, ..] => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_follow_the_kernel() {
        let old = Features::made_up(
            (5, 10),
            &[
                ("block_bio_queue", &["*request_queue", "*bio"]),
                ("block_rq_issue", &["*request_queue", "*request"]),
                ("block_split", &["*request_queue", "*bio", ""]),
                ("io_uring_complete", &["*", "", "", ""]),
                ("writeback_dirty_page", &["*page", "*address_space"]),
            ],
        );
        let old = Kernel::new(&old);
        assert!(old.bio_queue_second && old.rq_issue_second && old.split_second);
        let (wanted, blind) = old.programs(Mode::Files);
        assert!(wanted.contains(&"on_dirty_page"), "{wanted:?}");
        assert!(!wanted.contains(&"on_uring_complete"), "{wanted:?}");
        assert!(
            blind.iter().any(|note| note.contains("io_uring")),
            "{blind:?}"
        );

        let new = Features::made_up(
            (6, 18),
            &[
                ("block_bio_queue", &["*bio"]),
                ("block_rq_issue", &["*request"]),
                ("block_split", &["*bio", ""]),
                ("io_uring_complete", &["*io_ring_ctx", "*", "*io_uring_cqe"]),
                ("writeback_dirty_folio", &["*folio", "*address_space"]),
            ],
        );
        let new = Kernel::new(&new);
        assert!(!new.bio_queue_second && !new.rq_issue_second && !new.split_second);
        let (wanted, blind) = new.programs(Mode::Files);
        assert!(wanted.contains(&"on_dirty_folio"), "{wanted:?}");
        assert!(wanted.contains(&"on_uring_complete"), "{wanted:?}");
        assert!(blind.is_empty() || !CALLS, "{blind:?}");
    }

    #[test]
    fn completions_of_io_uring_have_three_layouts() {
        let layout = |version, parameters: &[&str]| {
            let kernel = Features::made_up(version, &[("io_uring_complete", parameters)]);
            uring_layout(kernel.parameters("io_uring_complete"))
        };
        assert_eq!(layout((5, 10), &["*", "", "", ""]), 0);
        assert_eq!(layout((5, 19), &["*", "*", "", "", "", "", ""]), 1);
        let pointers = ["*io_ring_ctx", "*", "*io_uring_cqe"];
        assert_eq!(layout((6, 14), &pointers), 2);
        assert_eq!(uring_layout(&[]), 0, "none");
    }
}

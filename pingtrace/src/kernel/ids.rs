//! Numbers of processes and threads. BPF programs see those of the initial PID namespace; whoever
//! runs pingtrace in another one, such as a container's, names and reads those of /proc there.

use crate::kernel::map;
use crate::kernel::object::{self, Storage};
use anyhow::{Context, Result, bail};
use bpf::ids::IdsSkelBuilder;
use bpf::ids::types::pt_task_ids;
use libbpf_rs::{Iter, Link};
use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::mem::size_of;
use std::os::unix::fs::MetadataExt as _;

/// `PROC_PID_INIT_INO` of include/uapi/linux/nsfs.h: the inode of the initial PID namespace.
const INITIAL: u64 = 0xEFFF_FFFC;
/// Numbers that are remembered.
const MAX_KNOWN: usize = 65_536;

/// What the kernel calls the tasks that are named here otherwise.
#[derive(Default)]
pub struct Ids {
    /// `None` where the numbers are the kernel's own.
    translated: Option<Translated>,
}

struct Translated {
    lister: Lister,
    /// A list failed, which was reported.
    has_failed: bool,
    /// By the number here.
    kernel: HashMap<u32, u32>,
    /// By the kernel's number; `None` of those that /proc does not show.
    own: HashMap<u32, Option<u32>>,
}

impl Ids {
    /// As they are now. Fails only inside a PID namespace, where a BPF program (`iter/task`, Linux
    /// 5.8) has to list the tasks, or if /proc belongs to a third namespace.
    pub fn read() -> Result<Self> {
        let namespace = fs::metadata("/proc/self/ns/pid").context("look at /proc/self/ns/pid")?;
        if namespace.ino() == INITIAL {
            return Ok(Self::default());
        }
        let what = "find out how the kernel numbers the tasks of this PID namespace";
        let lister = Lister::load().context(what)?;
        let ids = lister.list().context(what)?;
        let translated = Translated {
            lister,
            has_failed: false,
            kernel: ids.iter().map(|ids| (ids.own, ids.kernel)).collect(),
            own: ids.iter().map(|ids| (ids.kernel, Some(ids.own))).collect(),
        };
        let (own, in_proc) = (std::process::id(), own_number("/proc/self")?);
        if in_proc == own {
            let translated = Some(translated);
            return Ok(Self { translated });
        }
        // /proc of the initial namespace, which unshare(1) without --mount-proc leaves there.
        if translated.kernel.get(&own) == Some(&in_proc) {
            return Ok(Self::default());
        }
        bail!(
            "/proc is that of another PID namespace, so its numbers are not those of the tasks here: \
             mount -t proc proc /proc, in a mount namespace of its own"
        )
    }

    /// The kernel's number of a process or thread that is named as in /proc; `None` if it was not
    /// there when the numbers were read.
    pub fn kernel(&self, id: u32) -> Option<u32> {
        match &self.translated {
            None => Some(id),
            Some(translated) => translated.kernel.get(&id).copied(),
        }
    }

    /// The number in /proc of what the kernel calls `kernel`; `None` if /proc does not show it, as it
    /// never does the idle task, 0. Lists the tasks anew if it is not known; one that was not there
    /// then stays unknown.
    pub fn shown(&mut self, kernel: u32) -> Option<u32> {
        if kernel == 0 {
            return None;
        }
        let Some(translated) = &mut self.translated else {
            return Some(kernel);
        };
        if !translated.own.contains_key(&kernel) {
            translated.update();
        }
        *translated.own.entry(kernel).or_default()
    }

    /// The number of a task where /proc shows it, else the kernel's.
    pub fn number(&mut self, kernel: u32) -> u32 {
        self.shown(kernel).unwrap_or(kernel)
    }

    /// The kernel's number of this process.
    pub fn process(&self) -> Result<u32> {
        self.kernel(own_number("/proc/self")?)
            .context("this process is not among the tasks of its PID namespace")
    }

    /// The kernel's number of the calling thread.
    pub fn thread(&self) -> Result<u32> {
        self.kernel(own_number("/proc/thread-self")?)
            .context("this thread is not among the tasks of its PID namespace")
    }
}

/// The number of this process in /proc.
pub fn own_process() -> Option<u32> {
    own_number("/proc/self").ok()
}

/// What a link of /proc to the reader's own directory (PID, or PID/task/TID) ends in.
fn own_number(link: &str) -> Result<u32> {
    let target = fs::read_link(link).with_context(|| format!("read {link}"))?;
    let number = target
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    number.with_context(|| format!("{link} is '{}'", target.display()))
}

impl Translated {
    /// Adds the tasks that began since. Those that have ended keep their numbers, as events tell of them
    /// later, unless they are too many: numbers are reused.
    fn update(&mut self) {
        if self.own.len() > MAX_KNOWN {
            self.own.clear();
        }
        match self.lister.list() {
            Ok(ids) => {
                let ids = ids.iter().map(|ids| (ids.kernel, Some(ids.own)));
                self.own.extend(ids);
            }
            Err(_) if self.has_failed => {}
            Err(e) => {
                self.has_failed = true;
                log::warn!("cannot list the tasks: new ones have the kernel's numbers: {e:#}");
            }
        }
    }
}

/// The loaded program that lists the tasks of this PID namespace; a list costs no load.
struct Lister(Link);

impl Lister {
    fn load() -> Result<Self> {
        let mut storage = Storage::uninit();
        let skel = object::load(
            "the program that lists tasks",
            IdsSkelBuilder::default(),
            &mut storage,
            |_| true,
            |_| Ok(()),
        )?;
        // The link keeps the program.
        Ok(Self(object::attach(&skel.progs.task_ids)?))
    }

    fn list(&self) -> Result<Vec<pt_task_ids>> {
        let mut bytes = Vec::new();
        Iter::new(&self.0)?.read_to_end(&mut bytes)?;
        let each = bytes.chunks_exact(size_of::<pt_task_ids>());
        Ok(each.map(map::value).collect())
    }
}

//! The command line of memleak.

use super::accounting::{self, Accounting};
use super::follow::Follow;
use crate::diag::args::Common;
use crate::exit::Usage;
use crate::kernel::features;
use crate::kernel::process::Process;
use crate::units;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use report::companion::memleak::Allocator;
use std::time::Duration;

/// Find out which allocator grows and who holds what it gave: a leak, a growing cache, or neither
///
/// Reads the kernel's own accounting (/proc/meminfo, slabinfo, vmallocinfo) over the interval, and
/// follows object by object only what grows there, or what -t, -n or -p name. The verdict comes
/// first, with its confidence from 0 to 1; then the sites: objects allocated during the run and not
/// freed (LIVE), their bytes, the age of the oldest, the share that was freed, the slope (Theil-Sen),
/// and the code that allocated them. What was allocated before the start is not seen. Before it
/// reports a leak in slab, memleak waits up to 6 s for frees by RCU.
///
/// Cost: about 0.4 us for an allocation and 0.2 us for a free, 2 us with a stack; some ns for caches
/// that -n leaves out. --malloc takes about 5 us for a call.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("log", |arg| arg.short('f')))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Which allocator to follow; auto: kernel allocators that grow, else the process that does
    #[arg(short = 't', long = "type", value_name = "WHAT", value_enum, default_value_t = What::Auto)]
    what: What,

    /// Length of the run; a plain number is in s, at least 1
    #[arg(short = 'i', long, alias = "interval", value_name = "T", default_value = "300s", allow_hyphen_values = true, value_parser = units::look)]
    pub time: Duration,

    /// Follow only this slab cache, by its name in /proc/slabinfo or an alias of it
    #[arg(short = 'n', long, value_name = "CACHE")]
    pub cache: Option<String>,

    /// Show a stack of each site, not only the function that allocated the memory
    #[arg(short, long)]
    pub stacks: bool,

    /// Check only: read the kernel's accounting, load no program
    #[arg(short, long, conflicts_with_all = ["stacks", "malloc"])]
    pub check: bool,

    /// With -s: take the stack of one in N slab objects, chosen by address; counts stay exact. The
    /// stacks of pages, vmalloc, per-CPU memory and processes are all taken
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,

    /// Follow this process: which of its code first touched the pages that it keeps
    #[arg(short, long, value_name = "PID", conflicts_with = "cache")]
    pub pid: Option<u32>,

    /// With -p: follow `malloc` and `free` instead of page faults; slows the process down
    #[arg(long, requires = "pid")]
    malloc: bool,

    /// At the end, test growth of slab or pages: make the kernel reclaim, and see what stays. Writes
    /// 2 to `/proc/sys/vm/drop_caches`: the whole host drops unused dentries and inodes, and the
    /// cached pages of their files, and reads them from disk again when it needs them, so it may be
    /// slow for a while. No data is lost. Needs root
    #[arg(long, conflicts_with_all = ["check", "pid"])]
    pub reclaim: bool,

    /// Objects that can be followed at once; further ones are counted as lost
    #[arg(long, value_name = "N", default_value_t = 1 << 19, value_parser = clap::value_parser!(u32).range(16..=1 << 24))]
    pub objects: u32,

    /// Sites to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    #[command(flatten)]
    pub(in crate::diag) common: Common,
}

/// What to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// What grows
    Auto,
    /// kmalloc and caches
    Slab,
    /// Whole pages that belong to no process, file or slab
    Page,
    /// vmalloc
    Vmalloc,
    /// Per-CPU memory
    Percpu,
    /// A process
    User,
}

impl What {
    fn allocator(self) -> Option<Allocator> {
        Some(match self {
            Self::Auto => return None,
            Self::Slab => Allocator::Slab,
            Self::Page => Allocator::Page,
            Self::Vmalloc => Allocator::Vmalloc,
            Self::Percpu => Allocator::Percpu,
            Self::User => Allocator::User,
        })
    }
}

impl Args {
    /// The allocator to observe; `None`: all. A cache or a process implies its allocator.
    pub fn allocator(&self) -> Result<Option<Allocator>> {
        let asked = self.what.allocator();
        let (implied, option) = match (&self.cache, self.pid) {
            (Some(_), _) => (Allocator::Slab, "-n"),
            (_, Some(_)) => (Allocator::User, "-p"),
            _ => return Ok(asked),
        };
        if asked.is_some_and(|asked| asked != implied) {
            let what = format!("{option} goes with -t {} only", implied.name());
            return Err(Usage(what).into());
        }
        Ok(Some(implied))
    }

    /// What is followed from the start; `None` when the kernel's accounting decides, or nothing is followed.
    pub fn follow(
        &self,
        allocator: Option<Allocator>,
        accounting: &Accounting,
    ) -> Result<Option<Follow>> {
        let follow = match (allocator, self.pid) {
            (Some(Allocator::Slab), _) => match &self.cache {
                Some(name) => Follow::Slab(vec![accounting.resolve(name)?]),
                None => Follow::Slab(Vec::new()),
            },
            (Some(Allocator::Page), _) => Follow::Page,
            (Some(Allocator::Vmalloc), _) => Follow::Vmalloc,
            (Some(Allocator::Percpu), _) => Follow::Percpu,
            (Some(Allocator::User), Some(pid)) => self.user(pid),
            (Some(Allocator::User), None) | (None, _) => return Ok(None),
        };
        Ok((!self.check).then_some(follow))
    }

    /// The process to follow, which runs and has memory.
    pub fn process(&self) -> Result<Option<Process>> {
        let Some(pid) = self.pid else {
            return Ok(None);
        };
        let process = Process::find(pid).with_context(|| {
            format!(
                "no process {pid} (-p): it has ended, or never was; `ps -e` lists those that run"
            )
        })?;
        ensure!(
            accounting::process(pid).is_some(),
            "process {pid} (-p) is a kernel thread, which has no memory of its own: try -t slab"
        );
        if !self.malloc && !features::known().has_tracepoint("page_fault_user") {
            bail!("this kernel has no tracepoint page_fault_user: use --malloc (with -p)");
        }
        Ok(Some(process))
    }

    /// Follows a process.
    pub fn user(&self, pid: u32) -> Follow {
        if self.malloc {
            Follow::Malloc(pid)
        } else {
            Follow::Faults(pid)
        }
    }
}

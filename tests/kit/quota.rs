//! A cgroup with a CPU quota: what is in it waits although a CPU is free.
//!
//! In cgroup v2 where that has the `cpu` controller, else in v1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The cgroup; dropped, its members go to the root of the hierarchy and it is removed.
pub struct Quota {
    root: Root,
    dir: PathBuf,
}

/// What the kernel counted (`cpu.stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the quota ran out.
    pub periods: u64,
    /// For how long, summed over the CPUs.
    pub ns: u64,
}

/// A mounted hierarchy with the `cpu` controller.
struct Root {
    version: Version,
    dir: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Quota {
    /// Allows this much CPU time in every period (1 ms to 1 s).
    pub fn new(quota: Duration, period: Duration) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let root = Root::find()?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pingtrace-inject-{}-{number}", std::process::id());
        let dir = root.dir.join(name);
        fs::create_dir(&dir).with_context(|| format!("make the cgroup {}", dir.display()))?;
        let this = Self { root, dir };
        // The most there is: on a busy machine, too, it is the quota that its members wait for.
        let (quota, period) = (quota.as_micros(), period.as_micros());
        match this.root.version {
            Version::V1 => {
                this.write("cpu.shares", "262144")?;
                this.write("cpu.cfs_period_us", &period.to_string())?;
                this.write("cpu.cfs_quota_us", &quota.to_string())?;
            }
            Version::V2 => {
                this.write("cpu.weight", "10000")?;
                this.write("cpu.max", &format!("{quota} {period}"))?;
            }
        }
        Ok(this)
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Puts a process into it.
    pub fn confine_process(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Puts one thread into it. In cgroup v1 only: v2 would have to turn the whole branch to
    /// threads.
    pub fn confine_thread(&self, tid: u32) -> Result<()> {
        match self.root.version {
            Version::V1 => self.write("tasks", &tid.to_string()),
            Version::V2 => bail!("put thread {tid} into a cgroup: cgroup v2 takes processes"),
        }
    }

    /// What it cost its members so far.
    pub fn throttling(&self) -> Result<Throttling> {
        let file = self.dir.join("cpu.stat");
        let stat = fs::read_to_string(&file);
        let stat = stat.with_context(|| format!("read {}", file.display()))?;
        let field = |name: &str| -> Option<u64> {
            let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let ns = match self.root.version {
            Version::V1 => field("throttled_time "),
            Version::V2 => field("throttled_usec ").map(|us| us * 1000),
        };
        let counted = field("nr_throttled ").zip(ns);
        let (periods, ns) = counted
            .with_context(|| format!("{} does not say what it throttled", file.display()))?;
        Ok(Throttling { periods, ns })
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let file = self.dir.join(file);
        fs::write(&file, value).with_context(|| format!("write {value} to {}", file.display()))
    }

    fn remove(&self) -> io::Result<()> {
        let members = match self.root.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        for member in fs::read_to_string(self.dir.join(members))?.lines() {
            // It may just have ended.
            let _ = fs::write(self.root.dir.join(members), member);
        }
        fs::remove_dir(&self.dir)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        for _ in 0..100 {
            if self.remove().is_ok() {
                return;
            }
            // Somebody in it is ending or was just born.
            thread::sleep(Duration::from_millis(10));
        }
        log::warn!("the cgroup {} could not be removed", self.dir.display());
    }
}

impl Root {
    fn find() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        let roots = mounts.lines().filter_map(Self::of_mount);
        // v2 is what a new system uses.
        let best = roots.max_by_key(|root| root.version == Version::V2);
        best.context(
            "find a cgroup hierarchy for CPU quotas: none is mounted with the cpu controller (in \
             cgroup v2, `cpu` must be in the root's cgroup.subtree_control)",
        )
    }

    /// A line of `/proc/self/mounts`: device, directory, type, options.
    fn of_mount(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(1);
        let dir = PathBuf::from(fields.next()?);
        let has_cpu = |list: &str, by: char| list.trim().split(by).any(|item| item == "cpu");
        let version = match fields.next()? {
            "cgroup" if has_cpu(fields.next()?, ',') => Version::V1,
            "cgroup2" => {
                let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).ok()?;
                has_cpu(&enabled, ' ').then_some(Version::V2)?
            }
            _ => return None,
        };
        Some(Self { version, dir })
    }
}

//! Names of the processes and files that the programs counted: what the programs saw at that time, as a
//! process may have ended since, and /proc for those that still run.

use super::devices::{Devices, Number, number, number_of};
use super::programs::Programs;
use crate::kernel::ids::Ids;
use crate::kernel::process;
use bpf::iofsstat::types::{io_path, io_process};
use report::companion::iofsstat::mounts::{self, Mount, Names};
use report::companion::iofsstat::rows::Who;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Upper bound on remembered processes.
const MAX_PROCESSES: usize = 1 << 16;

/// What is known about a process.
#[derive(Clone, Debug)]
struct Process {
    comm: String,
    kernel: bool,
    container: Option<String>,
}

/// Looks names up, and remembers those that may be gone later.
pub struct NameCache {
    ids: Ids,
    processes: HashMap<u64, Process>,
    mounts: HashMap<u32, Vec<Mount>>,
    /// Processes of which nothing is known but the id.
    pub nameless: u64,
}

impl NameCache {
    /// Of the tasks with these numbers.
    pub fn new(ids: Ids) -> Self {
        Self {
            ids,
            processes: HashMap::new(),
            mounts: HashMap::new(),
            nameless: 0,
        }
    }

    /// Forgets what may have changed since the last cycle.
    pub fn next_cycle(&mut self) {
        self.mounts.clear();
        if self.processes.len() > MAX_PROCESSES {
            self.processes.clear();
        }
    }

    /// A process; `None` if the id belongs to no process.
    pub fn who(&mut self, programs: &Programs<'_>, who: u64) -> Option<Who> {
        let tgid = tgid(who)?;
        let process = self.process(programs, who);
        let comm = process.map(|p| p.comm.clone());
        let container = process.and_then(|p| p.container.clone());
        if comm.is_none() {
            self.nameless += 1;
        }
        let shown = self.number(tgid);
        Some(Who {
            comm: comm.unwrap_or_else(|| "?".to_owned()),
            pid: shown,
            tgid: shown,
            container,
        })
    }

    /// The number of a task where /proc shows it, else the kernel's.
    pub fn number(&mut self, kernel: u32) -> u32 {
        self.ids.number(kernel)
    }

    /// Whether it is a thread of the kernel.
    pub fn is_kernel(&mut self, programs: &Programs<'_>, who: u64) -> bool {
        self.process(programs, who).is_some_and(|p| p.kernel)
    }

    fn process(&mut self, programs: &Programs<'_>, who: u64) -> Option<&Process> {
        if let Some(seen) = programs.process(who) {
            let container = self.processes.remove(&who).map(|known| known.container);
            let container = container.unwrap_or_else(|| self.container_of(who, &seen));
            let process = Process {
                comm: text(&seen.comm),
                kernel: seen.kernel != 0,
                container,
            };
            self.processes.insert(who, process);
        }
        self.processes.get(&who)
    }

    /// The full path of a file, as the process sees it if it still runs.
    pub fn path(
        &mut self,
        programs: &Programs<'_>,
        who: u64,
        inode: u64,
        fs: u32,
    ) -> Option<String> {
        let names = names(&programs.path(inode, fs)?);
        let mounts = self.mounts_of(who);
        Some(names.path(number(fs), mounts))
    }

    /// The device of a file system, or its type if it has none, and the disk of the device.
    pub fn device(&mut self, devices: &mut Devices, who: u64, fs: u32) -> (String, Option<Number>) {
        let number = number(fs);
        if let Some(known) = devices.get(number) {
            return (known.name.clone(), Some(known.disk));
        }
        let mounts = self.mounts_of(who);
        let Some(mount) = mounts.iter().find(|m| (m.major, m.minor) == number) else {
            return (devices.name(number), None);
        };
        let source = Path::new(&mount.source);
        let device = source.starts_with("/dev").then(|| fs::canonicalize(source));
        let Some(name) = device.and_then(|path| Some(path.ok()?.file_name()?.to_owned())) else {
            return (mount.kind.clone(), None);
        };
        let name = name.to_string_lossy().into_owned();
        let disk = number_of(&name);
        (name, disk.map(|disk| devices.disk(disk)))
    }

    /// Mounts in the namespace of a process, else in that of pingtrace.
    fn mounts_of(&mut self, who: u64) -> &[Mount] {
        let pid = tgid(who).and_then(|tgid| self.ids.shown(tgid)).unwrap_or(0);
        self.mounts.entry(pid).or_insert_with(|| {
            let of_process = fs::read_to_string(format!("/proc/{pid}/mountinfo"));
            let text = of_process.or_else(|_| fs::read_to_string("/proc/self/mountinfo"));
            mounts::parse(&text.unwrap_or_default())
        })
    }

    /// The container by the cgroups of a running process, else by those at its first event.
    fn container_of(&mut self, who: u64, seen: &io_process) -> Option<String> {
        let pid = tgid(who).and_then(|tgid| self.ids.shown(tgid));
        let runs = |pid: &u32| process::began(*pid).is_some_and(|ticks| ticks as u32 == who as u32);
        let now = pid.filter(runs).and_then(netns::container_of);
        let then = || {
            let names = seen.cgroup.iter().map(|name| text(name.as_flattened()));
            names
                .rev()
                .find_map(|name| netns::container_id(&name).map(str::to_owned))
        };
        now.or_else(then)
    }
}

/// The id of a process; `None` is nobody.
pub fn tgid(who: u64) -> Option<u32> {
    (who != 0).then_some((who >> 32) as u32)
}

fn names(path: &io_path) -> Names {
    let all = path.names.as_flattened();
    let used = (path.used as usize).min(all.len());
    let bytes: Vec<u8> = all[..used].iter().map(|c| c.cast_unsigned()).collect();
    let names = bytes.split(|b| *b == 0).filter(|name| !name.is_empty());
    Names {
        names: names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect(),
        cut: path.cut != 0,
        deleted: path.deleted != 0,
    }
}

/// A C string.
fn text(chars: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|c| *c as u8)
        .take_while(|b| *b != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

//! Cgroups of the CPU controller, by path and by the number that the kernel's programs see.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The number of a cgroup: the low half of its id, which is its inode.
pub fn number(path: &Path) -> Result<u32> {
    let shown = path.display();
    let dir = fs::metadata(path).with_context(|| format!("find the cgroup {shown} (--cgroup)"))?;
    ensure!(
        path.join("cgroup.procs").exists(),
        "{shown} (--cgroup) is no cgroup: give its directory below /sys/fs/cgroup"
    );
    // In cgroup v1, and in v2 if the parent has enabled the controller; the root has neither file.
    let controlled = ["cpu.shares", "cpu.weight"];
    if !controlled.iter().any(|file| path.join(file).exists()) && !is_root(path) {
        bail!(
            "the cgroup {shown} (--cgroup) is not of the CPU controller: who is in it counts as in \
             its nearest ancestor with a cpu.weight, or in the hierarchy of cgroup v1 with cpu.shares"
        );
    }
    Ok(dir.ino() as u32)
}

fn is_root(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|dir| dir.dev()).ok();
    path.parent().and_then(device) != device(path)
}

/// The paths of all cgroups of the CPU controller, below where it is mounted, by number.
pub fn paths() -> HashMap<u32, String> {
    let mut found = HashMap::new();
    let root = root();
    let mut open = Vec::from_iter(root.clone());
    while let Some(dir) = open.pop() {
        let below = root.as_ref().and_then(|root| dir.strip_prefix(root).ok());
        if let (Some(below), Ok(metadata)) = (below, fs::metadata(&dir)) {
            found.insert(metadata.ino() as u32, format!("/{}", below.display()));
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
        open.extend(dirs.map(|entry| entry.path()));
    }
    found
}

/// Where the controller is mounted: in cgroup v1 by itself or with others; else in v2.
fn root() -> Option<PathBuf> {
    root_in(&fs::read_to_string("/proc/self/mounts").ok()?)
}

/// The same of the text of `/proc/PID/mounts`.
pub(crate) fn root_in(mounts: &str) -> Option<PathBuf> {
    let of = |wanted: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let dir = fields.next()?;
            let right = fields.next()? == wanted;
            let mut options = fields.next()?.split(',');
            let has = option.is_none_or(|option| options.any(|o| o == option));
            (right && has).then(|| PathBuf::from(dir))
        })
    };
    of("cgroup", Some("cpu")).or_else(|| of("cgroup2", None))
}

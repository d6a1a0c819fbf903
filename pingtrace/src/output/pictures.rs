//! The pictures of a schedule: how many of them stay.

use crate::output::files::directory;
use anyhow::{Context, Result};
use chrono::format::{Item, Parsed, StrftimeItems, parse};
use netns::reason;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The default picture of a schedule.
pub const DATED: &str = "./pingtrace-%Y%m%d-%H%M%S.png";

/// Removes all but the youngest `keep` pictures whose names are as the pattern says.
pub fn prune(pattern: &Path, keep: usize) -> Result<()> {
    let directory = directory(pattern);
    let mut pictures = matching(pattern)
        .with_context(|| format!("list the pictures in {} (--keep)", directory.display()))?;
    pictures.sort();
    let surplus = pictures.len().saturating_sub(keep);
    for (_, picture) in &pictures[..surplus] {
        match fs::remove_file(picture) {
            Ok(()) => log::debug!("removed {} (--keep)", picture.display()),
            Err(e) => {
                let reason = reason(&e);
                log::warn!("cannot remove {} (--keep): {reason}", picture.display());
            }
        }
    }
    Ok(())
}

/// Files with such names, and when they were written.
fn matching(pattern: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let items: Vec<Item<'_>> = StrftimeItems::new(&name).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(pattern))?.flatten() {
        let fits = |name: &str| parse(&mut Parsed::new(), name, items.iter()).is_ok();
        if !entry.file_name().to_str().is_some_and(fits) {
            continue;
        }
        // Of the link itself: what it names is nobody's picture.
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
        {
            found.push((meta.modified()?, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_stay_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let pictures = [
            "p-20261128-090000.png",
            "p-20261128-091000.png",
            "p-20261127-235959.png",
        ];
        let others = [
            "p-2026.png",
            "p-20261128-090000.svg",
            "q-20261128-090000.png",
            "p-.png",
        ];
        for name in pictures.iter().chain(&others) {
            fs::write(path(name), "").unwrap();
        }
        let pattern = path("p-%Y%m%d-%H%M%S.png");
        for (age, name) in pictures.iter().rev().enumerate() {
            let time = SystemTime::now() - std::time::Duration::from_secs(age as u64);
            let file = fs::File::options().write(true).open(path(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        prune(&pattern, 3).unwrap();
        assert!(pictures.iter().all(|name| path(name).exists()));
        prune(&pattern, 1).unwrap();
        let left: Vec<_> = pictures.iter().filter(|name| path(name).exists()).collect();
        assert_eq!(left, [&pictures[2]]);
        assert!(others.iter().all(|name| path(name).exists()));
    }
}

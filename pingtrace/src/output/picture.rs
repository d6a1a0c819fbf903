//! The picture file: its name, a trial whether it can be written, and how many of a schedule are kept.

use crate::output::files::{self, directory, is_shared};
use anyhow::{Context, Result, bail};
use chrono::format::{Item, Parsed, StrftimeItems, parse};
use netns::reason;
use report::draw;
use rustix::fs::{AtFlags, statat};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The default picture of a schedule.
pub const DATED: &str = "./pingtrace-%Y%m%d-%H%M%S.png";

/// Fills in the time, and checks now what would fail at the end.
pub fn resolve(pattern: &Path) -> Result<PathBuf> {
    let path = files::dated(pattern, "--image")?;
    draw::Format::from_path(&path)?;
    check(&path)?;
    Ok(path)
}

/// Fails if [`report::draw::write`] could not write the picture at the end: it writes a temporary file
/// beside the path, and renames it.
fn check(path: &Path) -> Result<()> {
    let directory = directory(path);
    if !directory.is_dir() {
        bail!(
            "the picture's directory {} does not exist (--image): make it first",
            directory.display()
        );
    }
    if path.is_dir() {
        bail!(
            "the picture {} (--image) is a directory: name a file",
            path.display()
        );
    }
    if let Err(why) = files::try_replace(path) {
        bail!(
            "the picture {} (--image) cannot be written: {why}; choose another place",
            path.display()
        );
    }
    if is_shared(directory) && belongs_to_another(path, directory) {
        bail!(
            "the picture {} (--image) is another user's, in a sticky directory: choose another name",
            path.display()
        );
    }
    Ok(())
}

/// In a sticky directory only the file's owner, the directory's owner and root may replace a file.
fn belongs_to_another(path: &Path, directory: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let owner = |flags| {
        let stat = statat(rustix::fs::CWD, path, flags);
        stat.map(|stat| stat.st_uid)
    };
    let owns_directory = fs::metadata(directory).is_ok_and(|meta| meta.uid() == me);
    me != 0 && !owns_directory && owner(AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|uid| uid != me)
}

/// Removes all but the newest `keep` pictures whose names match the pattern.
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

/// Files whose names match, and when they were written.
fn matching(pattern: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let items: Vec<Item<'_>> = StrftimeItems::new(&name).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(pattern))?.flatten() {
        let fits = |name: &str| parse(&mut Parsed::new(), name, items.iter()).is_ok();
        if !entry.file_name().to_str().is_some_and(fits) {
            continue;
        }
        // Metadata of the link itself: its target is not a picture of the schedule.
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

    #[test]
    fn a_picture_that_could_not_be_written_is_found_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        check(&path("x.png")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let missing = check(&path("no/x.png")).unwrap_err().to_string();
        assert!(missing.contains("does not exist"), "{missing}");
        fs::create_dir(path("d.png")).unwrap();
        let taken = check(&path("d.png")).unwrap_err().to_string();
        assert!(taken.contains("is a directory"), "{taken}");
        // Nobody can make a file there.
        let refused = format!("{:#}", check(Path::new("/proc/x.png")).unwrap_err());
        assert!(refused.contains("/proc/x.png"), "{refused}");
    }
}

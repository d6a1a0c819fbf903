//! Files that a user names: how they are opened, and what is found out before the first probe.

use anyhow::{Result, bail};
use netns::reason;
use rustix::fs::{AtFlags, OFlags, statat};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who may read what is written: the owner and the group.
const MODE: u32 = 0o640;
/// Anybody may put files into such a directory, and remove only their own.
const SHARED: u32 = 0o1002;

/// Opens a log, to write behind what is there.
pub fn append(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true))
}

/// Opens a result, which begins anew.
pub fn create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).truncate(true))
}

/// In a directory like /tmp, a symbolic link may be somebody else's, who wants it followed.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.create(true).mode(MODE);
    let shared = is_shared(directory(path));
    if shared {
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path).map_err(|e| explain(path, shared, e))
}

/// What the system does not say of a path that it refuses.
fn explain(path: &Path, shared: bool, e: io::Error) -> io::Error {
    let directory = directory(path);
    let missing = e.kind() == ErrorKind::NotFound && !directory.exists();
    let directory = directory.display();
    let why = if missing {
        format!("directory {directory} does not exist; create it or choose another file")
    } else if shared && e.raw_os_error() == Some(libc::ELOOP) {
        format!(
            "a symbolic link in {directory}, a sticky directory in which anybody may have put it, \
             is not followed; remove it or choose another file"
        )
    } else {
        return e;
    };
    io::Error::new(e.kind(), why)
}

/// Whether anybody may put files into it.
fn is_shared(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|meta| meta.mode() & SHARED == SHARED)
}

/// `path` with `.suffix` behind it: "pingtrace.log" and "seq" give "pingtrace.log.seq".
pub fn suffixed(path: &Path, suffix: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// Where a file is.
pub fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|d| !d.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Fails where [`report::draw::write`] could not put a picture at its end: it is written beside
/// its place, and moved there.
pub fn check_picture(path: &Path) -> Result<()> {
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
    let trial = tempfile::Builder::new()
        .prefix(".pingtrace-")
        .tempfile_in(directory);
    if let Err(e) = trial {
        // The name of the trial says nothing to anybody.
        let why = reason(&e);
        let why = why.split(" at path").next().unwrap_or_default();
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

/// What stands there may be replaced by its owner, the directory's owner, and root only.
fn belongs_to_another(path: &Path, directory: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let owner = |flags| {
        let stat = statat(rustix::fs::CWD, path, flags);
        stat.map(|stat| stat.st_uid)
    };
    let owns_directory = fs::metadata(directory).is_ok_and(|meta| meta.uid() == me);
    me != 0 && !owns_directory && owner(AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|uid| uid != me)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn directory_with(mode: u32) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    #[test]
    fn a_symbolic_link_is_followed_unless_anybody_may_have_put_it() {
        for (mode, followed) in [
            (0o755, true),
            (0o777, true),
            (0o1755, true),
            (0o1777, false),
        ] {
            let directory = directory_with(mode);
            let (link, target) = (directory.path().join("log"), directory.path().join("t"));
            symlink(&target, &link).unwrap();
            for open in [append, create] {
                let opened = open(&link);
                assert_eq!(opened.is_ok(), followed, "{mode:o}: {opened:?}");
                if let Err(e) = opened {
                    assert!(e.to_string().contains("sticky directory"), "{e}");
                }
            }
            assert_eq!(target.exists(), followed, "{mode:o}");
        }
    }

    #[test]
    fn files_are_for_owner_and_group() {
        let directory = directory_with(0o700);
        for (name, open) in [("a", append as fn(&Path) -> _), ("b", create)] {
            let file: File = open(&directory.path().join(name)).unwrap();
            assert_eq!(file.metadata().unwrap().mode() & 0o137, 0);
        }
    }

    #[test]
    fn a_picture_that_could_not_be_written_is_found_before() {
        let directory = directory_with(0o700);
        let path = |name: &str| directory.path().join(name);
        check_picture(&path("x.png")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let missing = check_picture(&path("no/x.png")).unwrap_err().to_string();
        assert!(missing.contains("does not exist"), "{missing}");
        fs::create_dir(path("d.png")).unwrap();
        let taken = check_picture(&path("d.png")).unwrap_err().to_string();
        assert!(taken.contains("is a directory"), "{taken}");
        // Nobody can make a file there.
        let refused = format!("{:#}", check_picture(Path::new("/proc/x.png")).unwrap_err());
        assert!(refused.contains("/proc/x.png"), "{refused}");
    }
}

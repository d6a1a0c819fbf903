//! Files that a user names: their names, and how they are opened.

use anyhow::{Context as _, Result, anyhow};
use chrono::Local;
use chrono::format::StrftimeItems;
use netns::reason;
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Mode of written files: the owner writes, the group reads.
pub const MODE: u32 = 0o640;
/// Mode bits of a directory to which everybody may add files, and remove only their own.
const SHARED: u32 = 0o1002;

/// Opens a log to append to it.
pub fn append(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true))
}

/// Opens a file for a result that must not exist yet, to append to it.
pub fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true).create_new(true))
}

/// The name of a result (of this option) with its strftime fields replaced by the time now.
pub fn dated(pattern: &Path, option: &str) -> Result<PathBuf> {
    let text = pattern.to_str();
    let text = text.with_context(|| format!("the file's name ({option}) is not UTF-8"))?;
    let items = StrftimeItems::new(text).parse();
    let items = items.map_err(|_| anyhow!("'{text}' ({option}) has an unknown strftime field"))?;
    let name = Local::now().format_with_items(items.iter()).to_string();
    Ok(name.into())
}

/// Opens a result, and truncates it.
pub fn create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).truncate(true))
}

/// Writes a file beside its place and renames it, so that no reader sees half of it; the umask counts. An error is
/// the reason alone.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let write = || {
        let mut new = beside(path, mode)?;
        new.write_all(content)?;
        new.persist(path).map_err(|e| e.error).map(drop)
    };
    write().map_err(|e| why(&e))
}

/// Why [`replace`] would fail, if it would: the directory is not writable.
pub fn try_replace(path: &Path) -> Result<(), String> {
    beside(path, MODE).map(drop).map_err(|e| why(&e))
}

fn beside(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".pingtrace-")
        .permissions(Permissions::from_mode(mode));
    builder.tempfile_in(directory(path))
}

/// Without the name of the temporary file, which means nothing to a user.
fn why(error: &io::Error) -> String {
    let why = reason(error);
    why.split(" at path").next().unwrap_or_default().to_owned()
}

/// Follows no symbolic link in a directory like /tmp: it may be another user's.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.create(true).mode(MODE);
    let shared = is_shared(directory(path));
    if shared {
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path).map_err(|e| explain(path, shared, e))
}

/// Adds the likely cause to the system's error for a path.
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

/// Whether everybody may add files to it.
pub fn is_shared(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|meta| meta.mode() & SHARED == SHARED)
}

/// `path` with `.suffix` behind it: "pingtrace.log" and "seq" give "pingtrace.log.seq".
pub fn suffixed(path: &Path, suffix: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// The directory of a file.
pub fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|d| !d.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn directory_with(mode: u32) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
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
}

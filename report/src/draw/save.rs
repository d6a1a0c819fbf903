//! A picture on disk: all of it, or what was there before.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::picture::{Error, Format, Picture};
use super::render::render;

/// Who may read a picture: the owner and the group.
const MODE: u32 = 0o640;

/// Tells the temporary files of this process apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Draws the picture in the format that the name of `path` asks for and puts it there in one
/// step. On an error whatever was at `path` is unchanged, and nothing new is left beside it.
pub fn write(picture: Picture<'_>, path: &Path) -> Result<(), Error> {
    let picture = render(picture, Format::from_path(path)?)?;
    let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
        return Err(Error::NotAFile {
            path: path.to_owned(),
        });
    };
    let mut temporary = name.to_owned();
    temporary.push(format!(
        ".{}.{}.tmp",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    let temporary = path.with_file_name(temporary);
    replace(path, &temporary, &picture)
}

/// Puts the picture at `path` by way of the file `temporary`, which must not exist yet.
pub(super) fn replace(path: &Path, temporary: &Path, picture: &[u8]) -> Result<(), Error> {
    let failed = |action, file: &Path| {
        let (path, file) = (path.to_owned(), file.to_owned());
        move |source| Error::Write {
            path,
            action,
            file,
            source,
        }
    };
    let guard = Temporary::create(temporary, picture).map_err(failed("write", temporary))?;
    fs::rename(&guard.0, path).map_err(failed("rename", temporary))?;
    guard.keep();
    Ok(())
}

/// A file that is removed unless it is kept.
struct Temporary(PathBuf);

impl Temporary {
    fn create(path: &Path, content: &[u8]) -> io::Result<Self> {
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
        let guard = Self(path.to_owned());
        file.write_all(content)?;
        Ok(guard)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Nothing sensible can be done if it is already gone.
            let _ = fs::remove_file(&self.0);
        }
    }
}

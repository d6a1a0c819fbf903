//! What a picture shows, what it is written as, and why there is none.

use std::io;
use std::path::{Path, PathBuf};

use crate::analysis::mesh::Matrix;
use crate::companion::Chart;
use crate::companion::profile::Flame;
use crate::model::Capture;

/// What a picture shows.
#[derive(Clone, Copy, Debug)]
pub enum Picture<'a> {
    /// A run of probes.
    Run(&'a Capture),
    /// What a companion found.
    Companion(&'a Chart),
    /// Stacks and their weights.
    Flame(&'a Flame),
    /// Hosts that probe each other.
    Mesh(&'a Matrix),
}

/// What a picture is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A bitmap, 1400 x 920.
    Png,
    /// A drawing that scales; its bars say more when the pointer is over them.
    Svg,
    /// A page with the drawing and tables, without external resources.
    Html,
}

impl Format {
    /// The format that a file name asks for: `.png` (also without an ending), `.svg`, `.html` or
    /// `.htm`, in any case. Any other ending is an error.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            None | Some("png") => Ok(Self::Png),
            Some("svg") => Ok(Self::Svg),
            Some("html" | "htm") => Ok(Self::Html),
            Some(_) => Err(Error::Format {
                path: path.to_owned(),
            }),
        }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file name has an ending that stands for no format.
    #[error("choose a picture format for {}: unknown ending; use .png, .svg or .html", path.display())]
    Format {
        /// The file name.
        path: PathBuf,
    },
    /// The embedded font cannot be read.
    #[error("load the embedded font DejaVu Sans: not a font; this build is broken, build it again")]
    Font,
    /// A drawing operation failed.
    #[error("draw the picture in memory: {reason}; please report this as a bug")]
    Draw {
        /// The backend's message.
        reason: String,
    },
    /// The bitmap could not be compressed.
    #[error(
        "encode the picture as PNG: {0}; --image with a name ending in .svg avoids the encoder"
    )]
    Png(#[from] png::EncodingError),
    /// The path names a directory, or nothing that a file could be put at.
    #[error("write picture {}: not the name of a file; give --image a file name", path.display())]
    NotAFile {
        /// Where the picture should go.
        path: PathBuf,
    },
    /// The file could not be written or put in place; a picture that was there is unchanged.
    #[error("write picture {}: {action} {}: {source}; {}", path.display(), file.display(), remedy(source))]
    Write {
        /// Where the picture should go.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The file or directory it was tried on.
        file: PathBuf,
        /// The system's message.
        source: io::Error,
    },
}

/// What to do about a failed write.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "create the directory, or choose another one with --image",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a directory that you may write to with --image"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or choose another file system with --image"
        }
        _ => "choose another place with --image",
    }
}

//! A run that is saved in one file: the JSON lines of stdout, its probes in short, compressed if its name says so.
//!
//! What is compressed is written in parts, each whole for itself: a part that is torn costs no other.

use crate::output::entry::Entry;
use crate::output::{files, stream};
use anyhow::{Context, Result, anyhow, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use netns::reason;
use report::format::json::Shorts;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A part is written at this size, bytes, or age: what a run that is killed loses.
const PART: usize = 256 << 10;
const AGE: Duration = Duration::from_secs(10);

/// The file, made with its first part.
pub struct Save {
    path: PathBuf,
    form: Form,
    file: Option<File>,
    /// What was written whole, bytes.
    length: u64,
    shorts: Shorts,
    part: Vec<u8>,
    /// When the first line of the part came.
    since: Instant,
    lost_lines: u64,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::Plain,
        }
    }

    fn encode(self, lines: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(lines.to_vec()),
            Self::Zstd => Ok(compress_to_vec(lines, CompressionLevel::Fastest)),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(lines)?;
                encoder.finish()
            }
        }
    }
}

/// The name with its time filled in; fails if there is such a file, which may be a run.
pub fn resolve(pattern: &Path) -> Result<PathBuf> {
    let path = files::dated(pattern, "--save")?;
    if path.exists() {
        bail!(
            "{} (--save) exists, and may be a run: choose another name; %Y%m%d-%H%M%S in it is replaced by the time",
            path.display()
        );
    }
    let writable = files::try_replace(&path);
    writable.map_err(|why| anyhow!("{} (--save) cannot be written: {why}", path.display()))?;
    Ok(path)
}

impl Save {
    /// To this file, which does not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            form: Form::of(&path),
            path,
            file: None,
            length: 0,
            shorts: Shorts::default(),
            part: Vec::new(),
            since: Instant::now(),
            lost_lines: 0,
        }
    }

    /// The directory of the file.
    pub fn directory(&self) -> &Path {
        files::directory(&self.path)
    }

    /// Saves an entry.
    pub fn write(&mut self, entry: &Entry<'_>) {
        let lines = match entry {
            Entry::Probe(result, about) => {
                let target = about.run.target.as_ref().map(|target| &*target.name);
                Some(self.shorts.lines(result, about.names, target))
            }
            entry if entry.is_printed() => entry.json(),
            _ => None,
        };
        let Some(lines) = lines else { return };
        if self.part.is_empty() {
            self.since = Instant::now();
        }
        self.part.extend(lines.as_bytes());
        let is_full = self.part.len() >= PART || self.since.elapsed() >= AGE;
        if is_full || self.form == Form::Plain {
            self.write_part();
        }
    }

    /// Writes all lines so far, or counts them as lost.
    fn write_part(&mut self) {
        let lines = std::mem::take(&mut self.part);
        let written = self.form.encode(&lines).and_then(|part| self.append(&part));
        if let Err(why) = written {
            if self.lost_lines == 0 {
                let (path, why) = (self.path.display(), reason(&why));
                log::error!("cannot write {path} (--save): {why}; lines that are lost are counted");
            }
            self.lost_lines += stream::count(&lines);
            // They may have had shapes that later lines need.
            self.shorts = Shorts::default();
        }
    }

    /// Appends a part, or nothing of it.
    fn append(&mut self, part: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => files::create_new(&self.path)?,
        };
        let written = file.write_all(part);
        match written {
            Ok(()) => self.length += part.len() as u64,
            Err(_) => file.set_len(self.length)?,
        }
        self.file = Some(file);
        written
    }

    /// Writes what is left; fails if a line is lost.
    pub fn finish(mut self) -> Result<()> {
        if !self.part.is_empty() {
            self.write_part();
        }
        let path = self.path.display();
        if self.lost_lines > 0 {
            bail!(
                "{} lines of {path} (--save) could not be written",
                self.lost_lines
            );
        }
        let synced = self.file.map_or(Ok(()), |file| file.sync_all());
        synced.with_context(|| format!("write {path} (--save)"))?;
        log::info!("saved: {path}: pingtrace report {path}");
        Ok(())
    }
}

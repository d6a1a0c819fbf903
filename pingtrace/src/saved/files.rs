//! The files of a saved run: a log with its rotated files in their order, compressed ones, stdin.
//!
//! The first bytes of a file tell its compression, whatever its name. Files are read as streams, so
//! memory is bounded; so is time, because reading stops where a file expands more than any saved run.

use crate::output::files::suffixed;
use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use report::format::saved::{Probes, Scan};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError::SkipFrame};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Endings of compressed files.
const COMPRESSED: [&str; 2] = ["gz", "zst"];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Upper bound on the memory that a zstd stream may ask for, bytes: what `zstd --long` needs.
const MAX_WINDOW: u64 = 128 << 20;
/// Upper bound on expansion: content by file size. JSON lines of a run expand 5 to 30 times.
const MAX_EXPANSION: u64 = 300;
/// Content up to this size is always read, bytes.
const MIN_LIMIT: u64 = 64 << 20;

/// A file that can be read twice.
pub struct SavedFile {
    path: PathBuf,
    file: File,
}

impl SavedFile {
    /// Opens a file; `-` is stdin. What cannot be read twice is copied first.
    pub fn open(path: &Path) -> Result<Self> {
        let file = || {
            if path == Path::new("-") {
                return spool(io::stdin());
            }
            let file = File::open(path)?;
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                spool(file)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            file: file().with_context(|| opening(path))?,
        })
    }

    /// For messages.
    pub fn name(&self) -> String {
        name(&self.path)
    }

    /// Device and inode.
    pub fn id(&self) -> Option<(u64, u64)> {
        let meta = self.file.metadata().ok()?;
        Some((meta.dev(), meta.ino()))
    }

    /// An error message about the file.
    pub fn reading(&self) -> String {
        format!("read the saved run {}", self.name())
    }

    /// Its content from the beginning, decompressed.
    pub fn lines(&self) -> io::Result<Box<dyn BufRead + '_>> {
        let mut start = [0; 4];
        let mut file = &self.file;
        file.rewind()?;
        let length = read_up_to(file, &mut start)?;
        file.rewind()?;
        let stored = self.file.metadata()?.len();
        Ok(content(&start[..length], BufReader::new(file), stored))
    }
}

/// Upper bound on the content of a file of this size, both in bytes.
pub(crate) fn limit(stored: u64) -> u64 {
    stored.saturating_mul(MAX_EXPANSION).max(MIN_LIMIT)
}

/// The content of a file of `stored` bytes that begins with `start`.
pub(crate) fn content<'a>(
    start: &[u8],
    file: impl BufRead + 'a,
    stored: u64,
) -> Box<dyn BufRead + 'a> {
    let limit = limit(stored);
    if start.starts_with(GZIP_MAGIC) {
        limited(MultiGzDecoder::new(file), limit)
    } else if start.starts_with(ZSTD_MAGIC) {
        limited(Zstd::new(file), limit)
    } else {
        Box::new(file)
    }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

fn spool(mut from: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut from, &mut file)?;
    Ok(file)
}

fn read_up_to(mut from: impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < into.len() {
        match from.read(&mut into[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

/// The frames of a zstd file, one behind the other.
struct Zstd<R> {
    from: R,
    decoder: FrameDecoder,
    /// A frame was begun.
    within: bool,
    /// Why the frame has no more than what was decoded.
    broken: Option<io::Error>,
}

/// An empty block that is the last of its frame, and room for a checksum (RFC 8878, 3.1.1).
const LAST_BLOCK: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

impl<R: BufRead> Zstd<R> {
    fn new(from: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            from,
            decoder,
            within: false,
            broken: None,
        }
    }

    /// Begins the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.within && !self.from.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.from) {
                Ok(()) => self.within = true,
                Err(FrameDecoderError::ReadFrameHeaderError(SkipFrame { length, .. })) => {
                    let mut skipped = (&mut self.from).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(e) => return Err(self.failed(&e)),
            }
        }
        Ok(self.within)
    }

    /// Decodes until there is something to read or the frame is over. If a frame is cut off, the decoder
    /// holds the last blocks back until it is told that no more blocks follow.
    fn decode(&mut self) -> io::Result<()> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let Err(error) = self.decoder.decode_blocks(&mut self.from, one) else {
                continue;
            };
            self.broken = Some(self.failed(&error));
            if !self.decoder.is_finished() {
                let all = BlockDecodingStrategy::All;
                let ended = self.decoder.decode_blocks(&LAST_BLOCK[..], all);
                ended.map_err(|e| corrupt(&e.to_string()))?;
            }
        }
        Ok(())
    }

    /// At the end of a frame: whether it was cut off; its checksum, if it has one.
    fn end(&mut self) -> io::Result<()> {
        self.within = false;
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let expected = self.decoder.get_checksum_from_data();
        if expected.is_some() && expected != self.decoder.get_calculated_checksum() {
            return Err(corrupt("its checksum is wrong"));
        }
        Ok(())
    }

    /// An error, else an unexpected end of the file.
    fn failed(&mut self, error: &FrameDecoderError) -> io::Error {
        match self.from.fill_buf() {
            Ok([]) => ErrorKind::UnexpectedEof.into(),
            Ok(_) => corrupt(&error.to_string()),
            Err(error) => error,
        }
    }
}

fn corrupt(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("corrupt zstd data: {why}"))
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.begin()? {
            self.decode()?;
            let length = self.decoder.read(into)?;
            if length > 0 || into.is_empty() {
                return Ok(length);
            }
            self.end()?;
        }
        Ok(0)
    }
}

/// A reader that fails if the content expands more than a saved run does.
struct Limited<R> {
    from: R,
    /// Bytes.
    left: u64,
}

fn limited<'a>(from: impl Read + 'a, left: u64) -> Box<dyn BufRead + 'a> {
    Box::new(BufReader::new(Limited { from, left }))
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        let Some(left) = self.left.checked_sub(length as u64) else {
            let why = format!("it expands to over {MAX_EXPANSION} times its size, as no run does");
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        };
        self.left = left;
        Ok(length)
    }
}

/// The path without the ending of a compressed file.
fn uncompressed(path: &Path) -> PathBuf {
    let is_compressed = |ending: &OsStr| COMPRESSED.iter().any(|known| ending == *known);
    if path.extension().is_some_and(is_compressed) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}

/// The statistics beside a log's probes: FILE.stat of FILE.seq, or its compressed form.
pub fn statistics_beside(path: &Path) -> Option<PathBuf> {
    let records = uncompressed(path);
    records.extension().filter(|ending| *ending == "seq")?;
    let path = records.with_extension("stat");
    let compressed = COMPRESSED.map(|ending| suffixed(&path, ending));
    let exists = compressed.into_iter().find(|path| path.exists());
    Some(exists.filter(|_| !path.exists()).unwrap_or(path))
}

/// The order of a log's files: first those with a date, then those with a number (the largest is the
/// oldest), then the log itself.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Dated(String),
    Numbered(Reverse<u32>),
    Current,
}

impl Age {
    /// Parses the suffix behind the log's name: `.2` of `--logbackup`, `-20261121` of logrotate.
    fn from_suffix(suffix: &str) -> Option<Self> {
        let is_digit = |c: char| c.is_ascii_digit();
        if let Some(date) = suffix.strip_prefix('-') {
            let is_date = date.len() >= 8 && date.chars().all(|c| is_digit(c) || c == '-');
            return is_date.then(|| Self::Dated(date.to_owned()));
        }
        let number = suffix.strip_prefix('.')?;
        let number = number.chars().all(is_digit).then_some(number)?;
        Some(Self::Numbered(Reverse(number.parse().ok()?)))
    }
}

/// The existing rotated files of a log, the oldest first, and the log itself at the end; only the path
/// itself if it is not a log.
pub fn log_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let log = uncompressed(path);
    let is_log = |ending: &OsStr| ending == "seq" || ending == "stat";
    let name = log.file_name().and_then(OsStr::to_str);
    let Some(name) = name.filter(|_| log.extension().is_some_and(is_log)) else {
        return Ok(vec![path.to_owned()]);
    };
    let directory = log.parent().filter(|d| !d.as_os_str().is_empty());
    let mut files = BTreeMap::from([(Age::Current, path.to_owned())]);
    for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
        let found = log.with_file_name(entry?.file_name());
        let plain = uncompressed(&found);
        let age = plain.file_name().and_then(OsStr::to_str);
        let age = age.and_then(|n| Age::from_suffix(n.strip_prefix(name)?));
        // While a file is compressed there are two; the other one is not complete.
        if let Some(age) = age.filter(|age| plain == found || !files.contains_key(age)) {
            files.insert(age, found);
        }
    }
    // Rotated, and not written to since.
    if files.len() > 1 && !path.exists() {
        files.remove(&Age::Current);
    }
    Ok(files.into_values().collect())
}

/// Opens a saved run, a log with its rotated files: the oldest first. Nothing is parsed yet.
pub fn open(path: &Path) -> Result<Vec<SavedFile>> {
    let files = log_files(path).with_context(|| opening(path))?;
    files.iter().map(|path| SavedFile::open(path)).collect()
}

/// Reads all files of a saved run once, or of one of its targets. Reports where it is cut off.
pub fn scan(files: &[SavedFile], target: Option<&str>, probes: Probes) -> Result<Scan> {
    let mut scan = Scan::of_target(target, probes);
    for file in files {
        let lines = file.lines().with_context(|| file.reading())?;
        scan.read(lines).with_context(|| file.reading())?;
    }
    if let Some((file, line)) = scan.cut {
        log::warn!(
            "{}: line {line} is cut off, as its writer was killed or the disk was full: what is whole counts",
            files[file].name()
        );
    }
    let reading = || files.last().map_or_else(String::new, SavedFile::reading);
    one_target(&scan).with_context(reading)?;
    Ok(scan)
}

/// Refuses the lines of several targets, and those of none.
fn one_target(scan: &Scan) -> Result<()> {
    /// How many are named.
    const NAMED: usize = 10;
    let names: Vec<&str> = scan.targets.iter().take(NAMED).map(|s| &**s).collect();
    let more = if scan.targets.len() > NAMED {
        ", ..."
    } else {
        ""
    };
    let all = format!("{}{more}", names.join(", "));
    match &scan.target {
        None if scan.targets.len() > 1 => bail!(
            "it has {} targets ({all}): choose one (--target)",
            scan.targets.len()
        ),
        Some(wanted) if !scan.targets.is_empty() && !scan.targets.contains(wanted) => {
            bail!("it has no target '{wanted}' (--target), but {all}")
        }
        _ => Ok(()),
    }
}

/// Whether there is no such file.
pub fn is_missing(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|e| e.kind() == ErrorKind::NotFound)
}

fn opening(path: &Path) -> String {
    format!("open the saved run {}", name(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write as _;
    use tempfile::TempDir;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn content(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("run.json");
        fs::write(&path, bytes).unwrap();
        let file = SavedFile::open(&path).unwrap();
        let mut twice = [Vec::new(), Vec::new()];
        for content in &mut twice {
            file.lines()?.read_to_end(content)?;
        }
        assert!(twice[0] == twice[1]);
        Ok(twice[0].clone())
    }

    /// Lines that are not alike.
    fn text() -> Vec<u8> {
        let line = |k: u64| format!("{{\"ns\":{}}}\n", k.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (0..20_000).flat_map(|k| line(k).into_bytes()).collect()
    }

    #[test]
    fn compressed_files_are_read_by_their_content_and_in_all_their_parts() {
        let text = text();
        let (half, rest) = text.split_at(text.len() / 2);
        let frame_to_skip = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let skipped = [&*zstd(half), &frame_to_skip, &zstd(rest)].concat();
        for (what, bytes) in [
            ("plain", text.clone()),
            ("gzip", gzip(&text)),
            ("zstd", zstd(&text)),
            ("two of gzip", [gzip(half), gzip(rest)].concat()),
            ("two of zstd", [zstd(half), zstd(rest)].concat()),
            ("skippable frame", skipped),
        ] {
            assert!(content(&bytes).unwrap() == text, "{what}");
        }
        for empty in [&[][..], b"x", &gzip(b""), &zstd(b"")] {
            assert!(content(empty).unwrap().len() <= 1);
        }
    }

    #[test]
    fn what_ends_too_early_says_so() {
        for whole in [gzip(&text()), zstd(&text())] {
            for (length, min) in [(5, 0), (whole.len() / 2, 3), (whole.len() - 1, 1)] {
                let directory = TempDir::new().unwrap();
                let path = directory.path().join("run.json");
                fs::write(&path, &whole[..length]).unwrap();
                let file = SavedFile::open(&path).unwrap();
                let mut content = Vec::new();
                let read = file.lines().unwrap().read_to_end(&mut content);
                assert_eq!(
                    read.unwrap_err().kind(),
                    ErrorKind::UnexpectedEof,
                    "{length}"
                );
                assert!(text().starts_with(&content), "{length}");
                assert!(
                    min == 0 || content.len() > text().len() / min - 150_000,
                    "{length}"
                );
            }
            let mut broken = whole.clone();
            broken[whole.len() / 2..][..16].fill(0xff);
            assert!(content(&broken).is_err());
        }
    }

    #[test]
    fn what_expands_without_end_is_refused() {
        let zeros = vec![b'x'; MIN_LIMIT as usize + 1];
        for bomb in [gzip(&zeros), zstd(&zeros)] {
            let refused = content(&bomb);
            assert!(refused.is_err_and(|e| e.to_string().contains("300 times")));
        }
    }

    #[test]
    fn a_log_is_read_from_its_oldest_file_on() {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        for name in [
            "p.seq",
            "p.seq.1",
            "p.seq.2.gz",
            "p.seq.10.zst",
            "p.seq.9",
            "p.seq.9.gz",
            "p.seq-20261121.gz",
            "p.seq-20261120",
            "p.seq.1.old",
            "p.seq.x",
            "p.seq2",
            "p.stat",
            "p.stat.1",
            "other.seq.1",
        ] {
            fs::write(file(name), "").unwrap();
        }
        let expected = [
            "p.seq-20261120",
            "p.seq-20261121.gz",
            "p.seq.10.zst",
            "p.seq.9",
            "p.seq.2.gz",
            "p.seq.1",
            "p.seq",
        ];
        assert_eq!(log_files(&file("p.seq")).unwrap(), expected.map(file));
        let stat = ["p.stat.1", "p.stat"].map(file);
        assert_eq!(log_files(&file("p.stat")).unwrap(), stat);
        for alone in ["p.seq.1", "p.seq.2.gz", "run.json.gz", "-"] {
            assert_eq!(log_files(&file(alone)).unwrap(), [file(alone)]);
            assert_eq!(statistics_beside(&file(alone)), None);
        }
        for seq in ["p.seq", "p.seq.gz"] {
            assert_eq!(statistics_beside(&file(seq)), Some(file("p.stat")));
        }
        fs::write(file("q.stat.zst"), "").unwrap();
        assert_eq!(statistics_beside(&file("q.seq")), Some(file("q.stat.zst")));
    }
}

//! Log files that are rotated by size: FILE, FILE.1 (the newest backup), FILE.2 ...
//!
//! Each line goes to the kernel with one `write(2)` in append mode: nothing is buffered here, so
//! nothing is lost under SIGKILL, and a line is never split over two files. A disk that fills up
//! must not stop the measurement: lines that cannot be written are counted, a message tells once when
//! that begins and once when it ends, and a half-written line is removed.

use crate::output::files::{self, suffixed};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A log file that is rotated before it would exceed its limit.
///
/// A line that cannot be written is counted: see [`RotatingFile::lost_lines`].
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    limit_bytes: u64,
    backups: usize,
    /// Device and inode of the directory in which it was opened first.
    directory: Option<(u64, u64)>,
    /// None after a rotation until the new file could be made.
    file: Option<File>,
    length: u64,
    /// What stands at the head of each file.
    header: Vec<u8>,
    /// Length of the header at the head of the current file, bytes; 0 if it has none.
    header_length: u64,
    /// The file ends inside a line that could not be removed.
    torn: bool,
    outage: Outage,
    /// A rotation has failed: reported once.
    roll_failed: bool,
}

impl RotatingFile {
    /// Opens `path` and appends to it.
    ///
    /// Before the file would exceed `limit_bytes` it becomes `path.1`, the former `path.1`
    /// becomes `path.2`, and so on up to `backups`; the oldest is dropped. A single line longer
    /// than the limit gets a file of its own.
    pub fn open(path: impl Into<PathBuf>, limit_bytes: u64, backups: usize) -> io::Result<Self> {
        let path = path.into();
        let mut log = Self {
            directory: id(files::directory(&path)),
            path,
            limit_bytes,
            backups,
            file: None,
            length: 0,
            header: Vec::new(),
            header_length: 0,
            torn: false,
            outage: Outage::default(),
            roll_failed: false,
        };
        log.reopen()?;
        Ok(log)
    }

    /// The same, with these lines at the head of each new file.
    pub fn with_header(mut self, lines: &str) -> io::Result<Self> {
        self.set_header(lines);
        if self.length == 0
            && let Some(file) = &mut self.file
        {
            self.header_length = write_header(file, &self.header)?;
            self.length = self.header_length;
        }
        Ok(self)
    }

    /// Sets the lines at the head of each new file, also of one made after SIGHUP; the current file stays
    /// as it is.
    pub fn set_header(&mut self, lines: &str) {
        self.header = lines.into();
    }

    /// Opens the path again, after somebody else has moved the file away (SIGHUP from
    /// logrotate). On error the old file stays in use.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.open_path().map_err(|e| {
            let text = format!("open log {}: {}", self.path.display(), netns::reason(&e));
            io::Error::new(e.kind(), text)
        })
    }

    fn open_path(&mut self) -> io::Result<()> {
        let mut file = files::append(&self.path).map_err(|e| self.explain(e))?;
        self.length = file.metadata()?.len();
        self.torn = ends_inside_a_line(&self.path, self.length);
        self.header_length = 0;
        if self.length == 0 {
            self.header_length = write_header(&mut file, &self.header)?;
            self.length = self.header_length;
        }
        self.file = Some(file);
        Ok(())
    }

    /// A run that has begun may write only in the directories that were there then.
    fn explain(&self, e: io::Error) -> io::Error {
        let directory = files::directory(&self.path);
        if e.kind() != ErrorKind::PermissionDenied || id(directory) == self.directory {
            return e;
        }
        let why = format!(
            "{} was removed and made anew, and a run writes only in the directory that it began with: \
             start it again",
            directory.display()
        );
        io::Error::new(e.kind(), why)
    }

    /// Rotates now, however short the file is.
    pub fn roll(&mut self) -> io::Result<()> {
        if !self.is_regular() {
            return Ok(());
        }
        self.shift_backups()?;
        // From here on the open file is a backup, or gone.
        self.file = None;
        self.length = 0;
        self.torn = false;
        self.open_path()
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of lines that could not be written since [`RotatingFile::open`].
    pub fn lost_lines(&self) -> u64 {
        self.outage.lost_before + self.outage.lost_now
    }

    /// Writes a line, or lines that stay together; a missing newline is added.
    pub fn line(&mut self, line: &str) {
        if line.ends_with('\n') {
            self.write_line(line.as_bytes());
        } else {
            self.write_line(format!("{line}\n").as_bytes());
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        self.roll_if_needed(line.len() as u64);
        let notice = match self.append(line) {
            Ok(()) => self.outage.over(),
            Err(error) => self.outage.lost_line(&error),
        };
        if let Some(notice) = notice {
            log::warn!("log {}: {notice}", self.path.display());
        }
    }

    /// A failed rotation loses nothing: lines go on into the old file, or are counted as lost if that is
    /// gone.
    fn roll_if_needed(&mut self, more: u64) {
        if !self.exceeded_by(more) {
            return;
        }
        match self.roll() {
            Ok(()) => self.roll_failed = false,
            Err(error) if !self.roll_failed => {
                self.roll_failed = true;
                let (path, reason) = (self.path.display(), netns::reason(&error));
                log::warn!("log {path}: cannot roll over, and may pass its limit: {reason}");
            }
            Err(_) => {}
        }
    }

    fn exceeded_by(&mut self, more: u64) -> bool {
        if self.length + more <= self.limit_bytes {
            return false;
        }
        // Somebody may have truncated it.
        if let Some(metadata) = self.file.as_ref().and_then(|file| file.metadata().ok()) {
            self.length = metadata.len();
        }
        // A file with only a header takes a line of any length: a new file would be no better.
        self.length > self.header_length && self.length + more > self.limit_bytes
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_removed() {
            self.file = None;
        }
        if self.file.is_none() {
            self.open_path()?;
        }
        let Some(file) = &mut self.file else {
            return Err(ErrorKind::NotFound.into());
        };
        let separated;
        let line = if self.torn {
            separated = [b"\n", line].concat();
            &separated
        } else {
            line
        };
        match write_whole(file, line) {
            Ok(()) => {
                self.length += line.len() as u64;
                self.torn = false;
                Ok(())
            }
            Err((error, taken_back)) => {
                self.torn |= !taken_back;
                Err(error)
            }
        }
    }

    /// Whether lines in the open file would vanish with it. A file that was moved away is another's to keep.
    fn is_removed(&self) -> bool {
        let opened = self.file.as_ref().and_then(|file| file.metadata().ok());
        opened.is_some_and(|meta| {
            let is_unlinked = meta.is_file() && meta.nlink() == 0;
            is_unlinked && id(&self.path) != Some((meta.dev(), meta.ino()))
        })
    }

    /// Devices and pipes have no size, and must stay where they are.
    fn is_regular(&self) -> bool {
        match &self.file {
            Some(file) => file.metadata().is_ok_and(|metadata| metadata.is_file()),
            None => true,
        }
    }

    fn shift_backups(&self) -> io::Result<()> {
        // The file was moved away: the backups stay as they are.
        if !self.path.try_exists()? {
            return Ok(());
        }
        if self.backups == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.backups).rev() {
            match fs::rename(self.backup(number), self.backup(number + 1)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::rename(&self.path, self.backup(1))
    }

    fn backup(&self, number: usize) -> PathBuf {
        suffixed(&self.path, number)
    }
}

impl Drop for RotatingFile {
    fn drop(&mut self) {
        if self.outage.lost_now > 0 {
            let (path, lost) = (self.path.display(), lines(self.outage.lost_now));
            log::warn!("log {path}: {lost} lost at the end");
        }
    }
}

/// Device and inode.
fn id(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Whether the last line of an earlier run was cut off. An unreadable file counts as complete.
fn ends_inside_a_line(path: &Path, length: u64) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    length > 0 && last_byte().is_ok_and(|byte| byte != b'\n')
}

/// Returns its length.
fn write_header(file: &mut File, header: &[u8]) -> io::Result<u64> {
    write_whole(file, header).map_err(|(error, _)| error)?;
    Ok(header.len() as u64)
}

/// Writes all of `line`, else removes what was written of it. The error says whether that worked.
fn write_whole(file: &mut File, line: &[u8]) -> Result<(), (io::Error, bool)> {
    let mut written = 0;
    while written < line.len() {
        match file.write(&line[written..]) {
            Ok(0) => return Err((ErrorKind::WriteZero.into(), take_back(file, written))),
            Ok(count) => written += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err((e, take_back(file, written))),
        }
    }
    Ok(())
}

/// Removes the last `count` bytes of the file; true if they are gone.
fn take_back(file: &File, count: usize) -> bool {
    let truncate = || {
        // Not from our own count: somebody may have truncated the file.
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(count as u64))
    };
    count == 0 || truncate().is_ok()
}

/// Counts lost lines: of the outage under way, and of those before.
#[derive(Debug, Default)]
struct Outage {
    lost_now: u64,
    lost_before: u64,
    /// Why, as far as it was said.
    said: Option<ErrorKind>,
}

impl Outage {
    /// Counts a lost line; returns the message for the first one, and when the reason is another.
    fn lost_line(&mut self, error: &io::Error) -> Option<String> {
        self.lost_now += 1;
        (self.said.replace(error.kind()) != Some(error.kind())).then(|| {
            let lost = lines(self.lost_now + self.lost_before);
            let reason = netns::reason(error);
            format!("{reason}; {lost} lost so far, more are counted until writing works again")
        })
    }

    /// Notes a written line; returns the message if it ends an outage.
    fn over(&mut self) -> Option<String> {
        self.said = None;
        let lost = std::mem::take(&mut self.lost_now);
        self.lost_before += lost;
        (lost > 0).then(|| format!("writing works again; {} lost meanwhile", lines(lost)))
    }
}

fn lines(count: u64) -> String {
    match count {
        1 => "1 line".into(),
        _ => format!("{count} lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use tempfile::TempDir;

    const UNLIMITED: u64 = u64::MAX;

    fn directory() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.log");
        (directory, path)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn file_names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_youngest_backup_is_number_one_and_the_oldest_is_dropped() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, 6, 3).unwrap();
        for word in ["one", "two", "three", "four", "five", "six"] {
            log.line(word);
        }
        let names = ["p.log", "p.log.1", "p.log.2", "p.log.3"];
        assert_eq!(file_names(directory.path()), names);
        let contents = names.map(|name| text(&directory.path().join(name)));
        assert_eq!(contents, ["six\n", "five\n", "four\n", "three\n"]);
    }

    #[test]
    fn lines_do_not_vanish_with_a_file_that_was_removed() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, UNLIMITED, 3).unwrap();
        log.line("one");
        fs::remove_file(&path).unwrap();
        log.line("two");
        assert_eq!(text(&path), "two\n");
        fs::remove_dir_all(directory.path()).unwrap();
        log.line("three");
        log.line("four");
        assert_eq!(log.lost_lines(), 2);
        fs::create_dir(directory.path()).unwrap();
        log.line("five");
        assert_eq!((text(&path).as_str(), log.lost_lines()), ("five\n", 2));
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, 8, 3).unwrap();
        log.line("one");
        log.line("two");
        assert_eq!(file_names(directory.path()), ["p.log"]);
        log.line("x");
        assert_eq!(text(&suffixed(&path, 1)), "one\ntwo\n");
    }

    #[test]
    fn no_line_is_lost_or_split_over_many_files() {
        const LIMIT: u64 = 1000;
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, LIMIT, 1000).unwrap();
        let expected: Vec<String> = (0..10_000)
            .map(|number| format!("line {number} {}", "x".repeat(number % 37)))
            .collect();
        for line in &expected {
            log.line(line);
        }
        let backups = file_names(directory.path()).len() - 1;
        assert!(backups > 250, "{backups}");
        let mut found = String::new();
        for number in (1..=backups).rev() {
            let part = text(&suffixed(&path, number));
            assert!(part.len() as u64 <= LIMIT && part.ends_with('\n'));
            found += &part;
        }
        found += &text(&path);
        assert!(found.lines().eq(expected.iter().map(String::as_str)));
        assert_eq!(log.lost_lines(), 0);
    }

    #[test]
    fn a_line_longer_than_the_limit_has_a_file_of_its_own() {
        let (_directory, path) = directory();
        let mut log = RotatingFile::open(&path, 10, 9).unwrap();
        let whole = "a line much longer than the limit\n";
        for line in ["first\n", whole, "last\n"] {
            log.line(line);
        }
        assert_eq!(text(&suffixed(&path, 2)), "first\n");
        assert_eq!(text(&suffixed(&path, 1)), whole);
        assert_eq!(text(&path), "last\n");
    }

    #[test]
    fn each_new_file_begins_with_the_header_of_its_time() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, 20, 9).unwrap();
        log.line("first");
        log.set_header("head one\n");
        log.line("a line of 19 bytes");
        log.set_header("head two\n");
        log.line("longer than the limit with its head");
        let parts = [2, 1].map(|number| text(&suffixed(&path, number)));
        assert_eq!(parts, ["first\n", "head one\na line of 19 bytes\n"]);
        let last = "head two\nlonger than the limit with its head\n";
        assert_eq!(text(&path), last);
        fs::rename(&path, directory.path().join("moved")).unwrap();
        log.reopen().unwrap();
        assert_eq!(text(&path), "head two\n");
    }

    #[test]
    fn without_backups_the_file_begins_again() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, 6, 0).unwrap();
        log.line("one");
        log.line("two");
        assert_eq!(text(&path), "two\n");
        assert_eq!(file_names(directory.path()), ["p.log"]);
    }

    #[test]
    fn goes_on_behind_what_is_there() {
        let (_directory, path) = directory();
        fs::write(&path, "earlier\n").unwrap();
        let mut log = RotatingFile::open(&path, 12, 3).unwrap();
        log.line("now");
        assert_eq!(text(&path), "earlier\nnow\n");
        log.line("later");
        assert_eq!(text(&suffixed(&path, 1)), "earlier\nnow\n");
    }

    #[test]
    fn a_torn_line_of_an_earlier_run_is_not_continued() {
        let (_directory, path) = directory();
        fs::write(&path, "whole\nhal").unwrap();
        let mut log = RotatingFile::open(&path, UNLIMITED, 3).unwrap();
        log.line("now");
        log.line("later");
        assert_eq!(text(&path), "whole\nhal\nnow\nlater\n");
    }

    #[test]
    fn a_line_is_in_the_file_when_the_call_returns() {
        let (_directory, path) = directory();
        let mut log = RotatingFile::open(&path, UNLIMITED, 3).unwrap();
        log.line("1-2");
        assert_eq!(text(&path), "1-2\n");
    }

    #[test]
    fn a_missing_directory_is_named_with_a_remedy() {
        let (directory, _) = directory();
        let missing = directory.path().join("missing");
        let path = missing.join("p.log");
        let error = RotatingFile::open(&path, UNLIMITED, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let expected = format!(
            "open log {}: directory {} does not exist; create it or choose another file",
            path.display(),
            missing.display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_directory_in_its_place_is_an_error() {
        let (directory, _) = directory();
        let error = RotatingFile::open(directory.path(), UNLIMITED, 3).unwrap_err();
        let expected = format!("open log {}: is a directory", directory.path().display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn reopen_follows_external_rotation() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, UNLIMITED, 3).unwrap();
        log.line("one");
        let moved = directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        log.line("two");
        log.reopen().unwrap();
        log.line("three");
        assert_eq!(text(&moved), "one\ntwo\n");
        assert_eq!(text(&path), "three\n");
    }

    #[test]
    fn a_file_that_was_moved_away_does_not_shift_the_backups() {
        let (_directory, path) = directory();
        let mut log = RotatingFile::open(&path, 6, 3).unwrap();
        log.line("one");
        log.line("two");
        fs::remove_file(&path).unwrap();
        log.line("three");
        assert_eq!(text(&suffixed(&path, 1)), "one\n");
        assert_eq!(text(&path), "three\n");
        assert!(!suffixed(&path, 2).exists());
    }

    #[test]
    fn a_file_that_was_truncated_does_not_roll_early() {
        let (directory, path) = directory();
        let mut log = RotatingFile::open(&path, 10, 3).unwrap();
        log.line("12345678");
        File::create(&path).unwrap();
        log.line("abc");
        assert_eq!(text(&path), "abc\n");
        assert_eq!(file_names(directory.path()), ["p.log"]);
    }

    #[test]
    fn a_vanished_directory_loses_lines_until_it_is_back() {
        let (directory, _) = directory();
        let inner = directory.path().join("inner");
        let path = inner.join("p.log");
        fs::create_dir(&inner).unwrap();
        let mut log = RotatingFile::open(&path, 4, 3).unwrap();
        log.line("one");
        fs::remove_dir_all(&inner).unwrap();
        log.line("two");
        log.line("three");
        assert_eq!(log.lost_lines(), 2);
        fs::create_dir(&inner).unwrap();
        log.line("four");
        assert_eq!(text(&path), "four\n");
        assert_eq!(log.lost_lines(), 2);
    }

    #[test]
    fn a_full_device_loses_and_counts_and_is_never_renamed() {
        let mut log = RotatingFile::open("/dev/full", 10, 3).unwrap();
        for _ in 0..3 {
            log.line("a line longer than the limit");
        }
        assert_eq!(log.lost_lines(), 3);
        log.roll().unwrap();
        assert!(Path::new("/dev/full").exists());
    }

    #[test]
    fn an_outage_is_told_once_at_either_end() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        let mut outage = Outage::default();
        assert_eq!(outage.over(), None);
        assert_eq!(
            outage.lost_line(&full).unwrap(),
            "no space left on device; 1 line lost so far, \
             more are counted until writing works again"
        );
        assert_eq!(outage.lost_line(&full), None);
        let over = outage.over().unwrap();
        assert_eq!(over, "writing works again; 2 lines lost meanwhile");
        assert_eq!(outage.over(), None);
        let again = outage.lost_line(&full).unwrap();
        assert!(again.contains("3 lines lost so far"), "{again}");
    }

    /// Those that need root.
    mod as_root {
        use super::*;

        /// Runs `f` with an empty file system of 64 KiB, which only its thread sees. Needs root.
        #[expect(unsafe_code, reason = "mount namespaces and mounts")]
        fn on_small_disk(f: impl FnOnce(&Path) + Send) {
            let mount = |source: &std::ffi::CStr, target: &Path, flags, data: &std::ffi::CStr| {
                let target = std::ffi::CString::new(target.to_str().unwrap()).unwrap();
                let (source, data) = (source.as_ptr(), data.as_ptr().cast());
                // SAFETY: all strings end with a zero byte and outlive the call.
                let result = unsafe { libc::mount(source, target.as_ptr(), source, flags, data) };
                assert_eq!(result, 0, "{}", io::Error::last_os_error());
            };
            let directory = tempfile::tempdir().unwrap();
            let with_disk = || {
                // SAFETY: the mount namespace and working directory of this thread only.
                let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
                assert_eq!(result, 0, "{}", io::Error::last_os_error());
                let private = libc::MS_REC | libc::MS_PRIVATE;
                mount(c"none", Path::new("/"), private, c"");
                mount(c"tmpfs", directory.path(), 0, c"size=64k");
                f(directory.path());
            };
            thread::scope(|scope| scope.spawn(with_disk).join()).unwrap();
        }

        #[test]
        fn a_full_disk_tears_no_line_and_all_lines_are_accounted_for() {
            on_small_disk(|disk| {
                let (path, filler) = (disk.join("p.log"), disk.join("filler"));
                fs::write(&filler, vec![0; 30_000]).unwrap();
                let mut log = RotatingFile::open(&path, UNLIMITED, 3).unwrap();
                let line = |number| format!("{number:05} {}", "x".repeat(91));
                let mut written = 0;
                while log.lost_lines() < 50 {
                    log.line(&line(written));
                    written += 1;
                }
                assert!(text(&path).ends_with("x\n"));
                fs::remove_file(&filler).unwrap();
                for number in written..written + 100 {
                    log.line(&line(number));
                }
                let found = text(&path);
                let kept = (0..written - 50).chain(written..written + 100);
                assert!(found.lines().eq(kept.map(line)), "{found}");
                assert_eq!(log.lost_lines(), 50);
            });
        }

        #[test]
        fn rolling_goes_on_over_a_full_disk() {
            on_small_disk(|disk| {
                let path = disk.join("p.log");
                let mut log = RotatingFile::open(&path, 20_000, 9).unwrap();
                for number in 0..2000 {
                    log.line(&format!("{number:05} {}", "x".repeat(91)));
                }
                let mut found = 0;
                for name in file_names(disk) {
                    let part = text(&disk.join(name));
                    assert!(part.is_empty() || part.ends_with("x\n"));
                    assert!(part.lines().all(|line| line.len() == 97));
                    found += part.lines().count() as u64;
                }
                assert!(found > 500, "{found}");
                assert_eq!(found + log.lost_lines(), 2000);
            });
        }
    }
}

//! The log: FILE.seq and FILE.stat of a run, FILE of a companion.

use crate::options::{Format, Origin, Output};
use crate::output::entry::{Entry, LogFile};
use crate::output::files::suffixed;
use crate::output::rotate::RotatingFile;
use anyhow::{Context, Result, bail};
use report::format::style::Style;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of a log; without a log there are none.
pub struct Logs(Vec<Log>);

struct Log {
    has: LogFile,
    /// JSON lines, else text.
    json: bool,
    file: RotatingFile,
    /// What a new file begins with, by target.
    heads: BTreeMap<String, String>,
}

/// The files of the log, if there is one, and what each has.
pub fn files(output: &Output, origin: Origin) -> Vec<(LogFile, PathBuf)> {
    match (output.log(origin), origin) {
        (None, _) => Vec::new(),
        (Some(path), Origin::LiveRun | Origin::SavedRun) => vec![
            (LogFile::Sequence, suffixed(&path, "seq")),
            (LogFile::Statistics, suffixed(&path, "stat")),
        ],
        (Some(path), Origin::Companion(_)) => vec![(LogFile::Rows, path)],
    }
}

impl Logs {
    /// Opens the files. `header` is at the head of each file with text.
    pub fn open(output: &Output, origin: Origin, header: &str) -> Result<Self> {
        let open = |(has, path): (LogFile, PathBuf)| {
            let json = has != LogFile::Rows || output.wants(Format::Json);
            let file = RotatingFile::open(&path, output.logsize, output.logbackup as usize)
                .and_then(|file| file.with_header(if json { "" } else { header }))
                .with_context(|| format!("open the log {} (--log)", path.display()))?;
            Ok(Log {
                has,
                json,
                file,
                heads: BTreeMap::new(),
            })
        };
        let logs = files(output, origin).into_iter().map(open);
        Ok(Self(logs.collect::<Result<_>>()?))
    }

    /// Whether there is no log.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|log| log.file.path())
    }

    /// Whether the files have JSON lines.
    pub fn has_json(&self) -> bool {
        self.0.iter().any(|log| log.json)
    }

    /// Writes an entry to its files; `json` is the entry as JSON.
    pub fn write(&mut self, entry: &Entry<'_>, json: Option<&str>) {
        let files = entry.log_files();
        for log in self.0.iter_mut().filter(|log| files.contains(&log.has)) {
            let text = || entry.text(&Style::default()).map(Cow::from);
            let lines = if log.json {
                json.map(Cow::from)
            } else {
                text()
            };
            if let Some(lines) = lines {
                log.file.line(&lines);
            }
            if let Some((of, header)) = entry.header() {
                log.heads.insert(of.to_owned(), header);
                let all: String = log.heads.values().map(String::as_str).collect();
                log.file.set_header(&all);
            }
        }
    }

    /// Reopens the files, after SIGHUP: they were moved away.
    pub fn reopen(&mut self) {
        for log in &mut self.0 {
            if let Err(e) = log.file.reopen() {
                log::error!("cannot open the log anew after SIGHUP: {e}");
            }
        }
    }

    /// Fails if a line could not be written.
    pub fn finish(self) -> Result<()> {
        let lost: u64 = self.0.iter().map(|log| log.file.lost_lines()).sum();
        if lost > 0 {
            bail!("{lost} log lines (--log) could not be written");
        }
        Ok(())
    }
}

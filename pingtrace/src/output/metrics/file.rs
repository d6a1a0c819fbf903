//! The file with metrics: written beside its place and renamed, so that no reader sees half a page.

use super::board::Board;
use crate::output::files;
use anyhow::{Context, Result, anyhow};
use report::format::metrics::Form;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two pages; Prometheus asks every 15 s or more.
const INTERVAL: Duration = Duration::from_secs(10);
/// Everybody may read it, as the node exporter is another user; the umask counts.
const MODE: u32 = 0o644;

/// The thread that writes the file.
#[derive(Debug)]
pub(super) struct MetricsFile {
    end: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl MetricsFile {
    /// Writes the first page now, so that a wrong path is known.
    pub(super) fn start(path: &Path, board: Arc<Board>) -> Result<Self> {
        let (path, form) = (path.to_owned(), form(path));
        let write = move || write(&path, &board.page(form));
        write()?;
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("metrics-file".into());
        let thread = thread.spawn(move || until(&ended, write));
        let thread = thread.context("start the thread that writes metrics")?;
        Ok(Self { end, thread })
    }

    /// Writes the last page.
    pub(super) fn finish(self) -> Result<()> {
        drop(self.end);
        let written = self.thread.join();
        written.map_err(|_| anyhow!("the thread that writes metrics panicked"))?
    }
}

/// Writes until the end, and then once more, which decides: a page that failed before is out of date.
fn until(ended: &Receiver<()>, write: impl Fn() -> Result<()>) -> Result<()> {
    let mut failed = false;
    while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let written = write();
        match &written {
            Err(e) if !failed => log::warn!("{e:#}; the file stays as it was"),
            _ => {}
        }
        failed = written.is_err();
    }
    write()
}

/// `OpenMetrics` if the name ends so; the textfile collector reads the text format alone.
fn form(path: &Path) -> Form {
    match path.extension().and_then(|e| e.to_str()) {
        Some("om" | "openmetrics") => Form::OpenMetrics,
        _ => Form::Text,
    }
}

fn write(path: &Path, page: &[u8]) -> Result<()> {
    files::replace(path, page, MODE).map_err(|why| {
        anyhow!(
            "write the metrics {} (--metrics-file): {why}",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_file_takes_the_others_place_whole_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pingtrace.prom");
        fs::write(&path, "old").unwrap();
        let file = MetricsFile::start(&path, Arc::new(Board::new(false))).unwrap();
        let old = fs::File::open(&path).unwrap();
        file.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("pingtrace_build_info{"), "{text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // It is another file than the one that a reader still has.
        let now = fs::metadata(&path).unwrap();
        assert_ne!(old.metadata().unwrap().ino(), now.ino());
        assert_eq!(now.mode() & 0o077, 0o044);
    }

    #[test]
    fn a_wrong_path_is_known_at_the_start() {
        let path = Path::new("/nonexistent/x.prom");
        let refused = MetricsFile::start(path, Arc::new(Board::new(false))).unwrap_err();
        let refused = format!("{refused:#}");
        assert!(
            refused.contains("--metrics-file") && !refused.contains(".pingtrace-"),
            "{refused}"
        );
    }

    #[test]
    fn the_name_says_the_format() {
        assert_eq!(form(Path::new("a/b.om")), Form::OpenMetrics);
        assert_eq!(form(Path::new("a/b.prom")), Form::Text);
    }
}

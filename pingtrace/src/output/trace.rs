//! A trace for Perfetto, written as the probes come.

use crate::output::entry::Entry;
use crate::output::files;
use anyhow::{Context, Result};
use report::format::perfetto::Trace;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file. What could be written of it before an error is a trace, too.
pub struct TraceFile {
    path: PathBuf,
    file: BufWriter<File>,
    trace: Trace,
    written: io::Result<()>,
}

impl TraceFile {
    /// Makes the file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = files::create(path);
        let file = file.with_context(|| format!("open the trace {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            trace: Trace::default(),
            written: Ok(()),
        })
    }

    /// Writes what an entry adds to the trace; behind an error nothing.
    pub fn write(&mut self, entry: &Entry<'_>) {
        if self.written.is_err() {
            return;
        }
        let packets = match entry {
            Entry::Run(run) => self.trace.begin(run),
            Entry::Probe(result, _) => self.trace.probe(result),
            _ => return,
        };
        self.written = self.file.write_all(&packets);
    }

    /// Fails if something could not be written.
    pub fn finish(mut self) -> Result<()> {
        let written = self.written.and_then(|()| self.file.flush());
        written.with_context(|| format!("write the trace {}", self.path.display()))?;
        log::info!(
            "trace: {}: open it in https://ui.perfetto.dev",
            self.path.display()
        );
        Ok(())
    }
}

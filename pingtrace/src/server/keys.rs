//! The keys of a server: those of its file, of which the kernel has a copy.

use crate::kernel::map::{Field, Mapping, field};
use crate::kernel::tracer::Tracer;
use crate::wire::key::{KeyFile, Keys};
use anyhow::{Context, Result};
use bpf::pingtrace::types::pt_keys;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{Ordering, fence};

const FIRST: Field<pt_keys, u32> = field!(pt_keys, first);
const IN_USE: Field<pt_keys, u32> = field!(pt_keys, in_use);
const KEY: Field<pt_keys, [[u64; 2]; 4]> = field!(pt_keys, key);
/// Keys of a half, of which one is in use at a time.
const HALF: usize = KEY.elements() / 2;

/// The file, if the server has one, and the copy.
pub struct ServerKeys {
    file: Option<KeyFile>,
    copy: Mapping<pt_keys>,
}

impl ServerKeys {
    /// From now on only who has one of the keys gets stamps, if there are any.
    pub fn new(tracer: &Tracer<'_>, file: Option<&KeyFile>) -> Result<Self> {
        let copy = Mapping::shared(tracer.maps().data_keys.as_fd(), 1);
        let this = Self {
            file: file.cloned(),
            copy: copy.context("map the keys of the programs")?,
        };
        this.store();
        Ok(this)
    }

    /// Those in use.
    pub fn keys(&self) -> Option<Keys> {
        self.file.as_ref().map(|file| file.keys)
    }

    /// Directories that must stay readable.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.file
            .as_ref()
            .map(KeyFile::directories)
            .unwrap_or_default()
    }

    /// Reads the file again; whether other keys are in use since. If that fails, the old ones stay, and the log
    /// says so.
    pub fn reread(&mut self) -> bool {
        let before = self.keys();
        let Some(file) = &mut self.file else {
            return false;
        };
        match file.reread() {
            Ok(()) => log::info!("--key-file was read again"),
            Err(e) => log::error!("{e:#}; the keys that were read before stay in use"),
        }
        self.store();
        self.keys() != before
    }

    /// Writes the keys where the programs do not look, and then tells them where to look.
    fn store(&self) {
        let Some(keys) = self.keys() else { return };
        let next = (self.copy.read(0, FIRST) as usize + HALF) % KEY.elements();
        let both = keys.all().chain(keys.all()).take(HALF);
        for (at, key) in (next..).zip(both) {
            self.copy.write(0, KEY.element(at), key.words());
        }
        fence(Ordering::Release);
        self.copy.write(0, FIRST, next as u32);
        self.copy.write(0, IN_USE, 1);
    }
}

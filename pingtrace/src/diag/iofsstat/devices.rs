//! Block devices by number: their names, and the devices below them (from sysfs).

use crate::exit::Usage;
use anyhow::{Result, bail};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Major and minor number.
pub type Number = (u32, u32);

/// The parts of a `dev_t` as the kernel keeps it (`include/linux/kdev_t.h`).
pub fn number(dev: u32) -> Number {
    (dev >> 20, dev & 0xf_ffff)
}

/// The device that `-d` names.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Its number.
    pub number: Number,
    /// Notes: the devices below it, what it does not count.
    pub notes: Vec<String>,
}

impl Selected {
    /// Finds a device by its name, with or without `/dev/`, or by a symbolic link to it.
    pub fn find(wanted: &str) -> Result<Self> {
        let path = Path::new("/dev").join(wanted);
        let path = fs::canonicalize(&path).unwrap_or(path);
        // A / in a name is a ! in sysfs.
        let name = path.strip_prefix("/dev").unwrap_or(&path).to_string_lossy();
        let name = name.replace('/', "!");
        let Some(number) = number_of(&name) else {
            bail!(Usage(format!(
                "no block device is called '{wanted}' (-d); /proc/diskstats lists them"
            )))
        };
        let notes = [below(&name), counts_nothing(&name)];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        for note in &notes {
            log::info!("{note}");
        }
        Ok(Self { number, notes })
    }
}

/// The number of a device by its name in sysfs.
pub fn number_of(name: &str) -> Option<Number> {
    read_number(&Path::new("/sys/class/block").join(name))
}

fn read_number(sysfs: &Path) -> Option<Number> {
    number_in(&fs::read_to_string(sysfs.join("dev")).ok()?)
}

/// The number in the text of a device's file `dev`.
pub(crate) fn number_in(text: &str) -> Option<Number> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The devices below a stacked device.
fn below(name: &str) -> Option<String> {
    let sysfs = PathBuf::from("/sys/class/block").join(name);
    let slaves = fs::read_dir(sysfs.join("slaves")).into_iter().flatten();
    let mut lower: Vec<_> = slaves
        .flatten()
        .map(|slave| slave.file_name().to_string_lossy().into_owned())
        .collect();
    lower.sort();
    if let Ok(file) = fs::read_to_string(sysfs.join("loop/backing_file")) {
        lower.push(format!("the file {}", file.trim_end()));
    }
    (!lower.is_empty()).then(|| {
        format!(
            "{name} is a stack on {}: what it hands on counts there again, for the thread that does",
            lower.join(", ")
        )
    })
}

/// Drivers without requests (zram, dm, md) count themselves, whatever their queue says.
fn counts_nothing(name: &str) -> Option<String> {
    let sysfs = Path::new("/sys/class/block").join(name);
    let off = fs::read_to_string(sysfs.join("queue/iostats")).is_ok_and(|text| text.trim() == "0");
    (off && sysfs.join("mq").exists())
        .then(|| format!("{name} counts nothing, and so has no rows: its queue/iostats is 0"))
}

/// A device as the rows show it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// The disk that it is, or is a part of.
    pub disk: Number,
}

/// Devices, each looked up once.
#[derive(Default)]
pub struct Devices(HashMap<Number, Option<Known>>);

impl Devices {
    /// The block device of a number; `None` if there is none.
    pub fn get(&mut self, number: Number) -> Option<&Known> {
        let known = self.0.entry(number);
        known.or_insert_with(|| find(number)).as_ref()
    }

    /// The disk of a partition; a disk itself.
    pub fn disk(&mut self, number: Number) -> Number {
        self.get(number).map_or(number, |known| known.disk)
    }

    /// The name of a device, else its number.
    pub fn name(&mut self, number: Number) -> String {
        let known = self.get(number).map(|known| known.name.clone());
        known.unwrap_or_else(|| format!("{}:{}", number.0, number.1))
    }
}

fn find(number: Number) -> Option<Known> {
    let link = format!("/sys/dev/block/{}:{}", number.0, number.1);
    let sysfs = fs::canonicalize(link).ok()?;
    let name = sysfs.file_name()?.to_string_lossy().replace('!', "/");
    let is_part = sysfs.join("partition").exists();
    let disk = is_part.then(|| read_number(sysfs.parent()?)).flatten();
    Some(Known {
        name,
        disk: disk.unwrap_or(number),
    })
}

//! A cycle: turns the counts of the programs into rows.

use super::args::{Args, Mode};
use super::devices::{Devices, Number, Selected, number};
use super::names::{NameCache, tgid};
use super::programs::{Programs, Taken};
use crate::kernel::ids::Ids;
use crate::units;
use anyhow::{Context as _, Result};
use bpf::iofsstat::types::{io_direction, io_kind, io_part, io_part_key, io_row, io_row_key};
use bpf::iofsstat::types::{io_use, io_use_key};
use report::companion::iofsstat::diskstats::{self, Rates};
use report::companion::iofsstat::rows::{
    Block, Check, Device, File, Io, Latency, Of, Pages, Part, Who,
};
use report::companion::iofsstat::select::{Thresholds, top};
use report::companion::iofsstat::{Bytes, Conservation, Reading};
use report::companion::{Summary, Time};
use std::collections::HashMap;

const READ: usize = 0;
const WRITE: usize = 1;
const DISCARD: usize = 2;
const NAME: &str = "iofsstat";

/// The results of a cycle.
pub struct Cycle {
    /// Its end.
    pub time: Time,
    /// Its length.
    pub ns: u64,
    /// Devices.
    pub devices: Vec<Device>,
    /// Processes or files.
    pub rows: Vec<Io>,
    /// A line for each device: whether the rows add up to its counters.
    pub conservation: Vec<String>,
    /// Bytes by process or file, for the picture.
    pub volumes: Vec<(String, u64)>,
}

/// Counters of a device since the start.
struct Tally {
    name: String,
    start: Reading,
    last: Reading,
    rows: Bytes,
    /// The largest request.
    request: u64,
}

/// Takes one cycle after the other.
pub struct Monitor {
    mode: Mode,
    selected: Option<Selected>,
    /// The process whose rows are shown, as the kernel numbers it.
    tgid: Option<u32>,
    max_rows: Option<usize>,
    thresholds: Thresholds,
    pattern: bool,
    names: NameCache,
    devices: Devices,
    tallies: HashMap<Number, Tally>,
    last: units::Time,
    cycles: u64,
}

impl Monitor {
    /// Begins the first cycle.
    pub fn new(
        args: &Args,
        selected: Option<Selected>,
        ids: Ids,
        programs: &mut Programs<'_>,
    ) -> Result<Self> {
        let number = |pid| ids.kernel(pid).context("the process (-p) has ended");
        let mut this = Self {
            mode: args.mode(),
            selected,
            tgid: args.pid.map(number).transpose()?,
            max_rows: args.top.map(|n| n as usize),
            thresholds: args.thresholds(),
            pattern: args.pattern,
            names: NameCache::new(ids),
            devices: Devices::default(),
            tallies: HashMap::new(),
            last: units::Time::now(),
            cycles: 0,
        };
        for (device, reading) in programs.cut()?.devices {
            this.tally(&device, reading);
        }
        this.last = units::Time::now();
        Ok(this)
    }

    /// Ends the cycle, and begins the next one.
    pub fn cut(&mut self, programs: &mut Programs<'_>) -> Result<Cycle> {
        let taken = programs.cut()?;
        let now = units::Time::now();
        let ns = now.ns - self.last.ns;
        self.last = now;
        self.cycles += 1;
        self.names.next_cycle();
        let mut cycle = Cycle {
            time: Time(now.unix_ns),
            ns,
            devices: Vec::new(),
            rows: Vec::new(),
            conservation: Vec::new(),
            volumes: Vec::new(),
        };
        let rates = self.look_at_devices(&taken, &mut cycle);
        if self.mode == Mode::Files {
            self.look_at_files(programs, &taken, &rates, &mut cycle);
        } else {
            self.look_at_requests(programs, &taken, &rates, &mut cycle);
        }
        Ok(cycle)
    }

    /// The tally of a device, made if it is new.
    fn tally(&mut self, device: &diskstats::Device, reading: Reading) -> &mut Tally {
        let number = (device.major, device.minor);
        self.tallies.entry(number).or_insert_with(|| Tally {
            name: device.name.clone(),
            start: reading,
            last: reading,
            rows: Bytes::default(),
            request: 0,
        })
    }

    /// Rates of the disks, and the rows of those that are shown.
    fn look_at_devices(&mut self, taken: &Taken, cycle: &mut Cycle) -> HashMap<Number, Rates> {
        let mut rates = HashMap::new();
        let sums = self.sums(&taken.rows);
        for (device, reading) in &taken.devices {
            let number = (device.major, device.minor);
            let (rows, request) = sums.get(&number).copied().unwrap_or_default();
            let tally = self.tally(device, *reading);
            let from = std::mem::replace(&mut tally.last, *reading);
            tally.rows.read += rows.read;
            tally.rows.written += rows.written;
            tally.request = tally.request.max(request);
            let found = Conservation::check(&from, reading, rows, tally.request);
            let counted = reading.after.since(&from.after);
            let its = counted.rates(cycle.ns);
            rates.insert(number, its);
            let shown = match &self.selected {
                Some(selected) => selected.number == number,
                None => self.devices.disk(number) == number && !device.counters.is_idle(),
            };
            if !shown || !self.thresholds.reached(&its) {
                continue;
            }
            let check = (self.mode != Mode::Files).then(|| Check::from(&found));
            if check.is_some() && !(counted.is_idle() && rows == Bytes::default()) {
                let line = format!("{}: {}", device.name, found.text());
                cycle.conservation.push(line);
            }
            cycle.devices.push(Device {
                companion: NAME,
                time: cycle.time,
                cycle_ns: cycle.ns,
                dev: device.name.clone(),
                rates: its,
                check,
            });
        }
        rates
    }

    /// Bytes and the largest request of each device, and of each disk with its partitions.
    fn sums(&mut self, rows: &[(io_row_key, io_row)]) -> HashMap<Number, (Bytes, u64)> {
        let mut sums: HashMap<Number, (Bytes, u64)> = HashMap::new();
        for (key, row) in rows {
            let own = number(key.dev);
            let disk = self.devices.disk(own);
            let both = [Some(own), (disk != own).then_some(disk)];
            for number in both.into_iter().flatten() {
                let (bytes, request) = sums.entry(number).or_default();
                bytes.read += row.direction[READ].bytes;
                bytes.written += row.direction[WRITE].bytes;
                *request = row.largest.max(*request);
            }
        }
        sums
    }

    /// Whether rows of a device are shown.
    fn shows(&mut self, own: Number, disk: Option<Number>, rates: &HashMap<Number, Rates>) -> bool {
        let selected = self.selected.as_ref().map(|s| s.number);
        let wanted = selected.is_none_or(|number| number == own || Some(number) == disk);
        let its = selected.or(disk).and_then(|number| rates.get(&number));
        wanted && self.thresholds.reached(&its.copied().unwrap_or_default())
    }

    /// Whether a process is the one that was asked for; true if none was.
    fn wants(&self, who: u64) -> bool {
        self.tgid.is_none_or(|wanted| tgid(who) == Some(wanted))
    }

    fn look_at_requests(
        &mut self,
        programs: &Programs<'_>,
        taken: &Taken,
        rates: &HashMap<Number, Rates>,
        cycle: &mut Cycle,
    ) {
        let mut parts: HashMap<(u64, u32), Vec<&(io_part_key, io_part)>> = HashMap::new();
        for part in &taken.parts {
            let of_row = parts.entry((part.0.via, part.0.dev)).or_default();
            of_row.push(part);
        }
        let mut rows = Vec::new();
        for (key, row) in &taken.rows {
            let own = number(key.dev);
            let disk = self.devices.disk(own);
            let mut its = parts.remove(&(key.who, key.dev)).unwrap_or_default();
            if !self.wants(key.who) {
                its.retain(|(part, _)| self.wants(part.who));
            }
            let wanted = self.wants(key.who) || !its.is_empty();
            if wanted && self.shows(own, Some(disk), rates) {
                rows.push((key, row, its));
            }
        }
        let volume =
            |(_, row, _): &(_, &io_row, _)| row.direction[READ].bytes + row.direction[WRITE].bytes;
        for (key, row, its) in top(rows, self.max_rows, volume) {
            self.add_requests(programs, key, row, cycle);
            self.add_parts(programs, its, cycle);
        }
    }

    fn add_requests(
        &mut self,
        programs: &Programs<'_>,
        key: &io_row_key,
        row: &io_row,
        cycle: &mut Cycle,
    ) {
        let who = self.names.who(programs, key.who);
        let [read, write, discard] = [READ, WRITE, DISCARD].map(|d| &row.direction[d]);
        cycle
            .volumes
            .push((label(who.as_ref()), read.bytes + write.bytes));
        let sizes = |d: &io_direction| (self.pattern && d.count > 0).then_some(d.sizes);
        let block = Block {
            discard_count: discard.count,
            discard_bytes: discard.bytes,
            rd_latency: latency(read),
            wr_latency: latency(write),
            rd_sizes: sizes(read),
            wr_sizes: sizes(write),
        };
        cycle.rows.push(Io {
            companion: NAME,
            time: cycle.time,
            cycle_ns: cycle.ns,
            dev: self.devices.name(number(key.dev)),
            who,
            rd_count: read.count,
            rd_bytes: read.bytes,
            wr_count: write.count,
            wr_bytes: write.bytes,
            of: Of::Block(Box::new(block)),
        });
    }

    /// The owners of the pages that a process wrote, unless all were its own.
    fn add_parts(
        &mut self,
        programs: &Programs<'_>,
        parts: Vec<&(io_part_key, io_part)>,
        cycle: &mut Cycle,
    ) {
        let is_direct = |part: &&(io_part_key, io_part)| part.0.kind == io_kind::IO_NO_FILE.0;
        let via = parts.first().map_or(0, |part| part.0.via);
        if parts.iter().all(is_direct) && !self.names.is_kernel(programs, via) {
            return;
        }
        for (key, part) in top(parts, None, |(_, part)| part.bytes) {
            let via = self.names.who(programs, key.via);
            let of_file = key.inode != 0;
            let file = of_file.then(|| self.names.path(programs, key.who, key.inode, key.fs));
            cycle.rows.push(Io {
                companion: NAME,
                time: cycle.time,
                cycle_ns: cycle.ns,
                dev: self.devices.name(number(key.dev)),
                who: self.names.who(programs, key.who),
                rd_count: 0,
                rd_bytes: 0,
                wr_count: part.count,
                wr_bytes: part.bytes,
                of: Of::Part(Part {
                    via: via.as_ref().map_or("?".to_owned(), |via| via.comm.clone()),
                    via_pid: via.map_or(0, |via| via.tgid),
                    pages: pages(io_kind(key.kind)),
                    file: file.flatten(),
                    inode: of_file.then_some(key.inode),
                }),
            });
        }
    }

    fn look_at_files(
        &mut self,
        programs: &Programs<'_>,
        taken: &Taken,
        rates: &HashMap<Number, Rates>,
        cycle: &mut Cycle,
    ) {
        let mut rows = Vec::new();
        for (key, counted) in &taken.uses {
            let own = number(key.fs);
            let (dev, disk) = self.names.device(&mut self.devices, key.who, key.fs);
            if self.wants(key.who) && self.shows(own, disk, rates) {
                rows.push((key, counted, dev));
            }
        }
        let volume = |(_, counted, _): &(_, &io_use, _)| counted.bytes[READ] + counted.bytes[WRITE];
        for (key, counted, dev) in top(rows, self.max_rows, volume) {
            self.add_use(programs, key, counted, dev, cycle);
        }
    }

    fn add_use(
        &mut self,
        programs: &Programs<'_>,
        key: &io_use_key,
        counted: &io_use,
        dev: String,
        cycle: &mut Cycle,
    ) {
        let who = self.names.who(programs, key.who).map(|who| Who {
            pid: self.names.number(counted.thread),
            ..who
        });
        let file = self.names.path(programs, key.who, key.inode, key.fs);
        let label = file.clone().unwrap_or_else(|| label(who.as_ref()));
        let volume = counted.bytes[READ] + counted.bytes[WRITE];
        cycle.volumes.push((label, volume));
        cycle.rows.push(Io {
            companion: NAME,
            time: cycle.time,
            cycle_ns: cycle.ns,
            dev,
            who,
            rd_count: counted.count[READ],
            rd_bytes: counted.bytes[READ],
            wr_count: counted.count[WRITE],
            wr_bytes: counted.bytes[WRITE],
            of: Of::File(File {
                file,
                inode: key.inode,
            }),
        });
    }

    /// The summary of all cycles.
    pub fn summary(&self, programs: &Programs<'_>) -> Summary {
        let mut summary = Summary {
            counts: vec![("cycles".to_owned(), self.cycles)],
            ..Summary::default()
        };
        summary.losses = losses(programs, self.names.nameless);
        summary.lost = summary.losses.iter().map(|(_, n)| n).sum();
        if let Some(selected) = &self.selected {
            summary.notes.extend(selected.notes.iter().cloned());
        }
        summary.notes.extend(programs.blind.iter().cloned());
        if self.mode == Mode::Files {
            summary.notes.extend(aio_note(programs));
        } else {
            self.conclude(&mut summary);
        }
        summary
    }

    /// Whether the rows of all cycles add up to the devices' counters.
    fn conclude(&self, summary: &mut Summary) {
        let selected = self.selected.as_ref().map(|s| s.number);
        let mut apart = 0;
        let mut tallies: Vec<_> = self.tallies.iter().collect();
        tallies.sort_by_key(|(number, _)| **number);
        for (number, tally) in tallies {
            let found = Conservation::check(&tally.start, &tally.last, tally.rows, tally.request);
            let idle = found.device == Bytes::default() && found.rows == Bytes::default();
            if idle || selected.is_some_and(|selected| selected != *number) {
                continue;
            }
            if !found.agrees() {
                apart += 1;
            }
            summary
                .notes
                .push(format!("{}: {}", tally.name, found.text()));
        }
        summary.headline = match apart {
            0 => "the rows account for all bytes that the devices counted".to_owned(),
            n => format!("the rows do NOT account for what {n} devices counted"),
        };
    }
}

fn label(who: Option<&Who>) -> String {
    who.map_or("?".to_owned(), |who| format!("{}/{}", who.comm, who.tgid))
}

fn pages(kind: io_kind) -> Pages {
    match kind {
        io_kind::IO_FILE => Pages::File,
        io_kind::IO_METADATA => Pages::Metadata,
        io_kind::IO_NO_FILE => Pages::NoFile,
        _ => Pages::Earlier,
    }
}

fn latency(direction: &io_direction) -> Option<Latency> {
    let mean = |ns: u64, count: u64| ns.checked_div(count);
    Some(Latency {
        q2c_ns: mean(direction.q2c_ns, direction.count)?,
        q2c_max_ns: direction.q2c_max_ns,
        d2c_ns: mean(direction.d2c_ns, direction.d2c_count),
        d2c_max_ns: (direction.d2c_count > 0).then_some(direction.d2c_max_ns),
    })
}

fn losses(programs: &Programs<'_>, nameless: u64) -> Vec<(String, u64)> {
    let l = programs.losses();
    let all = [
        ("bios whose submitter could not be remembered", l.bios),
        ("requests without d2c", l.requests),
        ("pieces for which the table of processes was full", l.rows),
        ("pieces for which the table of files was full", l.parts),
        ("calls for which the table of files was full", l.uses),
        ("dirty pages that could not be remembered", l.pages),
        ("completions in a completion", l.nested),
        ("requests in too many pieces", l.walks),
        ("AIO results beyond 64 a call", l.events),
        ("calls of 32-bit programs", l.foreign),
        ("names of processes", nameless),
        ("runs of a program in itself", programs.missed()),
    ];
    let lost = all.into_iter().filter(|(_, n)| *n > 0);
    lost.map(|(name, n)| (name.to_owned(), n)).collect()
}

/// AIO results that user space read without a system call.
fn aio_note(programs: &Programs<'_>) -> Option<String> {
    let notes = programs.notes();
    (notes.aio_submitted > notes.aio_seen).then(|| {
        format!(
            "of {} AIO requests {} were seen to complete: the others are on their way, or were read in user space",
            notes.aio_submitted, notes.aio_seen
        )
    })
}

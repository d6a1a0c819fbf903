//! The cost of pingtrace itself: its CPU time, and the run times of its programs by the kernel's accounting.

#![expect(
    unsafe_code,
    reason = "run times of a program by its descriptor are not in libbpf-rs; two calls of libbpf"
)]

use crate::kernel::confine::keeper;
use crate::kernel::privileges::RUN_TIMES;
use crate::units::process_cpu_ns;
use libbpf_rs::{Object, Program, libbpf_sys};
use report::format::text;
use report::model::{Measured, OwnCost, ProgramCost};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Programs, held so that they can be read after they were detached.
pub type Programs = Vec<LoadedProgram>;

/// A program that is loaded.
pub struct LoadedProgram {
    /// Its name.
    pub name: String,
    /// Its section, which says the hook: `tp_btf/net_dev_queue`.
    pub hook: String,
    fd: OwnedFd,
}

impl LoadedProgram {
    fn info(&self) -> io::Result<libbpf_sys::bpf_prog_info> {
        program_info(self.fd.as_fd())
    }

    /// What a run of it took so far; `None` if it did not run, or the kernel did not count.
    pub fn mean(&self) -> Option<Measured> {
        let cost = self.cost()?;
        let mean_ns = cost.ns.checked_div(cost.runs)?;
        Some(Measured {
            runs: cost.runs,
            mean_ns,
        })
    }

    /// How often it ran and for how long, as far as the kernel [counted](count_run_times).
    pub fn cost(&self) -> Option<ProgramCost> {
        let info = self.info().ok()?;
        Some(ProgramCost {
            program: self.name.clone(),
            runs: info.run_cnt,
            ns: info.run_time_ns,
        })
    }
}

/// Reads the cost of this process and of its programs, from [`Meter::start`] on.
#[derive(Default)]
pub struct Meter {
    /// The kernel counts run times as long as this descriptor is open.
    counting: Option<OwnedFd>,
    programs: Programs,
    start_cpu_ns: u64,
    /// Slots of the table.
    records: u32,
    /// Slots that several targets use together.
    in_use: u32,
    /// The largest number of slots seen in use at once.
    pub most_in_use: u32,
    /// Slots that were reused before the state of their probe was final.
    pub evicted: u64,
}

impl Meter {
    /// Starts to count. Run times are counted only if `programs` is not empty: that costs two readings
    /// of the clock in each run of every BPF program of this kernel.
    pub fn start(records: u32, programs: Programs) -> Self {
        let mut meter = Self {
            programs,
            start_cpu_ns: process_cpu_ns(),
            records,
            ..Self::default()
        };
        if !meter.programs.is_empty() {
            // A schedule's captures start confined.
            match keeper::run(count_run_times) {
                Ok(counting) => meter.counting = Some(counting),
                Err(e) => {
                    log::warn!(
                        "cannot count the run times of BPF programs: needs {RUN_TIMES}: {e}"
                    );
                    meter.programs.clear();
                }
            }
        }
        meter
    }

    /// One of several targets uses so many slots now, and so many of its slots were evicted so far, where both were
    /// `before`.
    pub fn note(&mut self, before: (u32, u64), now: (u32, u64)) {
        self.in_use = self.in_use + now.0 - before.0;
        self.most_in_use = self.most_in_use.max(self.in_use);
        self.evicted += now.1 - before.1;
    }

    /// Says what it reads; the start was so long ago, ns.
    pub fn log(&self, elapsed_ns: u64) {
        for line in text::own_cost(&self.read(), elapsed_ns, [].into_iter()).lines() {
            log::info!("{line}");
        }
    }

    /// The cost since the start.
    pub fn read(&self) -> OwnCost {
        OwnCost {
            cpu_ns: process_cpu_ns().saturating_sub(self.start_cpu_ns),
            records: self.records,
            most_in_use: self.most_in_use,
            evicted: self.evicted,
            programs: self
                .programs
                .iter()
                .filter_map(LoadedProgram::cost)
                .collect(),
        }
    }
}

/// The kernel counts run times as long as the descriptor is open: `BPF_ENABLE_STATS`, Linux 5.8.
pub fn count_run_times() -> io::Result<OwnedFd> {
    // SAFETY: takes a number; returns a descriptor that nothing else owns, or a negative number.
    unsafe {
        let fd = libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// `bpf_prog_info`, without the arrays that it can point to.
fn program_info(program: BorrowedFd<'_>) -> io::Result<libbpf_sys::bpf_prog_info> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `length` bytes of plain integers to `info`.
    let result = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

/// Runs that the kernel skipped because a program would have interrupted itself.
pub fn missed(programs: &Programs) -> u64 {
    let missed = |program: &LoadedProgram| Some(program.info().ok()?.recursion_misses);
    programs.iter().filter_map(missed).sum()
}

/// The loaded programs of an object.
pub fn loaded(object: &Object) -> Programs {
    let held = |program: Program<'_>| {
        Some(LoadedProgram {
            name: program.name().to_str()?.to_owned(),
            hook: program.section().to_str()?.to_owned(),
            fd: program.as_fd().try_clone_to_owned().ok()?,
        })
    };
    let loaded = object.progs().filter(Program::autoload);
    loaded.filter_map(held).collect()
}

//! The kernel programs: loads the one that is needed, and reads what it counted.

use crate::kernel::map;
use crate::kernel::meter::{self, Programs as Loaded};
use crate::kernel::object::{self, Storage};
use crate::kernel::sampling;
use anyhow::{Context, Result};
use bpf::profile::types::{pr_key, pr_left, pr_stack, pr_sum};
use bpf::profile::{OpenProfileSkel, ProfileSkel, ProfileSkelBuilder};
use libbpf_rs::Link;
use libbpf_rs::skel::Skel;
use report::companion::profile::Measure;

/// Threads that can be off their CPU at once.
const MAX_OFF: u32 = 65_536;

/// What is counted.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a constant of the program"
)]
pub struct Setup {
    /// On the CPU, or off it.
    pub measure: Measure,
    /// Only this process, as the kernel numbers it.
    pub tgid: Option<u32>,
    /// Only this thread, as the kernel numbers it.
    pub tid: Option<u32>,
    /// Only the kernel's own threads.
    pub skip_user_tasks: bool,
    /// None of those.
    pub skip_kernel_tasks: bool,
    /// Take the stack of the kernel.
    pub with_kernel: bool,
    /// Take the stack of the process.
    pub with_user: bool,
    /// Only tasks that leave their CPU in these states.
    pub state: Option<u32>,
    /// Shortest wait.
    pub min_ns: u64,
    /// Longest wait.
    pub max_ns: u64,
    /// Stacks that can be kept.
    pub stacks: u32,
}

/// The loaded program.
pub struct Programs<'a> {
    skel: ProfileSkel<'a>,
    links: Vec<Link>,
    loaded: Loaded,
}

/// What found no room, and samples that the kernel skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Samples without their stack.
    pub stacks_full: u64,
    /// Samples, or waits, of stacks beyond the table.
    pub sums_full: u64,
    /// Tasks off their CPU beyond the table.
    pub left_full: u64,
    /// Samples taken while another BPF program ran.
    pub nested: u64,
}

impl<'a> Programs<'a> {
    /// Loads the program.
    pub fn load(storage: &'a mut Storage, setup: &Setup) -> Result<Self> {
        let wanted = match setup.measure {
            Measure::Samples => "on_sample",
            Measure::OffCpu => "on_switch",
        };
        let skel = object::load(
            "the program that counts stacks",
            ProfileSkelBuilder::default(),
            storage,
            |name| name == wanted,
            |open| configure(open, setup),
        )?;
        Ok(Self {
            loaded: meter::loaded(skel.object()),
            skel,
            links: Vec::new(),
        })
    }

    /// Takes a sample of each of these CPUs once in a period, until [`stop`](Self::stop).
    pub fn sample(&mut self, cpus: &[u32], period_ns: u64) -> Result<()> {
        for cpu in cpus {
            let link = sampling::attach(&self.skel.progs.on_sample, *cpu, period_ns)?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Follows tasks off their CPUs, until [`stop`](Self::stop).
    pub fn follow(&mut self) -> Result<()> {
        self.links.push(object::attach(&self.skel.progs.on_switch)?);
        Ok(())
    }

    /// Counts no more.
    pub fn stop(&mut self) {
        self.links.clear();
    }

    /// What was counted so far.
    pub fn sums(&self) -> impl Iterator<Item = Result<(pr_key, pr_sum)>> {
        map::entries(&self.skel.maps.sums)
    }

    /// The same without the values.
    pub fn keys(&self) -> impl Iterator<Item = pr_key> {
        map::keys(&self.skel.maps.sums)
    }

    /// The tasks that are off their CPU.
    pub fn off(&self) -> impl Iterator<Item = Result<pr_left>> {
        let off = map::entries::<u32, pr_left>(&self.skel.maps.left);
        off.map(|entry| Ok(entry?.1))
    }

    /// The addresses of a stack, the innermost first.
    pub fn stack(&self, hash: u64) -> Result<Vec<u64>> {
        let stack: Option<pr_stack> = map::look_up(&self.skel.maps.stacks, &hash)?;
        let frames = stack.context("a stack has disappeared")?.frames;
        let used = frames.into_iter().take_while(|address| *address != 0);
        Ok(used.collect())
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        let nested = meter::missed(&self.loaded);
        let bss = self.skel.maps.bss_data.as_deref();
        bss.map_or_else(Losses::default, |bss| Losses {
            stacks_full: bss.stacks_full,
            sums_full: bss.sums_full,
            left_full: bss.left_full,
            nested,
        })
    }
}

fn configure(open: &mut OpenProfileSkel<'_>, setup: &Setup) -> Result<()> {
    let rodata = open.maps.rodata_data.as_deref_mut();
    let rodata = rodata.context("the object has no .rodata")?;
    rodata.only_tgid = setup.tgid.unwrap_or(0);
    rodata.only_tid = setup.tid.unwrap_or(0);
    rodata.skip_user_tasks = setup.skip_user_tasks;
    rodata.skip_kernel_tasks = setup.skip_kernel_tasks;
    rodata.with_kernel = setup.with_kernel;
    rodata.with_user = setup.with_user;
    rodata.only_state = setup.state.map_or(-1, u32::cast_signed);
    rodata.min_ns = setup.min_ns;
    rodata.max_ns = setup.max_ns;
    open.maps.stacks.set_max_entries(setup.stacks)?;
    open.maps.sums.set_max_entries(setup.stacks)?;
    if setup.measure == Measure::OffCpu {
        open.maps.left.set_max_entries(MAX_OFF)?;
    }
    Ok(())
}

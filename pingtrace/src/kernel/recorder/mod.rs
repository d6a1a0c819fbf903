//! The recorder: kernel programs write what ran on each CPU, which tasks waited and what was held up into
//! rings that this process reads in place. irqoff, nosched, runqlat and the blame for a slow probe are
//! views of these rings.

mod buckets;
mod memory;

pub use buckets::bound;
pub use memory::{CpuEvent, Memory, RINGS, Reader, comm, text};

use crate::kernel::features::{self, Features};
use crate::kernel::meter::{self, Programs};
use crate::kernel::object::{self, Storage};
use crate::kernel::privileges::REAL_TIME;
use crate::kernel::sampling;
use crate::kernel::symbols;
use crate::kernel::thread::{Priority, pin, prioritise};
use anyhow::{Context, Result, bail};
use bpf::recorder::types::{pt_event_flag, pt_vector};
use bpf::recorder::{OpenRecorderSkel, RecorderSkel, RecorderSkelBuilder};
use libbpf_rs::Link;
use libbpf_rs::skel::Skel;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What is recorded, which decides the programs that are loaded.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Waits for a CPU of at least this length.
    pub waits: Option<Duration>,
    /// Whose waits count.
    pub only: Only,
    /// Distributions of waits.
    pub histogram: Option<By>,
    /// Lengths of the run queues.
    pub lengths: bool,
    /// Reschedules that take at least this long.
    pub reschedules: Option<Duration>,
    /// Samples whether the scheduler is to be called, even where that is traced; tracing costs about
    /// half of the whole recorder.
    pub sampled: bool,
    /// Timers that are at least this late.
    pub late: Option<Duration>,
    /// Hard interrupts that take at least this long.
    pub irqs: Option<Duration>,
    /// Softirqs that run or wait at least this long.
    pub softirqs: Option<Duration>,
}

/// Whose waits count; what is `None` or empty counts for everyone.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// Process.
    pub tgid: Option<u32>,
    /// Thread.
    pub tid: Option<u32>,
    /// Low half of the id of a cgroup of the CPU controller.
    pub cgroup: Option<u32>,
    /// Exact name, at most 15 bytes.
    pub comm: String,
}

/// How a distribution groups waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Everyone.
    All,
    /// Each process.
    Process,
    /// Each cgroup.
    Cgroup,
}

/// How reschedules are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Exactly, when they are requested. Linux 6.17 to 6.19.
    Exact,
    /// By sampling at the end of each interrupt, softirq and timer: too short by up to the time between
    /// two samples.
    Sampled,
    /// Not at all.
    None,
}

/// The loaded programs.
pub struct Recorder<'a> {
    skel: RecorderSkel<'a>,
    links: Vec<Link>,
    memory: Arc<Memory>,
    reschedules: Hook,
    missing: Vec<&'static str>,
}

/// Events in a CPU's ring of switches: 0.4 s at 10 000 switches a second. Fewer on large machines, so
/// that all rings take at most about 30 MB.
const SWITCHES: u32 = 4096;
const SWITCHES_OF_MANY: u32 = 1024;
const MANY_CPUS: usize = 64;
/// Processes or cgroups with a distribution of their own; further ones are counted.
const HISTOGRAMS: u32 = 1024;
/// Upper bound on the size of the interrupt entry stub, bytes (x86).
const ENTRY_BYTES: u64 = 64;
/// Attempts to find out which flag calls the scheduler at once.
const CALIBRATIONS: usize = 20;
/// Programs that are attached when they are asked for only.
const LATER: [&str; 2] = ["on_clock", "on_hrtimer_expired"];
/// Attempts that must agree.
const ENOUGH: usize = 3;
/// Attempts to find out who this process is.
const OWN_TRIALS: usize = 10;

impl<'a> Recorder<'a> {
    /// Loads what the setup asks for. Fails if the kernel does not even trace switches.
    pub fn load(storage: &'a mut Storage, setup: &Setup) -> Result<Self> {
        let cpus = libbpf_rs::num_possible_cpus().context("count the CPUs")?;
        let kernel = features::running()?;
        let reschedules = reschedule_hook(setup, kernel);
        let is_there =
            |tracepoint: &str| tracepoint.is_empty() || kernel.has_tracepoint(tracepoint);
        let (wanted, missing): (Vec<_>, Vec<_>) = programs(setup, reschedules)
            .into_iter()
            .partition(|(_, tracepoint)| is_there(tracepoint));
        let skel = object::load(
            "the recorder's programs",
            RecorderSkelBuilder::default(),
            storage,
            |name| wanted.iter().any(|(program, _)| *program == name),
            |open| configure(open, setup, cpus, reschedules),
        )?;
        let memory = Memory::map(
            skel.maps.cpus.as_fd(),
            skel.maps.events.as_fd(),
            skel.maps.stacks.as_fd(),
            (cpus, sizes(cpus)),
        )?;
        Ok(Self {
            skel,
            links: Vec::new(),
            memory: Arc::new(memory),
            reschedules,
            missing: missing
                .into_iter()
                .map(|(_, tracepoint)| tracepoint)
                .collect(),
        })
    }

    /// Attaches the programs: starts to record.
    pub fn attach(&mut self) -> Result<()> {
        self.attach_each()?;
        if self.reschedules != Hook::None {
            let hard = self.calibrate();
            let known = hard.inspect_err(|e| log::debug!("which flag calls the scheduler: {e:#}"));
            if known.is_err() && self.reschedules == Hook::Sampled {
                self.reschedules = Hook::None;
            }
        }
        Ok(())
    }

    fn attach_each(&mut self) -> Result<()> {
        for program in self.skel.object().progs_mut() {
            if program.autoload() && !LATER.map(OsStr::new).contains(&program.name()) {
                self.links.push(object::attach(&program)?);
            }
        }
        Ok(())
    }

    /// Records nothing until [`attach_again`](Self::attach_again).
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Records again. What was under way when the programs were detached is not known any more.
    pub fn attach_again(&mut self) -> Result<()> {
        self.memory.forget_what_is_under_way();
        self.attach_each()
    }

    /// Takes `hz` samples a second on each of these CPUs, as long as the result lives. Its timers also
    /// bound the error of late timers.
    pub fn arm(&self, cpus: &[u32], hz: u32) -> Result<Vec<Link>> {
        let each =
            |cpu: &u32| sampling::attach(&self.skel.progs.on_clock, *cpu, sampling::period_ns(hz));
        cpus.iter().map(each).collect()
    }

    /// The memory that the programs write.
    pub fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// How reschedules are observed.
    pub fn reschedules(&self) -> Hook {
        self.reschedules
    }

    /// Whether lazy reschedules (which may wait until the next tick) are told apart from hard ones.
    pub fn separates_lazy(&self) -> bool {
        let bss = self.skel.maps.bss_data.as_deref();
        bss.is_some_and(|bss| bss.hard_bit != 0)
    }

    /// Tracepoints that this kernel does not have.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// The programs, for their cost.
    pub fn programs(&self) -> Programs {
        meter::loaded(self.skel.object())
    }

    /// Those that run from [`attach`](Self::attach) on.
    pub fn attached(&self) -> Programs {
        let mut programs = self.programs();
        programs.retain(|program| !LATER.contains(&&*program.name));
        programs
    }

    /// The id of this process in the initial PID namespace, read from the state of the CPU on which it
    /// runs. 0 if that cannot be found out.
    pub fn own_tgid(&self) -> u32 {
        for _ in 0..OWN_TRIALS {
            // Causes a switch, which is recorded.
            thread::sleep(Duration::from_micros(100));
            let cpu = rustix::thread::sched_getcpu();
            let state = self.memory.cpu(cpu as u32);
            if cpu == rustix::thread::sched_getcpu() && state.tgid != 0 {
                return state.tgid;
            }
        }
        0
    }

    /// The maps.
    pub fn maps(&self) -> &bpf::recorder::RecorderMaps<'a> {
        &self.skel.maps
    }

    /// Distributions and throttled run queues for which there was no room.
    pub fn refused(&self) -> u64 {
        let bss = self.skel.maps.bss_data.as_deref();
        bss.map_or(0, |bss| bss.hist_refused + bss.throttles_refused)
    }

    /// Finds out which flag of a thread calls the scheduler at once: the one that is set each time a timer
    /// wakes a real-time thread on its CPU.
    fn calibrate(&mut self) -> Result<()> {
        let _link = object::attach(&self.skel.progs.on_hrtimer_expired)?;
        let tgid = self.own_tgid();
        let cpu = rustix::thread::sched_getcpu();
        let (mut common, mut samples) = (u64::MAX, 0);
        for _ in 0..CALIBRATIONS {
            let bss = self.skel.maps.bss_data.as_deref_mut();
            let bss = bss.context("the object has no .bss")?;
            bss.flags_set = 0;
            bss.calibrated_cpu = cpu as u32;
            bss.calibrated_tgid = tgid;
            bss.calibrating = true;
            let woken = wake_real_time(cpu);
            bss.calibrating = false;
            woken.with_context(|| format!("wake a thread at once: needs {REAL_TIME}"))?;
            // No flag: the timer expired while another task was to run anyway.
            if bss.flags_set == 0 {
                continue;
            }
            common &= bss.flags_set;
            samples += 1;
            if samples >= ENOUGH && common.is_power_of_two() {
                bss.hard_bit = common;
                return Ok(());
            }
        }
        bail!("one of {common:#x}")
    }
}

/// A real-time thread wakes on this CPU while another thread has it.
fn wake_real_time(cpu: usize) -> std::io::Result<()> {
    let sleeper = thread::spawn(move || {
        pin(cpu)?;
        prioritise(Priority::Fifo(1))?;
        thread::sleep(Duration::from_millis(1));
        Ok(())
    });
    let busy = thread::spawn(move || {
        pin(cpu)?;
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(())
    });
    let joined = [sleeper.join(), busy.join()];
    joined
        .into_iter()
        .try_for_each(|result| result.unwrap_or(Ok(())))
}

/// The name of a softirq (include/linux/interrupt.h).
pub fn softirq_name(vector: u32) -> String {
    const NAMES: [&str; 10] = [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER",
        "RCU",
    ];
    let name = NAMES.get(vector as usize);
    name.map_or_else(|| vector.to_string(), |name| (*name).to_owned())
}

/// The device or purpose of a hard interrupt.
pub fn irq_name(record: &CpuEvent) -> String {
    let number = record.event.other;
    if u32::from(record.event.flags) & pt_event_flag::PT_VECTOR.0 != 0 {
        return match pt_vector(number) {
            pt_vector::PT_LOCAL_TIMER => "local_timer".to_owned(),
            pt_vector::PT_CALL_FUNCTION => "call_function".to_owned(),
            _ => "call_function_single".to_owned(),
        };
    }
    let actions = fs::read_to_string(format!("/sys/kernel/irq/{number}/actions"));
    match actions.as_deref().map(str::trim) {
        Ok(name) if !name.is_empty() => format!("{number}:{name}"),
        _ => number.to_string(),
    }
}

/// The programs that a setup needs, with their tracepoints; empty for a program without one.
fn programs(setup: &Setup, reschedules: Hook) -> BTreeSet<(&'static str, &'static str)> {
    let mut wanted = BTreeSet::from([("on_sched_switch", "sched_switch"), ("on_clock", "")]);
    if setup.late.is_some() || setup.lengths || reschedules != Hook::None {
        wanted.insert(("on_hrtimer_expire", "hrtimer_expire_entry"));
    }
    if reschedules != Hook::None {
        wanted.insert(("on_hrtimer_expired", "hrtimer_expire_exit"));
    }
    if reschedules == Hook::Exact {
        wanted.extend([
            ("on_set_need_resched", "sched_set_need_resched_tp"),
            ("on_sched_entry", "sched_entry_tp"),
        ]);
    }
    if setup.softirqs.is_some() {
        wanted.extend([
            ("on_softirq_raise", "softirq_raise"),
            ("on_softirq_entry", "softirq_entry"),
        ]);
    }
    if setup.irqs.is_some() {
        wanted.insert(("on_irq_entry", "irq_handler_entry"));
        if cfg!(target_arch = "x86_64") {
            wanted.extend([
                ("on_local_timer_entry", "local_timer_entry"),
                ("on_call_function_entry", "call_function_entry"),
                (
                    "on_call_function_single_entry",
                    "call_function_single_entry",
                ),
            ]);
        }
    }
    let sampled = reschedules == Hook::Sampled;
    if setup.softirqs.is_some() || sampled {
        wanted.insert(("on_softirq_exit", "softirq_exit"));
    }
    if setup.irqs.is_some() || sampled {
        wanted.insert(("on_irq_exit", "irq_handler_exit"));
        if cfg!(target_arch = "x86_64") {
            wanted.extend([
                ("on_local_timer_exit", "local_timer_exit"),
                ("on_call_function_exit", "call_function_exit"),
                ("on_call_function_single_exit", "call_function_single_exit"),
            ]);
        }
    }
    if sampled && cfg!(target_arch = "x86_64") {
        wanted.insert(("on_reschedule_exit", "reschedule_exit"));
    }
    wanted
}

/// The exact hook if it is wanted, and this kernel has both of its tracepoints.
fn reschedule_hook(setup: &Setup, kernel: &Features) -> Hook {
    let traced = may_trace_reschedules(kernel.version)
        && kernel.has_tracepoint("sched_set_need_resched_tp")
        && kernel.has_tracepoint("sched_entry_tp");
    match setup.reschedules {
        None => Hook::None,
        Some(_) if traced && !setup.sampled => Hook::Exact,
        Some(_) => Hook::Sampled,
    }
}

/// The address at which a timer's interrupt enters the kernel, if it is known.
fn timer_entry() -> Option<u64> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let [entry] = symbols::addresses(["asm_sysvec_apic_timer_interrupt"]);
    entry
}

/// Whether this kernel records waits for a CPU: it has `CONFIG_SCHED_INFO` and `CONFIG_FAIR_GROUP_SCHED`.
pub fn knows_waits() -> Result<bool> {
    let kernel = features::running()?;
    Ok(kernel.has_member("sched_info", "last_queued")
        && kernel.has_member("sched_entity", "cfs_rq"))
}

/// Interrupts each of these CPUs by a timer `hz` times a second, as long as the result lives: that bounds
/// the error of late timers.
pub fn tick(cpus: &[u32], hz: u32) -> Result<Vec<OwnedFd>> {
    cpus.iter()
        .map(|cpu| sampling::cpu_clock(*cpu, sampling::period_ns(hz)))
        .collect()
}

/// Whether a program at `sched_set_need_resched_tp` is safe. A program that is called again while it
/// runs returns at once; up to Linux 6.19 the kernel checks that before its RCU section. Later kernels
/// begin and end the section in each call, and its end may request a reschedule
/// (`rcu_read_unlock_special`), which calls the program again without end: 7.2 ran into the guard page
/// of its stack and panicked.
fn may_trace_reschedules(version: (u32, u32)) -> bool {
    version < (7, 0)
}

fn sizes(cpus: usize) -> (u32, u32) {
    let switches = if cpus > MANY_CPUS {
        SWITCHES_OF_MANY
    } else {
        SWITCHES
    };
    (switches, switches / 4)
}

fn configure(
    open: &mut OpenRecorderSkel<'_>,
    setup: &Setup,
    cpus: usize,
    reschedules: Hook,
) -> Result<()> {
    let Some(rodata) = open.maps.rodata_data.as_deref_mut() else {
        bail!("the object has no .rodata")
    };
    let ns = |limit: Option<Duration>| limit.map_or(u64::MAX, |d| d.as_nanos() as u64);
    let (switches, others) = sizes(cpus);
    rodata.sizes.switches = switches;
    rodata.sizes.others = others;
    rodata.min_wait_ns = ns(setup.waits);
    rodata.min_resched_ns = ns(setup.reschedules);
    rodata.min_late_ns = ns(setup.late).min(i64::MAX as u64);
    rodata.min_irq_ns = ns(setup.irqs);
    rodata.min_softirq_ns = ns(setup.softirqs);
    rodata.min_softirq_delay_ns = ns(setup.softirqs);
    rodata.lengths = setup.lengths;
    rodata.only_tgid = setup.only.tgid.unwrap_or(0).cast_signed();
    rodata.only_tid = setup.only.tid.unwrap_or(0).cast_signed();
    rodata.only_cgroup = setup.only.cgroup.unwrap_or(0);
    for (to, from) in rodata.only_comm.iter_mut().zip(setup.only.comm.bytes()) {
        *to = from.cast_signed();
    }
    rodata.hist_by = match setup.histogram {
        None => bpf::recorder::types::pt_hist_by::HIST_OFF,
        Some(By::All) => bpf::recorder::types::pt_hist_by::HIST_ALL,
        Some(By::Process) => bpf::recorder::types::pt_hist_by::HIST_TGID,
        Some(By::Cgroup) => bpf::recorder::types::pt_hist_by::HIST_CGROUP,
    };
    rodata.sampled = reschedules == Hook::Sampled;
    if let Some(entry) = setup.late.and_then(|_| timer_entry()) {
        rodata.timer_entry = entry;
        rodata.timer_entry_end = entry + ENTRY_BYTES;
    }
    let per_cpu = switches + 3 * others;
    let cpus = cpus as u32;
    open.maps.cpus.set_max_entries(cpus)?;
    open.maps.events.set_max_entries(cpus * per_cpu)?;
    open.maps
        .stacks
        .set_max_entries(cpus * memory::STACKS_OF_CPU)?;
    let histograms = match setup.histogram {
        None => 1,
        Some(By::All) => cpus,
        Some(_) => HISTOGRAMS,
    };
    open.maps.hists.set_max_entries(histograms)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reschedules_are_traced_where_the_kernel_has_both_tracepoints_else_sampled() {
        let tracepoints: [(&str, &[&str]); 2] =
            [("sched_set_need_resched_tp", &[]), ("sched_entry_tp", &[])];
        let kernel = |version, count| Features::made_up(version, &tracepoints[..count]);
        let asked = Setup {
            reschedules: Some(Duration::ZERO),
            ..Setup::default()
        };
        let sampled = Setup {
            sampled: true,
            ..asked.clone()
        };
        let hook = |setup, version, count| reschedule_hook(setup, &kernel(version, count));
        assert_eq!(hook(&asked, (6, 18), 2), Hook::Exact);
        assert_eq!(hook(&asked, (7, 2), 2), Hook::Sampled);
        assert_eq!(hook(&asked, (6, 18), 1), Hook::Sampled);
        assert_eq!(hook(&sampled, (6, 18), 2), Hook::Sampled);
        assert_eq!(hook(&Setup::default(), (6, 18), 2), Hook::None);
    }

    #[test]
    fn reschedules_are_traced_only_where_that_does_no_harm() {
        assert!(may_trace_reschedules((6, 17)) && may_trace_reschedules((6, 19)));
        assert!(!may_trace_reschedules((7, 0)) && !may_trace_reschedules((7, 2)));
        assert!(!may_trace_reschedules((u32::MAX, 0)));
    }
}

//! Names for addresses, of the kernel and of processes.

pub(crate) mod kernel;

use crate::kernel::confine::keeper;
use crate::units::{monotonic_ns, thread_cpu_ns};
use blazesym::Pid;
use blazesym::symbolize::source::{Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use kernel::{Found, KernelSymbols};
use libbpf_rs::libbpf_sys;
use report::companion::Frame;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;

/// Reading the kernel's table again takes at most this part of a CPU, and this much at once, ns.
const SHARE: u64 = 100;
const BURST_NS: u64 = 1_000_000_000;
/// Upper bound on remembered addresses without a function.
const MAX_UNKNOWN: usize = 4096;

/// The addresses of these symbols of the kernel; `None` for one that is missing or hidden.
pub fn addresses<const N: usize>(names: [&str; N]) -> [Option<u64>; N] {
    let symbols = keeper::run(|| fs::read_to_string("/proc/kallsyms")).unwrap_or_default();
    addresses_in(&symbols, names)
}

/// The same of the text of `/proc/kallsyms`.
pub(crate) fn addresses_in<const N: usize>(symbols: &str, names: [&str; N]) -> [Option<u64>; N] {
    names.map(|name| {
        let is_it = |line: &&str| line.split(' ').nth(2) == Some(name);
        let line = symbols.lines().find(is_it)?;
        let address = u64::from_str_radix(line.split(' ').next()?, 16).ok()?;
        (address != 0).then_some(address)
    })
}

/// Symbol tables, each read when first needed, and the kernel's again when code was loaded since.
#[derive(Default)]
pub struct Symbols {
    processes: Symbolizer,
    kernel: RefCell<Kernel>,
}

impl Symbols {
    /// The names of a kernel stack; the address itself where `kernel.kptr_restrict` hides the symbols or
    /// no function contains it.
    pub fn kernel(&self, addresses: &[u64]) -> Vec<Frame> {
        self.kernel_at(monotonic_ns(), addresses)
    }

    /// The same for a stack that was recorded at some time, `CLOCK_MONOTONIC` ns. Of many stacks, taken
    /// one after the other, only the first asks the kernel whether code was loaded since.
    pub fn kernel_at(&self, ns: u64, addresses: &[u64]) -> Vec<Frame> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.prepare(ns, addresses);
        let name = |found: Found<'_>| format!("{}+{:#x}", found.name, found.offset);
        let frame = |address: &u64| Frame {
            address: *address,
            name: kernel.find(*address).map(name),
        };
        addresses.iter().map(frame).collect()
    }

    /// The kernel function that contains an address.
    pub fn function(&self, address: u64) -> Option<String> {
        self.kernel.borrow_mut().function(address)
    }

    /// The names of a stack of a running process, else its addresses.
    pub fn user(&self, pid: u32, addresses: &[u64]) -> Vec<Frame> {
        let source = Source::Process(Process::new(Pid::from(pid)));
        let found = self.processes.symbolize(&source, Input::AbsAddr(addresses));
        let found = found.unwrap_or_else(|e| {
            log::debug!("name addresses: {e:#}");
            Vec::new()
        });
        let frame = |(k, address): (usize, &u64)| Frame {
            address: *address,
            name: found.get(k).and_then(name),
        };
        addresses.iter().enumerate().map(frame).collect()
    }
}

/// The kernel's symbols as they were when they were last read.
#[derive(Default)]
pub struct Kernel {
    symbols: Option<KernelSymbols>,
    loaded: Loaded,
    /// When `loaded` was last compared, `CLOCK_MONOTONIC` ns.
    compared_ns: u64,
    /// Code was loaded since, but the table could not be read again yet.
    is_old: bool,
    /// Addresses for which reading the table again did not help.
    unknown: HashSet<u64>,
    /// Until when the share of a CPU for reading is used up, `CLOCK_MONOTONIC` ns.
    used_ns: u64,
}

impl Kernel {
    /// The function that contains an address.
    pub fn function(&mut self, address: u64) -> Option<String> {
        self.prepare(monotonic_ns(), &[address]);
        self.find(address).map(|found| found.name.to_owned())
    }

    /// Reads the table if it is not there yet, and again if one of these addresses, which were recorded at
    /// some time, may belong to code that was loaded since.
    fn prepare(&mut self, recorded_ns: u64, addresses: &[u64]) {
        let Some(symbols) = &self.symbols else {
            self.read();
            return;
        };
        let is_new = |address: &u64| !self.unknown.contains(address);
        let mut missing = addresses
            .iter()
            .filter(|address| is_kernel(**address) && symbols.find(**address).is_none());
        // A trampoline comes without a new program or module.
        let is_missing = missing.any(is_new);
        let may_be_old = |address: &u64| symbols.find(*address).is_none_or(|f| f.loaded);
        if self.compared_ns < recorded_ns && (is_missing || addresses.iter().any(may_be_old)) {
            self.compared_ns = monotonic_ns();
            self.is_old |= self.loaded != self.loaded.now();
        }
        if (self.is_old || is_missing) && self.has_time() {
            self.used_ns += self.read() * SHARE;
        }
        self.remember_unknown(addresses);
    }

    /// Returns the CPU time that it took, ns.
    fn read(&mut self) -> u64 {
        // Before the table: code loaded meanwhile makes the table stale.
        self.compared_ns = monotonic_ns();
        let loaded = self.loaded.now();
        if loaded != self.loaded {
            self.unknown.clear();
        }
        self.loaded = loaded;
        let (symbols, took_ns) = keeper::run(|| {
            let begin = thread_cpu_ns();
            let symbols = KernelSymbols::read();
            (symbols, thread_cpu_ns() - begin)
        });
        self.symbols = Some(symbols);
        self.is_old = false;
        took_ns
    }

    fn has_time(&mut self) -> bool {
        let now = monotonic_ns();
        self.used_ns = self.used_ns.max(now.saturating_sub(BURST_NS * SHARE));
        self.used_ns <= now
    }

    fn remember_unknown(&mut self, addresses: &[u64]) {
        if self.is_old {
            return;
        }
        if self.unknown.len() > MAX_UNKNOWN {
            self.unknown.clear();
        }
        let missing = addresses
            .iter()
            .filter(|address| self.find(**address).is_none());
        let missing: Vec<u64> = missing.copied().collect();
        self.unknown.extend(missing);
    }

    /// The function that contains this address; unknown where other code may have been loaded since.
    fn find(&self, address: u64) -> Option<Found<'_>> {
        let found = self.symbols.as_ref()?.find(address)?;
        (!found.loaded || !self.is_old).then_some(found)
    }
}

/// Kernel addresses are those of the upper half.
fn is_kernel(address: u64) -> bool {
    address >> 63 != 0
}

/// Identifies the code loaded into the kernel; changes when more is loaded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Loaded {
    /// `/proc/modules`.
    modules: String,
    /// The id of the last BPF program (ids ascend); 0 without the privilege to ask.
    program: u32,
}

impl Loaded {
    /// The present value; `self` is an earlier one.
    fn now(&self) -> Self {
        let known = self.program;
        keeper::run(move || Self {
            modules: fs::read_to_string("/proc/modules").unwrap_or_default(),
            program: last_program(known),
        })
    }
}

/// The id of the last BPF program; `known` if no newer one exists.
fn last_program(known: u32) -> u32 {
    let mut last = known;
    loop {
        let mut next = 0;
        #[expect(
            unsafe_code,
            reason = "libbpf-rs lists programs only with all about them"
        )]
        // SAFETY: it writes a number of 32 bits to where one is.
        let result = unsafe { libbpf_sys::bpf_prog_get_next_id(last, &raw mut next) };
        if result != 0 {
            return last;
        }
        last = next;
    }
}

fn name(symbol: &Symbolized<'_>) -> Option<String> {
    let symbol = symbol.as_sym()?;
    Some(format!("{}+{:#x}", symbol.name, symbol.offset))
}

#[cfg(test)]
mod as_root {
    use super::*;
    use bpf::burn::BurnSkelBuilder;
    use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
    use libbpf_rs::skel::{OpenSkel, SkelBuilder};
    use libbpf_rs::{Program, ProgramMut};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    #[test]
    fn functions_of_kernel_and_process_have_names() {
        let symbols = Symbols::default();
        let all = fs::read_to_string("/proc/kallsyms").unwrap();
        let line = all.lines().find(|l| l.ends_with(" T ip_rcv")).unwrap();
        let ip_rcv = u64::from_str_radix(&line[..16], 16).unwrap();
        let frames = symbols.kernel(&[ip_rcv + 4, 0x10]);
        assert_eq!(frames[0].name.as_deref(), Some("ip_rcv+0x4"));
        assert_eq!(frames[1].name, None);
        let here = functions_of_kernel_and_process_have_names as fn() as usize as u64;
        let frames = symbols.user(std::process::id(), &[here]);
        let name = frames[0].name.as_deref().unwrap();
        assert!(name.contains("functions_of_kernel"), "{name}");
    }

    /// Where a program's code begins, and its length.
    fn code_of(program: &ProgramMut<'_>) -> (u64, u64) {
        let id = Program::id_from_fd(program.as_fd()).unwrap();
        let options = ProgInfoQueryOptions::default()
            .include_jited_ksyms(true)
            .include_jited_func_lens(true);
        let mut all = ProgInfoIter::with_query_opts(options);
        let info = all.find(|info| info.id == id).unwrap();
        (
            info.jited_ksyms[0] as u64,
            u64::from(info.jited_func_lens[0]),
        )
    }

    /// Programs that are loaded after the table was read have names too, and end where they end.
    #[test]
    fn code_that_is_loaded_later_has_a_name() {
        let symbols = Symbols::default();
        assert_eq!(symbols.function(0xffff_ffff_0000_1234), None);
        let mut object = MaybeUninit::uninit();
        let open = BurnSkelBuilder::default().open(&mut object).unwrap();
        let loaded = open.load().unwrap();
        let (start, length) = code_of(&loaded.progs.burn_softirq);
        let name = |address| symbols.kernel(&[address]).pop().unwrap().name;
        let last = name(start + length - 1).unwrap_or_default();
        assert!(last.starts_with("bpf_prog_"), "{last}");
        assert!(
            last.ends_with(&format!("_burn_softirq+{:#x}", length - 1)),
            "{last}"
        );
        let behind = name(start + length).unwrap_or_default();
        assert!(!behind.contains(&format!("+{length:#x}")), "{behind}");
    }

    /// Without time to read the table again, what may be other code by now has no name.
    #[test]
    fn an_old_table_names_only_what_stays() {
        let [ip_rcv] = addresses(["ip_rcv"]);
        let ip_rcv = ip_rcv.unwrap();
        let mut kernel = Kernel::default();
        kernel.prepare(1, &[ip_rcv]);
        kernel.used_ns = u64::MAX;
        let mut object = MaybeUninit::uninit();
        let open = BurnSkelBuilder::default().open(&mut object).unwrap();
        let loaded = open.load().unwrap();
        let (start, _) = code_of(&loaded.progs.burn_softirq);
        // What was recorded before the table was read is in it.
        kernel.prepare(kernel.compared_ns, &[start]);
        assert!(!kernel.is_old);
        kernel.prepare(monotonic_ns(), &[ip_rcv, start]);
        assert!(kernel.is_old && kernel.find(start).is_none());
        assert_eq!(
            kernel.find(ip_rcv).map(|f| (f.name, f.offset)),
            Some(("ip_rcv", 0))
        );
        kernel.used_ns = 0;
        kernel.prepare(monotonic_ns(), &[start]);
        assert!(kernel.find(start).is_some_and(|f| f.loaded));
        assert!(kernel.used_ns > 0);
        let nobodys = 0xffff_ffff_0000_1234;
        kernel.prepare(monotonic_ns(), &[nobodys]);
        assert!(kernel.unknown.contains(&nobodys) || kernel.is_old);
    }
}

//! Names for addresses, of the kernel and of processes.

use blazesym::symbolize::source::{Kernel, Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use blazesym::{MaybeDefault, Pid};
use report::companion::Frame;

/// Where these symbols of the kernel are; `None` where one is not there, or is hidden.
pub fn addresses<const N: usize>(names: [&str; N]) -> [Option<u64>; N] {
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    names.map(|name| {
        let is_it = |line: &&str| line.split(' ').nth(2) == Some(name);
        let line = symbols.lines().find(is_it)?;
        let address = u64::from_str_radix(line.split(' ').next()?, 16).ok()?;
        (address != 0).then_some(address)
    })
}

/// Symbol tables, each read when it is first needed.
#[derive(Default)]
pub struct Symbols(Symbolizer);

impl Symbols {
    /// A kernel stack. Where `kernel.kptr_restrict` hides the symbols, or nothing is known of an
    /// address, the address remains.
    pub fn kernel(&self, addresses: &[u64]) -> Vec<Frame> {
        let kernel = Kernel {
            // The uncompressed image is seldom there, and /proc/kallsyms has the modules too.
            vmlinux: MaybeDefault::None,
            ..Kernel::default()
        };
        self.frames(&Source::Kernel(kernel), addresses)
    }

    /// The kernel's function that holds an address.
    pub fn function(&self, address: u64) -> Option<String> {
        let name = self.kernel(&[address]).pop()?.name?;
        name.split('+').next().map(str::to_owned)
    }

    /// A stack of a process that still runs, or else plain addresses.
    pub fn user(&self, pid: u32, addresses: &[u64]) -> Vec<Frame> {
        self.frames(&Source::Process(Process::new(Pid::from(pid))), addresses)
    }

    fn frames(&self, source: &Source<'_>, addresses: &[u64]) -> Vec<Frame> {
        let found = self.0.symbolize(source, Input::AbsAddr(addresses));
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

fn name(symbol: &Symbolized<'_>) -> Option<String> {
    let symbol = symbol.as_sym()?;
    Some(format!("{}+{:#x}", symbol.name, symbol.offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
}

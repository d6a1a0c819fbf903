//! Names for what a kernel says when it drops a packet: reasons from its BTF, as their numbers
//! differ from kernel to kernel, and functions from its symbol table.

use bpf::pingtrace::types::pt_drop;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Enum, EnumMember};
use report::model::{Host, KernelDrop, Symbol};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Functions whose names are kept; a kernel drops packets at some dozens of places.
const MAX_LOCATIONS: usize = 256;

/// A drop as the programs of this host saw it, its names not looked up yet.
pub fn local(drop: &pt_drop) -> KernelDrop {
    let number = |number: u64| Symbol { number, name: None };
    KernelDrop {
        host: Host::Client,
        reply: drop.direction != 0,
        ns: drop.ns,
        netns: drop.netns,
        ifindex: drop.ifindex,
        reason: number(u64::from(drop.reason)),
        location: number(drop.location),
        device: None,
        netns_name: None,
    }
}

/// The running kernel's names, each looked up when it is first needed.
#[derive(Default)]
pub struct DropNames {
    reasons: Option<HashMap<u64, String>>,
    locations: HashMap<u64, Option<String>>,
}

impl DropNames {
    /// Names a reason, if that kernel has a name for it.
    pub fn reason(&mut self, symbol: &mut Symbol) {
        if symbol.name.is_none() && symbol.number != 0 {
            let names = self.reasons.get_or_insert_with(reasons);
            symbol.name = names.get(&symbol.number).cloned();
        }
    }

    /// Names a function by an address in it.
    pub fn location(&mut self, symbol: &mut Symbol) {
        if symbol.name.is_some() || symbol.number == 0 {
            return;
        }
        if self.locations.len() >= MAX_LOCATIONS {
            self.locations.clear();
        }
        let known = self.locations.entry(symbol.number);
        symbol
            .name
            .clone_from(known.or_insert_with_key(|at| function(*at)));
    }
}

/// `enum skb_drop_reason` of the running kernel, without the prefix.
fn reasons() -> HashMap<u64, String> {
    let names = Btf::from_vmlinux().map(|btf| {
        let reasons = btf.type_by_name::<Enum<'_>>("skb_drop_reason");
        let named = |member: EnumMember<'_>| {
            let name = member.name?.to_str()?;
            let name = name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name);
            Some((member.value.cast_unsigned(), name.to_owned()))
        };
        reasons.map_or_else(HashMap::new, |r| r.iter().filter_map(named).collect())
    });
    names.unwrap_or_else(|e| {
        log::debug!("no names for drop reasons: {e}");
        HashMap::new()
    })
}

/// The function that holds an address: the last text symbol before it. All addresses read as 0
/// where `kernel.kptr_restrict` hides them.
fn function(address: u64) -> Option<String> {
    let file = File::open("/proc/kallsyms")
        .map_err(|e| log::debug!("no names for kernel functions: read /proc/kallsyms: {e}"));
    nearest(BufReader::new(file.ok()?), address)
}

fn nearest(symbols: impl BufRead, address: u64) -> Option<String> {
    let mut best: Option<(u64, String)> = None;
    for line in symbols.lines().map_while(Result::ok) {
        let mut words = line.split_whitespace();
        let at = words.next().and_then(|w| u64::from_str_radix(w, 16).ok());
        let (Some(at), Some("t" | "T" | "w" | "W"), Some(name)) = (at, words.next(), words.next())
        else {
            continue;
        };
        let nearer = best.as_ref().is_none_or(|(found, _)| *found < at);
        if at != 0 && at <= address && nearer {
            best = Some((at, name.to_owned()));
        }
    }
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_the_last_text_symbol_before_an_address() {
        let symbols = b"ffffffff81000000 T _text\nffffffff81000000 T _stext\n\
            ffffffff81000200 t tbf_enqueue\t[sch_tbf]\nffffffff81000180 t alias\n\
            ffffffff81000210 d data\nffffffff81000300 T ip_rcv\n";
        let found = |address| nearest(&symbols[..], address);
        assert_eq!(found(0xffff_ffff_8100_0220).as_deref(), Some("tbf_enqueue"));
        assert_eq!(found(0xffff_ffff_8100_0001).as_deref(), Some("_text"));
        assert_eq!(found(0xffff_ffff_8100_0300).as_deref(), Some("ip_rcv"));
        assert_eq!(found(0x1000), None);
        let hidden = b"0000000000000000 T _text\n0000000000000000 T ip_rcv\n";
        assert_eq!(nearest(&hidden[..], 0xffff_ffff_8100_0300), None);
    }
}

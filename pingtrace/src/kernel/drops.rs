//! Names for a kernel's drops of packets: reasons from its BTF, as their numbers differ between kernels,
//! and functions from its symbol table.

use crate::kernel::features;
use crate::kernel::symbols::Kernel;
use bpf::pingtrace::types::pt_drop;
use report::model::{Direction, Host, Ifindex, KernelDrop, Netns, Symbol};

/// A drop as the programs of this host saw it, without names.
pub fn local(drop: &pt_drop) -> KernelDrop {
    let number = |number: u64| Symbol { number, name: None };
    KernelDrop {
        host: Host::Client,
        direction: Direction::from_number(drop.direction),
        ns: drop.ns,
        netns: Netns(drop.netns),
        ifindex: Ifindex(drop.ifindex),
        reason: number(u64::from(drop.reason)),
        location: number(drop.location),
        device: None,
        netns_name: None,
        mtu: None,
    }
}

/// Names of the running kernel, each looked up when it is first needed.
#[derive(Default)]
pub struct DropNames {
    functions: Kernel,
}

impl DropNames {
    /// Fills in the name of the reason, if the kernel has one.
    pub fn reason(&self, symbol: &mut Symbol) {
        if symbol.name.is_none() && symbol.number != 0 {
            let name = features::known().drop_reason(symbol.number);
            symbol.name = name.map(str::to_owned);
        }
    }

    /// Fills in the function that contains the address.
    pub fn location(&mut self, symbol: &mut Symbol) {
        if symbol.name.is_some() || symbol.number == 0 {
            return;
        }
        symbol.name = self.functions.function(symbol.number);
    }
}

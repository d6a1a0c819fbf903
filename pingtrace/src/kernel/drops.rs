//! Names for a kernel's drops of packets: reasons from its BTF, as their numbers differ between kernels,
//! and functions from its symbol table.

use crate::kernel::symbols::Kernel;
use bpf::pingtrace::types::pt_drop;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Enum, EnumMember};
use report::model::{Host, KernelDrop, Symbol};
use std::collections::HashMap;

/// A drop as the programs of this host saw it, without names.
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
        mtu: None,
    }
}

/// Names of the running kernel, each looked up when it is first needed.
#[derive(Default)]
pub struct DropNames {
    reasons: Option<HashMap<u64, String>>,
    functions: Kernel,
}

impl DropNames {
    /// Fills in the name of the reason, if the kernel has one.
    pub fn reason(&mut self, symbol: &mut Symbol) {
        if symbol.name.is_none() && symbol.number != 0 {
            let names = self.reasons.get_or_insert_with(reasons);
            symbol.name = names.get(&symbol.number).cloned();
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

//! Files of /proc and /sys, which a container's runtime may have made up, and in which processes, modules
//! and mounts have names of any kind.

use crate::diag::cgroups::root_in;
use crate::diag::iofsstat::devices::number_in;
use crate::diag::iofsstat::programs::dirty_limit_in;
use crate::diag::memleak::tracker::{c_library_in, slab_functions_in};
use crate::diag::stolen::steal;
use crate::kernel::host::cpu_list;
use crate::kernel::process::Stat;
use crate::kernel::symbols::addresses_in;
use crate::kernel::symbols::kernel::KernelSymbols;
use crate::units::monotonic_offset;
use report::companion::iofsstat::{diskstats, mounts};
use report::companion::memleak::{Areas, Cache, meminfo, slabinfo, status, unused, vmallocinfo};
use std::collections::HashMap;

/// The input as each of the files; those that are read together are parted by an empty line.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once("\n\n").unwrap_or((&text, ""));
    check_memory(first, second);
    check_symbols(first, second);
    check_mounts(&text);
    let _ = diskstats::parse(&text);
    let _ = (
        Stat::parse(&text),
        monotonic_offset(&text),
        number_in(&text),
    );
    assert!(steal(&text, 10_000_000).len() <= text.lines().count());
    assert!(dirty_limit_in(&text) > 0);
    if let Some(cpus) = cpu_list(&text) {
        assert!(cpus.len() <= 1 << 17);
    }
    let id = netns::container_id(&text);
    assert!(id.is_none_or(|id| id.len() == 64));
    let uid = netns::pod_uid(&text);
    assert!(uid.is_none_or(|uid| uid.len() >= 32));
}

fn check_memory(first: &str, second: &str) {
    let _ = (meminfo(first), status(first), unused(first, second));
    if let Ok(caches) = slabinfo(first) {
        let all = caches.values().map(Cache::bytes);
        assert_eq!(all.count(), caches.len());
    }
    let mut areas = Areas::default();
    areas.observe(0, &vmallocinfo(first, 4096));
    areas.observe(1, &vmallocinfo(second, 4096));
    areas.counts();
}

fn check_symbols(table: &str, modules: &str) {
    let lengths = HashMap::from([(0xffff_ffff_c000_0000, 64)]);
    let symbols = KernelSymbols::parse(table, modules, &lengths);
    let ends = [0, 1, 0xffff_ffff_8100_0000, 0xffff_ffff_c000_0000, u64::MAX];
    let starts = table.lines().filter_map(|line| {
        let address = line.split_ascii_whitespace().next()?;
        u64::from_str_radix(address, 16).ok()
    });
    for address in starts.take(64).chain(ends) {
        if let Some(found) = symbols.find(address) {
            assert!(found.offset <= address);
        }
    }
    let _ = addresses_in(table, ["icmp_rcv", "__softirqentry_text_start"]);
    let _ = slab_functions_in(table);
    let _ = c_library_in(table);
}

fn check_mounts(text: &str) {
    let _ = root_in(text);
    let names = mounts::Names {
        names: ["index", "web", "srv"].map(str::to_owned).to_vec(),
        ..mounts::Names::default()
    };
    let all = mounts::parse(text);
    for mount in &all {
        names.path((mount.major, mount.minor), &all);
    }
}

//! Names of the namespaces and devices that a path crosses.

use crate::kernel::drops::DropNames;
use crate::kernel::places::{PlaceNames, Places};
use report::model::{
    ClockRelation, Host, Ifindex, KernelDrop, LossCount, Names, Netns, Probe, ProbeResult, Run,
};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Fills in [`Names`] for the probes that are shown.
#[derive(Default)]
pub struct NameBook {
    names: Names,
    /// The names are complete: nothing is looked up.
    saved: bool,
    places: Places,
    drops: DropNames,
    /// A probe with its IP header, bytes; 0 if it is not known.
    probe_bytes: usize,
}

impl NameBook {
    /// The names of a saved run, without those of this host.
    pub fn saved(names: Names) -> Self {
        Self {
            names,
            saved: true,
            ..Self::default()
        }
    }

    /// Of probes of this run.
    pub fn probes_of(&mut self, run: &Run) {
        let header = match run.server.addr {
            Some(IpAddr::V6(_)) => 40,
            Some(IpAddr::V4(_)) | None => 20,
        };
        self.probe_bytes = run.size + header;
    }

    /// The names so far.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Takes the names that the server gave.
    pub fn take(&mut self, names: Names) {
        self.names.netns.extend(names.netns);
        self.names.device.extend(names.device);
    }

    /// Looks up what this record mentions, and names its drop.
    pub fn name(&mut self, result: &mut ProbeResult) {
        self.learn(&result.probe);
        if let Some(drop) = result.loss.as_mut().and_then(|loss| loss.drop.as_mut()) {
            self.name_drop(drop);
            self.names.add(drop.names());
        }
    }

    /// Names a drop of this kernel; those of another one come with their names.
    pub fn name_drop(&mut self, drop: &mut KernelDrop) {
        if drop.location.number == 0 {
            return;
        }
        self.drops.reason(&mut drop.reason);
        self.drops.location(&mut drop.location);
        if drop.netns != Netns(0) {
            self.learn_one(drop.host, drop.netns, drop.ifindex);
            let device = self.names.device_of(drop.host, drop.netns, drop.ifindex);
            drop.device = device.map(str::to_owned);
            drop.netns_name = self
                .names
                .netns_of(drop.host, drop.netns)
                .map(str::to_owned);
            if drop.is_for_size() {
                drop.mtu = self.mtu(drop.netns, drop.ifindex);
            }
        }
    }

    /// Names the reasons and functions of this kernel's drops; addresses in one function are one place.
    pub fn name_losses(&mut self, losses: &mut Vec<LossCount>) {
        let mut named: Vec<LossCount> = Vec::new();
        for mut count in losses.drain(..) {
            if let Some(reason) = &mut count.reason {
                self.drops.reason(reason);
            }
            if let Some(location) = &mut count.location {
                self.drops.location(location);
                if location.name.is_some() {
                    location.number = 0;
                }
            }
            match named.iter_mut().find(|known| known.is_like(&count)) {
                Some(known) => known.count += count.count,
                None => named.push(count),
            }
        }
        *losses = named;
    }

    /// Looks up what this probe's path mentions. Only this kernel's namespaces have names here.
    pub fn learn(&mut self, probe: &Probe) {
        for s in probe.path.iter().filter(|s| s.netns != Netns(0)) {
            if s.host == Host::Client || probe.clock == ClockRelation::Same {
                self.learn_one(s.host, s.netns, s.ifindex);
            }
        }
    }

    fn learn_one(&mut self, host: Host, netns: Netns, ifindex: Ifindex) {
        if self.saved {
            return;
        }
        let PlaceNames {
            netns: name,
            device,
        } = self.places.get(netns, ifindex);
        let unnamed = || format!("net:[{}]", netns.0);
        keep(&mut self.names.netns, (host, netns), name.as_ref());
        self.names
            .netns
            .entry((host, netns))
            .or_insert_with(unnamed);
        let key = (host, netns, ifindex);
        keep(&mut self.names.device, key, device.as_ref());
    }

    /// MTU of a device of this kernel, bytes, if a probe exceeds it; else the size was not the cause.
    fn mtu(&self, netns: Netns, ifindex: Ifindex) -> Option<u32> {
        if self.saved {
            return None;
        }
        let mtu = self.places.link(netns, ifindex)?.mtu;
        (self.probe_bytes > mtu as usize).then_some(mtu)
    }
}

/// Notes a name if it is new; a namespace or device that is gone keeps its last one.
fn keep<K: Hash + Eq>(names: &mut HashMap<K, String>, key: K, name: Option<&String>) {
    if let Some(name) = name.filter(|name| names.get(&key) != Some(*name)) {
        names.insert(key, name.clone());
    }
}

//! Names of the namespaces and devices that a path crosses, looked up once each.

use crate::kernel::drops::DropNames;
use netns::{NamespaceNames, Netlink};
use report::model::{
    ClockRelation, Host, Ifindex, KernelDrop, LossCount, Names, Netns, Probe, ProbeResult, Run,
};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Time after which an unknown namespace is looked up again.
const REFRESH: Duration = Duration::from_secs(1);

/// Fills in [`Names`] for the probes that are shown.
#[derive(Default)]
pub struct NameBook {
    names: Names,
    /// The names are complete: nothing is looked up.
    saved: bool,
    known: NamespaceNames,
    read_at: Option<Instant>,
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
        if self.saved || self.names.device.contains_key(&(host, netns, ifindex)) {
            return;
        }
        if self.known.get(netns.0).is_none() {
            self.refresh();
        }
        self.names
            .netns
            .insert((host, netns), self.known.name(netns.0));
        if let Some(device) = self.device(netns, ifindex) {
            self.names.device.insert((host, netns, ifindex), device);
        }
    }

    fn refresh(&mut self) {
        if self.read_at.is_some_and(|at| at.elapsed() < REFRESH) {
            return;
        }
        self.read_at = Some(Instant::now());
        match NamespaceNames::read() {
            Ok(names) => self.known = names,
            Err(e) => log::debug!("no names of namespaces: {e}"),
        }
    }

    fn device(&self, netns: Netns, ifindex: Ifindex) -> Option<String> {
        let namespace = self.known.open(netns.0)?;
        let name = namespace.run(|| Netlink::open().and_then(|mut n| n.link_name(ifindex.0)));
        name.ok()?.ok()
    }

    /// MTU of a device of this kernel, bytes, if a probe exceeds it; else the size was not the cause.
    fn mtu(&self, netns: Netns, ifindex: Ifindex) -> Option<u32> {
        if self.saved {
            return None;
        }
        let namespace = self.known.open(netns.0)?;
        let link = namespace.run(|| Netlink::open().and_then(|mut n| n.link(ifindex.0)));
        let mtu = link.ok()?.ok()?.mtu;
        (self.probe_bytes > mtu as usize).then_some(mtu)
    }
}

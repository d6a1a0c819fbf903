//! Names of the namespaces and devices that a path crosses, looked up once each.

use netns::{NamespaceNames, Netlink};
use report::model::{ClockRelation, Host, Names, Probe};
use std::time::{Duration, Instant};

/// A namespace that was unknown is looked for again after this long.
const REFRESH: Duration = Duration::from_secs(1);

/// Fills in [`Names`] for the probes that are shown.
#[derive(Default)]
pub struct NameBook {
    names: Names,
    known: NamespaceNames,
    read_at: Option<Instant>,
}

impl NameBook {
    /// The names so far.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Looks up what this probe's path mentions. Only this kernel's namespaces have names here.
    pub fn learn(&mut self, probe: &Probe) {
        for s in probe.path.iter().filter(|s| s.netns != 0) {
            if s.host == Host::Client || probe.clock == ClockRelation::Same {
                self.learn_one(s.host, s.netns, s.ifindex);
            }
        }
    }

    fn learn_one(&mut self, host: Host, netns: u32, ifindex: u32) {
        if self.names.device.contains_key(&(host, netns, ifindex)) {
            return;
        }
        if self.known.get(netns).is_none() {
            self.refresh();
        }
        self.names
            .netns
            .insert((host, netns), self.known.name(netns));
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

    fn device(&self, netns: u32, ifindex: u32) -> Option<String> {
        let namespace = self.known.open(netns)?;
        let name = namespace.run(|| Netlink::open().and_then(|mut n| n.link_name(ifindex)));
        name.ok()?.ok()
    }
}

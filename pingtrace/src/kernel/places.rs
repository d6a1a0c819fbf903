//! Names of the namespaces and devices of this host, looked up when they are asked for.

use crate::kernel::confine::keeper;
use netns::{Link, NamespaceNames, Netlink};
use report::model::{Ifindex, Netns};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time after which a name is looked up again: the number may be that of another namespace or device by now.
const RECHECK: Duration = Duration::from_secs(1);

/// The names of a device and of its namespace, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceNames {
    /// Of the namespace.
    pub netns: Option<String>,
    /// Of the device.
    pub device: Option<String>,
}

/// The names of this host.
#[derive(Default)]
pub struct Places {
    known: Arc<NamespaceNames>,
    /// When `known` was read.
    read_at: Option<Instant>,
    /// Looked up since `since`.
    names: HashMap<(Netns, Ifindex), PlaceNames>,
    since: Option<Instant>,
}

impl Places {
    /// The names of a device and of its namespace now, or at most [`RECHECK`] ago.
    pub fn get(&mut self, netns: Netns, ifindex: Ifindex) -> &PlaceNames {
        if self.since.is_none_or(|at| at.elapsed() >= RECHECK) {
            self.since = Some(Instant::now());
            self.names.clear();
        }
        if !self.names.contains_key(&(netns, ifindex)) {
            let place = self.look_up(netns, ifindex);
            self.names.insert((netns, ifindex), place);
        }
        &self.names[&(netns, ifindex)]
    }

    /// Makes the next look-ups new ones.
    pub fn forget(&mut self) {
        self.since = None;
    }

    fn look_up(&mut self, netns: Netns, ifindex: Ifindex) -> PlaceNames {
        let known = Arc::clone(&self.known);
        if !keeper::run(move || known.is_current(netns.0)) {
            self.refresh();
        }
        PlaceNames {
            netns: self.known.get(netns.0).map(str::to_owned),
            device: self.link(netns, ifindex).map(|link| link.name),
        }
    }

    /// The device itself.
    pub fn link(&self, netns: Netns, ifindex: Ifindex) -> Option<Link> {
        if !ifindex.is_some() {
            return None;
        }
        let known = Arc::clone(&self.known);
        keeper::run(move || {
            let namespace = known.open(netns.0)?;
            let link = namespace.run(|| Netlink::open().and_then(|mut n| n.link(ifindex.0)));
            link.ok()?.ok()
        })
    }

    fn refresh(&mut self) {
        if self.read_at.is_some_and(|at| at.elapsed() < RECHECK) {
            return;
        }
        self.read_at = Some(Instant::now());
        match keeper::run(NamespaceNames::read) {
            Ok(names) => self.known = Arc::new(names),
            Err(e) => log::debug!("no names of namespaces: {e}"),
        }
    }
}

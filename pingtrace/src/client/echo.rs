//! Whether a namespace of this kernel answers echo requests.

use crate::kernel::confine::keeper;
use crate::kernel::host;
use crate::wire::protocol::Family;
use netns::{NamespaceNames, Netlink};
use report::model::Netns;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An answer is believed for this long.
const FRESH: Duration = Duration::from_secs(1);
/// Index of the loopback device: the kernel's route to an address of its own.
const LOOPBACK: u32 = 1;

/// What namespaces do with echo requests, as far as it was asked.
#[derive(Default)]
pub struct Echo {
    ignored: HashMap<Netns, (Instant, bool)>,
}

impl Echo {
    /// Whether a namespace has this address, and ignores echo requests; false where it cannot be entered.
    pub fn is_ignored(&mut self, netns: Netns, address: IpAddr) -> bool {
        let known = self.ignored.get(&netns);
        if let Some((_, ignored)) = known.filter(|(at, _)| at.elapsed() < FRESH) {
            return *ignored;
        }
        let ignored = keeper::run(move || look_up(netns, address)).unwrap_or(false);
        self.ignored.insert(netns, (Instant::now(), ignored));
        ignored
    }
}

fn look_up(netns: Netns, address: IpAddr) -> Option<bool> {
    let namespace = NamespaceNames::read().ok()?.open(netns.0)?;
    let family = match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let answer = namespace.run(|| {
        let route = Netlink::open().and_then(|mut n| n.route_get(address, None));
        let is_local = route.is_ok_and(|route| route.ifindex == LOOPBACK);
        is_local && host::ignores_echo(family)
    });
    answer.ok()
}

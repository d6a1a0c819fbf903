//! Whether a namespace of this kernel answers echo requests.

use crate::kernel::confine::keeper;
use netns::{NamespaceNames, Netlink};
use report::model::Netns;
use std::collections::HashMap;
use std::fs;
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
    let setting = match address {
        IpAddr::V4(_) => "/proc/sys/net/ipv4/icmp_echo_ignore_all",
        IpAddr::V6(_) => "/proc/sys/net/ipv6/icmp/echo_ignore_all",
    };
    let answer = namespace.run(|| {
        let route = Netlink::open().and_then(|mut n| n.route_get(address, None));
        let is_local = route.is_ok_and(|route| route.ifindex == LOOPBACK);
        let ignored = fs::read_to_string(setting).is_ok_and(|set| set.trim() != "0");
        is_local && ignored
    });
    answer.ok()
}

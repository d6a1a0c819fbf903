//! What the server and the hosts on the way call their namespaces and devices.

use super::journey::HostsOnTheWay;
use crate::wire::entry::TRANSIT;
use crate::wire::names;
use crate::wire::packet::Packet;
use report::model::{Host, Names};
use std::collections::HashMap;
use std::hash::Hash;

/// Upper bound on named namespaces, and on named devices.
const MAX_NAMES: usize = 256;

/// The names so far.
#[derive(Default)]
pub struct HostNames {
    known: Names,
    /// Number of names beyond the bound.
    pub refused: u64,
}

impl HostNames {
    /// Takes the names in a packet; returns all of them if any is new. Those of a host on the way that has not
    /// stamped a probe yet come again.
    pub fn take_from(&mut self, packet: &Packet<'_>, hosts: &HostsOnTheWay) -> Option<Names> {
        let mut news = false;
        for (number, (netns, ifindex), name) in names::read(packet) {
            let Some(host) = host(number, hosts) else {
                continue;
            };
            news |= if ifindex.is_some() {
                let key = (host, netns, ifindex);
                keep(&mut self.known.device, key, name, &mut self.refused)
            } else {
                let key = (host, netns);
                keep(&mut self.known.netns, key, name, &mut self.refused)
            };
        }
        news.then(|| self.known.clone())
    }
}

/// Whose a name is, by the number of the host on the wire.
fn host(number: u16, hosts: &HostsOnTheWay) -> Option<Host> {
    if number & TRANSIT == 0 {
        return Some(Host::Server);
    }
    hosts.index(number).map(Host::Transit)
}

/// Keeps a name; returns whether it is new.
fn keep<K: Hash + Eq>(
    names: &mut HashMap<K, String>,
    key: K,
    name: String,
    refused: &mut u64,
) -> bool {
    if names.get(&key) == Some(&name) {
        return false;
    }
    if names.len() >= MAX_NAMES && !names.contains_key(&key) {
        *refused += 1;
        return false;
    }
    names.insert(key, name);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::number::{Sequence, SessionId};
    use crate::wire::packet;
    use crate::wire::protocol::{Family, Version};
    use crate::wire::stamp_packet::StampPacket;
    use report::model::{Ifindex, Netns};

    fn take(names: &mut HostNames, ifindex: u32, name: &str) -> Option<Names> {
        let (session, sequence) = (SessionId(1), Sequence(1));
        let mut packet = StampPacket::new(Family::V4, Version::V1, session, sequence, 576);
        for entry in names::entries((Netns(7), Ifindex(ifindex)), name) {
            assert!(packet.push_extension(&entry));
        }
        let message = packet.finish();
        let packet = packet::parse(&message, Family::V4).unwrap();
        names.take_from(&packet, &HostsOnTheWay::default())
    }

    #[test]
    fn only_news_is_passed_on() {
        let mut names = HostNames::default();
        let all = take(&mut names, 2, "eth0").expect("news");
        assert_eq!(
            all.device_of(Host::Server, Netns(7), Ifindex(2)),
            Some("eth0")
        );
        assert_eq!(take(&mut names, 2, "eth0"), None);
        assert!(take(&mut names, 2, "wan0").is_some(), "renamed");
        let all = take(&mut names, 0, "web").expect("news");
        assert_eq!(all.netns_of(Host::Server, Netns(7)), Some("web"));
        assert_eq!(
            all.device_of(Host::Server, Netns(7), Ifindex(2)),
            Some("wan0")
        );
    }

    #[test]
    fn a_server_cannot_fill_the_memory() {
        let mut names = HostNames::default();
        let news = (1..=300).filter(|k| take(&mut names, *k, "eth").is_some());
        assert_eq!(news.count(), MAX_NAMES);
        assert_eq!(names.refused, 300 - MAX_NAMES as u64);
        assert!(take(&mut names, 1, "renamed").is_some());
    }
}

//! What the server calls its namespaces and devices.

use crate::wire::names;
use crate::wire::packet::Packet;
use report::model::{Host, Names};
use std::collections::HashMap;
use std::hash::Hash;

/// Upper bound on named namespaces, and on named devices.
const MAX_NAMES: usize = 256;

/// The names so far.
#[derive(Default)]
pub struct ServerNames {
    known: Names,
    /// Number of names beyond the bound.
    pub refused: u64,
}

impl ServerNames {
    /// Takes the names in a packet; returns all of them if any is new.
    pub fn take_from(&mut self, packet: &Packet<'_>) -> Option<Names> {
        let mut news = false;
        for ((netns, ifindex), name) in names::read(packet) {
            news |= if ifindex.is_some() {
                let key = (Host::Server, netns, ifindex);
                keep(&mut self.known.device, key, name, &mut self.refused)
            } else {
                let key = (Host::Server, netns);
                keep(&mut self.known.netns, key, name, &mut self.refused)
            };
        }
        news.then(|| self.known.clone())
    }
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

    fn take(names: &mut ServerNames, ifindex: u32, name: &str) -> Option<Names> {
        let (session, sequence) = (SessionId(1), Sequence(1));
        let mut packet = StampPacket::new(Family::V4, Version::V1, session, sequence, 576);
        for entry in names::entries((Netns(7), Ifindex(ifindex)), name) {
            assert!(packet.push_extension(&entry));
        }
        names.take_from(&packet::parse(&packet.finish(), Family::V4).unwrap())
    }

    #[test]
    fn only_news_is_passed_on() {
        let mut names = ServerNames::default();
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
        let mut names = ServerNames::default();
        let news = (1..=300).filter(|k| take(&mut names, *k, "eth").is_some());
        assert_eq!(news.count(), MAX_NAMES);
        assert_eq!(names.refused, 300 - MAX_NAMES as u64);
        assert!(take(&mut names, 1, "renamed").is_some());
    }
}

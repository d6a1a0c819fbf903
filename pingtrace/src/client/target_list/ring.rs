//! Which of many hosts each probes, when all have the same list: its next neighbours on a ring, in the order of
//! hashes. Where a host comes or goes, only its neighbours change what they probe.

use super::listed::Listed;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::net::IpAddr;

/// The places in `hosts` of the `count` next neighbours of the host at `me`. Every host of the list finds the
/// same ring, whatever the order of its list.
pub fn neighbours(hosts: &[&str], me: usize, count: usize) -> Vec<usize> {
    let mut ring: Vec<(u64, &str, usize)> = (hosts.iter().enumerate())
        .map(|(at, host)| (hash(host), *host, at))
        .collect();
    ring.sort_unstable();
    ring.dedup_by_key(|(_, host, _)| *host);
    let start = ring.iter().position(|(_, host, _)| *host == hosts[me]);
    let after = ring.iter().cycle().skip(start.map_or(0, |at| at + 1));
    let others = after.take(ring.len().saturating_sub(1).min(count));
    others.map(|(.., at)| *at).collect()
}

/// Where a name has the addresses of several hosts, of which those in `local` are this host's: each address as a
/// host of its own, and the place of this host. `None`: all are this host's, or none. Of hosts with addresses of
/// both families those of one count, or each would be there twice.
pub fn apart(
    target: &Listed,
    addresses: impl Iterator<Item = IpAddr>,
    local: &[IpAddr],
) -> Option<(Vec<Listed>, usize)> {
    let own = local.first()?;
    let all: Vec<IpAddr> = addresses
        .filter(|ip| ip.is_ipv4() == own.is_ipv4())
        .collect();
    if all.iter().all(|ip| local.contains(ip)) {
        return None;
    }
    let me = all.iter().position(|ip| ip == own)?;
    let host = |ip: &IpAddr| Listed {
        host: ip.to_string(),
        ..target.clone()
    };
    Some((all.iter().map(host).collect(), me))
}

/// Without a key: every host is to find the same.
fn hash(host: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(host.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn ring(hosts: &[String], count: usize) -> BTreeMap<String, BTreeSet<String>> {
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let of = |me: usize| {
            let probed = neighbours(&names, me, count).into_iter();
            probed.map(|at| hosts[at].clone()).collect()
        };
        (0..hosts.len())
            .map(|me| (hosts[me].clone(), of(me)))
            .collect()
    }

    fn hosts(count: usize) -> Vec<String> {
        (0..count).map(|k| format!("node{k}")).collect()
    }

    #[test]
    fn a_name_with_the_addresses_of_all_hosts_is_a_list() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let hosts = |addresses: &[&str], local: &[&str]| {
            let mut target = Listed::plain("nodes");
            target.labels.insert("rack".into(), "r1".into());
            let found = apart(&target, ips(addresses).into_iter(), &ips(local));
            found.map(|(listed, me)| {
                assert!(listed.iter().all(|of| of.labels == target.labels));
                (listed.into_iter().map(|of| of.host).collect::<Vec<_>>(), me)
            })
        };
        let three = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        assert_eq!(
            hosts(&three, &["10.0.0.2"]),
            Some((three.map(str::to_owned).to_vec(), 1))
        );
        // Two nodes with addresses of both families; one with several of its own.
        let both = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"];
        let (listed, me) = hosts(&both, &["10.0.0.2", "fd00::2"]).unwrap();
        assert_eq!(
            (listed, me),
            (vec!["10.0.0.1".into(), "10.0.0.2".into()], 1)
        );
        assert_eq!(
            hosts(&["10.0.0.1", "fd00::1"], &["10.0.0.1", "fd00::1"]),
            None
        );
        assert_eq!(hosts(&three, &[]), None);
    }

    #[test]
    fn each_is_probed_by_as_many_as_it_probes() {
        let all = ring(&hosts(50), 4);
        let mut probed = BTreeMap::<&String, usize>::new();
        for (me, others) in &all {
            assert!(
                others.len() == 4 && !others.contains(me),
                "{me}: {others:?}"
            );
            for other in others {
                *probed.entry(other).or_default() += 1;
            }
        }
        assert!(probed.len() == 50 && probed.values().all(|n| *n == 4));
    }

    #[test]
    fn the_order_of_the_list_is_no_matter() {
        let (all, mut turned) = (hosts(50), hosts(50));
        turned.reverse();
        assert_eq!(ring(&all, 3), ring(&turned, 3));
    }

    #[test]
    fn one_that_goes_moves_little() {
        let (before, mut fewer) = (ring(&hosts(100), 3), hosts(100));
        fewer.remove(42);
        let after = ring(&fewer, 3);
        let changed = after
            .iter()
            .filter(|(host, probed)| before[*host] != **probed);
        assert_eq!(changed.count(), 3, "those that probed it");
    }

    #[test]
    fn there_are_no_more_neighbours_than_others() {
        assert_eq!(ring(&hosts(1), 3)["node0"].len(), 0);
        assert_eq!(ring(&hosts(3), 5)["node0"].len(), 2);
        assert_eq!(neighbours(&["a", "b", "a"], 2, 9), [1]);
    }
}

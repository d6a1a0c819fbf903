//! Which of many hosts each probes, when all have the same list: its next neighbours on a ring, in the order of
//! hashes. Where a host comes or goes, only its neighbours change what they probe.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

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

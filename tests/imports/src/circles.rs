//! Circles: files that import each other, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};

use crate::house::Imports;

/// The groups of files of which each reaches each.
pub fn circles(imports: &Imports) -> Vec<BTreeSet<&str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        next.entry(from).or_default().push(to);
    }
    let reached: BTreeMap<_, _> = next
        .keys()
        .map(|file| (*file, reach(&next, file)))
        .collect();
    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
    let circle_of = |file: &&str| -> BTreeSet<&str> {
        let all = reached[file].iter().copied();
        all.filter(|other| leads(other, file)).collect()
    };
    let circles: BTreeSet<_> = next.keys().map(circle_of).collect();
    circles
        .into_iter()
        .filter(|circle| !circle.is_empty())
        .collect()
}

/// The files that this one imports, and those that they import, and so on.
fn reach<'a>(next: &BTreeMap<&str, Vec<&'a str>>, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![file];
    while let Some(file) = open.pop() {
        for other in next.get(file).into_iter().flatten() {
            if reached.insert(*other) {
                open.push(other);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, &str)]) -> Vec<String> {
        let arrow = |(from, to): &(&str, &str)| ((*from).into(), (*to).into());
        let imports = pairs
            .iter()
            .map(|pair| (arrow(pair), BTreeSet::new()))
            .collect();
        let join = |circle: &BTreeSet<&str>| circle.iter().copied().collect::<String>();
        circles(&imports).iter().map(join).collect()
    }

    #[test]
    fn a_diamond_is_no_circle() {
        assert!(found(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]).is_empty());
    }

    #[test]
    fn each_circle_is_found_once_and_without_its_neighbours() {
        let pairs = [
            ("a", "b"),
            ("b", "c"),
            ("c", "b"),
            ("c", "d"),
            ("d", "e"),
            ("e", "f"),
            ("f", "d"),
            ("f", "g"),
        ];
        assert_eq!(found(&pairs), ["bc", "def"]);
    }
}

//! The orders of the hosts: in tables the worst first; in pictures so that a bad host is a cross, and what belongs
//! together is a block.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::Mesh;

use super::finding::{Answer, Standing};

/// Which finding a host belongs to, the worst is 0; none: the last.
fn ranks(mesh: &Mesh, answer: &Answer) -> Vec<usize> {
    let mut ranks = vec![usize::MAX; mesh.nodes.len()];
    for (rank, finding) in answer.findings.iter().enumerate().rev() {
        for node in finding.members() {
            ranks[*node] = rank;
        }
    }
    ranks
}

/// The worst first: what stands out, then by how near it came to that.
pub(super) fn worst_first(mesh: &Mesh, standings: &[Standing], answer: &Answer) -> Vec<usize> {
    let ranks = ranks(mesh, answer);
    let mut order: Vec<usize> = (0..mesh.nodes.len()).collect();
    order.sort_by_cached_key(|node| {
        let score = (standings[*node].score() * 1e3) as u64;
        (ranks[*node], Reverse(score), mesh.nodes[*node].name.clone())
    });
    order
}

/// Of rows and columns: hosts that have a label in common side by side, and of those without one the hosts that
/// pairs slower than expected connect. In the middle of their label's, or of those without, are the ones that stand
/// out by themselves: their rows and columns cross there. That is order alone, and nothing is claimed of it.
pub(super) fn side_by_side(mesh: &Mesh, answer: &Answer) -> Vec<usize> {
    let (ranks, blocks) = (ranks(mesh, answer), blocks(mesh, answer));
    let mut groups = BTreeMap::<Option<&str>, Vec<usize>>::new();
    for (node, of) in mesh.nodes.iter().enumerate() {
        groups.entry(of.group.as_deref()).or_default().push(node);
    }
    let mut order = Vec::new();
    for mut nodes in groups.into_values() {
        let is_named = |node: &usize| ranks[*node] != usize::MAX;
        nodes.sort_by_cached_key(|node| (blocks[*node], natural(&mesh.nodes[*node].name)));
        let (mut named, mut others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_named);
        named.sort_by_key(|node| ranks[*node]);
        let behind = others.split_off(others.len() / 2);
        order.extend(others.into_iter().chain(named).chain(behind));
    }
    order
}

/// `web9` before `web10`: words and numbers in turn.
fn natural(name: &str) -> Vec<(String, u64)> {
    let is_digit = |c: &char| c.is_ascii_digit();
    let mut parts = Vec::new();
    let mut rest = name.chars().peekable();
    while rest.peek().is_some() {
        let mut take = |digits: bool| -> String {
            std::iter::from_fn(|| rest.next_if(|c| is_digit(c) == digits)).collect()
        };
        let (word, number) = (take(false), take(true));
        parts.push((word, number.parse().unwrap_or(u64::MAX)));
    }
    parts
}

/// Of each host which part it is in of those that odd pairs connect: 0 is the largest; hosts without such a pair
/// come last.
fn blocks(mesh: &Mesh, answer: &Answer) -> Vec<usize> {
    let mut root: Vec<usize> = (0..mesh.nodes.len()).collect();
    for at in &answer.odd_pairs {
        let [a, b] = [mesh.cells[*at].from, mesh.cells[*at].to].map(|node| find(&root, node));
        root[a.max(b)] = a.min(b);
    }
    let mut sizes = BTreeMap::<usize, usize>::new();
    for node in 0..root.len() {
        *sizes.entry(find(&root, node)).or_default() += 1;
    }
    let mut large: Vec<_> = sizes.into_iter().filter(|(_, size)| *size > 1).collect();
    large.sort_by_key(|(root, size)| (Reverse(*size), *root));
    let rank = |node| large.iter().position(|(of, _)| *of == find(&root, node));
    (0..root.len())
        .map(|node| rank(node).unwrap_or(usize::MAX))
        .collect()
}

fn find(root: &[usize], mut node: usize) -> usize {
    while root[node] != node {
        node = root[node];
    }
    node
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_count() {
        let mut names = ["web10", "web9", "db", "web9b", "10.0.0.10", "10.0.0.9"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(
            names,
            ["10.0.0.9", "10.0.0.10", "db", "web9", "web9b", "web10"]
        );
    }
}

//! The order of the hosts in pictures and tables: what stands out first, so that a bad host is a row and a
//! column at the edge, and bad hosts that belong together are side by side. Behind them, in the order of their
//! labels, the others; of those without a label first the ones that pairs slower than expected connect, so that
//! they are a block. That is order alone, and nothing is claimed of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::Mesh;

use super::finding::{Answer, Standing};

/// The hosts in order.
pub(super) fn order(mesh: &Mesh, standings: &[Standing], answer: &Answer) -> Vec<usize> {
    let mut finding = vec![usize::MAX; mesh.nodes.len()];
    for (rank, found) in answer.findings.iter().enumerate().rev() {
        for node in found.members() {
            finding[*node] = rank;
        }
    }
    let blocks = blocks(mesh, answer);
    let score = |node: usize| (standings[node].score() * 1e3) as u64;
    let key = |node: &usize| {
        let named = finding[*node] != usize::MAX;
        (
            finding[*node],
            Reverse(if named { score(*node) } else { 0 }),
            mesh.nodes[*node].group.clone(),
            blocks[*node],
            mesh.nodes[*node].name.clone(),
        )
    };
    let mut order: Vec<usize> = (0..mesh.nodes.len()).collect();
    order.sort_by_cached_key(key);
    order
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

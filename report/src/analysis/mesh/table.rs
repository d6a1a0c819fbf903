//! Rows and columns of a mesh.

use crate::model::Mesh;

/// Which cells a host has, by their places in [`Mesh::cells`]: as client (0) and as server (1).
#[derive(Clone, Debug)]
pub(super) struct Table {
    lines: [Vec<Vec<usize>>; 2],
}

/// As which a host is looked at: its row or its column.
pub(super) const ROLES: [usize; 2] = [CLIENT, SERVER];
/// Its row.
pub(super) const CLIENT: usize = 0;
/// Its column.
pub(super) const SERVER: usize = 1;

impl Table {
    /// The cells of which something is wanted.
    pub fn new(mesh: &Mesh, wanted: impl Fn(usize) -> bool) -> Self {
        let mut lines = [(); 2].map(|()| vec![Vec::new(); mesh.nodes.len()]);
        for (at, cell) in mesh.cells.iter().enumerate() {
            if wanted(at) {
                lines[CLIENT][cell.from].push(at);
                lines[SERVER][cell.to].push(at);
            }
        }
        Self { lines }
    }

    /// The cells of a host in a role.
    pub fn line(&self, role: usize, node: usize) -> &[usize] {
        &self.lines[role][node]
    }
}

/// The median; of an even number the mean of the two in the middle. 0 of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

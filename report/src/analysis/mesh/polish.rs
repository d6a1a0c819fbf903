//! Median polish (J. W. Tukey, Exploratory Data Analysis, 1977, chapter 11): a table of values as a level,
//! an effect of each row, an effect of each column, and residuals. Here on the cells that exist.

use crate::model::Mesh;

use super::table::{CLIENT, ROLES, SERVER, Table, median};

/// Upper bound on sweeps over rows and columns; a full table takes two or three.
const MAX_SWEEPS: usize = 20;
/// A sweep that changes no effect by more than this is the last one: 1 %.
const CHANGE: f64 = 0.01;
/// The third quartile of |x| of a normal distribution with standard deviation 1.
const NORMAL_QUARTILE: f64 = 1.150_35;

/// The natural logarithms of the 99th percentiles (nanoseconds) of a mesh, divided.
#[derive(Clone, Debug)]
pub(super) struct Polish {
    /// What all cells have in common.
    pub level: f64,
    /// What the cells of a host have in common beyond that, as client and as server.
    pub effects: [Vec<f64>; 2],
    /// What is left of each cell; absent where no probe was answered.
    pub residuals: Vec<Option<f64>>,
    /// The cells that have a value.
    pub table: Table,
    /// Standard deviation of the residuals, if they were normal.
    pub sigma: f64,
}

impl Polish {
    /// Divides the table.
    pub fn new(mesh: &Mesh) -> Self {
        let value = |p99_ns: u64| libm::log(p99_ns.max(1) as f64);
        let mut residuals: Vec<_> = mesh.cells.iter().map(|c| c.p99_ns.map(value)).collect();
        let mut all: Vec<f64> = residuals.iter().copied().flatten().collect();
        let level = median(&mut all);
        for residual in residuals.iter_mut().flatten() {
            *residual -= level;
        }
        let table = Table::new(mesh, |at| residuals[at].is_some());
        let mut polish = Self {
            level,
            effects: [(); 2].map(|()| vec![0.0; mesh.nodes.len()]),
            residuals,
            table,
            sigma: 0.0,
        };
        for _ in 0..MAX_SWEEPS {
            if polish.sweep() < CHANGE {
                break;
            }
        }
        polish.center();
        polish.sigma = polish.deviation();
        polish
    }

    /// Takes from each line what is common to it; the largest change of an effect.
    fn sweep(&mut self) -> f64 {
        let mut largest: f64 = 0.0;
        for role in ROLES {
            for node in 0..self.effects[role].len() {
                let line = self.table.line(role, node);
                let mut values: Vec<f64> =
                    line.iter().filter_map(|at| self.residuals[*at]).collect();
                let common = median(&mut values);
                for at in line {
                    if let Some(residual) = &mut self.residuals[*at] {
                        *residual -= common;
                    }
                }
                self.effects[role][node] += common;
                largest = largest.max(common.abs());
            }
        }
        largest
    }

    /// What all rows, or all columns, have in common belongs to the level.
    fn center(&mut self) {
        for role in ROLES {
            let mut of_lines = self.of_lines(role);
            let common = median(&mut of_lines);
            self.level += common;
            for effect in &mut self.effects[role] {
                *effect -= common;
            }
        }
    }

    /// The effects of the hosts that have cells.
    pub fn of_lines(&self, role: usize) -> Vec<f64> {
        let effects = self.effects[role].iter().enumerate();
        let with_cells = effects.filter(|(node, _)| !self.table.line(role, *node).is_empty());
        with_cells.map(|(_, effect)| *effect).collect()
    }

    /// From the third quartile of the absolute residuals: a quarter of the cells can be anything. Medians fit
    /// a table with few cells too well, for which a least-squares fit would have its degrees of freedom.
    fn deviation(&self) -> f64 {
        let mut sizes: Vec<f64> = self.residuals.iter().flatten().map(|r| r.abs()).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let Some(quartile) = sizes.get(sizes.len() * 3 / 4) else {
            return 0.0;
        };
        let lines: usize = ROLES.iter().map(|role| self.of_lines(*role).len()).sum();
        let cells = sizes.len() as f64;
        let free = (cells - lines as f64 + 1.0).max(cells / 4.0);
        quartile / NORMAL_QUARTILE * (cells / free).sqrt()
    }

    /// What of a cell is its client's or server's, with the residual.
    pub fn own(&self, mesh: &Mesh, role: usize, at: usize) -> Option<f64> {
        let cell = &mesh.cells[at];
        let node = [cell.from, cell.to][role];
        self.residuals[at].map(|residual| residual + self.effects[role][node])
    }

    /// A cell's value above the level.
    pub fn above(&self, mesh: &Mesh, at: usize) -> Option<f64> {
        let cell = &mesh.cells[at];
        let both = self.effects[CLIENT][cell.from] + self.effects[SERVER][cell.to];
        self.residuals[at].map(|residual| residual + both)
    }
}

/// Standard deviation of values that are normal but for outliers: from their median absolute deviation.
pub(super) fn robust_deviation(values: &[f64]) -> f64 {
    let center = median(&mut values.to_vec());
    let mut sizes: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
    1.4826 * median(&mut sizes)
}

//! Hosts that lose probes, with whomever: by counts.
//!
//! Of the pairs of a host in a role the quarter that lost most is left out, so that a host is not named for
//! a bad peer. Hosts are named one after the other, the worst first, and the pairs of those that are named count
//! for none of the others.

use crate::model::Mesh;

use super::finding::Effect;
use super::slow::MIN_PEERS;
use super::table::{ROLES, Table, median};

/// The smallest loss that is worth a name: a probe of a thousand.
pub(super) const MIN_LOSS: f64 = 0.001;
/// Times the loss of the typical host.
const FACTOR: f64 = 5.0;
/// Standard deviations of the count (Poisson) above the usual.
const DEVIATIONS: f64 = 5.0;
/// Lost probes that it takes.
const MIN_LOST: u64 = 5;

/// What the pairs of a host in a role lost.
struct Line {
    pairs: usize,
    bad: usize,
    sent: u64,
    lost: u64,
    /// How many pairs would have lost something if all lost alike.
    expected_bad: f64,
}

/// Each host as client and as server; absent where it has no pair.
pub(super) fn effects(mesh: &Mesh) -> [Vec<Option<Effect>>; 2] {
    let mut left_out = vec![false; mesh.nodes.len()];
    let mut named = [(); 2].map(|()| vec![None; mesh.nodes.len()]);
    loop {
        let mut effects = all(mesh, &left_out);
        let each = ROLES.into_iter().flat_map(|role| {
            let effects = effects[role].iter().enumerate();
            effects.filter_map(move |(node, effect)| Some((role, node, (*effect)?)))
        });
        let exceptions = each.filter(|(_, node, effect)| effect.named && !left_out[*node]);
        let worst = exceptions.max_by(|a, b| a.2.score().total_cmp(&b.2.score()));
        let Some((_, worst, _)) = worst else {
            for role in ROLES {
                for (effect, named) in effects[role].iter_mut().zip(&named[role]) {
                    *effect = named.or(*effect);
                }
            }
            return effects;
        };
        left_out[worst] = true;
        for role in ROLES {
            named[role][worst] = effects[role][worst];
        }
    }
}

/// Without the pairs of hosts that are left out, but for their own.
fn all(mesh: &Mesh, left_out: &[bool]) -> [Vec<Option<Effect>>; 2] {
    let counts = |at: usize| {
        let cell = &mesh.cells[at];
        cell.sent > 0 && !left_out[cell.from] && !left_out[cell.to]
    };
    let table = Table::new(mesh, counts);
    let lines = ROLES.map(|role| {
        let nodes = 0..mesh.nodes.len();
        let lines = nodes.map(|node| line(mesh, table.line(role, node)));
        lines.collect::<Vec<_>>()
    });
    let rates = lines.iter().flatten().flatten().map(Line::rate);
    let usual = median(&mut rates.collect::<Vec<_>>());
    lines.map(|lines| {
        let lines = lines.iter();
        lines
            .map(|line| Some(line.as_ref()?.effect(usual)))
            .collect()
    })
}

fn line(mesh: &Mesh, cells: &[usize]) -> Option<Line> {
    let mut cells: Vec<_> = cells.iter().map(|at| &mesh.cells[*at]).collect();
    let pairs = cells.len();
    // By the part that was lost, without rounding.
    let part = |lost: u64, of: u64| u128::from(lost) * u128::from(of);
    cells.sort_by(|a, b| part(a.lost, b.sent).cmp(&part(b.lost, a.sent)));
    let bad = cells.iter().filter(|cell| cell.lost > 0).count();
    cells.truncate(pairs - pairs.div_ceil(4));
    let sent: u64 = cells.iter().map(|cell| cell.sent).sum();
    let lost = cells.iter().map(|cell| cell.lost).sum();
    let rate = lost as f64 / sent as f64;
    let some = |sent: u64| 1.0 - libm::exp(-rate * sent as f64);
    let expected_bad = cells.iter().map(|cell| some(cell.sent)).sum();
    (sent > 0).then_some(Line {
        pairs,
        bad,
        sent,
        lost,
        expected_bad,
    })
}

impl Line {
    fn rate(&self) -> f64 {
        self.lost as f64 / self.sent as f64
    }

    fn effect(&self, usual: f64) -> Effect {
        let threshold = MIN_LOSS.max(FACTOR * usual);
        let expected = usual * self.sent as f64;
        let chance = expected + DEVIATIONS * (expected + 1.0).sqrt();
        let many = self.lost >= MIN_LOST && self.lost as f64 >= chance;
        // Not of a single pair.
        let spread = self.bad as f64 >= self.expected_bad / 2.0;
        Effect {
            pairs: self.pairs,
            bad: self.bad,
            value: self.rate(),
            usual,
            threshold,
            named: self.pairs >= MIN_PEERS && many && spread && self.rate() >= threshold,
        }
    }
}

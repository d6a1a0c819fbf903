//! Hosts that are slow for their peers: effects of the polished table beyond chance and beyond what hosts differ
//! by anyway.

use std::f64::consts::LN_2;

use crate::model::Mesh;

use super::finding::Effect;
use super::polish::{Polish, robust_deviation};
use super::table::ROLES;

/// Peers that it takes to tell a host from them: with two, each is half of the other's evidence.
pub(super) const MIN_PEERS: usize = 3;
/// The smallest effect that is worth a name: twice the usual time.
pub(super) const MIN_FACTOR: f64 = 2.0;
/// Standard errors of a line's median, so that of a thousand hosts none is named by chance.
const ERRORS: f64 = 5.0;
/// Standard deviations of the hosts' effects.
const SPREADS: f64 = 4.0;
/// Standard error of a median, in those of a mean: sqrt(pi / 2).
const MEDIAN_ERROR: f64 = 1.2533;
/// A pair counts as slow by one of its hosts from this on: sqrt(2) times the usual time.
const BAD: f64 = LN_2 / 2.0;

/// Each host as client and as server; absent where it has no pair that was answered.
pub(super) fn effects(mesh: &Mesh, polish: &Polish) -> [Vec<Option<Effect>>; 2] {
    ROLES.map(|role| {
        let spread = robust_deviation(&polish.of_lines(role));
        let nodes = 0..mesh.nodes.len();
        nodes
            .map(|node| effect(mesh, polish, (role, node), spread))
            .collect()
    })
}

fn effect(
    mesh: &Mesh,
    polish: &Polish,
    (role, node): (usize, usize),
    spread: f64,
) -> Option<Effect> {
    let line = polish.table.line(role, node);
    let pairs = line.len();
    if pairs == 0 {
        return None;
    }
    let is_bad = |at: &&usize| polish.own(mesh, role, **at).is_some_and(|own| own >= BAD);
    let bad = line.iter().filter(is_bad).count();
    let threshold = threshold(polish.sigma, pairs).max(SPREADS * spread);
    let effect = polish.effects[role][node];
    let named = pairs >= MIN_PEERS && effect >= threshold && 4 * bad >= 3 * pairs;
    let ns = |effect: f64| libm::exp(polish.level + effect);
    Some(Effect {
        pairs,
        bad,
        value: ns(effect),
        usual: ns(0.0),
        threshold: ns(threshold),
        named,
    })
}

/// The smallest median of so many values, as a logarithm, that is not chance and is worth a name. Of few values the
/// residuals are less certain, too: the values themselves made the fit.
pub(super) fn threshold(sigma: f64, values: usize) -> f64 {
    let values = values.max(2) as f64;
    let error = MEDIAN_ERROR * sigma / values.sqrt() * (1.0 + 3.0 / (values - 1.0));
    libm::log(MIN_FACTOR).max(ERRORS * error)
}

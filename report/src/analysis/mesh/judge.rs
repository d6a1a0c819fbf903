//! Who stands out, and whether it is the host or its link.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::LN_2;

use crate::model::{Cell, Direction, Faults, Mesh, Side};

use super::finding::{Answer, Effect, Evidence, Finding, Problem, Standing, Subject, Unknown};
use super::order::{side_by_side, worst_first};
use super::polish::Polish;
use super::slow::{MIN_PEERS, threshold};
use super::table::{CLIENT, ROLES, SERVER, median};
use super::{lossy, slow};

/// Hosts that it takes to speak of those that have a label in common.
const MIN_MEMBERS: usize = 3;
/// A pair is odd from four times its expected time on.
const ODD: f64 = 2.0 * LN_2;
/// Standard deviations of the residuals, beyond which a pair is odd.
const ODD_DEVIATIONS: f64 = 6.0;

/// A mesh and what it says.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// What was measured.
    pub mesh: Mesh,
    /// The hosts in the order of tables: the worst first.
    pub worst: Vec<usize>,
    /// The hosts in the order of a matrix' rows and columns: those that belong together side by side.
    pub order: Vec<usize>,
    /// How each is.
    pub standings: Vec<Standing>,
    /// The answer.
    pub answer: Answer,
    /// The 99th percentile of the typical pair, nanoseconds; absent if no probe was answered.
    pub usual_ns: Option<f64>,
    /// From how many times the typical 99th percentile a host with pairs with all others is named.
    pub factor: f64,
}

/// Says what a mesh says.
pub fn judge(mesh: Mesh) -> Matrix {
    let polish = Polish::new(&mesh);
    let (slow, lossy) = (slow::effects(&mesh, &polish), lossy::effects(&mesh));
    let of = |all: &[Vec<Option<Effect>>; 2], node: usize| ROLES.map(|role| all[role][node]);
    let nodes = 0..mesh.nodes.len();
    let standings: Vec<_> = nodes
        .map(|node| Standing {
            slow: of(&slow, node),
            lossy: of(&lossy, node),
        })
        .collect();
    let judge = Judge {
        mesh: &mesh,
        polish: &polish,
        standings: &standings,
    };
    let answer = judge.answer();
    let factors = standings.iter().flat_map(|s| s.slow).flatten();
    let factor = factors
        .map(|e| e.threshold / e.usual)
        .fold(slow::MIN_FACTOR, f64::max);
    Matrix {
        worst: worst_first(&mesh, &standings, &answer),
        order: side_by_side(&mesh, &answer),
        usual_ns: polish
            .residuals
            .iter()
            .any(Option::is_some)
            .then(|| libm::exp(polish.level)),
        standings,
        answer,
        factor,
        mesh,
    }
}

struct Judge<'a> {
    mesh: &'a Mesh,
    polish: &'a Polish,
    standings: &'a [Standing],
}

impl Judge<'_> {
    fn answer(&self) -> Answer {
        let pairs = self
            .standings
            .iter()
            .flat_map(|s| s.slow.iter().chain(&s.lossy));
        if pairs.flatten().all(|effect| effect.pairs < MIN_PEERS) {
            return Answer {
                unknown: Some(Unknown::FewPeers),
                ..Answer::default()
            };
        }
        let groups = self.groups();
        let mut findings = Vec::new();
        for problem in [Problem::Slow, Problem::Lossy] {
            let mut single = self.named(problem);
            for (name, members) in &groups {
                let bad = members.iter().filter(|node| single.contains(node)).count();
                if bad >= MIN_MEMBERS && 4 * bad >= 3 * members.len() {
                    single.retain(|node| !members.contains(node));
                    findings.push(self.group(name, members, bad, problem));
                }
            }
            findings.extend(single.iter().map(|node| self.node(*node, problem)));
        }
        if let Some(divided) = self.divided(&findings) {
            return divided;
        }
        findings.extend(self.inside(&groups, &findings));
        findings.sort_by(|a, b| b.score().total_cmp(&a.score()));
        Answer {
            odd_pairs: self.odd_pairs(&findings),
            findings,
            unknown: None,
        }
    }

    fn named(&self, problem: Problem) -> BTreeSet<usize> {
        let all = self.standings.iter().enumerate();
        let named = all.filter(|(_, standing)| standing.is_named(problem));
        named.map(|(node, _)| node).collect()
    }

    /// The hosts that have a label in common, where there are enough of them and of others.
    fn groups(&self) -> Vec<(String, Vec<usize>)> {
        let mut groups = BTreeMap::<&str, Vec<usize>>::new();
        for (node, of) in self.mesh.nodes.iter().enumerate() {
            if let Some(group) = &of.group {
                groups.entry(group).or_default().push(node);
            }
        }
        let all = self.mesh.nodes.len();
        let large =
            |members: &Vec<usize>| members.len() >= MIN_MEMBERS && all - members.len() >= MIN_PEERS;
        groups.retain(|_, members| large(members));
        let groups = groups.into_iter();
        groups
            .map(|(name, members)| (name.to_owned(), members))
            .collect()
    }

    /// Exceptions are few: at most a quarter of the hosts by themselves, at most half with their labels.
    fn divided(&self, findings: &[Finding]) -> Option<Answer> {
        let all = self.mesh.nodes.len();
        let hosts = |only_single: bool| -> BTreeSet<usize> {
            let single = |f: &&Finding| !only_single || matches!(f.subject, Subject::Node(_));
            findings
                .iter()
                .filter(single)
                .flat_map(|f| f.members().to_vec())
                .collect()
        };
        let (single, any) = (hosts(true).len(), hosts(false).len());
        (4 * single > all || 2 * any > all).then(|| Answer {
            unknown: Some(Unknown::Divided { nodes: any }),
            ..Answer::default()
        })
    }

    fn node(&self, node: usize, problem: Problem) -> Finding {
        let effects = self.standings[node]
            .of(problem)
            .map(|e| e.filter(|e| e.named));
        let concerned = |cell: &Cell| [cell.from == node, cell.to == node];
        self.finding(Subject::Node(node), problem, effects, concerned)
    }

    fn group(&self, name: &str, members: &[usize], bad: usize, problem: Problem) -> Finding {
        let worst = |role: usize| {
            let all = members
                .iter()
                .filter_map(|node| self.standings[*node].of(problem)[role]);
            let named = all.filter(|effect| effect.named);
            named.max_by(|a, b| a.score().total_cmp(&b.score()))
        };
        let subject = Subject::Group {
            name: name.to_owned(),
            members: members.to_vec(),
            bad,
        };
        let concerned = |cell: &Cell| {
            let [from, to] = [cell.from, cell.to].map(|node| members.contains(&node));
            [from && !to, to && !from]
        };
        self.finding(subject, problem, ROLES.map(worst), concerned)
    }

    /// `concerned`: whether the subject is a cell's client, and its server.
    fn finding(
        &self,
        subject: Subject,
        problem: Problem,
        effects: [Option<Effect>; 2],
        concerned: impl Fn(&Cell) -> [bool; 2],
    ) -> Finding {
        let mut evidence = Evidence::default();
        for cell in &self.mesh.cells {
            let faults = match problem {
                Problem::Slow => &cell.slow,
                Problem::Lossy => &cell.losses,
            };
            for role in ROLES {
                if concerned(cell)[role] && effects[role].is_some() {
                    add(&mut evidence, faults, role);
                }
            }
        }
        Finding {
            subject,
            problem,
            effects,
            part: evidence.part(),
            direct: evidence.direct(),
            evidence,
        }
    }

    /// Groups whose hosts are slow among themselves alone.
    fn inside(&self, groups: &[(String, Vec<usize>)], findings: &[Finding]) -> Vec<Finding> {
        let known: BTreeSet<_> = findings.iter().flat_map(Finding::members).collect();
        let new = groups
            .iter()
            .filter(|(_, members)| !members.iter().any(|m| known.contains(m)));
        new.filter_map(|(name, members)| self.among(name, members))
            .collect()
    }

    fn among(&self, name: &str, members: &[usize]) -> Option<Finding> {
        let within = |cell: &Cell| members.contains(&cell.from) && members.contains(&cell.to);
        let cells = self
            .mesh
            .cells
            .iter()
            .enumerate()
            .filter(|(_, cell)| within(cell));
        let at: Vec<usize> = cells.map(|(at, _)| at).collect();
        let above = |at: &usize| self.polish.above(self.mesh, *at);
        let mut values: Vec<f64> = at.iter().filter_map(above).collect();
        let (pairs, above) = (values.len(), median(&mut values));
        let from = threshold(self.polish.sigma, pairs.max(1));
        let bad = values.iter().filter(|value| **value >= LN_2 / 2.0).count();
        if pairs < 2 * MIN_MEMBERS || above < from || 4 * bad < 3 * pairs {
            return None;
        }
        let ns = |above: f64| libm::exp(self.polish.level + above);
        let effect = Effect {
            pairs,
            bad,
            value: ns(above),
            usual: ns(0.0),
            threshold: ns(from),
            named: true,
        };
        let subject = Subject::Inside {
            name: name.to_owned(),
            members: members.to_vec(),
        };
        let concerned = |cell: &Cell| [within(cell); 2];
        Some(self.finding(subject, Problem::Slow, [Some(effect), None], concerned))
    }

    /// The worst first.
    fn odd_pairs(&self, findings: &[Finding]) -> Vec<usize> {
        let named: BTreeSet<_> = findings.iter().flat_map(Finding::members).collect();
        let from = ODD.max(ODD_DEVIATIONS * self.polish.sigma);
        let residual = |at: usize| self.polish.residuals[at].filter(|residual| *residual >= from);
        let all = self.mesh.cells.iter().enumerate();
        let others = all.filter(|(_, c)| !named.contains(&c.from) && !named.contains(&c.to));
        let mut odd: Vec<_> = others
            .filter_map(|(at, _)| Some((at, residual(at)?)))
            .collect();
        odd.sort_by(|a, b| b.1.total_cmp(&a.1));
        let worst = odd.iter().map(|(at, _)| *at);
        let mut worst: Vec<_> = worst.collect();
        worst.sort_by_key(|at| Reverse(self.mesh.cells[*at].p99_ns));
        worst
    }
}

/// Adds what a cell says of its client or its server.
fn add(evidence: &mut Evidence, faults: &Faults, role: usize) {
    let own = [Side::Client, Side::Server][role];
    for ((side, direction), probes) in &faults.0 {
        let part = match side {
            Side::Unknown => &mut evidence.unknown,
            Side::Wire => &mut evidence.wire,
            side if *side == own => &mut evidence.own,
            Side::Client | Side::Server => {
                evidence.peers += probes;
                continue;
            }
        };
        *part += probes;
        match (role, direction) {
            (CLIENT, Some(Direction::Reply)) | (SERVER, Some(Direction::Request)) => {
                evidence.receiving += probes;
            }
            (_, Some(_)) => evidence.sending += probes,
            (_, None) => {}
        }
    }
}

//! The answer in sentences.

use crate::model::Mesh;
use crate::units::duration;

use super::finding::{Direct, Effect, Evidence, Finding, Part, Problem, Subject, Unknown};
use super::judge::Matrix;
use super::lossy::MIN_LOSS;
use super::slow::{MIN_FACTOR, MIN_PEERS};
use super::table::ROLES;

/// Hosts that are listed by name; of more the number is said.
const NAMED: usize = 5;

/// The answer: a sentence for each finding, or why there is none; and what belongs to each.
pub fn answer(matrix: &Matrix) -> Vec<(String, String)> {
    let answer = &matrix.answer;
    if let Some(unknown) = answer.unknown {
        return vec![not_known(unknown, matrix)];
    }
    let findings = answer.findings.iter();
    let mut said: Vec<_> = findings
        .map(|finding| (title(finding, &matrix.mesh), detail(finding)))
        .collect();
    if said.is_empty() {
        said.push(nobody(matrix));
    }
    said
}

fn nobody(matrix: &Matrix) -> (String, String) {
    let why = match matrix.usual_ns {
        None => "no probe was answered".to_owned(),
        Some(ns) => format!(
            "the p99 of the typical pair is {}; what all hosts have in common is not seen in a matrix",
            duration(ns as u64)
        ),
    };
    ("no host stands out".to_owned(), why)
}

fn not_known(unknown: Unknown, matrix: &Matrix) -> (String, String) {
    match unknown {
        Unknown::FewPeers => (
            "unknown which host is to blame: too few pairs".to_owned(),
            format!(
                "no host has {MIN_PEERS} peers in one role, which it takes to tell it from them; \
                 what the slow probes of each pair say is in the table"
            ),
        ),
        Unknown::Divided { nodes } => (
            format!(
                "{nodes} of {} hosts differ from the others",
                matrix.mesh.nodes.len()
            ),
            "too many to be exceptions: unknown which of them are to blame, or what they have in \
             common (--group LABEL)"
                .to_owned(),
        ),
    }
}

fn subject(finding: &Finding, mesh: &Mesh) -> String {
    match &finding.subject {
        Subject::Node(node) => mesh.nodes[*node].name.clone(),
        Subject::Group { name, members, bad } if *bad == members.len() => {
            format!("{name} (all its {bad} hosts)")
        }
        Subject::Group { name, members, bad } => {
            format!("{name} ({bad} of its {} hosts)", members.len())
        }
        Subject::Inside { name, members } => format!("{name} ({} hosts)", members.len()),
    }
}

/// Who, what, for whom, which packets, and where.
fn title(finding: &Finding, mesh: &Mesh) -> String {
    let who = subject(finding, mesh);
    let is = match finding.problem {
        Problem::Slow => "is slow",
        Problem::Lossy => "loses probes",
    };
    let with = match (&finding.subject, finding.problem) {
        (Subject::Inside { .. }, _) => "among its own hosts only".to_owned(),
        (Subject::Group { .. }, _) => "with all other hosts".to_owned(),
        (Subject::Node(_), Problem::Slow) => for_peers(finding),
        (Subject::Node(_), Problem::Lossy) => "with all its peers".to_owned(),
    };
    let mut text = format!("{who} {is} {with}");
    let packets = match finding.direct {
        Direct::Receiving => ", receiving",
        Direct::Sending => ", sending",
        Direct::Both => ", receiving and sending",
        Direct::Unknown => roles(finding),
    };
    if !matches!(finding.subject, Subject::Inside { .. }) {
        text += packets;
    }
    text + match (finding.part, finding.is_sure()) {
        (Part::Host, true) => ": the host itself",
        (Part::Host, false) => ": likely the host itself",
        (Part::Link, true) => ": its link, not the host",
        (Part::Link, false) => ": likely its link",
        (Part::HostOrLink, _) => ": the host or its link",
        (Part::Peers, _) => ", but the probes blame its peers: unknown who",
        (Part::Unknown, _) => ": host or link unknown",
    }
}

fn for_peers(finding: &Finding) -> String {
    let effects = || finding.effects.iter().flatten();
    let (bad, pairs) = effects().fold((0, 0), |(bad, pairs), e| (bad + e.bad, pairs + e.pairs));
    if bad == pairs {
        "for all its peers".to_owned()
    } else {
        format!("in {bad} of {pairs} pairs")
    }
}

/// What the table alone says, where the probes do not say more.
fn roles(finding: &Finding) -> &'static str {
    match finding.effects.map(|effect| effect.is_some()) {
        [true, false] => " when it probes them",
        [false, true] => " when they probe it",
        _ => "",
    }
}

fn detail(finding: &Finding) -> String {
    let effects = ROLES.into_iter().filter_map(|role| {
        let effect = finding.effects[role]?;
        let role = match finding.subject {
            Subject::Inside { .. } => "",
            _ => [" as client", " as server"][role],
        };
        Some(format!("{}{role}", value(finding.problem, &effect)))
    });
    let effects: Vec<_> = effects.collect();
    let usual = finding
        .effects
        .iter()
        .flatten()
        .map(|effect| match finding.problem {
            Problem::Slow => format!("usual {}", duration(effect.usual as u64)),
            Problem::Lossy => format!("usual {}", percent(effect.usual)),
        });
    let usual = usual.take(1).collect::<String>();
    format!(
        "{}, {usual}; {}",
        effects.join(", "),
        owners(&finding.evidence, finding.problem)
    )
}

/// `p99 4.10 ms (x 20)`, `lost 2.0 %`.
fn value(problem: Problem, effect: &Effect) -> String {
    match problem {
        Problem::Slow => format!(
            "p99 {} ({})",
            duration(effect.value as u64),
            times(effect.value / effect.usual)
        ),
        Problem::Lossy => format!("lost {}", percent(effect.value)),
    }
}

/// `x 20`, `x 2.1`.
pub(crate) fn times(factor: f64) -> String {
    if factor < 9.95 {
        format!("x {factor:.1}")
    } else {
        format!("x {factor:.0}")
    }
}

/// `2.1 %`, `0.01 %`, `0 %`.
pub(crate) fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    match percent {
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.01 => "<0.01 %".to_owned(),
        p if p < 1.0 => format!("{p:.2} %"),
        p if p < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

fn owners(evidence: &Evidence, problem: Problem) -> String {
    let probes = match problem {
        Problem::Slow => "slow probes",
        Problem::Lossy => "lost probes",
    };
    let known = evidence.known();
    let all = known + evidence.unknown;
    if known == 0 {
        return format!("of none of {all} {probes} it is known whose they are");
    }
    let part = |part: u64| format!("{:.0} %", 100.0 * part as f64 / known as f64);
    format!(
        "of {known} {probes} with an owner ({} without) {} are its own, {} the wire's, {} its peers'",
        evidence.unknown,
        part(evidence.own),
        part(evidence.wire),
        part(evidence.peers)
    )
}

/// What is taken for an exception.
pub fn thresholds(matrix: &Matrix) -> String {
    let factor = matrix.factor;
    let beyond = if factor > MIN_FACTOR * 1.01 {
        format!(
            " (here up to {}, by how much pairs and hosts differ anyway)",
            times(factor)
        )
    } else {
        String::new()
    };
    format!(
        "Slow is a host whose typical pair (median polish of the logarithms of the p99) is {} slower than the usual{beyond}, \
         and three quarters of its pairs are; lossy one that loses {} and five times the usual with all its peers but a \
         quarter. It takes {MIN_PEERS} peers. Whose it is say two thirds of the probes with an owner.",
        times(MIN_FACTOR),
        percent(MIN_LOSS)
    )
}

/// What is not in the matrix, a line each.
pub fn missing(matrix: &Matrix) -> Vec<String> {
    let mesh = &matrix.mesh;
    let all = mesh.nodes.len();
    let mut pairs = vec![[0; 2]; all];
    for cell in mesh.cells.iter().filter(|cell| cell.sent > 0) {
        pairs[cell.from][0] += 1;
        pairs[cell.to][1] += 1;
    }
    let those = |wanted: &dyn Fn(usize) -> bool| named(matrix, wanted);
    let lines = [
        (
            "without results of their own, so only as servers",
            those(&|n| !mesh.nodes[n].measures),
        ),
        ("that nobody probes", those(&|n| pairs[n][1] == 0)),
        (
            "with fewer peers than it takes to name them",
            those(&|n| pairs[n].iter().all(|pairs| *pairs < MIN_PEERS)),
        ),
    ];
    let lines = lines.into_iter().filter(|(_, hosts)| !hosts.is_empty());
    lines
        .map(|(what, hosts)| format!("hosts {what}: {hosts}"))
        .collect()
}

/// The names of the hosts for which something is so, or how many they are; empty for none.
fn named(matrix: &Matrix, wanted: &dyn Fn(usize) -> bool) -> String {
    let all = matrix.worst.iter().filter(|node| wanted(**node));
    let names: Vec<&str> = all.map(|node| &*matrix.mesh.nodes[*node].name).collect();
    match names.len() {
        0..=NAMED => names.join(", "),
        many => format!("{many} ({}, ...)", names[..NAMED].join(", ")),
    }
}

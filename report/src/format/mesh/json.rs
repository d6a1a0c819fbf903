//! As JSON: a line `mesh` with the answer and the hosts, and a line `cell` for each pair.

use serde::Serialize;

use crate::analysis::mesh::{Effect, Finding, Matrix, Subject, Unknown, answer, missing};
use crate::format::json::to_string;
use crate::model::{Cell, Faults, Side};

#[derive(Serialize)]
struct MeshLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Sentences.
    answer: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
    findings: Vec<FindingLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usual_p99_ns: Option<u64>,
    missing: Vec<String>,
    /// The worst first.
    nodes: Vec<NodeLine<'a>>,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    hosts: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    problem: &'static str,
    part: &'static str,
    direction: &'static str,
    sure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_client: Option<EffectLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_server: Option<EffectLine>,
    own: u64,
    wire: u64,
    peers: u64,
    unknown: u64,
}

/// Of slowness in nanoseconds, of loss in parts of one.
#[derive(Serialize)]
struct EffectLine {
    value: f64,
    usual: f64,
    threshold: f64,
    pairs: usize,
    bad: usize,
}

#[derive(Serialize)]
struct NodeLine<'a> {
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    measures: bool,
    score: f64,
}

#[derive(Serialize)]
struct CellLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    from: &'a str,
    to: &'a str,
    sent: u64,
    lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ns: Option<u64>,
    /// Of most slow probes of which it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Side>,
    slow: SidesLine,
    losses: SidesLine,
}

#[derive(Serialize)]
struct SidesLine {
    client: u64,
    wire: u64,
    server: u64,
    unknown: u64,
}

/// All lines.
pub fn json(matrix: &Matrix) -> String {
    let mesh = &matrix.mesh;
    let name = |node: usize| &*mesh.nodes[node].name;
    let answers = answer(matrix).into_iter();
    let nodes = matrix.worst.iter().map(|node| NodeLine {
        host: name(*node),
        group: mesh.nodes[*node].group.as_deref(),
        measures: mesh.nodes[*node].measures,
        score: matrix.standings[*node].score(),
    });
    let line = MeshLine {
        kind: "mesh",
        answer: answers
            .map(|(title, detail)| format!("{title}; {detail}"))
            .collect(),
        unknown: matrix.answer.unknown.map(|unknown| match unknown {
            Unknown::FewPeers => "few_peers",
            Unknown::Divided { .. } => "divided",
        }),
        findings: matrix
            .answer
            .findings
            .iter()
            .map(|f| finding(f, matrix))
            .collect(),
        usual_p99_ns: matrix.usual_ns.map(|ns| ns as u64),
        missing: missing(matrix),
        nodes: nodes.collect(),
    };
    let cells = mesh
        .cells
        .iter()
        .map(|cell| to_string(&cell_line(cell, name)) + "\n");
    to_string(&line) + "\n" + &cells.collect::<String>()
}

fn finding<'a>(finding: &'a Finding, matrix: &'a Matrix) -> FindingLine<'a> {
    let hosts = finding.members().iter();
    let evidence = &finding.evidence;
    let [as_client, as_server] = finding.effects.map(|effect| effect.map(EffectLine::from));
    FindingLine {
        hosts: hosts.map(|node| &*matrix.mesh.nodes[*node].name).collect(),
        group: match &finding.subject {
            Subject::Node(_) => None,
            Subject::Group { name, .. } | Subject::Inside { name, .. } => Some(name),
        },
        problem: finding.problem.into(),
        part: finding.part.into(),
        direction: finding.direct.into(),
        sure: finding.is_sure(),
        as_client,
        as_server,
        own: evidence.own,
        wire: evidence.wire,
        peers: evidence.peers,
        unknown: evidence.unknown,
    }
}

fn cell_line<'a>(cell: &Cell, name: impl Fn(usize) -> &'a str) -> CellLine<'a> {
    CellLine {
        kind: "cell",
        from: name(cell.from),
        to: name(cell.to),
        sent: cell.sent,
        lost: cell.lost,
        p99_ns: cell.p99_ns,
        owner: cell.slow.main(),
        slow: (&cell.slow).into(),
        losses: (&cell.losses).into(),
    }
}

impl From<Effect> for EffectLine {
    fn from(effect: Effect) -> Self {
        Self {
            value: effect.value,
            usual: effect.usual,
            threshold: effect.threshold,
            pairs: effect.pairs,
            bad: effect.bad,
        }
    }
}

impl From<&Faults> for SidesLine {
    fn from(faults: &Faults) -> Self {
        Self {
            client: faults.of(Side::Client),
            wire: faults.of(Side::Wire),
            server: faults.of(Side::Server),
            unknown: faults.of(Side::Unknown),
        }
    }
}

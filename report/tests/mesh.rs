//! The matrix of a fleet names the hosts that are bad, and nobody else.

mod common;
mod fleet;

use std::collections::BTreeSet;

use fleet::{Fault, Fleet};
use report::analysis::mesh::{
    Direct, Finding, Matrix, Part, Problem, Subject, Unknown, answer, judge,
};
use report::draw::{Format, Picture, render};
use report::format::mesh::{json, text};

/// The three of the fleet of 200.
const THREE: [(usize, Fault); 3] = [
    (17, Fault::Receives),
    (80, Fault::Sends),
    (133, Fault::Loses),
];

fn single(matrix: &Matrix) -> BTreeSet<(usize, Problem)> {
    let findings = matrix.answer.findings.iter();
    let nodes = findings.filter_map(|finding| match finding.subject {
        Subject::Node(node) => Some((node, finding.problem)),
        _ => None,
    });
    nodes.collect()
}

fn expected(bad: &[(usize, Fault)]) -> BTreeSet<(usize, Problem)> {
    let problem = |fault| match fault {
        Fault::Loses => Problem::Lossy,
        _ => Problem::Slow,
    };
    bad.iter()
        .map(|(node, fault)| (*node, problem(*fault)))
        .collect()
}

fn finding(matrix: &Matrix, node: usize) -> &Finding {
    let mut findings = matrix.answer.findings.iter();
    let of = |finding: &&Finding| finding.subject == Subject::Node(node);
    findings
        .find(of)
        .unwrap_or_else(|| panic!("{node} is not named"))
}

/// So many seeds of each fleet: how many name exactly the bad ones; how many hosts are named that are not bad.
fn seeds(fleet: &Fleet, seeds: u64) -> (u64, usize) {
    let expected = expected(&fleet.bad);
    let (mut exact, mut wrong) = (0, 0);
    for seed in 1..=seeds {
        let named = single(&judge(fleet.mesh(seed)));
        exact += u64::from(named == expected);
        wrong += named.difference(&expected).count();
    }
    (exact, wrong)
}

#[test]
fn three_bad_hosts_of_200_are_named_with_what_is_wrong() {
    let fleet = Fleet {
        bad: THREE.to_vec(),
        ..Fleet::default()
    };
    let matrix = judge(fleet.mesh(1));
    assert_eq!(single(&matrix), expected(&THREE));
    for (node, part, direct) in [
        (17, Part::Host, Direct::Receiving),
        (80, Part::Host, Direct::Sending),
        (133, Part::Link, Direct::Receiving),
    ] {
        let finding = finding(&matrix, node);
        assert_eq!(
            (finding.part, finding.direct),
            (part, direct),
            "{finding:#?}"
        );
        assert!(finding.is_sure() && finding.effects.iter().all(Option::is_some));
    }
    let worst: BTreeSet<_> = matrix.worst[..3].iter().copied().collect();
    assert_eq!(worst, BTreeSet::from([17, 80, 133]));
    // A cross: their rows and columns are side by side in the middle.
    let middle: BTreeSet<_> = matrix.order[98..101].iter().copied().collect();
    assert_eq!(middle, worst);
    let titles: Vec<String> = answer(&matrix)
        .into_iter()
        .map(|(title, _)| title)
        .collect();
    let said = |words: &str| assert!(titles.iter().any(|t| t.contains(words)), "{titles:#?}");
    said("n017 is slow for all its peers, receiving: the host itself");
    said("n080 is slow for all its peers, sending: the host itself");
    said("n133 loses probes with all its peers, receiving: its link, not the host");
}

#[test]
fn many_seeds_and_shapes_name_the_bad_ones_alone() {
    let mut failed = false;
    for (what, fleet, count) in [
        (
            "three of 200",
            Fleet {
                bad: THREE.to_vec(),
                ..Fleet::default()
            },
            2,
        ),
        (
            "much noise",
            Fleet {
                bad: THREE.to_vec(),
                noise: 0.7,
                ..Fleet::default()
            },
            2,
        ),
        (
            "three times slower",
            Fleet {
                bad: THREE.to_vec(),
                factor: 3.0,
                ..Fleet::default()
            },
            2,
        ),
        (
            "without owners",
            Fleet {
                bad: THREE.to_vec(),
                owners: false,
                ..Fleet::default()
            },
            2,
        ),
        (
            "a ring of 8",
            Fleet {
                bad: THREE.to_vec(),
                ring: Some(8),
                ..Fleet::default()
            },
            8,
        ),
        (
            "a ring of 4",
            Fleet {
                bad: THREE.to_vec(),
                ring: Some(4),
                ..Fleet::default()
            },
            8,
        ),
        (
            "20 hosts",
            Fleet {
                nodes: 20,
                bad: vec![(7, Fault::Receives)],
                ..Fleet::default()
            },
            30,
        ),
        (
            "5 hosts",
            Fleet {
                nodes: 5,
                bad: vec![(2, Fault::Sends)],
                ..Fleet::default()
            },
            30,
        ),
        (
            "a slow client",
            Fleet {
                nodes: 20,
                bad: vec![(3, Fault::Probes)],
                ..Fleet::default()
            },
            30,
        ),
    ] {
        let (exact, wrong) = seeds(&fleet, count);
        println!("{what}: {exact} of {count} exact, {wrong} wrong");
        failed |= wrong > 0 || 10 * exact < 9 * count;
    }
    assert!(!failed);
}

#[test]
fn chance_names_nobody() {
    let mut failed = false;
    let all = |fault| (0..50).map(|node| (node, fault)).collect::<Vec<_>>();
    for (what, fleet, count) in [
        ("200 hosts", Fleet::default(), 4),
        (
            "much noise",
            Fleet {
                noise: 1.0,
                ..Fleet::default()
            },
            2,
        ),
        (
            "hosts that differ",
            Fleet {
                spread: 0.7,
                ..Fleet::default()
            },
            2,
        ),
        (
            "20 hosts",
            Fleet {
                nodes: 20,
                noise: 0.5,
                ..Fleet::default()
            },
            40,
        ),
        (
            "4 hosts",
            Fleet {
                nodes: 4,
                noise: 0.5,
                ..Fleet::default()
            },
            200,
        ),
        (
            "few probes",
            Fleet {
                nodes: 20,
                probes: 60,
                noise: 0.5,
                ..Fleet::default()
            },
            40,
        ),
        (
            "a ring of 3",
            Fleet {
                ring: Some(3),
                noise: 0.5,
                ..Fleet::default()
            },
            20,
        ),
        (
            "a ring of 4",
            Fleet {
                ring: Some(4),
                noise: 0.5,
                ..Fleet::default()
            },
            20,
        ),
        (
            "all slow",
            Fleet {
                nodes: 50,
                bad: all(Fault::Receives),
                ..Fleet::default()
            },
            20,
        ),
        (
            "all lose",
            Fleet {
                nodes: 50,
                bad: all(Fault::Loses),
                ..Fleet::default()
            },
            20,
        ),
    ] {
        let mut named = 0;
        for seed in 1..=count {
            named += judge(fleet.mesh(seed)).answer.findings.len();
        }
        println!("{what}: {named} named in {count}");
        failed |= named > 0;
    }
    assert!(!failed);
}

#[test]
fn a_bad_rack_is_named_instead_of_its_hosts() {
    let bad = (40..50).map(|node| (node, Fault::Receives));
    let fleet = Fleet {
        rack: Some(10),
        bad: bad.chain([(133, Fault::Sends)]).collect(),
        ..Fleet::default()
    };
    for seed in 1..=3 {
        let matrix = judge(fleet.mesh(seed));
        assert_eq!(single(&matrix), BTreeSet::from([(133, Problem::Slow)]));
        let rack = &matrix
            .answer
            .findings
            .iter()
            .find(|f| f.members().len() == 10)
            .unwrap();
        let name = "r04".to_owned();
        let members = (40..50).collect();
        assert_eq!(
            rack.subject,
            Subject::Group {
                name,
                members,
                bad: 10
            }
        );
        let worst: BTreeSet<_> = matrix.worst[..11].iter().copied().collect();
        assert_eq!(worst, (40..50).chain([133]).collect());
        // A block, and a cross in the middle of its rack.
        let place = |node: usize| matrix.order.iter().position(|n| *n == node).unwrap();
        let rack: BTreeSet<_> = (40..50).map(place).collect();
        assert_eq!(rack, (40..50).collect());
        assert_eq!(place(133), 134);
    }
    // Without a label the hosts stand side by side, and nothing is said of a rack.
    let matrix = judge(
        Fleet {
            rack: None,
            ..fleet
        }
        .mesh(1),
    );
    assert_eq!(single(&matrix).len(), 11);
    assert!(
        matrix.order[94..105]
            .iter()
            .all(|node| *node == 133 || (40..50).contains(node))
    );
}

#[test]
fn a_rack_that_is_slow_within_is_told_from_its_hosts() {
    let mut mesh = Fleet {
        rack: Some(10),
        nodes: 100,
        ..Fleet::default()
    }
    .mesh(1);
    for cell in &mut mesh.cells {
        if [cell.from, cell.to]
            .iter()
            .all(|node| (40..50).contains(node))
        {
            cell.p99_ns = cell.p99_ns.map(|ns| 10 * ns);
        }
    }
    let matrix = judge(mesh);
    let [finding] = &matrix.answer.findings[..] else {
        panic!("{:#?}", matrix.answer);
    };
    assert!(matches!(&finding.subject, Subject::Inside { name, .. } if name == "r04"));
    let (title, _) = &answer(&matrix)[0];
    assert!(
        title.contains("r04 (10 hosts) is slow among its own hosts only"),
        "{title}"
    );
    assert_eq!(matrix.answer.odd_pairs, Vec::<usize>::new());
}

#[test]
fn what_cannot_be_decided_is_not_guessed() {
    // A pair, and three hosts: one of them can be what is wrong with the others.
    for nodes in [2, 3] {
        let fleet = Fleet {
            nodes,
            bad: vec![(1, Fault::Receives)],
            ..Fleet::default()
        };
        let matrix = judge(fleet.mesh(1));
        assert_eq!(matrix.answer.unknown, Some(Unknown::FewPeers));
        assert!(answer(&matrix)[0].0.contains("unknown which host"));
    }
    // One log alone: rows of one, columns of one.
    let mut mesh = Fleet {
        nodes: 20,
        bad: vec![(0, Fault::Probes)],
        ..Fleet::default()
    }
    .mesh(1);
    mesh.cells.retain(|cell| cell.from == 0);
    assert!(judge(mesh).answer.findings.is_empty());
    // A third of the hosts.
    let bad = (0..7).map(|node| (node, Fault::Receives)).collect();
    let matrix = judge(
        Fleet {
            nodes: 20,
            spread: 0.0,
            noise: 0.1,
            bad,
            ..Fleet::default()
        }
        .mesh(1),
    );
    assert!(single(&matrix).is_empty(), "{:#?}", matrix.answer);
    // Without owners it is named, but not whether it is the host.
    let bad = vec![(7, Fault::Receives)];
    let matrix = judge(
        Fleet {
            nodes: 20,
            owners: false,
            bad,
            ..Fleet::default()
        }
        .mesh(1),
    );
    let mut mesh = matrix.mesh.clone();
    mesh.cells.iter_mut().for_each(|cell| cell.slow.0.clear());
    let matrix = judge(mesh);
    assert!(!finding(&matrix, 7).is_sure());
    assert!(
        answer(&matrix)[0]
            .0
            .ends_with("for all its peers: host or link unknown")
    );
}

/// A to B is slow, and B to A is not: no host is named, the pair is.
#[test]
fn a_pair_that_is_slow_one_way_is_a_pair() {
    let mut mesh = Fleet {
        nodes: 20,
        ..Fleet::default()
    }
    .mesh(1);
    let cell = mesh
        .cells
        .iter_mut()
        .find(|c| (c.from, c.to) == (3, 8))
        .unwrap();
    cell.p99_ns = Some(50_000_000);
    let matrix = judge(mesh);
    assert!(matrix.answer.findings.is_empty());
    let odd: Vec<_> = matrix
        .answer
        .odd_pairs
        .iter()
        .map(|at| &matrix.mesh.cells[*at])
        .collect();
    assert_eq!(
        odd.iter().map(|c| (c.from, c.to)).collect::<Vec<_>>(),
        [(3, 8)]
    );
    assert_eq!(matrix.order[..2], [3, 8], "side by side");
}

/// Cells that are missing, hosts that nobody probes or that are dead.
#[test]
fn holes_do_not_mislead() {
    let fleet = Fleet {
        nodes: 40,
        bad: vec![(7, Fault::Receives)],
        ..Fleet::default()
    };
    for seed in 1..=20 {
        let mut mesh = fleet.mesh(seed);
        let mut random = common::Random(seed);
        mesh.cells
            .retain(|cell| random.below(3) > 0 && cell.to != 20 && cell.from != 21);
        mesh.nodes[21].measures = false;
        // A dead host: all is lost.
        for cell in mesh.cells.iter_mut().filter(|cell| cell.to == 30) {
            (cell.lost, cell.p99_ns) = (cell.sent, None);
        }
        mesh.cells.retain(|cell| cell.from != 30);
        let matrix = judge(mesh);
        let expected = [(7, Problem::Slow), (30, Problem::Lossy)];
        assert_eq!(single(&matrix), BTreeSet::from(expected));
    }
}

/// What is shown of 200 hosts stays small, and has the names of the bad ones.
#[test]
fn the_picture_and_the_text_of_200_hosts_are_readable() {
    let fleet = Fleet {
        bad: THREE.to_vec(),
        ..Fleet::default()
    };
    let matrix = judge(fleet.mesh(1));
    let svg = render(Picture::Mesh(&matrix), Format::Svg).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    for name in ["n017", "n080", "n133"] {
        assert!(svg.contains(name), "{name}");
    }
    assert!(
        !svg.contains("n100") && svg.len() < 4_000_000,
        "{}",
        svg.len()
    );
    assert!(render(Picture::Mesh(&matrix), Format::Png).unwrap().len() < 400_000);
    let text = text(&matrix);
    assert!(text.lines().count() < 40, "{text}");
    let lines = json(&matrix);
    assert_eq!(lines.lines().count(), 1 + 200 * 199);
    let schema = include_str!("../schema/pingtrace.schema.json");
    let schema = serde_json::from_str(schema).unwrap();
    let valid = jsonschema::validator_for(&schema).unwrap();
    for line in lines.lines().take(3) {
        let line = serde_json::from_str(line).unwrap();
        assert!(valid.is_valid(&line), "{line}");
    }
    if let Some(path) = std::env::var_os("MESH_PICTURE") {
        std::fs::write(path, render(Picture::Mesh(&matrix), Format::Png).unwrap()).unwrap();
    }
}

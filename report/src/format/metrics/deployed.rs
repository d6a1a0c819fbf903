//! The dashboard, the rules and the page for users name families and labels that there are.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{families, worst};
use super::*;
use crate::model::{Class, ProgramCost};

const DASHBOARD: &str = include_str!("../../../../scripts/dist/grafana/pingtrace.json");
const RULES: &str = include_str!("../../../../scripts/dist/prometheus/rules.yml");
const RULES_TEST: &str = include_str!("../../../../scripts/dist/prometheus/rules.test.yml");
const PAGE: &str = include_str!("../../../../docs/metrics.md");

/// What a scrape adds.
const OF_SCRAPE: [&str; 2] = ["instance", "job"];
/// Words in front of a list of labels.
const LISTS: [&str; 5] = ["by", "without", "on", "group_left", "ignoring"];

type Exported = BTreeMap<String, BTreeSet<String>>;

fn everything() -> Vec<Family> {
    let mut targets = worst(1);
    let target = &mut targets[0];
    target.counts.blame_ns.insert((true, Class::Irqoff), 1);
    target.programs.push(ProgramCost {
        program: "on_napi".to_owned(),
        ..ProgramCost::default()
    });
    let server = ServerView {
        stamps: vec![("inband", 1)],
        withheld: vec![("rate", 1)],
        lost: vec![("evicted", 1)],
        clients: 3,
        arming: ArmingView::default(),
    };
    families(&targets, Some(&server), &mut Room::default())
}

/// Names of series and their labels; histograms also by the name that native ones have.
fn exported() -> Exported {
    let page = String::from_utf8(encode(everything(), Form::Text, true)).unwrap();
    let mut all = Exported::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = selectors(line).into_iter().next().unwrap();
        let native = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        for name in [Some(name.as_str()), native].into_iter().flatten() {
            let of = all.entry(name.to_owned()).or_default();
            of.extend(labels.iter().cloned());
        }
    }
    all
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

/// The words of a text with what follows each; what is quoted has none.
fn words(text: &str) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c| is_word(c) || c == '"') {
        rest = &rest[start..];
        let end = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.find('"').map_or(rest.len(), |end| end + 2)
        } else {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        };
        let word = &rest[..end];
        rest = &rest[end..];
        if !word.starts_with('"') {
            words.push((word, rest));
        }
    }
    words
}

/// The labels in braces or parentheses.
fn labels(list: &str, end: char) -> Vec<String> {
    let list = list.split(end).next().unwrap_or_default();
    let words = words(list);
    words.into_iter().map(|(word, _)| word.to_owned()).collect()
}

/// The metrics that a text names, with the labels that it selects them by.
fn selectors(text: &str) -> Vec<(String, Vec<String>)> {
    let is_metric = |word: &str| {
        word.contains(":pingtrace_")
            || word.starts_with("pingtrace_")
            || word.starts_with("process_")
    };
    let words = words(text).into_iter().filter(|(word, _)| is_metric(word));
    words
        .map(|(word, rest)| {
            let list = rest.strip_prefix('{').unwrap_or_default();
            (word.to_owned(), labels(list, '}'))
        })
        .collect()
}

/// The labels that a text groups or joins by.
fn grouped(text: &str) -> Vec<String> {
    let lists = words(text)
        .into_iter()
        .filter(|(word, _)| LISTS.contains(word));
    lists
        .filter_map(|(_, rest)| rest.trim_start().strip_prefix('('))
        .flat_map(|list| labels(list, ')'))
        .collect()
}

/// The queries of the dashboard, a line each.
fn queries() -> String {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let strings = |value: &serde_json::Value, key: &str| value[key].as_str().map(str::to_owned);
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    let exprs = targets
        .flatten()
        .filter_map(|target| strings(target, "expr"));
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let all = exprs.chain(variables.filter_map(|variable| strings(variable, "query")));
    all.collect::<Vec<_>>().join("\n")
}

/// The names that rules give to what they record.
fn recorded() -> BTreeSet<&'static str> {
    let records = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "));
    records.collect()
}

#[test]
fn queries_and_rules_name_metrics_and_labels_that_there_are() {
    let (exported, recorded, queries) = (exported(), recorded(), queries());
    let all: BTreeSet<&str> = exported
        .values()
        .flatten()
        .map(String::as_str)
        .chain(OF_SCRAPE)
        .collect();
    // In tests a series is quoted.
    let tests = RULES_TEST.replace('\'', "");
    let mut named = BTreeSet::new();
    for (what, text) in [
        ("dashboard", queries.as_str()),
        ("rules", RULES),
        ("tests of rules", &tests),
    ] {
        for (metric, labels) in selectors(text) {
            let own = exported.get(&metric);
            assert!(
                own.is_some() || recorded.contains(metric.as_str()),
                "{what}: there is no {metric}"
            );
            for label in labels {
                let is_own = own.map_or(all.contains(label.as_str()), |own| own.contains(&label));
                assert!(
                    is_own || OF_SCRAPE.contains(&label.as_str()),
                    "{what}: {metric} has no label {label}"
                );
            }
            named.insert(metric);
        }
        for label in grouped(text) {
            assert!(
                all.contains(label.as_str()),
                "{what}: there is no label {label}"
            );
        }
    }
    assert!(named.len() > 20, "{named:?}");
}

#[test]
fn the_page_for_users_has_every_family_with_its_labels() {
    let mut documented = Exported::new();
    for row in PAGE.lines().filter(|line| line.starts_with("| `p")) {
        let cells: Vec<&str> = row.split('|').collect();
        let labels: BTreeSet<String> = labels(cells[3], '|').into_iter().collect();
        for name in cells[1].split('`').filter(|name| name.starts_with('p')) {
            documented.insert(name.to_owned(), labels.clone());
        }
    }
    let mut families = exported();
    families.retain(|name, _| {
        !["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    for labels in families.values_mut() {
        labels.retain(|label| label != "le");
    }
    assert_eq!(documented, families);
}

//! A list of targets in a file, as Prometheus' file-based service discovery has it
//! (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>): groups of targets
//! and their labels, in JSON or YAML, of which JSON is a part.

use super::listed::{Listed, Own};
use crate::yaml;
use anyhow::{Result, bail};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// Upper bound on the targets of a client.
pub const MAX_TARGETS: usize = 10_000;

/// Labels that begin with this say how a target is probed.
const OWN: &str = "__pingtrace_";

/// Targets with the same labels.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, Spanned<String>>,
}

/// Reads a list. The error says the line.
pub fn parse(text: &str) -> Result<Vec<Listed>> {
    let groups: Vec<Group> = yaml::parse(text)?;
    let mut all = Vec::new();
    for Group { targets, labels } in groups {
        let (own, labels) = own_labels(labels)?;
        for target in targets {
            let line = target.referenced.line();
            let host = without_port(target.value.trim());
            if let Some(why) = super::super::plan::no_host(host) {
                bail!("line {line}: {why}");
            }
            all.push(Listed {
                host: host.to_owned(),
                own: own.clone(),
                labels: labels.clone(),
            });
        }
    }
    if all.len() > MAX_TARGETS {
        bail!(
            "{} targets, and one client probes at most {MAX_TARGETS}: give each host its neighbours (--ring)",
            all.len()
        );
    }
    Ok(all)
}

/// Lists are shared with jobs that need a port; an ICMP echo has none.
fn without_port(target: &str) -> &str {
    if let Some((host, _)) = target.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return host;
    }
    match target.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
        _ => target,
    }
}

/// What the labels say about the probes, and the labels that stay. Others that begin with `__` are for
/// Prometheus' relabelling.
fn own_labels(
    labels: BTreeMap<String, Spanned<String>>,
) -> Result<(Own, BTreeMap<String, String>)> {
    let (mut own, mut kept) = (Own::default(), BTreeMap::new());
    for (
        name,
        Spanned {
            value, referenced, ..
        },
    ) in labels
    {
        let line = referenced.line();
        if let Some(what) = name.strip_prefix(OWN) {
            if let Err(why) = own.set(what, &value) {
                bail!("line {line}: label {name}: {why}");
            }
        } else if !is_label(&name) {
            bail!(
                "line {line}: '{name}' is no name of a label: letters, digits and _, no digit first"
            );
        } else if !name.starts_with("__") {
            kept.insert(name, value);
        }
    }
    Ok((own, kept))
}

fn is_label(name: &str) -> bool {
    let fits = |(at, c): (usize, char)| {
        c == '_' || c.is_ascii_alphabetic() || at > 0 && c.is_ascii_digit()
    };
    !name.is_empty() && name.char_indices().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn both_forms_are_read() {
        let json = r#"[{"targets": ["web1:9100", "[2001:db8::1]:80", "2001:db8::2"],
            "labels": {"rack": "r1", "__pingtrace_interval": "10ms", "__meta_x": "y"}}]"#;
        let yaml = "- targets: ['web1:9100', '[2001:db8::1]:80', '2001:db8::2']\n  labels:\n    rack: r1\n    __pingtrace_interval: 10ms\n";
        for text in [json, yaml] {
            let all = parse(text).unwrap();
            let hosts: Vec<&str> = all.iter().map(|t| &*t.host).collect();
            assert_eq!(hosts, ["web1", "2001:db8::1", "2001:db8::2"]);
            for target in &all {
                assert_eq!(target.own.interval, Some(Duration::from_millis(10)));
                assert_eq!(
                    target.labels,
                    BTreeMap::from([("rack".into(), "r1".into())])
                );
            }
        }
        assert_eq!(parse("[]").unwrap().len(), 0);
    }

    #[test]
    fn a_mistake_is_said_with_its_line() {
        for (text, line, what) in [
            ("- targets: [a]\n- target: [b]\n", 2, "target"),
            (
                "- targets: [a]\n  labels:\n    __pingtrace_intervall: 1s\n",
                3,
                "intervall",
            ),
            (
                "- targets: [a]\n  labels:\n    __pingtrace_interval: soon\n",
                3,
                "soon",
            ),
            ("- targets: [a]\n  labels:\n    1x: y\n", 3, "1x"),
            ("- targets: [a]\n  labels:\n    \"\": y\n", 3, "''"),
            ("- targets: [a]\n  labels:\n    ra-ck: y\n", 3, "ra-ck"),
            ("- targets: [a]\n  labels:\n    größe: y\n", 3, "größe"),
            (
                "- targets: [a]\n  labels:\n    rack: y\n    rack: z\n",
                4,
                "rack",
            ),
            ("- targets: [a]\n  labels:\n    rack: [y]\n", 3, ""),
            ("- targets:\n  - http://a/\n", 2, "URL"),
            ("- targets: [a\n", 1, "unclosed"),
            ("[{\"targets\": [\"a\"]},\n\n{\"targets\": 7}]", 3, ""),
        ] {
            let said = parse(text).expect_err(text).to_string();
            assert!(
                said.starts_with(&format!("line {line}: ")),
                "{text}: {said}"
            );
            assert!(said.contains(what), "{text}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn a_long_list_is_read_and_too_long_a_one_refused() {
        let list = |n: usize| {
            let targets: Vec<String> = (0..n)
                .map(|k| format!("\"10.{}.{}.{}\"", k >> 16, k >> 8 & 255, k & 255))
                .collect();
            format!("[{{\"targets\": [{}]}}]", targets.join(",\n"))
        };
        assert_eq!(parse(&list(MAX_TARGETS)).unwrap().len(), MAX_TARGETS);
        let said = parse(&list(100_000)).unwrap_err().to_string();
        assert!(
            said.contains("100000 targets") && said.contains("--ring"),
            "{said}"
        );
    }
}

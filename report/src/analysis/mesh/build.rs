//! A mesh from measurements between hosts that are known by several names.
//!
//! A host has the name under which it measures. A target is that host if it has its name, else if it has one of
//! its addresses or other names, else if the names are alike up to the first dot and no other host's is; else it is
//! a host of its own, which measures nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Cell, Faults, Mesh, Node};

/// What one host measured of another.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The name of the host that measured.
    pub from: String,
    /// The names and addresses of its target, the one that is to be shown first.
    pub to: Vec<String>,
    /// What the target has in common with others.
    pub group: Option<String>,
    /// What was found; its hosts are not yet set.
    pub cell: Cell,
}

/// Collects what hosts measured of each other.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// Hosts that measure.
    clients: BTreeSet<String>,
    /// Other names and addresses of hosts.
    aliases: BTreeMap<String, String>,
    groups: BTreeMap<String, String>,
    measured: Vec<Measured>,
    span_unix_ns: Option<(i64, i64)>,
}

impl Builder {
    /// A host that measures, under another name or address too.
    pub fn client(&mut self, name: &str, alias: Option<String>) {
        self.clients.insert(name.to_owned());
        if let Some(alias) = alias.filter(|alias| alias != name) {
            self.aliases.entry(alias).or_insert_with(|| name.to_owned());
        }
    }

    /// What a host that measures has in common with others, by its own word.
    pub fn group(&mut self, name: &str, group: String) {
        self.groups.insert(name.to_owned(), group);
    }

    /// Names and addresses of one host.
    pub fn same(&mut self, names: &[String]) {
        let client = names.iter().find(|name| self.clients.contains(*name));
        let Some(name) = client.or(names.first()).cloned() else {
            return;
        };
        for alias in names.iter().filter(|alias| **alias != name) {
            self.aliases.insert(alias.clone(), name.clone());
        }
    }

    /// What was measured.
    pub fn add(&mut self, measured: Measured) {
        self.clients.insert(measured.from.clone());
        self.measured.push(measured);
    }

    /// It was measured in this time, nanoseconds since the Unix epoch.
    pub fn during(&mut self, from_unix_ns: i64, to_unix_ns: i64) {
        let (from, to) = self.span_unix_ns.unwrap_or((from_unix_ns, to_unix_ns));
        self.span_unix_ns = Some((from.min(from_unix_ns), to.max(to_unix_ns)));
    }

    /// All of it; what a host says of itself is left out.
    pub fn mesh(self) -> Mesh {
        let short = self.short();
        let mut groups = BTreeMap::new();
        let mut cells = BTreeMap::<(String, String), Cell>::new();
        let mut names = self.clients.clone();
        for measured in &self.measured {
            let to = self.host(&measured.to, &short);
            names.insert(to.clone());
            if let Some(group) = &measured.group {
                groups.insert(to.clone(), group.clone());
            }
            if to != measured.from {
                let cell = cells.entry((measured.from.clone(), to)).or_default();
                merge(cell, &measured.cell);
            }
        }
        groups.extend(self.groups);
        let places: BTreeMap<&String, usize> = names.iter().zip(0..).collect();
        let cells = cells.into_iter().map(|((from, to), cell)| Cell {
            from: places[&from],
            to: places[&to],
            ..cell
        });
        Mesh {
            cells: cells.collect(),
            nodes: names
                .iter()
                .map(|name| Node {
                    name: name.clone(),
                    group: groups.get(name).cloned(),
                    measures: self.clients.contains(name),
                })
                .collect(),
            span_unix_ns: self.span_unix_ns,
        }
    }

    /// The hosts by their names up to the first dot, where that is enough.
    fn short(&self) -> BTreeMap<String, Option<String>> {
        let mut short = BTreeMap::new();
        for name in &self.clients {
            let host = short.entry(first(name).to_owned());
            host.and_modify(|host| *host = None)
                .or_insert_with(|| Some(name.clone()));
        }
        short
    }

    fn host(&self, names: &[String], short: &BTreeMap<String, Option<String>>) -> String {
        let known = names.iter().find(|name| self.clients.contains(*name));
        let alias = || names.iter().find_map(|name| self.aliases.get(name));
        let alike = || {
            let alike = names.iter().find_map(|name| short.get(first(name)));
            alike.and_then(Option::as_ref)
        };
        let host = known.or_else(alias).or_else(alike).or(names.first());
        host.cloned().unwrap_or_default()
    }
}

/// `web1` of `web1.example.com`; an address is whole.
fn first(name: &str) -> &str {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return name;
    }
    name.split('.').next().unwrap_or(name)
}

/// Of a target that is probed in several ways the slowest counts.
fn merge(cell: &mut Cell, other: &Cell) {
    let add = |to: &mut Faults, from: &Faults| to.merge(from);
    cell.sent += other.sent;
    cell.lost += other.lost;
    cell.p99_ns = cell.p99_ns.max(other.p99_ns);
    add(&mut cell.slow, &other.slow);
    add(&mut cell.losses, &other.losses);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(from: &str, to: &[&str]) -> Measured {
        let cell = Cell {
            sent: 1,
            ..Cell::default()
        };
        Measured {
            from: from.to_owned(),
            to: to.iter().map(|name| (*name).to_owned()).collect(),
            group: None,
            cell,
        }
    }

    #[test]
    fn a_host_is_found_by_its_name_its_addresses_or_the_begin_of_its_name() {
        let mut builder = Builder::default();
        for (name, address) in [("web1", "10.0.0.1"), ("web2.example.com", "10.0.0.2")] {
            builder.client(name, Some(address.to_owned()));
        }
        builder.same(&["web1".to_owned(), "front".to_owned()]);
        for target in [
            &["web1.example.com"][..],
            &["x", "10.0.0.1"],
            &["front"],
            &["web1"],
        ] {
            builder.add(measured("web2.example.com", target));
        }
        builder.add(measured("web1", &["web2"]));
        builder.add(measured("web1", &["db", "10.0.0.9"]));
        builder.add(measured("web1", &["10.0.0.1"]));
        let mesh = builder.mesh();
        let names: Vec<_> = mesh.nodes.iter().map(|n| (&*n.name, n.measures)).collect();
        assert_eq!(
            names,
            [("db", false), ("web1", true), ("web2.example.com", true)]
        );
        let cells: Vec<_> = mesh.cells.iter().map(|c| (c.from, c.to, c.sent)).collect();
        assert_eq!(cells, [(1, 0, 1), (1, 2, 1), (2, 1, 4)]);
    }
}

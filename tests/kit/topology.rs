//! Hosts joined by cables in many ways, each described by the command lines that make it.

use libbpf_rs::Link;
use netns::{Namespace, Netlink};
use pingtrace::selftest::inject::forwarder::{Forwarder, Plan};

use super::harness::{sh, wire};
use super::hold::redirect;

/// How a client and a server are joined.
#[derive(Clone, Copy)]
pub struct Topology {
    /// For the table of results.
    pub name: &'static str,
    /// Veth pairs, as "HOST:DEVICE HOST:DEVICE" a line. Hosts are made as they are named. Without any, a
    /// client and a server are joined by a TAP device each and a [`Forwarder`].
    pub cables: &'static str,
    /// What is run in the end, as "HOST: COMMAND" a line; "HOST: @HELPER FROM TO" redirects what a
    /// device receives.
    pub setup: &'static str,
}

/// The hosts of a topology.
pub struct Hosts {
    named: Vec<(String, Namespace)>,
    /// Only kept.
    redirects: Vec<Link>,
    _forwarder: Option<Forwarder>,
}

impl Topology {
    /// Makes the hosts and joins them. A forwarder follows the plan.
    pub fn build(&self, plan: Plan) -> Hosts {
        if self.cables.is_empty() {
            return Hosts::of_taps(plan);
        }
        let mut hosts = Hosts {
            named: Vec::new(),
            redirects: Vec::new(),
            _forwarder: None,
        };
        for cable in lines(self.cables) {
            let ends = cable.split_whitespace().map(|end| {
                let (host, dev) = end.split_once(':').expect("HOST:DEVICE");
                hosts.add(host);
                (host, dev)
            });
            let ends: Vec<_> = ends.collect();
            let [(near, name), (far, peer)] = ends[..] else {
                panic!("a cable has two ends: {cable}")
            };
            let far = hosts.get(far);
            let plug = || Netlink::open()?.add_veth(name, peer, far);
            hosts.get(near).run(plug).unwrap().expect(cable);
            for (ns, dev) in [(hosts.get(near), name), (far, peer)] {
                sh(ns, &format!("ip link set {dev} up"));
            }
        }
        for line in lines(self.setup) {
            let (host, command) = line.split_once(": ").expect("HOST: COMMAND");
            let Some(helper) = command.strip_prefix('@') else {
                sh(hosts.get(host), command);
                continue;
            };
            let words: Vec<_> = helper.split_whitespace().collect();
            let attach = || redirect(words[0], words[1], words[2]);
            let link = hosts.get(host).run(attach).unwrap();
            hosts.redirects.extend(link);
        }
        hosts
    }
}

impl Hosts {
    fn of_taps(plan: Plan) -> Self {
        let (lab, forwarder) = wire(plan);
        Self {
            named: vec![
                ("client".to_owned(), lab.client.ns),
                ("server".to_owned(), lab.server.ns),
            ],
            redirects: Vec::new(),
            _forwarder: Some(forwarder),
        }
    }

    /// The host of this name.
    pub fn get(&self, name: &str) -> &Namespace {
        let host = self.named.iter().find(|(host, _)| host == name);
        &host.unwrap_or_else(|| panic!("no host {name}")).1
    }

    fn add(&mut self, name: &str) {
        if self.named.iter().all(|(host, _)| host != name) {
            let ns = Namespace::anonymous().expect("a namespace");
            // A router asks for its neighbours from its link-local address, at once.
            sh(
                &ns,
                "sysctl -qw net.ipv6.conf.default.accept_dad=0; ip link set lo up",
            );
            self.named.push((name.to_owned(), ns));
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

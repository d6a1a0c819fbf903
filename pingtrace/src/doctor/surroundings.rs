//! Other network namespaces, and tunnels.

use crate::kernel::tunnels;
use netns::{NamespaceNames, Netlink};
use report::model::{Check, Finding};

/// What was read.
#[derive(Default)]
pub struct Surroundings {
    /// Namespaces that were seen.
    pub namespaces: usize,
    /// Those that cannot be entered: name, and why.
    pub closed: Vec<(String, String)>,
    /// Processes whose namespace may not be looked at.
    pub hidden: usize,
    /// `CAP_SYS_PTRACE` is held: whoever is hidden all the same is protected.
    pub may_trace: bool,
    /// Devices whose packets leave in others: namespace, name, kind, and port.
    pub tunnels: Vec<Tunnel>,
}

/// A device whose packets leave in others.
pub struct Tunnel {
    /// The name of its namespace.
    pub netns: String,
    /// Its name.
    pub device: String,
    /// Such as `vxlan`.
    pub kind: String,
    /// In UDP: to which port.
    pub port: Option<u16>,
}

impl Surroundings {
    /// Looks at every namespace that can be entered.
    pub fn read(may_trace: bool) -> netns::Result<Self> {
        let names = NamespaceNames::read()?;
        let mut here = Self {
            hidden: names.hidden(),
            may_trace,
            ..Self::default()
        };
        let own = netns::Namespace::current()?.inode();
        let known: Vec<u32> = names.inodes().filter(|inode| *inode != own).collect();
        here.namespaces = known.len() + 1;
        here.add(&names.name(own), Netlink::open()?.links()?);
        for inode in known {
            let name = names.name(inode);
            // It may have gone meanwhile.
            let Some(namespace) = names.open(inode) else {
                continue;
            };
            let links = namespace
                .run(|| Netlink::open()?.links())
                .and_then(|links| links);
            match links {
                Ok(links) => here.add(&name, links),
                Err(e) => {
                    let errno = e.raw_os_error().map(std::io::Error::from_raw_os_error);
                    let why = errno.map_or(e.to_string(), |errno| netns::reason(&errno));
                    here.closed.push((name, why));
                }
            }
        }
        Ok(here)
    }

    fn add(&mut self, netns: &str, links: Vec<netns::Link>) {
        for link in links {
            // TAP devices carry whole frames, of a virtual machine mostly.
            let is_tap = link.ethernet && link.kind.as_deref() == Some("tun");
            let kind = link
                .kind
                .filter(|kind| !is_tap && tunnels::sight(kind).is_some());
            self.tunnels.extend(kind.map(|kind| Tunnel {
                netns: netns.to_owned(),
                device: link.name,
                kind,
                port: link.tunnel_port,
            }));
        }
    }

    /// What it says.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.namespaces()];
        findings.extend(self.closed.iter().map(|(name, why)| {
            Finding::note(Check::Namespaces, format!("cannot be entered: {why}; its devices have no names, and its tunnels are not seen"))
                .of(name.as_str())
                .remedy("CAP_SYS_ADMIN and CAP_SYS_PTRACE")
        }));
        findings.extend(self.tunnels.iter().map(Tunnel::finding));
        findings.extend(self.ports());
        findings
    }

    fn namespaces(&self) -> Finding {
        let check = Check::Namespaces;
        let seen = self.namespaces;
        if self.hidden > 0 && !self.may_trace {
            let hidden = self.hidden;
            return Finding::note(
                check,
                format!("{seen} seen; not all have names, as processes whose namespace may not be looked at: {hidden}"),
            )
            .remedy("CAP_SYS_PTRACE");
        }
        Finding::ok(check, format!("{seen} seen"))
    }

    fn ports(&self) -> Option<Finding> {
        let mut ports: Vec<u16> = self
            .tunnels
            .iter()
            .filter_map(|tunnel| tunnel.port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let (count, most) = (ports.len(), tunnels::CAPACITY);
        (count > most).then(|| {
            Finding::warning(
                Check::Tunnel,
                format!(
                    "tunnels use {count} UDP ports, and the programs look into packets of {most}"
                ),
            )
            .remedy("name those that matter first: --tunnel PORT")
        })
    }
}

impl Tunnel {
    fn finding(&self) -> Finding {
        let Self {
            netns,
            device,
            kind,
            port,
        } = self;
        let check = Check::Tunnel;
        let of = format!("{device} in {netns}");
        let to = port.map_or(String::new(), |port| format!(" to UDP port {port}"));
        let finding = if tunnels::sight(kind) == Some(true) {
            Finding::ok(
                check,
                format!("{kind}{to}: probes are followed to the device below"),
            )
        } else {
            Finding::note(
                check,
                format!("{kind}: probes are not followed below it, so the wire is only likely to be slow, never sure"),
            )
            .remedy("probe the other end of the tunnel by its address outside as well")
        };
        finding.of(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    fn tunnel(kind: &str, port: Option<u16>) -> Tunnel {
        Tunnel {
            netns: "host".into(),
            device: format!("{kind}0"),
            kind: kind.into(),
            port,
        }
    }

    fn with(tunnels: Vec<Tunnel>) -> Vec<(Level, String)> {
        let here = Surroundings {
            namespaces: 1,
            tunnels,
            ..Surroundings::default()
        };
        let found = here
            .findings()
            .into_iter()
            .filter(|f| f.check == Check::Tunnel);
        found.map(|f| (f.level, f.found)).collect()
    }

    #[test]
    fn tunnels_are_followed_or_not() {
        let found = with(vec![tunnel("vxlan", Some(4789)), tunnel("wireguard", None)]);
        assert_eq!(found[0].0, Level::Ok);
        assert!(found[0].1.contains("4789"), "{found:?}");
        assert_eq!(found[1].0, Level::Note);
    }

    #[test]
    fn more_ports_than_the_programs_have_room_for_are_a_warning() {
        let many = |count| with((0..count).map(|port| tunnel("vxlan", Some(port))).collect());
        let room = tunnels::CAPACITY as u16;
        assert!(many(room).iter().all(|(level, _)| *level == Level::Ok));
        assert_eq!(many(room + 1).last().unwrap().0, Level::Warning);
    }

    #[test]
    fn namespaces_that_cannot_be_entered_are_named() {
        let here = Surroundings {
            namespaces: 2,
            closed: vec![("web".into(), "operation not permitted".into())],
            hidden: 3,
            ..Surroundings::default()
        };
        let found = here.findings();
        assert!(found[0].found.ends_with(": 3"), "{found:#?}");
        assert_eq!(found[1].subject.as_deref(), Some("web"));
        assert!(found.iter().all(|f| f.level == Level::Note), "{found:#?}");
        let protected = Surroundings {
            hidden: 1,
            may_trace: true,
            ..Surroundings::default()
        };
        assert_eq!(protected.findings()[0].level, Level::Ok);
    }
}

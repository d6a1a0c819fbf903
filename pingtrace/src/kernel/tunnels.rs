//! The UDP ports whose packets the stamping programs look into: those of the tunnels of this host.

use crate::kernel::confine::keeper;
use anyhow::{Context, Result};
use bpf::pingtrace::types::data_tunnels;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use netns::{NamespaceNames, Netlink};

/// Ports that the programs have room for.
pub const CAPACITY: usize = size_of::<data_tunnels>() / size_of::<u16>();

/// Kinds of devices whose packets leave in others that the programs look into (`bpf/include/tunnel.h`).
const FOLLOWED: [&str; 10] = [
    "vxlan",
    "geneve",
    "bareudp",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "ipip",
    "sit",
    "ip6tnl",
];
/// Those that they do not look into: encrypted, carried by a process, or with a header of their own.
const HIDDEN: [&str; 10] = [
    "wireguard",
    "ovpn",
    "xfrm",
    "vti",
    "vti6",
    "macsec",
    "gtp",
    "erspan",
    "ip6erspan",
    "tun",
];

/// Whether probes are followed to the device below one of this kind; `None`: it is no tunnel.
pub fn sight(kind: &str) -> Option<bool> {
    let is_followed = FOLLOWED.contains(&kind);
    (is_followed || HIDDEN.contains(&kind)).then_some(is_followed)
}

fn in_all_namespaces() -> Result<Vec<u16>> {
    let mut all = Vec::new();
    for namespace in NamespaceNames::read()?.namespaces() {
        let ports = namespace.run(in_this_namespace);
        match ports.map_err(anyhow::Error::from).and_then(|ports| ports) {
            Ok(ports) => all.extend(ports),
            Err(e) => log::debug!("tunnels of a namespace are not known: {e:#}"),
        }
    }
    Ok(all)
}

/// Ports of tunnels in the calling thread's namespace.
fn in_this_namespace() -> Result<Vec<u16>> {
    let links = Netlink::open()?.links()?;
    Ok(links.iter().filter_map(|link| link.tunnel_port).collect())
}

/// The ports, as the programs have them.
pub struct TunnelPorts {
    map: MapHandle,
    ports: Vec<u16>,
}

impl TunnelPorts {
    /// No ports yet; `map` is the programs'.
    pub fn new(map: MapHandle) -> Self {
        Self {
            map,
            ports: Vec::new(),
        }
    }

    /// Adds the ports of all tunnels of this namespace, or of all namespaces that can be entered.
    pub fn add_all(&mut self, only_this: bool) -> Result<()> {
        let mut ports = in_this_namespace()?;
        if !only_this {
            // A schedule's captures start confined.
            ports.extend(keeper::run(in_all_namespaces)?);
        }
        ports.into_iter().try_for_each(|port| self.add(port))
    }

    /// Adds a port. It stays when its tunnel goes: that costs a comparison.
    pub fn add(&mut self, port: u16) -> Result<()> {
        if self.ports.contains(&port) {
            return Ok(());
        }
        if self.ports.len() == CAPACITY {
            log::warn!(
                "UDP port {port} is that of a tunnel, but {CAPACITY} others are looked into already"
            );
            return Ok(());
        }
        self.ports.push(port);
        let mut value = [0; CAPACITY * 2];
        for (bytes, port) in value.chunks_exact_mut(2).zip(&self.ports) {
            bytes.copy_from_slice(&port.to_be_bytes());
        }
        self.map
            .update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY)
            .with_context(|| format!("look into UDP packets to port {port}"))?;
        log::debug!("looking into UDP packets to port {port}: a tunnel's");
        Ok(())
    }
}

//! Which way the kernel would send a packet.

use crate::{Error, Netlink, Result};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
};
use rustix::io::Errno;
use std::net::IpAddr;

/// The kernel's answer for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The link that packets leave by; loopback for an address of this host.
    pub ifindex: u32,
    /// The source address that the kernel would choose.
    pub prefsrc: Option<IpAddr>,
    /// The next hop; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The largest packet in bytes: what path MTU discovery or the route says, else the link's.
    pub mtu: u32,
    /// The destination is the broadcast address of a link.
    pub is_broadcast: bool,
}

impl Netlink {
    /// Asks for the route to `destination`, by the link `oif` only if one is given.
    pub fn route_get(&mut self, destination: IpAddr, oif: Option<u32>) -> Result<Route> {
        let operation = match oif {
            Some(oif) => format!("look up route to {destination} by link {oif}"),
            None => format!("look up route to {destination}"),
        };
        let answer = self.get(&operation, query(destination, oif))?;
        let mut found = match answer {
            Message::NewRoute(route) => Found::from(route),
            _ => Found::default(),
        };
        let Some(ifindex) = found.ifindex else {
            return Err(Error::inside(self.netns(), operation, Errno::NETUNREACH));
        };
        if found.mtu.is_none() {
            found.mtu = Some(self.link(ifindex)?.mtu);
        }
        Ok(Route {
            ifindex,
            prefsrc: found.prefsrc,
            gateway: found.gateway,
            mtu: found.mtu.unwrap_or_default(),
            is_broadcast: found.is_broadcast,
        })
    }
}

fn query(destination: IpAddr, oif: Option<u32>) -> Message {
    let mut query = RouteMessage::default();
    query.header.address_family = family(destination);
    query.header.destination_prefix_length = full_prefix(destination);
    let to = RouteAttribute::Destination(destination.into());
    query.attributes.push(to);
    query.attributes.extend(oif.map(RouteAttribute::Oif));
    Message::GetRoute(query)
}

/// What the answer said.
#[derive(Default)]
struct Found {
    ifindex: Option<u32>,
    prefsrc: Option<IpAddr>,
    gateway: Option<IpAddr>,
    mtu: Option<u32>,
    is_broadcast: bool,
}

impl From<RouteMessage> for Found {
    fn from(message: RouteMessage) -> Self {
        let mut found = Self {
            is_broadcast: message.header.kind == RouteType::Broadcast,
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => found.ifindex = Some(index),
                RouteAttribute::PrefSource(address) => found.prefsrc = ip(&address),
                RouteAttribute::Gateway(address) => found.gateway = ip(&address),
                RouteAttribute::Via(via) => found.gateway = via_ip(&via),
                RouteAttribute::Metrics(metrics) => found.mtu = mtu(&metrics),
                _ => {}
            }
        }
        found
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn via_ip(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(v4) => Some((*v4).into()),
        RouteVia::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    })
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The prefix length of a single host.
pub(crate) fn full_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lab, Namespace};

    fn route_in(netns: &Namespace, destination: IpAddr, oif: Option<u32>) -> Result<Route> {
        netns
            .run(|| Netlink::open()?.route_get(destination, oif))
            .and_then(|route| route)
    }

    #[test]
    fn a_neighbour_is_on_the_link() {
        let lab = Lab::veth_pair().unwrap();
        for (from, to) in [
            (lab.client.v4.into(), lab.server.v4.into()),
            (IpAddr::V6(lab.client.v6), IpAddr::V6(lab.server.v6)),
        ] {
            let route = route_in(&lab.client.ns, to, Some(lab.client.ifindex)).unwrap();
            let expected = Route {
                ifindex: lab.client.ifindex,
                prefsrc: Some(from),
                gateway: None,
                mtu: 1500,
                is_broadcast: false,
            };
            assert_eq!(route, expected);
        }
    }

    #[test]
    fn another_network_is_behind_the_router() {
        let lab = Lab::routed().unwrap();
        let router = lab.router.as_ref().unwrap();
        for (to, via) in [
            (IpAddr::V4(lab.server.v4), IpAddr::V4(router.client_side.v4)),
            (IpAddr::V6(lab.server.v6), IpAddr::V6(router.client_side.v6)),
        ] {
            let route = route_in(&lab.client.ns, to, None).unwrap();
            assert_eq!(route.gateway, Some(via));
            assert_eq!(route.ifindex, lab.client.ifindex);
        }
    }

    #[test]
    fn the_broadcast_address_of_a_link_is_known() {
        let lab = Lab::veth_pair().unwrap();
        let route = |to: &str| route_in(&lab.client.ns, to.parse().unwrap(), None).unwrap();
        assert!(route("10.77.0.255").is_broadcast);
        assert!(!route("10.77.0.2").is_broadcast);
    }

    #[test]
    fn own_addresses_are_on_loopback() {
        let lab = Lab::veth_pair().unwrap();
        let route = route_in(&lab.client.ns, lab.client.v4.into(), None).unwrap();
        assert_eq!((route.ifindex, route.mtu), (1, 65536));
    }

    #[test]
    fn no_route_is_an_error_that_names_the_destination() {
        let netns = Namespace::anonymous().unwrap();
        for destination in ["192.0.2.1", "2001:db8::1"] {
            let error = route_in(&netns, destination.parse().unwrap(), None).unwrap_err();
            let inode = netns.inode();
            assert_eq!(
                error.to_string(),
                format!(
                    "look up route to {destination} in netns inode {inode}: network is unreachable"
                )
            );
        }
    }
}

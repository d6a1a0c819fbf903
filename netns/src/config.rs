//! Changes of links, addresses and routes.

use crate::{
    Namespace, Netlink, Result,
    netlink::{CHANGE, CREATE},
    route::{family, full_prefix},
};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{
        InfoData, InfoKind, InfoMacVlan, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage, MacVlanMode,
    },
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd},
};

impl Netlink {
    /// Adds a veth pair: `name` here, `peer` in `peer_netns`. Both are down.
    pub fn add_veth(&mut self, name: &str, peer: &str, peer_netns: &Namespace) -> Result<()> {
        let mut far = LinkMessage::default();
        far.attributes = vec![
            LinkAttribute::IfName(peer.into()),
            LinkAttribute::NetNsFd(peer_netns.as_fd().as_raw_fd()),
        ];
        let data = InfoData::Veth(InfoVeth::Peer(far));
        let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)];
        self.add_link(name, "veth", info)
    }

    /// Adds a macvlan in bridge mode on the link `lower`. It is down.
    pub fn add_macvlan(&mut self, name: &str, lower: u32) -> Result<()> {
        let mode = InfoMacVlan::Mode(MacVlanMode::Bridge);
        let data = InfoData::MacVlan(vec![mode]);
        let mut link = link_named(name);
        link.attributes.extend([
            LinkAttribute::Link(lower),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(data),
            ]),
        ]);
        let operation = format!("add macvlan {name} on link {lower}");
        self.change(&operation, Message::NewLink(link), CREATE)
    }

    /// Adds a bridge without ports. It is down.
    pub fn add_bridge(&mut self, name: &str) -> Result<()> {
        self.add_link(name, "bridge", vec![LinkInfo::Kind(InfoKind::Bridge)])
    }

    /// Adds a VXLAN tunnel of number `vni` from an address of this host to one of another, to the UDP
    /// port 4789. It is down.
    pub fn add_vxlan(&mut self, name: &str, vni: u32, local: IpAddr, remote: IpAddr) -> Result<()> {
        const PORT: u16 = 4789;
        let end =
            |address, v4: fn(Ipv4Addr) -> InfoVxlan, v6: fn(Ipv6Addr) -> InfoVxlan| match address {
                IpAddr::V4(address) => v4(address),
                IpAddr::V6(address) => v6(address),
            };
        let data = InfoData::Vxlan(vec![
            InfoVxlan::Id(vni),
            InfoVxlan::Port(PORT),
            end(local, InfoVxlan::Local, InfoVxlan::Local6),
            end(remote, InfoVxlan::Group, InfoVxlan::Group6),
        ]);
        let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(data)];
        self.add_link(name, "vxlan", info)
    }

    fn add_link(&mut self, name: &str, kind: &str, info: Vec<LinkInfo>) -> Result<()> {
        let mut link = link_named(name);
        link.attributes.push(LinkAttribute::LinkInfo(info));
        let operation = format!("add {kind} {name}");
        self.change(&operation, Message::NewLink(link), CREATE)
    }

    /// Deletes a link, and with a veth its peer.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        let link = link_message(index);
        self.change(
            &format!("delete link {index}"),
            Message::DelLink(link),
            CHANGE,
        )
    }

    /// Moves a link into another namespace, where it is down and has no addresses.
    pub fn move_to(&mut self, index: u32, netns: &Namespace) -> Result<()> {
        let mut link = link_message(index);
        let target = LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd());
        link.attributes.push(target);
        let operation = format!("move link {index} to netns inode {}", netns.inode());
        self.change(&operation, Message::SetLink(link), CHANGE)
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.set_flags(&format!("set link {index} up"), index, LinkFlags::Up)
    }

    /// Sets a link down.
    pub fn set_down(&mut self, index: u32) -> Result<()> {
        let none = LinkFlags::empty();
        self.set_flags(&format!("set link {index} down"), index, none)
    }

    fn set_flags(&mut self, operation: &str, index: u32, flags: LinkFlags) -> Result<()> {
        let mut link = link_message(index);
        link.header.flags = flags;
        link.header.change_mask = LinkFlags::Up;
        self.change(operation, Message::SetLink(link), CHANGE)
    }

    /// Sets the largest packet of a link, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        let mut link = link_message(index);
        link.attributes.push(LinkAttribute::Mtu(mtu));
        let operation = format!("set MTU {mtu} of link {index}");
        self.change(&operation, Message::SetLink(link), CHANGE)
    }

    /// Renames a link; older kernels want it to be down.
    pub fn set_name(&mut self, index: u32, name: &str) -> Result<()> {
        let mut link = link_message(index);
        link.attributes.push(LinkAttribute::IfName(name.into()));
        let operation = format!("rename link {index} to {name}");
        self.change(&operation, Message::SetLink(link), CHANGE)
    }

    /// Makes a link a port of a bridge, or takes it out.
    pub fn set_controller(&mut self, index: u32, bridge: Option<u32>) -> Result<()> {
        let mut link = link_message(index);
        let controller = bridge.unwrap_or(0);
        link.attributes.push(LinkAttribute::Controller(controller));
        let operation = format!("put link {index} into bridge {controller}");
        self.change(&operation, Message::SetLink(link), CHANGE)
    }

    /// Adds an address. An IPv6 one is usable at once (no duplicate address detection).
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix_len: u8) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.index = index;
        message.header.prefix_len = prefix_len;
        message.attributes.push(AddressAttribute::Address(address));
        if address.is_ipv4() {
            message.attributes.push(AddressAttribute::Local(address));
        } else {
            let nodad = AddressAttribute::Flags(AddressFlags::Nodad);
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(nodad);
        }
        let operation = format!("add address {address}/{prefix_len} to link {index}");
        self.change(&operation, Message::NewAddress(message), CREATE)
    }

    /// Adds a route to `destination/prefix_len` through `gateway`.
    pub fn add_route(
        &mut self,
        destination: IpAddr,
        prefix_len: u8,
        gateway: IpAddr,
    ) -> Result<()> {
        debug_assert!(prefix_len <= full_prefix(destination));
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: family(destination),
            destination_prefix_length: prefix_len,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        route.attributes = vec![
            RouteAttribute::Destination(destination.into()),
            RouteAttribute::Gateway(gateway.into()),
        ];
        let operation = format!("add route {destination}/{prefix_len} via {gateway}");
        self.change(&operation, Message::NewRoute(route), CREATE)
    }
}

fn link_named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.into()));
    link
}

fn link_message(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

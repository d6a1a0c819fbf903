//! Links (network devices): what there is, and what changes.

use crate::{Error, Netlink, Result, netlink};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    link::{
        InfoBareUdp, InfoData, InfoGeneve, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
        LinkLayerType, LinkMessage,
    },
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
};

/// A network device, as one namespace sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Unique in its namespace only.
    pub index: u32,
    /// Such as "eth0".
    pub name: String,
    /// Set up by the administrator; says nothing about the cable.
    pub up: bool,
    /// Up, and with a carrier: packets leave.
    pub running: bool,
    /// The driver family ("veth", "bridge", "tun"); hardware and loopback have none.
    pub kind: Option<String>,
    /// In bytes, without the link layer's header.
    pub mtu: u32,
    /// Frames begin with an Ethernet header, as on the loopback; else at layer 3.
    pub ethernet: bool,
    /// A tunnel in UDP: the port to which its packets go.
    pub tunnel_port: Option<u16>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Running),
            kind: None,
            mtu: 0,
            ethernet: matches!(
                message.header.link_layer_type,
                LinkLayerType::Ether | LinkLayerType::Loopback
            ),
            tunnel_port: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = kind(&infos);
                    link.tunnel_port = tunnel_port(&infos);
                }
                _ => {}
            }
        }
        link
    }
}

fn kind(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn tunnel_port(infos: &[LinkInfo]) -> Option<u16> {
    macro_rules! port {
        ($options:expr, $port:path) => {
            $options.iter().find_map(|option| match option {
                $port(port) => Some(*port),
                _ => None,
            })
        };
    }
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(options)) => port!(options, InfoVxlan::Port),
        LinkInfo::Data(InfoData::Geneve(options)) => port!(options, InfoGeneve::Port),
        LinkInfo::Data(InfoData::BareUdp(options)) => port!(options, InfoBareUdp::Port),
        _ => None,
    })
}

impl Netlink {
    /// All links of the namespace, in the order of their indexes.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let answers = self.dump("list links", &Message::GetLink(LinkMessage::default()))?;
        let mut links: Vec<_> = answers.into_iter().filter_map(link_of).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link with this index.
    pub fn link(&mut self, index: u32) -> Result<Link> {
        let mut query = LinkMessage::default();
        query.header.index = index;
        self.one_link(&format!("look up link {index}"), query)
    }

    /// The link with this name.
    pub fn link_named(&mut self, name: &str) -> Result<Link> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::IfName(name.into()));
        self.one_link(&format!("look up link {name}"), query)
    }

    /// The name of the link with this index.
    pub fn link_name(&mut self, index: u32) -> Result<String> {
        self.link(index).map(|link| link.name)
    }

    fn one_link(&mut self, operation: &str, query: LinkMessage) -> Result<Link> {
        let answer = self.get(operation, Message::GetLink(query))?;
        link_of(answer).ok_or_else(|| Error::inside(self.netns(), operation, Errno::NODEV))
    }
}

fn link_of(message: Message) -> Option<Link> {
    match message {
        Message::NewLink(link) => Some(link.into()),
        _ => None,
    }
}

/// A change of the links of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link that was not there before.
    Added {
        /// Its state now.
        link: Link,
    },
    /// A known link: its name, flags, carrier, size or something this crate does not look at.
    Changed {
        /// Its state now.
        link: Link,
    },
    /// A link went away, or to another namespace.
    Removed {
        /// Its former index.
        index: u32,
    },
    /// The kernel dropped events because this socket's buffer was full (`ENOBUFS`): what
    /// happened is unknown, and this is how the links are now.
    Resync {
        /// All of them.
        links: Vec<Link>,
    },
}

/// A subscription to the link changes of the namespace in which it was opened.
///
/// Subscribe first and list afterwards: then nothing falls between the two.
pub struct LinkEvents {
    socket: Socket,
    /// For the list after lost events.
    netlink: Netlink,
    known: BTreeSet<u32>,
}

impl LinkEvents {
    /// Subscribes in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let mut netlink = Netlink::open()?;
        let socket = subscribe()
            .map_err(|e| Error::inside(netlink.netns(), "subscribe to link events", e))?;
        let known = netlink.links()?.iter().map(|link| link.index).collect();
        Ok(Self {
            socket,
            netlink,
            known,
        })
    }

    /// All changes since the last call; empty at once if there are none. Wait for more by
    /// polling [`AsFd`] for input.
    pub fn read(&mut self) -> Result<Vec<LinkEvent>> {
        let mut events = Vec::new();
        loop {
            match self.receive() {
                Ok(datagram) => self
                    .interpret(&datagram, &mut events)
                    .map_err(|e| self.failed(e))?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if Errno::from_io_error(&e) == Some(Errno::NOBUFS) => {
                    events.push(self.resync()?);
                }
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        const DATAGRAM: usize = 64 << 10;
        let mut datagram = Vec::with_capacity(DATAGRAM);
        self.socket.recv(&mut datagram, 0)?;
        Ok(datagram)
    }

    fn interpret(&mut self, datagram: &[u8], events: &mut Vec<LinkEvent>) -> io::Result<()> {
        for message in netlink::messages(datagram)? {
            if let NetlinkPayload::InnerMessage(inner) = message.payload {
                events.extend(self.event(inner));
            }
        }
        Ok(())
    }

    fn event(&mut self, message: Message) -> Option<LinkEvent> {
        match message {
            Message::NewLink(link) if of_the_device(&link) => {
                let link = Link::from(link);
                Some(if self.known.insert(link.index) {
                    LinkEvent::Added { link }
                } else {
                    LinkEvent::Changed { link }
                })
            }
            Message::DelLink(link) if of_the_device(&link) => {
                let index = link.header.index;
                self.known.remove(&index);
                Some(LinkEvent::Removed { index })
            }
            _ => None,
        }
    }

    fn resync(&mut self) -> Result<LinkEvent> {
        let links = self.netlink.links()?;
        self.known = links.iter().map(|link| link.index).collect();
        Ok(LinkEvent::Resync { links })
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::inside(self.netlink.netns(), "read link events", cause)
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A bridge and the wireless layer send messages of their own in the same group: a port that
/// leaves a bridge is "deleted" there, though the device stays.
fn of_the_device(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn subscribe() -> io::Result<Socket> {
    const RTNLGRP_LINK: u32 = 1;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    socket.add_membership(RTNLGRP_LINK)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;
    use std::net::IpAddr;

    /// Runs `f` in a namespace of its own, subscribed before anything happens.
    fn with_events(f: impl FnOnce(&mut Netlink, &mut LinkEvents) + Send) {
        let netns = Namespace::anonymous().unwrap();
        netns
            .run(|| {
                f(
                    &mut Netlink::open().unwrap(),
                    &mut LinkEvents::open().unwrap(),
                );
            })
            .unwrap();
    }

    #[test]
    fn a_new_namespace_has_loopback_only() {
        with_events(|netlink, _| {
            let links = netlink.links().unwrap();
            assert_eq!(links.len(), 1);
            assert_eq!((links[0].index, links[0].name.as_str()), (1, "lo"));
            assert_eq!((links[0].up, links[0].mtu), (false, 65536));
            assert_eq!(netlink.link_name(1).unwrap(), "lo");
        });
    }

    #[test]
    fn a_tunnel_has_its_port() {
        with_events(|netlink, _| {
            let here = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
            netlink.add_vxlan("vx0", 5, here[0], here[1]).unwrap();
            let link = netlink.link_named("vx0").unwrap();
            assert_eq!(link.tunnel_port, Some(4789));
            assert_eq!(netlink.link_named("lo").unwrap().tunnel_port, None);
        });
    }

    #[test]
    fn an_unknown_link_is_named_in_the_error() {
        with_events(|netlink, _| {
            let text = netlink.link_named("nosuch0").unwrap_err().to_string();
            let netns = netlink.netns();
            assert_eq!(
                text,
                format!("look up link nosuch0 in netns inode {netns}: no such device")
            );
        });
    }

    #[test]
    fn reports_a_link_added_changed_and_removed_later() {
        let far = Namespace::anonymous().unwrap();
        with_events(|netlink, events| {
            assert_eq!(events.read().unwrap(), []);
            netlink.add_veth("va", "vb", &far).unwrap();
            let link = netlink.link_named("va").unwrap();
            let seen = events.read().unwrap();
            let added = |e: &&LinkEvent| matches!(e, LinkEvent::Added { link: l } if l == &link);
            assert_eq!(seen.iter().filter(added).count(), 1, "{seen:?}");
            assert_eq!(link.kind.as_deref(), Some("veth"));

            netlink.set_up(link.index).unwrap();
            let seen = events.read().unwrap();
            let up = |e: &LinkEvent| matches!(e, LinkEvent::Changed { link } if link.up);
            assert!(seen.iter().any(up), "{seen:?}");

            netlink.delete_link(link.index).unwrap();
            let seen = events.read().unwrap();
            let index = link.index;
            assert!(seen.contains(&LinkEvent::Removed { index }), "{seen:?}");
        });
    }

    #[test]
    fn lost_events_become_a_resync_with_the_whole_list() {
        with_events(|netlink, events| {
            events.socket.set_rx_buf_sz(1_u32).unwrap();
            for round in 0..40 {
                netlink.set_mtu(1, 60_000 + round).unwrap();
            }
            let seen = events.read().unwrap();
            let links = netlink.links().unwrap();
            assert!(seen.contains(&LinkEvent::Resync { links }), "{seen:?}");
        });
    }

    #[test]
    fn leaving_a_bridge_is_not_a_removal() {
        let far = Namespace::anonymous().unwrap();
        with_events(|netlink, events| {
            netlink.add_bridge("br0").unwrap();
            netlink.add_veth("va", "vb", &far).unwrap();
            let bridge = netlink.link_named("br0").unwrap().index;
            let port = netlink.link_named("va").unwrap().index;
            netlink.set_controller(port, Some(bridge)).unwrap();
            netlink.set_controller(port, None).unwrap();
            let seen = events.read().unwrap();
            assert!(
                !seen.contains(&LinkEvent::Removed { index: port }),
                "{seen:?}"
            );
        });
    }
}

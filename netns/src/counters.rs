//! What devices and their queueing disciplines have counted since they were made.

use crate::{Error, Netlink, Result};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{LinkAttribute, LinkMessage, Stats64},
    tc::{TcAttribute, TcMessage, TcStats2, TcStatsQueue},
};
use rustix::io::Errno;

/// A counter's name, as the kernel has it, and its value.
pub type Counter = (&'static str, u64);

/// What a device has counted (`ip -s -s link`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCounters {
    /// What the device is called now.
    pub name: String,
    /// Its counters.
    pub counters: Vec<Counter>,
}

/// What a queueing discipline has counted (`tc -s qdisc`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdiscCounters {
    /// The device's index.
    pub ifindex: u32,
    /// Such as "tbf", "mq".
    pub kind: String,
    /// Its counters, of 32 bits each.
    pub counters: [Counter; 3],
}

impl Netlink {
    /// What the device with this index has counted; an error if it is gone.
    pub fn link_counters(&mut self, index: u32) -> Result<LinkCounters> {
        let operation = format!("read the counters of link {index}");
        let mut query = LinkMessage::default();
        query.header.index = index;
        match self.get(&operation, Message::GetLink(query))? {
            Message::NewLink(link) => Ok(LinkCounters::from(link)),
            _ => Err(Error::inside(self.netns(), operation, Errno::NODEV)),
        }
    }

    /// What the disciplines of all devices have counted.
    pub fn qdisc_counters(&mut self) -> Result<Vec<QdiscCounters>> {
        let query = Message::GetQueueDiscipline(TcMessage::default());
        let answers = self.dump("read the counters of qdiscs", &query)?;
        let qdisc = |answer| match answer {
            Message::NewQueueDiscipline(message) => QdiscCounters::new(message),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(qdisc).collect())
    }
}

impl From<LinkMessage> for LinkCounters {
    fn from(message: LinkMessage) -> Self {
        let mut all = Self {
            name: String::new(),
            counters: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => all.name = name,
                LinkAttribute::Stats64(stats) => all.counters = of_link(&stats),
                _ => {}
            }
        }
        all
    }
}

macro_rules! named {
    ($of:expr, $($field:ident),+) => {
        [$((stringify!($field), u64::from($of.$field))),+]
    };
}

fn of_link(stats: &Stats64) -> Vec<Counter> {
    named!(
        stats,
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        rx_errors,
        tx_errors,
        rx_dropped,
        tx_dropped,
        multicast,
        collisions,
        rx_length_errors,
        rx_over_errors,
        rx_crc_errors,
        rx_frame_errors,
        rx_fifo_errors,
        rx_missed_errors,
        tx_aborted_errors,
        tx_carrier_errors,
        tx_fifo_errors,
        tx_heartbeat_errors,
        tx_window_errors,
        rx_nohandler,
        rx_otherhost_dropped
    )
    .into()
}

impl QdiscCounters {
    /// `None` if it counts nothing.
    fn new(message: TcMessage) -> Option<Self> {
        let mut kind = None;
        let mut queue: Option<TcStatsQueue> = None;
        for attribute in message.attributes {
            match attribute {
                TcAttribute::Kind(name) => kind = Some(name),
                TcAttribute::Stats2(stats) => {
                    queue = stats.into_iter().find_map(|of| match of {
                        TcStats2::Queue(queue) => Some(queue),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let queue = queue?;
        Some(Self {
            ifindex: u32::try_from(message.header.index).ok()?,
            kind: kind?,
            counters: named!(queue, drops, overlimits, requeues),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lab;
    use std::net::UdpSocket;

    fn value(counters: &[Counter], name: &str) -> u64 {
        counters.iter().find(|(of, _)| *of == name).unwrap().1
    }

    /// What exceeds the burst of a token bucket is dropped at once.
    #[test]
    fn a_full_queue_counts_its_drops_and_a_device_its_packets() {
        let lab = Lab::veth_pair().unwrap();
        let ifindex = lab.client.ifindex;
        let to = (lab.server.v4, 9);
        let in_lab = || {
            let mut netlink = Netlink::open().unwrap();
            netlink.tbf(ifindex, 125_000, 500, 100_000).unwrap();
            let before = netlink.link_counters(ifindex).unwrap();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..7 {
                let _ = socket.send_to(&[0; 900], to);
            }
            socket.send_to(&[0; 100], to).unwrap();
            let after = netlink.link_counters(ifindex).unwrap();
            assert_eq!(after.name, "eth0");
            let sent = |of: &LinkCounters| value(&of.counters, "tx_packets");
            assert!(sent(&after) > sent(&before), "{after:?}");
            let all = netlink.qdisc_counters().unwrap();
            let own = all.iter().find(|of| of.ifindex == ifindex).unwrap();
            assert_eq!(own.kind, "tbf");
            assert_eq!(value(&own.counters, "drops"), 7, "{own:?}");
        };
        lab.client.ns.run(in_lab).unwrap();
    }

    #[test]
    fn a_device_that_is_gone_is_an_error() {
        let netns = crate::Namespace::anonymous().unwrap();
        let gone = || Netlink::open().unwrap().link_counters(77);
        let error = netns.run(gone).unwrap().unwrap_err().to_string();
        assert!(error.starts_with("read the counters of link 77"), "{error}");
    }
}

//! Queueing disciplines: a token bucket at the root of a device makes a queue with a known delay.

use crate::{
    Netlink, Result,
    netlink::{CHANGE, REPLACE},
};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};

/// The handle of the token bucket that [`Netlink::tbf`] makes: `tc` shows it as "10:".
const TBF_HANDLE: TcHandle = TcHandle {
    major: 0x10,
    minor: 0,
};

/// A queueing discipline of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Such as "noqueue", "tbf", "clsact".
    pub kind: String,
    /// `major << 16 | minor`; 0 for one that the kernel put there.
    pub handle: u32,
    /// Likewise; `0xffff_ffff` is the root, `0xffff_fff1` the place of ingress and clsact.
    pub parent: u32,
}

impl Netlink {
    /// Puts a token bucket at the root of a device: `rate` bytes a second after a burst of
    /// `burst` bytes; what would exceed a queue of `limit` bytes is dropped. A packet longer than
    /// the burst never leaves.
    pub fn tbf(&mut self, ifindex: u32, rate: u32, burst: u32, limit: u32) -> Result<()> {
        let mut message = at_root(ifindex);
        message.header.handle = TBF_HANDLE;
        message.attributes = vec![
            TcAttribute::Kind("tbf".into()),
            TcAttribute::Options(tbf_options(rate, burst, limit)),
        ];
        let operation = format!("put tbf at {rate} bytes/s on link {ifindex}");
        self.change(&operation, Message::NewQueueDiscipline(message), REPLACE)
    }

    /// Removes the root discipline; the kernel puts its default there.
    pub fn remove_root_qdisc(&mut self, ifindex: u32) -> Result<()> {
        let operation = format!("remove root qdisc of link {ifindex}");
        let message = Message::DelQueueDiscipline(at_root(ifindex));
        self.change(&operation, message, CHANGE)
    }

    /// The disciplines of a device, root first.
    pub fn qdiscs(&mut self, ifindex: u32) -> Result<Vec<Qdisc>> {
        let all = self.all_qdiscs()?.into_iter();
        Ok(all
            .filter_map(|(of, qdisc)| (of == ifindex).then_some(qdisc))
            .collect())
    }

    /// The disciplines of all devices, by the device's index.
    pub fn all_qdiscs(&mut self) -> Result<Vec<(u32, Qdisc)>> {
        let answers = self.dump(
            "list qdiscs",
            &Message::GetQueueDiscipline(TcMessage::default()),
        )?;
        let qdisc = |answer| match answer {
            Message::NewQueueDiscipline(m) => Some((m.header.index as u32, Qdisc::from(m))),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(qdisc).collect())
    }

    /// Whether anybody's filter is attached to a clsact qdisc of this device.
    pub fn has_filters(&mut self, ifindex: u32) -> Result<bool> {
        Ok(!self.filters(ifindex)?.is_empty())
    }

    /// The filters at a clsact or ingress qdisc of this device.
    pub fn filters(&mut self, ifindex: u32) -> Result<Vec<Filter>> {
        let mut found = Vec::new();
        for (minor, egress) in [(TcHandle::MIN_INGRESS, false), (TcHandle::MIN_EGRESS, true)] {
            let mut query = TcMessage::with_index(ifindex as i32);
            query.header.parent = TcHandle {
                major: TcHandle::CLSACT.major,
                minor,
            };
            let operation = format!("list filters of link {ifindex}");
            let answers = self.dump(&operation, &Message::GetTrafficFilter(query))?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                Message::NewTrafficFilter(m) => Some(Filter::new(m, egress)),
                _ => None,
            }));
        }
        Ok(found)
    }
}

/// A filter at a clsact or ingress qdisc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Such as "bpf", "flower", "matchall".
    pub kind: String,
    /// Of a BPF program: what it was called when it was attached.
    pub name: Option<String>,
    /// Its number; 0 in the line that the kernel lists before the filters of one priority.
    pub handle: u32,
    /// For packets that leave.
    pub egress: bool,
}

impl Filter {
    fn new(message: TcMessage, egress: bool) -> Self {
        let handle = message.header.handle.into();
        let mut filter = Self {
            kind: String::new(),
            name: None,
            handle,
            egress,
        };
        for attribute in message.attributes {
            match attribute {
                TcAttribute::Kind(kind) => filter.kind = kind,
                TcAttribute::Options(options) => {
                    filter.name = options.into_iter().find_map(|option| match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        filter
    }
}

impl From<TcMessage> for Qdisc {
    fn from(message: TcMessage) -> Self {
        let kind = message.attributes.iter().find_map(|a| match a {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        });
        Self {
            kind: kind.unwrap_or_default(),
            handle: message.header.handle.into(),
            parent: message.header.parent.into(),
        }
    }
}

fn at_root(ifindex: u32) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex as i32);
    message.header.parent = TcHandle::ROOT;
    message
}

/// `TCA_TBF_PARMS` (`struct tc_tbf_qopt`) and `TCA_TBF_BURST`, which the packet crate lacks.
///
/// With the burst in bytes (Linux 3.13) and a known link layer the kernel needs no rate table;
/// only `tc` reads the buffer time back from the parameters.
fn tbf_options(rate: u32, burst: u32, limit: u32) -> Vec<TcOption> {
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_BURST: u16 = 6;
    const UNUSED_MTU: u32 = 0;
    let mut parameters = ratespec(rate);
    parameters.extend(ratespec(0));
    for value in [limit, transmit_ticks(burst, rate), UNUSED_MTU] {
        parameters.extend(value.to_ne_bytes());
    }
    let burst = burst.to_ne_bytes().to_vec();
    vec![
        TcOption::Other(DefaultNla::new(TCA_TBF_PARMS, parameters)),
        TcOption::Other(DefaultNla::new(TCA_TBF_BURST, burst)),
    ]
}

/// `struct tc_ratespec`: cell log, link layer, overhead, cell alignment, smallest packet, rate.
fn ratespec(rate: u32) -> Vec<u8> {
    const ETHERNET: u8 = 1;
    let mut spec = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    spec.extend(rate.to_ne_bytes());
    spec
}

/// How long `bytes` take at `rate` bytes a second, in the scheduler's ticks of 64 ns.
fn transmit_ticks(bytes: u32, rate: u32) -> u32 {
    const TICK_NS: u64 = 64;
    let ns = u64::from(bytes) * 1_000_000_000 / u64::from(rate.max(1));
    u32::try_from(ns / TICK_NS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lab;

    #[test]
    fn a_token_bucket_comes_and_goes() {
        let lab = Lab::veth_pair().unwrap();
        let ifindex = lab.client.ifindex;
        let in_lab = || -> Result<()> {
            let mut netlink = Netlink::open()?;
            let before = netlink.qdiscs(ifindex)?;
            netlink.tbf(ifindex, 125_000, 2_000, 100_000)?;
            let with = netlink.qdiscs(ifindex)?;
            assert_eq!(with.len(), 1);
            assert_eq!((with[0].kind.as_str(), with[0].handle), ("tbf", 0x10 << 16));
            assert_eq!(with[0].parent, u32::MAX);
            netlink.tbf(ifindex, 250_000, 2_000, 100_000)?;
            netlink.remove_root_qdisc(ifindex)?;
            assert_eq!(netlink.qdiscs(ifindex)?, before);
            Ok(())
        };
        lab.client.ns.run(in_lab).unwrap().unwrap();
    }

    #[test]
    fn ticks_are_64_nanoseconds() {
        assert_eq!(transmit_ticks(1_000, 1_000_000), 15_625);
        assert_eq!(transmit_ticks(u32::MAX, 1), u32::MAX);
    }
}

//! The points of the path: where a probe is stamped.

/// A place in the network stack where a probe is stamped. The discriminant is the point's number
/// on the wire; 0 to 14 are those of protocol version 0.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// `clock_gettime` just before `sendmsg`.
    LTxUser = 0,
    /// `net_dev_queue` of the request on the client host; the first one counts.
    LTxDevqueue = 1,
    /// `net_dev_start_xmit` of the request on the client host; the last one counts.
    LTxDevout = 2,
    /// `icmp_rcv` of the request on the server host.
    RRxIcmprcv = 3,
    /// `net_dev_start_xmit` of the reply on the server host; the last one counts.
    RTxDevout = 4,
    /// `netif_receive_skb` of the reply on the client host; the first one counts.
    LRxIprcv = 5,
    /// The filter on the client's socket.
    LRxSkdataready = 6,
    /// `sched_wakeup` of the client's receiving thread.
    LRxWakeup = 7,
    /// `clock_gettime` after `recvmsg`.
    LRxUser = 8,
    /// `netif_receive_skb` of the request on the server host; the first one counts.
    RRxDevrcv = 9,
    /// `NET_RX` raise on the CPU that received the reply.
    LRxSoftirq = 10,
    /// `net_dev_start_xmit` of the request on a host it is forwarded by, or inside the server host.
    MTxDevecho = 11,
    /// `netif_receive_skb` of the request on a host it is forwarded by, or inside the client host.
    MRxDevecho = 12,
    /// `net_dev_start_xmit` of the reply where it is forwarded.
    MTxDevreply = 13,
    /// `netif_receive_skb` of the reply where it is forwarded.
    MRxDevreply = 14,
    /// Entry of the `NET_RX` softirq that received the reply.
    LRxNapi = 15,
    /// `sched_switch` to the client's receiving thread.
    LRxOncpu = 16,
    /// `NET_RX` raise on the CPU that received the request.
    RRxSoftirq = 17,
    /// Entry of the `NET_RX` softirq that received the request.
    RRxNapi = 18,
    /// `net_dev_queue` of the reply on the server host; the first one counts.
    RTxDevqueue = 19,
    /// `net_dev_queue` of the request where it is forwarded.
    MTxQueueecho = 20,
    /// `net_dev_queue` of the reply where it is forwarded.
    MTxQueuereply = 21,
    /// When the schedule wanted the probe to leave. Never on the wire.
    LTxDue = 22,
}

impl Point {
    /// All points, in the order of their numbers on the wire.
    pub const ALL: [Self; 23] = [
        Self::LTxUser,
        Self::LTxDevqueue,
        Self::LTxDevout,
        Self::RRxIcmprcv,
        Self::RTxDevout,
        Self::LRxIprcv,
        Self::LRxSkdataready,
        Self::LRxWakeup,
        Self::LRxUser,
        Self::RRxDevrcv,
        Self::LRxSoftirq,
        Self::MTxDevecho,
        Self::MRxDevecho,
        Self::MTxDevreply,
        Self::MRxDevreply,
        Self::LRxNapi,
        Self::LRxOncpu,
        Self::RRxSoftirq,
        Self::RRxNapi,
        Self::RTxDevqueue,
        Self::MTxQueueecho,
        Self::MTxQueuereply,
        Self::LTxDue,
    ];

    /// The points that the table of segments is made of, in path order.
    pub const PATH: [Self; 17] = [
        Self::LTxDue,
        Self::LTxUser,
        Self::LTxDevqueue,
        Self::LTxDevout,
        Self::RRxSoftirq,
        Self::RRxNapi,
        Self::RRxDevrcv,
        Self::RRxIcmprcv,
        Self::RTxDevqueue,
        Self::RTxDevout,
        Self::LRxSoftirq,
        Self::LRxNapi,
        Self::LRxIprcv,
        Self::LRxSkdataready,
        Self::LRxWakeup,
        Self::LRxOncpu,
        Self::LRxUser,
    ];

    /// The point with this number on the wire.
    pub fn from_wire(number: u16) -> Option<Self> {
        let point = Self::ALL.get(usize::from(number)).copied();
        point.filter(|point| *point != Self::LTxDue)
    }

    /// The point with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.name() == name)
    }

    /// Its name in every format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LTxUser => "l_tx_user",
            Self::LTxDevqueue => "l_tx_devqueue",
            Self::LTxDevout => "l_tx_devout",
            Self::RRxIcmprcv => "r_rx_icmprcv",
            Self::RTxDevout => "r_tx_devout",
            Self::LRxIprcv => "l_rx_iprcv",
            Self::LRxSkdataready => "l_rx_skdataready",
            Self::LRxWakeup => "l_rx_wakeup",
            Self::LRxUser => "l_rx_user",
            Self::RRxDevrcv => "r_rx_devrcv",
            Self::LRxSoftirq => "l_rx_softirq",
            Self::MTxDevecho => "m_tx_devecho",
            Self::MRxDevecho => "m_rx_devecho",
            Self::MTxDevreply => "m_tx_devreply",
            Self::MRxDevreply => "m_rx_devreply",
            Self::LRxNapi => "l_rx_napi",
            Self::LRxOncpu => "l_rx_oncpu",
            Self::RRxSoftirq => "r_rx_softirq",
            Self::RRxNapi => "r_rx_napi",
            Self::RTxDevqueue => "r_tx_devqueue",
            Self::MTxQueueecho => "m_tx_queueecho",
            Self::MTxQueuereply => "m_tx_queuereply",
            Self::LTxDue => "l_tx_due",
        }
    }

    /// What is traced there, and which of several stamps counts.
    pub const fn hook(self) -> &'static str {
        match self {
            Self::LTxUser => "clock_gettime just before sendmsg",
            Self::LTxDevqueue => "net_dev_queue of the request, first device",
            Self::LTxDevout => "net_dev_start_xmit of the request, last device",
            Self::RRxIcmprcv => "icmp_rcv of the request (fentry or kprobe), else a socket filter",
            Self::RTxDevout => "net_dev_start_xmit of the reply, last device",
            Self::LRxIprcv => "netif_receive_skb of the reply, first device",
            Self::LRxSkdataready => "filter on the client's socket",
            Self::LRxWakeup => "sched_wakeup of the receiving thread",
            Self::LRxUser => "clock_gettime after recvmsg",
            Self::RRxDevrcv => "netif_receive_skb of the request, first device",
            Self::LRxSoftirq => "softirq_raise of NET_RX on the CPU that received the reply",
            Self::MTxDevecho => "net_dev_start_xmit of the request",
            Self::MRxDevecho => "netif_receive_skb of the request",
            Self::MTxDevreply => "net_dev_start_xmit of the reply",
            Self::MRxDevreply => "netif_receive_skb of the reply",
            Self::LRxNapi => "softirq_entry of NET_RX on the CPU that received the reply",
            Self::LRxOncpu => "sched_switch to the receiving thread",
            Self::RRxSoftirq => "softirq_raise of NET_RX on the CPU that received the request",
            Self::RRxNapi => "softirq_entry of NET_RX on the CPU that received the request",
            Self::RTxDevqueue => "net_dev_queue of the reply, first device",
            Self::MTxQueueecho => "net_dev_queue of the request",
            Self::MTxQueuereply => "net_dev_queue of the reply",
            Self::LTxDue => "when the schedule wants the probe to leave",
        }
    }

    /// Whether the packet is at a device here (`net_dev_queue`, `net_dev_start_xmit`,
    /// `netif_receive_skb`): such points can occur several times in a path.
    pub const fn is_device(self) -> bool {
        !matches!(
            self,
            Self::LTxDue
                | Self::LTxUser
                | Self::RRxIcmprcv
                | Self::LRxSkdataready
                | Self::LRxWakeup
                | Self::LRxUser
                | Self::LRxSoftirq
                | Self::LRxNapi
                | Self::LRxOncpu
                | Self::RRxSoftirq
                | Self::RRxNapi
        )
    }

    /// Whether a device's queueing discipline begins here.
    pub(crate) const fn is_queue(self) -> bool {
        matches!(
            self,
            Self::LTxDevqueue | Self::RTxDevqueue | Self::MTxQueueecho | Self::MTxQueuereply
        )
    }

    /// Whether the point is on the reply's way (else on the request's).
    pub const fn is_reply(self) -> bool {
        matches!(
            self,
            Self::RTxDevqueue
                | Self::RTxDevout
                | Self::MTxDevreply
                | Self::MRxDevreply
                | Self::MTxQueuereply
                | Self::LRxSoftirq
                | Self::LRxNapi
                | Self::LRxIprcv
                | Self::LRxSkdataready
                | Self::LRxWakeup
                | Self::LRxOncpu
                | Self::LRxUser
        )
    }
}

/// `Point::ALL` is indexed by the number on the wire.
const _: () = {
    let mut i = 0;
    while i < Point::ALL.len() {
        assert!(Point::ALL[i] as usize == i);
        i += 1;
    }
};

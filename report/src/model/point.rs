//! The points of the path: where a probe is stamped.

/// A place in the network stack where a probe is stamped. The discriminant is the point's number
/// on the wire; 0 to 14 are those of protocol version 0.
#[repr(u16)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::VariantArray,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
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

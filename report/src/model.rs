//! The vocabulary of pingtrace: probe, stamp, point, segment, path, run.

use std::collections::HashMap;
use std::net::IpAddr;

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
}

/// Which host took a stamp, and so whose clock it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// The host of `pingtrace -c`.
    Client,
    /// The host of `pingtrace -s`.
    Server,
    /// A host on the way, by its index in order of appearance (from 2).
    Transit(u16),
}

/// One observation of a probe at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Where in the stack.
    pub point: Point,
    /// On which host.
    pub host: Host,
    /// `CLOCK_MONOTONIC` of that host, nanoseconds.
    pub ns: u64,
    /// CPU that took the stamp; absent where nobody recorded it (user space, version 0 peers).
    pub cpu: Option<u16>,
    /// Network device; 0 where the point has none.
    pub ifindex: u32,
    /// Inode of the network namespace; 0 where the point has none.
    pub netns: u32,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Answered in time.
    Ok,
    /// Answered after the timeout.
    Late,
    /// Not answered.
    Lost,
    /// A further answer to a probe that had one already.
    Dup,
}

/// How the clocks of the two hosts relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockRelation {
    /// Both ends run on one kernel: all stamps are on one clock.
    Same,
    /// Two kernels: only differences within one host are meaningful.
    Separate,
}

/// One probe and all that was seen of it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Sequence number, from 0.
    pub seq: u32,
    /// Wall-clock time of the send, nanoseconds since the Unix epoch.
    pub sent_unix_ns: i64,
    /// The host that is probed.
    pub peer: IpAddr,
    /// What became of it.
    pub status: Status,
    /// How the clocks in `path` relate.
    pub clock: ClockRelation,
    /// Stamps in path order: request direction first, then reply. A point can occur several times
    /// (one stamp a device and namespace crossed).
    pub path: Vec<Stamp>,
}

/// Where in the path a segment ends; segments are named by their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Segment {
    /// `l_tx_user` to `l_tx_devqueue`: system call, routing, netfilter.
    LTxKern,
    /// `l_tx_devqueue` to `l_tx_devout`, one device: queueing discipline.
    LTxQdisc,
    /// `l_tx_devqueue` to `l_tx_devout`, several devices or namespaces.
    LTxPath,
    /// Wire out: driver, network, NIC of the server up to its interrupt.
    LTxOutlink,
    /// From the softirq raise to its entry on the server.
    RRxSoftirq,
    /// From softirq entry to `netif_receive_skb` on the server.
    RRxNapi,
    /// From `netif_receive_skb` to `icmp_rcv` on the server.
    RRxKern,
    /// From `icmp_rcv` to `net_dev_queue` of the reply.
    RTxKern,
    /// From `net_dev_queue` to the driver hand-over of the reply.
    RTxQdisc,
    /// Wire in.
    LRxInlink,
    /// From the softirq raise to its entry on the client.
    LRxSoftirq,
    /// From softirq entry to `netif_receive_skb` on the client.
    LRxNapi,
    /// From `netif_receive_skb` to the client's socket (to `l_rx_user` if there was no sleep).
    LRxKern,
    /// From the socket to the wake-up of the receiving thread.
    LRxTaskWaking,
    /// From wake-up to running: the run queue.
    LRxTaskQueue,
    /// From running to the return of `recvmsg`.
    LRxTaskRun,
    /// Both wires and the remote host together: there were no remote stamps.
    Remote,
    /// Time that no pair of stamps attributes to one owner.
    Unattributed,
}

/// Who is responsible for a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The client host.
    Local,
    /// The network, client to server.
    WireOut,
    /// The network, server to client.
    WireIn,
    /// The server host.
    Remote,
    /// The network or the server host: not told apart.
    WireOrRemote,
    /// Not known.
    Unknown,
}

/// The time a probe spent in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Which segment.
    pub segment: Segment,
    /// Nanoseconds.
    pub ns: u64,
    /// Bounds, nanoseconds, where `ns` is an estimate (the wire split between two clocks).
    pub bounds: Option<(u64, u64)>,
    /// Points inside were missing: neighbouring segments of the same owner are included.
    pub merged: bool,
    /// A softirq or NAPI span reached back before the packet's arrival and was cut.
    pub clamped: bool,
}

/// Human names of namespaces and devices, for both hosts.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// (host, inode of the namespace) to name.
    pub netns: HashMap<(Host, u32), String>,
    /// (host, inode of the namespace, ifindex) to device name.
    pub device: HashMap<(Host, u32, u32), String>,
}

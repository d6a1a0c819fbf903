//! The segments of the path, and who is responsible for each.

/// Where in the path a segment ends; segments are named by their end.
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
#[repr(u8)]
pub enum Segment {
    /// Not a stage, and so in no breakdown: `l_tx_late` and the total together, which is what a user of
    /// the schedule waited for.
    Response,
    /// `l_tx_due` to `l_tx_user`: the sender had no CPU, or was stopped. Not part of the total.
    LTxLate,
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
    /// From `netif_receive_skb` to the client's socket (to `l_rx_user` where that has no stamp).
    LRxKern,
    /// From the socket to the wake-up of the receiving thread.
    LRxTaskWaking,
    /// From wake-up to running: the run queue.
    LRxTaskQueue,
    /// From running to the return of `recvmsg`; from the socket if the thread did not sleep.
    LRxTaskRun,
    /// Both wires and the server together: there were no stamps of a server.
    Remote,
    /// Time that no pair of stamps attributes to one owner.
    Unattributed,
}

/// Who is responsible for a segment.
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
pub enum Owner {
    /// The client host.
    Local,
    /// The receiving process on the client host.
    Receiver,
    /// The network, client to server.
    WireOut,
    /// The network, server to client.
    WireIn,
    /// The network; the direction cannot be told.
    Wire,
    /// The server host.
    Remote,
    /// The network or the server host: not told apart.
    WireOrRemote,
    /// Not known.
    Unknown,
}

impl Owner {
    /// All owners.
    pub const ALL: [Self; 8] = [
        Self::Local,
        Self::Receiver,
        Self::WireOut,
        Self::WireIn,
        Self::Wire,
        Self::Remote,
        Self::WireOrRemote,
        Self::Unknown,
    ];

    /// The owner with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name in every machine-readable format.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Local => "client host",
            Self::Receiver => "receiver process",
            Self::WireOut => "wire out",
            Self::WireIn => "wire in",
            Self::Wire => "wire, direction undecided",
            Self::Remote => "server host",
            Self::WireOrRemote => "wire or server",
            Self::Unknown => "unknown",
        }
    }

    /// Whether both are on one host: what lies between their points is that host's.
    pub fn same_host(self, other: Self) -> bool {
        let host = |owner| {
            if owner == Self::Receiver {
                Self::Local
            } else {
                owner
            }
        };
        host(self) == host(other)
    }
}

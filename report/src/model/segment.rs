//! The segments of the path, and who is responsible for each.

use super::host::Host;
use super::point::Point;

/// Where in the path a segment ends; segments are named by their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl Segment {
    /// All segments in path order, behind the sum of them; what is not on the path comes last.
    pub const ALL: [Self; 20] = [
        Self::Response,
        Self::LTxLate,
        Self::LTxKern,
        Self::LTxQdisc,
        Self::LTxPath,
        Self::LTxOutlink,
        Self::RRxSoftirq,
        Self::RRxNapi,
        Self::RRxKern,
        Self::RTxKern,
        Self::RTxQdisc,
        Self::LRxInlink,
        Self::LRxSoftirq,
        Self::LRxNapi,
        Self::LRxKern,
        Self::LRxTaskWaking,
        Self::LRxTaskQueue,
        Self::LRxTaskRun,
        Self::Remote,
        Self::Unattributed,
    ];

    /// The segment with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|segment| segment.name() == name)
    }

    /// Its name in every format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::LTxLate => "l_tx_late",
            Self::LTxKern => "l_tx_kern",
            Self::LTxQdisc => "l_tx_qdisc",
            Self::LTxPath => "l_tx_path",
            Self::LTxOutlink => "l_tx_outlink",
            Self::RRxSoftirq => "r_rx_softirq",
            Self::RRxNapi => "r_rx_napi",
            Self::RRxKern => "r_rx_kern",
            Self::RTxKern => "r_tx_kern",
            Self::RTxQdisc => "r_tx_qdisc",
            Self::LRxInlink => "l_rx_inlink",
            Self::LRxSoftirq => "l_rx_softirq",
            Self::LRxNapi => "l_rx_napi",
            Self::LRxKern => "l_rx_kern",
            Self::LRxTaskWaking => "l_rx_task_waking",
            Self::LRxTaskQueue => "l_rx_task_queue",
            Self::LRxTaskRun => "l_rx_task_run",
            Self::Remote => "remote",
            Self::Unattributed => "unattributed",
        }
    }

    /// The stamp at which it ends, where that is one host's.
    pub const fn end(self) -> Option<(Host, Point)> {
        Some(match self {
            Self::LTxLate => (Host::Client, Point::LTxUser),
            Self::LTxKern => (Host::Client, Point::LTxDevqueue),
            Self::LTxQdisc | Self::LTxPath => (Host::Client, Point::LTxDevout),
            Self::RRxSoftirq => (Host::Server, Point::RRxNapi),
            Self::RRxNapi => (Host::Server, Point::RRxDevrcv),
            Self::RRxKern => (Host::Server, Point::RRxIcmprcv),
            Self::RTxKern => (Host::Server, Point::RTxDevqueue),
            Self::RTxQdisc => (Host::Server, Point::RTxDevout),
            Self::LRxSoftirq => (Host::Client, Point::LRxNapi),
            Self::LRxNapi => (Host::Client, Point::LRxIprcv),
            Self::LRxKern => (Host::Client, Point::LRxSkdataready),
            Self::LRxTaskWaking => (Host::Client, Point::LRxWakeup),
            Self::LRxTaskQueue => (Host::Client, Point::LRxOncpu),
            Self::Response
            | Self::LRxTaskRun
            | Self::LTxOutlink
            | Self::LRxInlink
            | Self::Remote
            | Self::Unattributed => return None,
        })
    }

    /// The points that it lies between, where those have stamps.
    pub const fn span(self) -> Option<(Point, Point)> {
        Some(match self {
            Self::Response => (Point::LTxDue, Point::LRxUser),
            Self::LTxLate => (Point::LTxDue, Point::LTxUser),
            Self::LTxKern => (Point::LTxUser, Point::LTxDevqueue),
            Self::LTxQdisc | Self::LTxPath => (Point::LTxDevqueue, Point::LTxDevout),
            Self::LTxOutlink => (Point::LTxDevout, Point::RRxSoftirq),
            Self::RRxSoftirq => (Point::RRxSoftirq, Point::RRxNapi),
            Self::RRxNapi => (Point::RRxNapi, Point::RRxDevrcv),
            Self::RRxKern => (Point::RRxDevrcv, Point::RRxIcmprcv),
            Self::RTxKern => (Point::RRxIcmprcv, Point::RTxDevqueue),
            Self::RTxQdisc => (Point::RTxDevqueue, Point::RTxDevout),
            Self::LRxInlink => (Point::RTxDevout, Point::LRxSoftirq),
            Self::LRxSoftirq => (Point::LRxSoftirq, Point::LRxNapi),
            Self::LRxNapi => (Point::LRxNapi, Point::LRxIprcv),
            Self::LRxKern => (Point::LRxIprcv, Point::LRxSkdataready),
            Self::LRxTaskWaking => (Point::LRxSkdataready, Point::LRxWakeup),
            Self::LRxTaskQueue => (Point::LRxWakeup, Point::LRxOncpu),
            Self::LRxTaskRun => (Point::LRxOncpu, Point::LRxUser),
            Self::Remote => (Point::LTxDevout, Point::LRxSoftirq),
            Self::Unattributed => return None,
        })
    }

    /// What happens in it, in one sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Response => "Not a segment: l_tx_late and all others together.",
            Self::LTxLate => "The sender had no CPU, or was stopped; not part of the total.",
            Self::LTxKern => "System call, routing and netfilter, up to the device's queue.",
            Self::LTxQdisc => "Queueing discipline of the client's device.",
            Self::LTxPath => {
                "Instead of l_tx_qdisc where several devices or namespaces are crossed."
            }
            Self::LTxOutlink => "Driver and NIC of the client, the network, NIC of the server.",
            Self::RRxSoftirq | Self::LRxSoftirq => {
                "From the raise of NET_RX until that softirq runs on the CPU."
            }
            Self::RRxNapi | Self::LRxNapi => {
                "From the softirq's begin until the driver hands the packet to the stack."
            }
            Self::RRxKern => "IP, netfilter, further devices and namespaces, up to icmp_rcv.",
            Self::RTxKern => "The kernel makes the reply and routes it, up to the device's queue.",
            Self::RTxQdisc => "Queueing discipline of the server's devices.",
            Self::LRxInlink => "Driver and NIC of the server, the network, NIC of the client.",
            Self::LRxKern => "IP, netfilter, further devices and namespaces, up to the socket.",
            Self::LRxTaskWaking => "From the packet in the socket to the wake-up of the receiver.",
            Self::LRxTaskQueue => "The receiver is runnable and waits for a CPU.",
            Self::LRxTaskRun => {
                "The receiver runs until recvmsg returns, or was busy when the reply came."
            }
            Self::Remote => {
                "Both wires and the server together, as there were no stamps of a server."
            }
            Self::Unattributed => "Time that no pair of stamps gives to one owner.",
        }
    }

    /// The stamp at which it begins and the one at which it ends, where it lies between devices or
    /// is at one.
    pub(crate) const fn at_devices(self) -> Option<[(Host, Point); 2]> {
        use Host::{Client, Server};
        Some(match self {
            Self::LTxKern => [(Client, Point::LTxUser), (Client, Point::LTxDevqueue)],
            Self::LTxQdisc | Self::LTxPath => {
                [(Client, Point::LTxDevqueue), (Client, Point::LTxDevout)]
            }
            Self::LTxOutlink => [(Client, Point::LTxDevout), (Server, Point::RRxDevrcv)],
            Self::RRxSoftirq => [(Server, Point::RRxSoftirq), (Server, Point::RRxDevrcv)],
            Self::RRxNapi => [(Server, Point::RRxNapi), (Server, Point::RRxDevrcv)],
            Self::RRxKern => [(Server, Point::RRxDevrcv), (Server, Point::RRxIcmprcv)],
            Self::RTxKern => [(Server, Point::RRxIcmprcv), (Server, Point::RTxDevqueue)],
            Self::RTxQdisc => [(Server, Point::RTxDevqueue), (Server, Point::RTxDevout)],
            Self::LRxInlink => [(Server, Point::RTxDevout), (Client, Point::LRxIprcv)],
            Self::LRxSoftirq => [(Client, Point::LRxSoftirq), (Client, Point::LRxIprcv)],
            Self::LRxNapi => [(Client, Point::LRxNapi), (Client, Point::LRxIprcv)],
            Self::LRxKern => [(Client, Point::LRxIprcv), (Client, Point::LRxSkdataready)],
            Self::Remote => [(Client, Point::LTxDevout), (Client, Point::LRxIprcv)],
            Self::Response
            | Self::LTxLate
            | Self::LRxTaskWaking
            | Self::LRxTaskQueue
            | Self::LRxTaskRun
            | Self::Unattributed => return None,
        })
    }

    /// What a probe does in it, for a sentence.
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Response => "from when it was due to its answer",
            Self::LTxLate => "held up, as the sender had no CPU (l_tx_late)",
            Self::LTxKern => "on the way from sendmsg to the device (l_tx_kern)",
            Self::LTxQdisc => "queued in the sending device's qdisc (l_tx_qdisc)",
            Self::LTxPath => "on the way through the sending host's devices (l_tx_path)",
            Self::LTxOutlink => "on the wire (l_tx_outlink)",
            Self::RRxSoftirq | Self::LRxSoftirq => "waiting for the NET_RX softirq",
            Self::RRxNapi | Self::LRxNapi => "waiting in the NET_RX softirq (NAPI)",
            Self::RRxKern => "on the way from the device to icmp_rcv (r_rx_kern)",
            Self::RTxKern => "on the way from icmp_rcv to the device (r_tx_kern)",
            Self::RTxQdisc => "queued in the replying device's qdisc (r_tx_qdisc)",
            Self::LRxInlink => "on the wire (l_rx_inlink)",
            Self::LRxKern => "on the way from the device to the socket (l_rx_kern)",
            Self::LRxTaskWaking => "waiting for the wake-up of the receiver (l_rx_task_waking)",
            Self::LRxTaskQueue => "waiting in the run queue (l_rx_task_queue)",
            Self::LRxTaskRun => "waiting for a busy receiver (l_rx_task_run)",
            Self::Remote => "behind the client host: without server stamps it is not known where",
            Self::Unattributed => "between stamps that are missing",
        }
    }

    /// Who is responsible for the time spent in it.
    pub const fn owner(self) -> Owner {
        match self {
            Self::LTxLate
            | Self::LTxKern
            | Self::LTxQdisc
            | Self::LTxPath
            | Self::LRxSoftirq
            | Self::LRxNapi
            | Self::LRxKern
            | Self::LRxTaskWaking
            | Self::LRxTaskQueue => Owner::Local,
            Self::LRxTaskRun => Owner::Receiver,
            Self::LTxOutlink => Owner::WireOut,
            Self::LRxInlink => Owner::WireIn,
            Self::RRxSoftirq | Self::RRxNapi | Self::RRxKern | Self::RTxKern | Self::RTxQdisc => {
                Owner::Remote
            }
            Self::Remote => Owner::WireOrRemote,
            Self::Unattributed | Self::Response => Owner::Unknown,
        }
    }
}

/// `Segment::ALL` is indexed by the discriminant.
const _: () = {
    let mut i = 0;
    while i < Segment::ALL.len() {
        assert!(Segment::ALL[i] as usize == i);
        i += 1;
    }
};

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
        Self::ALL.into_iter().find(|owner| owner.name() == name)
    }

    /// Its name in every machine-readable format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Receiver => "receiver",
            Self::WireOut => "wire_out",
            Self::WireIn => "wire_in",
            Self::Wire => "wire",
            Self::Remote => "remote",
            Self::WireOrRemote => "wire_or_remote",
            Self::Unknown => "unknown",
        }
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

//! The names of points, segments, owners, statuses and hosts: one table each, used by every format.

use std::borrow::Cow;

use crate::analysis::clock::State;
use crate::analysis::verdict::Certainty;
use crate::model::{Delay, Device, Host, Mark, Names, Owner, Point, Segment, Status, Symbol, Way};
use crate::printable::printable;

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

impl std::fmt::Display for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.number) {
            (Some(name), _) => f.write_str(name),
            (None, number) if number > u64::from(u32::MAX) => write!(f, "{number:#x}"),
            (None, number) => write!(f, "number {number}"),
        }
    }
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
            Self::Remote => "behind the local host: without remote stamps it is not known where",
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

impl Mark {
    /// All marks.
    pub const ALL: [Self; 3] = [Self::Estimated, Self::Merged, Self::Clamped];

    /// What stands behind the name or the time of the segment.
    pub const fn symbol(self) -> char {
        match self {
            Self::Estimated => '~',
            Self::Merged => '*',
            Self::Clamped => '!',
        }
    }

    /// What it means, without its symbol.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Estimated => {
                "estimate, as the hosts have a clock each; out and in together are exact"
            }
            Self::Merged => "includes a neighbour whose point was missing",
            Self::Clamped => "only the part above the wire's base; the rest is counted as wire",
        }
    }

    /// Whether a delay has it.
    pub const fn is_on(self, delay: &Delay) -> bool {
        match self {
            Self::Estimated => delay.bounds.is_some(),
            Self::Merged => delay.merged,
            Self::Clamped => delay.clamped,
        }
    }
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
            Self::Local => "local host",
            Self::Receiver => "receiver process",
            Self::WireOut => "wire out",
            Self::WireIn => "wire in",
            Self::Wire => "wire, direction undecided",
            Self::Remote => "remote host",
            Self::WireOrRemote => "wire or remote",
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

impl Certainty {
    /// All certainties.
    pub const ALL: [Self; 3] = [Self::Sure, Self::Provisional, Self::Undecided];

    /// The certainty with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|certainty| certainty.name() == name)
    }

    /// What it says of a verdict.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sure => "the owner is so, whatever the bounds of the estimates allow",
            Self::Provisional => "so unless a clock moved since the last quiet probe",
            Self::Undecided => "the bounds of the estimates support no owner",
        }
    }

    /// Its name in every format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sure => "sure",
            Self::Provisional => "provisional",
            Self::Undecided => "undecided",
        }
    }
}

impl State {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Init, Self::Relock, Self::Lock];

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Its name in every machine-readable format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Relock => "relock",
            Self::Lock => "lock",
        }
    }

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Init => "not known yet",
            Self::Relock => "changed, not found again yet",
            Self::Lock => "locked",
        }
    }
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Out, Self::In, Self::Round];

    /// The direction with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// Its name: `out`, `in`, `rtt`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Round => "rtt",
        }
    }
}

impl Status {
    /// All statuses that have a name of their own.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Late, Self::Lost, Self::Forgotten, Self::Dup];

    /// Whether the probe counts as answered.
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Ok | Self::Late | Self::Amended)
    }

    /// Whether it was answered after the timeout.
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::Amended)
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Its name in every format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late | Self::Amended => "late",
            Self::Lost => "lost",
            Self::Forgotten => "forgotten",
            Self::Dup => "dup",
        }
    }
}

impl Host {
    /// Its name in every format: `client`, `server`, `transit2`.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Client => "client".into(),
            Self::Server => "server".into(),
            Self::Transit(index) => format!("transit{index}").into(),
        }
    }

    /// The host with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "client" => Some(Self::Client),
            "server" => Some(Self::Server),
            _ => name
                .strip_prefix("transit")?
                .parse()
                .ok()
                .map(Self::Transit),
        }
    }
}

impl Names {
    /// Takes in the names that are not known yet.
    pub fn add(&mut self, more: Self) {
        for (key, name) in more.netns {
            self.netns.entry(key).or_insert(name);
        }
        for (key, name) in more.device {
            self.device.entry(key).or_insert(name);
        }
        for (key, mtu) in more.mtu {
            self.mtu.entry(key).or_insert(mtu);
        }
    }

    /// Name of a namespace on a host, by its inode; absent where unknown.
    pub fn netns_of(&self, host: Host, netns: u32) -> Option<&str> {
        self.netns.get(&(host, netns)).map(String::as_str)
    }

    /// `eth0 in netns web`; absent where the device has no name here.
    pub fn device_in_netns(&self, device: Device) -> Option<String> {
        let Device {
            host,
            netns,
            ifindex,
        } = device;
        let name = printable(self.device_of(host, netns, ifindex)?);
        Some(match self.netns_of(host, netns) {
            Some(netns) => format!("{name} in netns {}", printable(netns)),
            None => name.into_owned(),
        })
    }

    /// Name of a device in a namespace of a host; absent where unknown.
    pub fn device_of(&self, host: Host, netns: u32, ifindex: u32) -> Option<&str> {
        self.device.get(&(host, netns, ifindex)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_back() {
        for point in Point::ALL {
            let on_wire = (point != Point::LTxDue).then_some(point);
            assert_eq!(Point::from_wire(point as u16), on_wire);
            assert_eq!(Point::from_name(point.name()), Some(point));
        }
        for segment in Segment::ALL {
            assert_eq!(Segment::from_name(segment.name()), Some(segment));
        }
        for owner in Owner::ALL {
            assert_eq!(Owner::from_name(owner.name()), Some(owner));
        }
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.name()), Some(status));
        }
        for host in [Host::Client, Host::Server, Host::Transit(7)] {
            assert_eq!(Host::from_name(&host.name()), Some(host));
        }
    }

    #[test]
    fn unknown_names_and_numbers_are_refused() {
        assert_eq!(Point::from_wire(22), None);
        assert_eq!(Point::from_wire(23), None);
        assert_eq!(Point::from_name("l_tx_users"), None);
        assert_eq!(Host::from_name("transit"), None);
    }
}

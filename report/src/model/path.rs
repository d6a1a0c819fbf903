//! The path of a probe as one table: a row a point, a row a segment, each in path order. Names, orders,
//! owners, places, sentences and colours follow from it; the schema of JSON, docs/segments.md and the
//! numbers of the kernel's programs are compared with it in tests.
//!
//! A new stage is a row in each table, its place in the two enumerations, and a hook that stamps it.

use super::direction::Direction;
use super::host::Host;
use super::point::Point;
use super::segment::{Owner, Segment};
use strum::VariantArray as _;

/// Where a point lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At a device, before its queueing discipline.
    Queue,
    /// At a device, where its driver takes the packet.
    Driver,
    /// At a device, where the stack takes the packet.
    Receive,
    /// In the softirq that receives, which is not the packet's alone.
    Softirq,
    /// Elsewhere in the stack, or in the process.
    Stack,
}

/// How far a probe got, as a stamp shows it, in path order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The request is on its way to the server's host.
    Out,
    /// The request was received by a device of the server's host.
    Arrived,
    /// The request was received by ICMP.
    Delivered,
    /// The reply was queued.
    Replied,
    /// The reply was handed to a driver.
    Left,
    /// The reply was received by a device of the client's host.
    Back,
    /// The reply is at the client's socket.
    AtSocket,
}

#[derive(Clone, Copy, Debug)]
struct PointRow {
    point: Point,
    /// The host that takes the stamp; `None`: any that forwards the packet.
    host: Option<Host>,
    /// Of the packet that is stamped.
    direction: Direction,
    at: At,
    /// How far a probe got that has this stamp from the client's kernel, whose own softirqs may stand there
    /// for a device that forwards, and from the server's.
    stage: [Stage; 2],
    /// What is traced there, and which of several stamps counts.
    hook: &'static str,
}

const CLIENT: Option<Host> = Some(Host::Client);
const SERVER: Option<Host> = Some(Host::Server);
const ON_THE_WAY: Option<Host> = None;

use Direction::{Reply, Request};
use Stage::{Arrived, AtSocket, Back, Delivered, Left, Out, Replied};

const fn point(
    point: Point,
    host: Option<Host>,
    direction: Direction,
    at: At,
    stage: [Stage; 2],
    hook: &'static str,
) -> PointRow {
    PointRow {
        point,
        host,
        direction,
        at,
        stage,
        hook,
    }
}

/// In path order; those where a packet is forwarded are last, as they occur anywhere.
#[rustfmt::skip]
const POINTS: [PointRow; Point::COUNT] = [
    point(Point::LTxDue, CLIENT, Request, At::Stack, [Out; 2], "when the schedule wants the probe to leave"),
    point(Point::LTxUser, CLIENT, Request, At::Stack, [Out; 2], "clock_gettime just before sendmsg"),
    point(Point::LTxDevqueue, CLIENT, Request, At::Queue, [Out; 2], "net_dev_queue of the request, first device"),
    point(Point::LTxDevout, CLIENT, Request, At::Driver, [Out; 2], "net_dev_start_xmit of the request, last device"),
    point(Point::RRxSoftirq, SERVER, Request, At::Softirq, [Out, Arrived], "softirq_raise of NET_RX for the request, or sched_waking of a NAPI thread"),
    point(Point::RRxNapi, SERVER, Request, At::Softirq, [Out, Arrived], "softirq_entry of NET_RX for the request, or sched_switch to a NAPI thread"),
    point(Point::RRxDevrcv, SERVER, Request, At::Receive, [Out, Arrived], "netif_receive_skb of the request, first device"),
    point(Point::RRxIcmprcv, SERVER, Request, At::Stack, [Out, Delivered], "icmp_rcv of the request (fentry or kprobe), else a socket filter"),
    point(Point::RTxDevqueue, SERVER, Reply, At::Queue, [Back, Replied], "net_dev_queue of the reply, first device"),
    point(Point::RTxDevout, SERVER, Reply, At::Driver, [Back, Left], "net_dev_start_xmit of the reply, last device"),
    point(Point::LRxSoftirq, CLIENT, Reply, At::Softirq, [Back; 2], "softirq_raise of NET_RX for the reply, or sched_waking of a NAPI thread"),
    point(Point::LRxNapi, CLIENT, Reply, At::Softirq, [Back; 2], "softirq_entry of NET_RX for the reply, or sched_switch to a NAPI thread"),
    point(Point::LRxIprcv, CLIENT, Reply, At::Receive, [Back; 2], "netif_receive_skb of the reply, first device"),
    point(Point::LRxSkdataready, CLIENT, Reply, At::Stack, [AtSocket; 2], "filter on the client's socket"),
    point(Point::LRxWakeup, CLIENT, Reply, At::Stack, [AtSocket; 2], "sched_wakeup of the receiving thread"),
    point(Point::LRxOncpu, CLIENT, Reply, At::Stack, [AtSocket; 2], "sched_switch to the receiving thread"),
    point(Point::LRxUser, CLIENT, Reply, At::Stack, [AtSocket; 2], "clock_gettime after recvmsg"),
    point(Point::MTxDevecho, ON_THE_WAY, Request, At::Driver, [Out, Arrived], "net_dev_start_xmit of the request"),
    point(Point::MRxDevecho, ON_THE_WAY, Request, At::Receive, [Out, Arrived], "netif_receive_skb of the request"),
    point(Point::MTxDevreply, ON_THE_WAY, Reply, At::Driver, [Left, Replied], "net_dev_start_xmit of the reply"),
    point(Point::MRxDevreply, ON_THE_WAY, Reply, At::Receive, [Back, Replied], "netif_receive_skb of the reply"),
    point(Point::MTxQueueecho, ON_THE_WAY, Request, At::Queue, [Out, Arrived], "net_dev_queue of the request"),
    point(Point::MTxQueuereply, ON_THE_WAY, Reply, At::Queue, [Back, Replied], "net_dev_queue of the reply"),
];

#[derive(Clone, Copy, Debug)]
struct SegmentRow {
    segment: Segment,
    /// The points that it lies between, where those have stamps.
    span: Option<(Point, Point)>,
    owner: Owner,
    /// 0xRRGGBB: a shade of its owner's; neighbours on the path differ.
    colour: u32,
    /// What happens in it, in one sentence.
    meaning: &'static str,
    /// What a probe does in it, for a sentence.
    doing: &'static str,
}

/// In path order, behind the sum of them; what is not on the path comes last.
const SEGMENTS: [SegmentRow; Segment::COUNT] = [
    SegmentRow {
        segment: Segment::Response,
        span: Some((Point::LTxDue, Point::LRxUser)),
        owner: Owner::Unknown,
        colour: 0x3A_434F,
        meaning: "Not a segment: l_tx_late and all others together.",
        doing: "from when it was due to its answer",
    },
    SegmentRow {
        segment: Segment::LTxLate,
        span: Some((Point::LTxDue, Point::LTxUser)),
        owner: Owner::Local,
        colour: 0x2F_72BC,
        meaning: "The sender had no CPU, or was stopped; not part of the total.",
        doing: "held up, as the sender had no CPU (l_tx_late)",
    },
    SegmentRow {
        segment: Segment::LTxKern,
        span: Some((Point::LTxUser, Point::LTxDevqueue)),
        owner: Owner::Local,
        colour: 0x7C_B0E3,
        meaning: "System call, routing and netfilter, up to the device's queue.",
        doing: "on the way from sendmsg to the device (l_tx_kern)",
    },
    SegmentRow {
        segment: Segment::LTxQdisc,
        span: Some((Point::LTxDevqueue, Point::LTxDevout)),
        owner: Owner::Local,
        colour: 0x1F_5FA8,
        meaning: "Queueing discipline of the client's device.",
        doing: "queued in the sending device's qdisc (l_tx_qdisc)",
    },
    SegmentRow {
        segment: Segment::LTxPath,
        span: Some((Point::LTxDevqueue, Point::LTxDevout)),
        owner: Owner::Local,
        colour: 0x12_3F78,
        meaning: "Instead of l_tx_qdisc where several devices or namespaces are crossed.",
        doing: "on the way through the sending host's devices (l_tx_path)",
    },
    SegmentRow {
        segment: Segment::LTxOutlink,
        span: Some((Point::LTxDevout, Point::RRxSoftirq)),
        owner: Owner::WireOut,
        colour: 0xEE_7F1A,
        meaning: "Driver and NIC of the client, the network, NIC of the server.",
        doing: "on the wire (l_tx_outlink)",
    },
    SegmentRow {
        segment: Segment::RRxSoftirq,
        span: Some((Point::RRxSoftirq, Point::RRxNapi)),
        owner: Owner::Remote,
        colour: 0xB8_1457,
        meaning: "From the raise (since interrupts were off) until NET_RX or a NAPI thread runs.",
        doing: "waiting for the NET_RX softirq",
    },
    SegmentRow {
        segment: Segment::RRxNapi,
        span: Some((Point::RRxNapi, Point::RRxDevrcv)),
        owner: Owner::Remote,
        colour: 0xEC_8DB2,
        meaning: "From that begin until the driver hands the packet to the stack.",
        doing: "waiting in the NET_RX softirq (NAPI)",
    },
    SegmentRow {
        segment: Segment::RRxKern,
        span: Some((Point::RRxDevrcv, Point::RRxIcmprcv)),
        owner: Owner::Remote,
        colour: 0xD5_4580,
        meaning: "IP, netfilter, further devices and namespaces, up to icmp_rcv.",
        doing: "on the way from the device to icmp_rcv (r_rx_kern)",
    },
    SegmentRow {
        segment: Segment::RTxKern,
        span: Some((Point::RRxIcmprcv, Point::RTxDevqueue)),
        owner: Owner::Remote,
        colour: 0xF3_B3CC,
        meaning: "The kernel makes the reply and routes it, up to the device's queue.",
        doing: "on the way from icmp_rcv to the device (r_tx_kern)",
    },
    SegmentRow {
        segment: Segment::RTxQdisc,
        span: Some((Point::RTxDevqueue, Point::RTxDevout)),
        owner: Owner::Remote,
        colour: 0x8C_0A3F,
        meaning: "Queueing discipline of the server's devices.",
        doing: "queued in the replying device's qdisc (r_tx_qdisc)",
    },
    SegmentRow {
        segment: Segment::LRxInlink,
        span: Some((Point::RTxDevout, Point::LRxSoftirq)),
        owner: Owner::WireIn,
        colour: 0xF4_C936,
        meaning: "Driver and NIC of the server, the network, NIC of the client.",
        doing: "on the wire (l_rx_inlink)",
    },
    SegmentRow {
        segment: Segment::LRxSoftirq,
        span: Some((Point::LRxSoftirq, Point::LRxNapi)),
        owner: Owner::Local,
        colour: 0xAC_CFF1,
        meaning: "From the raise (since interrupts were off) until NET_RX or a NAPI thread runs.",
        doing: "waiting for the NET_RX softirq",
    },
    SegmentRow {
        segment: Segment::LRxNapi,
        span: Some((Point::LRxNapi, Point::LRxIprcv)),
        owner: Owner::Local,
        colour: 0x2F_72BC,
        meaning: "From that begin until the driver hands the packet to the stack.",
        doing: "waiting in the NET_RX softirq (NAPI)",
    },
    SegmentRow {
        segment: Segment::LRxKern,
        span: Some((Point::LRxIprcv, Point::LRxSkdataready)),
        owner: Owner::Local,
        colour: 0x7C_B0E3,
        meaning: "IP, netfilter, further devices and namespaces, up to the socket.",
        doing: "on the way from the device to the socket (l_rx_kern)",
    },
    SegmentRow {
        segment: Segment::LRxTaskWaking,
        span: Some((Point::LRxSkdataready, Point::LRxWakeup)),
        owner: Owner::Local,
        colour: 0x12_3F78,
        meaning: "From the packet in the socket to the wake-up of the receiver.",
        doing: "waiting for the wake-up of the receiver (l_rx_task_waking)",
    },
    SegmentRow {
        segment: Segment::LRxTaskQueue,
        span: Some((Point::LRxWakeup, Point::LRxOncpu)),
        owner: Owner::Local,
        colour: 0x3B_80CB,
        meaning: "The receiver is runnable and waits for a CPU.",
        doing: "waiting in the run queue (l_rx_task_queue)",
    },
    SegmentRow {
        segment: Segment::LRxTaskRun,
        span: Some((Point::LRxOncpu, Point::LRxUser)),
        owner: Owner::Receiver,
        colour: 0x1C_8A7D,
        meaning: "The receiver runs until recvmsg returns, or was busy when the reply came.",
        doing: "waiting for a busy receiver (l_rx_task_run)",
    },
    SegmentRow {
        segment: Segment::Remote,
        span: Some((Point::LTxDevout, Point::LRxSoftirq)),
        owner: Owner::WireOrRemote,
        colour: 0x8A_6642,
        meaning: "Both wires and the server together, as there were no stamps of a server.",
        doing: "behind the client host: without server stamps it is not known where",
    },
    SegmentRow {
        segment: Segment::Unattributed,
        span: None,
        owner: Owner::Unknown,
        colour: 0x98_A1AB,
        meaning: "Time that no pair of stamps gives to one owner.",
        doing: "between stamps that are missing",
    },
];

/// Rows of [`POINTS`] by the number on the wire.
const ROWS: [usize; Point::COUNT] = {
    let mut rows = [usize::MAX; Point::COUNT];
    let mut row = 0;
    while row < POINTS.len() {
        rows[POINTS[row].point as usize] = row;
        row += 1;
    }
    rows
};

/// Every point has a row, numbers have no gap, and the rows of segments are in the order of the enumeration.
const _: () = {
    let mut number = 0;
    while number < Point::COUNT {
        assert!(ROWS[number] != usize::MAX && Point::VARIANTS[number] as usize == number);
        number += 1;
    }
    let mut row = 0;
    while row < SEGMENTS.len() {
        assert!(SEGMENTS[row].segment as usize == row);
        row += 1;
    }
};

impl Point {
    const COUNT: usize = Self::VARIANTS.len();

    /// All points, in the order of their numbers on the wire.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::LTxUser; Self::COUNT];
        let mut number = 0;
        while number < all.len() {
            all[number] = Self::VARIANTS[number];
            number += 1;
        }
        all
    };

    const ON_PATH: usize = {
        let mut count = 0;
        while count < POINTS.len() && POINTS[count].host.is_some() {
            count += 1;
        }
        count
    };

    /// The points that the table of segments is made of, in path order.
    pub const PATH: [Self; Self::ON_PATH] = {
        let mut path = [Self::LTxUser; Self::ON_PATH];
        let mut row = 0;
        while row < path.len() {
            path[row] = POINTS[row].point;
            row += 1;
        }
        path
    };

    const fn row(self) -> &'static PointRow {
        &POINTS[ROWS[self as usize]]
    }

    /// The point with this number on the wire.
    pub fn from_wire(number: u16) -> Option<Self> {
        let point = Self::ALL.get(usize::from(number)).copied();
        point.filter(|point| *point != Self::LTxDue)
    }

    /// The point with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name in every format.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The end of the path that takes the stamp; `None` where the packet is forwarded, by any host.
    pub const fn host(self) -> Option<Host> {
        self.row().host
    }

    /// What is traced there, and which of several stamps counts.
    pub const fn hook(self) -> &'static str {
        self.row().hook
    }

    /// Whether the packet is at a device here (`net_dev_queue`, `net_dev_start_xmit`,
    /// `netif_receive_skb`): such points can occur several times in a path.
    pub const fn is_device(self) -> bool {
        matches!(self.row().at, At::Queue | At::Driver | At::Receive)
    }

    /// Whether a device's queueing discipline begins here.
    pub(crate) const fn is_queue(self) -> bool {
        matches!(self.row().at, At::Queue)
    }

    /// Of the packet that is stamped.
    pub const fn direction(self) -> Direction {
        self.row().direction
    }

    /// How far a probe got that has this stamp from this host; unknown of a host on the way.
    pub(crate) const fn stage(self, host: Host) -> Option<Stage> {
        let [at_client, at_server] = self.row().stage;
        match host {
            Host::Client => Some(at_client),
            Host::Server => Some(at_server),
            Host::Transit(_) => None,
        }
    }

    /// The last point of the server that shows this stage.
    pub(crate) fn of_server(stage: Stage) -> Option<Self> {
        let row = POINTS
            .iter()
            .rfind(|row| row.host == SERVER && row.stage[1] == stage);
        row.map(|row| row.point)
    }

    /// Where the packet that a softirq receives is next at a device; else the point itself.
    fn at_device(self) -> Self {
        let received = |row: &&PointRow| row.at == At::Receive && row.host == self.host();
        match self.row().at {
            At::Softirq => POINTS.iter().find(received).map_or(self, |row| row.point),
            _ => self,
        }
    }
}

impl Segment {
    const COUNT: usize = Self::VARIANTS.len();

    /// All segments in path order, behind the sum of them; what is not on the path comes last.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Response; Self::COUNT];
        let mut row = 0;
        while row < all.len() {
            all[row] = SEGMENTS[row].segment;
            row += 1;
        }
        all
    };

    const fn row(self) -> &'static SegmentRow {
        &SEGMENTS[self as usize]
    }

    /// The segment with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name in every format.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The points that it lies between, where those have stamps.
    pub const fn span(self) -> Option<(Point, Point)> {
        self.row().span
    }

    /// Who is responsible for the time spent in it.
    pub const fn owner(self) -> Owner {
        self.row().owner
    }

    /// 0xRRGGBB: a shade of its owner's.
    pub const fn colour(self) -> u32 {
        self.row().colour
    }

    /// What happens in it, in one sentence.
    pub const fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// What a probe does in it, for a sentence.
    pub const fn doing(self) -> &'static str {
        self.row().doing
    }

    /// The stamp at which it ends, where all of it is one host's.
    pub fn end(self) -> Option<(Host, Point)> {
        let (_, end) = self.span()?;
        let is_a_hosts = matches!(self.owner(), Owner::Local | Owner::Remote);
        Some((end.host().filter(|_| is_a_hosts)?, end))
    }

    /// The stamp at which it begins and the one at which it ends, where it lies between devices or
    /// is at one.
    pub(crate) fn at_devices(self) -> Option<[(Host, Point); 2]> {
        let (start, end) = self.span()?;
        let end = end.at_device();
        let at_one = start.is_device() || end.is_device();
        let stamp = |point: Point| Some((point.host()?, point));
        Some([stamp(start)?, stamp(end)?]).filter(|_| at_one)
    }
}

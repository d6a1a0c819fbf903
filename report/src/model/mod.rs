//! The vocabulary of pingtrace: probe, stamp, point, segment, path, run.

mod names;
pub mod send_error;

use std::collections::HashMap;
use std::net::IpAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::analysis::blame::{Blame, BlameTally};
use crate::analysis::causes::Cause;
use crate::analysis::clock::ClockSummary;
use crate::analysis::loss::{Loss, LossCount};
use crate::analysis::slo::Judged;
use crate::analysis::verdict::Verdict;

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

/// A network device of a host, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// On which host.
    pub host: Host,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Index of the device in it.
    pub ifindex: u32,
}

impl Stamp {
    /// The device at which it was taken, where the point has one.
    pub fn device(&self) -> Option<Device> {
        (self.ifindex != 0).then_some(Device {
            host: self.host,
            netns: self.netns,
            ifindex: self.ifindex,
        })
    }
}

/// A device at which a probe was, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AtDevice {
    /// Which.
    pub device: Device,
    /// In its queueing discipline.
    pub queue: bool,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Answered in time.
    Ok,
    /// Answered after the timeout.
    Late,
    /// The same, after it was reported as lost: this amends that report. In every format `late`.
    Amended,
    /// Not answered.
    Lost,
    /// Given up because too many were in flight at once: whether it was answered is not known.
    Forgotten,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Probe {
    /// When it was sent, `CLOCK_MONOTONIC` of the client, nanoseconds; absent where that is unknown.
    pub fn sent_ns(&self) -> Option<u64> {
        let mut stamps = self.path.iter();
        let sent = stamps.find(|stamp| stamp.point == Point::LTxUser);
        sent.map(|stamp| stamp.ns)
    }
}

/// Something of a kernel: its number there, and its name once somebody has looked it up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Number or address; 0 if it is not known.
    pub number: u64,
    /// Name.
    pub name: Option<String>,
}

impl Symbol {
    /// One whose number does not matter.
    pub fn named(name: &str) -> Self {
        Self {
            number: 0,
            name: Some(name.to_owned()),
        }
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// A kernel dropped a packet of a probe (`kfree_skb`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelDrop {
    /// On which host.
    pub host: Host,
    /// The reply, else the request.
    pub reply: bool,
    /// `CLOCK_MONOTONIC` of that host, nanoseconds.
    pub ns: u64,
    /// Inode of the network namespace; 0 if it is not known.
    pub netns: u32,
    /// Network device; 0 if it is not known.
    pub ifindex: u32,
    /// Why: `enum skb_drop_reason`, without its prefix; kernels before 5.17 do not say.
    pub reason: Symbol,
    /// The function that dropped it.
    pub location: Symbol,
    /// Name of the device.
    pub device: Option<String>,
    /// Name of the namespace.
    pub netns_name: Option<String>,
    /// MTU of the device, bytes, where the packet was dropped for its size and it is known.
    pub mtu: Option<u32>,
}

impl KernelDrop {
    /// The device that had the packet, as far as it is known.
    pub fn device_id(&self) -> Option<Device> {
        (self.ifindex != 0).then_some(Device {
            host: self.host,
            netns: self.netns,
            ifindex: self.ifindex,
        })
    }

    /// The names that came with it.
    pub fn names(&self) -> Names {
        let device = (self.host, self.netns, self.ifindex);
        let mut names = Names::default();
        let netns = self.netns_name.clone();
        names
            .netns
            .extend(netns.map(|n| ((self.host, self.netns), n)));
        names
            .device
            .extend(self.device.clone().map(|n| (device, n)));
        names.mtu.extend(self.mtu.map(|mtu| (device, mtu)));
        names
    }

    /// Whether the packet was too large for where it was to go.
    pub fn is_for_size(&self) -> bool {
        let reason = self.reason.name.as_deref().unwrap_or_default();
        matches!(reason, "PKT_TOO_BIG" | "FRAG_FAILED" | "EMSGSIZE")
    }
}

/// Where in the path a segment ends; segments are named by their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Segment {
    /// No stage, and so in no breakdown: all that a user of the schedule waited for, which is
    /// `l_tx_late` and the total.
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

/// What qualifies the time of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is an estimate with bounds.
    Estimated,
    /// Points inside were missing.
    Merged,
    /// It was cut at the packet's arrival.
    Clamped,
}

/// Human names of namespaces and devices, for both hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// (host, inode of the namespace) to name.
    pub netns: HashMap<(Host, u32), String>,
    /// (host, inode of the namespace, ifindex) to device name.
    pub device: HashMap<(Host, u32, u32), String>,
    /// (host, inode of the namespace, ifindex) to the device's MTU, bytes; of those that dropped a
    /// packet for its size.
    pub mtu: HashMap<(Host, u32, u32), u32>,
}

/// A probe's total, split into segments that sum to it exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    /// `l_rx_user` minus `l_tx_user`, nanoseconds.
    pub total_ns: u64,
    /// The segments in path order, each at most once; the `ns` of all but [`Segment::LTxLate`] sum
    /// to `total_ns`.
    pub delays: Vec<Delay>,
    /// Stamps that contradicted their neighbours by more than the clock's granularity and were left out.
    pub unordered: u32,
    /// Both wires together, where the hosts have a clock each.
    pub wire: Option<WireExcess>,
}

impl Breakdown {
    /// How late the probe left against its schedule, nanoseconds; absent where there is none.
    pub fn late_ns(&self) -> Option<u64> {
        let late = self.delays.first()?;
        (late.segment == Segment::LTxLate).then_some(late.ns)
    }

    /// From when the probe was due to when its answer was there, nanoseconds; the total where
    /// there is no schedule.
    pub fn response_ns(&self) -> u64 {
        self.total_ns.saturating_add(self.late_ns().unwrap_or(0))
    }

    /// The total, and where there is a schedule the response, nanoseconds, as [`DelayStat`] names
    /// them.
    pub fn sums(&self) -> impl Iterator<Item = (Option<Segment>, u64)> {
        let response = self.late_ns().map(|_| self.response_ns());
        let response = response.map(|ns| (Some(Segment::Response), ns));
        [(None, self.total_ns)].into_iter().chain(response)
    }
}

/// What is known of both wires together without knowing how the clocks stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireExcess {
    /// Time on the way out without any queueing, as far as can be known, nanoseconds.
    pub base_out_ns: u64,
    /// The same on the way in.
    pub base_in_ns: u64,
    /// Time above both, nanoseconds.
    pub excess_ns: u64,
    /// What `excess_ns` may be off by in each direction.
    pub margin_ns: u64,
    /// By how much the clocks were found elsewhere than predicted since the run's start, in all,
    /// nanoseconds.
    pub moved_ns: u64,
    /// The probe agrees with what is known of the clocks: they are where they should be, to within
    /// its excess.
    pub shows_clock: bool,
}

impl WireExcess {
    /// The excess is no smaller, nanoseconds.
    pub fn least_ns(&self) -> u64 {
        self.excess_ns.saturating_sub(self.margin_ns)
    }

    /// The excess is no larger, nanoseconds.
    pub fn most_ns(&self) -> u64 {
        self.excess_ns.saturating_add(self.margin_ns)
    }
}

/// A probe that was answered, and where its time went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The probe.
    pub probe: Probe,
    /// Absent for a lost probe.
    pub breakdown: Option<Breakdown>,
    /// What made it slow; absent if nothing took longer than usual.
    pub verdict: Option<Verdict>,
    /// Where a lost probe was lost.
    pub loss: Option<Loss>,
    /// Who had the CPU meanwhile, a segment each; empty unless it was asked for.
    pub blame: Vec<Blame>,
}

/// One end of a run, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, where known; of the server the name that was typed, with its zone.
    pub host: Option<String>,
    /// Address that the probes use.
    pub addr: Option<IpAddr>,
    /// Device that the probes leave by.
    pub dev: Option<String>,
    /// Hash of the kernel's boot id, where known.
    pub host_id: Option<u64>,
}

impl Endpoint {
    /// Its name and its address, as far as they are known: `web1 (10.0.0.2)`, `fe80::1%eth0`.
    pub fn label(&self) -> Option<String> {
        let is_in = |host: &str, addr: &str| host == addr || host.starts_with(&format!("{addr}%"));
        match (&self.host, self.addr.map(|addr| addr.to_string())) {
            (Some(host), Some(addr)) if !is_in(host, &addr) => Some(format!("{host} ({addr})")),
            (None, addr) => addr,
            (host, _) => host.clone(),
        }
    }
}

/// A run: what was asked for, and what could be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Wall-clock start, nanoseconds since the Unix epoch.
    pub start_unix_ns: i64,
    /// The same on the client's `CLOCK_MONOTONIC`, nanoseconds; absent in runs that older versions
    /// saved.
    pub start_ns: Option<u64>,
    /// The client's end.
    pub client: Endpoint,
    /// The server's end.
    pub server: Endpoint,
    /// How remote stamps arrive: `inband`, `compact`, `v0`, `pingpong`.
    pub mode: String,
    /// Nanoseconds between probes; absent when adaptive.
    pub interval_ns: Option<u64>,
    /// Only probes at or over this total are recorded, nanoseconds.
    pub threshold_ns: u64,
    /// ICMP message size, bytes.
    pub size: usize,
    /// The points that this run can see, and by which hook (`tp_btf`, `fentry`, `socket filter`, ...).
    pub points: Vec<(Point, String)>,
}

/// Distribution of one segment (or of the total) over the probes that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayStat {
    /// The segment; absent for the total.
    pub segment: Option<Segment>,
    /// Probes that have the segment.
    pub count: u64,
    /// All in nanoseconds.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// How a delay varied in the course of a run: percentiles of consecutive parts of it, in order, of
/// as many parts as have enough probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Values of the whole run that were cut at the packet's arrival ([`Delay::clamped`]).
    pub clamped: u64,
    /// Medians, nanoseconds.
    pub p50: Vec<u64>,
    /// 99th percentiles, nanoseconds.
    pub p99: Vec<u64>,
}

/// Losses and oddities of a run; every one is shown in every format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Probes sent: each of them is replied, lost, forgotten or in flight.
    pub sent: u64,
    /// Probes answered, late ones included.
    pub replied: u64,
    /// Answered after the timeout.
    pub late: u64,
    /// Of these, the wire out made the probe late, for sure; of the rest, it was neither or is not
    /// known.
    pub late_out: u64,
    /// Of these, the wire in did.
    pub late_in: u64,
    /// Not answered, as far as it is known by now; of an interval, given up in it.
    pub lost: u64,
    /// Of these, the request was lost; of the rest, neither is known.
    pub lost_out: u64,
    /// Of these, the reply was lost.
    pub lost_in: u64,
    /// Reported as lost and answered after all: they are among `replied`, no longer among `lost`.
    pub amended: u64,
    /// Given up because too many were in flight at once: what became of them is not known.
    pub forgotten: u64,
    /// Sent, and neither answered nor given up yet; of an interval, at its end.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight: u64,
    /// Further answers to an answered probe.
    pub dup: u64,
    /// Of these, the request arrived twice; of the rest, neither is known.
    pub dup_out: u64,
    /// Of these, the reply arrived twice.
    pub dup_in: u64,
    /// Answers that overtook an earlier probe's answer.
    pub reordered: u64,
    /// Of these, the requests changed their order; of the rest, neither is known.
    pub reordered_out: u64,
    /// Of these, the replies did.
    pub reordered_in: u64,
    /// Probes recorded (at or over the threshold, or lost).
    pub recorded: u64,
    /// Answered probes whose remote stamps never arrived although the run expected them.
    pub no_remote: u64,
    /// Stamps that are known to have been lost: overflow, eviction, late hand-over.
    pub lost_stamps: u64,
    /// Stamps left out because they contradicted their neighbours.
    pub unordered: u64,
    /// Replies with a wrong ICMP checksum.
    pub bad_checksum: u64,
    /// Packets that looked like replies and were malformed or forged.
    pub malformed: u64,
    /// Entries with an unknown point number.
    pub unknown_points: u64,
    /// Sends that failed.
    pub send_errors: u64,
    /// ICMP errors that quote a probe in flight.
    pub icmp_errors: u64,
    /// Answers to probes of which nothing is known any more: the first one, or a further one.
    pub unmatched: u64,
    /// Stamps, drops and parts of names refused: more than a probe can have, or of none that was sent.
    pub refused: u64,
    /// ICMP errors that quote no probe in flight, about packets to the peer or with the session's
    /// id: forged, another program's, or too late.
    pub icmp_unrelated: u64,
    /// Probes of the schedule that had not left when the time was over: the client could not keep
    /// up.
    pub unsent: u64,
}

/// Whether a count is the one that an absent field stands for.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counters {
    /// What was counted since `earlier`. Of probes that were lost, those count that were given up
    /// since, even if they were answered then: `amended` says how many were, whenever they had been
    /// given up.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Self {
            sent: since(|c| c.sent),
            replied: since(|c| c.replied),
            late: since(|c| c.late),
            late_out: since(|c| c.late_out),
            late_in: since(|c| c.late_in),
            lost: since(|c| c.lost + c.amended),
            lost_out: since(|c| c.lost_out),
            lost_in: since(|c| c.lost_in),
            amended: since(|c| c.amended),
            forgotten: since(|c| c.forgotten),
            in_flight: self.in_flight,
            dup: since(|c| c.dup),
            dup_out: since(|c| c.dup_out),
            dup_in: since(|c| c.dup_in),
            reordered: since(|c| c.reordered),
            reordered_out: since(|c| c.reordered_out),
            reordered_in: since(|c| c.reordered_in),
            recorded: since(|c| c.recorded),
            no_remote: since(|c| c.no_remote),
            lost_stamps: since(|c| c.lost_stamps),
            unordered: since(|c| c.unordered),
            bad_checksum: since(|c| c.bad_checksum),
            malformed: since(|c| c.malformed),
            unknown_points: since(|c| c.unknown_points),
            send_errors: since(|c| c.send_errors),
            icmp_errors: since(|c| c.icmp_errors),
            unmatched: since(|c| c.unmatched),
            refused: since(|c| c.refused),
            icmp_unrelated: since(|c| c.icmp_unrelated),
            unsent: since(|c| c.unsent),
        }
    }

    /// Whether each probe sent is counted once, for a run so far.
    pub fn balance(&self) -> bool {
        self.replied + self.lost + self.forgotten + self.in_flight == self.sent
            && self.late <= self.replied
            && self.amended <= self.late
    }

    /// The largest of them.
    pub(crate) fn largest(&self) -> u64 {
        let all = serde_json::to_value(self).unwrap_or_default();
        let all = all.as_object().into_iter().flat_map(|all| all.values());
        all.filter_map(serde_json::Value::as_u64).max().unwrap_or(0)
    }

    /// This part of the probes sent, in percent; 0 while none was sent.
    pub fn percent_of_sent(&self, part: u64) -> f64 {
        100.0 * part as f64 / self.sent.max(1) as f64
    }
}

/// A way that a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client's driver to the server's `netif_receive_skb`.
    Out,
    /// From the server's driver to the client's `netif_receive_skb`.
    In,
    /// From `l_tx_user` to `l_rx_user`.
    Round,
}

/// How much the delay of one direction varies from a probe to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Variation {
    /// Which direction.
    pub direction: Way,
    /// Distribution of |IPDV| (RFC 3393), nanoseconds, over pairs of consecutive probes.
    pub ipdv: DelayStat,
    /// Interarrival jitter as RFC 3550 smooths it (section 6.4.1), at the end, nanoseconds.
    pub rfc3550_ns: u64,
}

/// What one program in the kernel cost, by the kernel's own count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// How long in all, nanoseconds, with the counting itself.
    pub ns: u64,
}

/// What the tool itself cost within a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCost {
    /// CPU time of the process, user and system, nanoseconds.
    pub cpu_ns: u64,
    /// Probes whose stamps can be collected at once.
    pub records: u32,
    /// Most records that were in use at once since the start; of a server, those in use now.
    pub most_in_use: u32,
    /// Records that were reused before their probe had its fate.
    pub evicted: u64,
    /// Programs in the kernel, if they were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramCost>,
}

impl OwnCost {
    /// What it cost since `earlier`, a reading of the same programs.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let program = |now: &ProgramCost| {
            let before = earlier.programs.iter().find(|p| p.program == now.program);
            let before = before.cloned().unwrap_or_default();
            ProgramCost {
                program: now.program.clone(),
                runs: now.runs - before.runs,
                ns: now.ns - before.ns,
            }
        };
        Self {
            cpu_ns: self.cpu_ns - earlier.cpu_ns,
            evicted: self.evicted - earlier.evicted,
            programs: self.programs.iter().map(program).collect(),
            ..*self
        }
    }
}

/// How many probes of a span were slow, and what that means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// From this total on a probe counts as slow, nanoseconds. Absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    /// Nobody gave that threshold: it was learnt from the run, and is the last one.
    pub learnt: bool,
    /// Answered probes that were slow.
    pub probes: u64,
}

/// Everything about a run, or about one interval of it, that fits in a few lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Nanoseconds from the run's start to this summary; of an interval, its length.
    pub elapsed_ns: u64,
    /// Losses and oddities.
    pub counters: Counters,
    /// Total first, then the segments in path order.
    pub delays: Vec<DelayStat>,
    /// Which probes were slow.
    pub slow: Slow,
    /// What made them slow, by the time that it took, most first.
    pub causes: Vec<Cause>,
    /// How late probes left against their schedule, nanoseconds; absent when adaptive.
    pub send_slip: Option<DelayStat>,
    /// The server's clock; absent when both ends are on one, or nothing came from the server.
    pub clock: Option<ClockSummary>,
    /// Variation of the delay, by direction, where two consecutive probes had it.
    pub jitter: Vec<Variation>,
    /// All values of each of `delays`, in the same order; only at the end of a run.
    pub histograms: Vec<Histogram<u64>>,
    /// How each of `delays` varied, in the same order; only at the end of a run.
    pub spreads: Vec<Spread>,
    /// What became of the run's objectives; only at the end of a run.
    pub slo: Vec<Judged>,
    /// What the client itself cost.
    pub own: Option<OwnCost>,
    /// Lost probes by place and reason.
    pub losses: Vec<LossCount>,
    /// What was to blame for slow probes, where that was asked for.
    pub blame: BlameTally,
}

impl Summary {
    /// What probes took in all: the response, where there is a schedule, else the total; if a probe
    /// was answered.
    pub fn taken(&self) -> Option<&DelayStat> {
        let of = |segment| {
            let mut delays = self.delays.iter();
            delays.find(move |stat| stat.segment == segment && stat.count > 0)
        };
        of(Some(Segment::Response)).or(of(None))
    }
}

/// One bucket of the time series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Probes answered in this bucket.
    pub count: u32,
    /// Probes lost in this bucket.
    pub lost: u32,
    /// Smallest total, nanoseconds.
    pub min: u64,
    /// Mean total, nanoseconds.
    pub mean: f64,
    /// Largest total, nanoseconds.
    pub max: u64,
}

/// What a picture of a run is drawn from.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The run.
    pub run: Run,
    /// The slowest probes, slowest first.
    pub slowest: Vec<Record>,
    /// Its summary.
    pub summary: Summary,
    /// Totals over time: width of a bucket in nanoseconds, and the buckets from the run's start.
    pub series: (u64, Vec<Bucket>),
    /// Names for what the records mention.
    pub names: Names,
}

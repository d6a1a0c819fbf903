//! What the core asks of this host, and gives to the outputs.

use crate::client::index::ProbeIndex;
use crate::client::journey::HostsOnTheWay;
use crate::client::slot_stamps::SlotStamps;
use crate::wire::icmp_error::IcmpError;
use crate::wire::packet::Packet;
use crate::wire::stamp_return::StampReturn;
use report::analysis::loss::LossId;
use report::model::{Counters, Loss, Netns, Point, Probe};

/// When, and on which CPU.
pub type Moment = Option<(u64, u16)>;

/// The kernel's table, the tracing programs and the outputs, as far as the core needs them.
pub trait Shell {
    /// Reads the slot of a probe; false if it was reused before or meanwhile: then what was read may be
    /// another probe's.
    fn read_slot(&self, index: ProbeIndex, into: &mut SlotStamps) -> bool;
    /// The CPU that a probe was sent on, if that is still known.
    fn sent_cpu(&self, index: ProbeIndex) -> Option<u16>;
    /// Wake-up and switch-in of the last sleep before `now` of the thread that received.
    fn last_sleep(&mut self, now: u64) -> (Moment, Moment);
    /// Whether stamps of this point can be expected.
    fn sees(&self, point: Point) -> bool;
    /// Whether a namespace of this kernel has the probed address, and ignores echo requests.
    fn ignores_echo(&mut self, netns: Netns) -> bool;
    /// Probes are to ask for this from now on.
    fn ask_for(&mut self, way: StampReturn);
    /// Probes are to return this cookie from now on.
    fn keep_cookie(&mut self, cookie: u64);
    /// The server's stamps return in this way from now on.
    fn mode(&mut self, way: StampReturn);
    /// The counters of the run.
    fn counters(&mut self) -> &mut Counters;
    /// An answered probe with all of its stamps.
    fn answered(&mut self, probe: &Probe);
    /// A probe was given up; returns where it is counted.
    fn lost(&mut self, probe: Probe, loss: Loss) -> LossId;
    /// A lost probe, sent at `sent_ns`, was answered after all.
    fn found(&mut self, id: LossId, sent_ns: u64);
    /// Nobody knows what became of a probe.
    fn forgotten(&mut self, probe: Probe);
    /// A further answer to a probe.
    fn duplicate(&mut self, probe: Probe);
    /// A host refused a probe in flight.
    fn icmp_error(&mut self, error: &IcmpError);
    /// The server, or a host on the way, sent something beside stamps.
    fn extensions(&mut self, packet: &Packet<'_>, hosts: &HostsOnTheWay);
}

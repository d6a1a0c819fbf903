//! Stamps, and the devices at which they are taken.

use super::host::Host;
use super::point::Point;
use serde::{Deserialize, Serialize};
use std::ops::Not;

/// A network namespace by its inode; 0 is none, or an unknown one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Netns(pub u32);

/// A network device by its index in its namespace; 0 is none, or an unknown one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ifindex(pub u32);

impl Ifindex {
    /// Whether there is a device.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// One observation of a probe at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Where in the stack.
    pub point: Point,
    /// On which host.
    pub host: Host,
    /// `CLOCK_MONOTONIC` of that host, nanoseconds.
    pub ns: u64,
    /// CPU that took the stamp; absent where it was not recorded (user space, version 0 peers).
    pub cpu: Option<u16>,
    /// Network device; 0 where the point has none.
    pub ifindex: Ifindex,
    /// Inode of the network namespace; 0 where the point has none.
    pub netns: Netns,
    /// What else was seen there.
    pub flags: StampFlags,
}

/// What the host that took a stamp knows of it besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct StampFlags {
    /// Received outside a softirq, in the context of the sender: it waited for none.
    #[serde(skip_serializing_if = "Not::not")]
    pub direct: bool,
    /// Received on a CPU whose interrupts may have been off until then.
    #[serde(skip_serializing_if = "Not::not")]
    pub interrupts_unknown: bool,
    /// The device carries the packet inside another one that is not seen.
    #[serde(skip_serializing_if = "Not::not")]
    pub underlay_unseen: bool,
}

/// A network device of a host, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// On which host.
    pub host: Host,
    /// Inode of the network namespace.
    pub netns: Netns,
    /// Index of the device in it.
    pub ifindex: Ifindex,
}

impl Stamp {
    /// The device at which it was taken, where the point has one.
    pub fn device(&self) -> Option<Device> {
        self.ifindex.is_some().then(|| self.place())
    }

    /// The same with index 0 where the point has none.
    pub(crate) fn place(&self) -> Device {
        Device {
            host: self.host,
            netns: self.netns,
            ifindex: self.ifindex,
        }
    }
}

/// A place of a probe at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AtDevice {
    /// Which.
    pub device: Device,
    /// In its queueing discipline.
    pub queue: bool,
}

//! Stamps, and the devices at which they are taken.

use super::host::Host;
use super::point::Point;

/// One observation of a probe at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A place of a probe at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AtDevice {
    /// Which.
    pub device: Device,
    /// In its queueing discipline.
    pub queue: bool,
}

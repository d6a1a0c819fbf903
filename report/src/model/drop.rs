//! What a kernel says of a packet that it dropped.

use super::direction::Direction;
use super::host::Host;
use super::names::Names;
use super::stamp::{Device, Ifindex, Netns};

/// A reason or function of a kernel: its number, and its name once it was looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Number or address; 0 if it is not known.
    pub number: u64,
    /// Name.
    pub name: Option<String>,
}

impl Symbol {
    /// A symbol by its name alone.
    pub fn named(name: &str) -> Self {
        Self {
            number: 0,
            name: Some(name.to_owned()),
        }
    }

    /// Whether neither number nor name is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.number) {
            (Some(name), _) => f.write_str(name),
            (None, number) if number > u64::from(u32::MAX) => write!(f, "{number:#x}"),
            (None, number) => write!(f, "number {number}"),
        }
    }
}

/// A kernel dropped a packet of a probe (`kfree_skb`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelDrop {
    /// On which host.
    pub host: Host,
    /// Of which packet.
    pub direction: Direction,
    /// `CLOCK_MONOTONIC` of that host, nanoseconds.
    pub ns: u64,
    /// Inode of the network namespace; 0 if it is not known.
    pub netns: Netns,
    /// Network device; 0 if it is not known.
    pub ifindex: Ifindex,
    /// Why: `enum skb_drop_reason`, without its prefix; kernels before 5.17 do not say.
    pub reason: Symbol,
    /// The function that dropped it.
    pub location: Symbol,
    /// Name of the device.
    pub device: Option<String>,
    /// Name of the namespace.
    pub netns_name: Option<String>,
    /// MTU of the device, bytes, if the packet was dropped for its size and the MTU is known.
    pub mtu: Option<u32>,
}

impl KernelDrop {
    /// The device that had the packet, if it is known.
    pub fn device_id(&self) -> Option<Device> {
        (self.ifindex.is_some()).then_some(Device {
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

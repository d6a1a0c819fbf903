//! Names of namespaces and devices.

use std::collections::HashMap;

use super::host::Host;
use super::stamp::{Device, Ifindex, Netns};

use crate::printable::printable;

/// Human names of namespaces and devices, for both hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// (host, inode of the namespace) to name.
    pub netns: HashMap<(Host, Netns), String>,
    /// (host, inode of the namespace, ifindex) to device name.
    pub device: HashMap<(Host, Netns, Ifindex), String>,
    /// (host, inode of the namespace, ifindex) to the device's MTU, bytes; only for devices that dropped
    /// a packet for its size.
    pub mtu: HashMap<(Host, Netns, Ifindex), u32>,
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
    pub fn netns_of(&self, host: Host, netns: Netns) -> Option<&str> {
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
    pub fn device_of(&self, host: Host, netns: Netns, ifindex: Ifindex) -> Option<&str> {
        self.device.get(&(host, netns, ifindex)).map(String::as_str)
    }
}

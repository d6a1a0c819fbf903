//! What a device does to packets before the stack sees them, as ethtool(8) shows it.

#![expect(
    unsafe_code,
    reason = "ioctl() with structures of linux/ethtool.h, which no crate here has"
)]

use rustix::net::{AddressFamily, SocketType, socket};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

// include/uapi/linux/ethtool.h
const ETHTOOL_GCOALESCE: u32 = 0x0e;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// What is on; `None` where the device does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The stack joins received packets of a flow.
    pub gro: Option<bool>,
    /// The device joins them.
    pub lro: Option<bool>,
    /// The device splits sent ones.
    pub tso: Option<bool>,
}

/// How long a device holds its interrupt back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// After a received packet, us.
    pub rx_usecs: u32,
    /// Received packets after which it comes at once.
    pub rx_frames: u32,
    /// After a sent packet, us.
    pub tx_usecs: u32,
    /// The driver changes the times for received packets itself.
    pub is_adaptive: bool,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_coalesce`.
#[repr(C)]
#[derive(Default)]
struct Coalesce {
    command: u32,
    rx_usecs: u32,
    rx_frames: u32,
    rx_usecs_irq: u32,
    rx_frames_irq: u32,
    tx_usecs: u32,
    tx_frames: u32,
    tx_usecs_irq: u32,
    tx_frames_irq: u32,
    stats_block_usecs: u32,
    adaptive_rx: u32,
    adaptive_tx: u32,
    rest: [u32; 11],
}

const _: () = assert!(size_of::<Coalesce>() == 92, "as in linux/ethtool.h");

/// `struct ifreq`, as far as `SIOCETHTOOL` uses it.
#[repr(C)]
struct Request {
    name: [libc::c_char; libc::IFNAMSIZ],
    data: *mut libc::c_void,
    rest: [u8; 16],
}

/// Asks devices of the network namespace in which it was opened.
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens a socket.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self(socket(AddressFamily::INET, SocketType::DGRAM, None)?))
    }

    /// What a device joins and splits.
    pub fn offloads(&self, device: &str) -> Offloads {
        let value = |command| {
            let mut value = Value { command, data: 0 };
            self.ask(device, &mut value).then_some(value.data)
        };
        Offloads {
            gro: value(ETHTOOL_GGRO).map(|on| on != 0),
            lro: value(ETHTOOL_GFLAGS).map(|flags| flags & ETH_FLAG_LRO != 0),
            tso: value(ETHTOOL_GTSO).map(|on| on != 0),
        }
    }

    /// How a device holds interrupts back; `None`: it cannot.
    pub fn coalescing(&self, device: &str) -> Option<Coalescing> {
        let mut answer = Coalesce {
            command: ETHTOOL_GCOALESCE,
            ..Coalesce::default()
        };
        self.ask(device, &mut answer).then_some(Coalescing {
            rx_usecs: answer.rx_usecs,
            rx_frames: answer.rx_frames,
            tx_usecs: answer.tx_usecs,
            is_adaptive: answer.adaptive_rx != 0,
        })
    }

    /// `command` is a structure that begins with a command to get something.
    fn ask<T>(&self, device: &str, command: &mut T) -> bool {
        let Ok(device) = CString::new(device) else {
            return false;
        };
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            data: std::ptr::from_mut(command).cast(),
            rest: [0; 16],
        };
        let bytes = device.as_bytes().iter().take(libc::IFNAMSIZ - 1);
        for (to, from) in request.name.iter_mut().zip(bytes) {
            *to = from.cast_signed();
        }
        // SAFETY: the kernel writes the structure of this command, which has this size, and changes nothing else.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_says_what_it_does() {
        let ethtool = Ethtool::open().unwrap();
        let offloads = ethtool.offloads("lo");
        assert!(
            offloads.gro.is_some() && offloads.tso.is_some(),
            "{offloads:?}"
        );
        assert_eq!(ethtool.coalescing("lo"), None);
        assert_eq!(ethtool.offloads("no such one"), Offloads::default());
    }
}

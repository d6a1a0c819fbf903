//! What a device does to packets before the stack sees them, and what its driver has counted, as ethtool(8)
//! shows it.

#![expect(
    unsafe_code,
    reason = "ioctl() with structures of linux/ethtool.h, which no crate here has"
)]

use rustix::net::{AddressFamily, SocketType, socket};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use zerocopy::IntoBytes as _;

// include/uapi/linux/ethtool.h
const ETHTOOL_GCOALESCE: u32 = 0x0e;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
/// The set of names of a driver's statistics.
const ETH_SS_STATS: u32 = 1;
/// Bytes of a name.
const ETH_GSTRING_LEN: usize = 32;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// Room for a driver's statistics. The kernel writes as many as the driver has at that moment, whatever the
/// caller has room for: of a driver with more than half of this nothing is read.
const ROOM: usize = 1 << 16;

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

/// `struct ethtool_sset_info`, for one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

/// A driver's statistics (`ethtool -S`).
#[derive(Debug, Default)]
pub struct Statistics {
    names: Vec<String>,
    values: Vec<u64>,
}

impl Statistics {
    /// Names, as the driver has them, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let names = self.names.iter().map(String::as_str);
        names.zip(self.values.iter().copied())
    }
}

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

    /// Reads what the driver of a device has counted; false if it has no statistics, or the device is gone.
    pub fn statistics(&self, device: &str, into: &mut Statistics) -> bool {
        let Some(count) = self.statistics_count(device) else {
            return false;
        };
        if into.names.len() != count {
            into.names = self.statistics_names(device).unwrap_or_default();
        }
        // `struct ethtool_stats`: command, count, values.
        let mut all = vec![0_u64; 1 + ROOM];
        set(&mut all, [ETHTOOL_GSTATS, count as u32]);
        let is_read = self.ask(device, &mut *all) && word(&all, 1) as usize == into.names.len();
        into.values.clear();
        if is_read {
            into.values.extend(&all[1..=into.names.len()]);
        }
        is_read
    }

    fn statistics_count(&self, device: &str) -> Option<usize> {
        let mut info = SetInfo {
            command: ETHTOOL_GSSET_INFO,
            reserved: 0,
            mask: 1 << ETH_SS_STATS,
            count: 0,
        };
        let is_there = self.ask(device, &mut info) && info.mask != 0;
        let count = info.count as usize;
        (is_there && count > 0 && count <= ROOM / 2).then_some(count)
    }

    fn statistics_names(&self, device: &str) -> Option<Vec<String>> {
        // `struct ethtool_gstrings`: command, set, count, names.
        let mut all = vec![0_u64; 2 + ROOM * ETH_GSTRING_LEN / size_of::<u64>()];
        set(&mut all, [ETHTOOL_GSTRINGS, ETH_SS_STATS]);
        let is_read = self.ask(device, &mut *all);
        let names = all.as_bytes()[3 * size_of::<u32>()..].chunks(ETH_GSTRING_LEN);
        let names = names.take(word(&all, 2) as usize).map(|name| {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(name).trim().to_owned()
        });
        is_read.then(|| names.collect())
    }

    /// `command` is a structure that begins with a command to get something.
    fn ask<T: ?Sized>(&self, device: &str, command: &mut T) -> bool {
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
        // SAFETY: the kernel writes the structure of this command, which has this size, and changes nothing else:
        // of lists, what the driver has, which was at most half of the room just before.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) == 0 }
    }
}

/// Puts two words at the beginning of a structure.
fn set(structure: &mut [u64], words: [u32; 2]) {
    structure.as_mut_bytes()[..size_of_val(&words)].copy_from_slice(words.as_bytes());
}

/// Its word with this index.
fn word(structure: &[u64], index: usize) -> u32 {
    let [low, high]: [u32; 2] = zerocopy::transmute!(structure[index / 2]);
    if index.is_multiple_of(2) { low } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_names_what_it_counts() {
        let lab = netns::Lab::veth_pair().unwrap();
        let read = || {
            let ethtool = Ethtool::open().unwrap();
            let mut statistics = Statistics::default();
            assert!(ethtool.statistics("eth0", &mut statistics));
            let names: Vec<_> = statistics.iter().map(|(name, _)| name).collect();
            assert!(names.contains(&"rx_queue_0_drops"), "{names:?}");
            let peer = statistics.iter().find(|(name, _)| *name == "peer_ifindex");
            assert_eq!(peer, Some(("peer_ifindex", u64::from(lab.server.ifindex))));
            assert!(!ethtool.statistics("lo", &mut statistics));
            assert!(!ethtool.statistics("no such one", &mut statistics));
        };
        lab.client.ns.run(read).unwrap();
    }

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

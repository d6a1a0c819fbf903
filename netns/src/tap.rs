//! A TAP device: user space is its cable.

use crate::{Error, Namespace, Result};
use rustix::{
    fs::{Mode, OFlags},
    ioctl::{self, Updater, opcode},
};
use std::os::fd::OwnedFd;

const PATH: &str = "/dev/net/tun";

/// Makes a TAP device in the calling thread's namespace. It goes with the descriptor.
///
/// Each read takes one Ethernet frame that the host sends, each write delivers one to it; the
/// descriptor does not block.
pub(crate) fn open(name: &str) -> Result<OwnedFd> {
    let netns = Namespace::current()?.inode();
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(PATH, flags, Mode::empty())
        .map_err(|e| Error::inside(netns, format!("open {PATH}"), e))?;
    attach(&fd, InterfaceRequest::tap(name))
        .map_err(|e| Error::inside(netns, format!("add tap {name}"), e))?;
    Ok(fd)
}

/// `struct ifreq`, as `TUNSETIFF` reads it: 40 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

impl InterfaceRequest {
    fn tap(name: &str) -> Self {
        const IFF_TAP: u16 = 0x0002;
        /// No four bytes in front of every frame.
        const IFF_NO_PI: u16 = 0x1000;
        let mut request = Self {
            name: [0; 16],
            flags: IFF_TAP | IFF_NO_PI,
            rest: [0; 22],
        };
        // The last byte stays zero.
        for (slot, byte) in request.name[..15].iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
        request
    }
}

#[expect(unsafe_code, reason = "rustix has no TUNSETIFF")]
fn attach(fd: &OwnedFd, mut request: InterfaceRequest) -> rustix::io::Result<()> {
    /// Declared with an `int`, though the kernel reads and writes a whole `struct ifreq`.
    const TUNSETIFF: ioctl::Opcode = opcode::write::<i32>(b'T', 202);
    const { assert!(size_of::<InterfaceRequest>() == 40) };
    // SAFETY: TUNSETIFF takes a pointer to a struct ifreq, and that is what it gets.
    unsafe { ioctl::ioctl(fd, Updater::<TUNSETIFF, _>::new(&mut request)) }
}

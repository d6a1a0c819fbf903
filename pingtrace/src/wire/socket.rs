//! The raw ICMP socket: options, sending and receiving.

#![expect(
    unsafe_code,
    reason = "socket options that no crate wraps: ICMP_FILTER, SO_ATTACH_BPF, IP_MTU_DISCOVER; and if_nametoindex"
)]

use crate::kernel::privileges;
use crate::wire::ancillary::Ancillary;
use crate::wire::icmp_error::IcmpError;
use crate::wire::layout::V0_HEADER;
use crate::wire::number::{Sequence, SessionId};
use crate::wire::packet;
use crate::wire::protocol::Family;
use crate::wire::timestamps::{self, Stamped};
use anyhow::{Context, Result, bail};
use pnet_packet::ipv4::Ipv4Packet;
use report::model::send_error::SendError;
use report::model::{Point, Ttl};
use socket2::{Domain, MsgHdr, Protocol, SockAddr, Socket, Type};
use std::ffi::CString;
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of_val};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Upper bound on the wait of a receive, so that the loop can do other things.
pub const RECEIVE_TICK: Duration = Duration::from_millis(20);
/// Longest ICMP message.
pub const MAX_MESSAGE: usize = 65_535;
/// Requested size, bytes: enough for a second of probes at 20 000 a second.
const RECEIVE_BUFFER: usize = 32 << 20;

/// Longest headers before the ICMP message of a sent packet that is shown with its stamp: Ethernet
/// with two VLAN tags, and IP.
const SENT_HEADERS: usize = 22 + 40;

/// Options that a user can set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Send from and receive on this device only.
    pub device: Option<String>,
    /// Differentiated services code point and ECN: the whole TOS or traffic-class byte.
    pub tos: Option<u8>,
}

/// A socket for probes of one address family: a raw one, or a ping socket, which needs no right.
pub struct ProbeSocket {
    socket: Socket,
    family: Family,
    /// The kernel gives a ping socket only replies with its own ICMP id, without their IP header.
    is_raw: bool,
    /// Sends and receives by this device only (`-I`).
    device: Option<String>,
    /// Its index, to which the kernel has bound the socket.
    bound_to: AtomicU32,
}

/// ICMP types that a socket wants.
#[derive(Clone, Copy, Debug)]
pub enum Deliver {
    /// A client's.
    RepliesAndErrors,
    /// A server's whose filter program stamps arrivals.
    Requests,
    /// A sender's.
    Nothing,
}

/// What arrived.
pub enum Received<'a> {
    /// An echo reply.
    Reply(Reply<'a>),
    /// An ICMP error about a packet of this host.
    Error(IcmpError),
    /// Nothing within [`RECEIVE_TICK`], or something else's message.
    Nothing,
}

/// An echo reply as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The ICMP message.
    pub message: &'a [u8],
    /// Who sent it.
    pub from: IpAddr,
    /// With which TTL it arrived, if that is known.
    pub ttl: Option<Ttl>,
}

impl ProbeSocket {
    /// Opens a raw socket; says which capability is missing.
    pub fn open(family: Family, options: &Options) -> Result<Self> {
        privileges::CLIENT.check("a raw ICMP socket")?;
        Self::new(family, Type::RAW, options)
    }

    /// Opens a ping socket (`net.ipv4.ping_group_range`), whose echo requests have this ICMP id.
    pub fn ping(family: Family, options: &Options, id: u16) -> Result<Self> {
        let this = Self::new(family, Type::DGRAM, options)?;
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        this.socket
            .bind(&SocketAddr::new(any, id).into())
            .with_context(|| format!("bind a ping socket to the ICMP id {id}"))?;
        Ok(this)
    }

    fn new(family: Family, kind: Type, options: &Options) -> Result<Self> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let is_raw = kind == Type::RAW;
        let name = if is_raw { "raw ICMP" } else { "ping" };
        let socket = Socket::new(domain, kind, Some(protocol));
        let this = Self {
            socket: socket.with_context(|| format!("open a {name} socket"))?,
            family,
            is_raw,
            device: options.device.clone(),
            bound_to: AtomicU32::new(0),
        };
        this.apply(options)?;
        Ok(this)
    }

    /// Of its packets.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether it is a raw socket.
    pub fn is_raw(&self) -> bool {
        self.is_raw
    }

    /// A socket that only sends, from the address `from`.
    pub fn sender(family: Family, from: SocketAddr) -> Result<Self> {
        let this = Self::open(family, &Options::default())?;
        this.deliver(Deliver::Nothing)
            .context("set the ICMP type filter")?;
        this.socket
            .bind(&from.into())
            .with_context(|| format!("bind to {}", from.ip()))?;
        Ok(this)
    }

    fn apply(&self, options: &Options) -> Result<()> {
        let s = &self.socket;
        s.set_read_timeout(Some(RECEIVE_TICK))
            .context("set the receive timeout")?;
        if s.set_recv_buffer_size(RECEIVE_BUFFER).is_ok() {
            // Past net.core.rmem_max only with CAP_NET_ADMIN; without it the kernel's limit stays.
            let _ = self.set(
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                &(RECEIVE_BUFFER as i32),
            );
        }
        // Never fragment, with the device's MTU as the limit: the kernel's path MTU cache holds what any
        // "fragmentation needed" said, for ten minutes.
        let (level, discover, probe) = match self.family {
            Family::V4 => (
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_PROBE,
            ),
            Family::V6 => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            ),
        };
        self.set(level, discover, &probe)
            .context("forbid fragmentation")?;
        if self.family == Family::V6 {
            self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1_i32)
                .context("ask for the hop limit of replies")?;
            self.set(libc::IPPROTO_IPV6, libc::IPV6_FLOWINFO_SEND, &1_i32)
                .context("choose the flow labels of probes")?;
        }
        if self.is_raw {
            self.deliver(Deliver::RepliesAndErrors)
                .context("set the ICMP type filter")?;
        } else if self.family == Family::V4 {
            self.set(libc::IPPROTO_IP, libc::IP_RECVTTL, &1_i32)
                .context("ask for the TTL of replies")?;
        }
        if let Some(device) = &options.device {
            self.bind_to(device).with_context(|| {
                format!("bind to device {device} (-I): does it exist in this network namespace?")
            })?;
        }
        if let Some(tos) = options.tos {
            match self.family {
                Family::V4 => s.set_tos_v4(u32::from(tos)),
                Family::V6 => s.set_tclass_v6(u32::from(tos)),
            }
            .with_context(|| format!("set DSCP/TOS {tos} (-Q)"))?;
        }
        Ok(())
    }

    fn bind_to(&self, device: &str) -> io::Result<()> {
        self.socket.bind_device(Some(device.as_bytes()))?;
        let index = device_index(device).unwrap_or(0);
        self.bound_to.store(index, Ordering::Relaxed);
        Ok(())
    }

    /// Binds to the device again if its name belongs to another one now: it was removed and added again.
    pub fn follow_device(&self) {
        let Some(device) = &self.device else { return };
        let index = device_index(device);
        if index.is_some_and(|index| index != self.bound_to.load(Ordering::Relaxed)) {
            // If it went away again meanwhile, the next failed send comes here too.
            let _ = self.bind_to(device);
        }
    }

    /// Sets which ICMP types reach the socket, before a copy of anything else is made.
    pub fn deliver(&self, what: Deliver) -> io::Result<()> {
        const ICMP_FILTER: i32 = 1;
        const ICMP6_FILTER: i32 = 1;
        match self.family {
            Family::V4 => {
                // Unreachable, time exceeded, parameter problem.
                let errors = 1 << 3 | 1 << 11 | 1 << 12;
                let pass: u32 = match what {
                    Deliver::RepliesAndErrors => 1 << self.family.reply() | errors,
                    Deliver::Requests => 1 << self.family.request(),
                    Deliver::Nothing => 0,
                };
                self.set(libc::SOL_RAW, ICMP_FILTER, &!pass)
            }
            Family::V6 => {
                // A set bit blocks; errors are types 1 to 4.
                let mut block = [u32::MAX; 8];
                let mut pass = |kind: u8| block[usize::from(kind / 32)] &= !(1 << (kind % 32));
                match what {
                    Deliver::RepliesAndErrors => {
                        [1, 2, 3, 4, self.family.reply()].into_iter().for_each(pass);
                    }
                    Deliver::Requests => pass(self.family.request()),
                    Deliver::Nothing => {}
                }
                self.set(libc::IPPROTO_ICMPV6, ICMP6_FILTER, &block)
            }
        }
    }

    /// Attaches a socket filter program.
    pub fn attach_filter(&self, program: RawFd) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program)
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        // SAFETY: `value` is a plain value of the given size, which the kernel only reads.
        let r = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of_val(value) as libc::socklen_t,
            )
        };
        if r == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Packets that found the socket's receive buffer full, since it was opened; recent kernels
    /// drop those without a `kfree_skb`.
    pub fn dropped(&self) -> u32 {
        // include/uapi/linux/sock_diag.h
        const SK_MEMINFO_DROPS: usize = 8;
        let mut values = [0_u32; SK_MEMINFO_DROPS + 1];
        let mut length = size_of_val(&values) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `values`.
        let r = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut values).cast(),
                &raw mut length,
            )
        };
        if r == 0 { values[SK_MEMINFO_DROPS] } else { 0 }
    }

    /// Sends one ICMP message.
    pub fn send(&self, message: &[u8], to: &SockAddr) -> io::Result<()> {
        self.socket.send_to(message, to).map(|_| ())
    }

    /// Sends one ICMP message with options of its own.
    pub fn send_with(&self, message: &[u8], to: &SockAddr, options: &Ancillary) -> io::Result<()> {
        if options.is_empty() {
            return self.send(message, to);
        }
        let message = [IoSlice::new(message)];
        let message = MsgHdr::new().with_addr(to).with_buffers(&message);
        let message = message.with_control(options.bytes());
        self.socket.sendmsg(&message, 0).map(|_| ())
    }

    /// Asks for `SO_TIMESTAMPING` stamps, see [`Self::receive`] and [`Self::sent_stamps`].
    pub fn enable_timestamps(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &timestamps::FLAGS)
    }

    /// Gives the stamps of sends that have arrived: session and sequence number, point, `CLOCK_REALTIME` ns.
    pub fn sent_stamps(&self, mut each: impl FnMut((SessionId, Sequence), Point, i64)) {
        let mut packet = [MaybeUninit::uninit(); SENT_HEADERS + V0_HEADER];
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        while let Ok(stamped) = timestamps::receive(&self.socket, &mut packet, flags) {
            let probe = packet::find_probe(written(&packet, stamped.length));
            if let (Some(probe), Some(point), Some(at)) = (probe, stamped.sent, stamped.at_ns) {
                each(probe, point, at);
            }
        }
    }

    /// Whether every message that arrived has been received.
    pub fn is_drained(&self) -> bool {
        rustix::io::ioctl_fionread(&self.socket).is_ok_and(|bytes| bytes == 0)
    }

    /// Waits up to [`RECEIVE_TICK`] for one message; with the kernel's stamp of its arrival, `CLOCK_REALTIME`
    /// ns, where the kernel was [asked](Self::enable_timestamps).
    pub fn receive<'b>(
        &self,
        buffer: &'b mut [MaybeUninit<u8>],
    ) -> io::Result<(Received<'b>, Option<i64>)> {
        match timestamps::receive(&self.socket, buffer, 0) {
            Ok(s) => {
                let received = self.interpret(written(buffer, s.length), &s);
                Ok((received.unwrap_or(Received::Nothing), s.at_ns))
            }
            Err(e) if is_nothing(&e) => Ok((Received::Nothing, None)),
            Err(e) => Err(e),
        }
    }

    /// Parses what was received.
    fn interpret<'b>(&self, bytes: &'b [u8], s: &Stamped) -> Option<Received<'b>> {
        let from = s.from.as_socket()?.ip();
        let (message, ttl) = match self.family {
            // An IPv4 raw socket gives the IP header too.
            Family::V4 if self.is_raw => {
                let ip = Ipv4Packet::new(bytes)?;
                let header = usize::from(ip.get_header_length()) * 4;
                (bytes.get(header..)?, Ttl::new(ip.get_ttl()))
            }
            Family::V4 | Family::V6 => (bytes, s.hop_limit),
        };
        if message.first() == Some(&self.family.reply()) {
            return Some(Received::Reply(Reply { message, from, ttl }));
        }
        IcmpError::parse(message, self.family, from).map(Received::Error)
    }
}

impl AsFd for ProbeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The first `length` bytes of a buffer, which the kernel has written.
fn written(buffer: &[MaybeUninit<u8>], length: usize) -> &[u8] {
    let buffer = &buffer[..length];
    // SAFETY: the kernel has written `length` bytes.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) }
}

/// The tick passed, or a signal came.
fn is_nothing(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The error number of a failed send.
pub fn send_error(e: &io::Error) -> SendError {
    SendError(e.raw_os_error().unwrap_or(0))
}

/// The error message of a failed send, with its remedy.
pub fn explain_send(error: SendError, to: IpAddr, size: usize) -> String {
    let hint = match error.0 {
        libc::ENETUNREACH | libc::EHOSTUNREACH => {
            "there is no route to it; see 'ip route get'".to_owned()
        }
        libc::EMSGSIZE => {
            format!("{size} bytes of ICMP exceed the device's MTU; use a smaller size (-b)")
        }
        libc::EACCES | libc::EPERM => {
            "a route or a firewall rule on this host prohibits it; see 'ip route get' and 'nft list ruleset'"
                .to_owned()
        }
        libc::ENODEV | libc::ENXIO | libc::ENETDOWN => {
            "the device is gone or down; see 'ip link'".to_owned()
        }
        libc::EADDRNOTAVAIL => "this host has no address to send from; see 'ip address'".to_owned(),
        libc::EINVAL if is_link_local(to) => {
            "a link-local address needs its zone, e.g. fe80::1%eth0".to_owned()
        }
        libc::EINVAL => {
            "a blackhole route on this host swallows it; see 'ip route get'".to_owned()
        }
        _ => return format!("cannot send to {to}: {error}"),
    };
    format!("cannot send to {to}: {error}: {hint}")
}

/// The index of the device with this name in the calling thread's namespace.
pub fn device_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that ends in a zero byte, which the function only reads.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The address from which this host would send, by a UDP socket that sends nothing.
pub fn source(to: SocketAddr, options: &Options) -> Result<IpAddr> {
    let domain = Domain::for_address(to);
    let probe =
        Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).context("open a UDP socket")?;
    if let Some(device) = &options.device {
        probe
            .bind_device(Some(device.as_bytes()))
            .with_context(|| {
                format!("bind to device {device} (-I): does it exist in this network namespace?")
            })?;
    }
    let mut connect_to = to;
    connect_to.set_port(9);
    if let Err(e) = probe.connect(&connect_to.into()) {
        bail!("{}", explain_send(send_error(&e), to.ip(), 0));
    }
    let local = probe.local_addr().ok().and_then(|a| a.as_socket());
    Ok(local.map_or(unspecified(to.ip()), |a| a.ip()))
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

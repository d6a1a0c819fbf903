//! Kernel stamps without BPF: `SO_TIMESTAMPING` on the client's own socket
//! (Documentation/networking/timestamping.rst) gives the hand-over to the queueing discipline, to
//! the driver, and the reply's arrival.
//!
//! These stamps are `CLOCK_REALTIME`. They are put on `CLOCK_MONOTONIC` with the offset of the
//! moment, so a step of the wall clock between two readings of the offset shows as an error in
//! the probes that were under way, and nowhere else.

use report::model::{Point, Ttl};
use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, Socket};
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr};

/// What is asked of `SO_TIMESTAMPING`. Stamps of sends come with the packet, which says what it is:
/// the kernel's own numbers count some of the sends that fail and not others.
pub const FLAGS: u32 = libc::SOF_TIMESTAMPING_TX_SCHED
    | libc::SOF_TIMESTAMPING_TX_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_CMSG;

/// The points that they give, and from what.
pub const POINTS: [(Point, &str); 3] = [
    (Point::LTxDevqueue, "SO_TIMESTAMPING sched"),
    (Point::LTxDevout, "SO_TIMESTAMPING software"),
    (Point::LRxIprcv, "SO_TIMESTAMPING rx"),
];

/// Room for the control messages of one packet.
const CONTROL: usize = 512;
const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();

/// A received message and the stamps that came with it.
pub struct Stamped {
    /// Bytes received.
    pub length: usize,
    /// Sender.
    pub from: SockAddr,
    /// The kernel's stamp, `CLOCK_REALTIME` ns.
    pub at_ns: Option<i64>,
    /// What it stamps, if it is of a send.
    pub sent: Option<Point>,
    /// The TTL with which it arrived, if the socket asked for it.
    pub hop_limit: Option<Ttl>,
}

/// Receives with `MSG_ERRQUEUE | MSG_DONTWAIT` for stamps of sends, or 0 for messages.
pub fn receive(
    socket: &Socket,
    buffer: &mut [MaybeUninit<u8>],
    flags: libc::c_int,
) -> io::Result<Stamped> {
    let mut control = [MaybeUninit::new(0_u8); CONTROL];
    let mut from = SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let mut slices = [MaybeUninitSlice::new(buffer)];
    let mut message = MsgHdrMut::new()
        .with_addr(&mut from)
        .with_buffers(&mut slices)
        .with_control(&mut control);
    let length = socket.recvmsg(&mut message, flags)?;
    let used = message.control_len();
    let control = control.map(initialized);
    let mut stamped = Stamped {
        length,
        from,
        at_ns: None,
        sent: None,
        hop_limit: None,
    };
    stamped.read(&control[..used.min(CONTROL)]);
    Ok(stamped)
}

#[expect(unsafe_code, reason = "the buffer was made of zeros")]
fn initialized(byte: MaybeUninit<u8>) -> u8 {
    // SAFETY: every byte was initialised with 0.
    unsafe { byte.assume_init() }
}

impl Stamped {
    /// Walks through the control messages (cmsg(3)).
    fn read(&mut self, mut control: &[u8]) {
        while let Some(header) = control.get(..CMSG_HEADER) {
            let length =
                usize::from_ne_bytes(header[..size_of::<usize>()].try_into().unwrap_or_default());
            let (level, kind) = (
                int(header, size_of::<usize>()),
                int(header, size_of::<usize>() + 4),
            );
            let Some(data) = control.get(CMSG_HEADER..length) else {
                return;
            };
            self.take(level, kind, data);
            let next = length.next_multiple_of(align_of::<libc::cmsghdr>());
            control = control.get(next..).unwrap_or_default();
        }
    }

    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) if data.len() >= 16 => {
                let (seconds, ns) = (long(data, 0), long(data, 8));
                self.at_ns = Some(seconds * 1_000_000_000 + ns).filter(|t| *t != 0);
            }
            (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) | (libc::SOL_IP, libc::IP_TTL)
                if data.len() >= 4 =>
            {
                self.hop_limit = u8::try_from(int(data, 0)).ok().and_then(Ttl::new);
            }
            // struct sock_extended_err: ee_errno, origin/type/code/pad, ee_info, ee_data.
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
                if data.len() >= 16 && data[4] == libc::SO_EE_ORIGIN_TIMESTAMPING =>
            {
                const SCM_TSTAMP_SND: i32 = 0;
                const SCM_TSTAMP_SCHED: i32 = 1;
                self.sent = match int(data, 8) {
                    SCM_TSTAMP_SND => Some(Point::LTxDevout),
                    SCM_TSTAMP_SCHED => Some(Point::LTxDevqueue),
                    _ => None,
                };
            }
            _ => {}
        }
    }
}

fn int(b: &[u8], at: usize) -> i32 {
    i32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn long(b: &[u8], at: usize) -> i64 {
    b[at..at + 8].try_into().map_or(0, i64::from_ne_bytes)
}

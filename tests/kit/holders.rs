//! Memory that is held and can be let go, of every allocator of the kernel and of a process; and
//! churn that holds nothing, though it looks so.
//!
//! What is held is exact in number; its drop is the release.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapHandle, MapType};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use pingtrace::selftest::inject::worker::{Worker, nanos, sleep_until};
use pingtrace::units::monotonic_ns;

/// Each an `eventfd_ctx` (kmalloc in `do_eventfd`), a file and its dentry.
pub struct EventFds(#[expect(dead_code, reason = "held")] Vec<OwnedFd>);

impl EventFds {
    /// Holds this many; if the process may not open as many, its limit is raised and stays raised.
    pub fn hold(count: usize) -> Result<Self> {
        allow_files(count as u64 + 256)?;
        let fds = (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC));
        let fds = fds.collect::<Result<_, _>>();
        Ok(Self(fds.with_context(|| format!("open {count} eventfds"))?))
    }
}

/// `RLIMIT_NOFILE` of the process, at least.
fn allow_files(files: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(files),
        maximum: limit.maximum.map(|maximum| maximum.max(files)),
    };
    setrlimit(Resource::Nofile, raised)
        .with_context(|| format!("raise the limit of open files to {files} (needs root)"))
}

/// UDP datagrams that nobody reads: each an skb (`skbuff_head_cache`) and its data.
pub struct Skbs(UdpSocket);

impl Skbs {
    /// Queues this many in a socket on the loopback. An error if the kernel dropped any.
    pub fn hold(count: usize) -> Result<Self> {
        const CHARGED: usize = 1024; // at most, for an empty one (skb->truesize is 768)
        let socket = UdpSocket::bind("127.0.0.1:0").context("open a UDP socket")?;
        receive_buffer(&socket, count * CHARGED)?;
        let (to, sender) = (socket.local_addr()?, UdpSocket::bind("127.0.0.1:0")?);
        for _ in 0..count {
            sender.send_to(&[], to).context("send to the loopback")?;
        }
        let dropped = drops(to.port())?;
        ensure!(
            dropped == 0,
            "hold {count} datagrams: {dropped} were dropped"
        );
        Ok(Self(socket))
    }

    /// Reads all. How many there were.
    pub fn drain(self) -> io::Result<usize> {
        self.0.set_nonblocking(true)?;
        for count in 0.. {
            match self.0.recv(&mut [0]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                done => done?,
            };
        }
        unreachable!("without a queue's end")
    }
}

/// `SO_RCVBUFFORCE`, which has no limit; the kernel doubles it.
#[expect(unsafe_code, reason = "no safe wrapper of SO_RCVBUFFORCE")]
fn receive_buffer(socket: &UdpSocket, bytes: usize) -> Result<()> {
    let bytes = libc::c_int::try_from(bytes).context("a receive buffer of more than 2 GiB")?;
    // SAFETY: the option's value is an int, as its size says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    let done = if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    done.context("set SO_RCVBUFFORCE (needs CAP_NET_ADMIN)")
}

/// The last column of the socket's line: `net/ipv4/udp.c`, `udp4_format_sock`.
fn drops(port: u16) -> Result<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/udp").context("read net/udp")?;
    let local = format!("0100007F:{port:04X}");
    for line in table.lines() {
        let mut fields = line.split_whitespace();
        if fields.nth(1) == Some(&local) {
            let last = fields.last().unwrap_or_default();
            return last.parse().context("read the drops in net/udp");
        }
    }
    bail!("find {local} in net/udp: it is not there")
}

/// The ring of an `AF_PACKET` socket: pages (`packet_set_ring`).
pub struct PacketRing(OwnedFd);

impl PacketRing {
    /// So many blocks of 2^`order` pages each.
    #[expect(unsafe_code, reason = "no safe wrapper of PACKET_RX_RING")]
    pub fn hold(blocks: u32, order: u32) -> Result<Self> {
        // No protocol: it receives nothing.
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        );
        let socket = socket.context("open a packet socket (needs CAP_NET_RAW)")?;
        let block = (rustix::param::page_size() as u32) << order;
        let request = libc::tpacket_req {
            tp_block_size: block,
            tp_block_nr: blocks,
            tp_frame_size: block,
            tp_frame_nr: blocks,
        };
        // SAFETY: the option's value is a tpacket_req, as its size says.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_RX_RING,
                (&raw const request).cast(),
                size_of_val(&request) as libc::socklen_t,
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            bail!("hold {blocks} blocks of {block} bytes in a packet ring: {error}");
        }
        Ok(Self(socket))
    }
}

impl AsFd for PacketRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// BPF array maps: vmalloc (`array_map_alloc`).
pub struct Arrays(#[expect(dead_code, reason = "held")] Vec<MapHandle>);

impl Arrays {
    /// This many maps, each with this many bytes of values, a multiple of 8.
    pub fn hold(count: usize, bytes: u32) -> Result<Self> {
        let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let map = |_| MapHandle::create(MapType::Array, Some("held"), 4, 8, bytes / 8, &options);
        let maps = (0..count).map(map).collect::<Result<_, _>>();
        Ok(Self(maps.with_context(|| {
            format!("make {count} BPF arrays of {bytes} bytes")
        })?))
    }
}

/// Adds an eventfd to an epoll and removes it, this many times. Each time the kernel frees a
/// `struct epitem` by `kfree_rcu`, which no tracepoint of the allocator shows.
pub fn churn_epoll(times: usize) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    for _ in 0..times {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&poll, &event, data, epoll::EventFlags::IN)?;
        epoll::delete(&poll, &event)?;
    }
    Ok(())
}

/// Sends and receives this many datagrams over the loopback.
pub fn churn_udp(times: usize) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 64];
    for _ in 0..times {
        socket.send(&buffer)?;
        socket.recv(&mut buffer)?;
    }
    Ok(())
}

/// How a process grows.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// Allocated and written to at once. At least 1 MiB, else it may be of what was freed before.
    pub step: usize,
    /// How often.
    pub interval: Duration,
    /// At most.
    pub steps: usize,
}

/// A thread of this process that allocates and never frees, until it is dropped.
pub struct Leaker {
    held: Arc<AtomicU64>,
    _worker: Worker<Vec<Vec<u8>>>,
}

impl Leaker {
    /// Starts to grow.
    pub fn start(growth: Growth) -> io::Result<Self> {
        let held = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&held);
        let run = move |(), stop: &AtomicBool| growth.grow(&count, stop);
        Ok(Self {
            held,
            _worker: Worker::start("leaker", || Ok(()), run)?,
        })
    }

    /// Bytes that it holds by now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

impl Growth {
    /// What it returns is freed when the thread is joined.
    fn grow(&self, held: &AtomicU64, stop: &AtomicBool) -> Vec<Vec<u8>> {
        let mut leaked = Vec::new();
        let mut next = monotonic_ns();
        while leaked.len() < self.steps && sleep_until(next, stop) {
            // Not zero: those pages would not be touched.
            leaked.push(vec![0x5a; self.step]);
            held.fetch_add(self.step as u64, Ordering::Relaxed);
            next += nanos(self.interval);
        }
        leaked
    }
}

//! Load with a known beginning and end: a CPU hog, a ticking CPU, and a flood of UDP packets.
//!
//! All run in threads of their own, are bounded in time from the start and end on drop.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::worker::{Worker, nanos, sleep_until};
use crate::kernel::thread::{Priority, pin, prioritise};
use crate::units::monotonic_ns;

/// Bursts of a [`CpuHog`] and the like that are remembered; later ones run unrecorded.
pub const MAX_SPANS: usize = 1 << 16;

/// What a hog does.
#[derive(Clone, Copy, Debug)]
pub struct Hog {
    /// Where it runs.
    pub cpu: usize,
    /// Its scheduling class.
    pub priority: Priority,
    /// It ends by itself after this long.
    pub limit: Duration,
    /// Spins for the first of these times at the start of each period of the second; `None` spins always.
    pub burst: Option<(Duration, Duration)>,
}

/// A thread that uses up one CPU.
pub struct CpuHog(Worker<Vec<(u64, u64)>>);

impl CpuHog {
    /// Starts to spin; on return the thread is pinned and has its priority.
    pub fn start(hog: Hog) -> io::Result<Self> {
        let place = move || pin(hog.cpu).and_then(|()| prioritise(hog.priority));
        Worker::start("hog", place, move |(), stop| hog.spin(stop)).map(Self)
    }

    /// Its thread id.
    pub fn tid(&self) -> u32 {
        self.0.tid()
    }

    /// Ends the thread. Returns begin and end of its bursts, `CLOCK_MONOTONIC` ns.
    pub fn stop(mut self) -> Vec<(u64, u64)> {
        self.0.stop()
    }
}

impl Hog {
    fn spin(&self, stop: &AtomicBool) -> Vec<(u64, u64)> {
        let start = monotonic_ns();
        let end = start + nanos(self.limit);
        let (on, period) = self.burst.map_or((u64::MAX, u64::MAX), |(on, period)| {
            (nanos(on), nanos(period))
        });
        let mut spans = Vec::new();
        let mut burst = start;
        while burst < end && sleep_until(burst, stop) {
            let from = monotonic_ns();
            let until = burst.saturating_add(on).min(end);
            while monotonic_ns() < until && !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            if spans.len() < MAX_SPANS {
                spans.push((from, monotonic_ns()));
            }
            burst = burst.saturating_add(period);
        }
        spans
    }
}

/// A CPU that is busy at idle priority and runs its timer softirq at every tick: an idle CPU has hardly any
/// softirqs.
pub struct Ticking {
    _busy: CpuHog,
    _sleeper: Worker<()>,
}

impl Ticking {
    /// Runs until it is dropped, at most for `limit`.
    pub fn start(cpu: usize, limit: Duration) -> io::Result<Self> {
        let hog = Hog {
            cpu,
            priority: Priority::Idle,
            limit,
            burst: None,
        };
        let open = move || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            // In the kernel this is a timer of the wheel, of which each tick asks.
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            pin(cpu).map(|()| socket)
        };
        let end = monotonic_ns() + nanos(limit);
        let sleep = move |socket: UdpSocket, stop: &AtomicBool| {
            while !stop.load(Ordering::Relaxed) && monotonic_ns() < end {
                // Nothing is sent: only the timeout matters.
                let _ = socket.recv(&mut [0]);
            }
        };
        Ok(Self {
            _busy: CpuHog::start(hog)?,
            _sleeper: Worker::start("sleeper", open, sleep)?,
        })
    }
}

/// What a flood sends.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Destination.
    pub dst: SocketAddr,
    /// UDP payload.
    pub size: usize,
    /// Where the sender runs; over veth this is also where the packets are received.
    pub cpu: Option<usize>,
    /// Packets a second; `None` sends as fast as the CPU can.
    pub rate: Option<u64>,
    /// It ends by itself after this many packets
    pub count: u64,
    /// or after this long, whichever is first.
    pub limit: Duration,
}

/// A thread that sends UDP packets: over veth every one is a turn of the `NET_RX` softirq, and
/// through a slow queue every one makes those behind it wait.
pub struct UdpFlood(Worker<Flooded>);

/// What a flood did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flooded {
    /// Packets that the kernel took.
    pub sent: u64,
    /// Packets that it refused: a full queue, or nobody listening.
    pub refused: u64,
    /// In ns of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Likewise.
    pub end_ns: u64,
}

impl UdpFlood {
    /// Calls `enter` in the new thread, where it may change the network namespace, and sends.
    /// On return the socket is open and the first packet about to leave.
    pub fn start(
        enter: impl FnOnce() -> io::Result<()> + Send + 'static,
        flood: Flood,
    ) -> io::Result<Self> {
        let open = move || enter().and_then(|()| flood.open());
        Worker::start("flood", open, move |socket, stop| flood.send(&socket, stop)).map(Self)
    }

    /// Waits for its count or its time to run out.
    pub fn wait(mut self) -> Flooded {
        self.0.wait()
    }
}

impl Flood {
    fn open(&self) -> io::Result<UdpSocket> {
        if let Some(cpu) = self.cpu {
            pin(cpu)?;
        }
        let any = if self.dst.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        UdpSocket::bind(any)
    }

    fn send(&self, socket: &UdpSocket, stop: &AtomicBool) -> Flooded {
        let payload = vec![0x5a; self.size];
        let start_ns = monotonic_ns();
        let mut done = Flooded {
            start_ns,
            ..Flooded::default()
        };
        let end = start_ns + nanos(self.limit);
        while done.sent + done.refused < self.count {
            let turn = start_ns.saturating_add(self.turn_ns(done.sent + done.refused));
            if !sleep_until(turn.min(end), stop) || monotonic_ns() >= end {
                break;
            }
            match socket.send_to(&payload, self.dst) {
                Ok(_) => done.sent += 1,
                Err(_) => done.refused += 1,
            }
        }
        done.end_ns = monotonic_ns();
        done
    }

    /// From the start to the packet of this number.
    fn turn_ns(&self, number: u64) -> u64 {
        let at = self
            .rate
            .map(|rate| u128::from(number) * 1_000_000_000 / u128::from(rate.max(1)));
        at.map_or(0, |ns| u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

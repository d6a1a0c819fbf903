//! The server: its programs do the work in the kernel. User space attaches them to devices as
//! these come and go, and sends record packets to clients that cannot be stamped in band.

use crate::cli::Cli;
use crate::explain::{self, Explainer};
use crate::host::{self, ServerLock};
use crate::inband::Inband;
use crate::meter::Meter;
use crate::packet::{self, Entry, Family, RecordPacket, Version};
use crate::recorder;
use crate::reports::{self, DropReports};
use crate::socket::{Deliver, Options, ProbeSocket};
use crate::table::{REPLY, REQUEST, Table};
use crate::tracer::{Role, Setup, Storage, Tracer};
use crate::units::monotonic_ns;
use anyhow::{Context, Result, bail};
use bpf::pingtrace::types::{pt_owe, pt_owed, pt_record};
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use netns::{LinkEvent, LinkEvents, Namespace, Netlink};
use report::blame;
use report::model::{Host, Point, Stamp};
use report::text;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Requests whose replies have not left yet; a record is about 1.6 kB.
const SLOTS: u32 = 8192;
/// Record packets a second: to one client, and to all.
const SOURCE_RATE: u64 = 20_000;
const TOTAL_RATE: u64 = 50_000;
/// Clients whose rate is remembered, and local addresses that have a socket.
const MAX_SOURCES: usize = 4096;
const MAX_SOCKETS: usize = 64;

/// Runs until SIGINT, SIGTERM or the end of `-t`.
pub fn run(cli: &Cli) -> Result<()> {
    let _lock = ServerLock::take()?;
    let own = Namespace::current()
        .context("find this network namespace")?
        .inode();
    let role = Role::Server {
        host: cli.userid.unwrap_or(1),
        host_id: if cli.userid.is_some() { 0 } else { host::id() },
    };
    let local = cli.nslocal || cli.userid.is_some();
    let setup = Setup {
        role,
        explain: cli.explain,
        slots: SLOTS,
        only_netns: local.then_some(own),
        lab_clock: cli.lab_clock,
        own_netns: own,
    };
    if let Some(clock) = cli.lab_clock {
        let epoch = clock.epoch_ns;
        log::warn!("--lab-clock: stamps are wrong on purpose, from {epoch} ns of CLOCK_MONOTONIC");
    }
    let (mut storage, mut inband_storage) = (Storage::new(), MaybeUninit::uninit());
    let mut tracer = Tracer::load(&mut storage, &setup).context(NEEDS_BPF)?;
    let sockets = arrival_filters(&tracer)?;
    let mut devices = Devices::open(&mut inband_storage, &tracer, &setup, own, &cli.interface)?;
    // Last: a reply that is stamped before its device is would be owed a record packet.
    tracer.attach();
    say_points(&tracer);
    let mut recorder_storage = recorder::Storage::uninit();
    let recording = cli
        .explain
        .map(|t| explain::Start::record(&mut recorder_storage, t));
    let recording = recording.transpose()?;
    let mut meter = meter(cli, &tracer, &devices, recording.as_ref());
    let owed = RefCell::new(Vec::new());
    let ring = ring(&tracer, &owed)?;
    let mut records = Records::new(own, recording.as_ref().map(explain::Start::explainer));
    let mut signals = signals()?;
    let deadline = cli.time.map(|t| monotonic_ns() + t.as_nanos() as u64);
    let start_ns = monotonic_ns();
    log::info!("serving; stop with SIGINT or SIGTERM");
    while wait(&ring, &devices, &signals, records.wake_at(deadline))?
        || records.wake_at(None).is_some()
    {
        ring.consume()
            .context("read the ring buffer of owed records")?;
        records.send(&tracer.table, &mut owed.borrow_mut());
        devices.update()?;
        if signals.read(&mut [0; 8]).is_ok() {
            break;
        }
    }
    summarize(&tracer, &devices, &records);
    meter.most_in_use = tracer.table.waiting();
    meter.evicted = tracer.losses().evicted;
    let elapsed_ns = monotonic_ns() - start_ns;
    for line in text::own_cost(&meter.read(), elapsed_ns, [].into_iter()).lines() {
        log::info!("{line}");
    }
    drop(sockets);
    Ok(())
}

const NEEDS_BPF: &str = "the server needs BPF: run it as root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN), on a kernel with BTF";

/// Counts what the programs of both objects take, if `--debug` asks for it.
fn meter(
    cli: &Cli,
    tracer: &Tracer<'_>,
    devices: &Devices<'_>,
    recording: Option<&explain::Start<'_>>,
) -> Meter {
    let inband = devices.inband.iter().flat_map(Inband::programs);
    let recorder = recording.into_iter().flat_map(|r| r.recorder.programs());
    let programs = tracer.programs().into_iter().chain(inband).chain(recorder);
    Meter::start(SLOTS, programs.filter(|_| cli.debug).collect())
}

/// Waits for an owed record, a device, a signal or the deadline; false at the deadline.
fn wait(
    ring: &RingBuffer<'_>,
    devices: &Devices<'_>,
    signals: &UnixStream,
    deadline: Option<u64>,
) -> Result<bool> {
    let left = deadline.map(|d| Duration::from_nanos(d.saturating_sub(monotonic_ns())));
    if left == Some(Duration::ZERO) {
        return Ok(false);
    }
    let timeout = left.map(|d| Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: i64::from(d.subsec_nanos()),
    });
    let ring = ring_fd(ring);
    let mut fds = [
        PollFd::new(&ring, PollFlags::IN),
        PollFd::new(&devices.events, PollFlags::IN),
        PollFd::new(signals, PollFlags::IN),
    ];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
        Err(e) => Err(e).context("wait for events"),
    }
}

#[expect(
    unsafe_code,
    reason = "libbpf-rs gives the epoll descriptor as a number"
)]
fn ring_fd<'r>(ring: &'r RingBuffer<'_>) -> BorrowedFd<'r> {
    // SAFETY: the ring buffer owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(ring.epoll_fd()) }
}

fn ring<'r>(tracer: &'r Tracer<'_>, owed: &'r RefCell<Vec<pt_owed>>) -> Result<RingBuffer<'r>> {
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&tracer.maps().owed, move |bytes: &[u8]| {
            let word = |at: usize| {
                bytes
                    .get(at..at + 4)
                    .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            };
            let words = [0, 4, 8, 12].map(word);
            if let [Some(slot), Some(session), Some(sequence), Some(what)] = words {
                owed.borrow_mut().push(pt_owed {
                    slot,
                    session,
                    sequence,
                    what,
                });
            }
            0
        })
        .context("open the ring buffer of owed records")?;
    builder
        .build()
        .context("open the ring buffer of owed records")
}

/// A descriptor that becomes readable at SIGINT or SIGTERM.
fn signals() -> Result<UnixStream> {
    let (read, write) = UnixStream::pair().context("make the signal pipe")?;
    read.set_nonblocking(true).context("make the signal pipe")?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let write = write.try_clone().context("make the signal pipe")?;
        signal_hook::low_level::pipe::register(signal, write).context("handle signals")?;
    }
    Ok(read)
}

/// Raw sockets whose filter stands for `icmp_rcv`, where no other hook does.
fn arrival_filters(tracer: &Tracer<'_>) -> Result<Vec<ProbeSocket>> {
    let Some(program) = tracer.socket_filter() else {
        return Ok(Vec::new());
    };
    let mut sockets = Vec::new();
    for family in [Family::V4, Family::V6] {
        match ProbeSocket::open(family, &Options::default()) {
            Ok(socket) => {
                socket
                    .attach_filter(program)
                    .context("attach the arrival filter")?;
                socket
                    .deliver(Deliver::Requests)
                    .context("set the ICMP type filter")?;
                sockets.push(socket);
            }
            Err(e) => log::warn!("no {family:?} arrival stamps: {e:#}"),
        }
    }
    Ok(sockets)
}

/// The devices that replies leave by.
struct Devices<'a> {
    inband: Option<Inband<'a>>,
    events: LinkEvents,
    chosen: Vec<String>,
}

impl<'a> Devices<'a> {
    fn open(
        storage: &'a mut MaybeUninit<libbpf_rs::OpenObject>,
        tracer: &Tracer<'_>,
        setup: &Setup,
        own: u32,
        chosen: &[String],
    ) -> Result<Self> {
        let inband = Inband::load(storage, tracer, setup, own)
            .map_err(|e| log::warn!("no in-band stamps, record packets instead: {e:#}"))
            .ok();
        let events = LinkEvents::open().context("watch the network devices")?;
        let mut this = Self {
            inband,
            events,
            chosen: chosen.to_vec(),
        };
        let links = Netlink::open()?
            .links()
            .context("list the network devices")?;
        for name in chosen {
            if !links.iter().any(|l| l.name == *name) {
                bail!("there is no device {name} (-I) in this network namespace");
            }
        }
        for link in &links {
            if let Some(inband) = &this.inband {
                inband.remove_stale(link);
            }
            this.add(link);
        }
        Ok(this)
    }

    fn add(&mut self, link: &netns::Link) {
        let Some(inband) = &mut self.inband else {
            return;
        };
        let wanted = self.chosen.is_empty() || self.chosen.contains(&link.name);
        if !link.up || !wanted {
            inband.forget(link.index);
            return;
        }
        match inband.attach(link) {
            Ok(Some(how)) => log::info!("stamping replies that leave by {} ({how})", link.name),
            Ok(None) => {}
            Err(e) => log::warn!(
                "no in-band stamps on {}, record packets instead: {e:#}",
                link.name
            ),
        }
    }

    /// Follows devices that appear, go up or down, or vanish.
    fn update(&mut self) -> Result<()> {
        for event in self.events.read().context("watch the network devices")? {
            match event {
                LinkEvent::Added { link } | LinkEvent::Changed { link } => self.add(&link),
                LinkEvent::Removed { index } => {
                    if let Some(inband) = &mut self.inband {
                        inband.forget(index);
                    }
                }
                LinkEvent::Resync { links } => links.iter().for_each(|l| self.add(l)),
            }
        }
        Ok(())
    }
}

/// How long a record waits for its reply's way through further devices of this host.
const TRAVEL_NS: u64 = 2_000_000;

/// Sends what the programs owe to clients.
struct Records {
    /// The namespace whose probes are served; others have a server of their own, or none.
    own_netns: u32,
    /// By slot: session and sequence number of the last record that was sent.
    done: Vec<(u32, u32)>,
    /// Replies that have left one device and not the last one yet, and until when they are held.
    held: Vec<(u64, pt_owed)>,
    sockets: HashMap<SocketAddr, ProbeSocket>,
    limits: Limits,
    drops: DropReports,
    explainer: Option<Explainer>,
    /// Slow probes whose blame was sent.
    blamed: u64,
    sent: u64,
    limited: u64,
    failed: u64,
    /// Another probe took the record before its packet was sent.
    reused: u64,
}

/// One probe whose stamps go out.
struct Due {
    slot: u32,
    record: pt_record,
}

impl Records {
    fn new(own_netns: u32, explainer: Option<Explainer>) -> Self {
        Self {
            own_netns,
            explainer,
            blamed: 0,
            done: vec![(0, 0); SLOTS as usize],
            held: Vec::new(),
            sockets: HashMap::new(),
            limits: Limits::default(),
            drops: DropReports::new(own_netns),
            sent: 0,
            limited: 0,
            failed: 0,
            reused: 0,
        }
    }

    /// When to look again without any event.
    fn wake_at(&self, deadline: Option<u64>) -> Option<u64> {
        self.held
            .iter()
            .map(|(until, _)| *until)
            .chain(self.drops.wake_at())
            .chain(deadline)
            .min()
    }

    /// The records whose time has come, of those that are new and those that are held.
    fn due(&mut self, table: &Table, owed: &mut Vec<pt_owed>) -> Vec<Due> {
        let now = monotonic_ns();
        let mut all = std::mem::take(&mut self.held);
        for o in owed.drain(..) {
            match pt_owe(o.what) {
                pt_owe::PT_OWE_DROP => self.drops.add(now, o),
                pt_owe::PT_OWE_BLAME => self.blame(table, &o),
                _ => all.push((now + TRAVEL_NS, o)),
            }
        }
        let mut due = Vec::new();
        for (until, o) in all {
            let Some(d) = self.open_record(table, &o) else {
                continue;
            };
            if d.has_left() || now >= until {
                due.push(d);
            } else {
                self.held.push((until, o));
            }
        }
        due
    }

    /// The record that an event means, if it is still that one, not sent yet, and of a probe that
    /// this namespace answered.
    fn open_record(&mut self, table: &Table, o: &pt_owed) -> Option<Due> {
        if self.done.get(o.slot as usize)? == &(o.session, o.sequence) {
            return None;
        }
        let record = table.copy(o.slot);
        if (record.session, record.sequence) != (o.session, o.sequence) {
            self.reused += 1;
            return None;
        }
        let due = Due {
            slot: o.slot,
            record,
        };
        (answered_in(&due.record) == Some(self.own_netns)).then_some(due)
    }

    /// Tells the client of a probe that stayed long in this host who had the CPU meanwhile.
    fn blame(&mut self, table: &Table, o: &pt_owed) {
        let record = table.copy(o.slot);
        let same = (record.session, record.sequence) == (o.session, o.sequence);
        let Some(explainer) = self.explainer.as_mut().filter(|_| same) else {
            return;
        };
        // A client on this kernel sees for itself.
        let here = record.host == 0;
        if answered_in(&record) != Some(self.own_netns) || record.version == 0 || here {
            return;
        }
        let path: Vec<Stamp> = stamps(&record, 0).iter().map(at_server).collect();
        let windows = blame::windows(&path, Host::Server, explainer.least_ns());
        let blame = explainer.blame(&windows);
        let Some(message) = reports::blame_message(&record, &blame) else {
            return;
        };
        self.blamed += 1;
        let device = left_by(&record);
        let (from, to) = (
            address(&record.local, device),
            address(&record.peer, device),
        );
        self.transmit(from, to, reports::family(&record), &message);
    }

    /// One packet a probe for version 0; as many probes as fit for version 1.
    fn send(&mut self, table: &Table, owed: &mut Vec<pt_owed>) {
        let mut due = self.due(table, owed);
        due.sort_by_key(|d| (d.record.peer, d.record.session));
        let mut rest = due.as_slice();
        while let Some(first) = rest.first() {
            let most = if first.record.version == 0 {
                1
            } else {
                MAX_BATCH
            };
            let same = |d: &&Due| {
                d.record.peer == first.record.peer && d.record.session == first.record.session
            };
            let batch = rest.iter().take(most).take_while(same).count();
            let taken = self.send_some(&rest[..batch]);
            rest = &rest[taken..];
        }
        for report in self.drops.due(table, monotonic_ns()) {
            self.transmit(report.from, report.to, report.family, &report.message);
        }
    }

    /// Sends the stamps of as many of these probes of one session as fit; returns how many.
    fn send_some(&mut self, due: &[Due]) -> usize {
        let head = &due[0].record;
        let family = reports::family(head);
        let version = if head.version == 0 {
            Version::V0
        } else {
            Version::V1
        };
        let mut packet = RecordPacket::new(
            family,
            version,
            head.session,
            head.sequence,
            usize::from(head.length),
        );
        let mut taken = 0;
        for d in due {
            let back = head.sequence.wrapping_sub(d.record.sequence).cast_signed();
            let Ok(back) = i16::try_from(back) else {
                break;
            };
            let entries = stamps(&d.record, back);
            if taken > 0 && entries.len() > packet.room() {
                break;
            }
            for e in &entries {
                packet.push(e);
            }
            self.done[d.slot as usize] = (d.record.session, d.record.sequence);
            taken += 1;
        }
        let device = left_by(&due[0].record);
        self.transmit(
            address(&head.local, device),
            address(&head.peer, device),
            family,
            &packet.finish(),
        );
        taken
    }

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, family: Family, message: &[u8]) {
        if !self.limits.take(monotonic_ns(), to) {
            self.limited += 1;
            return;
        }
        match self
            .socket(from, family)
            .and_then(|s| Ok(s.send(message, &to.into())?))
        {
            Ok(()) => self.sent += 1,
            Err(e) => {
                self.failed += 1;
                log::debug!("cannot send a record packet to {}: {e:#}", to.ip());
            }
        }
    }

    /// A socket that sends from the address that was probed.
    fn socket(&mut self, from: SocketAddr, family: Family) -> Result<&ProbeSocket> {
        if self.sockets.len() >= MAX_SOCKETS && !self.sockets.contains_key(&from) {
            self.sockets.clear();
        }
        if let std::collections::hash_map::Entry::Vacant(e) = self.sockets.entry(from) {
            e.insert(ProbeSocket::sender(family, from)?);
        }
        self.sockets.get(&from).context("no socket")
    }
}

/// Probes in one record packet; their distance must fit in 16 bits.
const MAX_BATCH: usize = 64;

/// The namespace of the last device that received the request.
pub(crate) fn answered_in(record: &pt_record) -> Option<u32> {
    let mut request = entries(record, REQUEST).rev();
    let received = request.find(|e| e.point == Point::RRxDevrcv);
    received.map(|e| e.netns)
}

/// The first device that the reply left by; 0 if that was not seen.
pub(crate) fn left_by(record: &pt_record) -> u32 {
    let mut reply = entries(record, REPLY);
    let queued = reply.find(|e| e.point == Point::RTxDevqueue);
    queued.map_or(0, |e| e.ifindex)
}

impl Due {
    /// The reply was last seen with a driver; or the client is on this kernel, and the reply's
    /// further way is its own.
    fn has_left(&self) -> bool {
        let last = entries(&self.record, REPLY).next_back();
        self.record.host == 0 || last.is_some_and(|e| e.point == Point::RTxDevout)
    }
}

fn entries(record: &pt_record, direction: usize) -> impl DoubleEndedIterator<Item = Entry> + '_ {
    let used = usize::from(record.used[direction]);
    let stamps = record.stamp[direction].iter().take(used);
    stamps.filter_map(packet::from_record)
}

/// All stamps of a record, for a packet whose probe is so many sequence numbers younger.
pub(crate) fn stamps(record: &pt_record, back: i16) -> Vec<Entry> {
    entries(record, REQUEST)
        .chain(entries(record, REPLY))
        .map(|e| Entry { back, ..e })
        .collect()
}

/// A stamp of this host.
fn at_server(e: &Entry) -> Stamp {
    Stamp {
        point: e.point,
        host: Host::Server,
        ns: e.time,
        cpu: e.cpu,
        ifindex: e.ifindex,
        netns: e.netns,
    }
}

/// An address of a record; a link-local one means a host only together with a device.
pub(crate) fn address(words: &[u32; 4], device: u32) -> SocketAddr {
    let mut octets = [0; 16];
    for (chunk, word) in octets.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    match Ipv6Addr::from(octets).to_canonical() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, device).into(),
        ip => SocketAddr::new(ip, 0),
    }
}

/// What keeps a flood of requests from becoming a flood of record packets.
#[derive(Debug, Default)]
struct Limits {
    sources: HashMap<SocketAddr, Bucket>,
    total: Bucket,
}

impl Limits {
    /// Whether one more packet may go to this client now.
    fn take(&mut self, now: u64, to: SocketAddr) -> bool {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&to) {
            self.sources.clear();
        }
        let source = self.sources.entry(to).or_default();
        source.take(now, SOURCE_RATE) && self.total.take(now, TOTAL_RATE)
    }
}

/// A token bucket that holds a tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When the bucket would have been empty, monotonic ns.
    empty_ns: u64,
}

impl Bucket {
    fn take(&mut self, now: u64, per_second: u64) -> bool {
        const BURST_NS: u64 = 100_000_000;
        let empty = self.empty_ns.max(now.saturating_sub(BURST_NS));
        let after = empty + crate::units::SECOND / per_second;
        if after > now {
            return false;
        }
        self.empty_ns = after;
        true
    }
}

fn say_points(tracer: &Tracer<'_>) {
    for (point, why) in &tracer.missing {
        log::warn!("{} cannot be stamped here: {why}", point.name());
    }
    let list: Vec<String> = tracer
        .points
        .iter()
        .map(|(p, hook)| format!("{} ({hook})", p.name()))
        .collect();
    log::debug!("points: {}", list.join(", "));
}

fn summarize(tracer: &Tracer<'_>, devices: &Devices<'_>, records: &Records) {
    let (written, inband) = devices
        .inband
        .as_ref()
        .map(Inband::counts)
        .unwrap_or_default();
    log::info!(
        "{written} replies stamped in band, {} record packets sent",
        records.sent
    );
    if records.explainer.is_some() {
        log::info!("{} slow probes explained", records.blamed);
    }
    let kernel = tracer.losses();
    let losses = [
        (
            "record packets held back by the rate limit",
            records.limited,
        ),
        ("record packets that could not be sent", records.failed),
        (
            "records reused before their packet was sent",
            records.reused,
        ),
        ("stamps beyond 32 a direction", kernel.stamp_overflow),
        ("records reused before their reply left", kernel.evicted),
        (
            "record packets forgotten: ring buffer full",
            kernel.owed_overflow,
        ),
        ("stamps for which a reply had no room", inband.no_room),
        (
            "sessions that displaced another",
            inband.session_evicted + kernel.session_evicted,
        ),
        (
            "dropped probes that no client was told of",
            records.drops.forgotten,
        ),
        (
            "slow probes that were not explained: too many at once",
            records.explainer.as_ref().map_or(0, |e| e.skipped),
        ),
    ];
    for (what, count) in losses.into_iter().filter(|(_, n)| *n > 0) {
        log::warn!("{what}: {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let start = 10 * crate::units::SECOND;
        let burst = (0..1000).filter(|_| bucket.take(start, 1000)).count();
        assert_eq!(burst, 100);
        let later = start + crate::units::SECOND / 100;
        assert_eq!((0..1000).filter(|_| bucket.take(later, 1000)).count(), 10);
    }

    #[test]
    fn many_sources_share_one_limit_and_little_memory() {
        let mut limits = Limits::default();
        let start = 10 * crate::units::SECOND;
        let client = |n: usize| SocketAddr::new(Ipv6Addr::from(n as u128).into(), 0);
        let burst = |limits: &mut Limits, now, sources: usize, each: usize| {
            let asked = (0..sources * each).map(|n| client(n % sources));
            asked.filter(|to| limits.take(now, *to)).count() as u64
        };
        assert_eq!(burst(&mut limits, start, 1, 9_000), SOURCE_RATE / 10);
        let rest = (TOTAL_RATE - SOURCE_RATE) / 10;
        assert_eq!(burst(&mut limits, start, 90_000, 1), rest);
        assert!(limits.sources.len() <= MAX_SOURCES);
        let later = start + crate::units::SECOND / 100;
        assert_eq!(burst(&mut limits, later, 9_000, 1), TOTAL_RATE / 100);
    }

    #[test]
    fn addresses_are_mapped_back() {
        let v4 = [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([10, 0, 0, 1])];
        assert_eq!(address(&v4, 3), "10.0.0.1:0".parse().unwrap());
    }

    #[test]
    fn link_local_addresses_have_their_device() {
        let link_local = [0xfe80_0000_u32.to_be(), 0, 0, 1_u32.to_be()];
        assert_eq!(address(&link_local, 3), "[fe80::1%3]:0".parse().unwrap());
    }
}

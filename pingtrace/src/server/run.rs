//! The server: its programs do the work in the kernel. User space attaches them to devices as
//! these come and go, and sends stamp packets to clients that cannot be stamped in band.

use super::Args;
use super::args::Linger;
use super::arming::{Arming, Hooks};
use super::clients::Clients;
use super::devices::Devices;
use super::keys::ServerKeys;
use super::names::Names;
use super::published::{self, Published};
use super::refused::{self, RefusedSources};
use super::stamp_sender::{SLOTS, StampSender};
use crate::capture::explain;
use crate::control::Control;
use crate::kernel::confine::{Mode, confine};
use crate::kernel::host::{self, ServerLock};
use crate::kernel::meter::Meter;
use crate::kernel::object::{self, Storage};
use crate::kernel::privileges;
use crate::kernel::tracer::{Role, Setup, Tracer};
use crate::output::metrics::Board;
use crate::output::story;
use crate::server::inband::Inband;
use crate::units::monotonic_ns;
use crate::wire::entry::TRANSIT;
use crate::wire::protocol::Family;
use crate::wire::socket::{Deliver, Options, ProbeSocket};
use anyhow::{Context, Result};
use bpf::pingtrace::types::pt_pending;
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use netns::Namespace;
use report::format::metrics::ServerView;
use report::model::Netns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Runs until a signal or the end of `-t`; puts its numbers on the board, if there is one.
pub fn run(args: &Args, control: &Control, board: Option<&Arc<Board>>) -> Result<()> {
    privileges::SERVER.check("the server")?;
    let _lock = ServerLock::take()?;
    let own = Namespace::current().context("find this network namespace")?;
    let own = Netns(own.inode());
    let setup = setup(args, own)?;
    let (mut storage, mut inband_storage) = (object::storages(), Storage::uninit());
    let mut tracer = Tracer::load(&mut storage, &setup)?;
    args.access.list(&tracer.maps().peers)?;
    let mut keys = ServerKeys::new(&tracer, args.key_file.as_ref())?;
    let sockets = arrival_filters(&tracer)?;
    let mut devices = Devices::open(&mut inband_storage, &tracer, &setup, own, args)?;
    // Last: a reply that is stamped before its device is would leave a stamp packet pending.
    tracer.attach();
    if let Some(inband) = &mut devices.inband {
        inband.tracer_started(&setup);
    }
    log_points(&tracer);
    args.warn_of_trust();
    warn_of_ignored_echo();
    let mut recorder_storage = Storage::uninit();
    let recording = args
        .explain
        .map(|t| explain::Start::record(&mut recorder_storage, t));
    let recording = recording.transpose()?;
    let mut meter = meter(args, &tracer, &devices, recording.as_ref());
    let pending = RefCell::new(Vec::new());
    let ring = ring(&tracer, &pending)?;
    let explainer = recording.as_ref().map(explain::Start::explainer);
    let (names_of, clients) = (names(&setup, &devices)?, Clients::new(&tracer)?);
    let mut sender = StampSender::new(
        own,
        explainer,
        names_of,
        keys.keys(),
        clients,
        args.access.v0,
    );
    let mut refused = RefusedSources::new(&tracer)?;
    let mut hooks = Hooks {
        tracer,
        devices,
        recording,
        ticks: explain::Ticks::default(),
        setup,
    };
    let mut signals = control.wake()?;
    let names = args.sends_names();
    confine(Mode::Server { names }, &[], &keys.directories())?;
    let linger = linger(args, &sockets, &hooks.devices);
    let mut arming = Arming::start(linger, &mut hooks);
    story::date_lines();
    let start_ns = monotonic_ns();
    let mut timer = Timer::new(args, start_ns);
    let mut published = Published::new(board);
    log::info!("serving; stop with SIGINT or SIGTERM");
    control.part().begins(&status(&arming, &sender));
    while !timer.is_over() || sender.wake_at(None).is_some() {
        let due = [
            arming.wake_at(),
            published.wake_at(),
            control.part().wake_at(),
        ];
        let due = due.into_iter().flatten();
        let until = timer.wake_at(sender.wake_at(due.min()));
        wait(&ring, &hooks.devices, &signals, until)?;
        ring.consume()
            .context("read the ring buffer of pending stamps")?;
        arming.update(&mut hooks);
        hooks.follow_receivers();
        sender.send(&hooks.tracer.table, &mut pending.borrow_mut());
        if std::mem::take(&mut sender.other_key)
            && let Some(line) = refused.new_other_keys()
        {
            log::warn!("{line}");
        }
        follow_devices(&mut hooks, &mut sender);
        // Several signals at once are one wake-up: their flags say what they ask for.
        let _ = signals.read(&mut [0; 64]);
        let asked = control.asked();
        if asked.reopen {
            reread(&mut keys, &mut sender, &mut refused);
            control.part().reloaded();
        }
        if asked.summary | timer.is_report_due() {
            report(&hooks, &mut sender, &mut refused);
            summarize(&hooks, &arming, &sender);
        }
        let now = monotonic_ns();
        published.publish(now, || view(&hooks, &sender, &arming));
        let status = || Some(status(&arming, &sender));
        control.part().goes_on(now, status);
        if control.stopped() {
            break;
        }
    }
    control.part().stops();
    summarize(&hooks, &arming, &sender);
    meter.most_in_use = hooks.tracer.table.waiting();
    meter.evicted = hooks.tracer.losses().evicted;
    meter.log(monotonic_ns() - start_ns);
    drop(sockets);
    Ok(())
}

/// Takes devices that have come or gone.
fn follow_devices(hooks: &mut Hooks<'_>, sender: &mut StampSender) {
    match hooks.devices.update() {
        Ok(any) => sender.devices_changed(any),
        Err(e) => log::warn!("{e:#}; a device that has come or gone may be missed"),
    }
}

/// Reads the file of keys again.
fn reread(keys: &mut ServerKeys, sender: &mut StampSender, refused: &mut RefusedSources) {
    if keys.reread() {
        sender.keys = keys.keys();
        refused.keys_changed();
    }
}

/// How long it may stay armed. Without a socket nothing would arm it again, and where programs come and go by
/// other means than links, not all of them can be attached twice (fentry before Linux 5.13).
fn linger(args: &Args, sockets: &[ProbeSocket], devices: &Devices<'_>) -> Linger {
    let why = if sockets.is_empty() {
        "without a raw ICMP socket no request would arm this server"
    } else if devices.inband.as_ref().is_some_and(Inband::has_filters) {
        "this kernel has no TCX links (Linux 6.6)"
    } else {
        return args.linger;
    };
    if args.linger != Linger::Always {
        log::info!("always armed: {why}");
    }
    Linger::Always
}

/// What the programs are to stamp; `own` is this network namespace.
fn setup(args: &Args, own: Netns) -> Result<Setup> {
    let role = Role::Server {
        host: args.userid.unwrap_or(1),
        knows_local: args.userid.is_none(),
        trust: args.access.trust()?,
        // A number by chance, which says nothing of the host, or what the user set.
        on_the_way: TRANSIT | args.userid.unwrap_or(host::secret::<1>()?[0] as u16 | 1),
    };
    let local = args.nslocal || args.userid.is_some();
    if let Some(epoch) = args.lab_clock.map(|clock| clock.epoch_ns) {
        log::warn!("--lab-clock: stamps are wrong on purpose, from {epoch} ns of CLOCK_MONOTONIC");
    }
    Ok(Setup {
        role,
        explain: args.explain,
        slots: SLOTS,
        only_netns: local.then_some(own),
        lab_clock: args.lab_clock,
        own_netns: own,
        send_names: args.sends_names(),
    })
}

/// What names are sent from, if any are.
fn names(setup: &Setup, devices: &Devices<'_>) -> Result<Option<Names>> {
    if !setup.send_names {
        return Ok(None);
    }
    let map = devices.inband.as_ref().map(Inband::names).transpose()?;
    Ok(Some(Names::new(map)))
}

/// Counts what the programs of both objects take, if `--debug` asks for it.
fn meter(
    args: &Args,
    tracer: &Tracer<'_>,
    devices: &Devices<'_>,
    recording: Option<&explain::Start<'_>>,
) -> Meter {
    let inband = devices.inband.iter().flat_map(Inband::programs);
    let recorder = recording.into_iter().flat_map(|r| r.recorder.programs());
    let programs = tracer.programs().into_iter().chain(inband).chain(recorder);
    Meter::start(SLOTS, programs.filter(|_| args.debug).collect())
}

/// When the server ends, and when it reports whom it serves: `CLOCK_MONOTONIC`, ns.
struct Timer {
    end: Option<u64>,
    interval: u64,
    report: Option<u64>,
}

impl Timer {
    fn new(args: &Args, now: u64) -> Self {
        let after = |t: Duration| now.saturating_add(t.as_nanos() as u64);
        let interval = args.stat_interval.filter(|t| !t.is_zero());
        Self {
            end: args.time.map(after),
            interval: interval.map_or(0, |t| t.as_nanos() as u64),
            report: interval.map(after),
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| monotonic_ns() >= end)
    }

    /// The next of its times and another one.
    fn wake_at(&self, other: Option<u64>) -> Option<u64> {
        let end = self.end.filter(|_| !self.is_over());
        [end, self.report, other].into_iter().flatten().min()
    }

    /// Whether a report is due now; missed ones are left out.
    fn is_report_due(&mut self) -> bool {
        let now = monotonic_ns();
        let Some(due) = self.report.filter(|due| now >= *due) else {
            return false;
        };
        let missed = (now - due) / self.interval;
        let next = self.interval.saturating_mul(missed + 1);
        self.report = Some(due.saturating_add(next));
        true
    }
}

/// Waits for pending stamps, a device, a signal or the time, `CLOCK_MONOTONIC` ns.
fn wait(
    ring: &RingBuffer<'_>,
    devices: &Devices<'_>,
    signals: &UnixStream,
    until: Option<u64>,
) -> Result<()> {
    let timeout = until.map(|until| {
        let left = Duration::from_nanos(until.saturating_sub(monotonic_ns()));
        Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    });
    let ring = ring_fd(ring);
    let mut fds = [
        PollFd::new(&ring, PollFlags::IN),
        PollFd::new(&devices.events, PollFlags::IN),
        PollFd::new(signals, PollFlags::IN),
    ];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
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

fn ring<'p>(tracer: &Tracer<'_>, pending: &'p RefCell<Vec<pt_pending>>) -> Result<RingBuffer<'p>> {
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&tracer.maps().pending, move |bytes: &[u8]| {
            let word = |at: usize| {
                bytes
                    .get(at..at + 4)
                    .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            };
            let words = [0, 4, 8, 12].map(word);
            if let [Some(slot), Some(session), Some(sequence), Some(what)] = words {
                pending.borrow_mut().push(pt_pending {
                    slot,
                    session,
                    sequence,
                    what,
                });
            }
            0
        })
        .context("open the ring buffer of pending stamps")?;
    builder
        .build()
        .context("open the ring buffer of pending stamps")
}

/// Raw sockets whose filter replaces the hook at `icmp_rcv`, if there is no other.
pub fn arrival_filters(tracer: &Tracer<'_>) -> Result<Vec<ProbeSocket>> {
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

/// Its kernel takes such a request without a word, and this server sends nothing to an address that it never
/// answered: a client on another host cannot know.
fn warn_of_ignored_echo() {
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        if host::ignores_echo(family) {
            log::warn!(
                "this namespace ignores all echo requests of {name}: no such probe is answered"
            );
        }
    }
}

fn log_points(tracer: &Tracer<'_>) {
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

/// What was not sent, by reason, and how near the rates came to their limits.
fn log_withheld(sender: &StampSender) {
    for (why, count) in sender.withheld.all().filter(|(_, count)| *count > 0) {
        log::info!("stamp packets withheld, {}: {count}", why.describe());
    }
    if sender.cookies > 0 {
        log::info!("packets with a cookie alone: {}", sender.cookies);
    }
    let [one, all] = sender.limits.most_percent();
    if all > 0 {
        log::info!("rate limits in use: at most {one} % of one client's, {all} % of that of all");
    }
}

fn summarize(hooks: &Hooks<'_>, arming: &Arming, sender: &StampSender) {
    let (tracer, devices) = (&hooks.tracer, &hooks.devices);
    log::info!("{}", arming.line(monotonic_ns(), tracer.unarmed()));
    let inband = devices.inband.as_ref().map(Inband::counts);
    let written = inband.unwrap_or_default().0;
    log::info!(
        "{written} replies stamped in band, {} stamp packets sent",
        sender.sent
    );
    if sender.explainer.is_some() {
        log::info!("{} slow probes explained", sender.blamed);
    }
    log_withheld(sender);
    for (what, count) in losses(hooks, sender) {
        log::warn!("{what}: {count}");
    }
    for (what, count) in refused::by_cause(&tracer.refused()) {
        log::warn!("requests {what}: {count}");
    }
}

/// For the service manager.
fn status(arming: &Arming, sender: &StampSender) -> String {
    let sessions = sender.clients.count_served();
    format!("server: {}, {sessions} sessions", arming.state())
}

/// Whom it serves and whom it refuses.
fn report(hooks: &Hooks<'_>, sender: &mut StampSender, refused: &mut RefusedSources) {
    let (served, refused) = (
        sender.clients.report(),
        refused.report(&hooks.tracer.refused()),
    );
    let lines = served.iter().chain(&refused);
    lines.for_each(|line| log::info!("{line}"));
}

/// What was lost, where something was.
fn losses(hooks: &Hooks<'_>, sender: &StampSender) -> impl Iterator<Item = (&'static str, u64)> {
    let (tracer, devices) = (&hooks.tracer, &hooks.devices);
    let inband = devices.inband.as_ref().map(Inband::counts);
    let inband = inband.unwrap_or_default().1;
    let kernel = tracer.losses();
    let losses = [
        ("stamp packets that could not be sent", sender.failed),
        ("slots reused before their packet was sent", sender.reused),
        ("stamps beyond 32 a direction", kernel.stamp_overflow),
        ("slots reused before their reply left", kernel.evicted),
        (
            "slots reused before their late stamps were sent",
            kernel.evicted_late,
        ),
        (
            "likewise, of sources that returned no cookie",
            kernel.evicted_stranger,
        ),
        ("requests of such sources without a slot", kernel.no_slot),
        (
            "stamp packets forgotten: ring buffer full",
            kernel.pending_overflow,
        ),
        ("stamps for which a reply had no room", inband.no_room),
        ("sessions that were displaced", kernel.session_evicted),
        (
            "sessions without an entry, of sources that returned no cookie",
            kernel.no_session,
        ),
        (
            "namespaces and devices without room for their names",
            sender.nameless(),
        ),
        (
            "dropped probes that no client was told of",
            sender.drops.forgotten,
        ),
        (
            "slow probes that were not explained: too many at once",
            sender.explainer.as_ref().map_or(0, |e| e.skipped),
        ),
    ];
    losses.into_iter().filter(|(_, count)| *count > 0)
}

/// For the metrics.
fn view(hooks: &Hooks<'_>, sender: &StampSender, arming: &Arming) -> ServerView {
    let refused = hooks.tracer.refused();
    let lost = losses(hooks, sender).chain(refused::by_cause(&refused));
    let arming = arming.view(monotonic_ns(), hooks.tracer.unarmed());
    published::view(hooks.devices.inband.as_ref(), sender, lost, arming)
}

//! What a client and a server can do here: their programs are loaded and attached, and probes of this process
//! cross the loopback of a network namespace of its own.

use crate::diag::trial::hooks;
use crate::kernel::host;
use crate::kernel::meter;
use crate::kernel::object::{self, Storage, Storages};
use crate::kernel::privileges::{DEVICES, RUN_TIMES};
use crate::kernel::targets::TargetSlots;
use crate::kernel::tracer::{Role, Setup, Tracer, Trust};
use crate::server::arrival_filters;
use crate::server::inband::Inband;
use crate::units::monotonic_ns;
use crate::wire::entry::TRANSIT;
use crate::wire::number::Sequence;
use crate::wire::probe::Probe;
use crate::wire::protocol::Family;
use crate::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use crate::wire::stamp_return::StampReturn;
use anyhow::{Context as _, Result};
use netns::{Guard, Namespace, Netlink};
use report::model::{Hook, HookUser, Netns, Point};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

/// Probes that are measured.
const PROBES: u32 = 200;
/// Echo requests with a wrong checksum, which the kernel drops: so the program for drops runs, too.
const BROKEN: u32 = 20;
/// Time between two probes: this process sleeps, so its wake-ups are measured.
const INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of the ICMP message.
const SIZE: usize = 556;
/// The program of the server that stamps by a filter on a raw socket.
const SOCKET_FILTER: &str = "server_socket";
/// For a reply, this many times [`RECEIVE_TICK`](crate::wire::socket::RECEIVE_TICK) are waited: a second.
const MAX_TICKS: u32 = 50;
/// With so many unanswered ones no more are sent.
const ENOUGH_LOST: u32 = 3;
/// Slots for probes in flight.
const SLOTS: u32 = 512;

/// What came of it.
pub struct Trial {
    /// A raw socket; else why not.
    pub raw: Result<(), String>,
    /// A ping socket; else why not.
    pub ping: Result<(), String>,
    /// The client's programs.
    pub client: Result<Seen, String>,
    /// The server's.
    pub server: Result<Seen, String>,
    /// How replies are stamped in place; an error: why not.
    pub inband: Result<&'static str, String>,
    /// Whether the kernel counts the run times of programs; else why not.
    pub counted: Result<(), String>,
    /// Probes sent, and answered.
    pub probes: Option<(u32, u32)>,
}

/// What the programs of a role see.
#[derive(Default)]
pub struct Seen {
    /// Hooks with their cost, those that stamp a point first.
    pub hooks: Vec<Hook>,
    /// Points that are not stamped, and why.
    pub missing: Vec<(Point, String)>,
    /// Points that are stamped.
    pub points: usize,
}

impl Seen {
    /// No raw socket that a filter program could be attached to.
    fn without_socket(&mut self) {
        let is_filter = |hook: &&Hook| hook.program.as_deref() == Some(SOCKET_FILTER);
        if let Some(point) = self
            .hooks
            .iter()
            .find(is_filter)
            .and_then(|hook| hook.point)
        {
            self.hooks.retain(|hook| !is_filter(&hook));
            self.points -= 1;
            let why = "no hook at icmp_rcv, and no raw socket for a filter".to_owned();
            self.missing.push((point, why));
        }
    }
}

/// Where the probes are sent.
struct Place {
    netns: Netns,
    /// In a namespace of its own until this is dropped.
    own: Option<Guard>,
    /// Why not in one of its own.
    why: String,
}

impl Place {
    /// A fresh namespace with its loopback up, else that of this thread.
    fn find() -> Result<Self> {
        let fresh = || -> netns::Result<(Guard, Netns)> {
            let namespace = Namespace::anonymous()?;
            let guard = namespace.enter()?;
            let mut netlink = Netlink::open()?;
            let loopback = netlink.link_named("lo")?.index;
            netlink.set_up(loopback)?;
            Ok((guard, Netns(namespace.inode())))
        };
        match fresh() {
            Ok((guard, netns)) => Ok(Self {
                netns,
                own: Some(guard),
                why: String::new(),
            }),
            Err(e) => Ok(Self {
                netns: Netns(Namespace::current()?.inode()),
                own: None,
                why: e.to_string(),
            }),
        }
    }
}

/// Tries everything; leaves nothing behind.
pub fn run(counting: &Result<OwnedFd, String>) -> Result<Trial> {
    let session = host::session()?;
    // Who may have one is a setting of this namespace.
    let ping = ProbeSocket::ping(Family::V4, &Options::default(), session.id(0));
    let place = Place::find().context("find this network namespace")?;
    let (mut storage, mut server_storage) = (object::storages(), object::storages());
    let mut inband_storage = Storage::uninit();
    let mut client = Client::load(&mut storage, &place);
    let mut server = Server::load(&mut server_storage, &mut inband_storage, &place);
    client.attach()?;
    server.attach(client.socket.is_ok(), &place);
    let counted = counting.as_ref().map(drop).map_err(Clone::clone);
    let probes = counted.is_ok().then(|| client.probe(&place));
    Ok(Trial {
        raw: client.socket.as_ref().map(drop).map_err(Clone::clone),
        ping: ping.map(drop).map_err(|e| said(&e)),
        server: server.seen(client.socket.is_ok()),
        client: client.tracer.map(|tracer| seen(HookUser::Client, &tracer)),
        inband: server.stamps,
        counted,
        probes: probes.flatten(),
    })
}

/// What a client has here.
struct Client<'a> {
    socket: Result<ProbeSocket, String>,
    tracer: Result<Tracer<'a>, String>,
}

impl<'a> Client<'a> {
    fn load(storage: &'a mut Storages, place: &Place) -> Self {
        let socket = ProbeSocket::open(Family::V4, &Options::default());
        Self {
            socket: socket.map_err(|e| said(&e)),
            tracer: load(storage, &setup(Role::Client { targets: 1 }, place)),
        }
    }

    fn attach(&mut self) -> Result<()> {
        let Ok(tracer) = &mut self.tracer else {
            return Ok(());
        };
        if let (Ok(socket), Some(filter)) = (&self.socket, tracer.socket_filter()) {
            let attached = socket.attach_filter(filter);
            attached.context("attach the filter to the client's socket")?;
        }
        tracer.attach();
        Ok(())
    }

    /// Sends probes over the loopback; how many, and how many were answered.
    fn probe(&self, place: &Place) -> Option<(u32, u32)> {
        let (Ok(socket), Ok(tracer)) = (&self.socket, &self.tracer) else {
            return None;
        };
        let target = tracer.targets().and_then(|mut all| all.add(SLOTS)).ok()?;
        Some(probe(socket, &target?, place))
    }
}

/// What a server has here.
struct Server<'a> {
    tracer: Result<Tracer<'a>, String>,
    inband: Result<Inband<'a>, String>,
    /// How it stamps replies in place; an error: why not.
    stamps: Result<&'static str, String>,
    /// Sockets whose filters stand for a hook at ICMP.
    filters: Result<Vec<ProbeSocket>>,
}

impl<'a> Server<'a> {
    fn load(storage: &'a mut Storages, inband: &'a mut Storage, place: &Place) -> Self {
        let setup = setup(server_role(), place);
        let tracer = load(storage, &setup);
        let inband = tracer.as_ref().map_err(Clone::clone).and_then(|tracer| {
            let inband = Inband::load(inband, tracer, &setup, place.netns);
            inband.map_err(|e| said(&e))
        });
        Self {
            tracer,
            inband,
            stamps: Err(String::new()),
            filters: Ok(Vec::new()),
        }
    }

    /// In the order of a server, whose devices are stamped before requests are seen.
    fn attach(&mut self, has_socket: bool, place: &Place) {
        let inband = self.inband.as_mut().map_err(|e| e.clone());
        self.stamps = inband.and_then(|i| attach_inband(i, place).map_err(|e| said(&e)));
        let Ok(tracer) = &mut self.tracer else { return };
        if has_socket {
            self.filters = arrival_filters(tracer);
        }
        tracer.attach();
        if let Ok(inband) = &mut self.inband {
            inband.tracer_started(&setup(server_role(), place));
        }
    }

    fn seen(&self, has_socket: bool) -> Result<Seen, String> {
        let tracer = self.tracer.as_ref().map_err(Clone::clone)?;
        let mut seen = seen(HookUser::Server, tracer);
        if !has_socket || self.filters.is_err() {
            seen.without_socket();
        }
        if let (Ok(inband), Ok(how)) = (&self.inband, &self.stamps) {
            let hooks = hooks(HookUser::Server, &inband.programs()).into_iter();
            // One for devices with Ethernet headers, one for the others.
            let ran = hooks.filter(|hook| hook.cost.is_some());
            seen.hooks.extend(ran.map(|hook| Hook {
                hook: format!("{how}/egress"),
                ..hook
            }));
        }
        Ok(seen)
    }
}

/// Starts to count run times.
pub fn count() -> Result<OwnedFd, String> {
    if !RUN_TIMES.is_held() {
        return Err(format!("needs {RUN_TIMES}"));
    }
    meter::count_run_times().map_err(|e| netns::reason(&e))
}

fn server_role() -> Role {
    Role::Server {
        host: 1,
        knows_local: true,
        trust: Trust {
            open: true,
            ..Trust::default()
        },
        on_the_way: TRANSIT | 1,
    }
}

fn setup(role: Role, place: &Place) -> Setup {
    Setup {
        role,
        explain: None,
        slots: SLOTS,
        only_netns: Some(place.netns),
        lab_clock: None,
        own_netns: place.netns,
        send_names: false,
    }
}

fn load<'a>(storage: &'a mut Storages, setup: &Setup) -> Result<Tracer<'a>, String> {
    Tracer::load(storage, setup).map_err(|e| said(&e))
}

fn said(error: &anyhow::Error) -> String {
    netns::without_numbers(&format!("{error:#}"))
}

/// Only in a namespace of its own: in another one it would be beside a running server.
fn attach_inband(inband: &mut Inband<'_>, place: &Place) -> Result<&'static str> {
    if !DEVICES.is_held() {
        anyhow::bail!("needs {DEVICES}");
    }
    if place.own.is_none() {
        anyhow::bail!("not tried: {}", place.why);
    }
    let loopback = Netlink::open()?.link_named("lo")?;
    let how = inband.attach(&loopback)?;
    how.context("attached twice")
}

fn probe(socket: &ProbeSocket, target: &TargetSlots, place: &Place) -> (u32, u32) {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    let asks = StampReturn::Inband;
    let (version, flags) = (asks.version(), asks.flags());
    let mut probe = Probe::new(Family::V4, version, target.session, SIZE, flags);
    let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
    let (mut sent, mut answered) = (0, 0);
    for sequence in (0..PROBES).map(Sequence) {
        let now = monotonic_ns();
        target.table.prepare(target.session, sequence, now);
        if socket.send(probe.at(sequence, now), &to).is_err() {
            continue;
        }
        sent += 1;
        if is_answered(socket, &mut buffer) {
            answered += 1;
        } else if sent - answered >= ENOUGH_LOST {
            break;
        }
        thread::sleep(INTERVAL);
    }
    // What is dropped on purpose would be counted by others as well, so in a namespace of its own only.
    let broken = if place.own.is_some() { BROKEN } else { 0 };
    for _ in 0..broken {
        let mut message = probe.at(Sequence(PROBES), monotonic_ns()).to_vec();
        message[2] ^= 1;
        let _ = socket.send(&message, &to);
    }
    (sent, answered)
}

/// Waits for a reply; usually it is there when the send returns.
fn is_answered(socket: &ProbeSocket, buffer: &mut [MaybeUninit<u8>]) -> bool {
    let has_reply = |_| matches!(socket.receive(buffer), Ok((Received::Reply(_), _)));
    (0..MAX_TICKS).any(has_reply)
}

fn seen(user: HookUser, tracer: &Tracer<'_>) -> Seen {
    let mut hooks = hooks(user, &tracer.programs());
    let mut points = tracer.points.clone();
    points.sort_by_key(|(point, _)| Point::PATH.iter().position(|p| p == point));
    let of_points: Vec<Hook> = points
        .iter()
        .filter_map(|(point, hook)| {
            let program = tracer.program_of(*point)?;
            let its = hooks
                .iter()
                .find(|h| h.program.as_deref() == Some(program))?;
            Some(Hook {
                point: Some(*point),
                hook: hook.clone(),
                ..its.clone()
            })
        })
        .collect();
    hooks.retain(|hook| of_points.iter().all(|of| of.program != hook.program));
    // What is loaded for another family, or is attached to the threads of a device, did not run; what this process
    // calls itself is no hook.
    hooks.retain(|hook| hook.cost.is_some() && hook.hook != "syscall");
    Seen {
        missing: tracer.missing.clone(),
        points: of_points.len(),
        hooks: [of_points, hooks].concat(),
    }
}

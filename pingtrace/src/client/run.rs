//! The client: an open-loop sender, a receiver, and their agreement with the server.
//!
//! Probe k of a target leaves at t0 + k x interval whatever the replies do, so a slow reply never hides the
//! probes behind it (no coordinated omission). The sender has a thread of its own and shares only
//! the table of slots and a few counters with the receiver. An adaptive run (`-A`) sends from the
//! receiving thread instead, one probe at each reply. All targets share the programs, both threads, and a
//! socket for each address family.

use super::args::Args;
use super::due::Phases;
use super::echo::Echo;
use super::joining::{Board, Joining};
use super::plan::{self, Memory, Plan, this_netns};
use super::receiver::Receiver;
use super::sender::Sender;
use super::target::Ended;
use super::target_list::{self, TargetList, Updates};
use super::this_host::ThisHost;
use crate::capture::{explain, moved};
use crate::control::Control;
use crate::exit::Outcome;
use crate::kernel::confine::{Mode, allow_drivers, confine};
use crate::kernel::host;
use crate::kernel::meter::Meter;
use crate::kernel::object::{self, Storage, Storages};
use crate::kernel::privileges;
use crate::kernel::targets::Targets;
use crate::kernel::tracer::{Role, Setup, Tracer};
use crate::options::Origin;
use crate::output::files::directory;
use crate::output::live;
use crate::output::run::{Outputs, Source, Wanted};
use crate::output::story;
use crate::units::monotonic_ns;
use crate::wire::flows::Flows;
use crate::wire::protocol::Family;
use crate::wire::socket::ProbeSocket;
use anyhow::{Context, Result, ensure};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

/// Runs one capture; whatever way it ends, its statistics are written.
pub fn run(args: &Args, control: &Control, board: Board<'_>) -> Result<Outcome> {
    target_list::check(args)?;
    if args.live {
        live::check(&args.results.output, Origin::LiveRun)?;
    }
    let mut list = TargetList::new(args);
    let plans = match &mut list {
        Some(list) => list.update()?.join,
        None => vec![Plan::new(args)?],
    };
    ensure!(
        !plans.is_empty() || list.as_ref().is_some_and(TargetList::is_file),
        "no target can be probed"
    );
    let wanted = Wanted {
        results: &args.results,
        threshold_ns: args.threshold.as_nanos() as u64,
        targets: list.as_ref().map(|_| plans.len()),
        live: args.live,
    };
    let outputs = Outputs::start(&wanted, Source::Live(control.part().pulse()))?;
    let ended = capture(args, plans, list, control, (&outputs, board))?;
    outputs.finish()?;
    let judged = |ended: Ended| {
        let _about = ended.name.as_ref().map(story::about);
        let has_missed = ended.judged.iter().any(|judged| !judged.met);
        Ok((ended.outcome?.judged(&ended.judged), has_missed))
    };
    Outcome::of_all(ended.into_iter().map(judged))
}

fn capture(
    args: &Args,
    plans: Vec<Plan>,
    list: Option<TargetList>,
    control: &Control,
    (outputs, board): (&Outputs, Board<'_>),
) -> Result<Vec<Ended>> {
    let room = Room::for_targets(&plans, list.as_ref());
    let id = host::session()?.id(0);
    let sockets = sockets(args, id, &plans, list.as_ref())?;
    let mut storage = object::storages();
    let setup = setup(args, &room)?;
    let is_raw = sockets.iter().all(|socket| socket.is_raw());
    let tracer = is_raw.then(|| start_tracer(&mut storage, &setup, &args.tunnel));
    let tracer = tracer.flatten();
    for socket in &sockets {
        prepare(socket, tracer.as_ref())?;
    }
    let targets = match &tracer {
        Some(tracer) => tracer.targets()?,
        None => Targets::anonymous(id)?,
    };
    let mut recorder_storage = Storage::uninit();
    let recording = args
        .explain
        .map(|t| explain::Start::record(&mut recorder_storage, t));
    let recording = recording.transpose()?;
    let explainer = recording.as_ref();
    let explainer = explainer.map(|recording| recording.in_background(control.part().pulse()));
    let explainer = explainer.transpose()?;
    let counters = args.explain.map(|_| {
        allow_drivers();
        moved::Sampler::start(setup.own_netns, control.part().pulse())
    });
    let counters = counters.transpose()?;
    let mut programs = tracer.as_ref().map(Tracer::programs).unwrap_or_default();
    programs.extend(recording.iter().flat_map(|r| r.recorder.programs()));
    programs.retain(|_| args.debug);
    let meter = Meter::start(setup.slots, programs);
    let (alone, together) = match list {
        None => (Some(meter), None),
        Some(_) => (None, Some(meter)),
    };
    let updates = list
        .filter(TargetList::can_change)
        .map(|list| Updates::start(list, args.resolve));
    let updates = updates.transpose()?;
    let lists = args
        .targets
        .as_deref()
        .map(|path| directory(path).to_owned());
    confine(Mode::Client, &outputs.directories, lists.as_slice())?;
    let here = ThisHost {
        tracer,
        echo: Echo::default(),
        explainer,
        ticks: explain::Ticks::default(),
        counters,
        meter: together,
    };
    let (changes, to_sender) = channel();
    let joining = Joining {
        args,
        control,
        outputs,
        board,
        sockets,
        targets,
        changes: Some(changes).filter(|_| !args.adaptive),
        meter: alone,
        updates,
        waiting: plans.into(),
        refused: VecDeque::new(),
        retries: 0,
        leaving: HashSet::new(),
        begin_ns: monotonic_ns(),
        phases: Phases::default(),
        count: 0,
    };
    let mut receiver = Receiver::new(here, joining);
    receiver.join_all();
    control.part().begins(&receiver.status());
    if args.adaptive {
        receiver.adaptive(control);
    } else {
        thread::scope(|scope| {
            scope.spawn(|| Sender::new(to_sender).run(control));
            receiver.open_loop(control);
            // Else the sender would wait for more.
            receiver.close();
        });
    }
    if args.schedule.is_none() || control.stopped() {
        control.part().stops();
    }
    Ok(receiver.finish())
}

/// Room in the kernel's tables: powers of two.
struct Room {
    targets: u32,
    slots: u32,
}

impl Room {
    /// For the targets there are; a list that changes has room for a thousand, and for twice as many as it
    /// has.
    fn for_targets(plans: &[Plan], list: Option<&TargetList>) -> Self {
        /// A list that changes, at least.
        const MANY: u32 = 1024;
        let slots: u32 = plans.iter().map(Plan::slots).sum();
        let count = plans.len() as u32;
        if list.is_some_and(TargetList::can_change) {
            let targets = (2 * count).max(MANY).next_power_of_two();
            let least = targets * Memory::OneOfMany.min_slots();
            return Self {
                targets,
                slots: (2 * slots).max(least).next_power_of_two(),
            };
        }
        Self {
            targets: count.next_power_of_two(),
            slots: slots.next_power_of_two(),
        }
    }
}

fn setup(args: &Args, room: &Room) -> Result<Setup> {
    let netns = this_netns()?;
    Ok(Setup {
        role: Role::Client {
            targets: room.targets,
        },
        explain: None,
        slots: room.slots,
        only_netns: plan::own_namespace_only(args).then_some(netns),
        lab_clock: None,
        own_netns: netns,
        send_names: false,
    })
}

/// A socket for each family that is probed, or may be.
fn sockets(
    args: &Args,
    id: u16,
    plans: &[Plan],
    list: Option<&TargetList>,
) -> Result<Vec<Arc<ProbeSocket>>> {
    let may_come = list.is_some_and(TargetList::can_change);
    let mut sockets = Vec::new();
    for family in [Family::V4, Family::V6] {
        let is_probed = plans.iter().any(|plan| plan.family == family);
        if !is_probed && !may_come {
            continue;
        }
        match socket(args, family, id) {
            Ok(socket) => sockets.push(Arc::new(socket)),
            Err(e) if is_probed || family == Family::V4 => return Err(e),
            Err(e) => log::debug!("no IPv6 target can join: {e:#}"),
        }
    }
    Ok(sockets)
}

/// A raw socket, else a ping socket with this ICMP id: what an ordinary user may have.
fn socket(args: &Args, family: Family, id: u16) -> Result<ProbeSocket> {
    let options = plan::options(args)?;
    let raw = ProbeSocket::open(family, &options);
    let Err(missing) = &raw else { return raw };
    if privileges::CLIENT.check("").is_ok() {
        return raw;
    }
    if Flows(args.flows) != Flows::ONE {
        return raw.context("each flow has an ICMP id of its own (--flows)");
    }
    match ProbeSocket::ping(family, &options, id) {
        Ok(socket) => {
            log::warn!(
                "{missing}; a ping socket instead: no BPF stamps but SO_TIMESTAMPING, no blame, no reasons of drops, and ICMP errors stay unseen"
            );
            Ok(socket)
        }
        Err(e) => raw.with_context(|| format!("{e:#} (net.ipv4.ping_group_range says who may)")),
    }
}

/// Lets the socket's filter program stamp arrivals, else the kernel (`SO_TIMESTAMPING`).
fn prepare(socket: &ProbeSocket, tracer: Option<&Tracer<'_>>) -> Result<()> {
    let Some(tracer) = tracer else {
        if let Err(e) = socket.enable_timestamps() {
            log::warn!("no SO_TIMESTAMPING stamps either: {e}");
        }
        return Ok(());
    };
    tracer.socket_filter().map_or(Ok(()), |filter| {
        let attached = socket.attach_filter(filter);
        attached.context("attach the filter to the client's socket")
    })
}

fn start_tracer<'a>(
    storage: &'a mut Storages,
    setup: &Setup,
    tunnels: &[u16],
) -> Option<Tracer<'a>> {
    match Tracer::load(storage, setup) {
        Ok(mut tracer) => {
            if let Err(e) = tracer.tunnel_ports(setup, tunnels) {
                log::warn!("what tunnels in UDP carry is not seen: {e:#}");
            }
            tracer.attach();
            Some(tracer)
        }
        Err(e) => {
            log::warn!("no BPF stamps here, SO_TIMESTAMPING instead: {e:#}");
            None
        }
    }
}

//! The client: an open-loop sender, a receiver, and their agreement with the server.
//!
//! Probe k leaves at t0 + k x interval whatever the replies do, so a slow reply never hides the
//! probes behind it (no coordinated omission). The sender has a thread of its own and shares only
//! the table of slots and a counter with the receiver. An adaptive run (`-A`) sends from the
//! receiving thread instead, one probe at each reply.

use super::args::Args;
use super::echo::Echo;
use super::host_names::HostNames;
use super::receiver::Receiver;
use super::this_host::ThisHost;
use super::warm_up::WarmUp;
use crate::capture::collector::Collector;
use crate::capture::explain;
use crate::client::plan::Plan;
use crate::client::sender::{Sender, Shared};
use crate::control::Control;
use crate::exit::Outcome;
use crate::kernel::confine::{Mode, confine};
use crate::kernel::host;
use crate::kernel::meter::Meter;
use crate::kernel::object::{self, Storage, Storages};
use crate::kernel::privileges;
use crate::kernel::table::Table;
use crate::kernel::tracer::{Role, Setup, Tracer};
use crate::units::monotonic_ns;
use crate::wire::flows::Flows;
use crate::wire::number::SessionId;
use crate::wire::socket::ProbeSocket;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// The first probe is due this long after everything is ready, ns, so that the start of the threads does
/// not count as lateness.
const LEAD_NS: u64 = 20_000_000;

/// Runs one capture.
pub fn run(
    args: &Args,
    plan: &Plan,
    control: &Control,
    collector: &mut Collector,
) -> Result<Outcome> {
    let session = host::session()?;
    let socket = socket(plan, session)?;
    let mut storage = object::storages();
    let setup = Setup {
        role: Role::Client { session },
        explain: None,
        slots: plan.slots(),
        only_netns: plan.only_netns(),
        lab_clock: None,
        own_netns: plan.netns,
        send_names: false,
    };
    let tracer = socket
        .is_raw()
        .then(|| start_tracer(&mut storage, &setup, &args.tunnel));
    let tracer = tracer.flatten();
    let table = match &tracer {
        Some(tracer) => Arc::clone(&tracer.table),
        None => Arc::new(Table::anonymous(setup.slots)?),
    };
    prepare(&socket, tracer.as_ref())?;
    let mut recorder_storage = Storage::uninit();
    let recording = args
        .explain
        .map(|t| explain::Start::record(&mut recorder_storage, t));
    let recording = recording.transpose()?;
    let explainer = recording.as_ref().map(explain::Start::in_background);
    let explainer = explainer.transpose()?;
    let mut programs = tracer.as_ref().map(Tracer::programs).unwrap_or_default();
    programs.extend(recording.iter().flat_map(|r| r.recorder.programs()));
    programs.retain(|_| args.debug);
    let meter = Meter::start(setup.slots, programs);
    confine(Mode::Client, collector.directories(), &[])?;
    let warm_up = WarmUp::run(plan, &socket, session, control);
    let lead_ns = plan.interval_ns.map_or(0, |_| LEAD_NS);
    let start_ns = monotonic_ns() + lead_ns;
    let shared = Shared::new(plan, table, socket, session, start_ns);
    shared.cookie.store(warm_up.cookie, Ordering::Relaxed);
    shared.warm_up.store(warm_up.sent.into(), Ordering::Relaxed);
    collector.begin(shared.start_ns, tracer.as_ref(), meter);
    collector.session(session);
    collector.explain(explainer.is_some());
    let here = ThisHost {
        plan,
        shared: &shared,
        tracer,
        echo: Echo::default(),
        collector,
        explainer,
        host_names: HostNames::default(),
        ticks: explain::Ticks::default(),
    };
    let mut receiver = Receiver::new(here);
    if plan.interval_ns.is_none() {
        receiver.adaptive(control);
    } else {
        thread::scope(|scope| {
            scope.spawn(|| Sender::new(plan, &shared).run(control));
            receiver.open_loop(control);
            shared.done.store(true, Ordering::Relaxed);
        });
    }
    receiver.finish()
}

/// A raw socket, else a ping socket: what an ordinary user may have.
fn socket(plan: &Plan, session: SessionId) -> Result<ProbeSocket> {
    let raw = ProbeSocket::open(plan.family, &plan.options);
    let Err(missing) = &raw else { return raw };
    if privileges::CLIENT.check("").is_ok() {
        return raw;
    }
    if plan.flows != Flows::ONE {
        return raw.context("each flow has an ICMP id of its own (--flows)");
    }
    match ProbeSocket::ping(plan.family, &plan.options, session.id(0)) {
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

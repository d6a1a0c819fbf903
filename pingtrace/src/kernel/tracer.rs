//! Loads and attaches the stamping programs of a role, and lists the points that they give.

use crate::kernel::host;
use crate::kernel::lab_clock::{self, LabClock};
use crate::kernel::meter::{self, Programs};
use crate::kernel::object::{self, Refusal, Storage, Storages};
use crate::kernel::symbols;
use crate::kernel::table::{Table, WAYS};
use crate::kernel::targets::Targets;
use crate::kernel::tunnels::TunnelPorts;
use anyhow::{Context, Result, bail};
use bpf::pingtrace::types::{pt_losses, pt_napi_thread, pt_refusal, pt_sleep, pt_softirq};
use bpf::pingtrace::{OpenPingtraceSkel, PingtraceSkel, PingtraceSkelBuilder};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, MapHandle, Object, ProgramInput};
use report::model::{Netns, Point};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::LazyLock;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// What the programs are loaded for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Stamps the probes of its targets.
    Client {
        /// How many targets there is room for, a power of two.
        targets: u32,
    },
    /// Stamps every probe that arrives.
    Server {
        /// Index of this host in its stamps.
        host: u16,
        /// Whether a client on this kernel is known as one; else it counts as another host.
        knows_local: bool,
        /// Who may know what.
        trust: Trust,
        /// Number of this host, with `TRANSIT`, where it forwards probes.
        on_the_way: u16,
    },
}

/// Whom a server tells what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Everybody may know everything.
    pub open: bool,
    /// Some networks are served or not served.
    pub has_peers: bool,
    /// Only such networks are served.
    pub deny_others: bool,
}

/// Parameters of the programs.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Role.
    pub role: Role,
    /// Server: explain probes that stay at least this long in this host.
    pub explain: Option<Duration>,
    /// Slots in the table, a power of two.
    pub slots: u32,
    /// Stamp in this namespace only.
    pub only_netns: Option<Netns>,
    /// A wrong clock, for laboratories.
    pub lab_clock: Option<LabClock>,
    /// The namespace of this process.
    pub own_netns: Netns,
    /// Server: replies carry names of namespaces and devices.
    pub send_names: bool,
}

impl Setup {
    /// What the programs' clock shows at a time of `CLOCK_MONOTONIC`, both in ns.
    pub fn shown(&self, now: u64) -> u64 {
        self.lab_clock.map_or(now, |clock| clock.shown(now))
    }
}

/// Requests that get no stamps because of who sends them, by `pt_refusal`.
pub type Refused = [u64; pt_refusal::PT_REFUSALS.0 as usize];

/// The loaded programs; dropping it detaches them.
pub struct Tracer<'a> {
    skel: PingtraceSkel<'a>,
    role: Role,
    loaded: BTreeSet<&'static str>,
    /// All but `arrival`, in the order in which they were attached.
    links: Vec<Link>,
    /// That of the program that takes a server's slots.
    arrival: Option<Link>,
    napi_threads: OnceCell<Vec<Link>>,
    /// Slots of probes in flight.
    pub table: Table,
    /// The points that can be seen, and by which hook.
    pub points: Vec<(Point, String)>,
    /// Points that cannot be stamped here, and why.
    pub missing: Vec<(Point, String)>,
    /// Whether the kernel's drops of probes are seen.
    pub drops: bool,
}

const BOTH: [&str; 8] = [
    "on_net_dev_queue",
    "on_net_dev_start_xmit",
    ARRIVAL,
    "on_softirq_raise",
    "on_softirq_entry",
    "on_softirq_exit",
    "on_hrtimer_expire",
    "on_kfree_skb",
];
/// Takes a server's slots: attached last, so that no slot lacks stamps of the others, and detached first.
const ARRIVAL: &str = "on_netif_receive_skb";
/// A softirq whose raise or whose end is not seen has a wrong time: attached in this order, before all others.
const SOFTIRQ: [&str; 3] = ["on_softirq_exit", "on_softirq_entry", "on_softirq_raise"];
/// Attached when the first NAPI thread is seen.
const NAPI_THREADS: [&str; 3] = ["on_napi_waking", "on_napi_switch", "on_napi_poll"];
const CLIENT: [&str; 4] = [
    "on_sched_wakeup",
    "on_sched_switch",
    "client_socket",
    "whoami",
];

/// Alternatives for the arrival at `icmp_rcv`, best first; each is a pair for IPv4 and IPv6.
const ICMP_RCV: [(&str, [&str; 2]); 2] = [
    ("fentry", ["fentry_icmp_rcv", "fentry_icmpv6_rcv"]),
    ("kprobe", ["kprobe_icmp_rcv", "kprobe_icmpv6_rcv"]),
];

/// The alternative without such a hook.
const AT_SOCKET: &str = "raw socket filter";

impl<'a> Tracer<'a> {
    /// Loads those of the role's programs that this kernel allows. Fails only if it allows none.
    pub fn load([first, second]: &'a mut Storages, setup: &Setup) -> Result<Self> {
        let mut wanted = programs(setup.role);
        let skel = match load(first, setup, &wanted) {
            Ok(skel) => skel,
            Err(e) => {
                log::debug!("not all programs load together ({e:#}); trying them one by one");
                let names: Vec<&str> = wanted.iter().copied().collect();
                for refusal in object::find_refused(&names, |p| trial(setup, p, false)) {
                    log::debug!("{refusal}");
                    wanted.remove(&*refusal.program);
                }
                if wanted.is_empty() {
                    return Err(e);
                }
                load(second, setup, &wanted)?
            }
        };
        let table = Table::of_map(skel.maps.slots.as_fd(), setup.slots)?;
        Ok(Self {
            skel,
            role: setup.role,
            loaded: wanted,
            links: Vec::new(),
            arrival: None,
            napi_threads: OnceCell::new(),
            table,
            points: Vec::new(),
            missing: Vec::new(),
            drops: false,
        })
    }

    /// Requests that get no stamps because of who sends them.
    pub fn refused(&self) -> Refused {
        let bss = self.skel.maps.bss_data.as_deref();
        bss.map(|bss| bss.refused).unwrap_or_default()
    }

    /// Attaches the programs: from now on probes are stamped.
    pub fn attach(&mut self) {
        let attached = self.attach_each();
        self.drops = attached.contains("on_kfree_skb");
        if !self.drops {
            log::warn!("why this kernel drops a probe cannot be seen: no kfree_skb tracepoint");
        }
        self.describe(&attached);
        self.find_receiver();
    }

    /// Attaches one by one: a refused program is missing, not fatal.
    fn attach_each(&mut self) -> BTreeSet<&'static str> {
        let loaded = self.loaded.iter().copied();
        let (passive, mut active): (Vec<_>, Vec<_>) = loaded.partition(|name| is_passive(name));
        active.retain(|name| !NAPI_THREADS.contains(name) && *name != ARRIVAL);
        active.sort_by_key(|name| SOFTIRQ.iter().position(|first| first == name).unwrap_or(3));
        let mut attached: BTreeSet<_> = passive.into_iter().collect();
        for name in active {
            match object::attach_by_name(self.skel.object(), name) {
                Ok(link) => {
                    self.links.push(link);
                    attached.insert(name);
                }
                Err(refusal) => log::debug!("{refusal}"),
            }
        }
        self.bss().armed = true;
        if self.attach_arrival() {
            attached.insert(ARRIVAL);
        }
        attached
    }

    fn attach_arrival(&mut self) -> bool {
        let link = object::attach_by_name(self.skel.object(), ARRIVAL);
        self.arrival = link.inspect_err(|refusal| log::debug!("{refusal}")).ok();
        self.arrival.is_some()
    }

    /// A server: attaches them once more. What they remember is of the time before.
    pub fn attach_again(&mut self) {
        let bss = self.bss();
        bss.softirqs.fill(pt_softirq::default());
        bss.napi_threads.fill(pt_napi_thread::default());
        bss.napi_thread_seen = false;
        let attached = self.attach_each();
        let missing = sources(self.role)
            .into_iter()
            .filter(|(point, program, _)| {
                !attached.contains(program) && !self.missing.iter().any(|(known, _)| known == point)
            });
        for (point, ..) in missing {
            log::warn!("{} cannot be stamped any more", point.name());
        }
    }

    /// A server: takes no slots any more. The next request asks for the programs.
    pub fn close(&mut self) {
        self.arrival = None;
        let bss = self.bss();
        bss.wanted = false;
        // Not the other way round: a request that comes between the two would be forgotten.
        fence(Ordering::SeqCst);
        bss.armed = false;
    }

    /// A server: takes slots again, after [`close`](Self::close).
    pub fn open(&mut self) {
        self.bss().armed = true;
        self.attach_arrival();
    }

    /// A server: whether it takes slots.
    pub fn is_open(&self) -> bool {
        self.arrival.is_some()
    }

    /// A server, after [`close`](Self::close): detaches the programs.
    pub fn detach(&mut self) {
        self.napi_threads = OnceCell::new();
        while self.links.pop().is_some() {}
    }

    /// Who asks for the programs of a server that has none attached.
    pub fn wanted_by(&self) -> Option<[u32; 4]> {
        let bss = self.skel.maps.bss_data.as_deref()?;
        (bss.wanted && !bss.armed).then_some(bss.wanted_by)
    }

    /// Requests that would have had stamps, and came while no program was attached.
    pub fn unarmed(&self) -> u64 {
        let bss = self.skel.maps.bss_data.as_deref();
        bss.map_or(0, |bss| bss.unarmed)
    }

    /// When the last request came that a server stamps, as its programs show time, ns; 0: none.
    pub fn last_request_ns(&self) -> u64 {
        let bss = self.skel.maps.bss_data.as_deref();
        bss.map_or(0, |bss| bss.last_request_ns)
    }

    fn describe(&mut self, attached: &BTreeSet<&str>) {
        let has = |name: &str| attached.contains(name);
        for (point, program, hook) in sources(self.role) {
            if has(program) {
                self.points.push((point, format!("tp_btf/{hook}")));
            } else {
                self.missing.push((point, format!("no {hook} tracepoint")));
            }
        }
        match self.role {
            Role::Client { .. } if has("client_socket") => {
                self.points
                    .push((Point::LRxSkdataready, "socket filter".into()));
            }
            Role::Client { .. } => self
                .missing
                .push((Point::LRxSkdataready, "no socket filter".into())),
            Role::Server { .. } => match arrival_hook(attached) {
                Some(hook) => self.points.push((Point::RRxIcmprcv, hook.into())),
                None => self
                    .missing
                    .push((Point::RRxIcmprcv, "no hook at icmp_rcv".into())),
            },
        }
        self.points.sort_by_key(|(p, _)| *p);
    }

    /// Sets the receiving thread in the programs: the caller, by its id in the initial PID namespace.
    fn find_receiver(&mut self) {
        if !matches!(self.role, Role::Client { .. }) {
            return;
        }
        let asked = self.skel.progs.whoami.test_run(ProgramInput::default());
        let bss = self.bss();
        let tid = match asked {
            Ok(_) => bss.caller_tid,
            Err(_) => rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .cast_unsigned(),
        };
        bss.receiver_tid = tid.cast_signed();
    }

    fn bss(&mut self) -> &mut bpf::pingtrace::types::bss {
        self.skel
            .maps
            .bss_data
            .as_deref_mut()
            .expect("libbpf maps .bss")
    }

    /// The filter program for the role's raw socket, if it could be loaded.
    pub fn socket_filter(&self) -> Option<RawFd> {
        let program = match self.role {
            Role::Client { .. } => &self.skel.progs.client_socket,
            Role::Server { .. } => &self.skel.progs.server_socket,
        };
        program.autoload().then(|| program.as_fd().as_raw_fd())
    }

    /// Clears the last wake-up of the receiving thread, before it waits again. The time at which it last got
    /// a CPU stays: a thread that was preempted before it could wait has no wake-up.
    pub fn begin_wait(&mut self) {
        self.bss().receiver_sleep.woken_ns = 0;
    }

    /// The receiving thread's last sleep.
    pub fn last_sleep(&mut self) -> pt_sleep {
        self.bss().receiver_sleep
    }

    /// Follows the kernel threads that poll devices (threaded NAPI) from when the first one has received a
    /// probe: their wake-ups and switches. A host without them pays nothing.
    pub fn follow_napi_threads(&self) {
        let bss = self.skel.maps.bss_data.as_deref();
        if bss.is_some_and(|bss| bss.napi_thread_seen) {
            self.napi_threads
                .get_or_init(|| attach_napi_threads(self.skel.object()));
        }
    }

    /// The CPUs that have received a probe.
    pub fn receiving_cpus(&self) -> impl Iterator<Item = u32> {
        let bss = self.skel.maps.bss_data.as_deref();
        let cpus = bss.into_iter().flat_map(|bss| (0..).zip(&bss.receiving));
        cpus.filter(|(_, receives)| **receives).map(|(cpu, _)| cpu)
    }

    /// The losses of the programs so far.
    pub fn losses(&self) -> pt_losses {
        self.skel
            .maps
            .bss_data
            .as_deref()
            .map(|bss| bss.losses)
            .unwrap_or_default()
    }

    /// The ports whose packets the programs look into: those of this host's tunnels and `more`.
    pub fn tunnel_ports(&self, setup: &Setup, more: &[u16]) -> Result<TunnelPorts> {
        let map = &self.skel.maps.data_tunnels;
        let map = MapHandle::try_from(map).context("share the ports of tunnels")?;
        let mut ports = TunnelPorts::new(map);
        more.iter().try_for_each(|port| ports.add(*port))?;
        ports.add_all(setup.only_netns.is_some())?;
        Ok(ports)
    }

    /// The programs that are loaded, by name.
    pub fn programs(&self) -> Programs {
        meter::loaded(self.skel.object())
    }

    /// The program that stamps a point, if one of the attached does.
    pub fn program_of(&self, point: Point) -> Option<&'static str> {
        let seen = self.points.iter().find(|(seen, _)| *seen == point);
        let (_, hook) = seen?;
        let of_tracepoint = sources(self.role).into_iter().find(|(p, ..)| *p == point);
        let at_icmp = ICMP_RCV.iter().find(|(name, _)| name == hook);
        match (point, of_tracepoint, at_icmp) {
            (_, Some((_, program, _)), _) => Some(program),
            (Point::RRxIcmprcv, _, Some((_, [v4, _]))) => Some(v4),
            (Point::RRxIcmprcv, ..) => Some("server_socket"),
            (Point::LRxSkdataready, ..) => Some("client_socket"),
            _ => None,
        }
    }

    /// Room for a client's targets.
    pub fn targets(&self) -> Result<Targets> {
        let Role::Client { targets } = self.role else {
            bail!("a server has no targets");
        };
        let table = self.table.part(0, self.table.slots());
        Targets::of_map(self.skel.maps.targets.as_fd(), targets, table)
    }

    /// The key that decides where a session's slots are, for the in-band programs.
    pub fn hash_key(&self) -> [u64; 8] {
        let rodata = self.skel.maps.rodata_data;
        rodata.map_or_else(Default::default, |rodata| rodata.hash_key)
    }

    /// The programs' maps, for the in-band object to share.
    pub fn maps(&self) -> &bpf::pingtrace::PingtraceMaps<'a> {
        &self.skel.maps
    }
}

/// Without the switches the others say nothing.
fn attach_napi_threads(object: &Object) -> Vec<Link> {
    let attach = |name| object::attach_by_name(object, name);
    let links: Result<Vec<Link>, Refusal> = NAPI_THREADS.into_iter().map(attach).collect();
    match &links {
        Ok(_) => log::info!("a NAPI thread receives probes: its wake-ups and switches are stamps"),
        Err(refusal) => {
            log::warn!("how long NAPI threads wait for a CPU cannot be seen: {refusal}");
        }
    }
    links.unwrap_or_default()
}

/// Programs that are not attached to the kernel but to a socket, or run on demand.
fn is_passive(name: &str) -> bool {
    matches!(name, "client_socket" | "server_socket" | "whoami")
}

/// The hook in use at `icmp_rcv`, for both families.
fn arrival_hook(attached: &BTreeSet<&str>) -> Option<&'static str> {
    let complete = ICMP_RCV
        .iter()
        .find(|(_, pair)| pair.iter().all(|p| attached.contains(p)));
    let socket = attached.contains("server_socket");
    complete
        .map(|(hook, _)| *hook)
        .or_else(|| socket.then_some(AT_SOCKET))
}

/// The programs to load.
fn programs(role: Role) -> BTreeSet<&'static str> {
    let mut wanted = BTreeSet::from(BOTH);
    wanted.extend(NAPI_THREADS);
    match role {
        Role::Client { .. } => {
            wanted.extend(CLIENT);
        }
        Role::Server { .. } => {
            let setup = Setup {
                explain: None,
                role,
                slots: 1,
                only_netns: None,
                lab_clock: None,
                own_netns: Netns(0),
                send_names: false,
            };
            let works = |pair: &[&str]| pair.iter().all(|p| trial(&setup, p, true).is_ok());
            let best = ICMP_RCV.iter().find(|(_, pair)| works(pair));
            wanted.extend(best.iter().flat_map(|(_, pair)| pair));
            wanted.insert("server_socket");
        }
    }
    wanted
}

/// Which program gives which point.
fn sources(role: Role) -> Vec<(Point, &'static str, &'static str)> {
    use Point as P;
    match role {
        Role::Client { .. } => vec![
            (P::LTxDevqueue, BOTH[0], "net_dev_queue"),
            (P::LTxDevout, BOTH[1], "net_dev_start_xmit"),
            (P::LRxIprcv, BOTH[2], "netif_receive_skb"),
            (P::LRxSoftirq, BOTH[3], "softirq_raise"),
            (P::LRxNapi, BOTH[4], "softirq_entry"),
            (P::LRxWakeup, CLIENT[0], "sched_wakeup"),
            (P::LRxOncpu, CLIENT[1], "sched_switch"),
        ],
        Role::Server { .. } => vec![
            (P::RTxDevqueue, BOTH[0], "net_dev_queue"),
            (P::RTxDevout, BOTH[1], "net_dev_start_xmit"),
            (P::RRxDevrcv, BOTH[2], "netif_receive_skb"),
            (P::RRxSoftirq, BOTH[3], "softirq_raise"),
            (P::RRxNapi, BOTH[4], "softirq_entry"),
        ],
    }
}

fn load<'a>(
    storage: &'a mut Storage,
    setup: &Setup,
    wanted: &BTreeSet<&str>,
) -> Result<PingtraceSkel<'a>> {
    object::load(
        "the stamping programs",
        PingtraceSkelBuilder::default(),
        storage,
        |name| wanted.contains(name),
        |open| configure(open, setup, wanted),
    )
}

fn configure(
    open: &mut OpenPingtraceSkel<'_>,
    setup: &Setup,
    wanted: &BTreeSet<&str>,
) -> Result<()> {
    let Some(rodata) = open.maps.rodata_data.as_deref_mut() else {
        bail!("the object has no .rodata")
    };
    rodata.only_netns = setup.only_netns.unwrap_or_default().0;
    [rodata.page_offset_base, rodata.vmemmap_base] = *PAGE_BASES;
    if let Some(clock) = setup.lab_clock {
        lab_clock::set!(rodata.lab_clock, clock);
    }
    rodata.own_netns = setup.own_netns.0;
    let sets = setup.slots.div_ceil(WAYS);
    match setup.role {
        Role::Client { targets } => rodata.target_mask = targets - 1,
        Role::Server {
            host,
            knows_local,
            trust,
            ..
        } => {
            rodata.server = true;
            rodata.host_index = host;
            rodata.stamps_at_socket = arrival_hook(wanted) == Some(AT_SOCKET);
            rodata.knows_local = knows_local;
            rodata.open = trust.open;
            rodata.has_peers = trust.has_peers;
            rodata.deny_others = trust.deny_others;
            rodata.secret = host::secret()?;
            rodata.explain_ns = setup.explain.map_or(0, |t| t.as_nanos() as u64);
            rodata.set_bits = sets.ilog2();
            rodata.hash_key = host::secret()?;
        }
    }
    size(open, setup, sets).context("size the table of probe slots")
}

/// A client has neither sets nor sessions, and refuses nobody; a server has no targets.
fn size(open: &mut OpenPingtraceSkel<'_>, setup: &Setup, sets: u32) -> libbpf_rs::Result<()> {
    open.maps.slots.set_max_entries(setup.slots)?;
    match setup.role {
        Role::Server { .. } => open.maps.slot_sets.set_max_entries(sets),
        Role::Client { targets } => {
            open.maps.targets.set_max_entries(targets)?;
            open.maps.refused_sources.set_max_entries(1)?;
            open.maps.sessions.set_max_entries(1)?;
            open.maps.session_sets.set_max_entries(1)
        }
    }
}

/// Addresses of the kernel's `page_offset_base` and `vmemmap_base`, by which the programs find headers that
/// a driver left in a page. Zeros if this kernel has none: then only linear headers are seen.
static PAGE_BASES: LazyLock<[u64; 2]> =
    LazyLock::new(
        || match symbols::addresses(["page_offset_base", "vmemmap_base"]) {
            [Some(direct_map), Some(pages)] => [direct_map, pages],
            _ => [0, 0],
        },
    );

/// Loads, and attaches, one program alone.
fn trial(setup: &Setup, program: &str, attach: bool) -> Result<()> {
    let mut storage = Storage::uninit();
    let skel = load(&mut storage, setup, &BTreeSet::from([program]))?;
    if attach {
        drop(object::attach_by_name(skel.object(), program)?);
    }
    Ok(())
}

#[cfg(test)]
mod as_root {
    use kit_bpf::siphash::SiphashSkelBuilder;
    use libbpf_rs::ProgramInput;
    use libbpf_rs::skel::{OpenSkel, SkelBuilder};
    use std::mem::MaybeUninit;

    /// The first of the vectors that the authors of the hash have published: of 0, 8, 16, 24 and 32 bytes.
    #[test]
    fn cookies_are_siphash() {
        let mut storage = MaybeUninit::uninit();
        let open = SiphashSkelBuilder::default().open(&mut storage).unwrap();
        let mut skel = open.load().unwrap();
        let word = |n: u8| u64::from_le_bytes(std::array::from_fn(|i| 8 * n + i as u8));
        let bss = skel.maps.bss_data.as_deref_mut().unwrap();
        bss.key = [0, 1].map(word);
        bss.words = [0, 1, 2, 3].map(word);
        let input = ProgramInput {
            data_in: Some(&[0; 14]),
            ..ProgramInput::default()
        };
        skel.progs.siphash.test_run(input).unwrap();
        let expected = [
            0x726f_db47_dd0e_0e31,
            0x93f5_f579_9a93_2462,
            0x3f2a_cc7f_57c2_9bdb,
            0xb8ad_50c6_f649_af94,
            0x7127_512f_72f2_7cce,
        ];
        assert_eq!(skel.maps.bss_data.as_deref().unwrap().hashes, expected);
    }
}

//! Whom a client probes, when they are several: hosts of the command line, or of a file that changes. A name is
//! resolved again and again; each of its addresses is a target.

pub(crate) mod file;
mod listed;
mod resolve;
mod ring;
mod updates;

pub use updates::Updates;

use super::args::Args;
use super::plan::{Memory, Plan, TargetId};
use crate::exit::Usage;
use crate::options::Origin;
use anyhow::{Context, Result, bail};
use listed::{Identity, Listed};
use netns::Netlink;
use report::model::Target;
use resolve::resolve;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is to change.
#[derive(Debug, Default)]
pub struct Update {
    /// Targets that are new.
    pub join: Vec<Plan>,
    /// Those that are gone.
    pub leave: HashSet<TargetId>,
}

impl Update {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.join.is_empty() && self.leave.is_empty()
    }
}

/// The list, and what is probed of it.
pub struct TargetList {
    args: Args,
    from: From,
    /// The addresses that a name had when it was last resolved.
    addresses: HashMap<(String, Option<u8>), Vec<SocketAddr>>,
    probed: BTreeMap<Identity, Probed>,
    /// Targets so far.
    count: u64,
    /// Complaints that were made.
    told: HashSet<String>,
}

/// Where it comes from.
enum From {
    Hosts(Vec<String>),
    File {
        path: PathBuf,
        /// When it had been written, and what it said, when it was last read.
        read: (Option<SystemTime>, Option<String>),
    },
}

struct Probed {
    id: TargetId,
    name: String,
    labels: BTreeMap<String, String>,
}

impl TargetList {
    /// That of the command line; `None` if it names one host only.
    pub fn new(args: &Args) -> Option<Self> {
        let from = match &args.targets {
            Some(path) => From::File {
                path: path.clone(),
                read: (None, None),
            },
            None if args.client.len() > 1 => From::Hosts(args.client.clone()),
            None => return None,
        };
        Some(Self {
            args: args.clone(),
            from,
            addresses: HashMap::new(),
            probed: BTreeMap::new(),
            count: 0,
            told: HashSet::new(),
        })
    }

    /// Whether it may be empty for a while.
    pub fn is_file(&self) -> bool {
        matches!(self.from, From::File { .. })
    }

    /// Whether targets may join later: of a file, or those of names.
    pub fn can_change(&self) -> bool {
        match &self.from {
            From::File { .. } => true,
            From::Hosts(hosts) => hosts.iter().any(|host| host.parse::<IpAddr>().is_err()),
        }
    }

    /// Whether the file was written since it was read. The time of a file is that of the kernel's last tick, and two
    /// versions can have the same: a young file is read.
    pub fn has_changed(&self) -> bool {
        let From::File { path, read } = &self.from else {
            return false;
        };
        let (time, text) = read;
        let now = written(path);
        now != *time || now.is_some_and(is_young) && fs::read_to_string(path).ok() != *text
    }

    /// Reads the list again, and resolves its names. Fails if the list cannot be read or is wrong: then nothing
    /// changes.
    pub fn update(&mut self) -> Result<Update> {
        let listed = self.read()?;
        let listed = self.ring(listed)?;
        self.resolve(&listed);
        let mut update = Update::default();
        let mut wanted = HashSet::new();
        for target in &listed {
            for peer in self.peers(target) {
                let identity = target.identity(peer);
                if !wanted.insert(identity.clone()) {
                    continue;
                }
                let known = self.probed.get(&identity);
                if known.is_some_and(|known| known.labels == target.labels) {
                    continue;
                }
                if let Some(known) = self.probed.remove(&identity) {
                    update.leave.insert(known.id);
                }
                update.join.extend(self.plan(target, peer, identity));
            }
        }
        self.probed.retain(|identity, probed| {
            let stays = wanted.contains(identity);
            if !stays {
                update.leave.insert(probed.id);
            }
            stays
        });
        Ok(update)
    }

    fn read(&mut self) -> Result<Vec<Listed>> {
        match &mut self.from {
            From::Hosts(hosts) => Ok(hosts.iter().map(|host| Listed::plain(host)).collect()),
            From::File { path, read } => {
                *read = (written(path), None);
                let text = fs::read_to_string(&*path)
                    .with_context(|| format!("read the targets {} (--targets)", path.display()))?;
                let text = read.1.insert(text);
                file::parse(text).with_context(|| format!("{} (--targets)", path.display()))
            }
        }
    }

    /// With `--ring`, the next neighbours of this host.
    fn ring(&mut self, listed: Vec<Listed>) -> Result<Vec<Listed>> {
        let Some(count) = self.args.ring else {
            return Ok(listed);
        };
        let (me, local) = match self.own_place(&listed) {
            Ok(place) => place,
            // One that has just started may come into the list later: its pod, before the Service has its address.
            Err(e) if self.probed.is_empty() && self.may_wait() => {
                self.tell(format!("{e:#}; waiting until it is"));
                return Ok(Vec::new());
            }
            Err(e) => return Err(e),
        };
        let addresses = self.peers(&listed[me]).into_iter().map(|peer| peer.ip());
        let apart = ring::apart(&listed[me], addresses, &local);
        let (listed, me) = apart.unwrap_or((listed, me));
        let hosts: Vec<&str> = listed.iter().map(|target| &*target.host).collect();
        let probed: HashSet<&str> = ring::neighbours(&hosts, me, count as usize)
            .into_iter()
            .map(|at| hosts[at])
            .collect();
        let is_neighbour = |target: &&Listed| probed.contains(&*target.host);
        Ok(listed.iter().filter(is_neighbour).cloned().collect())
    }

    /// Whether a run goes on without a target: not one that sends a number of probes.
    fn may_wait(&self) -> bool {
        self.args.count.is_none() || self.args.time.is_some()
    }

    /// Whether it has nobody to probe, so that it is read again soon.
    pub fn is_waiting(&self) -> bool {
        self.args.ring.is_some() && self.probed.is_empty()
    }

    /// Which of the list this host is: by its name, else by an address, with those that are this host's.
    fn own_place(&mut self, listed: &[Listed]) -> Result<(usize, Vec<IpAddr>)> {
        let own_name = crate::kernel::host::name();
        let is_name = |target: &Listed| Some(&target.host) == own_name.as_ref();
        if let Some(at) = listed.iter().position(is_name) {
            return Ok((at, Vec::new()));
        }
        self.resolve(listed);
        let mut netlink = Netlink::open().context("look for this host's addresses (--ring)")?;
        let mut is_local = |ip: &IpAddr| {
            let route = netlink.route_get(*ip, None);
            !ip.is_loopback() && route.is_ok_and(|route| route.ifindex == LOOPBACK)
        };
        for (at, target) in listed.iter().enumerate() {
            let addresses = self.peers(target).into_iter().map(|peer| peer.ip());
            let local: Vec<IpAddr> = addresses.filter(&mut is_local).collect();
            if !local.is_empty() {
                return Ok((at, local));
            }
        }
        let name = own_name.unwrap_or_default();
        bail!("this host ('{name}') is not in the list, neither by name nor by address (--ring)")
    }

    /// Finds the addresses of all names; one that has none now keeps those that it had.
    fn resolve(&mut self, listed: &[Listed]) {
        let names = listed.iter().map(Listed::lookup);
        let names: HashSet<(String, Option<u8>)> = names.collect();
        for (name, found) in resolve(names, &self.args) {
            match found {
                Ok(mut all) => {
                    all.sort_unstable();
                    self.addresses.insert(name, all);
                }
                Err(e) => {
                    let old = self.addresses.contains_key(&name);
                    let stays = if old {
                        "; its addresses stay"
                    } else {
                        "; not probed"
                    };
                    self.tell(format!("{}: {e:#}{stays}, tried again", name.0));
                }
            }
        }
    }

    fn peers(&self, target: &Listed) -> Vec<SocketAddr> {
        self.addresses
            .get(&target.lookup())
            .cloned()
            .unwrap_or_default()
    }

    fn plan(&mut self, target: &Listed, peer: SocketAddr, identity: Identity) -> Option<Plan> {
        let args = target.own.amend(&self.args);
        let mut plan = match Plan::of(&args, &target.host, peer) {
            Ok(plan) => plan,
            Err(e) => {
                self.tell(format!("{}: {e:#}; not probed, tried again", target.host));
                return None;
            }
        };
        let name = self.name(target, peer.ip());
        plan.host = target.label();
        plan.memory = Memory::OneOfMany;
        plan.tos = target.own.tos;
        plan.from = target.own.source;
        plan.source = plan.from.unwrap_or(plan.source);
        plan.name = Some(Target {
            name: name.clone(),
            labels: target.labels.clone(),
        });
        self.count += 1;
        plan.id = TargetId(self.count);
        let probed = Probed {
            id: plan.id,
            name,
            labels: target.labels.clone(),
        };
        self.probed.insert(identity, probed);
        Some(plan)
    }

    /// A name that no other has: the host, its options if it has some of its own, and for all but one of
    /// several addresses that.
    fn name(&self, target: &Listed, ip: IpAddr) -> String {
        let host = target.label();
        let is_taken = |name: &str| self.probed.values().any(|probed| probed.name == name);
        if is_taken(&host) {
            return format!("{host} ({ip})");
        }
        host
    }

    /// Warns, but not each time.
    fn tell(&mut self, what: String) {
        /// Upper bound on complaints that are remembered.
        const MANY: usize = 1000;
        if self.told.len() < MANY && !self.told.contains(&what) {
            log::warn!("{what}");
            self.told.insert(what);
        }
    }
}

/// Index of the loopback device: the kernel's route to an address of its own.
const LOOPBACK: u32 = 1;

/// Written within the last second, or in the future.
fn is_young(written: SystemTime) -> bool {
    written
        .elapsed()
        .map_or(true, |age| age < Duration::from_secs(1))
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Refuses options that only make sense with one target, or with a list.
pub fn check(args: &Args) -> Result<()> {
    let several = args.targets.is_some() || args.client.len() > 1;
    let usage = |why: &str| Err(Usage(why.to_owned()).into());
    if args.ring.is_some() && args.targets.is_none() {
        return usage("--ring takes neighbours from a list: give one (--targets)");
    }
    if !several {
        return Ok(());
    }
    if args.adaptive {
        return usage("-A sends the next probe at each reply of one target: give -c once");
    }
    if !args.results.output.images(Origin::LiveRun).is_empty() {
        return usage(
            "a picture (-o image, --image) is of one target: give -c once, or draw it from the log of this run by 'pingtrace replay --target NAME'",
        );
    }
    for host in &args.client {
        super::plan::is_host(host)?;
    }
    Ok(())
}

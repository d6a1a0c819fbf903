//! The plan of a run: the command line, checked against this host before the first probe leaves.

use super::args::{Args, Mode};
use crate::exit::Usage;
use crate::kernel::host;
use crate::units::realtime_ns;
use crate::wire::flows::Flows;
use crate::wire::key::Keys;
use crate::wire::layout::V1_HEADER;
use crate::wire::protocol::Family;
use crate::wire::socket::{self, MAX_MESSAGE, Options};
use crate::wire::stamp_return::StampReturn;
use anyhow::{Context, Result, bail, ensure};
use netns::{Link, Namespace, Netlink};
use report::model::{Endpoint, Netns, Run, Target};
use socket2::SockAddr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

/// Minimum message size, bytes: room for the stamps of one reply; also the documented minimum of version 0.
pub const MIN_SIZE: usize = 144;
/// Upper bound on the number of slots, about 1.6 kB each.
const MAX_SLOTS: u32 = 32_768;
/// Slots with `-A`: one probe after the other, so few slots, which stay in the CPU's cache.
const ADAPTIVE_SLOTS: u32 = 64;

/// Bytes of an IP header without options.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// How much is remembered of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Of the only one: megabytes.
    Alone,
    /// Of one of many: tens of kilobytes.
    OneOfMany,
}

impl Memory {
    /// Lower bound on the number of slots.
    pub const fn min_slots(self) -> u32 {
        match self {
            Self::Alone => 512,
            Self::OneOfMany => 4,
        }
    }

    /// Probes whose time of sending is known: of more than there are slots.
    pub fn send_times(self, slots: u32) -> usize {
        (8 * slots as usize).max(self.min_recent())
    }

    /// Probes whose state is known in any case.
    pub fn recent(self, slots: u32) -> usize {
        (2 * slots as usize).max(self.min_recent())
    }

    const fn min_recent(self) -> usize {
        match self {
            Self::Alone => 65_536,
            Self::OneOfMany => 32,
        }
    }
}

/// Tells a target from all others that the list of a run has, or had. The same host with other labels is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TargetId(pub u64);

/// What is probed, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of one of several.
    pub name: Option<Target>,
    /// Likewise.
    pub id: TargetId,
    /// How much is remembered of it.
    pub memory: Memory,
    /// The peer as it was typed.
    pub host: String,
    /// The peer as a socket address.
    pub peer: SockAddr,
    /// The device that its link-local address is reached by, as it was typed; it may get another
    /// index.
    pub zone: Option<String>,
    /// Its address.
    pub ip: IpAddr,
    /// Its family.
    pub family: Family,
    /// The address that this host sends from.
    pub source: IpAddr,
    /// The device that the probes leave by.
    pub device: Option<String>,
    /// Socket options.
    pub options: Options,
    /// The TOS byte of its packets, if it has one of its own.
    pub tos: Option<u8>,
    /// The address that they are sent from, if it is not the route's.
    pub from: Option<IpAddr>,
    /// How many flows the probes leave in.
    pub flows: Flows,
    /// How the server's stamps are to return, until it is known how they do.
    pub mode: Mode,
    /// ICMP message size, bytes.
    pub size: usize,
    /// ns between probes; absent when adaptive.
    pub interval_ns: Option<u64>,
    /// Probes to send.
    pub count: Option<u32>,
    /// How long to send, ns.
    pub time_ns: Option<u64>,
    /// A later reply is late, ns.
    pub timeout_ns: u64,
    /// Only slower probes are recorded, ns.
    pub threshold_ns: u64,
    /// `--nslocal`, or implied by `--userid`.
    pub own_namespace_only: bool,
    /// `--userid`: one kernel counts as two hosts.
    pub two_hosts: bool,
    /// Inode of this network namespace.
    pub netns: Netns,
    /// Those that the server may have too.
    pub keys: Option<Keys>,
}

impl Plan {
    /// Of the one host on the command line: checks name, route, size and device.
    pub fn new(args: &Args) -> Result<Self> {
        let host = args.client.first().context("no host")?;
        is_host(host)?;
        let peer = resolve(host, args)?;
        Self::of(args, host, peer)
    }

    /// Of a host and one of its addresses.
    pub fn of(args: &Args, host: &str, peer: SocketAddr) -> Result<Self> {
        one_host(host, peer.ip())?;
        let options = options(args)?;
        let source = socket::source(peer, &options)?;
        let device = device(peer, &options);
        check_size(args, peer.is_ipv4(), device.as_ref())?;
        Ok(Self {
            name: None,
            id: TargetId::default(),
            memory: Memory::Alone,
            host: host.to_owned(),
            peer: peer.into(),
            zone: host.split_once('%').map(|(_, zone)| zone.to_owned()),
            ip: peer.ip(),
            family: if peer.is_ipv4() {
                Family::V4
            } else {
                Family::V6
            },
            source,
            device: device.map(|link| link.name).or(options.device.clone()),
            options,
            tos: None,
            from: None,
            flows: Flows(args.flows),
            mode: args.mode,
            size: args.size,
            interval_ns: (!args.adaptive).then_some(args.interval.as_nanos() as u64),
            count: args.count,
            time_ns: args.time.map(|t| t.as_nanos() as u64),
            timeout_ns: args.timeout.as_nanos() as u64,
            threshold_ns: args.threshold.as_nanos() as u64,
            own_namespace_only: own_namespace_only(args),
            two_hosts: args.userid.is_some(),
            netns: this_netns()?,
            keys: args.key_file.as_ref().map(|file| file.keys),
        })
    }

    /// Describes the run.
    pub fn describe(&self) -> Run {
        Run {
            target: self.name.clone(),
            start_unix_ns: realtime_ns(),
            start_ns: None,
            client: Endpoint {
                host: host::name(),
                addr: Some(self.source),
                dev: self.device.clone(),
                host_id: Some(host::id()).filter(|id| *id != 0),
            },
            server: Endpoint {
                host: Some(self.host.clone()).filter(|host| *host != self.ip.to_string()),
                addr: Some(self.ip),
                ..Endpoint::default()
            },
            mode: self.mode.name().to_owned(),
            interval_ns: self.interval_ns,
            threshold_ns: self.threshold_ns,
            size: self.size,
            flows: Some(self.flows.0).filter(|flows| flows.get() > 1),
            points: Vec::new(),
        }
    }

    /// Number of probes that the schedule has within the time, if there are both.
    pub fn probes_in_time(&self) -> Option<u64> {
        let in_time = self.time_ns?.div_ceil(self.interval_ns?);
        Some(in_time.min(self.probes()))
    }

    /// What the target is called: the host, or what tells one of several from the others.
    pub fn target_name(&self) -> &str {
        self.name.as_ref().map_or(&self.host, |named| &named.name)
    }

    /// Slots: one for each probe of one and a half timeouts, within bounds.
    pub fn slots(&self) -> u32 {
        let Some(interval) = self.interval_ns else {
            return ADAPTIVE_SLOTS;
        };
        let wanted = self.timeout_ns.saturating_mul(3) / 2 / interval.max(1);
        (wanted.min(u64::from(MAX_SLOTS)) as u32)
            .next_power_of_two()
            .clamp(self.memory.min_slots(), MAX_SLOTS)
    }

    /// Upper bound on the number of probes.
    pub fn probes(&self) -> u64 {
        self.count.map_or(u64::MAX, u64::from)
    }
}

/// The options of the sockets.
pub fn options(args: &Args) -> Result<Options> {
    if args.interface.len() > 1 {
        return Err(Usage("a client sends from one device: give -I once".to_owned()).into());
    }
    Ok(Options {
        device: args.interface.first().cloned(),
        tos: args.tos,
    })
}

/// Whether only this namespace is to be stamped in.
pub fn own_namespace_only(args: &Args) -> bool {
    args.nslocal || args.userid.is_some()
}

/// That of this thread.
pub fn this_netns() -> Result<Netns> {
    let current = Namespace::current().context("find this network namespace")?;
    Ok(Netns(current.inode()))
}

/// Refuses a text that is not a host.
pub fn is_host(host: &str) -> Result<()> {
    no_host(host).map_or(Ok(()), |remedy| Err(Usage(remedy).into()))
}

/// The error for a text that is not a host, such as a URL.
pub(super) fn no_host(host: &str) -> Option<String> {
    let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
    let bare = bare.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = without_port(bare.rsplit('@').next().unwrap_or_default());
    if bare.trim().is_empty() {
        return Some(format!(
            "'{host}' (-c) names no host: give a name or an address"
        ));
    }
    if host.parse::<u32>().is_ok() {
        return Some(format!(
            "'{host}' is a number: -c names the host, -C the number of probes: -c HOST -C {host}"
        ));
    }
    (bare != host).then(|| {
        let what = match host.split_once('/') {
            Some(_) if host.contains("://") => "is a URL",
            Some(_) => "is a network or a path",
            None => "has a port or brackets",
        };
        format!("'{host}' {what}, and ICMP knows hosts only: -c {bare}")
    })
}

/// Without `:80`, and without the brackets that separate an IPv6 address from it.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    }
}

/// Refuses an address of no host, or of many.
fn one_host(host: &str, ip: IpAddr) -> Result<()> {
    let route = || Netlink::open().ok()?.route_get(ip, None).ok();
    let why = if ip.is_unspecified() {
        let own = if ip.is_ipv4() { "127.0.0.1" } else { "::1" };
        format!("is no host's address; this host itself is {own}")
    } else if ip.is_multicast() {
        "is a multicast address, and would be answered by many hosts: name one of them".to_owned()
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) || route().is_some_and(|r| r.is_broadcast) {
        "is a broadcast address, and would be answered by many hosts: name one of them".to_owned()
    } else {
        return Ok(());
    };
    let of = if host == ip.to_string() {
        String::new()
    } else {
        format!(" ({ip})")
    };
    Err(Usage(format!("{host}{of} {why}")).into())
}

/// A name, an address, or a link-local address with its zone.
fn resolve(host: &str, args: &Args) -> Result<SocketAddr> {
    let all = addresses(host, args)?;
    all.first()
        .copied()
        .with_context(|| format!("{host} has no address"))
}

/// All addresses of a name, of the families that are wanted: at least one.
pub fn addresses(host: &str, args: &Args) -> Result<Vec<SocketAddr>> {
    if let Some((address, zone)) = host.split_once('%') {
        let address = address
            .parse()
            .with_context(|| format!("'{address}' is not an IPv6 address"))?;
        let address = SocketAddrV6::new(address, 0, 0, zone_index(zone)?);
        return Ok(vec![address.into()]);
    }
    let found = (host, 0)
        .to_socket_addrs()
        .with_context(|| format!("unknown host {host}"))?;
    let wanted = |a: &SocketAddr| a.is_ipv4() && !args.ipv6 || a.is_ipv6() && !args.ipv4;
    let mut addresses = Vec::new();
    for address in found.filter(wanted) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    ensure!(
        !addresses.is_empty(),
        "{host} has no {} address",
        if args.ipv6 { "IPv6" } else { "IPv4" }
    );
    Ok(addresses)
}

fn zone_index(zone: &str) -> Result<u32> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    let link = Netlink::open()?.link_named(zone);
    Ok(link
        .with_context(|| format!("zone '{zone}': no such device in this network namespace"))?
        .index)
}

/// Checks the size against the device's MTU; the path MTU cache is not asked, as sends ignore it too.
fn check_size(args: &Args, v4: bool, device: Option<&Link>) -> Result<()> {
    let min = if args.mode == Mode::Only(StampReturn::Pingpong) {
        V1_HEADER
    } else {
        MIN_SIZE
    };
    let size = args.size;
    if size < min {
        let why = format!("size {size} (-b) is below the minimum of {min} bytes");
        return Err(Usage(why).into());
    }
    let header = if v4 { IPV4_HEADER } else { IPV6_HEADER };
    let (name, mtu) = device.map_or(("this host", u32::MAX), |d| (&d.name, d.mtu));
    // The loopback's MTU is one more than an IP packet's largest length.
    let max = (mtu as usize).min(MAX_MESSAGE) - header;
    if size > max {
        bail!(
            "size {size} (-b) is above {max} bytes, what {name} sends in one packet (MTU {mtu}); use a smaller size"
        );
    }
    Ok(())
}

/// The device that the kernel would choose; unknown is no error here.
fn device(to: SocketAddr, options: &Options) -> Option<Link> {
    let mut netlink = Netlink::open().ok()?;
    if let Some(name) = &options.device {
        return netlink.link_named(name).ok();
    }
    let zone = match to {
        SocketAddr::V6(to) => Some(to.scope_id()).filter(|zone| *zone != 0),
        SocketAddr::V4(_) => None,
    };
    let route = netlink.route_get(to.ip(), zone).ok()?;
    netlink.link(route.ifindex).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_refused_with_the_host_in_it() {
        for (typed, host) in [
            ("http://web1/x?y", "-c web1"),
            ("https://me@web1:8443", "-c web1"),
            ("http://[::1]:80/", "-c ::1"),
            ("web1:80", "-c web1"),
            ("[fe80::1%eth0]", "-c fe80::1%eth0"),
            ("10.0.0.0/24", "-c 10.0.0.0"),
            ("5", "-C 5"),
            ("", "a name or an address"),
            (" ", "a name or an address"),
            ("http://", "a name or an address"),
        ] {
            let said = no_host(typed).unwrap_or_else(|| panic!("'{typed}' is taken for a host"));
            assert!(said.ends_with(host) && said.contains(typed), "{said}");
        }
        for host in [
            "web1",
            "10.0.0.1",
            "::1",
            "fe80::1%eth0",
            "1.2",
            "a-b.c",
            "2001:db8::80",
        ] {
            assert_eq!(no_host(host), None, "{host}");
        }
    }

    #[test]
    fn addresses_of_none_or_many_are_refused() {
        for many in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(one_host(many, many.parse().unwrap()).is_err(), "{many}");
        }
        assert!(one_host("localhost", "127.0.0.1".parse().unwrap()).is_ok());
    }
}

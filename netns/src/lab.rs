//! Laboratories: a client and a server in namespaces of their own, for the demo, the self-test
//! and the tests. A lab takes some milliseconds to make, needs `CAP_SYS_ADMIN`, and, unless it is
//! named, leaves nothing behind however the process ends.

use crate::{Error, Namespace, Netlink, Result, tap};
use rustix::io::Errno;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const ROUTER: u8 = 254;
/// The subnet of a tunnel.
const OVERLAY: u8 = 2;
const V4_PREFIX: u8 = 24;
const V6_PREFIX: u8 = 64;

/// A host of a lab, or one side of its router.
#[derive(Debug)]
pub struct Host {
    /// Where the host lives.
    pub ns: Namespace,
    /// The name of its device.
    pub dev: String,
    /// The index of its device in `ns`.
    pub ifindex: u32,
    /// The address of its device, /24.
    pub v4: Ipv4Addr,
    /// The address of its device, /64.
    pub v6: Ipv6Addr,
}

impl Host {
    /// Receives the device's packets in the softirq of this CPU (RPS); `None`: on the CPU where the
    /// driver delivers them.
    pub fn receive_on(&self, cpu: Option<usize>) -> Result<()> {
        // Masks are written in words of 32 bits, the last CPUs first.
        let mask = cpu.map_or_else(
            || "0".to_owned(),
            |cpu| format!("{:x}{}", 1_u32 << (cpu % 32), ",00000000".repeat(cpu / 32)),
        );
        let path = format!("class/net/{}/queues/rx-0/rps_cpus", self.dev);
        self.ns.write_sysfs(&path, &mask)
    }

    /// Lets kernel threads poll the device (threaded NAPI); an error if its driver has no NAPI.
    pub fn set_threaded(&self) -> Result<()> {
        let path = format!("class/net/{}/threaded", self.dev);
        self.ns.write_sysfs(&path, "1")
    }

    fn address(&self, v6: bool) -> IpAddr {
        if v6 { self.v6.into() } else { self.v4.into() }
    }
}

/// The router of a [`Lab::routed`]. Both sides live in one namespace.
#[derive(Debug)]
pub struct Router {
    /// The next hop of the client.
    pub client_side: Host,
    /// The next hop of the server.
    pub server_side: Host,
}

/// A client and a server that reach each other.
#[derive(Debug)]
pub struct Lab {
    /// 10.77.0.1 and `fd77::1`.
    pub client: Host,
    /// 10.77.0.2 and `fd77::2`; behind a router 10.77.1.2 and `fd77:1::2`.
    pub server: Host,
    /// Between the two, if there is one.
    pub router: Option<Router>,
}

/// A client and a server whose cable is this process.
///
/// Each descriptor yields the Ethernet frames that its host sends, one a read, and delivers one to
/// the host a write. They do not block. The devices go with them.
#[derive(Debug)]
pub struct TapLab {
    /// The hosts, with the addresses of [`Lab::veth_pair`].
    pub lab: Lab,
    /// The client's end of the cable.
    pub client_tap: OwnedFd,
    /// The server's end of the cable.
    pub server_tap: OwnedFd,
}

/// The bridge of a [`Lab::bridged_tap_pair`]: its ports, by their indices.
#[derive(Debug)]
pub struct Bridge {
    /// Where the bridge lives.
    pub ns: Namespace,
    /// The port to which the client is joined.
    pub to_client: u32,
    /// The port that the cable leaves from.
    pub to_server: u32,
}

impl Lab {
    /// Client and server joined by a veth pair.
    pub fn veth_pair() -> Result<Self> {
        Self::joined(Namespace::anonymous()?, Namespace::anonymous()?)
    }

    /// A [`Lab::veth_pair`] that `ip netns` lists as PREFIX-client and PREFIX-server, for use
    /// from a shell. Dropping it removes the names; after SIGKILL use [`Lab::remove_named`].
    pub fn named(prefix: &str) -> Result<Self> {
        let [client, server] = names(prefix);
        Self::joined(
            Namespace::create_named(&client)?,
            Namespace::create_named(&server)?,
        )
    }

    /// Removes what a killed process left of a [`Lab::named`]. False if there was nothing.
    pub fn remove_named(prefix: &str) -> Result<bool> {
        names(prefix).iter().try_fold(false, |found, name| {
            Ok(Namespace::remove_name(name)? || found)
        })
    }

    /// Client, router and server in three namespaces, with forwarding and routes.
    pub fn routed() -> Result<Self> {
        let middle = Namespace::anonymous()?;
        enable_forwarding(&middle)?;
        let (client, client_side) = Cable {
            subnet: 0,
            near: ("eth0", CLIENT),
            far: ("eth0", ROUTER),
        }
        .join(Namespace::anonymous()?, middle.try_clone()?)?;
        let (server, server_side) = Cable {
            subnet: 1,
            near: ("eth0", SERVER),
            far: ("eth1", ROUTER),
        }
        .join(Namespace::anonymous()?, middle)?;
        route_to(&client, &server_side, &client_side)?;
        route_to(&server, &client_side, &server_side)?;
        Ok(Self {
            client,
            server,
            router: Some(Router {
                client_side,
                server_side,
            }),
        })
    }

    /// A [`Lab::veth_pair`] whose server has its addresses on a macvlan over `eth0`.
    pub fn macvlan() -> Result<Self> {
        Self::server_over("mv0", |netlink, lower| netlink.add_macvlan("mv0", lower))
    }

    /// A [`Lab::veth_pair`] whose server has its addresses on a bridge with `eth0` as its port.
    pub fn bridged() -> Result<Self> {
        Self::server_over("br0", |netlink, port| {
            netlink.add_bridge("br0")?;
            let bridge = netlink.link_named("br0")?.index;
            netlink.set_controller(port, Some(bridge))
        })
    }

    /// The server has its addresses on `dev`, which `add` puts over its end of the cable.
    fn server_over(
        dev: &str,
        add: impl Fn(&mut Netlink, u32) -> Result<()> + Sync,
    ) -> Result<Self> {
        let (client, server) = (Namespace::anonymous()?, Namespace::anonymous()?);
        TO_SERVER.plug(&client, &server)?;
        server.run(|| -> Result<()> {
            let mut netlink = Netlink::open()?;
            let lower = netlink.link_named("eth0")?.index;
            netlink.set_up(lower)?;
            add(&mut netlink, lower)
        })??;
        let client = configure(client, "eth0", addresses(0, CLIENT))?;
        let server = configure(server, dev, addresses(0, SERVER))?;
        wait_for_carrier(&client)?;
        wait_for_carrier(&server)?;
        Ok(Self::direct(client, server))
    }

    /// The same hosts with addresses of a VXLAN over the devices of this lab, which has no router:
    /// `vx0`, 10.77.2.x and `fd77:2::x`, each in packets of the given family.
    pub fn vxlan(&self, in_v6: bool) -> Result<Self> {
        let over = |near: &Host, far: &Host, number| {
            let ns = near.ns.try_clone()?;
            let (local, remote) = (near.address(in_v6), far.address(in_v6));
            ns.run(|| Netlink::open()?.add_vxlan("vx0", 77, local, remote))??;
            configure(ns, "vx0", addresses(OVERLAY, number))
        };
        let client = over(&self.client, &self.server, CLIENT)?;
        let server = over(&self.server, &self.client, SERVER)?;
        Ok(Self::direct(client, server))
    }

    /// Client and server with a TAP device each: whoever holds the descriptors carries the frames
    /// between them, and can delay, drop, double and reorder them.
    pub fn tap_pair() -> Result<TapLab> {
        let (client, client_tap) = tap_host(CLIENT)?;
        let (server, server_tap) = tap_host(SERVER)?;
        Ok(TapLab {
            lab: Self::direct(client, server),
            client_tap,
            server_tap,
        })
    }

    /// A [`Lab::tap_pair`] whose client's end of the cable is a bridge in a namespace between.
    pub fn bridged_tap_pair() -> Result<(TapLab, Bridge)> {
        let (client, between) = (Namespace::anonymous()?, Namespace::anonymous()?);
        TO_SERVER.plug(&client, &between)?;
        let (client_tap, to_client, to_server) = between.run(|| -> Result<_> {
            let tap = tap::open("tap0")?;
            let mut netlink = Netlink::open()?;
            netlink.add_bridge("br0")?;
            let bridge = netlink.link_named("br0")?.index;
            let to_client = netlink.link_named("eth0")?.index;
            let to_server = netlink.link_named("tap0")?.index;
            for port in [to_client, to_server] {
                netlink.set_controller(port, Some(bridge))?;
                netlink.set_up(port)?;
            }
            netlink.set_up(bridge)?;
            Ok((tap, to_client, to_server))
        })??;
        let client = configure(client, "eth0", addresses(0, CLIENT))?;
        wait_for_carrier(&client)?;
        let (server, server_tap) = tap_host(SERVER)?;
        let taps = TapLab {
            lab: Self::direct(client, server),
            client_tap,
            server_tap,
        };
        let bridge = Bridge {
            ns: between,
            to_client,
            to_server,
        };
        Ok((taps, bridge))
    }

    fn joined(client: Namespace, server: Namespace) -> Result<Self> {
        let (client, server) = TO_SERVER.join(client, server)?;
        Ok(Self::direct(client, server))
    }

    fn direct(client: Host, server: Host) -> Self {
        Self {
            client,
            server,
            router: None,
        }
    }
}

fn names(prefix: &str) -> [String; 2] {
    [format!("{prefix}-client"), format!("{prefix}-server")]
}

/// A veth pair: the device and the host number at either end.
struct Cable {
    subnet: u8,
    near: (&'static str, u8),
    far: (&'static str, u8),
}

/// Joins client and server without a router.
const TO_SERVER: Cable = Cable {
    subnet: 0,
    near: ("eth0", CLIENT),
    far: ("eth0", SERVER),
};

impl Cable {
    fn plug(&self, near: &Namespace, far: &Namespace) -> Result<()> {
        near.run(|| Netlink::open()?.add_veth(self.near.0, self.far.0, far))?
    }

    fn join(&self, near: Namespace, far: Namespace) -> Result<(Host, Host)> {
        self.plug(&near, &far)?;
        let near = configure(near, self.near.0, addresses(self.subnet, self.near.1))?;
        let far = configure(far, self.far.0, addresses(self.subnet, self.far.1))?;
        // Only now both ends are up.
        wait_for_carrier(&near)?;
        wait_for_carrier(&far)?;
        Ok((near, far))
    }
}

fn tap_host(number: u8) -> Result<(Host, OwnedFd)> {
    let ns = Namespace::anonymous()?;
    let fd = ns.run(|| tap::open("tap0"))??;
    let host = configure(ns, "tap0", addresses(0, number))?;
    wait_for_carrier(&host)?;
    Ok((host, fd))
}

fn addresses(subnet: u8, host: u8) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::new(10, 77, subnet, host),
        Ipv6Addr::new(0xfd77, subnet.into(), 0, 0, 0, 0, 0, host.into()),
    )
}

/// Gives the device its addresses, and sets it and loopback up.
fn configure(ns: Namespace, dev: &str, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> Result<Host> {
    let ifindex = ns.run(|| -> Result<u32> {
        let mut netlink = Netlink::open()?;
        let loopback = netlink.link_named("lo")?.index;
        netlink.set_up(loopback)?;
        let ifindex = netlink.link_named(dev)?.index;
        netlink.set_up(ifindex)?;
        netlink.add_address(ifindex, v4.into(), V4_PREFIX)?;
        netlink.add_address(ifindex, v6.into(), V6_PREFIX)?;
        Ok(ifindex)
    })??;
    Ok(Host {
        ns,
        dev: dev.into(),
        ifindex,
        v4,
        v6,
    })
}

/// Waits until packets leave: the kernel notices a carrier a little after the cable is plugged
/// in, and drops what is sent before.
fn wait_for_carrier(host: &Host) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_micros(200);
    host.ns.run(|| {
        let mut netlink = Netlink::open()?;
        let start = Instant::now();
        while !netlink.link(host.ifindex)?.running {
            if start.elapsed() > PATIENCE {
                let operation = format!("wait for a carrier on {}", host.dev);
                return Err(Error::inside(host.ns.inode(), operation, Errno::TIMEDOUT));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    })?
}

/// Makes a namespace without devices into a router's. The files show the settings of the thread
/// that opens them.
fn enable_forwarding(ns: &Namespace) -> Result<()> {
    const SETTINGS: [(&str, &str); 3] = [
        ("/proc/sys/net/ipv4/ip_forward", "1"),
        ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
        // A router asks for its neighbours from its link-local address: for the first packet to
        // pass at once, that must not wait seconds for its duplicate address detection.
        ("/proc/sys/net/ipv6/conf/default/accept_dad", "0"),
    ];
    ns.run(|| {
        SETTINGS.iter().try_for_each(|(path, value)| {
            let operation = || format!("write {value} to {path}");
            fs::write(path, value).map_err(|e| Error::inside(ns.inode(), operation(), e))
        })
    })?
}

/// Routes from a host to the network of `target` by way of `gateway`.
fn route_to(host: &Host, target: &Host, gateway: &Host) -> Result<()> {
    host.ns.run(|| {
        let mut netlink = Netlink::open()?;
        let [_, _, v4_subnet, _] = target.v4.octets();
        let (v4, v6) = addresses(v4_subnet, 0);
        netlink.add_route(IpAddr::V4(v4), V4_PREFIX, gateway.v4.into())?;
        netlink.add_route(IpAddr::V6(v6), V6_PREFIX, gateway.v6.into())
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NamespaceNames;
    use rustix::{
        mount::{MountFlags, MountPropagationFlags},
        thread::UnshareFlags,
    };
    use std::{net::UdpSocket, path::Path};

    /// One datagram from client to server, sent at once after the lab is made.
    fn send_across(lab: &Lab, from: IpAddr, to: IpAddr) {
        let bind = |address| UdpSocket::bind((address, 7777)).unwrap();
        let receiver = lab.server.ns.run(|| bind(to)).unwrap();
        let sender = lab.client.ns.run(|| bind(from)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        sender.send_to(b"hello", (to, 7777)).unwrap();
        let mut buffer = [0; 16];
        let (length, source) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], source.ip()), (&b"hello"[..], from));
    }

    fn send_both(lab: &Lab) {
        send_across(lab, lab.client.v4.into(), lab.server.v4.into());
        send_across(lab, lab.client.v6.into(), lab.server.v6.into());
    }

    fn links(ns: &Namespace) -> Vec<String> {
        let links = ns
            .run(|| Netlink::open().unwrap().links().unwrap())
            .unwrap();
        links.into_iter().map(|link| link.name).collect()
    }

    #[test]
    fn ten_labs_at_once_have_the_same_addresses() {
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| send_both(&Lab::veth_pair().unwrap()));
            }
        });
    }

    #[test]
    fn addresses_are_the_documented_ones() {
        let lab = Lab::veth_pair().unwrap();
        assert_eq!(lab.client.v4.to_string(), "10.77.0.1");
        assert_eq!(lab.server.v4.to_string(), "10.77.0.2");
        assert_eq!(lab.client.v6.to_string(), "fd77::1");
        assert_eq!(lab.server.v6.to_string(), "fd77::2");
        assert_eq!(links(&lab.client.ns), ["lo", "eth0"]);
    }

    #[test]
    fn a_routed_lab_forwards() {
        let lab = Lab::routed().unwrap();
        send_both(&lab);
        let router = lab.router.as_ref().unwrap();
        assert_eq!(router.client_side.ns.inode(), router.server_side.ns.inode());
        assert_eq!(links(&router.client_side.ns), ["lo", "eth0", "eth1"]);
        let server_v6 = lab.server.v6.to_string();
        assert_eq!(server_v6, "fd77:1::2");
    }

    #[test]
    fn a_server_with_two_devices_is_reached() {
        for (lab, dev) in [(Lab::macvlan(), "mv0"), (Lab::bridged(), "br0")] {
            let lab = lab.unwrap();
            send_both(&lab);
            assert_eq!(links(&lab.server.ns), ["lo", "eth0", dev]);
        }
    }

    #[test]
    fn a_tunnel_leads_to_the_same_hosts() {
        for in_v6 in [false, true] {
            let lab = Lab::veth_pair().unwrap();
            let tunnel = lab.vxlan(in_v6).unwrap();
            send_both(&tunnel);
            assert_eq!(tunnel.server.v4.to_string(), "10.77.2.2");
            assert_eq!(links(&lab.client.ns), ["lo", "eth0", "vx0"]);
        }
    }

    #[test]
    fn the_router_forwards_by_itself_only() {
        let host_setting = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        let before = host_setting();
        let _lab = Lab::routed().unwrap();
        assert_eq!(host_setting(), before);
    }

    #[test]
    fn a_dropped_end_takes_the_cable_along() {
        let Lab { client, server, .. } = Lab::veth_pair().unwrap();
        drop(server);
        let start = Instant::now();
        while links(&client.ns) != ["lo"] {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Carries frames one way until the deadline or until `done`.
    fn carry(from: &OwnedFd, to: &OwnedFd, done: &dyn Fn() -> bool) {
        let start = Instant::now();
        let mut frame = [0; 2048];
        while !done() && start.elapsed() < Duration::from_secs(5) {
            match rustix::io::read(from, &mut frame) {
                Ok(length) => drop(rustix::io::write(to, &frame[..length]).unwrap()),
                Err(Errno::AGAIN) => thread::sleep(Duration::from_micros(100)),
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn a_tap_pair_reaches_through_user_space() {
        let taps = Lab::tap_pair().unwrap();
        send_over(&taps);
        assert_eq!(links(&taps.lab.client.ns), ["lo", "tap0"]);
        let TapLab {
            lab, client_tap, ..
        } = taps;
        drop(client_tap);
        assert_eq!(links(&lab.client.ns), ["lo"]);
    }

    #[test]
    fn a_bridged_tap_pair_reaches_through_the_bridge() {
        let (taps, bridge) = Lab::bridged_tap_pair().unwrap();
        send_over(&taps);
        assert_eq!(links(&taps.lab.client.ns), ["lo", "eth0"]);
        assert_eq!(links(&bridge.ns), ["lo", "eth0", "tap0", "br0"]);
    }

    /// With this process as the cable.
    fn send_over(taps: &TapLab) {
        use std::sync::atomic::{AtomicBool, Ordering};
        let done = AtomicBool::new(false);
        let is_done = || done.load(Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| carry(&taps.client_tap, &taps.server_tap, &is_done));
            scope.spawn(|| carry(&taps.server_tap, &taps.client_tap, &is_done));
            send_both(&taps.lab);
            done.store(true, Ordering::Relaxed);
        });
    }

    /// Runs `f` on a thread with a /run of its own.
    #[expect(unsafe_code, reason = "rustix has no safe unshare")]
    fn with_private_run(f: impl FnOnce() + Send) {
        let private = || {
            // SAFETY: the descriptor table stays shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
            f();
        };
        thread::scope(|scope| scope.spawn(private).join()).unwrap();
    }

    #[test]
    fn a_named_lab_has_names_until_it_is_dropped() {
        with_private_run(|| {
            let lab = Lab::named("demo").unwrap();
            send_both(&lab);
            let names = NamespaceNames::read().unwrap();
            assert_eq!(names.name(lab.client.ns.inode()), "demo-client");
            let opened = Namespace::named("demo-server").unwrap();
            assert_eq!(opened.inode(), lab.server.ns.inode());
            drop(lab);
            assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
        });
    }

    #[test]
    fn a_name_in_use_is_an_error_and_stays() {
        with_private_run(|| {
            let lab = Lab::named("demo").unwrap();
            assert_eq!(
                Lab::named("demo").unwrap_err().to_string(),
                "name a netns /run/netns/demo-client: file exists"
            );
            assert!(Namespace::named("demo-client").is_ok());
            drop(lab);
        });
    }

    #[test]
    fn what_a_killed_process_left_can_be_removed() {
        with_private_run(|| {
            std::mem::forget(Lab::named("demo").unwrap());
            fs::write("/run/netns/other-client", "").unwrap();
            assert!(Lab::remove_named("demo").unwrap());
            assert!(!Lab::remove_named("demo").unwrap());
            assert!(Lab::remove_named("other").unwrap(), "nothing mounted on it");
            assert!(!Path::new("/run/netns/demo-client").exists());
            Lab::named("demo").unwrap();
        });
    }
}

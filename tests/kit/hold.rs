//! A fault of known size at one side of one device, for chosen probes.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use kit_bpf::hold::HoldSkelBuilder;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore as _, MapFlags, ProgramMut, TC_EGRESS, TC_INGRESS, TcHookBuilder};
use netns::{Namespace, Netlink};
use report::model::Direction;

/// Of the queue, bytes a second. A probe of 512 bytes and each of its copies takes 277 us; the first
/// [`BURST`] bytes leave at once.
const RATE: u32 = 2_000_000;
const BURST: u32 = 2_000;

/// What is done to the chosen probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The CPU is busy.
    Burn,
    /// The queue of the device is filled before the probe; egress only.
    Queue,
    /// The kernel drops it.
    Drop,
}

/// A side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Behind `netif_receive_skb`.
    Ingress,
    /// Before the queue.
    Egress,
}

/// Where what happens to which packets. It stays as long as the device.
pub struct Hold<'a> {
    /// Where the device is.
    pub ns: &'a Namespace,
    /// Its name.
    pub dev: &'a str,
    /// Of the device.
    pub side: Side,
    /// Of the packet.
    pub direction: Direction,
    /// What happens.
    pub means: Means,
    /// Where layer 3 of the probe begins in a frame of the device.
    pub l3: u32,
    /// To these probes, by so many microseconds.
    pub chosen: &'a [(u32, u32)],
}

impl Hold<'_> {
    /// Attaches it. The filter keeps the program alive.
    pub fn attach(&self) {
        let mut storage = MaybeUninit::uninit();
        let mut open = HoldSkelBuilder::default().open(&mut storage).expect("open");
        for mut program in open.open_object_mut().progs_mut() {
            program.set_autoload(
                ["burn_time", "fill_queue", "drop"]
                    .iter()
                    .any(|n| program.name() == *n),
            );
        }
        let rodata = open.maps.rodata_data.as_deref_mut().expect("constants");
        rodata.l3 = self.l3;
        rodata.reply = self.direction == Direction::Reply;
        let skel = open.load().expect("load the faults");
        for (sequence, us) in self.chosen {
            let amount = match self.means {
                Means::Queue => us * (RATE / 1_000_000) + BURST,
                Means::Burn | Means::Drop => *us,
            };
            let (key, value) = (sequence.to_ne_bytes(), amount.to_ne_bytes());
            let chosen = &skel.maps.chosen;
            chosen.update(&key, &value, MapFlags::ANY).expect("choose");
        }
        let program = match self.means {
            Means::Burn => &skel.progs.burn_time,
            Means::Queue => &skel.progs.fill_queue,
            Means::Drop => &skel.progs.drop,
        };
        let _guard = self.ns.enter().expect("enter the namespace");
        let mut netlink = Netlink::open().expect("netlink");
        let ifindex = netlink.link_named(self.dev).expect(self.dev).index;
        if self.means == Means::Queue {
            netlink.tbf(ifindex, RATE, BURST, 1_000_000).expect("tbf");
        }
        filter(program, ifindex, self.side);
    }
}

/// Attaches a program to a device of the thread's namespace.
fn filter(program: &ProgramMut<'_>, ifindex: u32, side: Side) {
    let mut hook = TcHookBuilder::new(program.as_fd())
        .ifindex(ifindex.cast_signed())
        .hook(match side {
            Side::Ingress => TC_INGRESS,
            Side::Egress => TC_EGRESS,
        });
    // Both hooks of a device share one qdisc, which may be there.
    let _ = hook.create();
    hook.attach().expect("attach a filter");
}

/// In the thread's namespace: what `from` receives goes on at `to`, by the helper of this name. For
/// XDP it ends with the link.
pub fn redirect(helper: &str, from: &str, to: &str) -> Option<Link> {
    let mut netlink = Netlink::open().expect("netlink");
    let mut index = |dev: &str| netlink.link_named(dev).expect(dev).index;
    let (from, to) = (index(from), index(to));
    let mut storage = MaybeUninit::uninit();
    let mut open = HoldSkelBuilder::default().open(&mut storage).expect("open");
    for mut program in open.open_object_mut().progs_mut() {
        let wanted = program.name() == helper;
        program.set_autoload(wanted);
    }
    let rodata = open.maps.rodata_data.as_deref_mut().expect("constants");
    rodata.redirect_to = to;
    let skel = open.load().expect(helper);
    let xdp = |program: &ProgramMut<'_>| program.attach_xdp(from.cast_signed()).expect(helper);
    match helper {
        "xdp_redirect" => Some(xdp(&skel.progs.xdp_redirect)),
        "xdp_pass" => Some(xdp(&skel.progs.xdp_pass)),
        "redirect_neigh" => {
            filter(&skel.progs.redirect_neigh, from, Side::Ingress);
            None
        }
        _ => {
            filter(&skel.progs.redirect_peer, from, Side::Ingress);
            None
        }
    }
}

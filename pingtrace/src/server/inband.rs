//! Attaches the in-band stamping program to the devices that replies leave by: a TCX link where
//! the kernel has them (it vanishes with the process), else a clsact filter.

#![expect(
    unsafe_code,
    reason = "TCX links are not in libbpf-rs; four lines over libbpf"
)]

use crate::kernel::lab_clock;
use crate::kernel::meter::{self, Programs};
use crate::kernel::object::{self, Storage};
use crate::kernel::privileges::DEVICES;
use crate::kernel::tracer::{Role, Setup, Tracer};
use crate::units::monotonic_ns;
use anyhow::{Context, Result};
use bpf::inband::types::pt_losses;
use bpf::inband::{InbandSkel, InbandSkelBuilder, OpenInbandSkel};
use libbpf_rs::skel::Skel;
use libbpf_rs::{
    AsRawLibbpf, Link, MapHandle, ProgramMut, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder,
    libbpf_sys,
};
use netns::Netlink;
use report::model::Netns;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

/// Handle and priority of the clsact filter: fixed, so that the next start finds a stale one.
pub const HANDLE: u32 = 0x7ace;
const PRIORITY: u32 = 0x7ace;

enum Attachment {
    /// Detaches itself.
    Tcx {
        _link: Link,
    },
    Clsact {
        filter: TcHook,
        made_qdisc: bool,
    },
}

/// The in-band programs, and where they are attached.
pub struct Inband<'a> {
    skel: InbandSkel<'a>,
    attached: HashMap<u32, Attachment>,
}

impl<'a> Inband<'a> {
    /// Loads the programs; they share the tracer's tables. `own_netns` is what their stamps say.
    pub fn load(
        storage: &'a mut Storage,
        tracer: &Tracer<'_>,
        setup: &Setup,
        own_netns: Netns,
    ) -> Result<Self> {
        let skel = object::load(
            "the in-band programs",
            InbandSkelBuilder::default(),
            storage,
            |_| true,
            |open| configure(open, tracer, setup, own_netns),
        )?;
        Ok(Self {
            skel,
            attached: HashMap::new(),
        })
    }

    /// From now on the tracer sees every request.
    pub fn tracer_started(&mut self, setup: &Setup) {
        self.all_seen_from(setup.shown(monotonic_ns()));
    }

    /// From now on it does not.
    pub fn tracer_stops(&mut self) {
        self.all_seen_from(u64::MAX);
    }

    fn all_seen_from(&mut self, ns: u64) {
        if let Some(data) = self.skel.maps.data_data.as_deref_mut() {
            data.started_ns = ns;
        }
    }

    /// Stamps replies that leave by this device of the calling thread's namespace; says how.
    pub fn attach(&mut self, device: &netns::Link) -> Result<Option<&'static str>> {
        if self.attached.contains_key(&device.index) {
            return Ok(None);
        }
        let program = if device.ethernet {
            &self.skel.progs.inband_ether
        } else {
            &self.skel.progs.inband_raw
        };
        let (attachment, how) = match tcx(program, device.index) {
            Ok(link) => (Attachment::Tcx { _link: link }, "tcx"),
            Err(e) => {
                log::debug!("no TCX link on {}: {e}", device.name);
                let a = clsact(program.as_fd(), device.index).with_context(|| {
                    format!("attach tc egress to {}: needs {DEVICES}", device.name)
                })?;
                (a, "clsact")
            }
        };
        self.attached.insert(device.index, attachment);
        Ok(Some(how))
    }

    /// Whether it is attached by filters somewhere, as this kernel has no TCX links.
    pub fn has_filters(&self) -> bool {
        let mut all = self.attached.values();
        all.any(|attachment| matches!(attachment, Attachment::Clsact { .. }))
    }

    /// Removes the filter that a killed server left on this device.
    pub fn remove_stale(&self, device: &netns::Link) {
        let program = self.skel.progs.inband_ether.as_fd();
        let mut old = hook(program, device.index, TC_EGRESS);
        if old.query().is_ok() && old.detach().is_ok() {
            log::info!(
                "removed the stale filter of a killed server from {}",
                device.name
            );
            remove_unused_qdisc(program, device.index);
        }
    }

    /// The device is gone or down.
    pub fn forget(&mut self, ifindex: u32) {
        if let Some(mut attachment) = self.attached.remove(&ifindex) {
            detach(
                ifindex,
                &mut attachment,
                self.skel.progs.inband_ether.as_fd(),
            );
        }
    }

    /// Leaves every device.
    pub fn forget_all(&mut self) {
        for (ifindex, mut attachment) in self.attached.drain() {
            detach(
                ifindex,
                &mut attachment,
                self.skel.progs.inband_ether.as_fd(),
            );
        }
    }

    /// The programs that are loaded, by name.
    pub fn programs(&self) -> Programs {
        meter::loaded(self.skel.object())
    }

    /// The names that the programs send.
    pub fn names(&self) -> Result<MapHandle> {
        MapHandle::try_from(&self.skel.maps.names).context("open the map of names")
    }

    /// Replies stamped so far, and what had to be left out.
    pub fn counts(&self) -> (u64, pt_losses) {
        self.skel
            .maps
            .bss_data
            .as_deref()
            .map_or_else(Default::default, |bss| (bss.written, bss.losses))
    }
}

impl Drop for Inband<'_> {
    fn drop(&mut self) {
        self.forget_all();
    }
}

fn configure(
    open: &mut OpenInbandSkel<'_>,
    tracer: &Tracer<'_>,
    setup: &Setup,
    own_netns: Netns,
) -> Result<()> {
    let maps = tracer.maps();
    open.maps
        .slots
        .reuse_fd(maps.slots.as_fd())
        .context("share the table of slots")?;
    open.maps
        .slot_sets
        .reuse_fd(maps.slot_sets.as_fd())
        .context("share the sets of slots")?;
    open.maps
        .sessions
        .reuse_fd(maps.sessions.as_fd())
        .context("share the table of sessions")?;
    open.maps
        .session_sets
        .reuse_fd(maps.session_sets.as_fd())
        .context("share the sets of sessions")?;
    open.maps
        .pending
        .reuse_fd(maps.pending.as_fd())
        .context("share the ring buffer")?;
    let rodata = open.maps.rodata_data.as_deref_mut();
    let rodata = rodata.context("the object has no .rodata")?;
    rodata.set_bits = tracer.table.sets().ilog2();
    rodata.hash_key = tracer.hash_key();
    rodata.netns = own_netns.0;
    rodata.send_names = setup.send_names;
    if let Role::Server { on_the_way, .. } = setup.role {
        rodata.transit_host = on_the_way;
    }
    if let Some(clock) = setup.lab_clock {
        lab_clock::set!(rodata.lab_clock, clock);
    }
    Ok(())
}

fn tcx(program: &ProgramMut<'_>, ifindex: u32) -> io::Result<Link> {
    // SAFETY: the program is loaded; null options are allowed.
    let link = unsafe {
        libbpf_sys::bpf_program__attach_tcx(
            program.as_libbpf_object().as_ptr(),
            ifindex.cast_signed(),
            std::ptr::null(),
        )
    };
    let link = NonNull::new(link).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a link that libbpf has just made and that nobody else owns.
    Ok(unsafe { Link::from_ptr(link) })
}

fn hook(program: BorrowedFd<'_>, ifindex: u32, points: u32) -> TcHook {
    TcHookBuilder::new(program)
        .ifindex(ifindex.cast_signed())
        .replace(true)
        .handle(HANDLE)
        .priority(PRIORITY)
        .hook(points.cast_signed().cast_unsigned() as libbpf_rs::TcAttachPoint)
}

fn clsact(program: BorrowedFd<'_>, ifindex: u32) -> Result<Attachment> {
    let had_qdisc = Netlink::open()?
        .qdiscs(ifindex)?
        .iter()
        .any(|q| q.kind == "clsact");
    let mut filter = hook(program, ifindex, TC_EGRESS);
    if !had_qdisc {
        filter.create().context("make a clsact qdisc")?;
    }
    let filter = filter.attach().context("attach the filter")?;
    Ok(Attachment::Clsact {
        filter,
        made_qdisc: !had_qdisc,
    })
}

fn detach(ifindex: u32, attachment: &mut Attachment, program: BorrowedFd<'_>) {
    let Attachment::Clsact { filter, made_qdisc } = attachment else {
        return;
    };
    // The device may be gone, and with it the filter.
    let _ = filter.detach();
    if *made_qdisc {
        remove_unused_qdisc(program, ifindex);
    }
}

/// Removes the clsact qdisc unless others have filters there.
fn remove_unused_qdisc(program: BorrowedFd<'_>, ifindex: u32) {
    let others = Netlink::open()
        .and_then(|mut n| n.has_filters(ifindex))
        .unwrap_or(true);
    if !others {
        let _ = hook(program, ifindex, TC_EGRESS | TC_INGRESS).destroy();
    }
}

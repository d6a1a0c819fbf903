//! Attaches the in-band program to the devices by which replies leave.

use crate::kernel::tracer::{Setup, Tracer};
use crate::kernel::tunnels::TunnelPorts;
use crate::server::Args;
use crate::server::inband::Inband;
use anyhow::{Context, Result, bail};
use netns::{LinkEvent, LinkEvents, Netlink};
use report::model::Netns;
use std::collections::BTreeSet;
use std::mem::MaybeUninit;

/// The devices that replies leave by.
pub struct Devices<'a> {
    pub inband: Option<Inband<'a>>,
    pub events: LinkEvents,
    tunnels: TunnelPorts,
    chosen: Vec<String>,
    /// Whether replies are stamped at all now.
    armed: bool,
    /// Those that were said to be stamped.
    said: BTreeSet<u32>,
}

impl<'a> Devices<'a> {
    /// Attaches to all devices that are up, or to the chosen ones.
    pub fn open(
        storage: &'a mut MaybeUninit<libbpf_rs::OpenObject>,
        tracer: &Tracer<'_>,
        setup: &Setup,
        own: Netns,
        args: &Args,
    ) -> Result<Self> {
        let chosen = &args.interface;
        let inband = Inband::load(storage, tracer, setup, own)
            .map_err(|e| log::warn!("no in-band stamps, stamp packets instead: {e:#}"))
            .ok();
        let events = LinkEvents::open().context("watch the network devices")?;
        let tunnels = tracer.tunnel_ports(setup, &args.tunnel)?;
        let mut this = Self {
            inband,
            events,
            tunnels,
            chosen: chosen.clone(),
            armed: true,
            said: BTreeSet::new(),
        };
        let links = Netlink::open()?
            .links()
            .context("list the network devices")?;
        for name in chosen {
            if !links.iter().any(|l| l.name == *name) {
                bail!("there is no device {name} (-I) in this network namespace");
            }
        }
        for link in &links {
            if let Some(inband) = &this.inband {
                inband.remove_stale(link);
            }
            this.add(link);
        }
        Ok(this)
    }

    /// Attaches to all devices again, after [`disarm`](Self::disarm).
    pub fn arm(&mut self) -> Result<()> {
        self.armed = true;
        let links = Netlink::open()?.links();
        let links = links.context("list the network devices")?;
        for link in &links {
            self.add(link);
        }
        Ok(())
    }

    /// Leaves all devices.
    pub fn disarm(&mut self) {
        self.armed = false;
        if let Some(inband) = &mut self.inband {
            inband.forget_all();
        }
    }

    fn add(&mut self, link: &netns::Link) {
        if let Some(Err(e)) = link.tunnel_port.map(|port| self.tunnels.add(port)) {
            log::warn!("what {} carries is not seen: {e:#}", link.name);
        }
        let Some(inband) = &mut self.inband else {
            return;
        };
        let chosen = self.chosen.is_empty() || self.chosen.contains(&link.name);
        let wanted = chosen && self.armed;
        if !link.up || !wanted {
            inband.forget(link.index);
            return;
        }
        match inband.attach(link) {
            Ok(Some(how)) if self.said.insert(link.index) => {
                log::info!("stamping replies that leave by {} ({how})", link.name);
            }
            Ok(_) => {}
            Err(e) => log::warn!(
                "no in-band stamps on {}, stamp packets instead: {e:#}",
                link.name
            ),
        }
    }

    /// Events were lost: a device with a known index may be another one by now.
    fn resync(&mut self, links: &[netns::Link]) {
        log::warn!("changes of network devices were lost: looking at all of them anew");
        if let Some(inband) = &mut self.inband {
            inband.forget_all();
        }
        for link in links {
            self.add(link);
        }
    }

    /// Follows devices that appear, go up or down, or vanish. Returns whether any changed.
    pub fn update(&mut self) -> Result<bool> {
        let events = self.events.read().context("watch the network devices")?;
        let any = !events.is_empty();
        for event in events {
            match event {
                LinkEvent::Added { link } | LinkEvent::Changed { link } => self.add(&link),
                LinkEvent::Removed { index } => {
                    if let Some(inband) = &mut self.inband {
                        inband.forget(index);
                    }
                }
                LinkEvent::Resync { links } => self.resync(&links),
            }
        }
        Ok(any)
    }
}

//! Kernel programs that keep a CPU busy for a known time at a known place of the stack: a long softirq,
//! interrupts that are off, or a hook that holds up chosen probes.
//!
//! They end with the value and the devices.

use crate::kernel::features;
use crate::kernel::object::{self, Storage};
use crate::kernel::thread::pin;
use anyhow::{Context, Result};
use bpf::burn::types::{burn_hits, burn_site};
use bpf::burn::{BurnSkel, BurnSkelBuilder, OpenBurnSkel};
use libbpf_rs::{Link, TC_EGRESS, TC_INGRESS, TcHookBuilder};
use netns::Host;
use std::io;
use std::iter::StepBy;
use std::ops::Range;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

/// Where chosen probes are held up, each on the CPU that handles it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// tc egress of the client's device, before its queue: `l_tx_kern`.
    ClientEgress = burn_site::CLIENT_EGRESS.0 as isize,
    /// tc ingress of the client's device, behind `netif_receive_skb`: `l_rx_kern`.
    ClientIngress = burn_site::CLIENT_INGRESS.0 as isize,
    /// tc ingress of the server's device: `r_rx_kern`.
    ServerIngress = burn_site::SERVER_INGRESS.0 as isize,
    /// tc egress of the server's device: `r_tx_kern`.
    ServerEgress = burn_site::SERVER_EGRESS.0 as isize,
    /// Between the client's socket and the wake-up of its reader: `l_rx_task_waking`. Since Linux
    /// 6.2.
    WakeUp = burn_site::WAKE_UP.0 as isize,
}

/// The sequence numbers of the probes that are held up at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Among these,
    pub range: Range<u32>,
    /// one in this many, the first included.
    pub step: u32,
}

impl Hits {
    /// The numbers in order.
    pub fn sequences(&self) -> StepBy<Range<u32>> {
        self.range.clone().step_by(self.step as usize)
    }
}

/// What takes long on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Long {
    /// A softirq other than `NET_RX`: a `NET_RX` raised meanwhile waits for its entry.
    Softirq,
    /// `NET_RX`, before it polls.
    NetRx,
    /// Interrupts are off: those that come meanwhile wait.
    IrqsOff,
}

impl Long {
    /// For a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::Softirq => "long softirqs",
            Self::NetRx => "a long NET_RX",
            Self::IrqsOff => "interrupts off",
        }
    }
}

/// The loaded programs.
pub struct Burn<'a> {
    skel: BurnSkel<'a>,
    /// The attached program of [`Long`], and how long it takes.
    long: Option<(Link, Duration)>,
    wake_ups: Option<Link>,
}

impl<'a> Burn<'a> {
    /// Loads the programs. Each chosen probe will be held up for `each` at its site.
    pub fn load(storage: &'a mut Storage, each: Duration) -> Result<Self> {
        let skel = object::load(
            "the programs that burn time",
            BurnSkelBuilder::default(),
            storage,
            |name| name != "burn_wake_up" || can_delay_wake_ups(),
            |open| configure(open, each),
        )?;
        Ok(Self {
            skel,
            long: None,
            wake_ups: None,
        })
    }

    /// Holds up these probes instead of those that were chosen before. They must not be on their way yet.
    pub fn choose(&mut self, chosen: &[(Site, Hits)]) -> Result<()> {
        let bss = self.skel.maps.bss_data.as_deref_mut();
        let bss = bss.context("the object has no .bss")?;
        bss.hits = Default::default();
        for (site, hits) in chosen {
            bss.hits[*site as usize] = burn_hits {
                first: hits.range.start,
                step: hits.step,
                end: hits.range.end,
            };
        }
        Ok(())
    }

    /// Holds up the chosen probes from now on.
    pub fn attach(&mut self, client: &Host, server: &Host) -> Result<()> {
        let programs = &self.skel.progs;
        let places = [
            (client, TC_EGRESS, &programs.client_egress),
            (client, TC_INGRESS, &programs.client_ingress),
            (server, TC_INGRESS, &programs.server_ingress),
            (server, TC_EGRESS, &programs.server_egress),
        ];
        for (host, point, program) in places {
            let _guard = host.ns.enter()?;
            let mut hook = TcHookBuilder::new(program.as_fd())
                .ifindex(host.ifindex.cast_signed())
                .hook(point);
            // Both hooks of a device share one qdisc, and a server may have made it.
            let _ = hook.create();
            let attached = hook.attach();
            attached.with_context(|| format!("attach a tc filter to {}", host.dev))?;
        }
        if can_delay_wake_ups() {
            self.wake_ups = Some(object::attach(&self.skel.progs.burn_wake_up)?);
        }
        Ok(())
    }

    /// Makes each [`arm`](Self::arm) keep this CPU busy once for this time. Programs that stamp the entry of
    /// a softirq must be attached already, else they stamp its end.
    pub fn attach_long(&mut self, what: Long, cpu: usize, takes: Duration) -> Result<()> {
        let bss = self.skel.maps.bss_data.as_deref_mut();
        let bss = bss.context("the object has no .bss")?;
        bss.long_cpu = cpu as u32;
        bss.long_ns = takes.as_nanos() as u32;
        bss.in_net_rx = what == Long::NetRx;
        bss.armed = false;
        bss.burnt = 0;
        let program = match what {
            Long::Softirq | Long::NetRx => &self.skel.progs.burn_softirq,
            Long::IrqsOff => &self.skel.progs.burn_irqs_off,
        };
        self.long = Some((object::attach(program)?, takes));
        Ok(())
    }

    /// Takes long at the next opportunity.
    pub fn arm(&mut self) {
        if let Some(bss) = self.skel.maps.bss_data.as_deref_mut() {
            bss.armed = true;
        }
    }

    /// Takes long now, in a thread on this CPU that starts a timer.
    pub fn arm_in_thread(&mut self, cpu: usize) -> io::Result<()> {
        thread::scope(|scope| {
            let sleep = || {
                pin(cpu)?;
                self.arm();
                thread::sleep(Duration::from_nanos(1));
                Ok(())
            };
            let sleeper = thread::Builder::new().name("stall".into());
            let slept = sleeper.spawn_scoped(scope, sleep)?.join();
            slept.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Ends [`attach_long`](Self::attach_long). Returns begin and end of what took long,
    /// `CLOCK_MONOTONIC` ns; the first 256.
    pub fn detach_long(&mut self) -> Vec<(u64, u64)> {
        let (Some(bss), Some((link, takes))) =
            (self.skel.maps.bss_data.as_deref_mut(), self.long.take())
        else {
            return Vec::new();
        };
        bss.armed = false;
        // One may have begun just now.
        thread::sleep(2 * takes);
        drop(link);
        let spans = &bss.spans[..bss.burnt as usize];
        spans.iter().map(|span| (span.from, span.to)).collect()
    }
}

/// Whether this kernel has a place between a socket and the wake-up of its reader.
pub fn can_delay_wake_ups() -> bool {
    features::known().has_tracepoint("sk_data_ready")
}

fn configure(open: &mut OpenBurnSkel<'_>, each: Duration) -> Result<()> {
    let rodata = open.maps.rodata_data.as_deref_mut();
    rodata.context("the object has no .rodata")?.probe_ns = each.as_nanos() as u64;
    Ok(())
}

//! The thread that reads the counters of this host.
//!
//! It reads up to ten times a second what the kernel has in files and says by netlink, and what the drivers of the
//! probes' devices count. A driver may ask its firmware, under the lock that all configuration of devices needs:
//! so the pause after a reading is [`REST`] times as long as the drivers took, and [`SHARE`] times as long as the CPU
//! time of all: at most a tenth of the time, a hundredth of a CPU. It has the least priority of those that get a CPU
//! also on a busy host (nice 19), where a reading takes longer: probes do not wait for it, and counters are known in
//! the incident they are for.

use super::proc::{self, Parse};
use super::readings::{At, Readings};
use super::request::Request;
use super::target::OfTarget;
use crate::control::Pulse;
use crate::kernel::ethtool::{Ethtool, Statistics};
use crate::units::{monotonic_ns, thread_cpu_ns};
use anyhow::{Context, Result};
use netns::Netlink;
use report::analysis::moved::MovedTally;
use report::model::{CounterSource, Host, Netns};
use rustix::process::setpriority_process;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two readings.
const PERIOD: Duration = Duration::from_millis(100);
/// A pause is at least this many times as long as the CPU time of the reading before it.
const SHARE: u32 = 100;
/// And this many times as long as the drivers took to answer.
const REST: u32 = 10;
/// Of the least priority.
const NICE: i32 = 19;
/// Upper bound on devices of which counters are read.
const MAX_DEVICES: usize = 16;

/// The running thread, which ends with this and all that was made of it.
pub struct Sampler {
    requests: Sender<Request>,
    netns: Netns,
}

impl Sampler {
    /// Starts to read, in this namespace.
    pub fn start(netns: Netns, pulse: Pulse) -> Result<Self> {
        let (requests, asked) = channel();
        let mut reader = Reader::open()?;
        let (ready, started) = channel();
        let read = move || {
            // Probes do not wait for it.
            if let Err(e) = setpriority_process(None, NICE) {
                log::debug!("the thread that reads counters has the priority of others: {e}");
            }
            let _ = ready.send(());
            reader.run(&asked, &pulse);
        };
        let thread = thread::Builder::new().name("counters".into());
        thread
            .spawn(read)
            .context("start the thread that reads counters")?;
        started
            .recv()
            .context("start the thread that reads counters")?;
        Ok(Self { requests, netns })
    }

    /// For the probes of this target.
    pub fn of_target(&self, target: u32) -> OfTarget {
        OfTarget::new(target, self.netns, self.requests.clone())
    }
}

/// What is read.
struct Reader {
    tally: MovedTally,
    readings: Readings,
    netlink: Netlink,
    ethtool: Ethtool,
    files: Files,
    devices: Vec<Device>,
    text: String,
    /// When the last reading began.
    last_ns: Option<u64>,
}

/// A device that probes pass.
struct Device {
    ifindex: u32,
    /// What it is called; empty while it is not there.
    name: String,
    /// Of its driver, until it says none.
    driver: Option<Statistics>,
}

struct Files {
    snmp: File,
    netstat: File,
    /// Absent without IPv6.
    snmp6: Option<File>,
    softnet: File,
}

impl Files {
    /// They stay those of this thread's namespace.
    fn open() -> Result<Self> {
        let open = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            File::open(&path).with_context(|| format!("read counters: open {path}"))
        };
        Ok(Self {
            snmp: open("snmp")?,
            netstat: open("netstat")?,
            snmp6: open("snmp6").ok(),
            softnet: open("softnet_stat")?,
        })
    }
}

impl Reader {
    fn open() -> Result<Self> {
        Ok(Self {
            tally: MovedTally::default(),
            readings: Readings::default(),
            netlink: Netlink::open()?,
            ethtool: Ethtool::open()?,
            files: Files::open()?,
            devices: Vec::new(),
            text: String::new(),
            last_ns: None,
        })
    }

    fn run(&mut self, asked: &Receiver<Request>, pulse: &Pulse) {
        let (mut count, begin) = (0_u64, thread_cpu_ns());
        let mut next_ns = 0_u64;
        loop {
            let pause = Duration::from_nanos(next_ns.saturating_sub(monotonic_ns()));
            match pulse.awaits(|| asked.recv_timeout(pause)) {
                Ok(Request::Device(ifindex)) => self.add(ifindex),
                Ok(Request::Slow(target, span)) => self.tally.slow(target, span),
                Ok(Request::Result(target, to)) => {
                    self.read();
                    count += 1;
                    let _ = to.send(self.tally.result(target, Host::Client));
                }
                Err(RecvTimeoutError::Timeout) => {
                    next_ns = monotonic_ns() + self.read().as_nanos() as u64;
                    count += 1;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let cpu = Duration::from_nanos(thread_cpu_ns() - begin);
        log::debug!("counters were read {count} times, in {cpu:?} of CPU time");
    }

    fn add(&mut self, ifindex: u32) {
        let is_known = self.devices.iter().any(|device| device.ifindex == ifindex);
        if is_known {
            return;
        }
        if self.devices.len() == MAX_DEVICES {
            log::warn!(
                "--explain: counters of device {ifindex} are not read: the probes pass too many devices"
            );
            return;
        }
        self.devices.push(Device {
            ifindex,
            name: String::new(),
            driver: Some(Statistics::default()),
        });
    }

    /// Reads all counters; returns the pause until the next reading.
    fn read(&mut self) -> Duration {
        let (begin_ns, cpu_ns) = (monotonic_ns(), thread_cpu_ns());
        self.readings.begin();
        self.files();
        let asked = Instant::now();
        self.devices();
        let rest = asked.elapsed() * REST;
        self.qdiscs();
        let end_ns = monotonic_ns();
        let moved = self.readings.end();
        if let Some(last_ns) = self.last_ns.replace(begin_ns) {
            self.tally.interval((last_ns, end_ns), moved);
        }
        let cpu = Duration::from_nanos(thread_cpu_ns() - cpu_ns) * SHARE;
        PERIOD.max(cpu).max(rest)
    }

    fn files(&mut self) {
        let Self {
            tally,
            readings,
            files,
            text,
            ..
        } = self;
        let mut read = |file: &mut File, parse: Parse, source| {
            text.clear();
            if file
                .rewind()
                .and_then(|()| file.read_to_string(text))
                .is_ok()
            {
                parse(text, &mut |name, value| {
                    readings.note(tally, (source, None), name, value);
                });
            }
        };
        read(
            &mut files.snmp,
            |text, take| proc::pairs(text, take),
            CounterSource::Protocol,
        );
        read(
            &mut files.netstat,
            |text, take| proc::pairs(text, take),
            CounterSource::Protocol,
        );
        if let Some(snmp6) = &mut files.snmp6 {
            read(
                snmp6,
                |text, take| proc::list(text, take),
                CounterSource::Protocol,
            );
        }
        read(
            &mut files.softnet,
            |text, take| proc::softnet(text, take),
            CounterSource::Softnet,
        );
    }

    /// What is gone, or refused, is no part of this reading.
    fn devices(&mut self) {
        for device in &mut self.devices {
            let Device {
                ifindex,
                name: device,
                driver,
            } = device;
            device.clear();
            let Ok(link) = self.netlink.link_counters(*ifindex) else {
                continue;
            };
            device.clone_from(&link.name);
            let at = Some(At(*ifindex, &link.name));
            for (name, value) in &link.counters {
                let source = (CounterSource::Link, at);
                self.readings.note(&mut self.tally, source, name, *value);
            }
            let Some(statistics) = driver else { continue };
            if !self.ethtool.statistics(&link.name, statistics) {
                log::debug!("{}: its driver has no statistics", link.name);
                *driver = None;
                continue;
            }
            for (name, value) in statistics.iter() {
                // Many drivers repeat what the kernel counts.
                if !self.readings.has(CounterSource::Link, *ifindex, name) {
                    let source = (CounterSource::Ethtool, at);
                    self.readings.note(&mut self.tally, source, name, value);
                }
            }
        }
    }

    /// Those of one kind and device together: a device with many queues has as many.
    fn qdiscs(&mut self) {
        if self.devices.is_empty() {
            return;
        }
        let all = self.netlink.qdisc_counters().unwrap_or_default();
        let devices = self.devices.iter().filter(|device| !device.name.is_empty());
        for Device { ifindex, name, .. } in devices {
            let source = (CounterSource::Qdisc, Some(At(*ifindex, name)));
            let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for qdisc in all.iter().filter(|qdisc| qdisc.ifindex == *ifindex) {
                for (name, value) in qdisc.counters {
                    *sums.entry((&qdisc.kind, name)).or_default() += value;
                }
            }
            for ((kind, name), sum) in sums {
                self.readings
                    .note(&mut self.tally, source, &format!("{kind} {name}"), sum);
            }
        }
    }
}

//! When a server is armed, that is, when its programs are attached: from the first request on, until none has come
//! for some time (`--linger`). Before and after that it is idle: nothing of it runs for the packets of the host but
//! the filter of its ICMP sockets, which sees echo requests only, and asks for the programs when one may have stamps.
//!
//! The order loses no slot. The program that takes slots is attached last, when the reply's stamps and the writing of
//! stamps in band are there; it is detached first, and if a request came meanwhile, attached again.

use super::args::Linger;
use super::devices::Devices;
use super::slot;
use crate::capture::explain;
use crate::kernel::recorder::Recorder;
use crate::kernel::tracer::{Setup, Tracer};
use crate::units::monotonic_ns;
use report::format::metrics::ArmingView;
use report::units::duration;

/// What is attached while a server is armed.
pub struct Hooks<'a> {
    /// The programs that stamp.
    pub tracer: Tracer<'a>,
    /// Those that write stamps into replies.
    pub devices: Devices<'a>,
    /// The recorder of `--explain`.
    pub recording: Option<explain::Start<'a>>,
    /// Its timers, on CPUs that receive.
    pub ticks: explain::Ticks,
    /// What the programs were loaded with.
    pub setup: Setup,
}

impl Hooks<'_> {
    /// What cannot be attached is missing, not fatal.
    fn arm(&mut self) {
        let recorder = self.recording.as_mut().map(|start| &mut start.recorder);
        if let Some(Err(e)) = recorder.map(Recorder::attach_again) {
            log::warn!("--explain: slow probes are not explained now: {e:#}");
        }
        if let Err(e) = self.devices.arm() {
            log::warn!("stamp packets instead of stamps in band: {e:#}");
        }
        self.tracer.attach_again();
        self.tracer_started();
    }

    /// Whether it did: not if a request came just now.
    fn disarm(&mut self) -> bool {
        let last = self.tracer.last_request_ns();
        if let Some(inband) = &mut self.devices.inband {
            inband.tracer_stops();
        }
        self.tracer.close();
        if self.tracer.last_request_ns() != last {
            self.tracer.open();
            self.tracer_started();
            return false;
        }
        self.tracer.detach();
        self.devices.disarm();
        self.ticks = explain::Ticks::default();
        if let Some(recording) = &mut self.recording {
            recording.recorder.detach();
        }
        true
    }

    /// Every request is seen from now on.
    pub fn tracer_started(&mut self) {
        if let Some(inband) = &mut self.devices.inband {
            inband.tracer_started(&self.setup);
        }
    }

    /// Follows the CPUs and kernel threads that receive probes, as far as that is wanted.
    pub fn follow_receivers(&mut self) {
        if !self.tracer.is_open() {
            return;
        }
        self.tracer.follow_napi_threads();
        if self.recording.is_some() {
            self.ticks.start(self.tracer.receiving_cpus());
        }
    }

    /// When the last request came, `CLOCK_MONOTONIC` ns, seen at `now`.
    fn last_request_ns(&self, now: u64) -> u64 {
        let ago = self
            .setup
            .shown(now)
            .saturating_sub(self.tracer.last_request_ns());
        now.saturating_sub(ago)
    }
}

/// Whether the server is armed, and how often and how long it was. Times are `CLOCK_MONOTONIC` ns.
pub struct Arming {
    /// Absent: it is always armed.
    linger_ns: Option<u64>,
    /// Since when it is armed; absent while it is idle.
    since_ns: Option<u64>,
    /// When it is to be idle.
    until_ns: u64,
    times: u64,
    /// How long it was, without this time.
    before_ns: u64,
}

impl Arming {
    /// Armed.
    fn new(linger: Linger, now: u64) -> Self {
        Self {
            linger_ns: linger.ns(),
            since_ns: Some(now),
            until_ns: 0,
            times: 0,
            before_ns: 0,
        }
    }

    /// A server whose programs are attached: idle from now on, unless it is always armed.
    pub fn start(linger: Linger, hooks: &mut Hooks<'_>) -> Self {
        let mut this = Self::new(linger, monotonic_ns());
        if this.linger_ns.is_some() && hooks.disarm() {
            this.since_ns = None;
        }
        this
    }

    /// Arms the server if a request asks for it; makes it idle if none has come for long enough.
    pub fn update(&mut self, hooks: &mut Hooks<'_>) {
        let now = monotonic_ns();
        if let Some(by) = hooks.tracer.wanted_by() {
            hooks.arm();
            self.begin(now);
            log::info!("armed by a request from {}", slot::address(&by, 0).ip());
        } else if self.is_over(hooks.last_request_ns(now), now) && hooks.disarm() {
            self.end(now);
            let linger = duration(self.linger_ns.unwrap_or(0));
            log::info!("idle: no request for {linger} (--linger)");
        }
    }

    /// When to look again.
    pub fn wake_at(&self) -> Option<u64> {
        (self.since_ns.is_some() && self.linger_ns.is_some()).then_some(self.until_ns)
    }

    fn begin(&mut self, now: u64) {
        self.since_ns = Some(now);
        self.until_ns = now.saturating_add(self.linger_ns.unwrap_or(0));
        self.times += 1;
    }

    fn is_over(&mut self, last_request_ns: u64, now: u64) -> bool {
        let (Some(linger), Some(_)) = (self.linger_ns, self.since_ns) else {
            return false;
        };
        self.until_ns = self.until_ns.max(last_request_ns.saturating_add(linger));
        now >= self.until_ns
    }

    fn end(&mut self, now: u64) {
        let since = self.since_ns.take();
        self.before_ns += since.map_or(0, |since| now.saturating_sub(since));
    }

    /// How it is, in a word or two.
    pub fn state(&self) -> &'static str {
        match (self.linger_ns, self.since_ns) {
            (None, _) => "always armed",
            (_, Some(_)) => "armed",
            (_, None) => "idle",
        }
    }

    /// For the metrics, at `now`; `unseen` as below.
    pub fn view(&self, now: u64, unseen: u64) -> ArmingView {
        let this = self.since_ns.map(|since| now.saturating_sub(since));
        ArmingView {
            is_armed: this.is_some(),
            times: self.times,
            ns: self.before_ns + this.unwrap_or(0),
            unseen,
        }
    }

    /// How it was, at `now`. `unseen`: requests that came before the programs were attached.
    pub fn line(&self, now: u64, unseen: u64) -> String {
        let is = self.state();
        if self.linger_ns.is_none() {
            return is.to_owned();
        }
        let all = duration(self.view(now, unseen).ns);
        let times = self.times;
        format!("{is}; armed {times} times so far, for {all} in all; {unseen} requests came before")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SECOND;
    use std::time::Duration;

    #[test]
    fn it_lingers_after_the_last_request() {
        let mut arming = Arming::new(Linger::For(Duration::from_secs(30)), 0);
        arming.end(0);
        assert_eq!(arming.wake_at(), None);
        assert!(!arming.is_over(0, 100 * SECOND));
        arming.begin(100 * SECOND);
        assert_eq!(arming.wake_at(), Some(130 * SECOND));
        // The last request was before that: the one that armed it had no slot.
        assert!(!arming.is_over(7 * SECOND, 129 * SECOND));
        assert!(!arming.is_over(120 * SECOND, 130 * SECOND));
        assert_eq!(arming.wake_at(), Some(150 * SECOND));
        assert!(arming.is_over(120 * SECOND, 150 * SECOND));
        arming.end(150 * SECOND);
        arming.begin(200 * SECOND);
        let said = arming.line(210 * SECOND, 3);
        assert_eq!(
            said,
            "armed; armed 2 times so far, for 60.0 s in all; 3 requests came before"
        );
    }

    #[test]
    fn one_that_is_always_armed_never_looks() {
        let mut arming = Arming::new(Linger::Always, 0);
        assert_eq!(arming.wake_at(), None);
        assert!(!arming.is_over(0, u64::MAX));
        assert_eq!(arming.line(9, 0), "always armed");
    }
}

//! The receiving thread: reads the sockets, keeps time, and feeds the targets.

use super::args::Args;
use super::index::ProbeIndex;
use super::joining::Joining;
use super::sender::Adaptive;
use super::target::{Ended, Target};
use super::target_list::Updates;
use super::this_host::ThisHost;
use crate::capture::explain;
use crate::control::{Asked, Control};
use crate::output::entry::Cost;
use crate::units::{monotonic_ns, realtime_ns};
use crate::wire::icmp_error::IcmpError;
use crate::wire::number::SessionId;
use crate::wire::packet;
use crate::wire::socket::{self, MAX_MESSAGE, ProbeSocket, RECEIVE_TICK, Received};
use report::model::send_error::SendError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// Time between two readings of clocks and counters, ns: at least this, and this for each target.
const HOUSEKEEPING_NS: u64 = 10_000_000;
const HOUSEKEEPING_OF_EACH_NS: u64 = 100_000;
/// Targets join in a turn until this time has passed, ns: replies wait no longer.
const JOINING_NS: u64 = 500_000;
/// After a signal, replies under way are awaited for this long, ns.
const STOP_GRACE_NS: u64 = 100_000_000;

/// Takes replies, and finds out the state of every probe.
pub struct Receiver<'a, 'k> {
    here: ThisHost<'k>,
    joining: Joining<'a>,
    /// One for each address family in use.
    sockets: Vec<Arc<ProbeSocket>>,
    targets: Vec<Target>,
    /// Those that get no further probe, until the last ones are answered and have their stamps.
    leaving: VecDeque<SessionId>,
    ended: Vec<Ended>,
    by_session: HashMap<SessionId, usize>,
    /// The last error of receiving.
    failed: Option<SendError>,
    /// Whose turn it is in housekeeping, and when.
    turn: usize,
    turn_ns: u64,
    /// What signals asked for, until every target has done it: how many have not.
    asked: (Asked, usize),
    /// Files are being opened again.
    is_reloading: bool,
    buffer: Vec<MaybeUninit<u8>>,
}

impl<'a, 'k> Receiver<'a, 'k> {
    /// Of the targets that join.
    pub fn new(here: ThisHost<'k>, joining: Joining<'a>) -> Self {
        Self {
            here,
            sockets: joining.sockets.clone(),
            joining,
            targets: Vec::new(),
            leaving: VecDeque::new(),
            ended: Vec::new(),
            by_session: HashMap::new(),
            failed: None,
            turn: 0,
            turn_ns: 0,
            asked: (Asked::default(), 0),
            is_reloading: false,
            buffer: vec![MaybeUninit::uninit(); MAX_MESSAGE],
        }
    }

    /// Takes all targets that wait.
    pub fn join_all(&mut self) {
        while self.join_one() {}
        self.joining.phases.has_begun = true;
    }

    /// Replies to its probes are expected from now on; false if none waits.
    fn join_one(&mut self) -> bool {
        let Some(target) = self.joining.next(&self.here) else {
            return false;
        };
        let session = target.shared.session;
        self.by_session.insert(session, self.targets.len());
        self.targets.push(target);
        true
    }

    /// No target joins any more.
    pub fn close(&mut self) {
        self.joining.changes = None;
    }

    /// Whether targets may still join, so that a run without any goes on.
    fn awaits_targets(&self, now: u64, control: &Control) -> bool {
        let Args { count, time, .. } = self.joining.args;
        let until_ns = match (count, time) {
            (_, Some(time)) => self.joining.begin_ns + time.as_nanos() as u64,
            (Some(_), None) => 0,
            (None, None) => u64::MAX,
        };
        self.joining.updates.is_some() && now < until_ns && !control.stopped()
    }

    /// Takes changes of the list: a turn ends soon, so that nobody waits long.
    fn follow_list(&mut self, now: u64) {
        self.joining.take_updates();
        if !self.joining.leaving.is_empty() {
            let targets = self.targets.iter();
            let leaving = targets.filter(|target| self.joining.dismiss(target));
            let leaving: Vec<_> = leaving.map(|target| target.shared.session).collect();
            self.leaving.extend(leaving);
            // Who did not join cannot leave.
            self.joining.leaving.clear();
        }
        while self.join_one() && monotonic_ns() < now + JOINING_NS {}
        self.remove_one(now);
    }

    /// The results of a target whose last probes are answered, or given up, are written. Those that leave take turns.
    fn remove_one(&mut self, now: u64) {
        let Some(session) = self.leaving.pop_front() else {
            return;
        };
        let Some(at) = self.by_session.get(&session).copied() else {
            return;
        };
        let about = self.targets[at].speaks();
        if !self.targets[at].has_left(now, &mut self.here) {
            self.leaving.push_back(session);
            return;
        }
        self.by_session.remove(&session);
        let mut target = self.targets.swap_remove(at);
        if let Some(moved) = self.targets.get(at) {
            self.by_session.insert(moved.shared.session, at);
        }
        target.end(&mut self.here);
        target.collector.retire();
        self.joining.left(&target);
        drop(about);
        self.ended.push(target.finish(&mut self.here));
    }

    /// Receives until the state of every probe is final.
    pub fn open_loop(&mut self, control: &Control) {
        loop {
            self.receive();
            let now = self.housekeep(control);
            let grace_ns = control.stopped().then_some(STOP_GRACE_NS);
            let here = &mut self.here;
            let mut targets = self.targets.iter_mut();
            if targets.all(|target| target.is_over(now, grace_ns, here))
                && !self.awaits_targets(now, control)
            {
                return;
            }
        }
    }

    /// Sends the next probe of the only target at each reply, or at the timeout.
    pub fn adaptive(&mut self, control: &Control) {
        let shared = Arc::clone(&self.targets[0].shared);
        let plan = &shared.plan;
        let mut sender = Adaptive::new(Arc::clone(&shared));
        for _ in 0..plan.probes() {
            if control.stopped() {
                break;
            }
            let (index, was_sent) = sender.send();
            self.targets[0].learn_of_sends(&mut self.here);
            self.await_reply(index, was_sent, plan.timeout_ns, control);
            let now = self.housekeep(control);
            let over = |t| now >= shared.due.start_ns + t;
            if plan.time_ns.is_some_and(over) {
                break;
            }
        }
        sender.end();
    }

    /// A probe that could not be sent takes a timeout too.
    fn await_reply(&mut self, index: ProbeIndex, sent: bool, timeout_ns: u64, control: &Control) {
        let sent_ns = self.targets[0].core.session.sent_ns(index).unwrap_or(0);
        loop {
            self.receive();
            let core = &self.targets[0].core;
            if sent && !core.session.is_in_flight(index) || control.stopped() {
                return;
            }
            self.housekeep(control);
            let drained_ns = self.targets[0].core.drained_ns();
            if drained_ns.saturating_sub(sent_ns) >= timeout_ns {
                return;
            }
        }
    }

    /// Waits for one packet, for a tick at most.
    fn receive(&mut self) {
        if let Some(tracer) = &mut self.here.tracer {
            tracer.begin_wait();
        }
        let Some(socket) = self.next_socket() else {
            return;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = socket.receive(&mut buffer);
        let now = monotonic_ns();
        let (received, arrived) = received.unwrap_or_else(|e| {
            let error = socket::send_error(&e);
            if self.failed.replace(error) != Some(error) {
                log::warn!("cannot receive: {error}; the run goes on");
            }
            // Does not retry at once, in case the error persists.
            thread::sleep(RECEIVE_TICK);
            (Received::Nothing, None)
        });
        if self.here.tracer.is_none() {
            self.take_sent_stamps(&socket);
        }
        match received {
            Received::Reply(reply) => {
                let session = packet::session(reply.message);
                let target = session.and_then(|session| self.by_session.get(&session));
                if let Some(target) = target.and_then(|at| self.targets.get_mut(*at)) {
                    let _about = target.speaks();
                    let arrived_ns = arrived.map(|at| target.monotonic_ns(at));
                    target.reply(&reply, now, arrived_ns, &mut self.here);
                }
            }
            Received::Error(e) => self.take_error(&e),
            Received::Nothing => {}
        }
        self.buffer = buffer;
    }

    /// Gives an ICMP error to the target whose probe it quotes, else to one that it concerns.
    fn take_error(&mut self, error: &IcmpError) {
        let here = &mut self.here;
        let mut targets = self.targets.iter_mut();
        if !targets.any(|target| target.icmp_error(error, here)) {
            let mut targets = self.targets.iter_mut();
            let concerned = targets.find(|target| target.core.is_concerned(error));
            if let Some(target) = concerned {
                target.collector.counters().icmp_unrelated += 1;
            }
        }
    }

    /// The socket to receive from: the only one, or one that has a packet; they take turns.
    fn next_socket(&mut self) -> Option<Arc<ProbeSocket>> {
        if self.sockets.len() > 1 {
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: RECEIVE_TICK.as_nanos() as i64,
            };
            let fds = self.sockets.iter();
            let mut fds: Vec<_> = fds.map(|s| PollFd::new(s, PollFlags::IN)).collect();
            let _ = poll(&mut fds, Some(&tick));
            let ready = fds.iter().position(|fd| !fd.revents().is_empty())?;
            self.sockets[..].rotate_left(ready + 1);
        }
        self.sockets.last().map(Arc::clone)
    }

    /// Without BPF: puts the socket's stamps of sends into the slots, as the programs do otherwise.
    fn take_sent_stamps(&mut self, socket: &ProbeSocket) {
        socket.sent_stamps(|(session, sequence), point, at| {
            let target = self.by_session.get(&session);
            if let Some(target) = target.and_then(|at| self.targets.get_mut(*at)) {
                target.learn_of_sends(&mut self.here);
                target.take_sent_stamp(sequence, point, at);
            }
        });
    }

    /// Does everything but the arrival of packets, one target after the other, and at most half of the time:
    /// on a busy machine the statistics of an interval can take longer than the interval. Returns the time.
    fn housekeep(&mut self, control: &Control) -> u64 {
        let mut now = monotonic_ns();
        let count = self.targets.len() as u64;
        let step_ns = (HOUSEKEEPING_NS / count.max(1)).max(HOUSEKEEPING_OF_EACH_NS);
        // After a pause each target has one turn.
        let others_ns = count.saturating_sub(1) * step_ns;
        self.turn_ns = self.turn_ns.max(now.saturating_sub(others_ns));
        if now >= self.turn_ns {
            self.take_explanations();
            self.here.follow_receivers();
            self.follow_list(now);
            self.follow_reload(control);
            control.part().goes_on(now, || Some(self.status()));
        }
        if count == 0 {
            self.asked(control);
        }
        // The last one may just have left.
        while now >= self.turn_ns && !self.targets.is_empty() {
            self.turn = (self.turn + 1) % self.targets.len();
            let asked = self.asked(control);
            let target = &mut self.targets[self.turn];
            let about = target.speaks();
            target.housekeep(now, asked, &mut self.here);
            if target.collector.outputs_failed() {
                control.stop.store(true, Ordering::Relaxed);
            }
            drop(about);
            if asked.summary && self.asked.1 == 0 {
                self.joining.outputs.all_so_far();
            }
            let end = monotonic_ns();
            self.turn_ns = (self.turn_ns + step_ns).max(end + (end - now));
            now = end;
        }
        now
    }

    /// What is probed, for the service manager.
    pub fn status(&self) -> String {
        match &self.targets[..] {
            [target] => format!("client: probes {}", target.shared.plan.host),
            targets => format!("client: probes {} targets", targets.len()),
        }
    }

    /// Files were opened again, if the list of targets and every target have.
    fn follow_reload(&mut self, control: &Control) {
        let updates = self.joining.updates.as_ref();
        let is_read = updates.is_none_or(Updates::has_reloaded);
        if self.is_reloading && self.asked.1 == 0 && is_read {
            self.joining.take_updates();
            self.is_reloading = !self.joining.waiting.is_empty();
            if !self.is_reloading {
                control.part().reloaded();
            }
        }
    }

    /// What signals ask of the target whose turn it is.
    fn asked(&mut self, control: &Control) -> Asked {
        if self.asked.1 == 0 {
            let asked = control.asked();
            self.is_reloading |= asked.reopen;
            if let Some(updates) = self.joining.updates.as_ref().filter(|_| asked.reopen) {
                updates.reload();
            }
            if let Some(meter) = self.here.meter.as_ref().filter(|_| asked.summary) {
                meter.log(monotonic_ns().saturating_sub(self.joining.begin_ns));
            }
            let all = if asked == Asked::default() {
                0
            } else {
                self.targets.len()
            };
            self.asked = (asked, all);
        }
        if self.asked.1 == 0 {
            return Asked::default();
        }
        self.asked.1 -= 1;
        self.asked.0
    }

    fn take_explanations(&mut self) {
        let explainer = self.here.explainer.iter();
        for (probe, blame) in explainer.flat_map(explain::Background::answers) {
            let (session, sequence) = probe;
            if let Some(target) = self.by_session.get(&session) {
                self.targets[*target].blame(sequence, blame);
            }
        }
    }

    /// Fetches the last late stamps, makes the state of every probe final, and passes the results on.
    pub fn finish(mut self) -> Vec<Ended> {
        self.joining.report_refused();
        for target in &mut self.targets {
            target.begin_collecting(&mut self.here);
        }
        // Each has its turn, also behind one that goes on.
        while self
            .targets
            .iter_mut()
            .map(Target::collect)
            .fold(false, |any, goes_on| any | goes_on)
        {
            self.receive();
        }
        for target in &mut self.targets {
            target.end(&mut self.here);
        }
        let last = self.here.explainer.take().into_iter();
        for ((session, sequence), blame) in last.flat_map(explain::Background::last_answers) {
            if let Some(target) = self.by_session.get(&session) {
                self.targets[*target].blame(sequence, blame);
            }
        }
        for target in self.targets {
            self.ended.push(target.finish(&mut self.here));
        }
        if let Some(meter) = &self.here.meter {
            self.joining.outputs.cost(Cost {
                own: meter.read(),
                elapsed_ns: monotonic_ns().saturating_sub(self.joining.begin_ns),
                time_unix_ns: realtime_ns(),
            });
        }
        self.ended
    }
}

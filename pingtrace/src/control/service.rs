//! What the service manager is told (`sd_notify(3)`): that the run has begun, what it does, that it reads its files
//! again, that it ends; and, for its watchdog, that its loops go on.
//!
//! A run has loops of two kinds. A main loop is a [`Part`]: it tells the manager things. Another one has a [`Pulse`]: one
//! that does what others pass on may wait for that however long, but not hang while it does it. The thread that resolves
//! targets has none, as name servers can take long: targets stay meanwhile. The watchdog is told at half of its time, by the main loop that comes first, if
//! every loop has gone on since the last time: a run of which one thread hangs is ended and restarted. A message that
//! finds no room is given up, so that the manager holds up no probe.

use crate::units::monotonic_ns;
use report::printable::printable;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{env, io, process};

/// Where the manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The time, us, within which its watchdog is to be told, and the process that is to do so.
const WATCHDOG_TIME: &str = "WATCHDOG_USEC";
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";
/// Upper bound on the time between two looks of a main loop at what there is to tell, ns.
const STEP_NS: u64 = 1_000_000_000;
/// When nothing is due.
const NEVER: u64 = u64::MAX;

/// The service manager that started this process, if one did.
#[derive(Clone, Debug, Default)]
pub struct Service(Option<Arc<Manager>>);

/// Times are `CLOCK_MONOTONIC` ns.
#[derive(Debug)]
struct Manager {
    /// Open before the process is confined.
    socket: UnixDatagram,
    address: SocketAddr,
    /// Half of the watchdog's time, ns; [`NEVER`]: there is none.
    interval_ns: u64,
    /// A main loop reads its files again.
    is_reloading: AtomicBool,
    state: Mutex<State>,
}

/// What was told, and what is to be.
#[derive(Debug)]
struct State {
    mains: Vec<Main>,
    /// [`MOVED`], [`STILL`] or [`AWAITS`], each.
    pulses: Vec<Arc<AtomicU8>>,
    is_ready: bool,
    is_stopping: bool,
    status: String,
    /// When the watchdog is to be told.
    watchdog_ns: u64,
}

/// A main loop.
#[derive(Debug, Default)]
struct Main {
    has_begun: bool,
    has_moved: bool,
    reload: Reload,
    status: String,
}

/// What SIGHUP has left for a main loop to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reload {
    #[default]
    Nothing,
    /// To see the signal, which another main loop has seen.
    Signal,
    /// To read its files.
    Files,
}

/// A main loop, as it tells the manager of itself; by default there is no manager.
#[derive(Debug, Default)]
pub struct Part {
    manager: Option<Arc<Manager>>,
    place: usize,
    /// When it looks again at what there is to tell, and when it is to wake up for that.
    next_ns: AtomicU64,
    wake_ns: AtomicU64,
}

/// A loop has gone on since the watchdog was told, has not, or has nothing to do.
const MOVED: u8 = 0;
const STILL: u8 = 1;
const AWAITS: u8 = 2;

/// Another loop; dropped when it ends. By default there is no manager.
#[derive(Debug, Default)]
pub struct Pulse {
    manager: Option<Arc<Manager>>,
    beat: Arc<AtomicU8>,
}

impl Service {
    /// By the variables that the manager set.
    pub fn from_env() -> Self {
        let Some(name) = env::var_os(SOCKET) else {
            return Self::default();
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let own = u64::from(process::id());
        let is_other = number(WATCHDOG_PROCESS).is_some_and(|pid| pid != own);
        let watchdog_us = number(WATCHDOG_TIME).filter(|us| *us > 0 && !is_other);
        Self::open(&name, watchdog_us).unwrap_or_else(|e| {
            log::warn!(
                "the service manager is told nothing: {SOCKET}={}: {e}",
                name.display()
            );
            Self::default()
        })
    }

    /// One that listens there; `watchdog_us`: the time of its watchdog.
    fn open(name: &OsStr, watchdog_us: Option<u64>) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            _ => SocketAddr::from_pathname(name),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let state = State {
            mains: Vec::new(),
            pulses: Vec::new(),
            is_ready: false,
            is_stopping: false,
            status: String::new(),
            watchdog_ns: watchdog_us.map_or(NEVER, |_| 0),
        };
        Ok(Self(Some(Arc::new(Manager {
            socket,
            address: address?,
            interval_ns: watchdog_us.map_or(NEVER, |us| us.saturating_mul(1000) / 2),
            is_reloading: AtomicBool::default(),
            state: Mutex::new(state),
        }))))
    }

    /// A further main loop. The run has begun when all of them have.
    pub fn part(&self) -> Part {
        let manager = self.0.clone();
        let place = manager.as_ref().map_or(0, |manager| {
            let mains = &mut manager.state().mains;
            mains.push(Main::default());
            mains.len() - 1
        });
        Part {
            manager,
            place,
            ..Part::default()
        }
    }
}

impl Part {
    /// Everything of it is attached and confined; `status`: what it does now, in a few words.
    pub fn begins(&self, status: &str) {
        let Some(manager) = &self.manager else { return };
        let mut state = manager.state();
        let main = &mut state.mains[self.place];
        (main.has_begun, main.status) = (true, status.to_owned());
        manager.tell(&mut state, monotonic_ns());
    }

    /// The loop goes on, at `now`, `CLOCK_MONOTONIC` ns. `status`: what it does now; `None`: what it did.
    pub fn goes_on(&self, now: u64, status: impl FnOnce() -> Option<String>) {
        let Some(manager) = &self.manager else { return };
        let next_ns = self.next_ns.load(Ordering::Relaxed);
        if now < next_ns {
            self.wake_ns.fetch_min(next_ns, Ordering::Relaxed);
            return;
        }
        let mut state = manager.state();
        let main = &mut state.mains[self.place];
        main.has_moved = true;
        main.status = status().unwrap_or_else(|| std::mem::take(&mut main.status));
        manager.tell(&mut state, now);
        let step_ns = now + STEP_NS.min(manager.interval_ns / 2);
        // What is due by now waits for other loops.
        let due_ns = Some(state.watchdog_ns).filter(|ns| *ns > now);
        let wake_ns = due_ns.unwrap_or(step_ns);
        self.next_ns.store(step_ns.min(wake_ns), Ordering::Relaxed);
        self.wake_ns.store(wake_ns, Ordering::Relaxed);
    }

    /// When there is something to tell, even if nothing happens, `CLOCK_MONOTONIC` ns.
    pub fn wake_at(&self) -> Option<u64> {
        self.manager.as_ref()?;
        Some(self.wake_ns.load(Ordering::Relaxed)).filter(|ns| *ns < NEVER)
    }

    /// Whether SIGHUP asks it to read its files again; it says so when that is done ([`Self::reloaded`]).
    pub fn reloads(&self, is_asked: bool) {
        let manager = self.manager.as_ref();
        let is_some = |m: &&Arc<Manager>| is_asked || m.is_reloading.load(Ordering::Relaxed);
        let Some(manager) = manager.filter(is_some) else {
            return;
        };
        let mut state = manager.state();
        if !is_asked {
            // The signal was meant for another one.
            let own = &mut state.mains[self.place].reload;
            *own = if *own == Reload::Signal {
                Reload::Nothing
            } else {
                *own
            };
            manager.tell(&mut state, monotonic_ns());
        } else if state.is_ready {
            if !manager.is_reloading.swap(true, Ordering::Relaxed) {
                let us = monotonic_ns() / 1000;
                manager.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
                let mains = state.mains.iter_mut();
                mains.for_each(|main| main.reload = Reload::Signal);
            }
            state.mains[self.place].reload = Reload::Files;
        }
    }

    /// It has read its files.
    pub fn reloaded(&self) {
        let Some(manager) = &self.manager else { return };
        let mut state = manager.state();
        state.mains[self.place].reload = Reload::Nothing;
        manager.tell(&mut state, monotonic_ns());
    }

    /// The run ends, and writes what is left.
    pub fn stops(&self) {
        let Some(manager) = &self.manager else { return };
        let mut state = manager.state();
        if !std::mem::replace(&mut state.is_stopping, true) {
            manager.send("STOPPING=1");
        }
    }

    /// A loop beside it that must go on, too.
    pub fn pulse(&self) -> Pulse {
        let beat = Arc::new(AtomicU8::new(MOVED));
        if let Some(manager) = &self.manager {
            manager.state().pulses.push(Arc::clone(&beat));
        }
        Pulse {
            manager: self.manager.clone(),
            beat,
        }
    }
}

impl Pulse {
    /// The loop goes on.
    pub fn beats(&self) {
        self.beat.store(MOVED, Ordering::Relaxed);
    }

    /// Waits for something to do: however long that takes, the loop does not hang.
    pub fn awaits<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.beat.store(AWAITS, Ordering::Relaxed);
        let work = wait();
        self.beats();
        work
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(manager) = &self.manager {
            let pulses = &mut manager.state().pulses;
            pulses.retain(|pulse| !Arc::ptr_eq(pulse, &self.beat));
        }
    }
}

impl Manager {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is new since it was told last, once all main loops have begun. What cannot be told now is tried again.
    fn tell(&self, state: &mut State, now: u64) {
        if state.is_stopping || !state.mains.iter().all(|main| main.has_begun) {
            return;
        }
        state.is_ready = state.is_ready || self.send("READY=1");
        let is_reading = state
            .mains
            .iter()
            .any(|main| main.reload != Reload::Nothing);
        if self.is_reloading.load(Ordering::Relaxed) && !is_reading && self.send("READY=1") {
            self.is_reloading.store(false, Ordering::Relaxed);
        }
        let parts: Vec<&str> = state.mains.iter().map(|main| &*main.status).collect();
        let status = printable(&parts.join("; ")).into_owned();
        if status != state.status && self.send(&format!("STATUS={status}")) {
            state.status = status;
        }
        if now >= state.watchdog_ns && state.goes_on() && self.send("WATCHDOG=1") {
            state.watchdog_ns = now + self.interval_ns;
            state.await_loops();
        }
    }

    /// Whether it was told.
    fn send(&self, message: &str) -> bool {
        let sent = self.socket.send_to_addr(message.as_bytes(), &self.address);
        sent.is_ok()
    }
}

impl State {
    /// Whether all loops have gone on since [`Self::await_loops`].
    fn goes_on(&self) -> bool {
        let pulses = self.pulses.iter();
        self.mains.iter().all(|main| main.has_moved)
            && pulses
                .clone()
                .all(|pulse| pulse.load(Ordering::Relaxed) != STILL)
    }

    fn await_loops(&mut self) {
        self.mains
            .iter_mut()
            .for_each(|main| main.has_moved = false);
        for pulse in &self.pulses {
            // Not where it waits.
            let (order, other) = (Ordering::Relaxed, Ordering::Relaxed);
            let _ = pulse.compare_exchange(MOVED, STILL, order, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const SECOND: u64 = 1_000_000_000;

    /// A manager that listens.
    struct Listener {
        socket: UnixDatagram,
        _directory: TempDir,
    }

    /// One whose watchdog has this time.
    fn listener(watchdog_us: Option<u64>) -> (Listener, Service) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let service = Service::open(path.as_os_str(), watchdog_us).unwrap();
        let listener = Listener {
            socket,
            _directory: directory,
        };
        (listener, service)
    }

    impl Listener {
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 256];
            let mut next = || {
                let length = self.socket.recv(&mut buffer).ok()?;
                Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
            };
            std::iter::from_fn(&mut next).collect()
        }
    }

    /// The only main loop of a run that has begun.
    fn begun(watchdog_us: Option<u64>) -> (Listener, Part) {
        let (listener, service) = listener(watchdog_us);
        let part = service.part();
        part.begins("");
        assert_eq!(listener.heard(), ["READY=1"]);
        (listener, part)
    }

    fn same() -> Option<String> {
        None
    }

    #[test]
    fn a_run_is_ready_when_all_parts_have_begun() {
        let (listener, service) = listener(Some(2_000_000));
        let (server, client) = (service.part(), service.part());
        server.begins("serves");
        server.goes_on(0, same);
        assert!(listener.heard().is_empty());
        client.begins("probes a\nb");
        assert_eq!(
            listener.heard(),
            ["READY=1", r"STATUS=serves; probes a\x0ab"]
        );
        client.goes_on(0, || Some("probes c".into()));
        assert_eq!(listener.heard(), ["STATUS=serves; probes c", "WATCHDOG=1"]);
    }

    #[test]
    fn the_watchdog_is_told_at_half_of_its_time() {
        let (listener, part) = begun(Some(2_000_000));
        part.goes_on(10 * SECOND, same);
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
        assert_eq!(part.wake_at(), Some(11 * SECOND));
        part.goes_on(11 * SECOND - 1, same);
        assert!(listener.heard().is_empty());
        part.goes_on(11 * SECOND, same);
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
    }

    /// The loop that hangs is another one than that which would tell.
    #[test]
    fn the_watchdog_is_not_told_while_a_loop_hangs() {
        let (listener, part) = begun(Some(2_000_000));
        let sender = part.pulse();
        part.goes_on(0, same);
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
        part.goes_on(SECOND, same);
        assert_eq!(part.wake_at(), Some(SECOND * 3 / 2), "it does not spin");
        part.goes_on(9 * SECOND, same);
        assert!(listener.heard().is_empty());
        sender.beats();
        part.goes_on(10 * SECOND, same);
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
        drop(sender);
        part.goes_on(20 * SECOND, same);
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_loop_that_waits_for_work_does_not_hang_but_one_that_works_may() {
        let (listener, part) = begun(Some(2_000_000));
        let writer = part.pulse();
        let told = |second: u64| {
            part.goes_on(second * SECOND, same);
            listener.heard() == ["WATCHDOG=1"]
        };
        writer.awaits(|| {
            assert!(told(0) && told(1) && told(9));
        });
        // Work came just now, and then it takes too long.
        assert!(told(10));
        assert!(!told(11) && !told(19));
        writer.awaits(|| assert!(told(20) && told(21)));
    }

    #[test]
    fn the_watchdog_is_not_told_while_another_part_hangs() {
        let (listener, service) = listener(Some(2_000_000));
        let (server, client) = (service.part(), service.part());
        server.begins("");
        client.begins("");
        listener.heard();
        server.goes_on(0, same);
        for second in 0..9 {
            server.goes_on(second * SECOND, same);
            assert!(listener.heard().is_empty());
        }
        client.goes_on(9 * SECOND, same);
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
        server.goes_on(10 * SECOND, same);
        assert!(listener.heard().is_empty());
    }

    #[test]
    fn the_status_is_told_when_it_changes_once_a_second() {
        let (listener, part) = begun(None);
        let say = |ns, text: &str| part.goes_on(ns, || Some(text.to_owned()));
        say(5 * SECOND, "idle");
        assert_eq!(
            (listener.heard(), part.wake_at()),
            (vec!["STATUS=idle".into()], None)
        );
        say(5 * SECOND + 1, "armed");
        assert_eq!(
            (listener.heard(), part.wake_at()),
            (vec![], Some(6 * SECOND))
        );
        say(6 * SECOND, "armed");
        assert_eq!(listener.heard(), ["STATUS=armed"]);
    }

    #[test]
    fn reading_files_again_ends_when_all_parts_have() {
        let (listener, service) = listener(None);
        let (server, client) = (service.part(), service.part());
        server.begins("serves");
        server.reloads(true);
        assert!(listener.heard().is_empty());
        client.begins("probes");
        listener.heard();
        client.reloads(true);
        let heard = listener.heard();
        assert!(
            heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{heard:?}"
        );
        client.reloaded();
        assert!(listener.heard().is_empty());
        server.reloads(true);
        server.reloaded();
        assert_eq!(listener.heard(), ["READY=1"]);
        // The second signal came before the server had seen the first.
        server.reloads(true);
        server.reloaded();
        assert_eq!(listener.heard().len(), 1);
        client.reloads(false);
        assert_eq!(listener.heard(), ["READY=1"]);
        client.reloads(false);
        client.stops();
        server.stops();
        server.goes_on(SECOND, || Some("ends".into()));
        assert_eq!(listener.heard(), ["STOPPING=1"]);
    }

    /// A full socket holds nothing up, and what found no room is told as soon as there is some.
    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up() {
        let (listener, service) = listener(Some(2));
        let part = service.part();
        while part.manager.as_ref().unwrap().send("full") {}
        part.begins("serves");
        part.goes_on(5, same);
        listener.heard();
        part.goes_on(SECOND, same);
        assert_eq!(listener.heard(), ["READY=1", "STATUS=serves", "WATCHDOG=1"]);
    }

    #[test]
    fn a_socket_without_a_path_is_found() {
        let name = format!("pingtrace-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let service = Service::open(format!("@{name}").as_ref(), None).unwrap();
        service.part().begins("");
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        assert!(Service::open("x".repeat(200).as_ref(), None).is_err());
        assert!(Service::open("vsock:2:1".as_ref(), None).is_ok());
    }

    #[test]
    fn without_a_manager_nothing_is_due() {
        let part = Service::default().part();
        part.begins("serves");
        part.goes_on(0, || panic!("nobody asks"));
        assert_eq!(part.wake_at(), None);
    }
}

//! What a service manager hears of a run (`sd_notify(3)`), from a socket that is its.

use super::harness::{Server, kill, program, start, until};
use netns::{Lab, Namespace};
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The time of its watchdog.
const WATCHDOG: Duration = Duration::from_millis(400);
const TICK: &str = "WATCHDOG=1";

/// A manager, and what it has heard.
struct Manager {
    socket: UnixDatagram,
    name: String,
    heard: Vec<String>,
}

impl Manager {
    /// One that listens at a path.
    fn at(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Self::new(socket, path.to_str().unwrap().to_owned())
    }

    /// One without a path, in a namespace.
    fn hidden(ns: &Namespace) -> Self {
        let address = SocketAddr::from_abstract_name("manager").unwrap();
        let socket = ns.run(|| UnixDatagram::bind_addr(&address).unwrap());
        Self::new(socket.unwrap(), "@manager".to_owned())
    }

    fn new(socket: UnixDatagram, name: String) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            name,
            heard: Vec::new(),
        }
    }

    /// The program, as this manager starts it.
    fn program(&self, args: &str) -> Command {
        let mut command = program();
        command
            .args(args.split(' '))
            .env("NOTIFY_SOCKET", &self.name);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command
    }

    fn listen(&mut self) {
        let mut buffer = [0; 512];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.heard.push(message);
        }
    }

    /// Returns when it has heard a message that begins like this, so many times.
    fn hears(&mut self, message: &str, times: usize) {
        until(message, || {
            self.listen();
            self.count(message) >= times
        });
    }

    fn count(&self, message: &str) -> usize {
        let is = |heard: &&String| heard.starts_with(message);
        self.heard.iter().filter(is).count()
    }

    /// Without the watchdog.
    fn told(&self) -> Vec<&str> {
        let told = self.heard.iter().map(|message| &**message);
        told.filter(|message| *message != TICK).collect()
    }
}

fn confined(child: &Child) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    status
        .into_iter()
        .all(|status| status.contains("Seccomp:\t2"))
}

#[test]
fn an_agent_says_what_it_does() {
    let lab = Lab::veth_pair().unwrap();
    let _peer = Server::start(&lab.server.ns, "--nslocal");
    let directory = TempDir::new().unwrap();
    let mut manager = Manager::at(&directory.path().join("notify"));
    let args = "agent -c 10.77.0.2 --open --nslocal --linger infinity -i 20ms -m 1s -o log";
    let mut command = manager.program(args);
    let mut agent = start(&lab.client.ns, command.current_dir(directory.path()));
    manager.hears("READY=1", 1);
    assert!(confined(&agent), "both parts are, before it is ready");
    manager.hears(TICK, 3);
    assert_eq!(
        manager.told(),
        [
            "READY=1",
            "STATUS=server: always armed, 0 sessions; client: probes 10.77.0.2"
        ]
    );
    let log = directory.path().join("pingtrace.log.seq");
    fs::rename(&log, log.with_extension("old")).unwrap();
    kill(agent.id(), libc::SIGHUP);
    manager.hears("READY=1", 2);
    assert!(log.exists(), "what SIGHUP asks for is done");
    let told = manager.told().len();
    manager.hears(TICK, manager.count(TICK) + 2);
    kill(agent.id(), libc::SIGTERM);
    assert_eq!(agent.wait().unwrap().code(), Some(0));
    manager.listen();
    assert_eq!(
        (manager.told().len(), told),
        (5, 4),
        "{manager:#?}",
        manager = manager.heard
    );
    assert!(manager.told()[2].starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.heard.last().unwrap(), "STOPPING=1");
}

#[test]
fn a_server_says_when_it_is_armed() {
    let lab = Lab::veth_pair().unwrap();
    let mut manager = Manager::hidden(&lab.server.ns);
    let mut server = start(&lab.server.ns, &mut manager.program("-s --open --nslocal"));
    manager.hears("STATUS=server: idle, 0 sessions", 1);
    let mut client = manager.program("-c 10.77.0.2 --nslocal -i 20ms -C 10");
    let mut client = start(&lab.client.ns, client.env_remove("NOTIFY_SOCKET"));
    manager.hears("STATUS=server: armed, 1 sessions", 1);
    assert_eq!(client.wait().unwrap().code(), Some(0));
    manager.hears(TICK, 3);
    kill(server.id(), libc::SIGTERM);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    manager.listen();
    assert_eq!(manager.told().last(), Some(&"STOPPING=1"));
}

/// A thread that has stopped, and only that one.
struct Stopped(i32);

impl Stopped {
    fn stop(thread: i32) -> Self {
        let request = |what| {
            // SAFETY: a request that reads and writes no memory of this process.
            let done = unsafe { libc::ptrace(what, thread, 0, 0) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        };
        request(libc::PTRACE_SEIZE);
        request(libc::PTRACE_INTERRUPT);
        // SAFETY: waits for the thread that this one traces.
        let waited = unsafe { libc::waitpid(thread, &raw mut *Box::new(0), libc::__WALL) };
        assert_eq!(waited, thread);
        Self(thread)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: a request that reads and writes no memory of this process.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

/// Of all threads the sender alone has exact timers.
fn sender(client: &Child) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", client.id())).unwrap();
    let threads = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let slack = |thread: &String| fs::read_to_string(format!("/proc/{thread}/timerslack_ns"));
    let found = threads
        .into_iter()
        .find(|thread| slack(thread).unwrap() == "1\n");
    found.expect("the sender").parse().unwrap()
}

#[test]
fn a_client_whose_sender_hangs_does_not_feed_the_watchdog() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let mut manager = Manager::at(&directory.path().join("notify"));
    let mut command = manager.program("-c 10.77.0.2 -i 20ms -m 1s -o log");
    let mut client = start(&lab.client.ns, command.current_dir(directory.path()));
    manager.hears(TICK, 2);
    let stopped = Stopped::stop(sender(&client));
    // What it did before counts for the next time.
    manager.listen();
    let ticks = manager.count(TICK);
    let begin = Instant::now();
    while begin.elapsed() < 3 * WATCHDOG {
        kill(client.id(), libc::SIGHUP);
        manager.hears("READY=1", manager.count("READY=1") + 1);
    }
    assert!(manager.count(TICK) <= ticks + 1, "{:#?}", manager.heard);
    drop(stopped);
    manager.hears(TICK, ticks + 3);
    kill(client.id(), libc::SIGTERM);
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

//! Runs the program inside a laboratory of namespaces, and reads its results.

use netns::{Lab, Namespace, Netlink};
use pingtrace::selftest::inject::forwarder::{Forwarder, Plan};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A server says this when its programs are attached.
const READY: &str = "serving";
/// What a test waits for takes no longer.
pub const SOON: Duration = Duration::from_secs(20);
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Held by tests whose load or timing would disturb another's.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test needs the CPUs for itself.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client and a server joined by a wire that follows a plan.
pub fn wire(plan: Plan) -> (Lab, Forwarder) {
    let taps = Lab::tap_pair().expect("a laboratory");
    let wire = Forwarder::start(taps.client_tap, taps.server_tap, plan).expect("a forwarder");
    (taps.lab, wire)
}

/// The program, with these arguments, inside a namespace.
pub fn pingtrace(ns: &Namespace, args: &str) -> Child {
    start(ns, program().args(args.split_whitespace()))
}

/// The program, to be given arguments and started with [`start`]. SIGHUP ends it, also where the tests
/// run under `nohup`.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pingtrace"));
    hangup(&mut command, libc::SIG_DFL);
    command
}

/// What SIGHUP does to a process from its start.
pub fn hangup(command: &mut Command, disposition: libc::sighandler_t) {
    let set = move || {
        // SAFETY: a plain disposition, between fork and exec.
        unsafe { libc::signal(libc::SIGHUP, disposition) };
        Ok(())
    };
    // SAFETY: only a system call is made between fork and exec.
    unsafe { command.pre_exec(set) };
}

/// Starts a command inside a namespace; what it writes is kept for [`finish`].
pub fn start(ns: &Namespace, command: &mut Command) -> Child {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = ns.run(|| command.spawn()).expect("enter the namespace");
    child.expect("start the program")
}

/// Changes a device of a namespace, by its index.
pub fn at_device(
    ns: &Namespace,
    device: &str,
    change: impl Fn(&mut Netlink, u32) -> netns::Result<()> + Sync,
) {
    let change = || {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named(device)?.index;
        change(&mut netlink, index)
    };
    ns.run(change).unwrap().unwrap();
}

/// Runs a command line inside a namespace, which must succeed.
pub fn sh(ns: &Namespace, line: &str) {
    let run = || Command::new("sh").args(["-e", "-c", line]).status();
    assert!(ns.run(run).unwrap().unwrap().success(), "{line}");
}

/// The page of metrics at port 9500 of a namespace.
pub fn page(ns: &Namespace) -> String {
    let curl = || {
        Command::new("curl")
            .args(["-s", "http://127.0.0.1:9500/metrics"])
            .output()
    };
    String::from_utf8(ns.run(curl).unwrap().unwrap().stdout).unwrap()
}

/// Waits until something is so; fails after [`SOON`].
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A running server; dropped, it gets SIGTERM and is waited for.
pub struct Server {
    child: Child,
    /// What it said until it was ready.
    heard: Vec<String>,
    story: Receiver<String>,
}

impl Server {
    /// A server that tells everybody everything; returns when it is ready.
    pub fn start(ns: &Namespace, args: &str) -> Self {
        Self::start_closed(ns, &format!("--open {args}"))
    }

    /// A server that tells strangers only what its options say; returns when it is ready. It is always armed, so that
    /// what is tested is there for the first packet, unless the options say something else.
    pub fn start_closed(ns: &Namespace, args: &str) -> Self {
        let linger = if args.contains("--linger") {
            ""
        } else {
            "--linger infinity"
        };
        let mut child = pingtrace(ns, &format!("-s {linger} {args}"));
        let story = lines_of(&mut child);
        let mut server = Self {
            child,
            heard: Vec::new(),
            story,
        };
        let deadline = Instant::now() + READY_WITHIN;
        while let Ok(line) = server
            .story
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(READY) {
                return server;
            }
            server.heard.push(line);
        }
        panic!("the server did not get ready: {:#?}", server.heard);
    }

    /// Returns when it has said this.
    pub fn hear(&mut self, words: &str) {
        hear_line(&self.story, &mut self.heard, words);
    }

    /// Whether these words are in what it said until it was ready.
    pub fn said(&self, words: &str) -> bool {
        self.heard.iter().any(|line| line.contains(words))
    }

    /// The number behind these words in what it said until it was ready.
    pub fn number_after(&self, words: &str) -> u64 {
        let rest = self.heard.iter().find_map(|line| line.split_once(words));
        let (_, rest) = rest.unwrap_or_else(|| panic!("no '{words}' in {:#?}", self.heard));
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|d| d.parse().ok()).expect("a number")
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its namespace has had so many echo requests over IPv4: a client is at work.
    pub fn wait_for_probes(&self, count: u64) {
        let path = format!("/proc/{}/net/snmp", self.pid());
        let had = || {
            let text = std::fs::read_to_string(&path).expect("counts of ICMP");
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
            let names = lines.next().expect("names").split(' ');
            let mut counts = names.zip(lines.next().expect("numbers").split(' '));
            let echoes = counts.find(|(name, _)| *name == "InEchos").expect("a name");
            echoes.1.parse::<u64>().expect("a number")
        };
        until("probes", || had() >= count);
    }

    /// Ends it with a signal; its exit status, and the rest of its story.
    pub fn stop(mut self, signal: i32) -> (ExitStatus, Vec<String>) {
        kill(self.pid(), signal);
        let status = self.child.wait().expect("wait for the server");
        (status, self.story.iter().collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(self.pid(), libc::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// What a child writes to stderr, line by line, also while nobody waits for it.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let (tell, heard) = channel();
    thread::spawn(move || {
        let lines = stderr.lines().map_while(Result::ok);
        lines.for_each(|line| drop(tell.send(line)));
    });
    heard
}

/// Returns when a line has these words.
fn hear_line(story: &Receiver<String>, heard: &mut Vec<String>, words: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = story.recv_timeout(left);
        let line = line.unwrap_or_else(|_| panic!("no '{words}' in {heard:#?}"));
        let found = line.contains(words);
        heard.push(line);
        if found {
            return;
        }
    }
}

/// A client at work; dropped, it gets SIGINT and is waited for.
pub struct Client {
    child: Option<Child>,
    stdout: Receiver<String>,
    story: Receiver<String>,
    /// What it wrote to stderr until the last [`hear`](Self::hear).
    heard: Vec<String>,
}

impl Client {
    /// Starts it.
    pub fn start(ns: &Namespace, args: &str) -> Self {
        Self::of(pingtrace(ns, args))
    }

    /// One that was [started](start); what it writes is read at once, so that it never waits for that.
    pub fn of(mut child: Child) -> Self {
        let story = lines_of(&mut child);
        let mut out = child.stdout.take().expect("piped");
        let (tell, stdout) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).expect("UTF-8");
            let _ = tell.send(text);
        });
        Self {
            child: Some(child),
            stdout,
            story,
            heard: Vec::new(),
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Returns when it has said this.
    pub fn hear(&mut self, words: &str) {
        hear_line(&self.story, &mut self.heard, words);
    }

    /// Ends it as Ctrl-C does; what it wrote.
    pub fn stop(self) -> Finished {
        self.interrupt();
        self.finish()
    }

    /// Waits until it ends; what it wrote.
    pub fn finish(mut self) -> Finished {
        let mut child = self.child.take().expect("it runs");
        let status = child.wait().expect("wait for the client");
        self.heard.extend(self.story.iter());
        Finished {
            status: status.code().unwrap_or(-1),
            stdout: self.stdout.recv().expect("its results"),
            stderr: self.heard.join("\n"),
        }
    }

    fn interrupt(&self) {
        if let Some(child) = &self.child {
            kill(child.id(), libc::SIGINT);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.interrupt();
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

/// A companion at work; dropped, it gets SIGTERM and is waited for.
pub struct Companion {
    child: Option<Child>,
    heard: Receiver<String>,
}

impl Companion {
    /// Returns when it watches.
    pub fn start(args: &str) -> Self {
        let mut command = program();
        command.args(args.split_whitespace()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        let heard = lines_of(&mut child);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = heard.recv_timeout(left).expect("it watches");
            if line.contains(": watching.") {
                break;
            }
        }
        Self {
            child: Some(child),
            heard,
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Ends it as Ctrl-C does; what it wrote.
    pub fn stop(mut self) -> Finished {
        // What has just happened is not in the rings yet, or too new to be looked at.
        thread::sleep(Duration::from_millis(50));
        let mut child = self.child.take().expect("it runs");
        kill(child.id(), libc::SIGINT);
        let mut stdout = String::new();
        let mut out = child.stdout.take().expect("piped");
        out.read_to_string(&mut stdout).expect("UTF-8");
        let status = child.wait().expect("wait for the companion");
        Finished {
            status: status.code().unwrap_or(-1),
            stdout,
            stderr: self.heard.iter().collect::<Vec<_>>().join("\n"),
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(child.id(), libc::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process that a test started.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// What a client run gave.
#[derive(Debug)]
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a client to its end.
pub fn client(ns: &Namespace, args: &str) -> Finished {
    finish(pingtrace(ns, args))
}

/// Ends a client that probes without end.
pub fn interrupt(child: Child) -> Finished {
    kill(child.id(), libc::SIGINT);
    finish(child)
}

/// Waits for a started client.
pub fn finish(mut child: Child) -> Finished {
    let mut err = child.stderr.take().expect("piped");
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        let _ = err.read_to_string(&mut text);
        text
    });
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut stdout)
        .expect("UTF-8");
    let status = child.wait().expect("wait for the client");
    Finished {
        status: status.code().unwrap_or(-1),
        stdout,
        stderr: stderr.join().expect("reader"),
    }
}

impl Finished {
    /// The JSON lines of stdout of one type.
    pub fn lines(&self, kind: &str) -> Vec<Value> {
        let parsed = self
            .stdout
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).expect(l));
        parsed.filter(|v| v["type"] == kind).collect()
    }

    /// The recorded probes.
    pub fn probes(&self) -> Vec<Value> {
        self.lines("probe")
    }

    /// The final statistics.
    pub fn stat(&self) -> Value {
        self.lines("stat")
            .pop()
            .unwrap_or_else(|| panic!("no statistics: {self:#?}"))
    }
}

/// Names of a probe's points in path order.
pub fn points(probe: &Value) -> Vec<&str> {
    probe["points"]
        .as_array()
        .expect("points")
        .iter()
        .filter_map(|p| p["point"].as_str())
        .collect()
}

/// The `ns` of each of a probe's points, in path order.
pub fn times(probe: &Value) -> Vec<u64> {
    let points = probe["points"].as_array().expect("points");
    points
        .iter()
        .map(|p| p["ns"].as_u64().expect("ns"))
        .collect()
}

/// The sum of all segments of a probe that its total consists of.
pub fn sum(probe: &Value) -> u64 {
    let delays = probe["delays"].as_array().expect("delays");
    let of_total = delays.iter().filter(|d| d["delay"] != "l_tx_late");
    of_total.filter_map(|d| d["ns"].as_u64()).sum()
}

/// A probe's status.
pub fn status(probe: &Value) -> &str {
    probe["status"].as_str().expect("status")
}

/// A segment's ns in a probe; 0 when it has none.
pub fn delay(probe: &Value, segment: &str) -> u64 {
    let delays = probe["delays"].as_array().expect("delays");
    delays
        .iter()
        .filter(|d| d["delay"] == segment)
        .filter_map(|d| d["ns"].as_u64())
        .sum()
}

/// What a probe was delayed by in all other segments, and before it was sent.
pub fn elsewhere(probe: &Value, segment: &str) -> u64 {
    let total = probe["total_ns"].as_u64().unwrap_or(0);
    delay(probe, "l_tx_late") + total - delay(probe, segment)
}

/// Moves all threads of a process that a test started, present and future, to one CPU.
pub fn pin(pid: u32, cpu: usize) {
    thread::sleep(Duration::from_millis(300));
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("tasks")
        .flatten()
    {
        let tid: i32 = task
            .file_name()
            .to_str()
            .and_then(|t| t.parse().ok())
            .expect("a number");
        // SAFETY: a set of plain bits, of the given size.
        let result = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(tid, size_of_val(&set), &raw const set)
        };
        let error = std::io::Error::last_os_error();
        let is_gone = error.raw_os_error() == Some(libc::ESRCH);
        assert!(result == 0 || is_gone, "pin {tid}: {error}");
    }
}

/// What a child writes to stderr.
pub type Story = BufReader<ChildStderr>;

/// A child whose stderr is piped, and that.
pub fn with_story(mut child: Child) -> (Child, Story) {
    let story = BufReader::new(child.stderr.take().expect("piped"));
    (child, story)
}

/// To its end; what it still has to say is read meanwhile.
pub fn end(child: Child, story: Story) -> Finished {
    let rest = thread::spawn(move || story.lines().map_while(Result::ok).collect::<Vec<_>>());
    let out = child.wait_with_output().expect("wait for pingtrace");
    Finished {
        status: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8(out.stdout).expect("UTF-8"),
        stderr: rest.join().expect("reader").join("\n"),
    }
}

/// Waits until it says this.
pub fn hear(story: &mut impl BufRead, words: &str) {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        let bytes = story.read_line(&mut line).expect("its story");
        assert!(bytes > 0, "it never said '{words}'");
    }
}

/// It ended with this status and one line, which has these words.
pub fn refused(done: &Finished, status: i32, words: &[&str]) {
    let furniture =
        |l: &&str| !l.is_empty() && !l.starts_with("Usage:") && !l.starts_with("For more");
    let lines: Vec<_> = done.stderr.lines().filter(furniture).collect();
    assert_eq!(
        (done.status, done.stdout.as_str()),
        (status, ""),
        "{done:#?}"
    );
    assert_eq!(lines.len(), 1, "{done:#?}");
    for word in words {
        assert!(lines[0].contains(word), "no '{word}' in: {}", lines[0]);
    }
}

/// A pseudo-terminal with this many columns: the user's side, and the program's side.
pub fn terminal(columns: u16) -> (File, OwnedFd) {
    let (mut person, mut program) = (0, 0);
    let size = libc::winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: both numbers are written, and the size is read, during the call.
    let result = unsafe {
        libc::openpty(
            &raw mut person,
            &raw mut program,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: two descriptors that nobody else owns.
    unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) }
}

/// All that a terminal was sent, until the last program that has it ends.
pub fn shown(mut terminal: File) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    // Then it says EIO.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        bytes.extend(&buffer[..count]);
    }
    String::from_utf8(bytes)
        .expect("UTF-8")
        .replace("\r\n", "\n")
}

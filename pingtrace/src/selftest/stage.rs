//! The laboratory of the self-test: two hosts, the wire between them, and the programs under test. All
//! of it ends when the value is dropped.

use super::inject::burn::Burn;
use super::inject::forwarder::{Forwarder, Outcome, Plan};
use super::laboratory::{Laboratory, Queue};
use super::outcome::{self, Seen};
use super::plan::{self, Pass};
use crate::control::Control;
use crate::kernel::thread::{Priority, pin, prioritise};
use crate::output::story::{self, Progress};
use anyhow::{Context, Result, bail};
use libbpf_rs::OpenObject;
use netns::{Lab, Namespace};
use report::analysis::confusion::Setup;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// They end by themselves if need be.
const SERVER: &str = "-s --open --userid 7 -t 300";
/// With a threshold that every probe reaches: each of them is judged.
const CLIENT: &str = "--userid 3 -o json -t 240 -m 1us";
/// Upper bound on any wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// Upper bound on the time from a reply to what the client writes of it.
const SETTLED: Duration = Duration::from_secs(3);

/// Of the programs under test, so that what else runs on their CPU hardly holds them up: what is to hold
/// them up is injected.
pub const REAL_TIME: Priority = Priority::Fifo(1);
/// Of what keeps them from their CPU on purpose. The wire is above both.
pub const ABOVE_PROGRAMS: Priority = Priority::Fifo(2);

/// The hosts, and the programs on them.
pub struct Stage<'a> {
    // Dropped in this order.
    client: Program,
    _server: Program,
    pub burn: Burn<'a>,
    wire: Forwarder,
    pub lab: Lab,
    pub queues: Rc<[Queue]>,
    pub cpus: Cpus,
    control: &'a Control,
    /// Requests at which the present pass ends.
    end: u64,
    progress: Progress,
}

/// CPUs that this process may use, before it is pinned to one of them.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The CPU on which everything runs
    pub home: usize,
    /// except what is to be received on another one.
    pub other: Option<usize>,
}

impl<'a> Stage<'a> {
    /// Returns when the client is about to probe.
    pub fn build(
        storage: &'a mut MaybeUninit<OpenObject>,
        setup: Setup,
        laboratory: Laboratory,
        cpus: Cpus,
        control: &'a Control,
    ) -> Result<Self> {
        let programs = Programs::of(setup);
        // Threads and processes inherit both.
        pin(cpus.home).with_context(|| format!("run on CPU {} only", cpus.home))?;
        prioritise(programs.priority).context("set the priority of client and server")?;
        let Laboratory { taps, queues } = laboratory;
        let lab = taps.lab;
        let wire = Plan::new(plan::BASE, []);
        let wire = Forwarder::start(taps.client_tap, taps.server_tap, wire);
        let wire = wire.context("start the wire")?;
        let server = format!("{SERVER} {}", programs.server);
        let server = Program::start(&lab.server.ns, &server)?;
        server.wait_for("serving", control)?;
        let mut burn = Burn::load(storage, plan::EACH)?;
        burn.attach(&lab.client, &lab.server)?;
        let interval = plan::INTERVAL.as_micros();
        let client = format!(
            "-c {} {CLIENT} -i {interval}us {}",
            lab.server.v4, programs.client
        );
        Ok(Self {
            client: Program::start(&lab.client.ns, &client)?,
            _server: server,
            burn,
            wire,
            lab,
            queues: queues.into(),
            cpus,
            control,
            end: 0,
            progress: Progress::default(),
        })
    }

    /// The first sequence number that faults can be tied to now.
    pub fn next_sequence(&self) -> u32 {
        (self.requests() as u32 + plan::ROUND).max(plan::LEARNING)
    }

    /// Ties the faults of a pass to their probes.
    pub fn follow(&mut self, pass: &Pass) -> Result<()> {
        self.end = u64::from(pass.end());
        self.wire.follow(pass.wire());
        self.burn.choose(&pass.chosen())
    }

    /// What the client has written of the probes that were sent until now.
    pub fn probes(&self) -> Result<Vec<Seen>> {
        let (sent, deadline) = (self.requests(), Instant::now() + SETTLED);
        loop {
            let probes = outcome::probes(&self.client.written(), &self.wire.so_far())?;
            let last = probes.last().map_or(0, |seen| seen.result.probe.seq);
            if u64::from(last) + 1 >= sent || Instant::now() > deadline {
                return Ok(probes);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many requests the wire has carried.
    pub fn requests(&self) -> u64 {
        self.wire.totals().requests
    }

    /// Waits until it has carried this many; returns within a tenth of a millisecond.
    pub fn wait_for_request(&mut self, number: u64) -> Result<()> {
        let mut last = (self.requests(), Instant::now());
        while self.requests() < number {
            if self.control.stopped() {
                bail!("selftest interrupted");
            }
            self.report_progress();
            if self.requests() > last.0 {
                last = (self.requests(), Instant::now());
            }
            if last.1.elapsed() > PATIENCE {
                let story: Vec<_> = self.client.story.try_iter().collect();
                bail!(
                    "the client has not sent a probe for {PATIENCE:?}: {}",
                    story.join("; ")
                );
            }
            thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// Shows the progress on a terminal, or when a signal asks for it.
    fn report_progress(&mut self) {
        let line = |stage: &Self| {
            let (done, end) = (stage.requests().min(stage.end), stage.end);
            let left = left(end - done);
            format!("selftest: {done} of {end} probes, about {left} s left")
        };
        if self.control.asked().summary {
            log::info!("{}", line(self));
        }
        if self.progress.is_due() {
            story::progress(line(self));
        }
    }

    /// Stops the client's process for this long. Returns from when to when, `CLOCK_MONOTONIC` ns.
    pub fn freeze_client(&self, time: Duration) -> Result<(u64, u64)> {
        self.client.signal(Signal::STOP)?;
        // Each of its threads stops once it has a CPU.
        let client = WaitId::Pid(Pid::from_child(&self.client.child));
        waitid(client, WaitIdOptions::STOPPED).context("wait until the client has stopped")?;
        let from = crate::units::monotonic_ns();
        thread::sleep(time);
        let to = crate::units::monotonic_ns();
        self.client.signal(Signal::CONT)?;
        Ok((from, to))
    }

    /// Ends the run: what the client wrote, and what the wire carried.
    pub fn finish(self) -> Result<(String, Outcome)> {
        let written = self.client.finish(Signal::INT)?;
        let outcome = self.wire.stop();
        match outcome.error {
            Some(error) => bail!("the wire broke: {error}"),
            None => Ok((written, outcome)),
        }
    }
}

/// How the programs of a setup run.
struct Programs {
    priority: Priority,
    // Further options.
    server: &'static str,
    client: &'static str,
}

impl Programs {
    fn of(setup: Setup) -> Self {
        match setup {
            // A thread that explains at the priority of those that probe would hold them up. It goes by the
            // kernel's clock,
            Setup::Explained => Self {
                priority: Priority::Normal,
                server: "--explain=3ms",
                client: "--explain=3ms",
            },
            // else the server has one of its own.
            Setup::Cable | Setup::Overlay => Self {
                priority: REAL_TIME,
                server: "--lab-clock offset=3s,drift=50",
                client: "",
            },
        }
    }
}

/// Lower bound on the duration of this many probes, whole seconds.
fn left(requests: u64) -> u64 {
    (plan::INTERVAL * requests as u32).as_secs() + 1
}

impl Cpus {
    pub fn find() -> Result<Self> {
        let set = rustix::thread::sched_getaffinity(None).context("read this process's CPUs")?;
        let mut mine = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
        Ok(Self {
            home: mine.next().context("this process may run on no CPU")?,
            other: mine.next(),
        })
    }
}

/// This program with other arguments, in a namespace. Dropped, it is ended and waited for.
struct Program {
    child: Child,
    /// What it wrote to stdout so far, and the thread that reads it.
    written: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    /// Lines of stderr.
    story: Receiver<String>,
}

impl Program {
    fn start(ns: &Namespace, args: &str) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(args.split_whitespace()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = ns.run(|| command.spawn())?;
        let mut child = started.with_context(|| format!("start pingtrace {args}"))?;
        let written = Arc::<Mutex<String>>::default();
        let reader = child.stdout.take().map(|stdout| {
            let written = Arc::clone(&written);
            thread::spawn(move || read(stdout, &written))
        });
        let (tell, story) = channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map_while(Result::ok);
                lines.for_each(|line| drop(tell.send(line)));
            });
        }
        Ok(Self {
            child,
            written,
            reader,
            story,
        })
    }

    /// Waits for a line with this text.
    fn wait_for(&self, words: &str, control: &Control) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while Instant::now() < deadline && !control.stopped() {
            match self.story.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.contains(words) => return Ok(()),
                Ok(line) => heard.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        bail!("the server did not get ready: {}", heard.join("; "))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .context("send a signal to the client")
    }

    /// What it wrote to stdout until it was ended.
    fn finish(mut self, signal: Signal) -> Result<String> {
        self.signal(signal)?;
        let status = self.wait()?;
        // It ends with the program, and a reader that has panicked has read less.
        let _ = self.reader.take().map(JoinHandle::join);
        if !status.success() {
            let story: Vec<_> = self.story.iter().collect();
            bail!("the client ended with {status}: {}", story.join("; "));
        }
        Ok(self.written())
    }

    /// Whole lines that it wrote to stdout so far.
    fn written(&self) -> String {
        let written = self.written.lock();
        written.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the process and waits for it.
    fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().context("wait for pingtrace")? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().context("kill pingtrace")?;
        self.child.wait().context("wait for pingtrace")
    }
}

/// Until the end of what a program writes, or an error.
fn read(stdout: ChildStdout, written: &Mutex<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push_str(&line);
        written.push('\n');
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // It may be stopped. There is nobody to report an error to.
        let _ = self.signal(Signal::CONT);
        let _ = self.signal(Signal::TERM);
        let _ = self.wait();
    }
}

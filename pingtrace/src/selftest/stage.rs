//! The laboratory of the self-test: two hosts, the wire between them, and the programs under test. All
//! of it ends when the value is dropped.

use super::inject::burn::Burn;
use super::inject::forwarder::{Forwarder, Outcome};
use super::laboratory::{Laboratory, Queue};
use super::plan::{self, Test};
use crate::control::Control;
use crate::kernel::thread::pin;
use crate::output::story::{self, Progress};
use anyhow::{Context, Result, bail};
use libbpf_rs::OpenObject;
use netns::{Lab, Namespace};
use rustix::process::{Pid, Signal};
use std::io::{BufRead, BufReader, Read};
use std::mem::MaybeUninit;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Two hosts on one kernel, each with a clock of its own. They end by themselves if need be.
const SERVER: &str = "-s --userid 7 --lab-clock offset=3s,drift=50 -t 300";
/// With a threshold that every probe reaches: each of them is judged.
const CLIENT: &str = "--userid 3 -o json -t 240 -m 1us";
/// Upper bound on any wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hosts, and the programs on them.
pub struct Stage<'a> {
    // Dropped in this order.
    client: Program,
    _server: Program,
    pub burn: Burn<'a>,
    wire: Forwarder,
    pub test: Test,
    pub lab: Lab,
    pub queues: Rc<[Queue]>,
    pub cpus: Cpus,
    control: &'a Control,
    /// Requests that all faults will take.
    in_all: u64,
    progress: Progress,
}

/// CPUs that this process may use. A second stage finds the home of the first one only.
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
        test: Test,
        control: &'a Control,
    ) -> Result<Self> {
        let cpus = Cpus::find()?;
        let in_all = test.requests(cpus.other.is_some());
        // Threads and processes inherit it.
        pin(cpus.home).with_context(|| format!("run on CPU {} only", cpus.home))?;
        let built = Laboratory::build(test.topology);
        let Laboratory { taps, queues } = built.context("build a laboratory: needs root")?;
        let lab = taps.lab;
        let wire = Forwarder::start(taps.client_tap, taps.server_tap, test.wire())
            .context("start the wire")?;
        log::info!(
            "selftest: two hosts, {}; starting a server. Takes about {} s",
            test.topology.description(),
            left(in_all)
        );
        let server = Program::start(&lab.server.ns, SERVER)?;
        server.wait_for("serving", control)?;
        let mut burn = Burn::load(storage, plan::EACH, &test.chosen())?;
        burn.attach(&lab.client, &lab.server)?;
        let interval = plan::INTERVAL.as_micros();
        let client = format!("-c {} {CLIENT} -i {interval}us", lab.server.v4);
        Ok(Self {
            client: Program::start(&lab.client.ns, &client)?,
            _server: server,
            burn,
            wire,
            test,
            lab,
            queues: queues.into(),
            cpus,
            control,
            in_all,
            progress: Progress::default(),
        })
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
            let (done, all) = (stage.requests().min(stage.in_all), stage.in_all);
            let left = left(all - done);
            format!("selftest: {done} of {all} probes, about {left} s left")
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

/// Lower bound on the duration of this many probes, whole seconds.
fn left(requests: u64) -> u64 {
    (plan::INTERVAL * requests as u32).as_secs() + 1
}

impl Cpus {
    fn find() -> Result<Self> {
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
    /// What it wrote to stdout.
    result: Option<JoinHandle<String>>,
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
        let result = child.stdout.take().map(|mut stdout| {
            thread::spawn(move || {
                let mut text = String::new();
                // After an error, what was read so far counts.
                let _ = stdout.read_to_string(&mut text);
                text
            })
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
            result,
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
        let result = self.result.take().and_then(|thread| thread.join().ok());
        if !status.success() {
            let story: Vec<_> = self.story.iter().collect();
            bail!("the client ended with {status}: {}", story.join("; "));
        }
        Ok(result.unwrap_or_default())
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

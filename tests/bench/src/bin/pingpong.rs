//! What the recorder costs: two threads on one CPU that wake each other through pipes, with it and
//! without it in turn; and what the kernel says that its programs take.
//!
//! Usage: `pingpong [SECONDS]`. Prints lines of KEY VALUE; ns, and shares in percent. The load behind
//! the share is 10 000 switches and 10 000 softirqs a second on one CPU, or what is left of it.

use anyhow::{Context, Result};
use pingtrace::kernel::meter::Meter;
use pingtrace::kernel::object::Storage;
use pingtrace::kernel::recorder::{Recorder, Setup};
use pingtrace::kernel::thread::pin;
use pingtrace::selftest::inject::load::{Flood, UdpFlood};
use pingtrace::units::monotonic_ns;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

/// Runs of each kind.
const ROUNDS: usize = 15;
/// Where.
const CPU: usize = 1;
/// Of the share.
const RATE: f64 = 10_000.0;

fn main() -> Result<()> {
    let seconds: f64 = std::env::args()
        .nth(1)
        .map_or(Ok(0.4), |text| text.parse())?;
    let each = Duration::from_secs_f64(seconds);
    let kinds = [None, Some(of_blame()), Some(with_traced_reschedules())];
    let mut runs = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        // Which one is first changes, so that what becomes slower in time hits all.
        for turn in 0..kinds.len() {
            let kind = (round + turn) % kinds.len();
            let mut storage = Storage::uninit();
            let setup = kinds[kind].as_ref();
            let _recorder = setup.map(|setup| record(&mut storage, setup)).transpose()?;
            runs[kind].push(ping_pong(each)?);
        }
    }
    let more = |kind: usize| {
        let pairs = runs[kind].iter().zip(&runs[0]);
        100.0 * (median(pairs.map(|(with, without)| with / without).collect()) - 1.0)
    };
    println!("more_percent {:.1}", more(1));
    println!("traced_reschedules_more_percent {:.1}", more(2));
    let [bare, recorded, _] = runs.clone().map(median);
    println!("bare_ns {bare:.0}");
    println!("recorded_ns {recorded:.0}");
    programs(each)
}

/// As for a blame.
fn of_blame() -> Setup {
    let limit = |us| Some(Duration::from_micros(us));
    Setup {
        waits: limit(50),
        reschedules: limit(50),
        sampled: true,
        late: limit(100),
        irqs: limit(20),
        softirqs: limit(50),
        ..Setup::default()
    }
}

/// Reschedules are traced when they are asked for, as nosched does.
fn with_traced_reschedules() -> Setup {
    Setup {
        sampled: false,
        ..of_blame()
    }
}

fn record<'a>(storage: &'a mut Storage, setup: &Setup) -> Result<Recorder<'a>> {
    let mut recorder = Recorder::load(storage, setup)?;
    recorder.attach()?;
    Ok(recorder)
}

/// What the programs take at this load, each and together.
fn programs(each: Duration) -> Result<()> {
    let mut storage = Storage::uninit();
    let recorder = record(&mut storage, &of_blame())?;
    let meter = Meter::start(0, recorder.programs());
    let before = meter.read();
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let flood = Flood {
        dst: receiver.local_addr()?,
        size: 64,
        cpu: Some(CPU),
        rate: Some(RATE as u64),
        count: u64::MAX,
        limit: 4 * each,
    };
    let flood = UdpFlood::start(|| Ok(()), flood)?;
    ping_pong(4 * each)?;
    flood.wait();
    let after = meter.read();
    let mut share = 0.0;
    for (after, before) in after.programs.iter().zip(&before.programs) {
        let (runs, ns) = (after.runs - before.runs, after.ns - before.ns);
        if runs < 100 {
            continue;
        }
        let cost = ns as f64 / runs as f64;
        println!("{} {cost:.0}", after.program);
        let scheduler = after.program == "on_sched_switch";
        if scheduler || after.program.starts_with("on_softirq") {
            share += cost * RATE / 1e9;
        }
    }
    println!("share_percent {:.2}", 100.0 * share);
    Ok(())
}

/// ns a switch of two threads on one CPU.
fn ping_pong(time: Duration) -> Result<f64> {
    let (there, serve) = io::pipe()?;
    let (back, answer) = io::pipe()?;
    let echoing = thread::spawn(move || echo(there, answer));
    let playing = thread::spawn(move || play(back, serve, time));
    let per_switch = playing.join().ok().context("a thread panicked")??;
    echoing.join().ok().context("a thread panicked")??;
    Ok(per_switch)
}

fn play(mut from: PipeReader, mut to: PipeWriter, time: Duration) -> io::Result<f64> {
    pin(CPU)?;
    let start = monotonic_ns();
    let end = start + time.as_nanos() as u64;
    let (mut rounds, mut now) = (0_u64, start);
    let mut byte = [0];
    while now < end {
        for _ in 0..64 {
            to.write_all(&byte)?;
            from.read_exact(&mut byte)?;
            rounds += 1;
        }
        now = monotonic_ns();
    }
    Ok((now - start) as f64 / (2 * rounds) as f64)
}

/// Until the other end is closed.
fn echo(mut from: PipeReader, mut to: PipeWriter) -> io::Result<()> {
    pin(CPU)?;
    let mut byte = [0];
    while from.read(&mut byte)? == 1 {
        to.write_all(&byte)?;
    }
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

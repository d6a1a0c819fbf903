//! What the recorder costs: two threads on one CPU that wake each other through pipes, with it and
//! without it in turn; and what the kernel says that its programs take.
//!
//! Usage: pingpong [SECONDS]. Prints lines of KEY VALUE; ns, and shares in percent. The load behind
//! the share is 10 000 switches and 10 000 softirqs a second on one CPU, or what is left of it.

use anyhow::{Context, Result};
use pingtrace::inject::load::{Flood, UdpFlood, pin};
use pingtrace::meter::Meter;
use pingtrace::recorder::{Recorder, Setup, Storage};
use pingtrace::units::monotonic_ns;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

/// Runs of each kind.
const PAIRS: usize = 15;
/// Where.
const CPU: usize = 1;
/// Of the share.
const RATE: f64 = 10_000.0;

fn main() -> Result<()> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(0.4), |text| text.parse())?;
    let each = Duration::from_secs_f64(seconds);
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mut bare = 0.0;
        let mut recorded = 0.0;
        // Which one is first changes, so that what becomes slower in time hits both.
        for first in [pair % 2 == 0, pair % 2 != 0] {
            if first {
                bare = ping_pong(each)?;
            } else {
                let mut storage = Storage::uninit();
                let _recorder = record(&mut storage)?;
                recorded = ping_pong(each)?;
            }
        }
        without.push(bare);
        with.push(recorded);
        ratios.push(recorded / bare);
    }
    println!("bare_ns {:.0}", median(&mut without));
    println!("recorded_ns {:.0}", median(&mut with));
    println!("more_percent {:.1}", 100.0 * (median(&mut ratios) - 1.0));
    programs(each)
}

/// Everything, with the thresholds of a blame.
fn record(storage: &mut Storage) -> Result<Recorder<'_>> {
    let limit = |us| Some(Duration::from_micros(us));
    let setup = Setup {
        waits: limit(50),
        reschedules: limit(50),
        late: limit(100),
        irqs: limit(20),
        softirqs: limit(50),
        ..Setup::default()
    };
    let mut recorder = Recorder::load(storage, &setup)?;
    recorder.attach()?;
    Ok(recorder)
}

/// What the programs take at this load, each and together.
fn programs(each: Duration) -> Result<()> {
    let mut storage = Storage::uninit();
    let recorder = record(&mut storage)?;
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
        let scheduler = ["on_sched_switch", "on_sched_entry"].contains(&after.program.as_str());
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

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

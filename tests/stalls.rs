//! The injected faults of the companions are what they say they are.

use super::harness::{alone, until};
use super::kit::quota::Quota;
use super::kit::stall::{Kind, Span, Stall};
use super::kit::victim::{Victim, Wake, Wakes};
use pingtrace::kernel::thread::Priority;
use pingtrace::selftest::inject::load::{CpuHog, Hog};
use std::mem::MaybeUninit;
use std::process::Command;
use std::time::Duration;

const CPU: usize = 1;
const MS: Duration = Duration::from_millis(1);

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() / 2]
}

/// What the kernel did lasts as long as was asked, on that CPU.
fn stalls(kind: Kind) {
    let _alone = alone();
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, kind).unwrap();
    for ms in [3, 8, 20] {
        let spans: Vec<Span> = (0..7).map(|_| stall.once(CPU, ms * MS).unwrap()).collect();
        let asked = u64::from(ms) * 1_000_000;
        let got = median(spans.iter().map(Span::ns).collect());
        eprintln!("{kind:?}: asked {asked}, median {got}");
        assert!(
            (asked..asked * 105 / 100).contains(&got),
            "{ms} ms: {spans:?}"
        );
        assert!(spans.is_sorted_by_key(|span| span.from_ns), "{spans:?}");
    }
    assert!(stall.once(CPU, 500 * MS).is_err());
}

#[test]
fn interrupts_are_off_for_the_time_asked() {
    stalls(Kind::IrqOff);
}

#[test]
fn preemption_is_off_for_the_time_asked() {
    stalls(Kind::PreemptOff);
}

#[test]
fn a_softirq_is_delayed_for_the_time_asked() {
    stalls(Kind::SoftirqDelay);
}

#[test]
fn a_softirq_runs_for_the_time_asked() {
    stalls(Kind::SoftirqRun);
}

/// Wake-ups during a span, and how much of it was left of them.
fn during(wakes: &[Wake], (from, to): (u64, u64)) -> impl Iterator<Item = (Wake, u64)> {
    let inside = wakes
        .iter()
        .filter(move |w| from < w.due_ns && w.due_ns < to);
    inside.map(move |w| (*w, to - w.due_ns))
}

/// Of higher priority than all but the stall, which nobody preempts, and without interrupts no
/// timer wakes: a victim sees both, and a victim on another CPU sees nothing.
fn victim_of(kind: Kind) {
    let _alone = alone();
    let wakes = |cpu| Wakes {
        cpu,
        priority: Priority::Fifo(50),
        interval: MS,
        limit: Duration::from_secs(5),
    };
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, kind).unwrap();
    let victim = Victim::start(wakes(CPU)).unwrap();
    let spans: Vec<Span> = (0..10).map(|_| stall.once(CPU, 8 * MS).unwrap()).collect();
    let wakes = victim.stop();
    let mut errors = Vec::new();
    for span in spans {
        for (wake, left) in during(&wakes, (span.from_ns, span.to_ns)).take(1) {
            assert!(wake.woke_ns >= span.to_ns, "{wake:?} in {span:?}");
            assert!(left >= 6_000_000, "{wake:?} in {span:?}");
            errors.push(wake.late_ns() - left);
        }
    }
    assert!(errors.len() >= 5, "only {} of 10 were seen", errors.len());
    assert!(median(errors.clone()) < 1_000_000, "{errors:?}");
}

#[test]
fn a_victim_waits_for_interrupts() {
    victim_of(Kind::IrqOff);
}

#[test]
fn a_victim_waits_for_preemption() {
    victim_of(Kind::PreemptOff);
}

#[test]
fn a_victim_waits_for_a_hog() {
    let _alone = alone();
    let limit = Duration::from_secs(3);
    let victim = Victim::start(Wakes {
        cpu: CPU,
        priority: Priority::Normal,
        interval: 2 * MS,
        limit,
    });
    let victim = victim.unwrap();
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Fifo(10),
        limit,
        burst: Some((12 * MS, 60 * MS)),
    });
    let wakes = victim.wait();
    let bursts = hog.unwrap().stop();
    let mut errors = Vec::new();
    for burst in bursts {
        for (wake, left) in during(&wakes, burst).take(1) {
            // What the hog does not get of its time goes to others.
            errors.push(wake.late_ns().abs_diff(left));
        }
    }
    // Of fifty, where the machine leaves the two alone.
    assert!(errors.len() >= 8, "only {} bursts were met", errors.len());
    assert!(median(errors.clone()) < 1_000_000, "{errors:?}");
}

/// A busy member uses up the quota, also where others leave it a small part of a CPU, and then
/// waits for what is left of a period.
fn assert_throttles(quota: Quota) {
    let dir = quota.path().to_owned();
    let throttled = || quota.throttling().unwrap().periods >= 4;
    until("the quota runs out four times", throttled);
    let throttling = quota.throttling().unwrap();
    let each = throttling.ns / throttling.periods;
    assert!((5_000_000..200_000_000).contains(&each), "{throttling:?}");
    drop(quota);
    assert!(!dir.exists());
}

#[test]
fn a_quota_throttles_a_process() {
    let _alone = alone();
    let quota = Quota::new(5 * MS, 100 * MS).unwrap();
    assert_eq!(quota.throttling().unwrap().periods, 0);
    let mut busy = Command::new("sh");
    let mut busy = busy
        .args(["-c", "ulimit -t 10; while :; do :; done"])
        .spawn()
        .unwrap();
    quota.confine_process(busy.id()).unwrap();
    assert_throttles(quota);
    busy.kill().unwrap();
    busy.wait().unwrap();
}

#[test]
fn a_quota_throttles_a_thread() {
    let _alone = alone();
    let quota = Quota::new(5 * MS, 100 * MS).unwrap();
    let hog = CpuHog::start(Hog {
        cpu: CPU,
        priority: Priority::Normal,
        limit: Duration::from_secs(30),
        burst: None,
    });
    let hog = hog.unwrap();
    match quota.confine_thread(hog.tid()) {
        Ok(()) => assert_throttles(quota),
        Err(e) => assert!(e.to_string().contains("cgroup v2 takes processes"), "{e:#}"),
    }
}

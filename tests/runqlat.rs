//! runqlat says how long a task waited, for what, and who ran instead.

use super::harness::{Companion, Finished, alone, finish, program};
use super::irqoff::{end_ns, median, number, summary};
use super::kit::quota::Quota;
use super::kit::stall::{Kind, Stall};
use super::kit::victim::{Victim, Wake, Wakes};
use pingtrace::kernel::thread::Priority;
use pingtrace::selftest::inject::load::{CpuHog, Hog};
use serde_json::Value;
use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const CPU: usize = 1;
const MS: Duration = Duration::from_millis(1);

fn victim(priority: Priority, interval: Duration, limit: Duration) -> Victim {
    let wakes = Wakes {
        cpu: CPU,
        priority,
        interval,
        limit,
    };
    Victim::start(wakes).unwrap()
}

fn hog(priority: Priority, burst: Option<(Duration, Duration)>) -> CpuHog {
    let hog = Hog {
        cpu: CPU,
        priority,
        limit: Duration::from_secs(20),
        burst,
    };
    CpuHog::start(hog).unwrap()
}

/// Follows what this victim waits for while it is disturbed: the events, which are as long as its
/// own clock says.
fn followed(priority: Priority, disturb: impl FnOnce()) -> Vec<Value> {
    let victim = victim(priority, 2 * MS, Duration::from_secs(3));
    let runqlat = Companion::start(&format!("runqlat -t 5ms -P --tid {} -o json", victim.tid()));
    let tid = u64::from(victim.tid());
    disturb();
    let wakes = victim.wait();
    let run = runqlat.stop();
    summary(&run);
    let events = run.lines("event");
    assert!(
        events.iter().all(|event| number(event, "tid") == tid),
        "{events:#?}"
    );
    assert!(
        events.iter().all(|event| event["class"] == "cpu"),
        "{events:#?}"
    );
    // A timer is late by its slack and its interrupt also where the CPU is free.
    let timer = wakes.iter().map(Wake::late_ns).filter(|ns| *ns < 1_000_000);
    let timer = median(timer.collect());
    let error = |event: &Value| {
        let end = end_ns(event);
        let ran = |wake: &&Wake| wake.woke_ns.abs_diff(end) < 500_000;
        let wake = wakes.iter().find(ran)?;
        Some(wake.late_ns().abs_diff(timer + number(event, "lat_ns")))
    };
    let errors: Vec<u64> = events.iter().filter_map(error).collect();
    assert!(errors.len() >= 8, "only {} of {events:#?}", errors.len());
    let error = median(errors.clone());
    eprintln!("{error} ns off at the median of {}", errors.len());
    assert!(error < 100_000, "{errors:?}");
    events
}

#[test]
fn a_wait_is_as_long_as_its_victim_says() {
    let _alone = alone();
    let mut running = None;
    let events = followed(Priority::Normal, || {
        running = Some(hog(Priority::Fifo(10), Some((12 * MS, 60 * MS))));
    });
    drop(running);
    let behind_hog = events
        .iter()
        .filter(|event| event["ran"][0]["comm"] == "hog")
        .count();
    assert!(
        behind_hog * 10 >= events.len() * 9,
        "{behind_hog} of {events:#?}"
    );
}

/// The run queue's clock then is as old as the wake-up.
#[test]
fn a_wait_for_preemption_is_as_long_as_its_victim_says() {
    let _alone = alone();
    let mut storage = MaybeUninit::uninit();
    let mut stall = Stall::load(&mut storage, Kind::PreemptOff).unwrap();
    followed(Priority::Fifo(50), || {
        for _ in 0..20 {
            thread::sleep(20 * MS);
            stall.once(CPU, 9 * MS).unwrap();
        }
    });
}

#[test]
fn a_quota_is_told_from_contention() {
    let _alone = alone();
    let quota = Quota::new(20 * MS, 100 * MS).unwrap();
    let (busy, sleeper) = (Process::busy(), Process::waking());
    for process in [&busy, &sleeper] {
        quota.confine_process(process.pid()).unwrap();
    }
    let args = format!(
        "runqlat -t 20ms --cgroup {} -o json",
        quota.path().display()
    );
    let runqlat = Companion::start(&args);
    let before = quota.throttling().unwrap().ns;
    thread::sleep(Duration::from_secs(3));
    drop((busy, sleeper));
    let throttled = quota.throttling().unwrap().ns - before;
    let run = runqlat.stop();
    summary(&run);
    let events = run.lines("event");
    let of = |name: &'static str| events.iter().filter(move |event| event["comm"] == name);
    assert!(of("sh").count() >= 8, "{events:#?} of {throttled}");
    assert!(of("bash").count() >= 3, "{events:#?} of {throttled}");
    let quota = |event: &Value| event["quota_ns"].as_u64().unwrap_or(0);
    let told: u64 = of("sh").map(quota).sum();
    eprintln!(
        "the quota took {throttled} ns says the kernel, {told} ns the events of the busy one"
    );
    // The kernel counts a period when it is over; waits below the threshold have no event.
    let bounds = throttled * 6 / 10..=throttled * 13 / 10;
    assert!(bounds.contains(&told), "{told} of {throttled}: {events:#?}");
    for event in &events {
        // On a busy machine others take more than the quota does.
        let most = quota(event) * 2 >= number(event, "lat_ns");
        let class = if most { "quota" } else { "cpu" };
        assert_eq!(event["class"], class, "{event:#}");
    }
    let right = events.iter().filter(|event| event["class"] == "quota");
    assert!(right.count() * 3 >= events.len() * 2, "{events:#?}");
}

/// A cgroup of a container engine's name, in another one's.
struct Container(PathBuf);

impl Container {
    fn within(parent: &Path, id: &str) -> Self {
        let dir = parent.join(format!("docker-{id}.scope"));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.0.join("cgroup.procs"))
            .unwrap()
            .lines()
        {
            // Or it has ended.
            let _ = fs::write(self.0.join("../cgroup.procs"), pid);
        }
        fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn a_row_says_in_which_container_its_task_is() {
    const ID: &str = "5c0ffee05c0ffee05c0ffee05c0ffee05c0ffee05c0ffee05c0ffee05c0ffee0";
    let _alone = alone();
    let quota = Quota::new(20 * MS, 100 * MS).unwrap();
    let busy = Process::busy();
    let container = Container::within(quota.path(), ID);
    fs::write(container.0.join("cgroup.procs"), busy.pid().to_string()).unwrap();
    let args = format!(
        "runqlat -t 20ms --tid {} --hist --by cgroup -o json",
        busy.pid()
    );
    let runqlat = Companion::start(&args);
    thread::sleep(Duration::from_secs(1));
    let run = runqlat.stop();
    drop((busy, container));
    summary(&run);
    let events = run.lines("event");
    assert!(events.len() >= 5, "{events:#?}");
    assert!(events.iter().all(|e| e["container"] == ID), "{events:#?}");
    let waits = run.lines("waits");
    assert!(waits.iter().any(|w| w["container"] == ID), "{waits:#?}");
}

/// A process on the CPU of these tests.
struct Process(std::process::Child);

impl Process {
    /// It is always runnable: `sh`.
    fn busy() -> Self {
        Self::start(&["sh", "-c", "ulimit -t 15; while :; do :; done"])
    }

    /// It wakes every 7 ms: `bash`.
    fn waking() -> Self {
        let wait = "ulimit -t 15; exec 3<> <(:); while ! read -t 0.007 -u 3; do :; done";
        Self::start(&["bash", "-c", wait])
    }

    fn start(program: &[&str]) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).args(program);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn distributions_have_everyone_or_those_asked_for() {
    let _alone = alone();
    let busy = [Process::busy(), Process::busy(), Process::busy()];
    thread::sleep(50 * MS);
    let pid = busy[0].pid();
    let companions = [
        "--hist --len -i 500ms".to_owned(),
        format!("--hist=hdr --by process -p {pid}"),
        "--hist --by cgroup --comm sh".to_owned(),
    ];
    let companions = companions.map(|args| Companion::start(&format!("runqlat {args} -o json")));
    thread::sleep(Duration::from_millis(1_200));
    let [all, process, cgroup] = companions.map(Companion::stop);
    let waits = |run: &Finished| {
        summary(run);
        run.lines("waits")
    };
    let everyone = waits(&all);
    let (whole, intervals) = everyone.split_last().unwrap();
    assert!(intervals.len() >= 2, "{everyone:#?}");
    let counted: u64 = intervals.iter().map(|w| number(w, "count")).sum();
    assert!(
        (1..=number(whole, "count")).contains(&counted),
        "{everyone:#?}"
    );
    let lengths = all.lines("lengths");
    let mine = lengths
        .iter()
        .rfind(|l| number(l, "cpu") == CPU as u64)
        .unwrap();
    assert!(mine["mean"].as_f64().unwrap() > 2.0, "{mine:#}");
    let process = waits(&process);
    assert_eq!(process.len(), 1, "{process:#?}");
    assert_eq!(
        (number(&process[0], "pid"), &process[0]["comm"]),
        (u64::from(pid), &"sh".into())
    );
    assert!(
        process[0]["hdr"].is_string() && number(&process[0], "max_ns") > 1_000_000,
        "{process:#?}"
    );
    let cgroup = waits(&cgroup);
    assert!(
        cgroup
            .iter()
            .all(|w| w["cgroup"].as_str().unwrap().starts_with('/')),
        "{cgroup:#?}"
    );
}

/// One line of complaint with these words, and this exit status.
fn refused(command: &mut Command, status: i32, words: &[&str]) {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = finish(command.spawn().unwrap());
    assert_eq!(run.status, status, "{run:#?}");
    let lines: Vec<&str> = run.stderr.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "{run:#?}");
    for word in words {
        assert!(lines[0].contains(word), "no '{word}' in {}", lines[0]);
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let cases: [(&str, i32, &[&str]); 9] = [
        ("runqlat -p 4194303 1", 1, &["no process", "4194303 (-p)"]),
        ("runqlat --tid 4194303 1", 1, &["4194303 (--tid)"]),
        (
            "runqlat --cgroup /sys/fs/cgroup/none-such 1",
            1,
            &["find the cgroup", "No such file"],
        ),
        (
            "runqlat --cgroup /usr 1",
            1,
            &["/usr (--cgroup) is no cgroup"],
        ),
        (
            "runqlat --comm sixteen-or-longer 1",
            2,
            &["--comm", "15 bytes"],
        ),
        (
            "irqoff -t 1us 1",
            1,
            &["threshold 1.00 us (-t)", "can resolve", "use -t"],
        ),
        (
            "nosched -t 1us 1",
            1,
            &["threshold 1.00 us (-t)", "can resolve", "use -t"],
        ),
        (
            "runqlat -t 0 1",
            1,
            &["threshold 0 ns (-t)", "can resolve", "use -t"],
        ),
        (
            "irqoff -f /none-such/log 1",
            1,
            &["open the log /none-such/log"],
        ),
    ];
    for (args, status, words) in cases {
        refused(program().args(args.split(' ')), status, words);
    }
    for companion in ["irqoff", "nosched", "runqlat"] {
        let binary = env!("CARGO_BIN_EXE_pingtrace");
        let mut bare = Command::new("setpriv");
        bare.args([
            "--bounding-set=-bpf,-perfmon,-sys_admin",
            "--inh-caps=-bpf,-perfmon,-sys_admin",
            binary,
            companion,
            "1",
        ]);
        refused(&mut bare, 1, &["CAP_BPF"]);
        let hide = format!("mount -t tmpfs none /sys/kernel/btf && exec {binary} {companion} 1");
        let mut without_btf = Command::new("unshare");
        without_btf.args(["-m", "sh", "-c", &hide]);
        refused(&mut without_btf, 1, &["CONFIG_DEBUG_INFO_BTF"]);
    }
}

//! memleak against memory that is held in known numbers: it is counted at its site, gone after its
//! release, and churn is no leak. Others on this machine allocate too, so a count may be a little
//! larger than what this test holds.

use super::harness::{
    Finished, Story, alone, end, finish, hear, kill, program, refused, until, with_story,
};
use super::kit::holders::{
    Arrays, EventFds, Growth, Leaker, PacketRing, Skbs, churn_epoll, churn_udp,
};
use super::refuse::{self, BPF_ITER_CREATE, BPF_RAW_TRACEPOINT_OPEN, Refuse};
use libbpf_rs::{MapHandle, MapType, query::ProgInfoIter};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
const MS: Duration = Duration::from_millis(1);

/// Started with these arguments; its story is in the second.
fn spawn(args: &str) -> (Child, Story) {
    let child = memleak(args).spawn().expect("start pingtrace");
    with_story(child)
}

fn memleak(args: &str) -> Command {
    let mut command = program();
    command.arg("memleak").args(args.split_whitespace());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it, and does this as soon as it follows allocations. What that returns is held to the end.
fn during<T>(args: &str, act: impl FnOnce() -> T) -> Finished {
    let (done, _held) = followed(args, act, |_| ());
    done
}

/// As [`during`], and ends it when that was done, however long it took, and some looks more.
fn until_done<T>(args: &str, act: impl FnOnce() -> T) -> Finished {
    let (done, _held) = followed(&format!("{args} -i 300"), act, |child| {
        thread::sleep(1500 * MS);
        kill(child.id(), libc::SIGINT);
    });
    done
}

fn followed<T>(args: &str, act: impl FnOnce() -> T, then: impl FnOnce(&Child)) -> (Finished, T) {
    let (child, mut story) = spawn(args);
    hear(&mut story, "following");
    thread::sleep(300 * MS);
    let held = act();
    then(&child);
    let done = end(child, story);
    assert_eq!(done.status, 0, "{done:#?}");
    (done, held)
}

/// Live objects and bytes of all sites in this function, and stacks through it.
fn held_by(done: &Finished, function: &str) -> (u64, u64) {
    let starts = |name: &Value| {
        name.as_str()
            .is_some_and(|n| n.split('+').next() == Some(function))
    };
    let sites = done.lines("site");
    let mine = sites.iter().filter(|site| {
        let stack = site["stack"].as_array().into_iter().flatten();
        starts(&site["site"]) || { stack }.any(starts)
    });
    let number = |site: &Value, key: &str| site[key].as_u64().expect("a number");
    mine.fold((0, 0), |(live, bytes), site| {
        (live + number(site, "live"), bytes + number(site, "bytes"))
    })
}

fn verdict(done: &Finished) -> Value {
    done.lines("verdict")
        .pop()
        .unwrap_or_else(|| panic!("no verdict: {done:#?}"))
}

fn summary(done: &Finished) -> Value {
    done.lines("summary")
        .pop()
        .unwrap_or_else(|| panic!("no summary: {done:#?}"))
}

/// So many, and a few of others'; what was lost may be missing.
fn assert_counts(done: &Finished, live: u64, held: u64) {
    let lost = summary(done)["lost"].as_u64().expect("a number");
    assert!(
        (held.saturating_sub(lost)..=held + held / 50 + 50 + lost).contains(&live),
        "{live} of {held}, {lost} lost: {done:#?}"
    );
}

#[test]
fn eventfds_are_counted_at_their_site_and_gone_when_they_are() {
    let _alone = alone();
    let args = "-t slab -o json --top 1000";
    let held = until_done(args, || EventFds::hold(5000).unwrap());
    let (live, bytes) = held_by(&held, "do_eventfd");
    assert_counts(&held, live, 5000);
    assert!(bytes >= live * 32, "{bytes}");
    let released = until_done(args, || drop(EventFds::hold(5000).unwrap()));
    let (live, _) = held_by(&released, "do_eventfd");
    assert_counts(&released, live, 0);
    let allocated = summary(&released)["counts"]["allocated"].as_u64();
    assert!(allocated >= Some(5000), "{released:#?}");
}

#[test]
fn queued_datagrams_are_counted_in_their_cache_only_with_stacks() {
    let _alone = alone();
    let args = "-n skbuff_head_cache -s -r 4 -o json --top 100";
    let held = until_done(args, || Skbs::hold(2000).unwrap());
    let sites = held.lines("site");
    assert!(
        sites.iter().all(|s| s["cache"] == "skbuff_head_cache"),
        "{sites:#?}"
    );
    let (live, _) = held_by(&held, "udp_sendmsg");
    assert_counts(&held, live, 2000);
    let top = &sites[0];
    let sampled = top["stack_live"].as_u64().unwrap();
    assert!((250..=1000).contains(&sampled), "about a quarter: {top:#}");
    let released = until_done(args, || drop(Skbs::hold(2000).unwrap()));
    let (live, _) = held_by(&released, "udp_sendmsg");
    assert_counts(&released, live, 0);
    // What is read may be freed in bulk, which no tracepoint shows.
    let drain = || Skbs::hold(2000).unwrap().drain().unwrap();
    let read = during(&format!("{args} -i 2"), drain);
    assert_eq!(verdict(&read)["leak"], "no", "{read:#?}");
}

#[test]
fn a_packet_ring_is_counted_in_pages() {
    const BYTES: u64 = 64 * 16 * 4096;
    let _alone = alone();
    let args = "-t page -s -o json --top 1000";
    let held = until_done(args, || PacketRing::hold(64, 4).unwrap());
    assert_eq!(held_by(&held, "packet_set_ring"), (64, BYTES), "{held:#?}");
    let released = until_done(args, || drop(PacketRing::hold(64, 4).unwrap()));
    assert_eq!(
        held_by(&released, "packet_set_ring"),
        (0, 0),
        "{released:#?}"
    );
}

#[test]
fn bpf_arrays_are_counted_in_vmalloc() {
    let _alone = alone();
    let args = "-t vmalloc -s -o json --top 100";
    let make = || Arrays::hold(37, 1 << 19).unwrap();
    // Other loaders of programs make such maps too, but not this many at once.
    let mine = |done: &Finished| {
        let sites = done.lines("site");
        let is_mine = |site: &&Value| {
            let name = site["site"].as_str().expect("a name");
            name.starts_with("array_map_alloc+") && site["live"].as_u64() >= Some(37)
        };
        sites.iter().find(is_mine).cloned()
    };
    let held = until_done(args, make);
    let site = mine(&held).unwrap_or_else(|| panic!("{held:#?}"));
    assert!(site["bytes"].as_u64() >= Some(37 << 19), "{site:#}");
    assert!(site["live"].as_u64() <= Some(50), "{site:#}");
    assert!(site["stack"].is_array(), "{site:#}");
    // Freed by RCU and a work queue, before the next look but one.
    let released = until_done(args, || drop(make()));
    assert_eq!(mine(&released), None, "{released:#?}");
}

#[test]
fn per_cpu_arrays_are_counted() {
    const MAPS: usize = 20;
    const ENTRIES: u32 = 64;
    let _alone = alone();
    let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    let map = |_| MapHandle::create(MapType::PercpuArray, Some("held"), 4, 8, ENTRIES, &options);
    let make = || -> Vec<_> { (0..MAPS).map(map).collect::<Result<_, _>>().unwrap() };
    let held = until_done("-t percpu -s -o json --top 100", make);
    let (live, _) = held_by(&held, "bpf_array_alloc_percpu");
    let (same, _) = held_by(&held, "array_map_alloc");
    assert_counts(&held, live.max(same), MAPS as u64 * u64::from(ENTRIES));
}

#[test]
fn churn_is_no_leak() {
    let _alone = alone();
    let epoll = during("-n eventpoll_epi -i 3 -o json", || {
        churn_epoll(20_000).unwrap();
    });
    let found = verdict(&epoll);
    assert_eq!(found["leak"], "no", "{epoll:#?}");
    assert!(found["confidence"].as_f64() > Some(0.5), "{found:#}");
    let udp = during("-n skbuff_head_cache -i 2 -o json", || {
        churn_udp(20_000).unwrap();
    });
    assert_eq!(verdict(&udp)["leak"], "no", "{udp:#?}");
}

/// Raises the limit of open files, and lets the caches calm down.
fn allow_files() {
    drop(EventFds::hold(19_000).unwrap());
    thread::sleep(1000 * MS);
}

/// Makes eventfds steadily for this long.
fn leak_eventfds(time: Duration) -> Vec<EventFds> {
    let until = Instant::now() + time;
    let mut held = Vec::new();
    while Instant::now() < until && held.len() < 185 {
        held.push(EventFds::hold(100).unwrap());
        thread::sleep(25 * MS);
    }
    held
}

#[test]
fn steady_growth_is_found_without_a_hint_and_called_a_leak() {
    let _alone = alone();
    allow_files();
    let (child, story) = spawn("-i 4 -s -o json --top 100");
    let held = leak_eventfds(5200 * MS);
    let done = end(child, story);
    let total = held.len() * 100;
    assert_eq!(done.status, 0, "{done:#?}");
    assert!(total > 10_000, "only {total}");
    let found = verdict(&done);
    assert_eq!(found["leak"], "yes", "{done:#?}");
    assert!(found["confidence"].as_f64() > Some(0.5), "{found:#}");
    let (live, _) = held_by(&done, "do_eventfd");
    assert!(live > 2000, "{done:#?}");
    assert!(done.stderr.contains("following slab: "), "{}", done.stderr);
}

#[test]
fn check_names_the_cache_that_grows_and_loads_nothing() {
    let _alone = alone();
    allow_files();
    let (child, story) = spawn("-c -t slab -i 3 -o json");
    let held = leak_eventfds(3200 * MS);
    let done = end(child, story);
    drop(held);
    let found = verdict(&done);
    assert_eq!(found["leak"], "growing", "{done:#?}");
    assert!(
        found["what"].as_str().unwrap().starts_with("slab cache "),
        "{found:#}"
    );
    assert_eq!(done.lines("site").len(), 0);
    assert!(!done.stderr.contains("following"), "{done:#?}");
}

/// A leaker that holds `steps` times this many bytes.
fn leaker(step: usize, steps: usize) -> Leaker {
    let growth = Growth {
        step,
        interval: 50 * MS,
        steps,
    };
    let leaker = Leaker::start(growth).unwrap();
    until("all is held", || leaker.held() == (step * steps) as u64);
    leaker
}

/// Bytes of pages that were filled with something: other tests of this process fault in theirs.
fn filled(sites: &[Value]) -> u64 {
    let by_memset = |site: &&Value| site["site"].as_str().is_some_and(|s| s.contains("memset"));
    let of_leaker = sites.iter().filter(by_memset);
    of_leaker.filter_map(|s| s["bytes"].as_u64()).sum()
}

/// Pages that were filled. They are mapped for that and unmapped: `malloc` may take memory that is there
/// already, and keep what is freed, by what the process did before.
struct Pages(*mut libc::c_void, usize);

impl Pages {
    fn fill(bytes: usize) -> Self {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, written within its length.
        unsafe {
            let base = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
            assert_ne!(base, libc::MAP_FAILED);
            base.cast::<u8>().write_bytes(0x5a, bytes);
            Self(base, bytes)
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `fill`, with this length.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

#[test]
fn a_growing_process_is_followed_by_its_page_faults() {
    const STEP: usize = 2 << 20;
    let _alone = alone();
    let me = std::process::id();
    let args = format!("-p {me} -o json --top 100");
    let fill = || -> Vec<Pages> { (0..20).map(|_| Pages::fill(STEP)).collect() };
    let done = until_done(&args, fill);
    let held = 20 * STEP as u64;
    let sites = done.lines("site");
    assert!(sites.iter().all(|s| s["alloc"] == "user"), "{sites:#?}");
    let bytes = filled(&sites);
    assert!(
        (held * 9 / 10..=held * 12 / 10).contains(&bytes),
        "{bytes} of {held}: {done:#?}"
    );
    let found = verdict(&done);
    let what = found["what"].as_str().unwrap();
    assert!(what.contains(&format!("/{me}")), "{found:#}");
    let released = until_done(&args, || drop(fill()));
    let bytes = filled(&released.lines("site"));
    assert!(bytes < held / 4, "{bytes} of {held}: {released:#?}");
}

#[test]
fn malloc_is_followed_on_request() {
    const STEP: usize = 1 << 20;
    let _alone = alone();
    let me = std::process::id();
    let args = format!("-p {me} --malloc -o json --top 100");
    let done = until_done(&args, || leaker(STEP, 10));
    let sites = done.lines("site");
    let bytes: u64 = sites.iter().filter_map(|s| s["bytes"].as_u64()).sum();
    let large: u64 = sites
        .iter()
        .filter(|s| s["bytes"].as_u64() >= Some(STEP as u64))
        .filter_map(|s| s["live"].as_u64())
        .sum();
    assert!(bytes >= 10 * STEP as u64 && large >= 10, "{done:#?}");
    let released = until_done(&args, || drop(leaker(STEP, 10)));
    // Other tests of this process allocate as well.
    let sites = released.lines("site");
    let of_leaker = |site: &&Value| {
        let live = site["live"].as_u64().unwrap_or(0);
        live > 0 && site["bytes"].as_u64() == Some(live * STEP as u64)
    };
    assert_eq!(sites.iter().filter(of_leaker).count(), 0, "{released:#?}");
}

#[test]
fn what_does_not_fit_is_counted() {
    let _alone = alone();
    let done = during("-t slab -i 1 -o json --objects 1000", || {
        EventFds::hold(3000).unwrap()
    });
    let summary = summary(&done);
    assert!(
        summary["losses"]["objects_full"].as_u64() >= Some(2000),
        "{summary:#}"
    );
    let lost: u64 = summary["losses"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(summary["lost"].as_u64(), Some(lost), "{summary:#}");
    assert!(
        verdict(&done)["confidence"].as_f64() < Some(0.9),
        "{done:#?}"
    );
}

#[test]
fn every_format_is_written_and_nothing_is_left_behind() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (log, image) = (
        folder.path().join("leak.log"),
        folder.path().join("leak.png"),
    );
    let args = format!(
        "-t slab -s -i 60 -o text,json,image --log {} --image {}",
        log.display(),
        image.display()
    );
    let (child, story) = spawn(&args);
    thread::sleep(1500 * MS);
    kill(child.id(), libc::SIGINT);
    let done = end(child, story);
    assert_eq!(done.status, 0, "{done:#?}");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let lines: Vec<Value> = done
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).expect(l))
        .collect();
    for line in &lines {
        let faults: Vec<_> = schema.iter_errors(line).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?} in {line:#}");
    }
    let kinds: Vec<_> = lines.iter().filter_map(|l| l["type"].as_str()).collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&"verdict"), Some(&"summary"))
    );
    assert!(kinds.contains(&"site"), "{kinds:?}");
    assert!(done.stderr.contains("TIME(memleak)") && done.stderr.contains("-- memleak for"));
    assert_eq!(fs::read_to_string(&log).unwrap(), done.stdout);
    assert!(fs::read(&image).unwrap().starts_with(b"\x89PNG"));
    // The kernel frees programs some time after their last user is gone.
    let is_ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("ml_");
    until("no program is left", || {
        !ProgInfoIter::default().any(|p| is_ours(&p.name))
    });
}

#[test]
fn what_cannot_be_looked_at_is_said_in_a_line() {
    let cases: [(&str, i32, &[&str]); 7] = [
        (
            "-n no_such_cache",
            1,
            &["no_such_cache", "-n", "/proc/slabinfo"],
        ),
        ("-p 999999999", 1, &["no process 999999999", "-p"]),
        ("-i 0", 2, &["--time", "1 s"]),
        ("-i soon", 2, &["--time", "unknown unit"]),
        ("-r 0", 2, &["--rate"]),
        ("-t page -n dentry", 2, &["-n", "-t slab"]),
        ("-t slab -p 1", 2, &["-p", "-t user"]),
    ];
    for (args, status, words) in cases {
        let (child, story) = spawn(args);
        refused(&end(child, story), status, words);
    }
}

/// Run in a kernel that refuses this. It goes on, says so once, and has a verdict.
fn without(args: &str, refuse: Refuse, program: &str, missing: &str) -> Finished {
    let args = format!("{args} -o json --top 1000");
    let (child, story) = with_story(refuse::spawn(&mut memleak(&args), refuse));
    let done = end(child, story);
    assert_eq!(done.status, 0, "{refuse:?}: {done:#?}");
    let notes = summary(&done)["notes"].clone();
    let notes: Vec<_> = notes.as_array().into_iter().flatten().collect();
    let said = notes.iter().filter(|note| {
        let note = note.as_str().unwrap_or_default();
        note.contains(&format!("refuses the program {program}")) && note.contains(missing)
    });
    assert_eq!(said.count(), 1, "{refuse:?}: {done:#?}");
    assert!(verdict(&done)["what"].is_string(), "{done:#?}");
    done
}

#[test]
fn any_program_may_be_refused() {
    let _alone = alone();
    let me = std::process::id();
    let (faults, malloc) = (format!("-p {me} -i 1"), format!("-p {me} --malloc -i 1"));
    let cases = [
        ("-t slab -i 1", "ml_kfree", "all of slab not followed"),
        ("-t page -i 1", "ml_page_alloc", "pages not followed"),
        (
            "-t percpu -i 1",
            "ml_percpu_free",
            "per-CPU memory not followed",
        ),
        ("-t vmalloc -s -i 1", "ml_vmap_alloc", "no stacks"),
        (&faults, "ml_fault", "not followed"),
        (&malloc, "ml_free", "not followed"),
    ];
    for (args, program, missing) in cases {
        let done = without(args, Refuse::Program(program), program, missing);
        assert!(done.lines("site").len() <= 100, "{done:#?}");
    }
    let attach = Refuse::Command(BPF_RAW_TRACEPOINT_OPEN);
    without("-t page -i 1", attach, "ml_page_free", "pages not followed");
}

#[test]
fn pages_are_followed_without_their_check_from_the_start_or_at_the_end() {
    let _alone = alone();
    let late = Refuse::Command(BPF_ITER_CREATE);
    for refuse in [Refuse::Program("ml_page_check"), late] {
        let done = without("-t page -i 1", refuse, "ml_page_check", "stay counted");
        assert!(done.stderr.contains("following pages"), "{done:#?}");
        let allocated = &summary(&done)["counts"]["allocated"];
        assert!(allocated.as_u64() > Some(0), "{done:#?}");
    }
}

#[test]
fn a_program_that_is_refused_in_the_middle_costs_no_result() {
    let _alone = alone();
    allow_files();
    let refuse = Refuse::Program("ml_kfree");
    let (child, story) = with_story(refuse::spawn(&mut memleak("-i 4 -o json"), refuse));
    let held = leak_eventfds(4200 * MS);
    let done = end(child, story);
    drop(held);
    assert_eq!(done.status, 0, "{done:#?}");
    assert_eq!(verdict(&done)["leak"], "growing", "{done:#?}");
    assert!(
        done.stderr.contains("refuses the program ml_kfree"),
        "{done:#?}"
    );
}

#[test]
fn what_ended_early_is_unknown() {
    let _alone = alone();
    for args in ["-i 60", "-c -i 60", "-t page -i 60"] {
        let (child, mut story) = spawn(&format!("{args} -o text,json"));
        hear(&mut story, "ALLOC");
        kill(child.id(), libc::SIGINT);
        let done = end(child, story);
        assert_eq!(done.status, 0, "{done:#?}");
        let found = verdict(&done);
        assert_eq!(found["leak"], "unknown", "{args}: {done:#?}");
        assert!(found.get("confidence").is_none(), "{done:#?}");
        let what = found["what"].as_str().unwrap();
        assert!(
            what.contains("ended after") && what.ends_with("of 60 s"),
            "{what}"
        );
    }
}

#[test]
fn without_permission_it_says_what_is_missing() {
    let nobody = |args: &str| {
        let mut command = program();
        command.arg("memleak").args(args.split_whitespace());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The program lies in a folder of root's: keep the capability to search it, and no other.
        let drop_all = || {
            for capability in (0..64).filter(|c| *c != 2) {
                // SAFETY: takes plain numbers; those beyond the last capability are refused.
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            }
            Ok(())
        };
        // SAFETY: only system calls between fork and exec.
        unsafe { command.pre_exec(drop_all) };
        finish(command.spawn().unwrap())
    };
    refused(
        &nobody("-t slab -i 1"),
        1,
        &["CAP_BPF and CAP_PERFMON", "-c needs no program"],
    );
    let check = nobody("-c -t slab -i 1 -o json");
    assert_eq!(check.status, 0, "{check:#?}");
}

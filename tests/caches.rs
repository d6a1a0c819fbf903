//! memleak against memory that is cache and grows like a leak: what `find` leaves behind, names
//! that do not exist, new files, file contents. And against leaks beside it.

use super::harness::{Finished, alone, end, hear, program, with_story};
use super::iofsstat::Disk;
use super::kit::holders::EventFds;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const DIRECTORIES: usize = 40;
/// In each. As many security blobs of 32 bytes are ten times what is too little for a verdict.
const FILES: usize = 500;
/// Length of memleak's run, s.
const LOOK: u32 = 2;

/// Does one directory after the other, evenly over the time of the look.
fn evenly(mut step: impl FnMut(usize)) {
    let begun = Instant::now();
    for k in 0..DIRECTORIES {
        let due = begun + Duration::from_secs(LOOK.into()) * k as u32 / DIRECTORIES as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        step(k);
    }
}

fn make_files(root: &Path, directory: usize) {
    let directory = root.join(directory.to_string());
    fs::create_dir(&directory).unwrap();
    for file in 0..FILES {
        File::create(directory.join(file.to_string())).unwrap();
    }
}

/// Looks at each file.
fn find(root: &Path, directory: usize) {
    for entry in fs::read_dir(root.join(directory.to_string())).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
}

/// An ext4 with files, none of which is in memory.
fn full_disk() -> Disk {
    let mut disk = Disk::make("ext4");
    (0..DIRECTORIES).for_each(|k| make_files(&disk.path(""), k));
    disk.mount_copy();
    disk
}

/// Runs memleak, and does this as soon as it follows allocations.
fn during(args: &str, act: impl FnOnce()) -> Finished {
    let mut command = program();
    command.arg("memleak").args(args.split_whitespace());
    command.args(["-i", &LOOK.to_string(), "-o", "json", "--top", "1000"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let (child, mut story) = with_story(child);
    hear(&mut story, "following");
    act();
    let done = end(child, story);
    assert_eq!(done.status, 0, "{done:#?}");
    done
}

fn verdict(done: &Finished) -> Value {
    let verdict = done.lines("verdict").pop();
    verdict.unwrap_or_else(|| panic!("no verdict: {done:#?}"))
}

fn assert_may_be_cache(done: &Finished, words: &str) {
    let found = verdict(done);
    assert_eq!(found["leak"], "growing", "{done:#?}");
    assert_eq!(found["may_be_cache"], true, "{done:#?}");
    // A leak of malloc() gets at least 0.8 * 0.8 * 0.95.
    assert!(found["confidence"].as_f64() < Some(0.4), "{done:#?}");
    assert!(found["what"].as_str().unwrap().contains(words), "{done:#?}");
}

/// Beside them others on this machine may be at work: what they hold is no verdict on these.
fn assert_no_leak(done: &Finished) {
    assert_ne!(verdict(done)["leak"], "yes", "{done:#?}");
}

#[test]
fn what_find_leaves_behind_may_be_cache() {
    let _alone = alone();
    let mut disk = full_disk();
    let root = disk.path("");
    let blobs = during("-n lsm_inode_cache", || evenly(|k| find(&root, k)));
    assert_may_be_cache(&blobs, "it may be cache");
    let hosts = "more of these can be given back";
    assert!(verdict(&blobs)["what"].as_str().unwrap().contains(hosts));
    for args in ["-n kmalloc-192", "-t page"] {
        disk.mount_copy();
        assert_no_leak(&during(args, || evenly(|k| find(&root, k))));
    }
}

#[test]
fn names_that_do_not_exist_are_no_leak() {
    let _alone = alone();
    let disk = Disk::make("ext4");
    let look_up = |k: usize| {
        for name in 0..FILES {
            assert!(!disk.path(&format!("none-{k}-{name}")).exists());
        }
    };
    assert_no_leak(&during("-n kmalloc-192", || evenly(look_up)));
}

#[test]
fn new_files_are_no_leak_on_disk_nor_in_memory() {
    let _alone = alone();
    let disk = Disk::make("ext4");
    let root = disk.path("");
    let made = during("-n lsm_inode_cache", || evenly(|k| make_files(&root, k)));
    assert_may_be_cache(&made, "it may be cache");
    let memory = Memory::mount();
    let root = memory.0.path();
    let made = during("-n shmem_inode_cache", || evenly(|k| make_files(root, k)));
    assert_may_be_cache(&made, "until they are deleted");
}

/// A tmpfs of its own.
struct Memory(tempfile::TempDir);

impl Memory {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "tmpfs"]).arg(directory.path());
        assert!(mount.status().unwrap().success());
        Self(directory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn contents_of_files_are_no_leak() {
    let _alone = alone();
    let disk = Disk::make("ext4");
    let mut file = File::create(disk.path("contents")).unwrap();
    let block = vec![7; 1 << 20];
    for args in ["-n kmalloc-512", "-t page"] {
        let mut write = |_| file.write_all(&block).unwrap();
        assert_no_leak(&during(args, || evenly(&mut write)));
    }
}

/// As [`evenly`], with this many eventfds each time.
fn leak_beside(mut step: impl FnMut(usize)) -> Vec<EventFds> {
    let mut held = Vec::new();
    evenly(|k| {
        step(k);
        held.push(EventFds::hold(400).unwrap());
    });
    held
}

#[test]
fn a_leak_beside_find_is_found() {
    let _alone = alone();
    let disk = full_disk();
    let root = disk.path("");
    let mut held = Vec::new();
    let done = during("-t slab", || held = leak_beside(|k| find(&root, k)));
    drop(held);
    let found = verdict(&done);
    assert_eq!(found["leak"], "yes", "{done:#?}");
    assert!(found.get("may_be_cache").is_none(), "{done:#?}");
    assert!(found["confidence"].as_f64() > Some(0.5), "{done:#?}");
}

#[test]
fn reclaim_tells_cache_from_leak() {
    let _alone = alone();
    let disk = full_disk();
    let root = disk.path("");
    let cache = during("-n lsm_inode_cache --reclaim", || {
        evenly(|k| find(&root, k));
    });
    let found = verdict(&cache);
    assert_eq!(found["leak"], "no", "{cache:#?}");
    let went = "went when the kernel was made to reclaim";
    assert!(found["what"].as_str().unwrap().contains(went), "{cache:#?}");
    let mut held = Vec::new();
    let leak = during("-t slab --reclaim", || held = leak_beside(|_| ()));
    drop(held);
    let found = verdict(&leak);
    assert_eq!(found["leak"], "yes", "{leak:#?}");
    let stayed = "stayed when the kernel was made to reclaim";
    assert!(
        found["what"].as_str().unwrap().contains(stayed),
        "{leak:#?}"
    );
}

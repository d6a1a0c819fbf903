//! What the holders hold is what they say, and gone when they are.

use super::harness::{alone, until};
use super::kit::holders::{
    Arrays, EventFds, Growth, Leaker, PacketRing, Skbs, churn_epoll, churn_udp,
};
use std::fs::{read_dir, read_link, read_to_string};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

fn eventfds() -> usize {
    let fds = read_dir("/proc/self/fd").unwrap();
    let targets = fds.filter_map(|fd| read_link(fd.unwrap().path()).ok());
    targets
        .filter(|t| t.to_str() == Some("anon_inode:[eventfd]"))
        .count()
}

/// Objects in use (`active_objs`); on a busy machine more than were asked for.
fn objects(cache: &str) -> usize {
    let caches = read_to_string("/proc/slabinfo").unwrap();
    let line = caches
        .lines()
        .find_map(|line| line.strip_prefix(cache)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no cache {cache}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn eventfds_are_held() {
    let _alone = alone();
    let before = eventfds();
    let held = EventFds::hold(5000).unwrap();
    assert_eq!(eventfds(), before + 5000);
    drop(held);
    assert_eq!(eventfds(), before);
}

#[test]
fn datagrams_are_held() {
    let _alone = alone();
    let before = objects("skbuff_head_cache");
    let held = Skbs::hold(20_000).unwrap();
    let during = objects("skbuff_head_cache");
    assert!(
        during >= before + 15_000,
        "{before} before, {during} during"
    );
    drop(held);
    until("the skbs are freed", || {
        objects("skbuff_head_cache") < before + 5000
    });
    assert_eq!(Skbs::hold(2000).unwrap().drain().unwrap(), 2000);
}

#[test]
fn a_packet_ring_is_held() {
    const BYTES: usize = 64 * 16 * 4096;
    let ring = PacketRing::hold(64, 4).unwrap();
    // The kernel maps no less and no more than the ring.
    let maps = |bytes| {
        let (access, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: the kernel chooses the place; a mapping that succeeds is taken back unused.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                flags,
                ring.as_fd().as_raw_fd(),
                0,
            );
            at != libc::MAP_FAILED && libc::munmap(at, bytes) == 0
        }
    };
    assert!(maps(BYTES));
    assert!(!maps(BYTES - 4096) && !maps(BYTES + 4096));
}

#[test]
fn arrays_are_held() {
    /// Of a size that nobody else has.
    const BYTES: u32 = 1003 * 4096;
    let held = || {
        let areas = read_to_string("/proc/vmallocinfo").unwrap();
        let mine = areas.lines().filter(|area| {
            let bytes = area.split_whitespace().nth(1);
            // With a guard page, and one of metadata.
            let bytes: u32 = bytes.and_then(|b| b.parse().ok()).unwrap_or(0);
            area.contains("array_map_alloc") && (BYTES..=BYTES + 3 * 4096).contains(&bytes)
        });
        mine.count()
    };
    assert_eq!(held(), 0);
    let arrays = Arrays::hold(20, BYTES).unwrap();
    assert_eq!(held(), 20);
    drop(arrays);
    until("the arrays are freed", || held() == 0);
}

#[test]
fn churn_holds_nothing() {
    let _alone = alone();
    let before = objects("eventpoll_epi");
    churn_epoll(20_000).unwrap();
    until("the epitems are freed", || {
        objects("eventpoll_epi") < before + 5000
    });
    let before = objects("skbuff_head_cache");
    churn_udp(20_000).unwrap();
    until("the skbs are freed", || {
        objects("skbuff_head_cache") < before + 5000
    });
}

/// Has the allocator give back to the kernel what it keeps for later.
fn give_back() {
    // SAFETY: it takes a plain number, and only memory that nobody uses is given back.
    unsafe { libc::malloc_trim(0) };
}

/// Of this process, bytes.
fn resident() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

#[test]
fn a_leaker_grows() {
    const STEP: usize = 4 << 20;
    let _alone = alone();
    // What tests before this one held is given back now, not while this one measures.
    give_back();
    let before = resident();
    let growth = Growth {
        step: STEP,
        interval: Duration::from_millis(5),
        steps: 16,
    };
    let leaker = Leaker::start(growth).unwrap();
    let all = 16 * STEP as u64;
    until("it has grown", || leaker.held() == all);
    let during = resident();
    // The allocator may give back meanwhile what tests before this one held.
    assert!(during >= before + all / 2, "{before}, then {during}");
    drop(leaker);
    give_back();
    let after = resident();
    assert!(after + all / 2 < during, "{before}, {during}, then {after}");
}

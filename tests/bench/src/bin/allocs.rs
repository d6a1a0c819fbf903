//! For the bench of memleak: what an eventfd costs, opened and closed: a context, a file and a
//! dentry. `allocs SECONDS` prints nanoseconds a turn, the median of many short runs.

use rustix::event::{EventfdFlags, eventfd};
use std::time::{Duration, Instant};

const TURNS: u32 = 500;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok());
    let time = Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let end = Instant::now() + time;
    let mut ns = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        for _ in 0..TURNS {
            drop(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
        }
        ns.push(begin.elapsed() / TURNS);
    }
    ns.sort_unstable();
    println!("{}", ns[ns.len() / 2].as_nanos());
}

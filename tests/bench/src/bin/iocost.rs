//! For the bench: what I/O costs. `iocost requests FILE SECONDS` reads 4 KiB blocks past the page
//! cache, `iocost calls FILE SECONDS` reads one that is in it, `iocost getppid - SECONDS` makes a
//! system call that does nothing; prints nanoseconds for each.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::pread;
use rustix::process::getppid;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
/// Between two looks at the clock.
const BATCH: u64 = 512;

#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [what, file, seconds] = arguments.as_slice() else {
        return Err(io::Error::other(
            "usage: iocost requests|calls|getppid FILE SECONDS",
        ));
    };
    let seconds = seconds.parse().map_err(io::Error::other)?;
    let limit = Duration::from_secs_f64(seconds);
    let mut block = Box::new(Aligned([0; BLOCK]));
    let (count, time) = if what == "getppid" {
        repeat(limit, |_| {
            black_box(getppid());
            Ok(())
        })?
    } else {
        let direct = if what == "requests" {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        let file = open(file.as_str(), OFlags::RDONLY | direct, Mode::empty())?;
        let blocks = rustix::fs::fstat(&file)?.st_size.cast_unsigned() / BLOCK as u64;
        let span = if direct.is_empty() { 1 } else { blocks };
        repeat(limit, |k| {
            let at = k % span * BLOCK as u64;
            Ok(pread(&file, &mut block.0[..], at).map(|_| ())?)
        })?
    };
    println!("{:.1}", time.as_nanos() as f64 / count as f64);
    Ok(())
}

fn repeat(
    limit: Duration,
    mut once: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<(u64, Duration)> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < limit {
        for _ in 0..BATCH {
            once(count)?;
            count += 1;
        }
    }
    Ok((count, start.elapsed()))
}

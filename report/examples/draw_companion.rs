//! Draws an invented finding of a companion: `draw_companion COMPANION PICTURE`; the ending of
//! the name chooses the format.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use report::companion::{
    Bar, Bars, Chart, Histogram, Mark, Panel, Series, Stacked, Timeline, Unit,
};
use report::draw;

mod dice;

use dice::Dice;

/// 2026-11-03 01:14:07.25 UTC.
const START_UNIX_NS: i64 = 1_793_668_447_250_000_000;
const MS: f64 = 1e6;
const MINUTE_NS: u64 = 60_000_000_000;
const USAGE: &str = "usage: draw_companion irqoff|nosched|runqlat|memleak|iofsstat|nothing PICTURE";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (name, path) = (
        arguments.next().ok_or(USAGE)?,
        arguments.next().ok_or(USAGE)?,
    );
    let chart = match name.as_str() {
        "irqoff" => irqoff(),
        "nosched" => nosched(),
        "runqlat" => runqlat(),
        "memleak" => memleak(),
        "iofsstat" => iofsstat(),
        "nothing" => nothing(),
        _ => return Err(USAGE.into()),
    };
    draw::write(draw::Picture::Companion(&chart), &PathBuf::from(path))?;
    Ok(())
}

fn irqoff() -> Chart {
    let mut dice = Dice::default();
    let classes = [
        "irqoff",
        "hardirq",
        "softirq_delay",
        "softirq_run",
        "stolen",
    ];
    let mut marks = events(&mut dice, 70, 8, 5, (0.2, 1.2));
    marks.push(mark(3, 0, 0.41, 10.4, "kworker/3:1  do_timerfd_settime"));
    marks.push(mark(3, 0, 0.62, 9.8, "kworker/3:1  do_timerfd_settime"));
    marks.push(mark(5, 2, 0.63, 4.1, "NET_RX behind ksoftirqd/5"));
    Chart {
        title: "irqoff on web1, 60 s, threshold 200 us".to_owned(),
        headline: "CPU 3 held interrupts off for 10.4 ms, in kworker/3:1: do_timerfd_settime".to_owned(),
        second: "73 events on 8 CPUs; 2 of the 3 longest in do_timerfd_settime on CPU 3".to_owned(),
        panels: vec![
            timeline("Interrupts held off", &names("CPU", 8), &classes, marks),
            Panel::Histogram(Histogram {
                heading: "Lateness of all timers".to_owned(),
                unit: Unit::Nanoseconds,
                buckets: buckets(10, &[90, 4_100, 31_000, 52_000, 20_100, 3_000, 240, 31, 40, 19, 11, 2, 0, 2]),
                empty: String::new(),
            }),
        ],
        notes: "Nothing was lost. A duration is known to one timer period: the true one is between LAT and MAX. \
                Timers of the idle task are not counted, since what delays them is the wake from halt; run with --idle to see them as well."
            .to_owned(),
    }
}

fn nosched() -> Chart {
    let mut dice = Dice::default();
    let mut marks = events(&mut dice, 14, 2, 2, (0.5, 3.0));
    marks.push(mark(1, 0, 0.3, 9.7, "rsync/4242  exit_mmap"));
    let bars = [
        "exit_mmap",
        "truncate_inode_pages_range",
        "copy_page_range",
        "__sys_sendmsg",
    ];
    let bars = bars
        .iter()
        .zip([41_200_000, 18_000_000, 7_400_000, 900_000]);
    Chart {
        title: "nosched on web1, 60 s, threshold 500 us".to_owned(),
        headline: "rsync/4242 kept CPU 1 for 9.70 ms while prober/811 was to run: exit_mmap"
            .to_owned(),
        second: "15 events on 2 CPUs, 11 of them lazy".to_owned(),
        panels: vec![
            timeline(
                "The kernel ran on",
                &names("CPU", 2),
                &["hard", "lazy"],
                marks,
            ),
            Panel::Bars(Bars {
                heading: "Where, by time beyond the threshold".to_owned(),
                unit: Unit::Nanoseconds,
                bars: bars
                    .map(|(name, value)| bar(name, value, "4 times, longest 9.70 ms"))
                    .collect(),
                empty: String::new(),
            }),
        ],
        notes: "Lazy: by design up to the next tick.".to_owned(),
    }
}

fn runqlat() -> Chart {
    let mut dice = Dice::default();
    let mut marks = events(&mut dice, 900, 64, 2, (1.0, 30.0));
    marks.push(mark(17, 1, 0.7, 84.0, "java/1234"));
    let bars = (0..14).map(|k| {
        bar(
            &format!("stress-ng-cpu/{}", 5000 + k),
            900_000_000 >> k,
            "cpu 17",
        )
    });
    Chart {
        title: "runqlat on build7, 60 s, threshold 1 ms".to_owned(),
        headline: "java/1234 waited 84.0 ms for CPU 17: its cgroup's quota was used up".to_owned(),
        second: "901 waits of 1 ms and more on 64 CPUs, 450 of them for quota".to_owned(),
        panels: vec![
            timeline(
                "Waits for a CPU",
                &names("CPU", 64),
                &["cpu", "quota"],
                marks,
            ),
            Panel::Histogram(Histogram {
                heading: "All waits".to_owned(),
                unit: Unit::Nanoseconds,
                buckets: buckets(
                    0,
                    &[
                        3, 0, 0, 12, 800, 9_000, 84_000, 412_000, 991_000, 1_204_555, 600_200,
                        90_000, 41_000, 8_100, 2_200, 950, 400, 160, 90, 41, 20, 11, 9, 4, 1, 1, 1,
                    ],
                ),
                empty: String::new(),
            }),
            Panel::Bars(Bars {
                heading: "Who ran instead".to_owned(),
                unit: Unit::Nanoseconds,
                bars: bars.collect(),
                empty: String::new(),
            }),
        ],
        notes: String::new(),
    }
}

fn memleak() -> Chart {
    let caches = [
        "kmalloc-4k",
        "dentry",
        "ext4_inode_cache",
        "kmalloc-64",
        "radix_tree_node",
        "filp",
        "skbuff_head_cache",
        "anon_vma",
        "vm_area_struct",
        "task_struct",
        "percpu",
    ];
    let sizes = caches.iter().zip(0..);
    let series = sizes.map(|(name, k): (_, u32)| {
        let grows = if k == 0 { 1.0 } else { 0.02 };
        let value = |step: u32| {
            let base = 180.0 / f64::from(k * k + 2);
            (base + grows * f64::from(step) + f64::from(step * (k + 3) % 7)) * 1_048_576.0
        };
        series(name, (0..360).map(value).collect())
    });
    let stacks = [
        "nf_conntrack_alloc < nf_conntrack_in < ipv4_conntrack_in",
        "alloc_skb_with_frags < sock_alloc_send_pskb < unix_stream_sendmsg",
        "seq_buf_alloc < seq_read_iter < proc_reg_read_iter",
    ];
    let bars = stacks.iter().zip([367_000_000_u64, 2_400_000, 81_000]);
    Chart {
        title: "memleak on db7, 60 min".to_owned(),
        headline: "kmalloc-4k grew by 359 MiB in 60 min and was not freed: nf_conntrack_alloc"
            .to_owned(),
        second:
            "Leak, sure: 89 600 allocations older than 10 min, none freed; other caches are steady"
                .to_owned(),
        panels: vec![
            Panel::Stacked(Stacked {
                heading: "Kernel memory".to_owned(),
                unit: Unit::Bytes,
                start_unix_ns: START_UNIX_NS,
                step_ns: MINUTE_NS / 6,
                series: series.collect(),
                empty: String::new(),
            }),
            Panel::Bars(Bars {
                heading: "Not freed, by stack".to_owned(),
                unit: Unit::Bytes,
                bars: bars
                    .map(|(name, value)| bar(name, value, &format!("{} allocations", value / 4096)))
                    .collect(),
                empty: String::new(),
            }),
        ],
        notes: "0 lost, 12 frees missed (0.01 %).".to_owned(),
    }
}

fn iofsstat() -> Chart {
    let mut dice = Dice::default();
    let writers = [
        ("postgres/2201", 60.0),
        ("rsync/4242", 25.0),
        ("jbd2/vda1-8", 6.0),
        ("?", 2.0),
    ];
    let series: Vec<Series> = writers
        .iter()
        .map(|(name, rate)| {
            let burst = |k: u32| if k % 17 < 6 { *rate } else { rate / 8.0 };
            let values = (0..60).map(|k| burst(k) * (0.7 + 0.6 * dice.part()) * 1_048_576.0);
            series(name, values.collect())
        })
        .collect();
    let files = [
        "/var/lib/postgresql/15/main/base/16384/24601",
        "/var/lib/postgresql/15/main/pg_wal/0000000100000001000000A7",
        "/backup/2026-11-03/.rsync-partial/images/a-file-with-a-very-long-name-indeed.qcow2",
        "/var/log/syslog",
    ];
    let bars = files
        .iter()
        .zip([1_900_000_000_u64, 640_000_000, 410_000_000, 1_200_000]);
    Chart {
        title: "iofsstat on db7, 60 s, vda".to_owned(),
        headline: "postgres/2201 wrote 67 % of 2.9 GiB, most of it to base/16384/24601".to_owned(),
        second: "Rows add up to 99.98 % of what the device counted".to_owned(),
        panels: vec![
            Panel::Stacked(Stacked {
                heading: "Written to vda".to_owned(),
                unit: Unit::BytesPerSecond,
                start_unix_ns: START_UNIX_NS,
                step_ns: MINUTE_NS / 60,
                series,
                empty: String::new(),
            }),
            Panel::Bars(Bars {
                heading: "Files".to_owned(),
                unit: Unit::Bytes,
                bars: bars
                    .map(|(name, value)| bar(name, value, "postgres/2201 containerId:4f0a31b29c77"))
                    .collect(),
                empty: String::new(),
            }),
            Panel::Histogram(Histogram {
                heading: "Sizes of requests".to_owned(),
                unit: Unit::Bytes,
                buckets: buckets(9, &[3, 14, 20, 4_100, 900, 840, 1_300, 2_100, 700, 690, 12]),
                empty: String::new(),
            }),
        ],
        notes: "No request was lost.".to_owned(),
    }
}

fn nothing() -> Chart {
    Chart {
        title: "irqoff on web1, 60 s, threshold 200 us".to_owned(),
        headline: "Nothing held interrupts off for 200 us".to_owned(),
        panels: vec![
            Panel::Timeline(Timeline {
                heading: "Interrupts held off".to_owned(),
                empty: "No event took longer than the threshold of 200 us.".to_owned(),
                ..Timeline::default()
            }),
            Panel::Histogram(Histogram {
                heading: "Lateness of all timers".to_owned(),
                unit: Unit::Nanoseconds,
                buckets: buckets(10, &[4_100]),
                empty: String::new(),
            }),
        ],
        ..Chart::default()
    }
}

fn timeline(heading: &str, lanes: &[String], classes: &[&str], marks: Vec<Mark>) -> Panel {
    Panel::Timeline(Timeline {
        heading: heading.to_owned(),
        start_unix_ns: START_UNIX_NS,
        span_ns: MINUTE_NS,
        lanes: lanes.to_vec(),
        classes: classes.iter().map(|name| (*name).to_owned()).collect(),
        marks,
        empty: String::new(),
    })
}

/// So many events between `least` and `most` milliseconds, most of them short.
fn events(
    dice: &mut Dice,
    count: usize,
    lanes: usize,
    classes: usize,
    ms: (f64, f64),
) -> Vec<Mark> {
    let mut event = |k: usize| {
        let lane = (dice.part() * lanes as f64) as usize;
        let long = ms.0 + (ms.1 - ms.0) * dice.part().powi(4);
        let class = if dice.one_in(3) { 0 } else { k % classes };
        mark(lane, class, dice.part(), long, "stress-ng/777")
    };
    (0..count).map(&mut event).collect()
}

fn mark(lane: usize, class: usize, at: f64, ms: f64, text: &str) -> Mark {
    Mark {
        lane,
        class,
        at_ns: (at * MINUTE_NS as f64) as u64,
        ns: (ms * MS) as u64,
        text: text.to_owned(),
    }
}

/// Powers of two from this one on.
fn buckets(first: u32, counts: &[u64]) -> Vec<(u64, u64, u64)> {
    let powers = counts.iter().zip(first..);
    powers
        .map(|(count, power)| (1 << power >> u32::from(power == 0), 2 << power, *count))
        .collect()
}

fn series(name: &str, values: Vec<f64>) -> Series {
    Series {
        name: name.to_owned(),
        values,
    }
}

fn bar(name: &str, value: u64, text: &str) -> Bar {
    Bar {
        name: name.to_owned(),
        value,
        text: text.to_owned(),
    }
}

fn names(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|k| format!("{what} {k}")).collect()
}

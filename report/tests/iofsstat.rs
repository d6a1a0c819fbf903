//! Rates of devices, from readings of /proc/diskstats and what they say, in data files.

use report::companion::iofsstat::diskstats::{Rates, parse};

const TWO_SECONDS_NS: u64 = 2_000_000_000;

fn line(name: &str, r: &Rates) -> String {
    let wait = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| ns.to_string());
    let waits = [r.wait_ns, r.r_wait_ns, r.w_wait_ns].map(wait).join(" ");
    format!(
        "{name} {} {} {} {} {} {} {waits} {}",
        r.r_rqm, r.w_rqm, r.r_iops, r.w_iops, r.r_bps, r.w_bps, r.util_percent
    )
}

#[test]
fn rates_follow_from_two_readings() {
    let text = include_str!("data/iofsstat/two_readings.txt");
    let text: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let parts: Vec<_> = text.split(|l| *l == "---").map(|p| p.join("\n")).collect();
    let [before, after, wanted] = parts.as_slice() else {
        panic!("three parts")
    };
    let (before, after) = (parse(before).unwrap(), parse(after).unwrap());
    let rates = before.iter().zip(&after).map(|(before, after)| {
        let counted = after.counters.since(&before.counters);
        line(&after.name, &counted.rates(TWO_SECONDS_NS))
    });
    assert_eq!(rates.collect::<Vec<_>>().join("\n"), *wanted);
}

#[test]
fn a_line_that_is_none_is_named() {
    let wrong = parse("254 0 vda 1 2 3 4 5 6 7 8 9 10 11\n254 0 vdb 1 2 x").unwrap_err();
    let words = wrong.to_string();
    assert!(words.contains("line 2") && words.contains("vdb"), "{words}");
}

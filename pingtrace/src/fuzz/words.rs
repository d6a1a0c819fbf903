//! What users type: the command line, each kind of value in it, files of keys, and lists of targets.

use crate::cli::Cli;
use crate::cli::config::Config;
use crate::client::target_list::file;
use crate::kernel::lab_clock::LabClock;
use crate::saved::diff::min_effect;
use crate::units;
use crate::wire::key::Keys;
use croner::Cron;
use report::analysis::quantile::Quantile;
use report::analysis::slo::Objectives;
use report::analysis::stats::Stats;
use report::units::duration;
use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

/// A command line that begins with the program's name, and behind its line a file of options; else a value of
/// every kind.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if text.starts_with("pingtrace ") {
        let (line, file) = text.split_once('\n').unwrap_or((text, ""));
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let file = Config::new("file".into(), file.into());
        if let Err(error) = Cli::parse_with(&words, &file) {
            assert!(!error.to_string().is_empty());
        }
        return;
    }
    check_times(text);
    check_rules(text);
    let _ = (units::count(text), units::flows(text), units::bytes(text));
    let _ = (units::message_size(text), Quantile::from_str(text));
    if let Ok(targets) = file::parse(text) {
        assert!(targets.len() <= file::MAX_TARGETS);
    }
    if let Ok(keys) = Keys::parse(text) {
        assert!((1..=2).contains(&keys.all().count()));
    }
}

fn check_times(text: &str) {
    let parsers = [
        units::microseconds,
        units::milliseconds,
        units::seconds,
        units::interval,
        units::run_time,
        units::timeout,
        units::look,
    ];
    for time in parsers.into_iter().flat_map(|parse| parse(text)) {
        assert!(time <= Duration::from_secs(1_000_000_000));
        assert!(!duration(time.as_nanos() as u64).is_empty());
    }
}

fn check_rules(text: &str) {
    if let Ok(objectives) = text.parse::<Objectives>() {
        assert!(!objectives.judge(&Stats::new().last_summary(1)).is_empty());
    }
    if let Ok(min) = min_effect(text) {
        assert!(min.percent >= 0.0);
    }
    if let Ok(clock) = text.parse::<LabClock>() {
        clock.shown(clock.epoch_ns);
        clock.shown(clock.epoch_ns + (1 << 40));
    }
    if let Ok(cron) = Cron::from_str(text) {
        assert!(!cron.pattern.to_string().is_empty());
    }
}

//! Captures at each tick of a cron expression, for ever, in one process.

use crate::cli::Cli;
use crate::client::Outcome;
use crate::control::Control;
use crate::plan::Usage;
use anyhow::{Context, Result};
use chrono::{DateTime, Local};
use croner::Cron;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// How soon a signal ends the wait for the next tick.
const TICK: Duration = Duration::from_millis(100);

/// Runs `capture` at each tick until a signal. A capture that fails is told, and the next tick
/// is a new chance; a tick that falls into a running capture is skipped, and said.
pub fn run(
    cli: &Cli,
    cron: &Cron,
    control: &Control,
    mut capture: impl FnMut() -> Result<Outcome>,
) -> Result<Outcome> {
    let mut outcome = Outcome::Unanswered;
    let mut after = Local::now();
    loop {
        let next = cron
            .find_next_occurrence(&after, false)
            .context("the schedule (--schedule) has no further tick")?;
        log::info!("next capture at {}", next.format("%Y-%m-%d %H:%M:%S"));
        if !wait_until(next, control) {
            return Ok(outcome);
        }
        match capture() {
            Ok(Outcome::Unanswered) => log::error!("no probe was answered in this capture"),
            Ok(_) if outcome == Outcome::Missed => {}
            Ok(this) => outcome = this,
            Err(e) if e.is::<Usage>() => return Err(e),
            Err(e) => log::error!("the capture failed: {e:#}"),
        }
        after = skip_missed(cron, next, cli);
    }
}

/// A cron expression of five fields, or six with seconds.
pub fn parse(expression: &str) -> Result<Cron, String> {
    Cron::from_str(expression)
        .map_err(|e| format!("{e} An expression such as '*/10 * * * *' is wanted"))
}

/// False when a signal came first. The clock is read anew each time: it may be set.
fn wait_until(time: DateTime<Local>, control: &Control) -> bool {
    while Local::now() < time {
        if control.stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = (time - Local::now()).to_std().unwrap_or_default();
        thread::sleep(left.min(TICK));
    }
    !control.stop.load(Ordering::Relaxed)
}

/// The moment after which the next tick is looked for.
fn skip_missed(cron: &Cron, started: DateTime<Local>, cli: &Cli) -> DateTime<Local> {
    let now = Local::now();
    let mut last = started;
    let mut skipped = 0;
    while let Ok(tick) = cron.find_next_occurrence(&last, false) {
        if tick > now {
            break;
        }
        last = tick;
        skipped += 1;
    }
    if skipped > 0 {
        let took = cli.time.unwrap_or_default();
        log::warn!("{skipped} tick(s) skipped: the capture of {took:?} (-t) was still running");
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_of_five_fields_are_read() {
        assert!(parse("*/10 * * * *").is_ok());
        for bad in ["", "10", "61 * * * *", "every minute"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

//! Captures at each tick of a cron expression, for ever, in one process.

use crate::cli::{Cli, Output};
use crate::client::plan::{Plan, Usage};
use crate::client::run::Outcome;
use crate::control::Control;
use crate::output::destinations as output;
use crate::output::pictures::{DATED, prune};
use crate::output::story;
use crate::units::realtime_ns;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};
use croner::Cron;
use report::json::{self, NoCapture};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// How soon a signal ends the wait for the next tick.
const TICK: Duration = Duration::from_millis(100);

/// Runs `capture` at each tick until a signal. A capture that fails is told, also in the log and in
/// JSON, and the next tick is a new chance; a tick that falls into a running capture is skipped, and
/// said likewise. Fails at the end if a capture did.
pub fn run(
    cli: &Cli,
    cron: &Cron,
    control: &Control,
    mut capture: impl FnMut(&Cli) -> Result<Outcome>,
) -> Result<Outcome> {
    let mut cli = cli.clone();
    cli.results
        .image
        .get_or_insert_with(|| PathBuf::from(DATED));
    check(&cli)?;
    story::date_lines();
    let mut captures = Captures::default();
    let mut after = Local::now();
    loop {
        let next = cron
            .find_next_occurrence(&after, false)
            .context("the schedule (--schedule) has no further tick")?;
        log::info!("next capture at {}", next.format("%Y-%m-%d %H:%M:%S"));
        if !wait_until(next, control, &captures) {
            return captures.outcome();
        }
        captures.count(&cli, capture(&cli));
        if let Some(keep) = cli.keep.filter(|_| cli.results.wants(Output::Image)) {
            prune(cli.results.image(), keep as usize).unwrap_or_else(|e| log::warn!("{e:#}"));
        }
        after = skip_missed(cron, next, &cli);
    }
}

/// What would fail at each tick is said before the first one. A name that cannot be resolved or a
/// route that is missing may be there by then.
fn check(cli: &Cli) -> Result<()> {
    match Plan::new(cli) {
        Err(e) if e.is::<Usage>() => return Err(e),
        Err(e) => log::warn!("a capture would fail now: {e:#}"),
        Ok(_) => {}
    }
    output::check(&cli.results)
}

/// What became of the captures so far.
#[derive(Debug, Default)]
struct Captures {
    done: u64,
    failed: u64,
    unanswered: u64,
    missed: u64,
}

impl Captures {
    fn count(&mut self, cli: &Cli, result: Result<Outcome>) {
        self.done += 1;
        match result {
            Ok(Outcome::Answered) => {}
            Ok(Outcome::Missed) => self.missed += 1,
            Ok(Outcome::Unanswered) => {
                self.unanswered += 1;
                log::error!("no probe was answered in this capture");
            }
            Err(e) => {
                self.failed += 1;
                let why = format!("{e:#}");
                log::error!("the capture failed: {why}");
                note(cli, NoCapture::Failed, &why);
            }
        }
    }

    fn outcome(&self) -> Result<Outcome> {
        if self.failed > 0 {
            bail!("{self}");
        }
        Ok(match self {
            Self { missed: 1.., .. } => Outcome::Missed,
            _ if self.done > self.unanswered => Outcome::Answered,
            _ => Outcome::Unanswered,
        })
    }
}

impl std::fmt::Display for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            done,
            failed,
            unanswered,
            missed,
        } = self;
        write!(
            f,
            "{done} captures: {failed} failed, {unanswered} without an answer, {missed} missed an objective"
        )
    }
}

/// A line for those who read only the log or JSON.
fn note(cli: &Cli, what: NoCapture, why: &str) {
    let line = json::no_capture_line(what, why, realtime_ns());
    if let Err(e) = output::between_captures(&cli.results, &line) {
        log::error!("that is not in the log either: {e:#}");
    }
}

/// A cron expression of five fields, or six with seconds.
pub fn parse(expression: &str) -> Result<Cron, String> {
    Cron::from_str(expression)
        .map_err(|e| format!("{e} An expression such as '*/10 * * * *' is wanted"))
}

/// False when a signal came first. The clock is read anew each time: it may be set.
fn wait_until(time: DateTime<Local>, control: &Control, captures: &Captures) -> bool {
    while Local::now() < time {
        // There is no log to open anew meanwhile.
        if control.asked().summary {
            log::info!(
                "{captures}; the next at {}",
                time.format("%Y-%m-%d %H:%M:%S")
            );
        }
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
        let why =
            format!("{skipped} tick(s) skipped: the capture of {took:?} (-t) was still running");
        log::warn!("{why}");
        note(cli, NoCapture::Skipped, &why);
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

//! A saved run, and the moment of it that is shown.

use crate::output::live::keys::Key;
use crate::output::live::target::{Record, Target};
use report::model::ProbeResult;
use std::collections::VecDeque;

/// Records that are held; of a longer run the first ones are in the statistics only as long as nobody scrolls back.
const MAX_RECORDS: usize = 262_144;
/// The whole run in so many steps of an arrow, and in so many pages.
const STEPS: i64 = 100;
const PAGES: i64 = 10;

/// The records of a run, each with its time, nanoseconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct History {
    records: VecDeque<(i64, Record)>,
    /// How many of them are shown.
    shown: usize,
    /// The target before the first of the records.
    start: Target,
    /// Until when is shown; absent: to the end.
    until: Option<i64>,
}

impl History {
    /// Takes the next record.
    pub fn take(&mut self, record: Record, target: &mut Target) {
        let before = self.records.back().map_or(0, |(time, _)| *time);
        let time = match &record {
            Record::Probe(result) => result.probe.sent_unix_ns,
            Record::Present(now) => now.time_unix_ns,
            Record::Run(run) => run.start_unix_ns,
            Record::Names(_) | Record::Left => before,
        };
        let record = match record {
            Record::Probe(result) => Record::Probe(Box::new(without_ordinary_stamps(*result))),
            record => record,
        };
        self.records.push_back((time.max(before), record));
        if self.records.len() > MAX_RECORDS
            && let Some((_, first)) = self.records.pop_front()
        {
            self.start.apply(&first);
            self.shown = self.shown.saturating_sub(1);
        }
        self.go_on(target);
    }

    /// When the run began, as far as it is held, and when it ended, nanoseconds since the Unix epoch.
    pub fn span(&self) -> Option<(i64, i64)> {
        let first = self.records.iter().find(|(time, _)| *time > 0)?.0;
        Some((first, self.records.back()?.0))
    }

    /// The moment that is shown, nanoseconds since the Unix epoch.
    pub fn moment(&self) -> Option<i64> {
        let (_, end) = self.span()?;
        Some(self.until.unwrap_or(end))
    }

    /// Goes to another moment.
    pub fn scroll(&mut self, key: Key, target: &mut Target) {
        let (Some((start, end)), Some(moment)) = (self.span(), self.moment()) else {
            return;
        };
        let span = end - start;
        let (step, page) = ((span / STEPS).max(1), (span / PAGES).max(1));
        let moment = match key {
            Key::Left => moment - step,
            Key::Right => moment + step,
            Key::PageUp => moment - page,
            Key::PageDown => moment + page,
            Key::Home => start,
            _ => end,
        };
        self.until = Some(moment.max(start)).filter(|moment| *moment < end);
        if self.shown > 0 && self.records[self.shown - 1].0 > moment {
            target.clone_from(&self.start);
            self.shown = 0;
        }
        self.go_on(target);
    }

    /// Shows what is to be shown by now.
    fn go_on(&mut self, target: &mut Target) {
        let until = self.until.unwrap_or(i64::MAX);
        while let Some((time, record)) = self.records.get(self.shown)
            && *time <= until
        {
            target.apply(record);
            self.shown += 1;
        }
    }
}

/// The stamps of a probe that nobody opens are most of its memory; when it was sent is kept.
fn without_ordinary_stamps(mut result: ProbeResult) -> ProbeResult {
    if result.verdict.is_none() && result.loss.is_none() {
        let sent = result.probe.sent_ns();
        result.probe.path.retain(|stamp| Some(stamp.ns) == sent);
        result.probe.path.truncate(1);
        result.probe.path.shrink_to_fit();
    }
    result
}

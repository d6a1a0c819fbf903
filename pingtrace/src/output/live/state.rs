//! The state of the view: a pure function of the records and the keys so far.

use crate::output::live::history::History;
use crate::output::live::keys::Key;
use crate::output::live::target::{Record, Target};
use report::model::{Capture, ProbeResult};
use std::collections::{BTreeMap, VecDeque};

/// Messages that are kept, at most.
const MAX_MESSAGES: usize = 64;
/// Steps of the threshold, nanoseconds: 1, 2, 5, 10, ... us up to 10 s.
const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 10_000_000_000;

/// What is on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Page {
    /// All targets.
    #[default]
    Table,
    /// The path of one.
    Path(u32),
    /// A probe of it.
    Probe(u32, Box<ProbeResult>),
}

/// By what the table is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The part that was lost, then the 99th percentile.
    #[default]
    Worst,
    /// The 99th percentile.
    P99,
    /// The slow probes.
    Slow,
    /// The name.
    Name,
}

/// What a key asks for that the view alone cannot do.
#[derive(Debug)]
pub enum Asked {
    /// The end.
    Quit,
    /// A picture of a target.
    Picture(Box<Capture>),
}

/// All targets, and what is shown of them.
#[derive(Debug, Default)]
pub struct View {
    /// As they are now.
    targets: BTreeMap<u32, Target>,
    /// As they were when the view was paused.
    frozen: Option<BTreeMap<u32, Target>>,
    /// Of a saved run.
    pub history: Option<History>,
    /// What is on the screen.
    pub page: Page,
    /// Help is shown instead.
    pub help: bool,
    /// Of the table.
    pub order: Order,
    /// Which line of the page is chosen, from its first.
    pub chosen: usize,
    /// Instead of the run's, nanoseconds.
    pub threshold_ns: Option<u64>,
    /// What the run said, the latest last.
    pub messages: VecDeque<String>,
    /// Records that did not get here: the view could not keep up.
    pub missed: u64,
    /// Colours are wanted.
    pub color: bool,
}

impl View {
    /// Of a live run, or of a saved one.
    pub fn new(color: bool, is_saved: bool) -> Self {
        Self {
            color,
            history: is_saved.then(History::default),
            ..Self::default()
        }
    }

    /// Takes what became known of a target.
    pub fn take(&mut self, target: u32, record: Record) {
        if self.targets.is_empty() {
            self.page = Page::Path(target);
        } else if !self.targets.contains_key(&target) && self.targets.len() == 1 {
            // There are several.
            self.page = Page::Table;
        }
        if matches!(record, Record::Left) {
            self.leave(target);
            return;
        }
        let now = self.targets.entry(target).or_default();
        match &mut self.history {
            Some(history) => history.take(record, now),
            None => now.apply(&record),
        }
    }

    fn leave(&mut self, target: u32) {
        self.targets.remove(&target);
        let is_shown =
            matches!(self.page, Page::Path(shown) | Page::Probe(shown, _) if shown == target);
        if is_shown && self.frozen.is_none() {
            self.page = Page::Table;
        }
    }

    /// What the run said.
    pub fn says(&mut self, line: String) {
        self.messages.push_back(line);
        if self.messages.len() > MAX_MESSAGES {
            self.messages.pop_front();
        }
    }

    /// The targets as they are shown.
    pub fn shown(&self) -> &BTreeMap<u32, Target> {
        self.frozen.as_ref().unwrap_or(&self.targets)
    }

    /// Whether the view stands still.
    pub fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// The target of the page, if it is of one.
    pub fn target(&self) -> Option<&Target> {
        match &self.page {
            Page::Path(target) | Page::Probe(target, _) => self.shown().get(target),
            Page::Table => None,
        }
    }

    /// From when on a probe of the target is slow, nanoseconds.
    pub fn threshold_of(&self, target: &Target) -> Option<u64> {
        self.threshold_ns.or_else(|| target.threshold_ns())
    }

    /// What stood out at a target, the latest first: what was lost, and what took as long as the threshold that was set.
    pub fn events<'a>(&self, target: &'a Target) -> Vec<&'a ProbeResult> {
        let is_slow = |result: &&ProbeResult| match (&result.breakdown, self.threshold_ns) {
            (Some(breakdown), Some(ns)) => breakdown.response_ns() >= ns,
            _ => true,
        };
        target.events.iter().rev().filter(is_slow).collect()
    }

    /// The targets in the order of the table.
    pub fn rows(&self) -> Vec<(u32, &Target)> {
        let targets = self
            .shown()
            .iter()
            .map(|(number, target)| (*number, target));
        let key = |target: &Target| {
            let p99 = target.totals().map_or(u64::MAX, |totals| totals.p99);
            match self.order {
                Order::Worst => (target.loss_ppm(), p99),
                Order::P99 => (p99, 0),
                Order::Slow => {
                    let ns = self.threshold_of(target).unwrap_or(u64::MAX);
                    (target.slow_of_recent(ns).0 as u64, p99)
                }
                Order::Name => (0, 0),
            }
        };
        let mut rows: Vec<_> = targets
            .map(|(number, target)| {
                (
                    std::cmp::Reverse(key(target)),
                    target.name(),
                    number,
                    target,
                )
            })
            .collect();
        rows.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
        let rows = rows.into_iter();
        rows.map(|(_, _, number, target)| (number, target))
            .collect()
    }

    /// Does what a key says; what the view cannot do itself is asked for.
    pub fn press(&mut self, key: Key) -> Option<Asked> {
        if std::mem::take(&mut self.help) && key != Key::Char('q') {
            return None;
        }
        match key {
            Key::Char('q') => return Some(Asked::Quit),
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('p' | ' ') => self.pause(),
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('+' | '=') => self.step_threshold(|ns| stepped(ns, true)),
            Key::Char('-') => self.step_threshold(|ns| stepped(ns, false)),
            Key::Char('i') => return self.picture(),
            Key::Char('\n') => self.open(),
            Key::Escape | Key::Char('\x7f') => self.close(),
            Key::Up => self.chosen = self.chosen.saturating_sub(1),
            Key::Down => self.chosen = (self.chosen + 1).min(self.lines().saturating_sub(1)),
            Key::Left | Key::Right | Key::Home | Key::End | Key::PageUp | Key::PageDown => {
                self.scroll(key);
            }
            Key::Char(_) => {}
        }
        None
    }

    fn pause(&mut self) {
        self.frozen = match self.frozen.take() {
            None if self.history.is_none() => Some(self.targets.clone()),
            _ => None,
        };
        let is_gone = self.target().is_none();
        if is_gone {
            self.page = self.first_page();
        }
    }

    /// The one target, or all.
    fn first_page(&self) -> Page {
        let shown = self.shown();
        match shown.first_key_value() {
            Some((only, _)) if shown.len() == 1 => Page::Path(*only),
            _ => Page::Table,
        }
    }

    fn step_threshold(&mut self, step: impl FnOnce(u64) -> u64) {
        let targets = self.shown();
        let target = self.target().or_else(|| targets.values().next());
        let now = target.and_then(|target| self.threshold_of(target));
        self.threshold_ns = Some(step(now.unwrap_or(LEAST_NS)));
        self.chosen = 0;
    }

    fn picture(&mut self) -> Option<Asked> {
        let Some(target) = self.target() else {
            self.says("a picture is of one target: open one (Enter) first".to_owned());
            return None;
        };
        Some(Asked::Picture(Box::new(target.capture())))
    }

    /// Lines that can be chosen.
    fn lines(&self) -> usize {
        match (&self.page, self.target()) {
            (Page::Table, _) => self.shown().len(),
            (Page::Path(_), Some(target)) => self.events(target).len(),
            _ => 0,
        }
    }

    fn open(&mut self) {
        let page = match (&self.page, self.target()) {
            (Page::Table, _) => {
                let rows = self.rows();
                let row = rows.get(self.chosen);
                row.map(|(number, _)| Page::Path(*number))
            }
            (Page::Path(number), Some(target)) => {
                let events = self.events(target);
                let result = events.get(self.chosen).map(|result| (*result).clone());
                result.map(|result| Page::Probe(*number, Box::new(result)))
            }
            _ => None,
        };
        if let Some(page) = page {
            self.chosen = if matches!(page, Page::Path(_)) {
                0
            } else {
                self.chosen
            };
            self.page = page;
        }
    }

    fn close(&mut self) {
        self.page = match self.page {
            Page::Probe(target, _) => Page::Path(target),
            Page::Path(_) | Page::Table => self.first_page(),
        };
    }

    /// Through the time of a saved run.
    fn scroll(&mut self, key: Key) {
        let Some(history) = &mut self.history else {
            return;
        };
        if let Some(target) = self.targets.values_mut().next() {
            history.scroll(key, target);
            self.chosen = 0;
        }
    }
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Worst => Self::P99,
            Self::P99 => Self::Slow,
            Self::Slow => Self::Name,
            Self::Name => Self::Worst,
        }
    }

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Worst => "loss, then p99",
            Self::P99 => "p99",
            Self::Slow => "slow probes",
            Self::Name => "name",
        }
    }
}

/// The next step up or down, of 1, 2, 5 and their multiples by ten.
fn stepped(ns: u64, up: bool) -> u64 {
    let decades = std::iter::successors(Some(LEAST_NS), |ns| ns.checked_mul(10));
    let steps = decades.flat_map(|decade| [1, 2, 5].map(|step| step * decade));
    let mut steps = steps.take_while(|step| *step <= MOST_NS);
    if up {
        steps.find(|step| *step > ns).unwrap_or(MOST_NS)
    } else {
        steps
            .take_while(|step| *step < ns)
            .last()
            .unwrap_or(LEAST_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_goes_in_steps() {
        for (ns, up, down) in [
            (0, LEAST_NS, LEAST_NS),
            (1_000, 2_000, LEAST_NS),
            (812_345, 1_000_000, 500_000),
            (5_000_000, 10_000_000, 2_000_000),
            (u64::MAX, MOST_NS, MOST_NS),
        ] {
            assert_eq!((stepped(ns, true), stepped(ns, false)), (up, down), "{ns}");
        }
    }
}

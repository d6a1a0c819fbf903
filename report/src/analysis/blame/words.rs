//! Blame in words.

use std::fmt::Write as _;

use crate::model::{Blame, BlameCount, BlameSummary, Class, Host, Part};
use crate::printable::printable;
use crate::units::{duration, share};

impl Blame {
    /// One line of text.
    pub fn text(&self) -> String {
        let share = |ns: u64| percent(ns, self.window_ns);
        let mut text = format!(
            "{} {} on CPU {}:",
            self.segment.name(),
            duration(self.window_ns),
            self.cpu
        );
        let telling = |part: &&Part| share(part.ns) > 0;
        for part in self.parts.iter().filter(telling).take(3) {
            let _ = write!(
                text,
                " {} {} ({} %);",
                part.words(),
                duration(part.ns),
                share(part.ns)
            );
        }
        let rest = self.unexplained_ns();
        if share(rest) > 0 || self.parts.is_empty() {
            let _ = write!(text, " unexplained {} ({} %);", duration(rest), share(rest));
        }
        text.truncate(text.trim_end_matches(';').len());
        text
    }
}

/// A part of a whole, in percent.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

impl Part {
    /// What it was, and where if that is known, as text.
    pub fn words(&self) -> String {
        match &self.function {
            Some(function) => {
                format!("{} in {}", self.who_did_what(), printable(function))
            }
            None => self.who_did_what(),
        }
    }

    fn who_did_what(&self) -> String {
        did_what(self.class, &self.who, Some(self.tid))
    }
}

/// Without a thread id it was several threads.
fn did_what(class: Class, who: &str, tid: Option<u32>) -> String {
    let who = printable(who);
    let task = || tid.map_or_else(|| format!("{who} (several)"), |tid| format!("{who}/{tid}"));
    match class {
        Class::Own => format!("itself ({})", task()),
        Class::Hardirq => format!("interrupt {who}"),
        Class::SoftirqRun | Class::SoftirqDelay => format!("softirq {who}"),
        Class::Irqoff => format!("{} kept interrupts off", task()),
        Class::Hard | Class::Lazy => format!("{} did not schedule", task()),
        Class::Quota => "quota of its cgroup used up".to_owned(),
        Class::Outside => "held up from outside this kernel".to_owned(),
        Class::Cpu | Class::Stolen => format!("{} ran", task()),
    }
}

impl BlameCount {
    /// What it was, as text.
    pub fn words(&self) -> String {
        did_what(self.class, &self.who, self.tid)
    }
}

/// Culprits of a run that are listed.
const LISTED: usize = 16;

impl BlameSummary {
    /// As text: a line for each culprit, and the unexplained rest.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.skipped > 0 {
            let _ = writeln!(
                text,
                "{} slow probes were not explained: too many at once",
                self.skipped
            );
        }
        for count in self.culprits.iter().take(LISTED) {
            let share = share(count.probes, self.probes, 0);
            let host = if count.host == Host::Server {
                "server"
            } else {
                "client"
            };
            let _ = writeln!(
                text,
                "{:>4}{share} explained probes: {} ({host} host) {}, {} in all",
                count.probes,
                count.segment.name(),
                count.words(),
                duration(count.ns)
            );
        }
        if self.unexplained > 0 {
            let share = share(self.unexplained, self.probes, 0);
            let _ = writeln!(
                text,
                "{:>4}{share} explained probes: nothing on the CPU explains them",
                self.unexplained
            );
        }
        text
    }
}

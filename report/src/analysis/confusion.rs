//! Injected against named: how often the segment with a known fault was named.
//!
//! The time that was not injected is known too, whichever segment it is in: a probe's total above the
//! baseline, less the injected time. If that is no smaller than the injected fault, the right name is
//! not known: such a trial is *disturbed*, and counted separately.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::model::{Certainty, Owner, Segment, Verdict};

/// Lower bound on the share of right names among undisturbed trials, percent.
pub const GOAL_PERCENT: u32 = 95;

/// What is between the two hosts, and how they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Setup {
    /// Nothing but a wire.
    Cable,
    /// A wire; both ends explain (`--explain`).
    Explained,
    /// A bridge and a wire, and the probes are inside a VXLAN.
    Overlay,
}

impl Setup {
    /// As JSON and text name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Explained => "explained",
            Self::Overlay => "overlay",
        }
    }

    /// For a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::Cable => "a wire",
            Self::Explained => "a wire, --explain",
            Self::Overlay => "a VXLAN, a bridge and a wire",
        }
    }
}

/// A probe that a fault hit; or one of those among them that none did.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Where the probe went.
    pub setup: Setup,
    /// Where the fault was; absent: there was none.
    pub injected: Option<Segment>,
    /// How long it held up the probe, nanoseconds.
    pub injected_ns: u64,
    /// The probe's total above the baseline, nanoseconds.
    pub excess_ns: u64,
    /// What was named.
    pub verdict: Option<Verdict>,
}

/// What became of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The segment was named; or nothing, and there was nothing.
    Right,
    /// Another segment of the same host was named, or the wire without its direction.
    RightHost,
    /// Nothing was named.
    Undecided,
    /// Another host or the other direction was named; or anything, and there was nothing.
    WrongHost,
    /// Something else took as long as the fault.
    Disturbed,
}

/// The trials, a row for each segment in which faults were injected.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Smallest excess that counts as a name, nanoseconds.
    threshold_ns: u64,
    rows: Vec<Row>,
    omitted: Vec<Omitted>,
}

/// The trials of one segment in one setup.
#[derive(Clone, Debug, Serialize)]
struct Row {
    setup: Setup,
    injected: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'static str>,
    /// As many trials were asked for.
    wanted: u32,
    right: u32,
    right_host: u32,
    undecided: u32,
    wrong_host: u32,
    disturbed: u32,
    /// The wrong names.
    instead: BTreeMap<&'static str, u32>,
}

#[derive(Clone, Debug, Serialize)]
struct Omitted {
    setup: Setup,
    segment: &'static str,
    why: String,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    threshold_ns: u64,
    goal_percent: u32,
    rows: &'a [Row],
    omitted: &'a [Omitted],
    failures: Vec<String>,
    passed: bool,
}

impl Trial {
    /// Whether something else took as long as the fault.
    pub fn is_disturbed(&self, threshold_ns: u64) -> bool {
        let rest_ns = self.excess_ns.saturating_sub(self.injected_ns);
        rest_ns >= self.injected_ns.max(threshold_ns)
    }

    fn finding(&self, threshold_ns: u64) -> Finding {
        if self.is_disturbed(threshold_ns) {
            return Finding::Disturbed;
        }
        let said = self.verdict.filter(|said| said.excess_ns >= threshold_ns);
        let named = said.filter(|said| self.is_named(said));
        match (self.injected, named) {
            (None, None) if said.is_none() => Finding::Right,
            (_, None) => Finding::Undecided,
            (Some(injected), Some(named)) if named.segment == Some(injected) => Finding::Right,
            (Some(injected), Some(named)) if on_one_host(injected.owner(), named.owner) => {
                Finding::RightHost
            }
            _ => Finding::WrongHost,
        }
    }

    /// Whether a verdict counts as a name. Only timers tell that interrupts are off: the name of another host
    /// counts there only if it is sure.
    fn is_named(&self, said: &Verdict) -> bool {
        let there = |injected: Segment| on_one_host(injected.owner(), said.owner);
        let needs_sure = self.setup == Setup::Explained && !self.injected.is_some_and(there);
        match said.certainty {
            Certainty::Sure => true,
            Certainty::Undecided => false,
            _ => !needs_sure,
        }
    }

    fn said(&self) -> &'static str {
        match self.verdict {
            None => "nothing",
            Some(said) if said.certainty == Certainty::Undecided => "undecided",
            Some(said) if !self.is_named(&said) => "not sure",
            Some(said) => said.segment.map_or(said.owner.name(), Segment::name),
        }
    }
}

fn on_one_host(injected: Owner, named: Owner) -> bool {
    let wire = matches!(injected, Owner::WireOut | Owner::WireIn) && named == Owner::Wire;
    wire || injected.same_host(named)
}

fn host(owner: Owner) -> &'static str {
    match owner {
        Owner::Local | Owner::Receiver => "client",
        Owner::Remote => "server",
        _ => "wire",
    }
}

impl Row {
    fn name(injected: Option<Segment>) -> &'static str {
        injected.map_or("none", Segment::name)
    }

    fn count(&mut self, finding: Finding, said: &'static str) {
        let counter = match finding {
            Finding::Right => &mut self.right,
            Finding::RightHost => &mut self.right_host,
            Finding::Undecided => &mut self.undecided,
            Finding::WrongHost => &mut self.wrong_host,
            Finding::Disturbed => &mut self.disturbed,
        };
        *counter += 1;
        if !matches!(finding, Finding::Right | Finding::Disturbed) {
            *self.instead.entry(said).or_default() += 1;
        }
    }

    /// Trials with a known right answer.
    fn judged(&self) -> u32 {
        self.right + self.right_host + self.undecided + self.wrong_host
    }

    fn failure(&self) -> Option<String> {
        let Self {
            setup,
            injected,
            wanted,
            ..
        } = self;
        let injected = format!("{} {injected}", setup.name());
        let judged = self.judged();
        if judged * 2 < *wanted {
            return Some(format!(
                "{injected}: only {judged} of {wanted} trials, and {} were disturbed: the machine is too busy",
                self.disturbed
            ));
        }
        if self.wrong_host > 0 {
            return Some(format!("{injected}: a wrong host was named"));
        }
        // That it cannot be known is right where only timers tell.
        let right = match setup {
            Setup::Explained => self.right + self.undecided,
            Setup::Cable | Setup::Overlay => self.right,
        };
        (right * 100 < judged * GOAL_PERCENT)
            .then(|| format!("{injected}: {} of {judged} right", self.right))
    }
}

impl Matrix {
    /// Without trials. Names for less than `threshold_ns` do not count as names.
    pub fn new(threshold_ns: u64) -> Self {
        Self {
            threshold_ns,
            rows: Vec::new(),
            omitted: Vec::new(),
        }
    }

    /// Adds a row for a segment; absent: nothing injected. As many trials are asked for.
    pub fn add_row(&mut self, setup: Setup, injected: Option<Segment>, wanted: u32) {
        self.rows.push(Row {
            setup,
            injected: Row::name(injected),
            host: injected.map(|segment| host(segment.owner())),
            wanted,
            right: 0,
            right_host: 0,
            undecided: 0,
            wrong_host: 0,
            disturbed: 0,
            instead: BTreeMap::new(),
        });
    }

    /// Counts a trial in its row, if there is one.
    pub fn count(&mut self, trial: &Trial) {
        let name = Row::name(trial.injected);
        let finding = trial.finding(self.threshold_ns);
        let is_its = |row: &&mut Row| row.setup == trial.setup && row.injected == name;
        if let Some(row) = self.rows.iter_mut().find(is_its) {
            row.count(finding, trial.said());
        }
    }

    /// Says that no fault can be injected into this segment here.
    pub fn omit(&mut self, setup: Setup, segment: Segment, why: impl Into<String>) {
        self.omitted.push(Omitted {
            setup,
            segment: segment.name(),
            why: why.into(),
        });
    }

    /// What is not as it should be, a line a row: too few right, a wrong host, too few trials or
    /// too many disturbed ones.
    pub fn failures(&self) -> Vec<String> {
        self.rows.iter().filter_map(Row::failure).collect()
    }

    /// The matrix for people, and whether it is as it should be.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<9} {:<16} {:<7} {:>6} {:>13} {:>10} {:>9} {:>10} {:>9}  {}\n",
            "setup",
            "injected",
            "host",
            "trials",
            "right segment",
            "right host",
            "undecided",
            "wrong host",
            "disturbed",
            "named instead"
        );
        for row in &self.rows {
            push_row(&mut text, row);
        }
        for omitted in &self.omitted {
            let Omitted {
                setup,
                segment,
                why,
            } = omitted;
            let setup = setup.name();
            let _ = writeln!(text, "{setup:<9} {segment:<16} not injected: {why}");
        }
        let failures = self.failures();
        for failure in &failures {
            let _ = writeln!(text, "failed: {failure}");
        }
        if failures.is_empty() {
            let _ = writeln!(
                text,
                "passed: in each of {} rows at least {GOAL_PERCENT} % right, and no wrong host",
                self.rows.len()
            );
        }
        text
    }

    /// One JSON line, as the schema says.
    pub fn json(&self) -> String {
        let failures = self.failures();
        let line = Line {
            kind: "selftest",
            threshold_ns: self.threshold_ns,
            goal_percent: GOAL_PERCENT,
            rows: &self.rows,
            omitted: &self.omitted,
            passed: failures.is_empty(),
            failures,
        };
        serde_json::to_string(&line).expect("keys are strings and nothing else can fail")
    }
}

fn push_row(text: &mut String, row: &Row) {
    let judged = row.judged();
    let share = |count: u32| match (count, judged) {
        (0, _) | (_, 0) => count.to_string(),
        _ => format!("{count} ({} %)", count * 100 / judged),
    };
    let instead: Vec<_> = row
        .instead
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let line = format!(
        "{:<9} {:<16} {:<7} {judged:>6} {:>13} {:>10} {:>9} {:>10} {:>9}  {}",
        row.setup.name(),
        row.injected,
        row.host.unwrap_or("-"),
        share(row.right),
        share(row.right_host),
        share(row.undecided),
        share(row.wrong_host),
        row.disturbed,
        instead.join(", ")
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn named(segment: Segment, excess_ns: u64) -> Verdict {
        Verdict {
            owner: segment.owner(),
            segment: Some(segment),
            excess_ns,
            certainty: Certainty::Sure,
            ..Verdict::UNDECIDED
        }
    }

    fn finding(
        injected: Option<Segment>,
        rest_ns: u64,
        verdict: impl Into<Option<Verdict>>,
    ) -> Finding {
        let injected_ns = if injected.is_some() { 3 * MS } else { 0 };
        let trial = Trial {
            setup: Setup::Cable,
            injected,
            injected_ns,
            excess_ns: injected_ns + rest_ns,
            verdict: verdict.into(),
        };
        trial.finding(MS)
    }

    #[test]
    fn a_name_is_right_on_the_right_host_or_wrong() {
        use Segment as S;
        for (injected, said, expected) in [
            (S::LTxKern, S::LTxKern, Finding::Right),
            (S::LRxKern, S::LRxTaskRun, Finding::RightHost),
            (S::RRxKern, S::RTxQdisc, Finding::RightHost),
            (S::RRxKern, S::LTxOutlink, Finding::WrongHost),
            (S::LTxOutlink, S::LRxInlink, Finding::WrongHost),
            (S::LTxOutlink, S::RRxSoftirq, Finding::WrongHost),
        ] {
            let found = finding(Some(injected), 0, named(said, 3 * MS));
            assert_eq!(found, expected, "{injected:?} {said:?}");
        }
        let wire = Verdict {
            owner: Owner::Wire,
            segment: None,
            ..named(S::LTxOutlink, 3 * MS)
        };
        let found = |injected| finding(Some(injected), 0, wire);
        assert_eq!(found(S::LRxInlink), Finding::RightHost);
        assert_eq!(found(S::LRxKern), Finding::WrongHost);
    }

    #[test]
    fn without_a_name_it_is_undecided() {
        let undecided = Some(Verdict {
            excess_ns: 3 * MS,
            ..Verdict::UNDECIDED
        });
        let found = |said| finding(Some(Segment::LTxKern), 0, said);
        assert_eq!(found(None), Finding::Undecided);
        assert_eq!(found(undecided), Finding::Undecided);
        // Half of a fault is not the fault.
        let little = named(Segment::LTxKern, MS - 1);
        assert_eq!(found(Some(little)), Finding::Undecided);
    }

    #[test]
    fn what_only_timers_tell_is_right_to_be_unsure_of() {
        let row = |certainty, count| {
            let mut matrix = Matrix::new(MS);
            let injected = Some(Segment::RRxSoftirq);
            matrix.add_row(Setup::Explained, injected, 20);
            let wire = Verdict {
                certainty,
                ..named(Segment::LTxOutlink, 3 * MS)
            };
            let trial = Trial {
                setup: Setup::Explained,
                injected,
                injected_ns: 3 * MS,
                excess_ns: 3 * MS,
                verdict: Some(wire),
            };
            (0..count).for_each(|_| matrix.count(&trial));
            matrix
        };
        let unsure = row(Certainty::Likely, 20);
        assert_eq!(unsure.failures(), [""; 0]);
        assert_eq!(unsure.rows[0].instead["not sure"], 20);
        let sure = row(Certainty::Sure, 20).failures();
        assert!(sure[0].contains("a wrong host was named"), "{sure:?}");
    }

    #[test]
    fn nothing_is_to_be_named_where_nothing_was_injected() {
        assert_eq!(finding(None, 100, None), Finding::Right);
        let little = named(Segment::LTxKern, MS - 1);
        assert_eq!(finding(None, MS - 1, little), Finding::Right);
        let much = named(Segment::LTxKern, MS);
        assert_eq!(finding(None, MS - 1, much), Finding::WrongHost);
        assert_eq!(finding(None, MS, much), Finding::Disturbed);
    }

    #[test]
    fn what_took_as_long_as_the_fault_disturbs() {
        let wrong = named(Segment::RRxKern, 3 * MS);
        let injected = Some(Segment::LTxKern);
        assert_eq!(finding(injected, 3 * MS, wrong), Finding::Disturbed);
        assert_eq!(finding(injected, 3 * MS - 1, wrong), Finding::WrongHost);
    }

    /// A row with these numbers of trials: named right, otherwise on the same host, not at all, and wrong.
    fn matrix(counts: [u32; 4], disturbed: u32) -> Matrix {
        let injected = Some(Segment::LTxKern);
        let mut matrix = Matrix::new(MS);
        matrix.add_row(Setup::Cable, injected, 0);
        matrix.add_row(Setup::Overlay, injected, 20);
        let said = [
            Some(named(Segment::LTxKern, 3 * MS)),
            Some(named(Segment::LTxQdisc, 3 * MS)),
            None,
            Some(named(Segment::RRxKern, 3 * MS)),
        ];
        let trial = |verdict, excess_ns| Trial {
            setup: Setup::Overlay,
            injected,
            injected_ns: 3 * MS,
            excess_ns,
            verdict,
        };
        for (verdict, count) in said.into_iter().zip(counts) {
            for _ in 0..count {
                matrix.count(&trial(verdict, 3 * MS));
            }
        }
        for _ in 0..disturbed {
            matrix.count(&trial(None, 6 * MS));
        }
        matrix
    }

    #[test]
    fn rows_pass_or_say_why_not() {
        for (counts, disturbed, failure) in [
            ([20, 0, 0, 0], 0, None),
            ([19, 0, 1, 0], 0, None),
            ([19, 1, 0, 0], 19, None),
            ([18, 0, 2, 0], 0, Some("18 of 20 right")),
            ([19, 0, 0, 1], 0, Some("a wrong host was named")),
            ([10, 0, 0, 0], 30, None),
            (
                [9, 0, 0, 0],
                11,
                Some("only 9 of 20 trials, and 11 were disturbed"),
            ),
            ([0, 0, 0, 0], 0, Some("only 0 of 20 trials")),
        ] {
            let failures = matrix(counts, disturbed).failures();
            match failure {
                None => assert!(failures.is_empty(), "{failures:?}"),
                Some(why) => assert!(failures[0].contains(why), "{failures:?}"),
            }
        }
    }

    #[test]
    fn both_formats_say_the_same() {
        let mut matrix = matrix([17, 1, 1, 1], 3);
        matrix.omit(Setup::Cable, Segment::RRxNapi, "needs a second CPU");
        let text = matrix.text();
        let row = text.lines().nth(2).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "overlay l_tx_kern client 20 17 (85 %) 1 (5 %) 1 (5 %) 1 (5 %) 3 l_tx_qdisc 1, nothing 1, r_rx_kern 1"
        );
        assert!(text.contains("cable     r_rx_napi        not injected: needs a second CPU"));
        assert!(text.contains("failed: overlay l_tx_kern: a wrong host was named"));
        let json: serde_json::Value = serde_json::from_str(&matrix.json()).unwrap();
        assert_eq!(json["passed"], false);
        let row = &json["rows"][1];
        assert_eq!(row["setup"], "overlay");
        assert_eq!((&row["right"], &row["right_host"]), (&17.into(), &1.into()));
        assert_eq!(row["instead"]["r_rx_kern"], 1);
        let omitted = &json["omitted"][0];
        assert_eq!(
            (&omitted["setup"], &omitted["segment"]),
            (&"cable".into(), &"r_rx_napi".into())
        );
    }
}

//! What a companion's picture shows: a headline and panels, each of a kind that is drawn alike
//! for all of them.

use crate::units::Unit;

/// A picture of a companion's findings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What was measured where: `irqoff on web1, 60 s, threshold 200 us`.
    pub title: String,
    /// The answer, one sentence.
    pub headline: String,
    /// What else is worth a line.
    pub second: String,
    /// From top to bottom; at most eight are drawn.
    pub panels: Vec<Panel>,
    /// What was lost, and what the reader has to know.
    pub notes: String,
}

/// A part of a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Panel {
    /// Events on lanes over time.
    Timeline(Timeline),
    /// A histogram of values.
    Histogram(Histogram),
    /// Series over time, one on top of the other.
    Stacked(Stacked),
    /// Named values side by side.
    Bars(Bars),
}

impl Panel {
    /// What it shows.
    pub fn heading(&self) -> &str {
        match self {
            Self::Timeline(timeline) => &timeline.heading,
            Self::Histogram(histogram) => &histogram.heading,
            Self::Stacked(stacked) => &stacked.heading,
            Self::Bars(bars) => &bars.heading,
        }
    }

    /// Why a panel has nothing to show, if it has not.
    pub fn nothing(&self) -> Option<&str> {
        let (nothing, why) = match self {
            Self::Timeline(timeline) => (timeline.marks.is_empty(), &timeline.empty),
            Self::Histogram(histogram) => (
                histogram.buckets.iter().all(|bucket| bucket.2 == 0),
                &histogram.empty,
            ),
            Self::Stacked(stacked) => (
                stacked.series.iter().all(|one| one.values.is_empty()),
                &stacked.empty,
            ),
            Self::Bars(bars) => (bars.bars.is_empty(), &bars.empty),
        };
        let why = if why.is_empty() {
            "Nothing to show."
        } else {
            why
        };
        nothing.then_some(why)
    }
}

/// Events on lanes (one a CPU, say) over time; a mark's height says how long it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// What it shows.
    pub heading: String,
    /// The left end, nanoseconds since the Unix epoch.
    pub start_unix_ns: i64,
    /// From the left to the right end, ns.
    pub span_ns: u64,
    /// Names of the lanes, from the top. Of more than 64, those without a mark are left out, and
    /// neighbours are joined if that is not enough.
    pub lanes: Vec<String>,
    /// Names of the classes that [`Mark::class`] counts in; each has a colour.
    pub classes: Vec<String>,
    /// In any order.
    pub marks: Vec<Mark>,
    /// What to say if there is no mark: `no event took longer than 200 us`.
    pub empty: String,
}

/// A histogram, on a logarithmic value axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// What it shows.
    pub heading: String,
    /// Of the values.
    pub unit: Unit,
    /// From (inclusive), to (exclusive) and how often; in order, without overlap.
    pub buckets: Vec<(u64, u64, u64)>,
    /// What to say if nothing was counted.
    pub empty: String,
}

/// Series over time, one on top of the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stacked {
    /// What it shows.
    pub heading: String,
    /// Of the values.
    pub unit: Unit,
    /// The left end, nanoseconds since the Unix epoch.
    pub start_unix_ns: i64,
    /// How long a value is valid, ns.
    pub step_ns: u64,
    /// In any order: the largest is drawn on top, and of more than eight the rest is joined.
    pub series: Vec<Series>,
    /// What to say if there is no value.
    pub empty: String,
}

/// Named values side by side: the top of something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// What it shows.
    pub heading: String,
    /// Of the values.
    pub unit: Unit,
    /// From the top; where there is no room, those at the end are summed up.
    pub bars: Vec<Bar>,
    /// What to say if there is no bar.
    pub empty: String,
}

/// An event on a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Which lane, from 0; the last one if there are fewer.
    pub lane: usize,
    /// Which class, from 0.
    pub class: usize,
    /// When it began, ns since the left end.
    pub at_ns: u64,
    /// How long it took, ns.
    pub ns: u64,
    /// Who it was: the first line stands beside the longest marks, all of it under the pointer.
    /// Time, lane, class and duration are said anyway.
    pub text: String,
}

/// Values over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Whose.
    pub name: String,
    /// One a step; what is not a number or negative counts as 0.
    pub values: Vec<f64>,
}

/// A named value.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What.
    pub name: String,
    /// How much.
    pub value: u64,
    /// What stands behind the bar.
    pub text: String,
}

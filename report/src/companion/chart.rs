//! What a companion's picture shows: a headline and panels, each of a kind that is drawn alike
//! for all of them.

/// A picture of a companion's findings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What was measured where: `irqoff on web1, 60 s, threshold 200 us`.
    pub title: String,
    /// The answer, one sentence.
    pub headline: String,
    /// What else is worth a line.
    pub second: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
    /// What was lost, and what the reader has to know.
    pub notes: String,
}

/// How values of a panel are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A duration, ns.
    Nanoseconds,
    /// Bytes, with binary prefixes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// A number.
    Count,
}

/// A part of a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Panel {
    /// Events on lanes (one a CPU, say) over time; a mark's height or shade says how long it took.
    Timeline {
        /// What it shows.
        heading: String,
        /// The left end, nanoseconds since the Unix epoch.
        start_unix_ns: i64,
        /// From the left to the right end, ns.
        span_ns: u64,
        /// Names of the lanes, from the top.
        lanes: Vec<String>,
        /// Names of the classes that [`Mark::class`] counts in; each has a colour.
        classes: Vec<String>,
        /// In any order.
        marks: Vec<Mark>,
    },
    /// How often which value came, on a logarithmic value axis.
    Histogram {
        /// What it shows.
        heading: String,
        /// Of the values.
        unit: Unit,
        /// From (inclusive), to (exclusive) and how often; in order, without overlap.
        buckets: Vec<(u64, u64, u64)>,
    },
    /// Series over time, one on top of the other.
    Stacked {
        /// What it shows.
        heading: String,
        /// Of the values.
        unit: Unit,
        /// The left end, nanoseconds since the Unix epoch.
        start_unix_ns: i64,
        /// Between two values, ns.
        step_ns: u64,
        /// From the bottom; all of one length.
        series: Vec<Series>,
    },
    /// Named values side by side: the top of something.
    Bars {
        /// What it shows.
        heading: String,
        /// Of the values.
        unit: Unit,
        /// From the top.
        bars: Vec<Bar>,
    },
}

/// An event on a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Which lane, from 0.
    pub lane: usize,
    /// Which class, from 0.
    pub class: usize,
    /// When it began, ns since the left end.
    pub at_ns: u64,
    /// How long it took, ns.
    pub ns: u64,
    /// What to say under the pointer.
    pub text: String,
}

/// Values over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Whose.
    pub name: String,
    /// One a step.
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

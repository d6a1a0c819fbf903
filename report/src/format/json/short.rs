//! Probes in short. The probes of a run are much alike: the same points, devices and segments one behind the other,
//! and other numbers. A `shape` line says once what they have in common, as the line of a probe whose numbers are 0;
//! a `short` line has the numbers of a probe. It is a tenth as long, and quick to read.
//!
//! The numbers are those that [`each_number`] goes through, in its order. A line needs its shape and no other line: one
//! that is lost costs one probe.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::probe::{ProbeLine, ProbeRead, plausible};
use super::write::{of_target, probe_line, to_string};
use crate::model::{Breakdown, Host, Names, Point, Probe, ProbeResult, Status, Verdict};

/// Shapes that are known at once; behind them, a writer begins anew.
const MAX_SHAPES: u32 = 1024;

/// The beginning of a probe's line.
const SHORT: &[u8] = br#"{"type":"short","#;

/// Whether a line begins as [`Shorts::lines`] begins one.
pub(crate) fn is_short(line: &[u8]) -> bool {
    line.starts_with(SHORT)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written<'a> {
    Shape(Box<ShapeLine<'a>>),
    Short(ShortLine),
}

/// What probes have in common.
#[derive(Serialize, Deserialize)]
pub(super) struct ShapeLine<'a> {
    shape: u32,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    probe: ProbeLine<'a>,
}

/// The numbers of one.
#[derive(Serialize, Deserialize)]
pub(super) struct ShortLine {
    shape: u32,
    n: Vec<i64>,
}

/// A shape that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    number: u32,
    target: Option<String>,
    result: ProbeResult,
    /// The names that the line had for namespaces and devices.
    pub(crate) names: Names,
}

/// A probe that was read, without its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Short {
    shape: u32,
    numbers: Vec<i64>,
}

impl TryFrom<ShapeLine<'_>> for Shape {
    type Error = Error;

    fn try_from(line: ShapeLine) -> Result<Self, Error> {
        if line.shape >= MAX_SHAPES {
            let why = format!("shape {}, of at most {MAX_SHAPES}", line.shape);
            return Err(Error::Implausible(why));
        }
        let read = ProbeRead::from(line.probe);
        plausible(&read.result).map_err(Error::Implausible)?;
        Ok(Self {
            number: line.shape,
            target: line.target.map(Cow::into_owned),
            result: read.result,
            names: read.names,
        })
    }
}

impl Short {
    /// Of a whole line that begins as [`Shorts::lines`] begins it, without its numbers: they are not read.
    pub(crate) fn counted(line: &str) -> Option<Self> {
        let rest = line.strip_prefix(r#"{"type":"short","shape":"#)?;
        let (shape, rest) = rest.split_once(',')?;
        rest.ends_with("]}\n").then_some(Self {
            shape: shape.parse().ok()?,
            numbers: Vec::new(),
        })
    }
}

impl From<ShortLine> for Short {
    fn from(line: ShortLine) -> Self {
        Self {
            shape: line.shape,
            numbers: line.n,
        }
    }
}

/// Writes probes in short.
#[derive(Debug, Default)]
pub struct Shorts {
    /// By target (none: empty) and by what they look like.
    shapes: HashMap<String, HashMap<Look, u32>>,
    count: u32,
    /// How many names were known when the first of them was written.
    names: usize,
}

/// A probe whose numbers are 0.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Look {
    probe: Probe,
    breakdown: Option<Breakdown>,
    verdict: Option<Verdict>,
}

impl Shorts {
    /// The lines of a recorded probe: its shape, if it is new, and its numbers. A lost probe, and one of which more is
    /// said, has its whole line.
    pub fn lines(&mut self, result: &ProbeResult, names: &Names, target: Option<&str>) -> String {
        if result.loss.is_some() || !result.blame.is_empty() {
            let line = probe_line(result, names);
            return target.map_or_else(|| line.clone(), |target| of_target(&line, target)) + "\n";
        }
        let mut zeroed = result.clone();
        if let Some(breakdown) = &mut zeroed.breakdown {
            // As in the whole line: the clock model says it again when the probes are replayed.
            breakdown.wire = None;
        }
        let mut numbers = Vec::new();
        let turned = each_number(&mut zeroed, &mut |number, base| {
            let whole = std::mem::take(number);
            numbers.push(whole.wrapping_sub(base).cast_signed());
            Some(whole)
        });
        debug_assert!(turned.is_some(), "numbers of a probe fit");
        let (shape, line) = self.shape(zeroed, names, target);
        let short = ShortLine { shape, n: numbers };
        line + &to_string(&Written::Short(short)) + "\n"
    }

    /// The number of a probe's shape, and its line if it is new.
    fn shape(&mut self, zeroed: ProbeResult, names: &Names, target: Option<&str>) -> (u32, String) {
        let known = names.netns.len() + names.device.len();
        if self.count == MAX_SHAPES || self.names != known {
            *self = Self {
                names: known,
                ..Self::default()
            };
        }
        let look = Look {
            probe: zeroed.probe,
            breakdown: zeroed.breakdown,
            verdict: zeroed.verdict,
        };
        let of_target = self.shapes.get(target.unwrap_or_default());
        if let Some(number) = of_target.and_then(|shapes| shapes.get(&look)) {
            return (*number, String::new());
        }
        let number = self.count;
        self.count += 1;
        let result = ProbeResult {
            breakdown: look.breakdown.clone(),
            verdict: look.verdict,
            ..ProbeResult::new(look.probe.clone())
        };
        let line = to_string(&Written::Shape(Box::new(ShapeLine {
            shape: number,
            target: target.map(Cow::from),
            probe: ProbeLine::new(&result, names),
        })));
        let of_target = self.shapes.entry(target.unwrap_or_default().to_owned());
        of_target.or_default().insert(look, number);
        (number, line + "\n")
    }
}

/// The shapes of a file so far.
#[derive(Debug, Default)]
pub struct Shapes(Vec<Option<Shape>>);

impl Shapes {
    /// From now on this is the shape of its number.
    pub fn learn(&mut self, shape: &Shape) {
        let place = shape.number as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some(Shape {
            target: shape.target.clone(),
            result: shape.result.clone(),
            names: Names::default(),
            ..*shape
        });
    }

    /// Whose probe it is, and what became of it.
    pub fn known(&self, short: &Short) -> Result<(Option<&str>, Status), Error> {
        let shape = self.of(short)?;
        Ok((shape.target.as_deref(), shape.result.probe.status))
    }

    /// The probe; its names are those of its shape.
    pub fn whole(&self, short: &Short) -> Result<ProbeResult, Error> {
        let mut result = self.of(short)?.result.clone();
        let mut numbers = short.numbers.iter();
        let turned = each_number(&mut result, &mut |number, base| {
            *number = numbers.next()?.cast_unsigned().wrapping_add(base);
            Some(*number)
        });
        if turned.is_none() || numbers.next().is_some() {
            let why = format!(
                "the numbers of a probe, which are not those of shape {}",
                short.shape
            );
            return Err(Error::Implausible(why));
        }
        plausible(&result).map_err(Error::Implausible)?;
        Ok(result)
    }

    fn of(&self, short: &Short) -> Result<&Shape, Error> {
        let shape = self.0.get(short.shape as usize).and_then(Option::as_ref);
        let why = || {
            format!(
                "a probe of shape {}, of which no line before it says what it is",
                short.shape
            )
        };
        shape.ok_or_else(|| Error::Implausible(why()))
    }
}

/// Goes through the numbers that differ from probe to probe: `turn` has each of them with the base that it is written
/// relative to, may change it, and returns what it is in truth. None as soon as `turn` says so, or changed one to what
/// cannot be.
fn each_number(
    result: &mut ProbeResult,
    turn: &mut impl FnMut(&mut u64, u64) -> Option<u64>,
) -> Option<()> {
    let probe = &mut result.probe;
    narrow(&mut probe.seq, turn)?;
    let sent = each_stamp(probe, turn)?;
    // The clocks differ by the same from probe to probe.
    let mut unix = probe.sent_unix_ns.cast_unsigned();
    turn(&mut unix, sent)?;
    probe.sent_unix_ns = unix.cast_signed();
    if let Some(breakdown) = &mut result.breakdown {
        turn(&mut breakdown.total_ns, 0)?;
        for delay in &mut breakdown.delays {
            turn(&mut delay.ns, 0)?;
            bounds(&mut delay.bounds, turn)?;
        }
        narrow(&mut breakdown.unordered, turn)?;
        for part in &mut breakdown.way {
            turn(&mut part.ns, 0)?;
            turn(&mut part.base_ns, 0)?;
            for time in part.directions.iter_mut().flatten() {
                turn(&mut time.ns, 0)?;
                bounds(&mut time.bounds, turn)?;
            }
        }
    }
    if let Some(verdict) = &mut result.verdict {
        turn(&mut verdict.excess_ns, 0)?;
        bounds(&mut verdict.bounds, turn)?;
        if let Some(cpu) = &mut verdict.cpu {
            narrow(cpu, turn)?;
        }
    }
    Some(())
}

/// Stamps, each relative to the one before of the same host. Returns when the probe was sent.
fn each_stamp(
    probe: &mut Probe,
    turn: &mut impl FnMut(&mut u64, u64) -> Option<u64>,
) -> Option<u64> {
    let mut before: Vec<(Host, u64)> = Vec::with_capacity(2);
    let mut sent = 0;
    for stamp in &mut probe.path {
        let of_host = before.iter_mut().find(|(host, _)| *host == stamp.host);
        let base = of_host.as_ref().map_or(0, |(_, ns)| *ns);
        let ns = turn(&mut stamp.ns, base)?;
        match of_host {
            Some((_, before)) => *before = ns,
            None => before.push((stamp.host, ns)),
        }
        if let Some(cpu) = &mut stamp.cpu {
            narrow(cpu, turn)?;
        }
        if stamp.point == Point::LTxUser && sent == 0 {
            sent = ns;
        }
    }
    Some(sent)
}

fn bounds(
    bounds: &mut Option<(u64, u64)>,
    turn: &mut impl FnMut(&mut u64, u64) -> Option<u64>,
) -> Option<()> {
    if let Some((lo, hi)) = bounds {
        let lo = turn(lo, 0)?;
        turn(hi, lo)?;
    }
    Some(())
}

fn narrow<N: Copy + Into<u64> + TryFrom<u64>>(
    number: &mut N,
    turn: &mut impl FnMut(&mut u64, u64) -> Option<u64>,
) -> Option<()> {
    let mut wide = (*number).into();
    turn(&mut wide, 0)?;
    *number = N::try_from(wide).ok()?;
    Some(())
}

//! The flows of a run, and which of them differ from the others.
//!
//! A network with several ways to one host (ECMP, a bond) picks one by a hash of the packet, so all
//! probes of a flow go the same way, and one bad way shows in some flows only. Flows take turns: what
//! happens to all ways at once happens to all flows alike. So each flow is a random sample of the run
//! unless its way differs, and how likely a sample has so many of the lost probes, or of those above a
//! percentile of all, is exact (hypergeometric, Fisher's test). The worst flow, the worst two and so on are
//! held against the others; of the group with the least chance each flow differs, if that chance times the
//! number of groups that there are (Bonferroni) is below one in a thousand, and the difference is worth a
//! word. Then the same is asked of those that are left.

use crate::analysis::distribution::Distribution;
use crate::analysis::quantile::Quantile;
use crate::model::{Above, FlowStat, Probe, Status};
use crate::units::duration;

/// How likely a difference by chance may be, of all groups of flows together.
const CHANCE: f64 = 1e-3;
/// Lost probes of a flow that are worth a word.
const MIN_LOST: u64 = 3;
/// A flow is slower if it takes longer by at least this share of what the others take.
const MIN_SLOWER: f64 = 0.1;
/// Flows that a sentence names.
const MAX_NAMED: usize = 8;

/// The probes of each flow of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Flows(Vec<Flow>);

#[derive(Clone, Debug)]
struct Flow {
    lost: u64,
    totals: Distribution,
}

impl Flows {
    /// Two significant digits: the difference of flows, not their delay, is asked for.
    const DIGITS: u8 = 2;

    fn flow(&mut self, flow: u8) -> &mut Flow {
        let needed = usize::from(flow) + 1;
        if self.0.len() < needed {
            let none = Flow {
                lost: 0,
                totals: Distribution::new(Self::DIGITS),
            };
            self.0.resize(needed, none);
        }
        &mut self.0[usize::from(flow)]
    }

    /// Counts an answered probe, which took `total_ns`.
    pub fn answered(&mut self, probe: &Probe, total_ns: u64) {
        let flow = self.flow(probe.flow);
        if probe.status == Status::Amended {
            flow.lost = flow.lost.saturating_sub(1);
        }
        flow.totals.record(total_ns);
    }

    /// Counts a lost probe of a flow.
    pub fn lost(&mut self, flow: u8) {
        self.flow(flow).lost += 1;
    }

    /// What became of each; empty if all probes are one flow.
    pub fn stats(&self) -> Vec<FlowStat> {
        let [_, _, ..] = self.0.as_slice() else {
            return Vec::new();
        };
        let mut all = Distribution::new(Self::DIGITS);
        self.0.iter().for_each(|flow| all.add(&flow.totals));
        let limits = [Quantile::P50, Quantile::P99].map(|quantile| all.quantile(quantile));
        let stat = |(number, flow): (usize, &Flow)| {
            let totals = &flow.totals;
            let [p50, p99] = limits.map(|limit| totals.above(limit));
            FlowStat {
                flow: number as u8,
                replied: totals.count(),
                lost: flow.lost,
                above: Above { p50, p99 },
                total: (totals.count() > 0).then(|| totals.stat(None)),
            }
        };
        self.0.iter().enumerate().map(stat).collect()
    }
}

/// The flows that differ from the others, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Different {
    /// They lose more.
    pub losing: Vec<u8>,
    /// Their median is higher.
    pub slower: Vec<u8>,
    /// Their 99th percentile is higher, and not the median.
    pub slower_at_times: Vec<u8>,
}

impl Different {
    /// Of the flows of a run.
    pub fn new(flows: &[FlowStat]) -> Self {
        let losing = outliers(flows, |flow| (flow.sent(), flow.lost), loses_more);
        let slower = outliers(
            flows,
            |flow| (flow.replied, flow.above.p50),
            |flow, rest| is_slower(flow, rest, median),
        );
        let others: Vec<FlowStat> = without(flows, &slower).cloned().collect();
        let at_times = |flow: &FlowStat| (flow.replied, flow.above.p99);
        let slower_at_times = outliers(&others, at_times, |flow, rest| is_slower(flow, rest, p99));
        Self {
            losing,
            slower,
            slower_at_times,
        }
    }

    /// None does.
    pub fn is_empty(&self) -> bool {
        self.numbers().next().is_none()
    }

    /// All of them.
    pub fn numbers(&self) -> impl Iterator<Item = u8> {
        let slower = self.slower.iter().chain(&self.slower_at_times);
        self.losing.iter().chain(slower).copied()
    }

    /// `flow 3 of 8 loses 12 % (30 of 250), the others none`.
    pub fn loss(&self, flows: &[FlowStat]) -> Option<String> {
        let one = !self.losing.is_empty();
        one.then(|| {
            let verb = verb(&self.losing, "loses", "lose");
            let share = |flows: &mut dyn Iterator<Item = &FlowStat>| {
                let (sent, lost) = flows.fold((0, 0), |(sent, lost), flow| {
                    (sent + flow.sent(), lost + flow.lost)
                });
                match lost {
                    0 => "none".to_owned(),
                    lost if lost == sent => format!("all ({sent})"),
                    lost => format!("{} % ({lost} of {sent})", percent(lost, sent)),
                }
            };
            let theirs = share(&mut within(flows, &self.losing));
            let others = share(&mut without(flows, &self.losing));
            format!(
                "{} {verb} {theirs}, the others {others}",
                names(&self.losing, flows)
            )
        })
    }

    /// `flow 3 of 8 is 4.10 ms slower than the others (median 4.20 ms, not 98.0 us)`.
    pub fn delay(&self, flows: &[FlowStat]) -> Option<String> {
        let sentence = |numbers: &[u8], what: &str, of: fn(&FlowStat) -> u64| {
            let typical = |flows: &mut dyn Iterator<Item = &FlowStat>| {
                let mut all: Vec<u64> = flows.filter(|flow| flow.replied > 0).map(of).collect();
                all.sort_unstable();
                all.get(all.len() / 2).copied().unwrap_or(0)
            };
            let theirs = typical(&mut within(flows, numbers));
            let others = typical(&mut without(flows, numbers));
            let (names, verb) = (names(numbers, flows), verb(numbers, "is", "are"));
            let [by, theirs, others] =
                [theirs.saturating_sub(others), theirs, others].map(duration);
            format!("{names} {verb} {by} slower than the others ({what} {theirs}, not {others})")
        };
        match (self.slower.as_slice(), self.slower_at_times.as_slice()) {
            ([], []) => None,
            ([], numbers) => Some(sentence(numbers, "p99", p99)),
            (numbers, _) => Some(sentence(numbers, "median", median)),
        }
    }
}

/// `12`, `1.2`, `0.07`.
fn percent(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole as f64;
    let digits = match percent {
        10.0.. => 0,
        1.0.. => 1,
        _ => 2,
    };
    format!("{percent:.digits$}")
}

fn median(flow: &FlowStat) -> u64 {
    flow.total.as_ref().map_or(0, |total| total.p50)
}

fn p99(flow: &FlowStat) -> u64 {
    flow.total.as_ref().map_or(0, |total| total.p99)
}

/// The flows with these numbers.
fn within<'a>(flows: &'a [FlowStat], numbers: &'a [u8]) -> impl Iterator<Item = &'a FlowStat> {
    flows.iter().filter(|flow| numbers.contains(&flow.flow))
}

/// All others.
fn without<'a>(flows: &'a [FlowStat], numbers: &'a [u8]) -> impl Iterator<Item = &'a FlowStat> {
    flows.iter().filter(|flow| !numbers.contains(&flow.flow))
}

/// `flows 1, 3 of 8`.
fn names(numbers: &[u8], flows: &[FlowStat]) -> String {
    let named = numbers.iter().take(MAX_NAMED);
    let named: Vec<String> = named.map(u8::to_string).collect();
    let more = match numbers.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let word = verb(numbers, "flow", "flows");
    format!("{word} {}{more} of {}", named.join(", "), flows.len())
}

fn verb<'a>(numbers: &[u8], one: &'a str, several: &'a str) -> &'a str {
    if numbers.len() == 1 { one } else { several }
}

fn loses_more(flow: &FlowStat, _: &[&FlowStat]) -> bool {
    flow.lost >= MIN_LOST
}

/// Whether a flow takes longer than the flows in the middle of the rest, by as much as is worth a word.
fn is_slower(flow: &FlowStat, rest: &[&FlowStat], of: fn(&FlowStat) -> u64) -> bool {
    let mut others: Vec<u64> = rest.iter().map(|flow| of(flow)).collect();
    others.sort_unstable();
    let usual = others.get(others.len() / 2).copied().unwrap_or(u64::MAX);
    of(flow) as f64 >= usual as f64 * (1.0 + MIN_SLOWER)
}

/// The flows with more of something than chance gives them: `of` says how many probes of a flow there
/// are, and how many of them have it. `is_worth` is asked of a flow, and of those that are left.
fn outliers(
    flows: &[FlowStat],
    of: impl Fn(&FlowStat) -> (u64, u64),
    is_worth: impl Fn(&FlowStat, &[&FlowStat]) -> bool,
) -> Vec<u8> {
    let share = |flow: &FlowStat| {
        let (all, with) = of(flow);
        with as f64 / all.max(1) as f64
    };
    let mut rest: Vec<&FlowStat> = flows.iter().collect();
    rest.sort_by(|one, two| share(two).total_cmp(&share(one)));
    let mut found = Vec::new();
    loop {
        let counts: Vec<(u64, u64)> = rest.iter().map(|flow| of(flow)).collect();
        let Some(worst) = worst(&counts) else { break };
        let (group, left) = rest.split_at(worst);
        let worth = group.iter().filter(|flow| is_worth(flow, left));
        let before = found.len();
        found.extend(worth.map(|flow| flow.flow));
        if found.len() == before {
            break;
        }
        rest.drain(..worst);
    }
    found.sort_unstable();
    found
}

/// How many of the flows, which are sorted by the share that has it, have more of it than the others by the
/// least chance; none if that is chance enough.
fn worst(counts: &[(u64, u64)]) -> Option<usize> {
    let add =
        |(all, with): (u64, u64), (more, more_with): &(u64, u64)| (all + more, with + more_with);
    let (all, with) = counts.iter().fold((0, 0), add);
    let mut group = (0, 0);
    let chances = (1..counts.len()).map(|size| {
        group = add(group, &counts[size - 1]);
        let (sampled, hits) = group;
        let groups = ln_choose(counts.len() as u64, size as u64);
        let sizes = (counts.len() as f64).ln();
        (ln_at_least(hits, sampled, with, all) + groups + sizes, size)
    });
    let (chance, size) = chances.min_by(|(one, _), (two, _)| one.total_cmp(two))?;
    (chance < CHANCE.ln()).then_some(size)
}

/// How likely at least `hits` of `sampled` are among the `marked`, if these were taken from `all` by chance:
/// the natural logarithm.
fn ln_at_least(hits: u64, sampled: u64, marked: u64, all: u64) -> f64 {
    let expected = sampled as f64 * marked as f64 / all.max(1) as f64;
    if hits as f64 <= expected {
        return 0.0;
    }
    let missing = all - marked;
    let first =
        ln_choose(marked, hits) + ln_choose(missing, sampled - hits) - ln_choose(all, sampled);
    // Each term is the one before it times a factor that is below 1 and shrinks.
    let (mut term, mut sum) = (1.0, 1.0);
    for hit in hits..marked.min(sampled) {
        let up = (marked - hit) as f64 * (sampled - hit) as f64;
        let down = (hit + 1) as f64 * (missing + hit + 1 - sampled) as f64;
        term *= up / down;
        sum += term;
        if term < sum * 1e-9 {
            break;
        }
    }
    (first + f64::ln(sum)).min(0.0)
}

/// Natural logarithm of the number of ways to take some of many.
fn ln_choose(many: u64, some: u64) -> f64 {
    ln_factorial(many) - ln_factorial(some) - ln_factorial(many - some)
}

/// Natural logarithm of a factorial: exact sums below 32, Stirling's series from there.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    let x = n as f64;
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x)
        - 1.0 / (360.0 * x * x * x)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::DelayStat;

    /// Of 250 probes a flow: this many lost, and the others at this median.
    pub(crate) fn flow(flow: u8, lost: u64, p50: u64) -> FlowStat {
        let stat = DelayStat {
            segment: None,
            count: 250 - lost,
            min: p50,
            mean: p50 as f64,
            p50,
            p90: p50,
            p99: p50,
            p999: p50,
            max: p50,
        };
        FlowStat {
            flow,
            replied: 250 - lost,
            lost,
            above: Above {
                p50: if p50 > 100_000 {
                    250 - lost
                } else {
                    (250 - lost) / 2
                },
                p99: (250 - lost) / 100,
            },
            total: (lost < 250).then_some(stat),
        }
    }

    fn eight(odd: &[(usize, u64, u64)]) -> Vec<FlowStat> {
        let mut all: Vec<FlowStat> = (0..8).map(|number| flow(number, 0, 98_000)).collect();
        for &(number, lost, p50) in odd {
            all[number] = flow(number as u8, lost, p50);
        }
        all
    }

    fn said(flows: &[FlowStat]) -> [Option<String>; 2] {
        let different = Different::new(flows);
        [different.loss(flows), different.delay(flows)]
    }

    #[test]
    fn the_flow_that_loses_is_named() {
        let [loss, delay] = said(&eight(&[(3, 30, 98_000)]));
        let sentence = "flow 3 of 8 loses 12 % (30 of 250), the others none";
        assert_eq!(loss.as_deref(), Some(sentence));
        assert_eq!(delay, None);
        let [loss, _] = said(&eight(&[(3, 250, 0), (6, 250, 0), (7, 1, 98_000)]));
        let sentence = "flows 3, 6 of 8 lose all (500), the others 0.07 % (1 of 1500)";
        assert_eq!(loss.as_deref(), Some(sentence));
    }

    #[test]
    fn the_next_one_is_measured_against_those_that_are_left() {
        let flows = eight(&[(3, 200, 98_000), (5, 20, 98_000)]);
        assert_eq!(Different::new(&flows).losing, [3, 5]);
    }

    #[test]
    fn a_few_lost_probes_are_chance() {
        for lost in [1, 2, 4] {
            assert!(
                Different::new(&eight(&[(3, lost, 98_000)])).is_empty(),
                "{lost}"
            );
        }
        let everywhere: Vec<_> = (0..8).map(|k| (k, 25 + k as u64, 98_000)).collect();
        assert!(Different::new(&eight(&everywhere)).is_empty());
    }

    #[test]
    fn the_slow_flow_is_named_with_its_difference() {
        let [loss, delay] = said(&eight(&[(3, 0, 4_198_000)]));
        let sentence =
            "flow 3 of 8 is 4.10 ms slower than the others (median 4.20 ms, not 98.0 us)";
        assert_eq!((loss, delay.as_deref()), (None, Some(sentence)));
        // Surely different, and by 4 us.
        assert_eq!(said(&eight(&[(3, 0, 102_000)])), [None, None]);
    }

    #[test]
    fn a_flow_that_is_slow_at_times_is_named_by_its_percentile() {
        let mut flows = eight(&[]);
        flows[5].above.p99 = 30;
        flows[5].total.as_mut().unwrap().p99 = 5_098_000;
        let [_, delay] = said(&flows);
        let sentence = "flow 5 of 8 is 5.00 ms slower than the others (p99 5.10 ms, not 98.0 us)";
        assert_eq!(delay.as_deref(), Some(sentence));
    }

    #[test]
    fn chance_is_the_hypergeometric_one() {
        // In exact integers.
        for (hits, sampled, marked, all, exact) in [
            (5, 12, 5, 96, 1.295_725e-5),
            (3, 12, 3, 96, 1.539_754e-3),
            (1, 10, 5, 100, 0.416_248),
            (30, 250, 60, 2_000, 6.159_505e-13),
            (2, 5, 3, 10, 0.5),
        ] {
            let chance = ln_at_least(hits, sampled, marked, all).exp();
            assert!(
                (chance / exact - 1.0).abs() < 1e-5,
                "{chance:e} for {exact:e}"
            );
        }
        // Expected anyway.
        assert!(ln_at_least(0, 0, 0, 0).abs() < f64::EPSILON);
    }

    #[test]
    fn flows_of_one_kind_are_rarely_named() {
        // A linear congruential generator: 400 runs of 8 flows, 100 probes each, 5 % lost at random.
        let mut state = 1_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let mut named = 0;
        for _ in 0..400 {
            let flows: Vec<FlowStat> = (0..8)
                .map(|number| {
                    let lost = (0..100).filter(|_| random() < 0.05).count() as u64;
                    FlowStat {
                        replied: 100 - lost,
                        lost,
                        above: Above::default(),
                        ..flow(number, 0, 98_000)
                    }
                })
                .collect();
            named += usize::from(!Different::new(&flows).losing.is_empty());
        }
        assert!(named <= 3, "{named}");
    }
}

//! A mesh from the series of a Prometheus.

use super::prometheus::{Body, Fetched};
use anyhow::{Result, bail};
use report::analysis::mesh::{Builder, Measured};
use report::format::prometheus::Series;
use report::model::{Cell, Certainty, Faults, Owner, Place, Side};
use std::collections::BTreeMap;

/// Targets that found no room in the metrics of a host are one.
const NO_ROOM: &str = "other";

/// What is known of a pair; counts have fractions, as Prometheus extrapolates.
#[derive(Default)]
struct Pair {
    group: Option<String>,
    sent: f64,
    lost: f64,
    p99_s: Option<f64>,
    slow: Faults,
    losses: Faults,
}

/// By the host that probes and its target.
type Pairs = BTreeMap<(String, String), Pair>;

/// Reads what was received.
pub(super) fn read(from: &Fetched, into: &mut Builder) -> Result<()> {
    let mut pairs = Pairs::new();
    results(from, &mut pairs, into)?;
    p99(from, &mut pairs)?;
    from.each(&from.slow, &mut pairs, |pair, series| {
        pair.add_slow(series);
    })?;
    from.each(&from.lost, &mut pairs, |pair, series| {
        let place = Place::from_name(label(series, "place")).unwrap_or(Place::Unknown);
        let side = Side::of_place(place);
        pair.losses
            .add(side, place.direction(), count(series.value));
    })?;
    without_room(&mut pairs);
    for ((host, target), pair) in pairs {
        into.add(pair.measured(host, target));
    }
    Ok(())
}

/// Probes, and when.
fn results(from: &Fetched, pairs: &mut Pairs, into: &mut Builder) -> Result<()> {
    let mut time_s = None;
    let others = from.each(&from.results, pairs, |pair, series| {
        time_s = Some(series.time_s);
        pair.sent += series.value;
        if label(series, "result") == "lost" {
            pair.lost += series.value;
        }
        let group = label(series, &from.group);
        if !group.is_empty() {
            pair.group = Some(group.to_owned());
        }
    })?;
    if others > 0 {
        bail!(
            "{others} series of pingtrace_probes_total have no label '{}' (--host-label)",
            from.host_label
        );
    }
    let Some(time_s) = time_s else {
        bail!(
            "{} has no pingtrace_probes_total of that time (--range, --end, --select): do the hosts serve --metrics, and \
             are they scraped?",
            from.url()
        );
    };
    let end_ns = (time_s * 1e9) as i64;
    into.during(end_ns.saturating_sub(from.range_ns), end_ns);
    Ok(())
}

/// Native histograms count where there are some.
fn p99(from: &Fetched, pairs: &mut Pairs) -> Result<()> {
    let [native, classic] = &from.p99;
    from.each(native, pairs, |pair, series| {
        pair.p99_s = Some(series.value).filter(|p99| p99.is_finite());
    })?;
    let mut by_classic = 0;
    from.each(classic, pairs, |pair, series| {
        if pair.p99_s.is_none() && series.value.is_finite() {
            by_classic += 1;
            pair.p99_s = Some(series.value);
        }
    })?;
    if by_classic > 0 {
        log::warn!(
            "{by_classic} pairs have classic histograms only: their p99 is known to a factor of two, with native ones to 9 %"
        );
    }
    let answered = |pair: &&Pair| pair.sent - pair.lost >= 1.0;
    let answered: Vec<_> = pairs.values().filter(answered).collect();
    let unknown = answered.iter().filter(|p| p.p99_s.is_none()).count();
    if unknown == 0 {
        return Ok(());
    }
    if unknown < answered.len() {
        log::warn!("{unknown} pairs were answered, but have no histogram: their p99 is not known");
        return Ok(());
    }
    bail!(
        "{} has counters, but no histogram pingtrace_rtt_seconds: Prometheus keeps native ones with \
         --enable-feature=native-histograms only (3.8 and later: scrape_native_histograms: true); classic ones are \
         served with --metrics-classic",
        from.url()
    )
}

/// What cannot be attributed is left out, and said.
fn without_room(pairs: &mut Pairs) {
    let mut probes = 0.0;
    pairs.retain(|(_, target), pair| {
        let has_room = target != NO_ROOM;
        probes += if has_room { 0.0 } else { pair.sent };
        has_room
    });
    if probes > 0.0 {
        log::warn!(
            "{probes:.0} probes are left out: in the metrics their targets found no room (target=\"{NO_ROOM}\")"
        );
    }
}

impl Fetched {
    /// The pairs of an answer's series; how many series belong to none.
    fn each(
        &self,
        body: &Body,
        pairs: &mut Pairs,
        mut add: impl FnMut(&mut Pair, &Series),
    ) -> Result<usize> {
        let mut others = 0;
        for series in &self.answer(body)?.series {
            let (host, target) = (label(series, &self.host_label), label(series, "target"));
            if host.is_empty() || target.is_empty() {
                others += 1;
                continue;
            }
            let key = (without_port(host).to_owned(), target.to_owned());
            add(pairs.entry(key).or_default(), series);
        }
        Ok(others)
    }
}

impl Pair {
    fn add_slow(&mut self, series: &Series) {
        let owner = Owner::from_name(label(series, "owner")).unwrap_or(Owner::Unknown);
        let segment = label(series, "segment").parse().ok();
        let probes = count(series.value);
        match Certainty::from_name(label(series, "certainty")) {
            Some(Certainty::Sure) => self.slow.add_slow(owner, segment, probes, 0),
            _ => self.slow.add_slow(owner, segment, 0, probes),
        }
    }

    fn measured(self, from: String, target: String) -> Measured {
        let sent = count(self.sent);
        let cell = Cell {
            sent,
            lost: count(self.lost).min(sent),
            p99_ns: self.p99_s.map(|seconds| (seconds * 1e9) as u64),
            slow: self.slow,
            losses: self.losses,
            ..Cell::default()
        };
        Measured {
            from,
            to: vec![target],
            group: self.group,
            cell,
        }
    }
}

fn label<'a>(series: &'a Series, name: &str) -> &'a str {
    series.labels.get(name).map_or("", |value| value)
}

fn count(value: f64) -> u64 {
    value.round() as u64
}

/// `web1` of `web1:9500`, `fd00::1` of `[fd00::1]:9500`.
fn without_port(instance: &str) -> &str {
    let host = match instance.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !is_address(instance) => host,
        _ => instance,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn a_host_has_no_port() {
        for (instance, host) in [
            ("web1:9500", "web1"),
            ("10.0.0.1:9500", "10.0.0.1"),
            ("[fd00::1]:9500", "fd00::1"),
            ("fd00::1", "fd00::1"),
            ("web1", "web1"),
            ("https://web1", "https://web1"),
        ] {
            assert_eq!(without_port(instance), host);
        }
    }
}

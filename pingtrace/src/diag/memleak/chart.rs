//! The picture of memleak.

use super::findings::Findings;
use super::monitor::{Monitor, SNAPSHOTS};
use super::sites::{Found, label, total};
use crate::kernel::host;
use crate::units::Time;
use report::companion::memleak::{Suspect, suspects};
use report::companion::{Bar, Bars, Chart, Panel, Series, Stacked, Unit};

/// Series in the picture; the rest is summed into one more.
const SERIES: usize = 7;

/// Bytes by site over time, and the largest sites; if nothing was followed, what grew.
pub fn new(monitor: &Monitor<'_>, findings: &Findings) -> Chart {
    let judgement = &findings.judgement;
    let seconds = monitor.begun.elapsed().as_secs_f64();
    Chart {
        title: format!(
            "memleak on {}, {seconds:.0} s",
            host::name().unwrap_or_default()
        ),
        headline: judgement.headline(),
        second: judgement.what.clone(),
        panels: if findings.sites.is_empty() {
            vec![grown(monitor)]
        } else {
            vec![stacked(monitor, &findings.sites), largest(&findings.sites)]
        },
        notes: monitor.notes.join("; "),
    }
}

fn stacked(monitor: &Monitor<'_>, sites: &[Found]) -> Panel {
    let values = |site: &Found| site.series.iter().map(|(_, b)| *b as f64).collect();
    let name = |site: &Found| match &site.row.cache {
        Some(cache) => format!("{} ({cache})", label(&site.row.site)),
        None => label(&site.row.site),
    };
    let mut series: Vec<Series> = sites
        .iter()
        .take(SERIES)
        .map(|site| Series {
            name: name(site),
            values: values(site),
        })
        .collect();
    let others: Vec<&Found> = sites.iter().skip(SERIES).collect();
    if !others.is_empty() {
        let values = total(&others).into_iter().map(|(_, b)| b as f64).collect();
        let name = format!("{} others", others.len());
        series.push(Series { name, values });
    }
    let length = series.iter().map(|s| s.values.len()).max().unwrap_or(0);
    for one in &mut series {
        one.values.resize(length, 0.0);
    }
    let (start_unix_ns, step_ns) = steps(monitor, monitor.since);
    Panel::Stacked(Stacked {
        heading: "allocated since the start and still there, by site".to_owned(),
        unit: Unit::Bytes,
        start_unix_ns,
        step_ns,
        series,
        empty: "Nothing that was followed stays.".to_owned(),
    })
}

/// The time of a snapshot (ns since the Unix epoch), and the time between two, ns.
fn steps(monitor: &Monitor<'_>, first: usize) -> (i64, u64) {
    let now = Time::now();
    let at = monitor.snapshots.get(first).map_or(now.ns, |s| s.ns);
    let ago = now.ns.saturating_sub(at).cast_signed();
    (
        now.unix_ns - ago,
        monitor.args.time.as_nanos() as u64 / u64::from(SNAPSHOTS),
    )
}

fn largest(sites: &[Found]) -> Panel {
    let bar = |site: &Found| Bar {
        name: label(&site.row.site),
        value: site.row.bytes,
        text: format!("{} objects", site.row.live),
    };
    Panel::Bars(Bars {
        heading: "who holds most".to_owned(),
        unit: Unit::Bytes,
        bars: sites.iter().take(2 * SERIES).map(bar).collect(),
        empty: "Nothing.".to_owned(),
    })
}

fn grown(monitor: &Monitor<'_>) -> Panel {
    let mut all = suspects(&monitor.snapshots, monitor.accounting.reclaimable());
    all.retain(|s| s.trend.grown > 0);
    let bar = |suspect: &Suspect| Bar {
        name: suspect.what(),
        value: suspect.trend.grown.cast_unsigned(),
        text: format!("rises with {:.2}", suspect.trend.rising),
    };
    Panel::Bars(Bars {
        heading: "what has grown".to_owned(),
        unit: Unit::Bytes,
        bars: all.iter().take(2 * SERIES).map(bar).collect(),
        empty: "Nothing.".to_owned(),
    })
}

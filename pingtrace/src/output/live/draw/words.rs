//! The sentences of the view.

use crate::output::live::state::View;
use crate::output::live::target::Target;
use chrono::{DateTime, Local};
use report::model::{ClockRelation, Counters};
use report::units::{duration, share};

/// The keys of a live run.
pub const KEYS: &str =
    "q quit  p pause  Enter open  Esc back  +/- threshold  s sort  i picture  ? help";
/// Of a saved one.
pub const SAVED_KEYS: &str =
    "q quit  Left Right PgUp PgDn Home End: time  Enter open  +/- threshold  ? help";

/// What the keys do.
pub const HELP: &str = "\
The live view

q             quit; the summary is printed (so does Ctrl-C)
p, space      pause: the view stands still, the run goes on
s             sort the table of targets: loss and p99, p99, slow probes, name
+  -          what counts as slow here; the outputs keep the run's threshold
i             save a picture of the target, and say its name
up, down      choose a probe, or a target
Enter         open it: a target's path, a probe's breakdown
Esc           back
left, right   a saved run: a hundredth of it back or on; Page Up, Page Down: a tenth;
              Home, End: its start, its end
?             this help

now           the latest answered probe
p50 p99 max   of all probes so far
history       the largest value of each second, the latest one last
~ * ! ?       estimate, includes a neighbour, cut at the wire's base, not all was seen
              (pingtrace segments explains each segment)

Any key goes back.";

/// `web1 (10.0.0.2): every 10.0 ms, mode inband, for 1.50 min`
pub fn head(view: &View, target: &Target) -> String {
    let run = &target.run;
    let every = run.interval_ns.map_or_else(
        || "as fast as answered".to_owned(),
        |interval| format!("every {}", duration(interval)),
    );
    let (name, mode) = (target.name(), &run.mode);
    let head = format!("{name}: {every}, mode {mode}");
    if let Some((start, end, now)) = moment(view) {
        return format!("{head}, at {now} of {start} to {end}");
    }
    let elapsed = target.present.as_ref().map_or(0, |now| now.elapsed_ns);
    let paused = if view.is_paused() { "  PAUSED" } else { "" };
    format!("{head}, for {}{paused}", duration(elapsed))
}

/// The moment of a saved run: its start, its end, and what is shown, as times of the day.
fn moment(view: &View) -> Option<(String, String, String)> {
    let history = view.history.as_ref()?;
    let (start, end) = history.span()?;
    let time = |ns| {
        let time = DateTime::from_timestamp_nanos(ns).with_timezone(&Local);
        time.format("%H:%M:%S").to_string()
    };
    Some((time(start), time(end), time(history.moment()?)))
}

/// What became of the probes.
pub fn counts(target: &Target) -> String {
    let Counters {
        sent,
        replied,
        lost,
        late,
        ..
    } = target.counters();
    let part = share(lost, sent, 2);
    format!("sent {sent}, received {replied}, lost {lost}{part}, late {late}")
}

/// How many are slow, and from which duration on, and what is known of the server's clock.
pub fn slow(view: &View, target: &Target) -> String {
    let clock = clock(target);
    let Some(ns) = view.threshold_of(target) else {
        return clock;
    };
    let (slow, recent) = target.slow_of_recent(ns);
    let by = match view.threshold_ns {
        Some(_) => "",
        None if target.run.threshold_ns > 0 => ", as given",
        None => ", learnt",
    };
    let from = duration(ns);
    format!("slow {slow} of the last {recent} ({from} or more{by}); {clock}")
}

fn clock(target: &Target) -> String {
    let present = target.present.as_ref();
    let clock = present.and_then(|now| now.clock.as_ref());
    let is_one = target
        .events
        .back()
        .is_some_and(|result| result.probe.clock == ClockRelation::Same);
    match clock {
        Some(clock) => format!(
            "clocks: {}, {:+.2} ppm",
            clock.state.label(),
            clock.rate_ppm
        ),
        None if is_one => "clocks: one for both ends".to_owned(),
        None => "clocks: no estimate".to_owned(),
    }
}

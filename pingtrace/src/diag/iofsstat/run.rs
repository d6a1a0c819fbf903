//! Cycle after cycle, until the time is over.

use super::args::{Args, Mode};
use super::cycle::{Cycle, Monitor};
use super::devices::Selected;
use super::history::History;
use super::programs::Programs;
use crate::control::Control;
use crate::exit::Usage;
use crate::kernel::confine::{Mode as Confined, confine};
use crate::kernel::ids::Ids;
use crate::kernel::object::Storage;
use crate::kernel::process::Process;
use crate::output::companion::Sink;
use anyhow::Result;
use report::companion::Row;
use report::companion::iofsstat::rows::{block_header, device_header, file_header};
use std::time::Instant;

/// Takes cycles until the time is over or a signal ends it.
pub fn run(args: &Args, control: &Control) -> Result<()> {
    let selected = args.device.as_deref().map(Selected::find).transpose()?;
    let process = args.pid.map(find_process).transpose()?;
    let mut storage = Storage::uninit();
    let ids = Ids::read()?;
    let mut programs = Programs::attach(&mut storage, args.mode(), &ids)?;
    let mut sink = Sink::open(&args.output(), "iofsstat", "")?;
    let mut monitor = Monitor::new(args, selected, ids, &mut programs)?;
    confine(Confined::Iofsstat, &sink.directories(), &[])?;
    control.part().begins("iofsstat: counts");
    log::info!("counting; a cycle takes {:?}", args.interval);
    let mut history = sink.draws().then(History::default);
    let end = args.end(Instant::now());
    let mut next = Instant::now();
    let mut cycles = 0;
    loop {
        sink.progress(true, || format!("{cycles} cycles of {:?}", args.interval));
        cycles += 1;
        next += args.interval;
        let until = end.map_or(next, |end| next.min(end));
        // Its pages may be written after its end, by others.
        let over = |process: &Process| args.mode() != Mode::Misc && process.has_ended();
        let is_over = || process.as_ref().is_some_and(over);
        let on = control.sleep_unless(until, is_over) && !sink.failed();
        if sink.housekeep(control) {
            sink.report_so_far(monitor.summary(&programs));
        }
        let cycle = monitor.cut(&mut programs)?;
        if let Some(history) = &mut history {
            history.add(&cycle);
        }
        write(&mut sink, args, cycle);
        if !on || end.is_some_and(|end| until >= end) {
            break;
        }
    }
    control.part().stops();
    let mut summary = monitor.summary(&programs);
    if let Some(process) = process.filter(Process::has_ended) {
        let note = format!("process {} (-p) has ended", process.id);
        log::warn!("{note}");
        summary.notes.push(note);
    }
    let (start, cycle) = (sink.start(), args.interval);
    sink.finish(summary.clone(), || {
        let history = history.unwrap_or_default();
        history.chart(start, cycle, args.fs, &summary)
    })
}

fn find_process(pid: u32) -> Result<Process> {
    let missing = || Usage(format!("no process has the id {pid} (-p)"));
    Process::find(pid).ok_or_else(|| missing().into())
}

/// Writes a cycle: devices, then processes, each with its header.
fn write(sink: &mut Sink, args: &Args, cycle: Cycle) {
    sink.heading(&format!(
        "{}  {:.3} s\n",
        cycle.time.text(),
        cycle.ns as f64 / 1e9
    ));
    if !args.nodiskstat {
        sink.heading(&device_header());
        for device in cycle.devices {
            sink.row(&Row::Device(device));
        }
    }
    let header = if args.fs {
        file_header()
    } else {
        block_header()
    };
    sink.heading(&header);
    for io in cycle.rows {
        sink.row(&Row::Io(io));
    }
    for line in cycle.conservation {
        sink.heading(&(line + "\n"));
    }
    sink.heading("\n");
}

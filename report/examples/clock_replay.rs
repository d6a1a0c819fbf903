//! What the clock model says about recorded crossings: `clock_replay WORLD.csv`.
//!
//! The file has a header and at least the columns `seq` and `t1` to `t4`: request leaves the
//! client and arrives at the server, reply leaves the server and arrives at the client, each in
//! nanoseconds of its host's clock.
//!
//! Prints queueing out (`qf`) and in (`qb`) with bounds, phase, rate (ppb), standard deviation of
//! the phase, base round trip and its margin, all nanoseconds, and what was noticed.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::{env, fs, io};

use report::analysis::clock::{ClockModel, Crossing, Event, Glitch};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: clock_replay WORLD.csv")?;
    let text = fs::read_to_string(&path).map_err(|e| format!("read {path}: {e}"))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let place = header.iter().position(|column| *column == name);
        place.ok_or_else(|| format!("{path}: no column {name}"))
    };
    let seq = column("seq")?;
    let places = [column("t1")?, column("t2")?, column("t3")?, column("t4")?];
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(
        out,
        "seq,qf_hat,qb_hat,qf_lo,qf_hi,qb_lo,qb_hi,phi,b_ppb,sd,r0,e,event"
    )?;
    let mut model = ClockModel::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |place: usize| *cells.get(place).unwrap_or(&"");
        let ns = |place: usize| {
            let parsed = cell(place).parse::<u64>();
            parsed.map_err(|e| format!("{path}: {line:?}: {e}"))
        };
        let [left, arrived, returned, back] = [0, 1, 2, 3].map(|at| ns(places[at]));
        let crossing = Crossing::from([left?, arrived?, returned?, back?]);
        writeln!(out, "{},{}", cell(seq), row(&mut model, &crossing))?;
    }
    Ok(())
}

fn row(model: &mut ClockModel, crossing: &Crossing) -> String {
    let found = model.update(crossing);
    let event = match (found.event, found.glitch) {
        (Some(Event::Rate(_)), _) => "rate",
        (Some(Event::Step(_)), _) => "step",
        (Some(Event::Path { .. }), _) => "path",
        (None, Some(Glitch::Unconfirmed)) => "park",
        (None, _) => "",
    };
    let (out, back) = (found.out, found.back);
    format!(
        "{:.1},{:.1},{:.1},{:.1},{:.1},{:.1},{:.1},{},{:.1},{:.1},{:.1},{event}",
        out.ns,
        back.ns,
        out.lo_ns,
        out.hi_ns,
        back.lo_ns,
        back.hi_ns,
        model.phase_ns(),
        shortest(model.rate_ppm() * 1e3),
        model.phase_sd_ns(),
        found.base_ns,
        found.margin_ns,
    )
}

/// To three decimals, without zeros at the end but one.
fn shortest(value: f64) -> String {
    format!("{:?}", (value * 1e3).round() / 1e3)
}

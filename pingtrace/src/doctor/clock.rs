//! Clocks: where stamps come from, and what disciplines them; and what CPUs do while they are idle.

use super::reading::{Setting, Unread, file};
use crate::units::monotonic_ns;
use report::model::{Check, Finding, Measured};
use report::units::duration;
use std::io;

/// Clock sources that are read without leaving the CPU.
const FAST: [&str; 9] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
    "timebase",
    "tod",
    "stick",
    "Constant",
];
/// Readings whose mean is the cost of a stamp in user space.
const READINGS: u64 = 1000;
/// A reading through the vDSO takes less, ns.
const FAST_READING_NS: u64 = 300;
/// An idle state that takes longer to leave is worth a note, us.
const DEEP_US: u64 = 50;
/// Kernel frequency units: 2^-16 ppm.
const FREQUENCY_UNIT: f64 = 65_536.0;
/// The NTP discipline slews no faster, ppm.
const MAX_PPM: f64 = 500.0;

/// What was read.
pub struct Clocks {
    /// The clock source in use.
    pub source: Setting,
    /// Those that the kernel offers.
    pub available: Setting,
    /// A reading of the clock.
    pub reading: Measured,
    /// The kernel's discipline; else why it is not known.
    pub discipline: Result<Discipline, String>,
    /// The deepest enabled idle state: name, and time to leave it, us.
    pub deepest_idle: Option<(String, u64)>,
    /// What sets the frequency of the first CPU.
    pub governor: Option<String>,
}

/// What adjtimex(2) says.
#[derive(Clone, Copy, Debug)]
pub struct Discipline {
    /// Nobody says that the clock is right.
    pub is_unsynchronised: bool,
    /// By how much the clock's rate is changed, ppm.
    pub ppm: f64,
}

impl Clocks {
    /// Reads those of this host.
    pub fn read() -> Self {
        let source = |which| {
            file(format!(
                "/sys/devices/system/clocksource/clocksource0/{which}_clocksource"
            ))
        };
        Self {
            source: source("current"),
            available: source("available"),
            reading: reading(),
            discipline: discipline().map_err(|e| netns::reason(&e)),
            deepest_idle: deepest_idle(),
            governor: file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok(),
        }
    }

    /// What it says.
    pub fn findings(&self) -> Vec<Finding> {
        let optional = [self.idle(), self.governor()];
        let always = [self.source(), self.ntp()];
        always
            .into_iter()
            .chain(optional.into_iter().flatten())
            .collect()
    }

    fn source(&self) -> Finding {
        let check = Check::ClockSource;
        let source = match &self.source {
            Ok(source) => source,
            Err(Unread::Absent(_)) => return Finding::unknown(check, "/sys does not show it"),
            Err(why) => return Finding::unknown(check, why),
        };
        let ns = self.reading.mean_ns;
        let found = format!("{source}, {} a reading", duration(ns));
        if !FAST.contains(&source.as_str()) {
            let offered = self.available.as_deref().unwrap_or_default();
            let better = offered.split(' ').find(|offered| FAST.contains(offered));
            let remedy = match better {
                Some(better) => format!(
                    "echo {better} >/sys/devices/system/clocksource/clocksource0/current_clocksource, and see why the kernel left it: dmesg | grep -i clocksource"
                ),
                None => {
                    "see why the kernel has no faster one: dmesg | grep -i -e tsc -e clocksource"
                        .to_owned()
                }
            };
            return Finding::warning(check, format!("{found}: each stamp takes that long"))
                .remedy(remedy);
        }
        if ns > FAST_READING_NS {
            return Finding::note(
                check,
                format!("{found}: it is read by a system call, or this is an emulated machine"),
            );
        }
        Finding::ok(check, found)
    }

    fn ntp(&self) -> Finding {
        let check = Check::Ntp;
        let discipline = match &self.discipline {
            Ok(discipline) => discipline,
            Err(why) => return Finding::unknown(check, why),
        };
        let Discipline {
            is_unsynchronised,
            ppm,
        } = *discipline;
        let rate = format!("rate changed by {ppm:+.2} ppm");
        if ppm.abs() >= MAX_PPM {
            return Finding::warning(
                check,
                format!("{rate}, the most there is: the clock runs too wrong to be disciplined"),
            )
            .remedy("see the clock source, and `chronyc tracking`");
        }
        if is_unsynchronised {
            return Finding::note(
                check,
                format!("not synchronised ({rate}); pingtrace needs no synchronised clocks, logs of two hosts do"),
            )
            .remedy("chrony, ntpd or systemd-timesyncd");
        }
        Finding::ok(check, format!("synchronised, {rate}"))
    }

    fn idle(&self) -> Option<Finding> {
        let (name, us) = self.deepest_idle.as_ref()?;
        let check = Check::IdleStates;
        let found = format!("the deepest idle state, {name}, takes {us} us to leave");
        Some(if *us >= DEEP_US {
            Finding::note(
                check,
                format!("{found}: a packet that finds its CPU idle waits as long"),
            )
            .remedy("cpupower idle-set -D 10, or hold /dev/cpu_dma_latency open")
        } else {
            Finding::ok(check, found)
        })
    }

    fn governor(&self) -> Option<Finding> {
        let governor = self.governor.as_deref()?;
        let check = Check::Governor;
        Some(if governor == "performance" {
            Finding::ok(check, governor)
        } else {
            Finding::note(
                check,
                format!("{governor}: a CPU that was idle begins slowly"),
            )
            .remedy("cpupower frequency-set -g performance")
        })
    }
}

fn reading() -> Measured {
    let start = monotonic_ns();
    for _ in 0..READINGS {
        std::hint::black_box(monotonic_ns());
    }
    Measured {
        runs: READINGS,
        mean_ns: (monotonic_ns() - start) / READINGS,
    }
}

#[expect(unsafe_code, reason = "no crate wraps adjtimex")]
fn discipline() -> io::Result<Discipline> {
    // SAFETY: plain integers, for which zeros are values; no mode is set, so nothing is changed.
    let (state, status) = unsafe {
        let mut status: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut status), status)
    };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Discipline {
        is_unsynchronised: status.status & libc::STA_UNSYNC != 0,
        ppm: status.freq as f64 / FREQUENCY_UNIT,
    })
}

/// Of the first CPU, as the others are alike.
fn deepest_idle() -> Option<(String, u64)> {
    let states = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cpuidle").ok()?;
    let state = |path: &std::path::Path| -> Option<(String, u64)> {
        let read = |name: &str| file(path.join(name)).ok();
        let is_enabled = read("disable")? == "0";
        is_enabled.then_some((read("name")?, read("latency")?.parse().ok()?))
    };
    let states = states.flatten().filter_map(|entry| state(&entry.path()));
    states.max_by_key(|(_, us)| *us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    fn fine() -> Clocks {
        Clocks {
            source: Ok("tsc".into()),
            available: Ok("tsc hpet acpi_pm".into()),
            reading: Measured {
                runs: 1000,
                mean_ns: 25,
            },
            discipline: Ok(Discipline {
                is_unsynchronised: false,
                ppm: -3.5,
            }),
            deepest_idle: Some(("C1".into(), 2)),
            governor: Some("performance".into()),
        }
    }

    fn one(clocks: &Clocks) -> (Check, Level, String) {
        let found = clocks.findings().into_iter();
        let mut found: Vec<_> = found.filter(|f| f.level != Level::Ok).collect();
        assert_eq!(found.len(), 1, "{found:#?}");
        let found = found.remove(0);
        (found.check, found.level, found.remedy.unwrap_or_default())
    }

    #[test]
    fn good_clocks_have_nothing_to_say() {
        assert!(fine().findings().iter().all(|f| f.level == Level::Ok));
    }

    #[test]
    fn a_slow_source_is_a_warning_and_the_better_one_is_named() {
        let slow = |available: &str| Clocks {
            source: Ok("hpet".into()),
            available: Ok(available.into()),
            ..fine()
        };
        let (check, level, remedy) = one(&slow("tsc hpet"));
        assert_eq!((check, level), (Check::ClockSource, Level::Warning));
        assert!(remedy.starts_with("echo tsc >"), "{remedy}");
        let (_, _, remedy) = one(&slow("hpet acpi_pm"));
        assert!(remedy.contains("dmesg"), "{remedy}");
        for fast in ["kvm-clock", "hyperv_clocksource_tsc_page"] {
            let clocks = Clocks {
                source: Ok(fast.into()),
                ..fine()
            };
            assert!(clocks.findings().iter().all(|f| f.level == Level::Ok));
        }
    }

    #[test]
    fn a_clock_that_nobody_sets_is_a_note_and_one_at_its_limit_a_warning() {
        let disciplined = |is_unsynchronised, ppm| Clocks {
            discipline: Ok(Discipline {
                is_unsynchronised,
                ppm,
            }),
            ..fine()
        };
        assert_eq!(one(&disciplined(true, 0.0)).1, Level::Note);
        assert_eq!(one(&disciplined(false, -500.0)).1, Level::Warning);
        assert_eq!(
            one(&Clocks {
                discipline: Err("x".into()),
                ..fine()
            })
            .0,
            Check::Ntp
        );
    }

    #[test]
    fn cpus_that_save_power_are_a_note() {
        let deep = Clocks {
            deepest_idle: Some(("C6".into(), 133)),
            ..fine()
        };
        assert_eq!(one(&deep).0, Check::IdleStates);
        let slow = Clocks {
            governor: Some("powersave".into()),
            ..fine()
        };
        assert_eq!(one(&slow).0, Check::Governor);
        let none = Clocks {
            deepest_idle: None,
            governor: None,
            ..fine()
        };
        assert_eq!(none.findings().len(), 2);
    }

    #[test]
    fn the_discipline_of_this_host_is_read() {
        let discipline = discipline().unwrap();
        assert!(discipline.ppm.abs() <= MAX_PPM);
    }
}

//! Programs at a device that other people attached: each sees probes, and may delay, drop or redirect them.

use super::attached::{self, Attached};
use crate::server::inband;
use netns::{Filter, Netlink};
use report::model::{Check, Finding};

/// What is at a device.
pub struct Programs {
    /// At clsact and ingress; else why that is not known.
    pub filters: Result<Vec<Filter>, String>,
    /// At TCX, ingress and egress; none where the kernel has none.
    pub tcx: [Result<Vec<Attached>, String>; 2],
    /// The XDP program, and whether the driver runs it.
    pub xdp: Result<Option<(Attached, bool)>, String>,
}

impl Programs {
    /// Those of a device; `is_filtered`: it has a place for filters.
    pub fn read(netlink: &mut Netlink, ifindex: u32, is_filtered: bool) -> Self {
        let said = |e: std::io::Error| netns::reason(&e);
        let tcx = |egress| attached::tcx(ifindex, egress).map_err(said);
        let filters = is_filtered.then(|| netlink.filters(ifindex));
        Self {
            filters: filters.map_or(Ok(Vec::new()), |all| all.map_err(|e| e.to_string())),
            tcx: [false, true].map(|egress| tcx(egress).map(Option::unwrap_or_default)),
            xdp: attached::xdp(ifindex).map_err(said),
        }
    }

    /// What they say of the device.
    pub fn findings(&self, device: &str) -> [Finding; 3] {
        [self.filters(device), self.tcx(device), self.xdp(device)]
    }

    fn filters(&self, device: &str) -> Finding {
        let check = Check::TcFilter;
        let filters = match &self.filters {
            Ok(filters) => filters,
            Err(why) => return Finding::unknown(check, why),
        };
        // Those with handle 0 head the list of a priority.
        let real = filters.iter().filter(|filter| filter.handle != 0);
        let (own, others): (Vec<&Filter>, Vec<_>) = real.partition(|filter| is_own(filter));
        if others.is_empty() {
            return Finding::ok(
                check,
                if own.is_empty() {
                    "none"
                } else {
                    "pingtrace's own"
                },
            );
        }
        let words = others.iter().map(|filter| {
            let name = filter.name.as_deref().unwrap_or(&filter.kind);
            format!("{name} ({})", side(filter.egress))
        });
        others_programs(
            check,
            "tc filters",
            &words.collect::<Vec<_>>(),
            "tc filter show dev {} ingress; tc filter show dev {} egress",
            device,
        )
    }

    fn tcx(&self, device: &str) -> Finding {
        let check = Check::Tcx;
        let mut words = Vec::new();
        let mut has_own = false;
        for (programs, egress) in self.tcx.iter().zip([false, true]) {
            match programs {
                Ok(programs) => {
                    has_own |= programs.iter().any(Attached::is_own);
                    let others = programs.iter().filter(|program| !program.is_own());
                    words.extend(
                        others.map(|program| format!("{} ({})", called(program), side(egress))),
                    );
                }
                Err(why) => return Finding::unknown(check, why).remedy("CAP_NET_ADMIN"),
            }
        }
        if words.is_empty() {
            return Finding::ok(check, if has_own { "pingtrace's own" } else { "none" });
        }
        others_programs(
            check,
            "programs at TCX",
            &words,
            "bpftool net show dev {}",
            device,
        )
    }

    fn xdp(&self, device: &str) -> Finding {
        let check = Check::Xdp;
        match &self.xdp {
            Err(why) => Finding::unknown(check, why),
            Ok(None) => Finding::ok(check, "none"),
            Ok(Some((program, by_driver))) => {
                let (mode, when) = if *by_driver {
                    (
                        "native",
                        "in the driver, before any stamp: its time is r_rx_napi or l_rx_napi",
                    )
                } else {
                    ("generic", "before the stack")
                };
                Finding::note(
                    check,
                    format!(
                        "another's program {} ({mode}) runs {when}; what it drops or redirects is not seen",
                        called(program)
                    ),
                )
                .remedy(format!(
                    "bpftool net show dev {device}; whoever attached it knows what it does with ICMP"
                ))
            }
        }
    }
}

/// Of a pingtrace server, by its fixed handle.
fn is_own(filter: &Filter) -> bool {
    filter.handle == inband::HANDLE
}

fn side(egress: bool) -> &'static str {
    if egress { "egress" } else { "ingress" }
}

fn called(program: &Attached) -> String {
    match &program.name {
        Some(name) => format!("'{name}'"),
        None => format!("number {}", program.id),
    }
}

fn others_programs(
    check: Check,
    what: &str,
    words: &[String],
    show: &str,
    device: &str,
) -> Finding {
    Finding::note(
        check,
        format!(
            "other people's {what}: {}; what they take is the host's time, what they drop or redirect is lost there",
            words.join(", ")
        ),
    )
    .remedy(show.replace("{}", device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    fn none() -> Programs {
        Programs {
            filters: Ok(Vec::new()),
            tcx: [Ok(Vec::new()), Ok(Vec::new())],
            xdp: Ok(None),
        }
    }

    fn program(name: &str) -> Attached {
        Attached {
            id: 7,
            name: Some(name.into()),
        }
    }

    /// What is not ok.
    fn found(programs: &Programs) -> Vec<Finding> {
        let found = programs.findings("eth0").into_iter();
        found.filter(|finding| finding.level != Level::Ok).collect()
    }

    #[track_caller]
    fn one(programs: &Programs, check: Check, words: &str) {
        let found = found(programs);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].check, found[0].level), (check, Level::Note));
        let said = format!("{} {:?}", found[0].found, found[0].remedy);
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn other_peoples_programs_are_named_and_pingtraces_own_are_not() {
        assert_eq!(found(&none()), []);
        let tcx = |name| Programs {
            tcx: [Ok(vec![program(name)]), Ok(Vec::new())],
            ..none()
        };
        one(
            &tcx("cil_from_netdev"),
            Check::Tcx,
            "'cil_from_netdev' (ingress)",
        );
        assert_eq!(found(&tcx("inband_ether")), []);
        let filter = |handle, name: &str| {
            let filter = Filter {
                kind: "bpf".into(),
                name: Some(name.into()),
                handle,
                egress: true,
            };
            let head = Filter {
                handle: 0,
                ..filter.clone()
            };
            Programs {
                filters: Ok(vec![head, filter]),
                ..none()
            }
        };
        one(&filter(1, "shaper.o"), Check::TcFilter, "shaper.o (egress)");
        assert_eq!(found(&filter(inband::HANDLE, "inband_ether")), []);
        let xdp = |program, by_driver| Programs {
            xdp: Ok(Some((program, by_driver))),
            ..none()
        };
        one(
            &xdp(program("lb"), true),
            Check::Xdp,
            "bpftool net show dev eth0",
        );
        let nameless = Attached { id: 7, name: None };
        one(&xdp(nameless, false), Check::Xdp, "number 7 (generic)");
    }

    #[test]
    fn what_may_not_be_asked_is_unknown() {
        let refused = || Err("operation not permitted".to_owned());
        let closed = Programs {
            tcx: [refused(), refused()],
            ..none()
        };
        one(&closed, Check::Tcx, "unknown: operation not permitted");
    }
}

//! The devices of this network namespace: other people's programs, queues, and what a device does to packets.

use super::attached::{self, Attached};
use super::ethtool::{Coalescing, Ethtool, Offloads};
use super::reading::{file, number};
use anyhow::Result;
use netns::{Filter, Link, Netlink, Qdisc};
use report::model::{Check, Finding};

/// Queueing disciplines that hold a packet back only while the device is busy.
const PLAIN: [&str; 8] = [
    "noqueue",
    "mq",
    "fq_codel",
    "fq",
    "pfifo_fast",
    "pfifo",
    "bfifo",
    "sfq",
];
/// Those that drop and delay on purpose.
const EMULATORS: [&str; 2] = ["netem", "blackhole"];
/// Where filters are.
const FILTERED: [&str; 2] = ["clsact", "ingress"];
/// An interrupt that is held back longer than this is a warning, us.
const LONG_US: u32 = 100;
/// `rp_filter`: a packet must arrive by the device by which an answer would leave.
const STRICT: i64 = 1;

/// A device that is up.
pub struct Device {
    /// Its name.
    pub name: String,
    /// Kinds of its disciplines.
    pub qdiscs: Vec<String>,
    /// At clsact and ingress; else why not.
    pub filters: Result<Vec<Filter>, String>,
    /// At TCX, ingress and egress; none where the kernel has none.
    pub tcx: [Result<Vec<Attached>, String>; 2],
    /// The program, and whether the driver runs it.
    pub xdp: Result<Option<(Attached, bool)>, String>,
    /// What it joins and splits.
    pub offloads: Offloads,
    /// How it holds interrupts back.
    pub coalescing: Option<Coalescing>,
    /// The stricter one of the device's and that of all.
    pub rp_filter: Option<i64>,
}

/// Reads those that are up.
pub fn read() -> Result<Vec<Device>> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let qdiscs = netlink.all_qdiscs().unwrap_or_default();
    let ethtool = Ethtool::open()?;
    let all = number(&file("/proc/sys/net/ipv4/conf/all/rp_filter"));
    let up = links.into_iter().filter(|link| link.up);
    Ok(up
        .map(|link| device(&mut netlink, &ethtool, link, &qdiscs, all))
        .collect())
}

fn device(
    netlink: &mut Netlink,
    ethtool: &Ethtool,
    link: Link,
    qdiscs: &[(u32, Qdisc)],
    all_rp_filter: Option<i64>,
) -> Device {
    let own = qdiscs.iter().filter(|(of, _)| *of == link.index);
    let qdiscs: Vec<String> = own.map(|(_, qdisc)| qdisc.kind.clone()).collect();
    let filters = if qdiscs.iter().any(|kind| FILTERED.contains(&kind.as_str())) {
        let filters = netlink.filters(link.index);
        filters.map_err(|e| e.to_string())
    } else {
        Ok(Vec::new())
    };
    let said = |e: std::io::Error| netns::reason(&e);
    let tcx = |egress| {
        attached::tcx(link.index, egress)
            .map(Option::unwrap_or_default)
            .map_err(said)
    };
    let rp_filter = number(&file(format!(
        "/proc/sys/net/ipv4/conf/{}/rp_filter",
        link.name
    )));
    Device {
        filters,
        tcx: [tcx(false), tcx(true)],
        xdp: attached::xdp(link.index).map_err(said),
        offloads: ethtool.offloads(&link.name),
        coalescing: ethtool.coalescing(&link.name),
        rp_filter: rp_filter.max(all_rp_filter),
        qdiscs,
        name: link.name,
    }
}

/// What they say.
pub fn findings(devices: &[Device]) -> Vec<Finding> {
    let others = devices.iter().filter(|device| !device.is_loopback());
    let several = others.count() > 1;
    let each = |device: &Device| -> Vec<Finding> {
        let mut found = Vec::new();
        found.extend(device.rp_filter(several));
        found.push(device.qdisc());
        found.push(device.filters());
        found.push(device.tcx());
        found.push(device.xdp());
        found.extend(device.offloads());
        found.extend(device.coalescing());
        found
            .into_iter()
            .map(|finding| finding.of(device.name.as_str()))
            .collect()
    };
    devices.iter().flat_map(each).collect()
}

impl Device {
    fn is_loopback(&self) -> bool {
        self.name == "lo"
    }

    fn rp_filter(&self, several: bool) -> Option<Finding> {
        if self.is_loopback() || self.rp_filter? != STRICT {
            return None;
        }
        let check = Check::RpFilter;
        let found =
            "rp_filter is strict: requests are dropped whose answer would leave by another device";
        Some(if several {
            Finding::warning(check, found).remedy(
                "sysctl -w net.ipv4.conf.all.rp_filter=2 (loose) if routes are not symmetric",
            )
        } else {
            Finding::note(check, format!("{found}; there is no other one"))
        })
    }

    fn qdisc(&self) -> Finding {
        let check = Check::Qdisc;
        let kinds = self.qdiscs.iter().map(String::as_str);
        let kinds: Vec<_> = kinds.filter(|kind| !FILTERED.contains(kind)).collect();
        let name = &self.name;
        let odd = |list: &[&str], wanted: bool| {
            kinds
                .iter()
                .copied()
                .find(|kind| list.contains(kind) == wanted)
        };
        if let Some(kind) = odd(&EMULATORS, true) {
            return Finding::warning(
                check,
                format!("{kind}: delays, loses or drops packets on purpose"),
            )
            .remedy(format!("tc qdisc del dev {name} root"));
        }
        if let Some(kind) = odd(&PLAIN, false) {
            return Finding::note(
                check,
                format!("{kind}: may hold packets back although the device is free; that is l_tx_qdisc and r_tx_qdisc"),
            )
            .remedy(format!("tc -s qdisc show dev {name}"));
        }
        let mut kinds = kinds;
        kinds.dedup();
        Finding::ok(
            check,
            if kinds.is_empty() {
                "none".to_owned()
            } else {
                kinds.join(", ")
            },
        )
    }

    fn filters(&self) -> Finding {
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
            &self.name,
        )
    }

    fn tcx(&self) -> Finding {
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
            &self.name,
        )
    }

    fn xdp(&self) -> Finding {
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
                    "compare with it detached: ip link set dev {} xdp off",
                    self.name
                ))
            }
        }
    }

    fn offloads(&self) -> Option<Finding> {
        let check = Check::Offload;
        let Offloads { gro, lro, tso } = self.offloads;
        if lro == Some(true) {
            return Some(
                Finding::note(
                    check,
                    "LRO is on: the device holds received packets back to join them",
                )
                .remedy(format!("ethtool -K {} lro off", self.name)),
            );
        }
        let on = [("GRO", gro), ("TSO", tso)];
        let on: Vec<_> = on
            .iter()
            .filter(|(_, on)| *on == Some(true))
            .map(|(name, _)| *name)
            .collect();
        let is_known = gro.or(lro).or(tso).is_some();
        is_known.then(|| {
            Finding::ok(
                check,
                if on.is_empty() {
                    "none".to_owned()
                } else {
                    on.join(", ")
                },
            )
        })
    }

    fn coalescing(&self) -> Option<Finding> {
        let check = Check::Coalescing;
        let Coalescing {
            rx_usecs,
            rx_frames,
            tx_usecs,
            is_adaptive,
        } = self.coalescing?;
        let frames = if rx_frames > 1 {
            format!(" or {rx_frames} packets")
        } else {
            String::new()
        };
        let found = format!(
            "interrupts wait up to {rx_usecs} us{frames} after a received packet, {tx_usecs} us after a sent one"
        );
        if rx_usecs == 0 && !is_adaptive {
            return Some(Finding::ok(check, "off"));
        }
        let adaptive = if is_adaptive {
            "; the driver adapts that to the load"
        } else {
            ""
        };
        let finding = if rx_usecs > LONG_US {
            Finding::warning
        } else {
            Finding::note
        };
        Some(
            finding(
                check,
                format!("{found}{adaptive}: it counts as the wire's time"),
            )
            .remedy(format!(
                "ethtool -C {} adaptive-rx off rx-usecs 0",
                self.name
            )),
        )
    }
}

/// Of a pingtrace server, by its fixed handle.
fn is_own(filter: &Filter) -> bool {
    filter.handle == crate::server::inband::HANDLE
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

    fn fine() -> Device {
        Device {
            name: "eth0".into(),
            qdiscs: vec!["mq".into(), "fq_codel".into(), "fq_codel".into()],
            filters: Ok(Vec::new()),
            tcx: [Ok(Vec::new()), Ok(Vec::new())],
            xdp: Ok(None),
            offloads: Offloads {
                gro: Some(true),
                lro: Some(false),
                tso: Some(true),
            },
            coalescing: Some(Coalescing::default()),
            rp_filter: Some(2),
        }
    }

    fn found(devices: &[Device]) -> Vec<Finding> {
        let found = findings(devices).into_iter();
        found.filter(|finding| finding.level != Level::Ok).collect()
    }

    #[track_caller]
    fn one(device: Device, check: Check, level: Level, words: &str) {
        let found = found(&[device]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(
            (found[0].check, found[0].level),
            (check, level),
            "{found:#?}"
        );
        assert_eq!(found[0].subject.as_deref(), Some("eth0"));
        let said = format!(
            "{} {}",
            found[0].found,
            found[0].remedy.as_deref().unwrap_or_default()
        );
        assert!(said.contains(words), "{said}");
    }

    fn program(name: &str) -> Attached {
        Attached {
            id: 7,
            name: Some(name.into()),
        }
    }

    #[test]
    fn an_ordinary_device_has_nothing_to_say() {
        assert_eq!(found(&[fine()]), []);
        let bare = Device {
            offloads: Offloads::default(),
            coalescing: None,
            ..fine()
        };
        assert_eq!(found(&[bare]), []);
    }

    #[test]
    fn other_peoples_programs_are_named_and_pingtraces_own_are_not() {
        let tcx = |name| Device {
            tcx: [Ok(vec![program(name)]), Ok(Vec::new())],
            ..fine()
        };
        one(
            tcx("cil_from_netdev"),
            Check::Tcx,
            Level::Note,
            "'cil_from_netdev' (ingress)",
        );
        assert_eq!(found(&[tcx("inband_ether")]), []);
        let filter = |handle, name: &str| {
            let filter = Filter {
                kind: "bpf".into(),
                name: Some(name.into()),
                handle,
                egress: true,
            };
            Device {
                filters: Ok(vec![
                    Filter {
                        handle: 0,
                        ..filter.clone()
                    },
                    filter,
                ]),
                ..fine()
            }
        };
        one(
            filter(1, "shaper.o"),
            Check::TcFilter,
            Level::Note,
            "shaper.o (egress)",
        );
        assert_eq!(found(&[filter(0x7ace, "inband_ether")]), []);
        let xdp = Device {
            xdp: Ok(Some((program("lb"), true))),
            ..fine()
        };
        one(xdp, Check::Xdp, Level::Note, "ip link set dev eth0 xdp off");
        let nameless = Attached { id: 7, name: None };
        let xdp = Device {
            xdp: Ok(Some((nameless, false))),
            ..fine()
        };
        one(xdp, Check::Xdp, Level::Note, "number 7 (generic)");
    }

    #[test]
    fn what_may_not_be_asked_is_unknown() {
        let refused = || Err("operation not permitted".to_owned());
        let device = Device {
            tcx: [refused(), refused()],
            ..fine()
        };
        one(
            device,
            Check::Tcx,
            Level::Note,
            "unknown: operation not permitted",
        );
    }

    #[test]
    fn strict_filters_matter_where_there_is_another_device() {
        let strict = |name: &str| Device {
            name: name.into(),
            rp_filter: Some(1),
            ..fine()
        };
        one(strict("eth0"), Check::RpFilter, Level::Note, "strict");
        let two = found(&[strict("eth0"), fine()]);
        assert_eq!((two.len(), two[0].level), (1, Level::Warning), "{two:#?}");
        assert_eq!(found(&[strict("lo"), fine()]), []);
    }

    #[test]
    fn queues_that_hold_packets_back_are_named() {
        let with = |kind: &str| Device {
            qdiscs: vec![kind.into(), "clsact".into()],
            ..fine()
        };
        one(with("tbf"), Check::Qdisc, Level::Note, "tbf");
        one(
            with("netem"),
            Check::Qdisc,
            Level::Warning,
            "tc qdisc del dev eth0 root",
        );
        assert_eq!(found(&[with("noqueue")]), []);
    }

    #[test]
    fn what_a_device_holds_back_is_named() {
        let lro = Offloads {
            lro: Some(true),
            ..Offloads::default()
        };
        one(
            Device {
                offloads: lro,
                ..fine()
            },
            Check::Offload,
            Level::Note,
            "lro off",
        );
        let waits = |rx_usecs, is_adaptive| Device {
            coalescing: Some(Coalescing {
                rx_usecs,
                is_adaptive,
                ..Coalescing::default()
            }),
            ..fine()
        };
        one(
            waits(20, false),
            Check::Coalescing,
            Level::Note,
            "rx-usecs 0",
        );
        one(waits(0, true), Check::Coalescing, Level::Note, "adapts");
        one(
            waits(250, false),
            Check::Coalescing,
            Level::Warning,
            "250 us",
        );
    }
}

//! The devices of this network namespace: other people's programs, queues, and what a device does to packets.

use super::programs::Programs;
use super::reading::{file, number};
use crate::kernel::ethtool::{Coalescing, Ethtool, Offloads};
use anyhow::Result;
use netns::{Link, Netlink, Qdisc};
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
    /// Programs that others attached to it.
    pub programs: Programs,
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
    let is_filtered = qdiscs.iter().any(|kind| FILTERED.contains(&kind.as_str()));
    let rp_filter = number(&file(format!(
        "/proc/sys/net/ipv4/conf/{}/rp_filter",
        link.name
    )));
    Device {
        programs: Programs::read(netlink, link.index, is_filtered),
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
        found.extend(device.programs.findings(&device.name));
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

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    fn fine() -> Device {
        Device {
            name: "eth0".into(),
            qdiscs: vec!["mq".into(), "fq_codel".into(), "fq_codel".into()],
            programs: Programs {
                filters: Ok(Vec::new()),
                tcx: [Ok(Vec::new()), Ok(Vec::new())],
                xdp: Ok(None),
            },
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

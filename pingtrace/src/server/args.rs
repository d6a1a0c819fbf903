//! The options of a server.

use crate::exit::Usage;
use crate::kernel::lab_clock::LabClock;
use crate::kernel::tracer::Trust;
use crate::options::heading;
use crate::units;
use crate::wire::key::KeyFile;
use anyhow::{Context, Result};
use ipnet::IpNet;
use libbpf_rs::{MapCore, MapFlags};
use std::net::IpAddr;
use std::time::Duration;

/// The options of a server.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Duration of the server; endless if absent.
    pub time: Option<Duration>,
    /// The devices on which replies are stamped; all if there are none.
    pub interface: Vec<String>,
    /// Further UDP ports of tunnels.
    pub tunnel: Vec<u16>,
    /// Explain slow segments of at least this length.
    pub explain: Option<Duration>,
    /// Stamp in the own network namespace only.
    pub nslocal: bool,
    /// Host number in the stamps.
    pub userid: Option<u16>,
    /// How long it stays armed without a request.
    pub linger: Linger,
    /// Report whom the server serves each time this has passed; 0: never.
    pub stat_interval: Option<Duration>,
    /// The keys of those who may know everything.
    pub key_file: Option<KeyFile>,
    /// Who else may know what.
    pub access: Access,
    /// Count the run times of the programs.
    pub debug: bool,
    /// The error of the stamps, in laboratories.
    pub lab_clock: Option<LabClock>,
}

impl Args {
    /// Says what those learn who can send an echo request to this host.
    pub fn warn_of_trust(&self) {
        if self.access.open {
            log::warn!(
                "--open: whoever can ping this host learns the names of its namespaces and devices, its clock{}",
                if self.explain.is_some() {
                    ", and what ran on its CPUs (--explain)"
                } else {
                    ""
                }
            );
        } else if self.key_file.is_some() {
            log::info!("clients without a key (--key-file) get no stamps");
        } else {
            log::info!(
                "clients get stages and reasons of drops; names, blame and the clock are for --key-file or --open"
            );
        }
    }

    /// Whether anybody gets names of namespaces and devices.
    pub fn sends_names(&self) -> bool {
        !self.access.private && (self.access.open || self.key_file.is_some())
    }
}

/// How long a server stays armed without a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger {
    /// For this time.
    For(Duration),
    /// As long as it runs, also before the first one.
    #[default]
    Always,
}

impl Linger {
    /// Less would be shorter than the interval of many clients.
    const MIN: Duration = Duration::from_secs(1);
    const ALWAYS: &str = "infinity";

    /// ns; absent: always.
    pub fn ns(self) -> Option<u64> {
        match self {
            Self::For(time) => Some(time.as_nanos() as u64),
            Self::Always => None,
        }
    }

    /// A plain number is in seconds.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if text == Self::ALWAYS {
            return Ok(Self::Always);
        }
        let time = units::seconds(text)?;
        if time < Self::MIN {
            return Err(format!(
                "{text} is shorter than 1 s, and a client's probes may be as rare: \
                 use {} to stay armed always",
                Self::ALWAYS
            ));
        }
        Ok(Self::For(time))
    }
}

// What a server alone has. A doc comment would be the help of the program.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Own {
    /// How long a server's kernel programs stay attached after the last request; the next one
    /// attaches them again. `infinity`: always, which a host that only forwards probes needs
    #[arg(long, value_name = "T", default_value = "30s", value_parser = Linger::parse, conflicts_with = "probes", help_heading = heading::SERVER)]
    pub linger: Linger,

    /// For laboratories: falsify the server's stamps by a known amount
    #[arg(long, value_name = "CLOCK", hide = true, conflicts_with = "probes")]
    pub lab_clock: Option<LabClock>,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the program"
    )]
    pub access: Access,
}

// A doc comment would be the help of the program.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Access {
    /// Server: tell everybody everything: names, blame, and times of the clock. Without it and without
    /// --key-file, a client learns stages and reasons of drops only
    #[arg(long, conflicts_with_all = ["probes", "key_file"], help_heading = heading::TRUST)]
    pub open: bool,

    /// Server: send nobody names of network namespaces, containers, pods and devices
    #[arg(long, conflicts_with = "probes", help_heading = heading::TRUST)]
    pub private: bool,

    /// Server: stamp only the probes from these addresses or networks
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network, conflicts_with = "probes", help_heading = heading::TRUST)]
    pub allow: Vec<IpNet>,

    /// Server: stamp none from these; of several networks that hold an address, the smallest counts
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network, conflicts_with = "probes", help_heading = heading::TRUST)]
    pub deny: Vec<IpNet>,

    /// Server: send version 0 clients all stamps, also in packets longer than their requests
    #[arg(long, conflicts_with = "probes", help_heading = heading::TRUST)]
    pub v0: bool,
}

impl Access {
    /// What the programs are to know from their start.
    pub fn trust(&self) -> Result<Trust> {
        let mut both = self
            .allow
            .iter()
            .filter(|network| self.deny.contains(network));
        if let Some(network) = both.next() {
            return Err(Usage(format!("{network} is in --allow and in --deny")).into());
        }
        Ok(Trust {
            open: self.open,
            has_peers: !(self.allow.is_empty() && self.deny.is_empty()),
            deny_others: !self.allow.is_empty(),
        })
    }

    /// Fills the map of who is served.
    pub fn list(&self, map: &impl MapCore) -> Result<()> {
        let networks = [(&self.allow, 1), (&self.deny, 0)];
        for (network, served) in networks
            .iter()
            .flat_map(|(list, n)| list.iter().map(move |net| (net, n)))
        {
            map.update(&lpm_key(network), &u32::to_ne_bytes(*served), MapFlags::ANY)
                .with_context(|| format!("list {network} (--allow, --deny)"))?;
        }
        Ok(())
    }
}

/// The key of a network in a trie of longest prefixes, in which IPv4 is `::ffff:a.b.c.d`.
fn lpm_key(network: &IpNet) -> [u8; 20] {
    let (address, bits) = match network {
        IpNet::V4(net) => (
            net.addr().to_ipv6_mapped(),
            96 + u32::from(net.prefix_len()),
        ),
        IpNet::V6(net) => (net.addr(), u32::from(net.prefix_len())),
    };
    let mut key = [0; 20];
    key[..4].copy_from_slice(&bits.to_ne_bytes());
    key[4..].copy_from_slice(&address.octets());
    key
}

/// A network, or one address.
fn network(text: &str) -> std::result::Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    let network = one.or_else(|_| text.parse::<IpNet>());
    network.map(|network| network.trunc()).map_err(|_| {
        format!("'{text}' is neither a network, such as 10.0.0.0/8 or fd00::/8, nor an address")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_lingers_for_a_second_or_longer() {
        assert_eq!(Linger::parse("1"), Ok(Linger::For(Duration::from_secs(1))));
        assert_eq!(
            Linger::parse("2m"),
            Ok(Linger::For(Duration::from_secs(120)))
        );
        assert_eq!(Linger::parse("infinity"), Ok(Linger::Always));
        for bad in ["0", "999ms", "never", "-1"] {
            assert!(Linger::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_and_addresses_are_read() {
        let said = |text| network(text).map(|network| network.to_string());
        assert_eq!(said("10.1.2.3/8"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(said("fd00::1"), Ok("fd00::1/128".to_owned()));
        for bad in ["", "10.0.0.0/33", "10.0.0", "web1", "10.0.0.0/255.0.0.0"] {
            assert!(said(bad).is_err(), "{bad}");
        }
    }
}

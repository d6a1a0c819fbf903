//! A target as a list has it, and how it is probed where that differs from the command line.

use crate::client::args::{self, Args};
use crate::units;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What makes a target another one: host, address, options.
pub type Identity = (String, IpAddr, String);

/// A target as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As it was typed.
    pub host: String,
    /// How it is probed.
    pub own: Own,
    /// What the user says about it.
    pub labels: BTreeMap<String, String>,
}

impl Listed {
    /// A host alone.
    pub fn plain(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            own: Own::default(),
            labels: BTreeMap::new(),
        }
    }

    /// The host, and its options if it has some of its own.
    pub fn label(&self) -> String {
        match &*self.own.to_string() {
            "" => self.host.clone(),
            own => format!("{} [{own}]", self.host),
        }
    }

    /// What is to be resolved.
    pub fn lookup(&self) -> (String, Option<u8>) {
        (self.host.clone(), self.own.family)
    }

    /// What makes it another target.
    pub fn identity(&self, peer: SocketAddr) -> Identity {
        (self.host.clone(), peer.ip(), self.own.to_string())
    }
}

/// What a target has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Own {
    /// Time between probes.
    pub interval: Option<Duration>,
    /// ICMP message size, bytes.
    pub size: Option<usize>,
    /// The TOS or traffic-class byte.
    pub tos: Option<u8>,
    /// The address that the probes are sent from.
    pub source: Option<IpAddr>,
    /// Only addresses of this family: 4 or 6.
    pub family: Option<u8>,
}

impl Own {
    /// Takes what a label says. The error says what is wrong with it.
    pub fn set(&mut self, what: &str, value: &str) -> Result<(), String> {
        match what {
            "interval" => self.interval = Some(units::interval(value)?),
            "size" => self.size = Some(units::message_size(value)?),
            "tos" => self.tos = Some(args::tos(value)?),
            "dscp" => self.tos = Some(dscp(value)?),
            "source" => {
                let address = value.parse();
                self.source = Some(address.map_err(|_| format!("'{value}' is no address"))?);
            }
            "family" => self.family = Some(family(value)?),
            _ => {
                return Err(format!(
                    "there is no '{what}'; wanted is interval, size, dscp, tos, source or family"
                ));
            }
        }
        Ok(())
    }

    /// The options of such a target.
    pub fn amend(&self, args: &Args) -> Args {
        let mut args = args.clone();
        args.interval = self.interval.unwrap_or(args.interval);
        args.size = self.size.unwrap_or(args.size);
        match self
            .family
            .or(self.source.map(|ip| if ip.is_ipv4() { 4 } else { 6 }))
        {
            Some(4) => (args.ipv4, args.ipv6) = (true, false),
            Some(_) => (args.ipv4, args.ipv6) = (false, true),
            None => {}
        }
        args
    }
}

/// `interval=10ms,tos=184`: what tells it from another target of the same address.
impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            self.interval.map(|t| format!("interval={t:?}")),
            self.size.map(|size| format!("size={size}")),
            self.tos.map(|tos| format!("tos={tos}")),
            self.source.map(|ip| format!("source={ip}")),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        f.write_str(&all.join(","))
    }
}

fn dscp(value: &str) -> Result<u8, String> {
    let number = value.parse::<u8>().ok().filter(|dscp| *dscp < 64);
    let number = number.ok_or_else(|| format!("'{value}' is no DSCP: a number from 0 to 63"))?;
    Ok(number << 2)
}

fn family(value: &str) -> Result<u8, String> {
    match value {
        "4" | "ipv4" => Ok(4),
        "6" | "ipv6" => Ok(6),
        _ => Err(format!("'{value}' is no address family: 4 or 6")),
    }
}

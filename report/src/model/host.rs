//! The hosts of a run.

use std::borrow::Cow;

/// Which host took a stamp, and so whose clock it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// The host of `pingtrace -c`.
    Client,
    /// The host of `pingtrace -s`.
    Server,
    /// A host on the way, by its index in order of appearance (from 2).
    Transit(u16),
}

impl Host {
    /// Its name in every format: `client`, `server`, `transit2`.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Client => "client".into(),
            Self::Server => "server".into(),
            Self::Transit(index) => format!("transit{index}").into(),
        }
    }

    /// The host with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "client" => Some(Self::Client),
            "server" => Some(Self::Server),
            _ => name
                .strip_prefix("transit")?
                .parse()
                .ok()
                .map(Self::Transit),
        }
    }
}

//! How the server's stamps return.

use super::protocol::{INBAND, RECORD, TTL, Version};

/// How the server's stamps return: what a probe asks for, and what was seen. The names are those of `--mode` and of
/// results.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "lowercase")]
#[repr(u8)]
pub enum StampReturn {
    /// In the echo reply itself.
    Inband,
    /// In stamp packets.
    Compact,
    /// In stamp packets of version 0.
    V0,
    /// Not at all: the client's stages only.
    Pingpong,
}

impl StampReturn {
    /// The way of the stamp packets of a version.
    pub const fn by_packet(version: Version) -> Self {
        match version {
            Version::V0 => Self::V0,
            Version::V1 => Self::Compact,
        }
    }

    /// Whether the stamps follow the echo reply in a packet of their own.
    pub const fn is_behind_reply(self) -> bool {
        matches!(self, Self::Compact | Self::V0)
    }

    /// Version of the probes that ask for it.
    pub const fn version(self) -> Version {
        match self {
            Self::V0 => Version::V0,
            Self::Inband | Self::Compact | Self::Pingpong => Version::V1,
        }
    }

    /// Flags of the probes that ask for it.
    pub const fn flags(self) -> u16 {
        match self {
            Self::Inband => INBAND | TTL,
            Self::Compact => RECORD | TTL,
            Self::V0 | Self::Pingpong => 0,
        }
    }

    /// In words: "server stamps: ...".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Inband => "in band, in the echo reply itself",
            Self::Compact => "in stamp packets",
            Self::V0 => "in version 0 stamp packets (1 us resolution)",
            Self::Pingpong => "not at all",
        }
    }
}

//! The two directions of a probe.

/// Which packet of a probe.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

impl Direction {
    /// Both, in path order.
    pub const ALL: [Self; 2] = [Self::Request, Self::Reply];

    /// As the kernel's programs and packets number it (`enum pt_direction`): 0 is the request.
    pub const fn from_number(number: u32) -> Self {
        if number == 0 {
            Self::Request
        } else {
            Self::Reply
        }
    }

    /// Its name in every format.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The direction with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

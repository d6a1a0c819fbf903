//! Why a kernel refused to send a probe.

use std::borrow::Cow;
use std::fmt;

/// The error number of a failed send (errno.h of `asm-generic`, which all architectures that run
/// BPF programs use).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendError(pub i32);

/// Number, name, and what it means.
const KNOWN: [(i32, &str, &str); 16] = [
    (1, "EPERM", "operation not permitted"),
    (4, "EINTR", "interrupted"),
    (6, "ENXIO", "no such device or address"),
    (11, "EAGAIN", "no room to send for now"),
    (12, "ENOMEM", "out of memory"),
    (13, "EACCES", "permission denied"),
    (19, "ENODEV", "no such device"),
    (22, "EINVAL", "invalid argument"),
    (90, "EMSGSIZE", "message too long"),
    (97, "EAFNOSUPPORT", "address family not supported"),
    (99, "EADDRNOTAVAIL", "no address to send from"),
    (100, "ENETDOWN", "network is down"),
    (101, "ENETUNREACH", "network is unreachable"),
    (105, "ENOBUFS", "no buffer space"),
    (112, "EHOSTDOWN", "host is down"),
    (113, "EHOSTUNREACH", "no route to host"),
];

impl SendError {
    /// Its name: `ENETDOWN`; of a rare one `errno 71`.
    pub fn name(self) -> Cow<'static, str> {
        self.known().map_or_else(
            || format!("errno {}", self.0).into(),
            |(_, name, _)| Cow::Borrowed(name),
        )
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|(_, known, _)| *known == name);
        let number = known.map(|(number, ..)| *number);
        let rare = || name.strip_prefix("errno ")?.parse().ok();
        number.or_else(rare).map(Self)
    }

    fn known(self) -> Option<(i32, &'static str, &'static str)> {
        KNOWN.into_iter().find(|(number, ..)| *number == self.0)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((_, name, words)) => write!(f, "{name}, {words}"),
            None => write!(f, "errno {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for number in 1..134 {
            let error = SendError(number);
            assert_eq!(SendError::from_name(&error.name()), Some(error));
        }
        assert_eq!(SendError(100).to_string(), "ENETDOWN, network is down");
        assert_eq!(SendError(71).to_string(), "errno 71");
        assert_eq!(SendError::from_name("QDISC_DROP"), None);
    }
}

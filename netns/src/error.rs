//! One error type: what was tried, in which namespace, why it failed and what would help.

use std::io;

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on a namespace or on one of its devices.
///
/// Its text is complete ("add veth va in netns inode 4026532653: operation not permitted; needs
/// `CAP_NET_ADMIN`"), so the cause is not a [`source`](std::error::Error::source): it would be
/// printed twice.
#[derive(Debug, thiserror::Error)]
#[error("{operation}{}: {}{}", self.place(), self.reason(), self.remedy())]
pub struct Error {
    operation: String,
    netns: Option<u32>,
    capability: &'static str,
    /// What the kernel says beside the error number (extended acknowledgement).
    hint: Option<String>,
    cause: io::Error,
}

impl Error {
    /// An operation on namespaces themselves: open, enter, mount.
    pub(crate) fn system(operation: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self {
            operation: operation.into(),
            netns: None,
            capability: "CAP_SYS_ADMIN",
            hint: None,
            cause: cause.into(),
        }
    }

    /// An operation inside the namespace with inode `netns`.
    pub(crate) fn inside(
        netns: u32,
        operation: impl Into<String>,
        cause: impl Into<io::Error>,
    ) -> Self {
        Self {
            netns: Some(netns),
            capability: "CAP_NET_ADMIN",
            ..Self::system(operation, cause)
        }
    }

    /// Adds the kernel's message.
    pub(crate) fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// The kind of failure, for a caller that has an alternative.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }

    /// The error number, if the failure came from the kernel.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    fn place(&self) -> String {
        self.netns
            .map(|inode| format!(" in netns inode {inode}"))
            .unwrap_or_default()
    }

    fn reason(&self) -> String {
        let cause = reason(&self.cause);
        match &self.hint {
            Some(hint) => format!("{cause} ({hint})"),
            None => cause,
        }
    }

    fn remedy(&self) -> String {
        match self.kind() {
            io::ErrorKind::PermissionDenied => format!("; needs {}", self.capability),
            _ => String::new(),
        }
    }
}

/// The message of an [`io::Error`] without its suffix "(os error 1)".
pub fn without_numbers(message: &str) -> String {
    let mut parts = message.split(" (os error ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        match digits.strip_prefix(')') {
            Some(rest) => text += rest,
            None => text.extend([" (os error ", part]),
        }
    }
    text
}

/// The system's message as a part of a sentence: no capital, no number.
pub fn reason(error: &io::Error) -> String {
    let text = without_numbers(&error.to_string());
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn names_operation_place_and_remedy() {
        let error = Error::inside(4_026_532_653, "add veth va", Errno::PERM);
        assert_eq!(
            error.to_string(),
            "add veth va in netns inode 4026532653: operation not permitted; needs CAP_NET_ADMIN"
        );
    }

    #[test]
    fn error_numbers_are_left_out_and_nothing_else() {
        let refused = io::Error::from_raw_os_error(Errno::PERM.raw_os_error());
        let chain = format!("a: {refused}: {refused}; b (os error of c)");
        assert_eq!(
            without_numbers(&chain),
            "a: Operation not permitted: Operation not permitted; b (os error of c)"
        );
        assert_eq!(reason(&refused), "operation not permitted");
        assert_eq!(without_numbers(""), "");
    }

    #[test]
    fn gives_the_kernels_words() {
        let error = Error::inside(1, "add route", Errno::INVAL).with_hint(Some("bad".into()));
        assert_eq!(
            error.to_string(),
            "add route in netns inode 1: invalid argument (bad)"
        );
    }

    #[test]
    fn entering_needs_another_capability() {
        let error = Error::system("open netns /run/netns/web", Errno::ACCESS);
        assert_eq!(
            error.to_string(),
            "open netns /run/netns/web: permission denied; needs CAP_SYS_ADMIN"
        );
    }
}

//! Settings as the kernel shows them in /proc and /sys.

use report::model::{Check, Finding};
use std::fmt;
use std::io;
use std::path::Path;

/// Why a setting is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// This kernel, or this namespace, does not have it.
    Absent(String),
    /// It is there.
    Refused(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(path) => write!(f, "{path} is not here"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// A setting, without the space around it.
pub type Setting = Result<String, Unread>;

/// Reads a file of one line.
pub fn file(path: impl AsRef<Path>) -> Setting {
    let path = path.as_ref();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Unread::Absent(path.display().to_string()))
        }
        Err(e) => Err(Unread::Refused(format!(
            "read {}: {}",
            path.display(),
            netns::reason(&e)
        ))),
    }
}

/// Reads a setting by its name for sysctl(8), such as `net.ipv4.icmp_ratelimit`.
pub fn sysctl(name: &str) -> Setting {
    file(format!("/proc/sys/{}", name.replace('.', "/")))
}

/// Its value, if it is a number.
pub fn number(setting: &Setting) -> Option<i64> {
    setting.as_ref().ok()?.parse().ok()
}

/// Of a setting that is not what was expected there.
pub fn unread(check: Check, setting: &Setting) -> Finding {
    match setting {
        Ok(other) => Finding::unknown(check, format!("it is '{other}'")),
        Err(why) => Finding::unknown(check, why),
    }
}

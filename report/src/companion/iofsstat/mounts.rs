//! `/proc/PID/mountinfo` (proc(5)), and the full path of a file from its names up to the root of
//! its file system.

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Number of the file system's device, or of none.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// What of the file system is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// `ext4`, `overlay`.
    pub kind: String,
    /// `/dev/vda1`, or whatever the file system calls it.
    pub source: String,
}

/// Reads the file; lines that are none of it are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (fixed, rest) = line.split_once(" - ")?;
    let mut words = fixed.split(' ').skip(2);
    let (major, minor) = words.next()?.split_once(':')?;
    let mut more = rest.split(' ');
    Some(Mount {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root: unescaped(words.next()?),
        point: unescaped(words.next()?),
        kind: more.next()?.to_owned(),
        source: unescaped(more.next()?),
    })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescaped(word: &str) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = digits.and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &others[3..];
            }
            _ => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A file's names up to the root of its file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The file's own first.
    pub names: Vec<String>,
    /// Levels are missing at the top.
    pub cut: bool,
    /// It has no name any more; these were its last ones.
    pub deleted: bool,
}

impl Names {
    /// The path of the file in the mount that shows it, the last one if there are several; within
    /// its file system where none does, after `...` where the top is not known.
    pub fn path(&self, (major, minor): (u32, u32), mounts: &[Mount]) -> String {
        let inside = self
            .names
            .iter()
            .rev()
            .fold(String::new(), |path, name| path + "/" + name);
        let deleted = if self.deleted { " (deleted)" } else { "" };
        if self.cut {
            return format!("...{inside}{deleted}");
        }
        let of_file = |m: &&Mount| (m.major, m.minor) == (major, minor);
        let shown = |m: &Mount| {
            let below = inside.strip_prefix(m.root.trim_end_matches('/'))?;
            (below.is_empty() || below.starts_with('/')).then(|| {
                let path = format!("{}{below}", m.point.trim_end_matches('/'));
                (m.root.len(), path)
            })
        };
        let found = mounts.iter().filter(of_file).filter_map(shown);
        let path = found.max_by_key(|(root, _)| *root).map(|(_, path)| path);
        path.unwrap_or(inside) + deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 28 0:21 / /proc rw,nosuid - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
31 28 7:0 / /mnt/a\\040b rw - xfs /dev/loop0 rw
40 28 254:1 /srv/web /var/www rw - ext4 /dev/vda1 rw
not a mount
";

    fn names(path: &str) -> Names {
        Names {
            names: path.split('/').rev().map(str::to_owned).collect(),
            ..Names::default()
        }
    }

    #[test]
    fn a_file_is_where_its_file_system_is_mounted() {
        let mounts = parse(MOUNTS);
        assert_eq!(mounts.len(), 4);
        let path = |at, file: &str| names(file).path(at, &mounts);
        assert_eq!(path((254, 1), "etc/fstab"), "/etc/fstab");
        assert_eq!(path((7, 0), "x/y"), "/mnt/a b/x/y");
        assert_eq!(path((254, 1), "srv/web/index"), "/var/www/index");
        assert_eq!(path((254, 1), "srv/webs/index"), "/srv/webs/index");
        assert_eq!(path((9, 9), "x/y"), "/x/y");
    }

    #[test]
    fn what_is_not_known_of_a_path_is_marked() {
        let mut file = names("deep/file");
        file.cut = true;
        assert_eq!(file.path((254, 1), &parse(MOUNTS)), ".../deep/file");
        file.cut = false;
        file.deleted = true;
        let path = file.path((254, 1), &parse(MOUNTS));
        assert_eq!(path, "/deep/file (deleted)");
    }
}

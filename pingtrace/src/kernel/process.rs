//! A process or thread that a user names by its number.
//!
//! Numbers are reused some time after a process has ended, so the start time tells two apart.

use anyhow::{Context, Result};
use std::fs;

/// A process or thread that existed when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number, in the PID namespace of /proc.
    pub id: u32,
    /// Start time, clock ticks since boot.
    began: u64,
}

impl Process {
    /// The process or thread of this number; `None` if there is none or it is a zombie.
    pub fn find(id: u32) -> Option<Self> {
        let stat = Stat::read(id)?;
        (!stat.is_over()).then_some(Self {
            id,
            began: stat.began,
        })
    }

    /// Those that options name, with the options; fails if one is not there.
    pub fn find_asked(asked: &[(Option<u32>, &str)]) -> Result<Vec<Self>> {
        let asked = asked
            .iter()
            .filter_map(|(id, option)| Some(((*id)?, *option)));
        let find = |(id, option)| {
            Self::find(id)
                .with_context(|| format!("no process or thread {id} ({option}) is running here"))
        };
        asked.map(find).collect()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        Self::find(self.id).as_ref() != Some(self)
    }
}

/// The start time of a process, clock ticks since boot; also of a zombie.
pub fn began(id: u32) -> Option<u64> {
    Stat::read(id).map(|stat| stat.began)
}

/// The fields of /proc/PID/stat that are needed (`man 5 proc_pid_stat`).
pub(crate) struct Stat {
    state: char,
    threads: u64,
    began: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// The name, in parentheses, can contain any character.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // The state is field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            threads: field(20)?.parse().ok()?,
            began: field(22)?.parse().ok()?,
        })
    }

    /// A process lives on if its first thread ends before the others.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn one_that_runs_is_found_and_has_ended_before_it_is_reaped() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process::find(child.id()).unwrap();
        assert!(!process.has_ended());
        drop(child.stdin.take());
        // It ends, and waits for this process to ask.
        while !process.has_ended() {
            std::thread::yield_now();
        }
        assert!(began(child.id()).is_some(), "it is not reaped yet");
        assert_eq!(Process::find(child.id()), None);
        child.wait().unwrap();
        assert!(process.has_ended());
    }

    #[test]
    fn another_of_the_same_number_is_another() {
        let id = std::process::id();
        let before = Process { id, began: 0 };
        assert!(before.has_ended());
        assert!(!Process::find(id).unwrap().has_ended());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let fields = "Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20";
        let stat = Stat::parse(&format!("7 (a) Z 9 (b) {fields}\n")).unwrap();
        assert_eq!((stat.state, stat.threads, stat.began), ('Z', 17, 19));
        assert!(!stat.is_over(), "its other threads run");
        assert!(Stat::parse("").is_none());
    }
}

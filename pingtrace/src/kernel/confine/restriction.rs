//! What a thread is left with.

use super::calls::Calls;
use super::extra::Extra;
use super::files::Files;
use super::lists::{Mode, PROGRAMS};
use anyhow::Result;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a thread is left with.
pub(super) struct Restriction {
    capabilities: CapabilitySet,
    /// Absent where a thread is not restricted to files, or the kernel cannot.
    pub(super) files: Option<Files>,
    calls: Calls,
}

/// What a kernel refused of a restriction: a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u32);

impl Refused {
    pub(super) const CAPABILITIES: u32 = 1;
    pub(super) const FILES: u32 = 2;
    pub(super) const CALLS: u32 = 4;

    pub(super) fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

impl Restriction {
    /// That of all threads but the keeper.
    pub(super) fn new(mode: Mode, extra: &Extra) -> Result<Self> {
        let written = &extra.written;
        let mut capabilities = mode.capabilities();
        if written.iter().any(|directory| is_foreign(directory)) {
            capabilities |= CapabilitySet::DAC_OVERRIDE;
        }
        let files = mode
            .confines_files()
            .then(|| Files::new(mode, written, &extra.read));
        Ok(Self {
            capabilities,
            files: files.transpose()?.flatten(),
            calls: Calls::of_others(mode, extra)?,
        })
    }

    /// The keeper's, if there is one. Landlock would refuse it /proc/PID/ns of all other processes; its system calls allow
    /// it to write no file.
    pub(super) fn of_keeper(mode: Mode) -> Result<Option<Self>> {
        let Some(capabilities) = mode.of_keeper() else {
            return Ok(None);
        };
        Ok(Some(Self {
            capabilities,
            files: None,
            calls: Calls::of_keeper(mode)?,
        }))
    }

    /// Restricts the calling thread; also in a signal handler, so only by system calls.
    pub(super) fn apply(&self) -> Refused {
        let mut refused = 0;
        if self.files.as_ref().is_some_and(|files| !files.restrict()) {
            refused |= Refused::FILES;
        }
        if self.give_up_capabilities().is_err() {
            refused |= Refused::CAPABILITIES;
        }
        if !self.calls.restrict() {
            refused |= Refused::CALLS;
        }
        Refused(refused)
    }

    /// The same for a thread that may have been started by a restricted one. To that nothing is left to do: its system
    /// calls lack `capset`, which every kernel has.
    pub(super) fn apply_unless_inherited(&self) -> Refused {
        match self.give_up_capabilities() {
            Err(Errno::NOSYS) => Refused::default(),
            _ => self.apply(),
        }
    }

    fn give_up_capabilities(&self) -> rustix::io::Result<()> {
        let held = capabilities(None)?.permitted;
        let mut left = held & self.capabilities;
        // The kernel takes CAP_SYS_ADMIN for CAP_BPF and CAP_PERFMON, and a container may have only that.
        if !left.contains(self.capabilities & PROGRAMS) {
            left |= held & CapabilitySet::SYS_ADMIN;
        }
        let sets = CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets)
    }
}

/// Whether files of a directory are rotated by a right that its owner does not need.
fn is_foreign(directory: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::metadata(directory).is_ok_and(|meta| meta.uid() != me)
}

#[cfg(test)]
mod as_root {
    use super::*;
    use std::io::ErrorKind;
    use std::process::Command;
    use std::thread;

    /// On a thread of its own, restricted.
    fn restricted<T: Send>(mode: Mode, extra: &Extra, f: impl FnOnce() -> T + Send) -> T {
        let restriction = Restriction::new(mode, extra).unwrap();
        let run = || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert_eq!(restriction.apply(), Refused::default());
            f()
        };
        thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn files_are_written_in_their_directories_only() {
        let [inside, outside] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [log, other] = [&inside, &outside].map(|directory| directory.path().join("log"));
        fs::write(&other, "precious").unwrap();
        let extra = Extra {
            written: vec![inside.path().to_owned()],
            ..Extra::default()
        };
        restricted(Mode::Client, &extra, || {
            fs::write(&log, "a line").unwrap();
            fs::rename(&log, log.with_extension("1")).unwrap();
            fs::remove_file(log.with_extension("1")).unwrap();
            let denied = |result: std::io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            denied(fs::write(&other, "mine"));
            denied(fs::remove_file(&other));
            denied(fs::write(outside.path().join("new"), ""));
            denied(fs::read(&other).map(drop));
            fs::read("/proc/self/status").unwrap();
            fs::read("/etc/hostname").unwrap();
        });
        assert_eq!(fs::read(&other).unwrap(), b"precious");
    }

    /// Threads that serve metrics start others at any time, also while this process is confined.
    #[test]
    fn a_thread_of_a_restricted_one_has_nothing_left_to_give_up() {
        let later = Restriction::new(Mode::Client, &Extra::default()).unwrap();
        let refused = restricted(Mode::Client, &Extra::default(), || {
            thread::scope(|scope| scope.spawn(|| later.apply_unless_inherited()).join())
        });
        assert_eq!(refused.unwrap(), Refused::default());
        let fresh = thread::scope(|scope| {
            let apply = || {
                rustix::thread::set_no_new_privs(true).unwrap();
                (later.apply_unless_inherited(), capabilities(None).unwrap())
            };
            scope.spawn(apply).join().unwrap()
        });
        assert_eq!(fresh.0, Refused::default());
        assert_eq!(fresh.1.permitted, Mode::Client.capabilities());
    }

    #[test]
    fn without_files_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let server = Mode::Server { names: true };
        restricted(server, &Extra::default(), || {
            let error = fs::write(directory.path().join("new"), "").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
            fs::read("/proc/self/status").unwrap();
        });
    }

    /// Files that are read again come from anywhere.
    #[test]
    fn what_parses_saved_runs_has_its_open_files() {
        let [inside, outside] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let other = outside.path().join("other");
        fs::write(&other, "precious").unwrap();
        let extra = Extra {
            written: vec![inside.path().to_owned()],
            ..Extra::default()
        };
        restricted(Mode::Saved, &extra, || {
            fs::write(inside.path().join("log"), "a line").unwrap();
            for path in [other.as_path(), Path::new("/etc/passwd")] {
                let error = fs::read(path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path:?}");
            }
            let socket = std::os::unix::net::UnixDatagram::unbound().unwrap_err();
            assert_eq!(socket.raw_os_error(), Some(libc::ENOSYS));
            let held = capabilities(None).unwrap();
            assert!((held.permitted | held.effective).is_empty(), "{held:?}");
        });
    }

    /// What a run has no use for does not exist.
    #[test]
    fn other_system_calls_do_not_exist() {
        restricted(Mode::Client, &Extra::default(), || {
            let missing = |what: &str, error: std::io::Error| {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{what}");
            };
            missing("execve", Command::new("/bin/true").status().unwrap_err());
            let packet = socket2::Socket::new(17.into(), socket2::Type::RAW, None);
            missing("a packet socket", packet.unwrap_err());
            let here = netns::Namespace::current().unwrap();
            let entered = here.enter().map(drop).unwrap_err().to_string();
            assert!(entered.contains("not implemented"), "{entered}");
        });
    }

    /// What serves metrics accepts connections, and makes no other socket listen; nobody else does either.
    #[test]
    fn connections_are_accepted_only_where_that_was_asked_for() {
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accept = || listener.accept().map(drop);
        let refused = restricted(Mode::Client, &Extra::default(), accept).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
        let extra = Extra {
            accepts: true,
            ..Extra::default()
        };
        restricted(Mode::Client, &extra, || {
            accept().unwrap();
            let other = TcpListener::bind("127.0.0.1:0").unwrap_err();
            assert_eq!(other.raw_os_error(), Some(libc::ENOSYS));
        });
        drop(client);
    }

    #[test]
    fn files_that_are_read_are_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("web.yml");
        fs::write(&file, "precious").unwrap();
        let extra = Extra {
            read: vec![directory.path().to_owned()],
            ..Extra::default()
        };
        restricted(Mode::Client, &extra, || {
            assert_eq!(fs::read(&file).unwrap(), b"precious");
            fs::write(&file, "").unwrap_err();
        });
    }
}

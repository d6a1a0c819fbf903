//! A network namespace held by a file descriptor: it lives as long as this value does, even
//! without a name or a process in it.

use crate::{Error, Result};
use rustix::{
    fs::{Mode, OFlags},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags},
    thread::{LinkNameSpaceType, UnshareFlags},
};
use std::{
    fs,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic,
    path::{Path, PathBuf},
    thread,
};

/// Where `ip netns` keeps the names.
pub(crate) const NAMES_DIR: &str = "/run/netns";

/// The namespace of the thread that opens it.
pub(crate) const THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    inode: u32,
    /// Of a name that we made ourselves: removed with the value.
    _name: Option<MountedName>,
}

impl Namespace {
    /// Makes a namespace without a name: nothing is left of it when the last descriptor,
    /// process and thread in it are gone, not even after SIGKILL.
    pub fn anonymous() -> Result<Self> {
        on_fresh_thread(|| {
            leave_for_new_namespace()?;
            Self::current()
        })
    }

    /// Makes a namespace that `ip netns` lists as `name`; the name goes when the value is dropped.
    ///
    /// A name in use is an error, never shared silently. After SIGKILL the name stays:
    /// [`Namespace::remove_name`].
    pub(crate) fn create_named(name: &str) -> Result<Self> {
        prepare_names_dir()?;
        let mounted = MountedName::reserve(name)?;
        let target = mounted.path.clone();
        let made = on_fresh_thread(move || {
            leave_for_new_namespace()?;
            rustix::mount::mount_bind(THIS_THREAD, &target)
                .map_err(|e| Error::system(format!("mount netns {}", target.display()), e))?;
            Self::current()
        })?;
        Ok(Self {
            _name: Some(mounted),
            ..made
        })
    }

    /// Removes a name that a killed process left in /run/netns. False if there is none.
    pub(crate) fn remove_name(name: &str) -> Result<bool> {
        let path = Path::new(NAMES_DIR).join(name);
        if !path.exists() {
            return Ok(false);
        }
        remove_mounted(&path)
            .map(|()| true)
            .map_err(|e| Error::system(format!("remove netns {}", path.display()), e))
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open(THIS_THREAD)
    }

    /// Opens a namespace file, such as `/proc/PID/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |e| Error::system(format!("open netns {}", path.display()), e);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let inode = rustix::fs::fstat(&fd).map_err(failed)?.st_ino;
        Ok(Self {
            fd,
            inode: inode as u32,
            _name: None,
        })
    }

    /// Opens the namespace that `ip netns` calls `name`.
    pub fn named(name: &str) -> Result<Self> {
        Self::open(Path::new(NAMES_DIR).join(name))
    }

    /// The inode number: the kernel's identity of the namespace, 32 bits wide.
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// A second descriptor of the same namespace. It does not own the name.
    pub fn try_clone(&self) -> Result<Self> {
        let failed = |e| Error::system(format!("duplicate netns inode {}", self.inode), e);
        Ok(Self {
            fd: self.fd.try_clone().map_err(failed)?,
            inode: self.inode,
            _name: None,
        })
    }

    /// Moves the calling thread into the namespace until the guard is dropped.
    ///
    /// Threads and processes that it starts meanwhile begin in this namespace, and stay.
    pub fn enter(&self) -> Result<Guard> {
        let home = Self::current()?;
        self.set()?;
        Ok(Guard {
            home,
            thread_bound: PhantomData,
        })
    }

    /// Runs `f` on a fresh thread inside the namespace and returns its result; the calling
    /// thread stays where it is. A panic of `f` goes on in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        on_fresh_thread(|| {
            self.set()?;
            Ok(f())
        })
    }

    /// Writes a file of the namespace's own sysfs, which the system's /sys does not show.
    pub(crate) fn write_sysfs(&self, path: &str, value: &str) -> Result<()> {
        self.run(|| {
            let operation = format!("write {value} to /sys/{path}");
            let failed = |e| Error::inside(self.inode, operation, e);
            mount_own_sysfs()
                .map_err(Into::into)
                .and_then(|()| fs::write(Path::new("/sys").join(path), value))
                .map_err(failed)
        })?
    }

    fn set(&self) -> Result<()> {
        rustix::thread::move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::system(format!("enter netns inode {}", self.inode), e))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Keeps the calling thread in a namespace, and takes it home when dropped.
///
/// It cannot leave its thread. Drop several in the reverse order of entering. If the way home is
/// closed (the capability was given up meanwhile), dropping panics: going on in the wrong
/// namespace would be worse.
#[derive(Debug)]
#[must_use = "the thread returns as soon as the guard is dropped"]
pub struct Guard {
    home: Namespace,
    thread_bound: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.home.set() {
            panic!("cannot return to the former namespace: {error}");
        }
    }
}

fn on_fresh_thread<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, f);
        let thread =
            thread.map_err(|e| Error::system("start a thread for a network namespace", e))?;
        let result = thread.join();
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

#[expect(unsafe_code, reason = "rustix has no safe unshare")]
fn leave_for_new_namespace() -> Result<()> {
    // SAFETY: only NEWNET is unshared; the file descriptor table stays shared, which is what
    // makes this call unsafe with FILES.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|e| Error::system("make a network namespace", e))
}

/// Mounts the sysfs of the calling thread's network namespace, for this thread alone.
#[expect(unsafe_code, reason = "rustix has no safe unshare")]
fn mount_own_sysfs() -> rustix::io::Result<()> {
    // SAFETY: the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    rustix::mount::mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)
}

/// A file in /run/netns with a namespace mounted on it.
#[derive(Debug)]
struct MountedName {
    path: PathBuf,
}

impl MountedName {
    /// Takes the name; a clash is an error.
    fn reserve(name: &str) -> Result<Self> {
        let path = Path::new(NAMES_DIR).join(name);
        let mut options = fs::OpenOptions::new();
        match options.write(true).create_new(true).open(&path) {
            Ok(_) => Ok(Self { path }),
            Err(e) => Err(Error::system(format!("name a netns {}", path.display()), e)),
        }
    }
}

impl Drop for MountedName {
    fn drop(&mut self) {
        // There is nobody to report to.
        let _ = remove_mounted(&self.path);
    }
}

fn remove_mounted(path: &Path) -> std::io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        // A stale file with nothing mounted on it.
        Ok(()) | Err(rustix::io::Errno::INVAL) => fs::remove_file(path),
        Err(e) => Err(e.into()),
    }
}

/// Makes /run/netns a shared mount, as `ip netns add` does, so that the names are seen in other
/// mount namespaces.
fn prepare_names_dir() -> Result<()> {
    let failed = |e| Error::system(format!("prepare {NAMES_DIR}"), e);
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    fs::create_dir_all(NAMES_DIR).map_err(failed)?;
    if rustix::mount::mount_change(NAMES_DIR, shared).is_ok() {
        return Ok(());
    }
    rustix::mount::mount_bind_recursive(NAMES_DIR, NAMES_DIR).map_err(|e| failed(e.into()))?;
    rustix::mount::mount_change(NAMES_DIR, shared).map_err(|e| failed(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::AssertUnwindSafe;

    fn here() -> u32 {
        Namespace::current().unwrap().inode()
    }

    #[test]
    fn the_guard_returns_home() {
        let home = here();
        let away = Namespace::anonymous().unwrap();
        let guard = away.enter().unwrap();
        assert_eq!(here(), away.inode());
        drop(guard);
        assert_eq!(here(), home);
    }

    #[test]
    fn the_guard_returns_home_from_a_panic() {
        let home = here();
        let away = Namespace::anonymous().unwrap();
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
            let _guard = away.enter().unwrap();
            assert_eq!(here(), home, "on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(here(), home);
    }

    #[test]
    fn guards_nest() {
        let home = here();
        let (outer, inner) = (
            Namespace::anonymous().unwrap(),
            Namespace::anonymous().unwrap(),
        );
        let first = outer.enter().unwrap();
        let second = inner.enter().unwrap();
        assert_eq!(here(), inner.inode());
        drop(second);
        assert_eq!(here(), outer.inode());
        drop(first);
        assert_eq!(here(), home);
    }

    #[test]
    fn run_leaves_the_caller_where_it_is() {
        let home = here();
        let away = Namespace::anonymous().unwrap();
        assert_ne!(away.inode(), home);
        assert_eq!(away.run(here).unwrap(), away.inode());
        assert_eq!(here(), home);
    }

    #[test]
    fn a_panic_inside_goes_on_in_the_caller() {
        let away = Namespace::anonymous().unwrap();
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
            let _ = away.run(|| panic!("on purpose"));
        }));
        let payload = panicked.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
    }

    #[test]
    fn a_missing_name_is_in_the_error() {
        let error = Namespace::named("no-such-netns").unwrap_err();
        assert_eq!(
            error.to_string(),
            "open netns /run/netns/no-such-netns: no such file or directory"
        );
    }

    #[test]
    fn a_clone_outlives_the_original() {
        let clone = Namespace::anonymous().unwrap().try_clone().unwrap();
        assert_eq!(clone.run(here).unwrap(), clone.inode());
    }
}

//! Names for people: from the inode number that the kernel knows a namespace by.
//!
//! A namespace has no name of its own. In this order, these are used:
//! 1. what `ip netns` calls it: a file in /run/netns with the namespace mounted on it, but not one of those
//!    that container runtimes make ("cni-5b2e…");
//! 2. "host" for the namespace of process 1;
//! 3. the pod or container of a process that lives in it: "pod default/web-0", "container web";
//! 4. the process with the lowest number that lives in it: "nginx/4711";
//! 5. a file of a container runtime in /run/netns or /run/docker/netns;
//! 6. "net:\[4026532653\]".
//!
//! 1 and 4 are followed by the pod or container, if there is one.

use crate::{
    Error, Result,
    containers::{Runtimes, Workload},
    namespace::{NAMES_DIR, Namespace, THIS_THREAD},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Docker's names; "default" there is the host's.
const DOCKER_DIR: &str = "run/docker/netns";
/// Upper bound on the processes of a namespace that are asked for their container.
const MAX_ASKED: usize = 16;
/// The initial namespace, where process 1 may not be looked at: fixed since Linux 6.18, and
/// before that the first number given out on the kernels of some years.
const INITIAL: [u32; 2] = [0xefff_fff9, 0xf000_0000];

/// The names of all namespaces at one moment.
#[derive(Debug, Clone, Default)]
pub struct NamespaceNames {
    names: BTreeMap<u32, String>,
    /// A file to enter each namespace by.
    paths: BTreeMap<u32, PathBuf>,
    hidden: usize,
}

impl NamespaceNames {
    /// Reads /run and /proc. What cannot be read there stays unnamed; that is not an error.
    pub fn read() -> Result<Self> {
        Sources::system().names()
    }

    /// Its name, if it has one other than its inode.
    pub fn get(&self, inode: u32) -> Option<&str> {
        self.names.get(&inode).map(String::as_str)
    }

    /// Whether its name is known, and nothing says that the inode is another namespace's by now.
    pub fn is_current(&self, inode: u32) -> bool {
        let path = self.paths.get(&inode);
        self.names.contains_key(&inode) && path.is_none_or(|path| inode_of(path) == Some(inode))
    }

    /// The namespace itself, if there is still a way into it.
    pub fn open(&self, inode: u32) -> Option<Namespace> {
        let namespace = Namespace::open(self.paths.get(&inode)?).ok()?;
        (namespace.inode() == inode).then_some(namespace)
    }

    /// All namespaces that there is a way into.
    pub fn namespaces(&self) -> impl Iterator<Item = Namespace> {
        self.paths.keys().filter_map(|inode| self.open(*inode))
    }

    /// The inodes of all namespaces that were seen.
    pub fn inodes(&self) -> impl Iterator<Item = u32> {
        self.paths.keys().copied()
    }

    /// Processes whose namespace may not be looked at.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The best name for the namespace with this inode.
    pub fn name(&self, inode: u32) -> String {
        match self.names.get(&inode) {
            Some(name) => name.clone(),
            None => format!("net:[{inode}]"),
        }
    }
}

/// Where names come from: the file system below a root directory.
struct Sources {
    root: PathBuf,
}

impl Sources {
    fn system() -> Self {
        Self { root: "/".into() }
    }

    fn proc(&self) -> PathBuf {
        self.root.join("proc")
    }

    fn names(&self) -> Result<NamespaceNames> {
        let (residents, hidden) = self
            .residents()
            .map_err(|e| Error::system(format!("list {}", self.proc().display()), e))?;
        let mut found = NamespaceNames {
            hidden,
            ..NamespaceNames::default()
        };
        let files = [NAMES_DIR.trim_start_matches('/'), DOCKER_DIR];
        let files = files.map(|directory| namespaces_in(&self.root.join(directory)));
        let (made, given): (Vec<_>, Vec<_>) = files
            .into_iter()
            .flatten()
            .partition(NamespaceFile::is_made);
        found.add_files(given);
        for inode in self.host_inodes() {
            found.names.entry(inode).or_insert_with(|| "host".into());
        }
        let runtimes = Runtimes::new(&self.root);
        for (inode, pids) in residents {
            let path = self.namespace_of(pids[0]);
            found.paths.entry(inode).or_insert(path);
            self.add_residents(&mut found.names, inode, &pids, &runtimes);
        }
        found.add_files(made);
        Ok(found)
    }

    fn host_inodes(&self) -> Vec<u32> {
        self.inode_of(1).map_or(INITIAL.into(), |inode| vec![inode])
    }

    /// The processes of each namespace, the lowest number first, and how many others may not be looked at.
    fn residents(&self) -> io::Result<(BTreeMap<u32, Vec<u32>>, usize)> {
        let mut pids: Vec<u32> = fs::read_dir(self.proc())?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        let mut residents = BTreeMap::<_, Vec<_>>::new();
        let mut hidden = 0;
        for pid in pids {
            match fs::metadata(self.namespace_of(pid)) {
                Ok(file) => residents.entry(file.ino() as u32).or_default().push(pid),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
                // It has ended meanwhile.
                Err(_) => {}
            }
        }
        Ok((residents, hidden))
    }

    fn namespace_of(&self, pid: u32) -> PathBuf {
        self.proc().join(format!("{pid}/ns/net"))
    }

    fn inode_of(&self, pid: u32) -> Option<u32> {
        inode_of(&self.namespace_of(pid))
    }

    fn add_residents(
        &self,
        names: &mut BTreeMap<u32, String>,
        inode: u32,
        pids: &[u32],
        runtimes: &Runtimes<'_>,
    ) {
        let given = names.get(&inode);
        if given.is_some_and(|name| name == "host") {
            return;
        }
        let workload = self.workload(pids, runtimes);
        let name = match (given, workload) {
            (None, Some(Workload::Named(name))) => Some(name),
            (given, workload) => {
                let name = given.cloned().or_else(|| self.process(pids[0]));
                let inside = workload.map(|w| format!(" [{}]", w.label()));
                name.map(|name| name + &inside.unwrap_or_default())
            }
        };
        names.extend(name.map(|name| (inode, name)));
    }

    /// The first named pod or container of these processes, else the first container. A pod's first process
    /// is in a container of its own, which not every runtime names.
    fn workload(&self, pids: &[u32], runtimes: &Runtimes<'_>) -> Option<Workload> {
        let mut unnamed = None;
        for pid in pids.iter().take(MAX_ASKED) {
            let cgroup = self.read(*pid, "cgroup");
            match cgroup.and_then(|cgroup| runtimes.workload(&cgroup)) {
                named @ Some(Workload::Named(_)) => return named,
                other => unnamed = unnamed.or(other),
            }
        }
        unnamed
    }

    /// "nginx/4711".
    fn process(&self, pid: u32) -> Option<String> {
        let comm = self.read(pid, "comm")?;
        Some(format!("{}/{pid}", comm.trim_end()))
    }

    fn read(&self, pid: u32, file: &str) -> Option<String> {
        fs::read_to_string(self.proc().join(format!("{pid}/{file}"))).ok()
    }
}

/// A file with a namespace mounted on it.
struct NamespaceFile {
    path: PathBuf,
    name: String,
    inode: u32,
}

impl NamespaceFile {
    /// Whether a container runtime made the name: /run/docker/netns/9f2c1be0d7a4, /run/netns/cni-UUID (containerd),
    /// UUID (CRI-O), netns-UUID (Podman).
    fn is_made(&self) -> bool {
        let uuid = ["cni-", "netns-"]
            .iter()
            .find_map(|p| self.name.strip_prefix(p));
        let uuid = uuid.unwrap_or(&self.name);
        let is_docker = self
            .path
            .parent()
            .is_some_and(|at| at.ends_with(DOCKER_DIR));
        is_docker || uuid.len() == 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
    }
}

impl NamespaceNames {
    /// Adds the names and paths that are not known yet.
    fn add_files(&mut self, files: Vec<NamespaceFile>) {
        for NamespaceFile { path, name, inode } in files {
            self.names.entry(inode).or_insert(name);
            self.paths.entry(inode).or_insert(path);
        }
    }
}

fn inode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|file| file.ino() as u32)
}

/// The namespaces mounted in a directory. A file without one, left behind by a crash, is on another file system
/// than namespaces are.
fn namespaces_in(directory: &Path) -> Vec<NamespaceFile> {
    let Ok(nsfs) = fs::metadata(THIS_THREAD).map(|file| file.dev()) else {
        return Vec::new();
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mounted = entries.filter_map(|entry| {
        let file = fs::metadata(entry.path()).ok()?;
        (file.dev() == nsfs).then(|| NamespaceFile {
            path: entry.path(),
            name: entry.file_name().to_string_lossy().into_owned(),
            inode: file.ino() as u32,
        })
    });
    let mut mounted: Vec<_> = mounted.collect();
    mounted.sort_by(|a, b| a.name.cmp(&b.name));
    mounted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::fs::symlink,
        process::{Child, Command},
    };

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Ends with the test, also when it fails.
    struct Sleep(Child);

    impl Sleep {
        fn inside(netns: &Namespace) -> Self {
            let spawn = || Command::new("sleep").arg("60").spawn().unwrap();
            Self(netns.run(spawn).unwrap())
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_gives_its_name() {
        let netns = Namespace::anonymous().unwrap();
        let unnamed = format!("net:[{}]", netns.inode());
        assert_eq!(NamespaceNames::read().unwrap().name(netns.inode()), unnamed);
        let sleep = Sleep::inside(&netns);
        let name = NamespaceNames::read().unwrap().name(netns.inode());
        assert_eq!(name, format!("sleep/{}", sleep.0.id()));
    }

    #[test]
    fn the_lowest_process_number_counts() {
        let netns = Namespace::anonymous().unwrap();
        let sleeps = [Sleep::inside(&netns), Sleep::inside(&netns)];
        let lowest = sleeps.iter().map(|s| s.0.id()).min().unwrap();
        let name = NamespaceNames::read().unwrap().name(netns.inode());
        assert_eq!(name, format!("sleep/{lowest}"));
    }

    /// A root directory made for the test.
    struct Fake {
        sources: Sources,
    }

    impl Fake {
        fn new(tag: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("netns-names-{tag}-{}", std::process::id()));
            for directory in ["proc", "run/netns", DOCKER_DIR] {
                fs::create_dir_all(root.join(directory)).unwrap();
            }
            Self {
                sources: Sources { root },
            }
        }

        fn process(&self, pid: u32, comm: &str, cgroup: &str, netns: &Namespace) {
            let directory = self.sources.proc().join(pid.to_string());
            fs::create_dir_all(directory.join("ns")).unwrap();
            fs::write(directory.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(directory.join("cgroup"), cgroup).unwrap();
            symlink(link_to(netns), directory.join("ns/net")).unwrap();
        }

        /// A file with the namespace "mounted" on it.
        fn mount(&self, path: &str, netns: &Namespace) {
            symlink(link_to(netns), self.sources.root.join(path)).unwrap();
        }

        fn name(&self, netns: &Namespace) -> String {
            self.sources.names().unwrap().name(netns.inode())
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.sources.root);
        }
    }

    /// A path that leads to the namespace while it is held here.
    fn link_to(netns: &Namespace) -> String {
        use std::os::fd::{AsFd, AsRawFd};
        format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd())
    }

    #[test]
    fn a_container_without_a_name_follows_its_process() {
        let fake = Fake::new("container");
        let netns = Namespace::anonymous().unwrap();
        let cgroup = format!("0::/system.slice/docker-{ID}.scope\n");
        fake.process(4711, "nginx", &cgroup, &netns);
        fake.mount("run/docker/netns/9f2c1be0d7a4", &netns);
        assert_eq!(fake.name(&netns), "nginx/4711 [container 0123456789ab]");
    }

    /// The first process of a pod is the sandbox's, of which no file says the name here.
    #[test]
    fn a_pod_comes_before_its_processes_and_names_that_a_runtime_made() {
        let fake = Fake::new("pod");
        let netns = Namespace::anonymous().unwrap();
        let sandbox = ID.replace('0', "f");
        for (pid, id) in [(7, sandbox.as_str()), (9, ID)] {
            let cgroup = format!("0::/system.slice/cri-containerd-{id}.scope\n");
            fake.process(pid, "pause", &cgroup, &netns);
        }
        fake.mount("run/netns/cni-5b2e7c9d-0c1f-4a51-9e0a-77d1f2a4c3b6", &netns);
        assert_eq!(fake.name(&netns), "pause/7 [container f123456789ab]");
        let logs = fake.sources.root.join("var/log/containers");
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join(format!("web-0_shop_nginx-{ID}.log")), "").unwrap();
        assert_eq!(fake.name(&netns), "pod shop/web-0");
        fake.mount("run/netns/red", &netns);
        assert_eq!(fake.name(&netns), "red [pod shop/web-0]");
    }

    #[test]
    fn without_a_process_the_file_of_a_runtime_is_left() {
        let fake = Fake::new("made");
        let netns = [(); 3].map(|()| Namespace::anonymous().unwrap());
        let files = [
            "run/docker/netns/9f2c1be0d7a4",
            "run/netns/cni-5b2e7c9d-0c1f-4a51-9e0a-77d1f2a4c3b6",
            "run/netns/5b2e7c9d-0c1f-4a51-9e0a-77d1f2a4c3b6",
        ];
        for (file, netns) in files.iter().zip(&netns) {
            fake.mount(file, netns);
            let name = file.rsplit('/').next().unwrap();
            assert_eq!(fake.name(netns), name);
            assert!(fake.sources.names().unwrap().open(netns.inode()).is_some());
        }
    }

    #[test]
    fn given_names_come_before_processes_and_stale_files_do_not_count() {
        let fake = Fake::new("order");
        let netns = Namespace::anonymous().unwrap();
        fake.process(1, "init", "0::/\n", &netns);
        fs::write(fake.sources.root.join("run/netns/stale"), "").unwrap();
        fake.mount("run/docker/netns/default", &netns);
        assert_eq!(fake.name(&netns), "host");
        fake.mount("run/netns/web", &netns);
        assert_eq!(fake.name(&netns), "web");
        assert_eq!(fake.sources.names().unwrap().names.len(), 1);
    }

    #[test]
    fn without_process_1_the_initial_namespace_is_the_host() {
        let fake = Fake::new("initial");
        let names = fake.sources.names().unwrap();
        assert_eq!(names.name(4_026_531_833), "host");
        assert_eq!(names.name(4_026_531_840), "host");
        assert_eq!(names.name(7), "net:[7]");
    }
}

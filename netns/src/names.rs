//! Names for people: from the inode number that the kernel knows a namespace by.
//!
//! A namespace has no name of its own. In this order, these are used:
//! 1. what `ip netns` calls it: a file in /run/netns with the namespace mounted on it;
//! 2. "host" for the namespace of process 1;
//! 3. the name of its file in /run/docker/netns;
//! 4. the process with the lowest number that lives in it: "nginx/4711";
//! 5. "net:\[4026532653\]".
//!
//! 1, 3 and 4 are followed by the container that this process belongs to, if it does.

use crate::{
    Error, Result,
    namespace::{NAMES_DIR, Namespace, THIS_THREAD},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Docker's names; "default" there is the host's.
const DOCKER_DIR: &str = "/run/docker/netns";
/// The initial namespace, where process 1 may not be looked at: fixed since Linux 6.18, and
/// before that the first number given out on the kernels of some years.
const INITIAL: [u32; 2] = [0xefff_fff9, 0xf000_0000];

/// The names of all namespaces at one moment.
#[derive(Debug, Clone, Default)]
pub struct NamespaceNames {
    names: BTreeMap<u32, String>,
    /// A file to enter each namespace by.
    paths: BTreeMap<u32, PathBuf>,
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

    /// The namespace itself, if there is still a way into it.
    pub fn open(&self, inode: u32) -> Option<Namespace> {
        let namespace = Namespace::open(self.paths.get(&inode)?).ok()?;
        (namespace.inode() == inode).then_some(namespace)
    }

    /// The best name for the namespace with this inode.
    pub fn name(&self, inode: u32) -> String {
        match self.names.get(&inode) {
            Some(name) => name.clone(),
            None => format!("net:[{inode}]"),
        }
    }
}

/// Where names come from.
struct Sources {
    proc: PathBuf,
    ip_netns: PathBuf,
    docker: PathBuf,
}

impl Sources {
    fn system() -> Self {
        Self {
            proc: "/proc".into(),
            ip_netns: NAMES_DIR.into(),
            docker: DOCKER_DIR.into(),
        }
    }

    fn names(&self) -> Result<NamespaceNames> {
        let residents = self
            .residents()
            .map_err(|e| Error::system(format!("list {}", self.proc.display()), e))?;
        let mut found = NamespaceNames::default();
        add_files(&mut found, &self.ip_netns);
        for inode in self.host_inodes() {
            found.names.entry(inode).or_insert_with(|| "host".into());
        }
        add_files(&mut found, &self.docker);
        for (inode, pid) in residents {
            let path = self.proc.join(format!("{pid}/ns/net"));
            found.paths.entry(inode).or_insert(path);
            self.add_resident(&mut found.names, inode, pid);
        }
        Ok(found)
    }

    fn host_inodes(&self) -> Vec<u32> {
        self.inode_of(1).map_or(INITIAL.into(), |inode| vec![inode])
    }

    /// The lowest process number in each namespace.
    fn residents(&self) -> io::Result<BTreeMap<u32, u32>> {
        let mut pids: Vec<u32> = fs::read_dir(&self.proc)?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        let mut residents = BTreeMap::new();
        for pid in pids {
            // It may have ended meanwhile, or belong to somebody else.
            if let Some(inode) = self.inode_of(pid) {
                residents.entry(inode).or_insert(pid);
            }
        }
        Ok(residents)
    }

    fn inode_of(&self, pid: u32) -> Option<u32> {
        let path = self.proc.join(format!("{pid}/ns/net"));
        fs::metadata(path).ok().map(|file| file.ino() as u32)
    }

    fn add_resident(&self, names: &mut BTreeMap<u32, String>, inode: u32, pid: u32) {
        let read = |file| fs::read_to_string(self.proc.join(format!("{pid}/{file}"))).ok();
        if names.get(&inode).is_some_and(|name| name == "host") {
            return;
        }
        let Some(comm) = read("comm") else { return };
        let name = names
            .entry(inode)
            .or_insert_with(|| format!("{}/{pid}", comm.trim_end()));
        if let Some(id) = read("cgroup").as_deref().and_then(container_id) {
            name.push_str(" [container ");
            name.push_str(&id[..12]);
            name.push(']');
        }
    }
}

/// Adds the namespaces mounted in a directory. A file without one, left behind by a crash, is on
/// another file system than namespaces are.
fn add_files(found: &mut NamespaceNames, directory: &Path) {
    let Ok(nsfs) = fs::metadata(THIS_THREAD).map(|file| file.dev()) else {
        return;
    };
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file = fs::metadata(entry.path());
        if let Some(file) = file.ok().filter(|file| file.dev() == nsfs) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let inode = file.ino() as u32;
            found.names.entry(inode).or_insert(name);
            found.paths.entry(inode).or_insert_with(|| entry.path());
        }
    }
}

/// The container that a process is in: its full id, 64 hexadecimal digits.
pub fn container_of(pid: u32) -> Option<String> {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    container_id(&cgroup).map(str::to_owned)
}

/// The innermost container id in a /proc/PID/cgroup, or in the path of a cgroup: 64 hexadecimal digits, in which Docker,
/// containerd, CRI-O and Podman agree.
pub fn container_id(cgroup: &str) -> Option<&str> {
    cgroup
        .split(|c: char| !c.is_ascii_alphanumeric())
        .rfind(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
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

    #[test]
    fn container_ids_of_all_engines() {
        for cgroup in [
            format!("12:pids:/docker/{ID}\n0::/\n"),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("0::/kubepods.slice/kubepods-podf00.slice/cri-containerd-{ID}.scope\n"),
            format!("0::/kubepods.slice/crio-{ID}.scope/container\n"),
            format!("0::/k8s.io/{ID}\n"),
        ] {
            assert_eq!(container_id(&cgroup), Some(ID), "{cgroup}");
        }
    }

    #[test]
    fn other_cgroups_have_no_container() {
        let longer = format!("0::/x/{ID}0\n");
        for cgroup in ["", "0::/\n", "0::/user.slice/session-3.scope\n", &longer] {
            assert_eq!(container_id(cgroup), None, "{cgroup}");
        }
    }

    /// A /proc and a /run made for the test.
    struct Fake {
        root: PathBuf,
        sources: Sources,
    }

    impl Fake {
        fn new(tag: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("netns-names-{tag}-{}", std::process::id()));
            let sources = Sources {
                proc: root.join("proc"),
                ip_netns: root.join("netns"),
                docker: root.join("docker"),
            };
            for directory in [&sources.proc, &sources.ip_netns, &sources.docker] {
                fs::create_dir_all(directory).unwrap();
            }
            Self { root, sources }
        }

        fn process(&self, pid: u32, comm: &str, cgroup: &str, netns: &Namespace) {
            let directory = self.sources.proc.join(pid.to_string());
            fs::create_dir_all(directory.join("ns")).unwrap();
            fs::write(directory.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(directory.join("cgroup"), cgroup).unwrap();
            symlink(link_to(netns), directory.join("ns/net")).unwrap();
        }

        fn name(&self, netns: &Namespace) -> String {
            self.sources.names().unwrap().name(netns.inode())
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    /// A path that leads to the namespace while it is held here.
    fn link_to(netns: &Namespace) -> String {
        use std::os::fd::{AsFd, AsRawFd};
        format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd())
    }

    #[test]
    fn a_container_follows_its_process() {
        let fake = Fake::new("container");
        let netns = Namespace::anonymous().unwrap();
        let cgroup = format!("0::/system.slice/docker-{ID}.scope\n");
        fake.process(4711, "nginx", &cgroup, &netns);
        assert_eq!(fake.name(&netns), "nginx/4711 [container 0123456789ab]");
        symlink(link_to(&netns), fake.sources.docker.join("9f2c")).unwrap();
        assert_eq!(fake.name(&netns), "9f2c [container 0123456789ab]");
    }

    #[test]
    fn given_names_come_before_processes_and_stale_files_do_not_count() {
        let fake = Fake::new("order");
        let netns = Namespace::anonymous().unwrap();
        fake.process(1, "init", "0::/\n", &netns);
        fs::write(fake.sources.ip_netns.join("stale"), "").unwrap();
        symlink(link_to(&netns), fake.sources.docker.join("default")).unwrap();
        assert_eq!(fake.name(&netns), "host");
        symlink(link_to(&netns), fake.sources.ip_netns.join("web")).unwrap();
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

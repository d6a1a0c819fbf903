//! Names of containers and pods: from the cgroup of a process, by what the runtimes keep on this host's disk.
//!
//! | runtime | file | name |
//! |---|---|---|
//! | kubelet | `/var/log/pods/NAMESPACE_POD_UID` | of the pod in the cgroup's path |
//! | containerd, nerdctl | `/run/containerd/io.containerd.runtime.v2.task/*/ID/config.json` | annotations |
//! | CRI-O | `/run/containers/storage/*-containers/ID/userdata/config.json` | annotations |
//! | Docker | `/var/lib/docker/containers/ID/config.v2.json` | `Name`, and the labels of cri-dockerd |
//! | Podman | `/var/lib/containers/storage/*-containers/containers.json` | `names` |
//! | kubelet | `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log` | of the pod |
//!
//! Sources: kubernetes `pkg/kubelet/kuberuntime` (`BuildPodLogsDirectory`, `logSymlink`) and
//! `pkg/kubelet/cm` (cgroups); containerd `pkg/cri/annotations`; nerdctl `pkg/labels`; cri-o
//! `pkg/annotations`; moby `container.Container`; containers/storage `containers.go`.

use serde_json::Value;
use std::{
    cell::OnceCell,
    collections::HashMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Upper bound on the size of a file of a runtime, bytes.
const MAX_FILE: u64 = 4 << 20;
/// Digits of a container's id that tools show.
const SHORT_ID: usize = 12;

const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task";
const BUNDLES: &str = "run/containers/storage";
const DOCKER: &str = "var/lib/docker/containers";
const STORAGE: &str = "var/lib/containers/storage";
const POD_LOGS: &str = "var/log/pods";
const CONTAINER_LOGS: &str = "var/log/containers";

/// Namespace and name of a pod: annotations of containerd; of CRI-O, and labels of cri-dockerd.
const POD_KEYS: [[&str; 2]; 2] = [
    [
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.sandbox-name",
    ],
    ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name"],
];
/// Name of a container: annotation of nerdctl.
const NAME_KEY: &str = "nerdctl/name";

/// What a process runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Its name: `pod default/web-0`, `container web`.
    Named(String),
    /// The id of a container that no file names.
    Unnamed(String),
}

impl Workload {
    /// `pod default/web-0`, `container web`, `container 0123456789ab`.
    pub fn label(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Unnamed(id) => format!("container {}", &id[..SHORT_ID]),
        }
    }
}

/// The files of the runtimes below a root directory, each list read once.
pub(crate) struct Runtimes<'r> {
    root: &'r Path,
    pods: OnceCell<HashMap<String, String>>,
    logs: OnceCell<HashMap<String, String>>,
    storage: OnceCell<HashMap<String, String>>,
}

impl<'r> Runtimes<'r> {
    pub fn new(root: &'r Path) -> Self {
        Self {
            root,
            pods: OnceCell::new(),
            logs: OnceCell::new(),
            storage: OnceCell::new(),
        }
    }

    /// What a process with this /proc/PID/cgroup runs in; nothing if that is no container.
    pub fn workload(&self, cgroup: &str) -> Option<Workload> {
        let pod = pod_uid(cgroup).and_then(|uid| self.pods().get(&uid).cloned());
        let id = container_id(cgroup);
        let name = pod.or_else(|| self.container(id?));
        match name {
            Some(name) => Some(Workload::Named(name)),
            None => Some(Workload::Unnamed(id?.to_owned())),
        }
    }

    fn container(&self, id: &str) -> Option<String> {
        self.annotated(id)
            .or_else(|| self.docker(id))
            .or_else(|| self.storage().get(id).cloned())
            .or_else(|| self.logs().get(id).cloned())
    }

    /// By the annotations in its bundle.
    fn annotated(&self, id: &str) -> Option<String> {
        let tasks = entries(&self.root.join(TASKS)).map(|namespace| namespace.join(id));
        let bundles = entries(&self.root.join(BUNDLES)).map(|by| by.join(id).join("userdata"));
        tasks.chain(bundles).find_map(|bundle| {
            let config = json(&bundle.join("config.json"))?;
            let annotations = config.get("annotations")?;
            let container = || Some(format!("container {}", text(annotations, NAME_KEY)?));
            pod(annotations).or_else(container)
        })
    }

    fn docker(&self, id: &str) -> Option<String> {
        let config = json(&self.root.join(DOCKER).join(id).join("config.v2.json"))?;
        let labels = config.get("Config").and_then(|c| c.get("Labels"));
        let container = || {
            let name = text(&config, "Name")?.trim_start_matches('/');
            Some(format!("container {name}"))
        };
        labels.and_then(pod).or_else(container)
    }

    /// The containers of Podman, by id; those of `--rm` are in a list of their own.
    fn storage(&self) -> &HashMap<String, String> {
        self.storage.get_or_init(|| {
            let lists = entries(&self.root.join(STORAGE)).flat_map(|by| {
                ["containers.json", "volatile-containers.json"].map(|list| by.join(list))
            });
            let mut names = HashMap::new();
            for container in lists.filter_map(|list| json(&list)).flat_map(elements) {
                let name = container.pointer("/names/0").and_then(Value::as_str);
                if let (Some(id), Some(name)) = (text(&container, "id"), name) {
                    names.insert(id.to_owned(), format!("container {name}"));
                }
            }
            names
        })
    }

    /// The pods, by UID.
    fn pods(&self) -> &HashMap<String, String> {
        self.pods.get_or_init(|| {
            let logs = names(&self.root.join(POD_LOGS));
            let of_pod = |log: String| {
                let (namespace, rest) = log.split_once('_')?;
                let (pod, uid) = rest.split_once('_')?;
                Some((uid.to_owned(), format!("pod {namespace}/{pod}")))
            };
            logs.filter_map(of_pod).collect()
        })
    }

    /// The pods, by the id of each of their containers.
    fn logs(&self) -> &HashMap<String, String> {
        self.logs.get_or_init(|| {
            let logs = names(&self.root.join(CONTAINER_LOGS));
            let of_container = |log: String| {
                let (pod, rest) = log.strip_suffix(".log")?.split_once('_')?;
                let (namespace, container) = rest.split_once('_')?;
                let (_, id) = container.rsplit_once('-')?;
                Some((id.to_owned(), format!("pod {namespace}/{pod}")))
            };
            logs.filter_map(of_container).collect()
        })
    }
}

fn pod(keys: &Value) -> Option<String> {
    POD_KEYS.iter().find_map(|[namespace, name]| {
        let (namespace, name) = (text(keys, namespace)?, text(keys, name)?);
        Some(format!("pod {namespace}/{name}"))
    })
}

/// A text that is not empty.
fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn elements(list: Value) -> Vec<Value> {
    match list {
        Value::Array(elements) => elements,
        _ => Vec::new(),
    }
}

fn json(path: &Path) -> Option<Value> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What is in a directory; nothing if there is none.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    entries(directory).filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
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

/// The UID of the pod in a /proc/PID/cgroup: `podUID`, or with systemd's driver `…-podUID.slice`, where the dashes
/// of the UID are underscores. That of a static pod is a hash without dashes.
pub fn pod_uid(cgroup: &str) -> Option<String> {
    let uid = |part: &str| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = part.strip_prefix("pod");
        let uid = uid.or_else(|| part.rsplit_once("-pod").map(|(_, uid)| uid))?;
        let uid = uid.replace('_', "-");
        let is_uid = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        is_uid.then_some(uid)
    };
    cgroup.split(['/', '\n']).find_map(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "0b7632a2-a56e-4278-987a-22de18008dbe";

    /// A root directory made for the test.
    struct Root(PathBuf);

    impl Root {
        fn new(tag: &str) -> Self {
            let name = format!("netns-containers-{tag}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn write(&self, path: &str, contents: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }

        fn label(&self, cgroup: &str) -> Option<String> {
            Some(Runtimes::new(&self.0).workload(cgroup)?.label())
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
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

    #[test]
    fn pods_of_both_cgroup_drivers() {
        let underscores = UID.replace('-', "_");
        let burstable = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable";
        let hash = "33d556edd3ae8ef21980288cef77ae8b";
        for (cgroup, uid) in [
            (format!("0::/kubepods/besteffort/pod{UID}/{ID}\n"), UID),
            (
                format!("0::/{burstable}-pod{underscores}.slice/cri-containerd-{ID}.scope\n"),
                UID,
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod{underscores}.slice/crio-{ID}.scope\n"),
                UID,
            ),
            (format!("11:cpu:/kubepods/pod{hash}/{ID}\n"), hash),
        ] {
            assert_eq!(pod_uid(&cgroup).as_deref(), Some(uid), "{cgroup}");
        }
        for cgroup in ["0::/kubepods.slice\n", "0::/podman/pod1\n", "0::/a-pod/x\n"] {
            assert_eq!(pod_uid(cgroup), None, "{cgroup}");
        }
    }

    #[test]
    fn a_pod_has_a_name_by_its_log_directory_in_every_container() {
        let root = Root::new("uid");
        root.write(&format!("var/log/pods/shop_web-0_{UID}/nginx/0.log"), "");
        let cgroup = format!("0::/kubepods/besteffort/pod{UID}/{ID}\n");
        assert_eq!(root.label(&cgroup).as_deref(), Some("pod shop/web-0"));
        let other = cgroup.replace("0b76", "1b76");
        let id = "container 0123456789ab";
        assert_eq!(root.label(&other).as_deref(), Some(id), "another pod");
    }

    /// Each runtime, by the file that it writes.
    #[test]
    fn every_runtime_names_its_containers() {
        let cri = r#"{"ociVersion":"1.2.0","hostname":"web-0","annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-id":"f","io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
        let nerdctl = r#"{"ociVersion":"1.2.0","annotations":{"nerdctl/name":"web","nerdctl/namespace":"default"}}"#;
        let crio = r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"sandbox","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"web-0"}}"#;
        let docker = r#"{"StreamConfig":{},"State":{"Running":true,"Pid":4711},"ID":"x","Config":{"Hostname":"h","Labels":{"maintainer":"m"}},"Name":"/web"}"#;
        let cri_dockerd = r#"{"Config":{"Labels":{"io.kubernetes.docker.type":"podsandbox","io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}},"Name":"/k8s_POD_web-0_shop_0b76_0"}"#;
        let podman = format!(
            r#"[{{"id":"f","names":["db"]}},{{"id":"{ID}","names":["web"],"image":"d7af","layer":"67b0","metadata":"{{}}"}}]"#
        );
        let task = "run/containerd/io.containerd.runtime.v2.task";
        let (pod, container) = ("pod shop/web-0", "container web");
        for (k, (path, contents, label)) in [
            (format!("{task}/k8s.io/{ID}/config.json"), cri, pod),
            (
                format!("{task}/default/{ID}/config.json"),
                nerdctl,
                container,
            ),
            (
                format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json"),
                crio,
                pod,
            ),
            (format!("{DOCKER}/{ID}/config.v2.json"), docker, container),
            (format!("{DOCKER}/{ID}/config.v2.json"), cri_dockerd, pod),
            (
                format!("{STORAGE}/overlay-containers/containers.json"),
                &podman,
                container,
            ),
            (
                format!("{STORAGE}/vfs-containers/volatile-containers.json"),
                &podman,
                container,
            ),
            (
                format!("{CONTAINER_LOGS}/web-0_shop_my-nginx-{ID}.log"),
                "",
                pod,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let root = Root::new(&format!("runtime{k}"));
            root.write(&path, contents);
            let cgroup = format!("0::/system.slice/{ID}.scope\n");
            assert_eq!(root.label(&cgroup).as_deref(), Some(label), "{path}");
        }
    }

    #[test]
    fn files_that_make_no_sense_name_nothing() {
        let podman = format!(r#"[{{"id":"{ID}","names":[]}},{{"id":"{ID}"}},7]"#);
        let docker = format!("{DOCKER}/{ID}/config.v2.json");
        let list = format!("{STORAGE}/overlay-containers/containers.json");
        for (k, (path, contents)) in [
            (docker.clone(), r#"{"Name":"#),
            (docker.clone(), r#"{"Name":""}"#),
            (
                docker,
                r#"{"Config":{"Labels":{"io.kubernetes.pod.name":"web-0"}}}"#,
            ),
            (list.clone(), &podman),
            (list, "{}"),
            (format!("{CONTAINER_LOGS}/web-{ID}.log"), ""),
        ]
        .into_iter()
        .enumerate()
        {
            let root = Root::new(&format!("senseless{k}"));
            root.write(&path, contents);
            let label = root.label(&format!("0::/docker/{ID}\n"));
            assert_eq!(label.as_deref(), Some("container 0123456789ab"), "{path}");
        }
    }
}

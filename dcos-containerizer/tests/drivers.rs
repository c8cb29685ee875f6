//! Volumes of drivers in containers: a Docker plugin of our own, and loop devices. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;
mod until;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as Called, State};
use axum::routing::post;
use dcos_containerizer::containerizer::{
    ContainerConfig, Containerizer, ContainerizerError, Universal,
};
use dcos_proto::mesos::volume::source::{DockerVolume, Type};
use dcos_proto::mesos::volume::{Mode, Source};
use dcos_proto::mesos::{
    ContainerId, ContainerInfo, Parameter, Parameters, Volume, container_info,
};
use node::Node;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use until::until;

const ISOLATION: &str = "filesystem/linux,namespaces/pid,docker/volume";

/// Whether this host can run these tests; says why not.
fn able() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: mounts need root");
    }
    root
}

/// A plugin whose volumes are file systems in memory, which counts mounts and forgets them with
/// the last.
struct Plugin {
    data: PathBuf,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    server: JoinHandle<()>,
}

impl Plugin {
    fn new(node: &Node) -> Self {
        let data = node.dir.path().join("plugin-data");
        let folder = node.dir.path().join("plugins");
        std::fs::create_dir(&folder).unwrap();
        let calls = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let shared = (data.clone(), Arc::clone(&calls));
        let router = Router::new()
            .route("/{call}", post(answer))
            .with_state(shared);
        let listener = UnixListener::bind(folder.join("memory.sock")).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            data,
            calls,
            server,
        }
    }

    fn count(&self, call: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.get(call).copied().unwrap_or(0)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.server.abort();
        for volume in std::fs::read_dir(&self.data)
            .into_iter()
            .flatten()
            .flatten()
        {
            unmount(volume.path(), UnmountFlags::DETACH).ok();
        }
    }
}

type Shared = (PathBuf, Arc<Mutex<BTreeMap<String, usize>>>);

async fn answer(
    State((data, calls)): State<Shared>,
    Called(call): Called<String>,
    body: String,
) -> String {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let call = call.trim_start_matches("VolumeDriver.").to_owned();
    let point = data.join(body["Name"].as_str().unwrap_or_default());
    let mut calls = calls.lock().unwrap();
    *calls.entry(call.clone()).or_default() += 1;
    let mounted = is_mounted(&point);
    match call.as_str() {
        "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
        "Create" => {
            std::fs::create_dir_all(&point).unwrap();
            json!({})
        }
        "Get" | "Path" if !point.exists() => json!({"Err": "no such volume"}),
        "Get" => json!({"Volume": {}}),
        "Path" if mounted => json!({"Mountpoint": point}),
        "Path" => json!({}),
        "Mount" => {
            assert!(!mounted, "mounted twice");
            mount("tmpfs", &point, "tmpfs", MountFlags::empty(), None).unwrap();
            json!({"Mountpoint": point})
        }
        "Unmount" => {
            unmount(&point, UnmountFlags::empty()).unwrap();
            json!({})
        }
        other => panic!("{other}"),
    }
    .to_string()
}

fn is_mounted(point: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(&format!(" {} ", point.display()))
}

fn volume(driver: &str, name: &str, at: &str, options: &[(&str, &str)]) -> Volume {
    let parameter = |(key, value): &(&str, &str)| Parameter {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    Volume {
        mode: Mode::Rw.into(),
        container_path: at.into(),
        source: Some(Source {
            r#type: Some(Type::DockerVolume.into()),
            docker_volume: Some(DockerVolume {
                driver: Some(driver.into()),
                name: name.into(),
                driver_options: Some(Parameters {
                    parameter: options.iter().map(parameter).collect(),
                }),
            }),
            ..Source::default()
        }),
        ..Volume::default()
    }
}

fn config(node: &Node, id: &ContainerId, volumes: &[Volume], command: &str) -> ContainerConfig {
    ContainerConfig {
        container: Some(ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            volumes: volumes.to_vec(),
            ..ContainerInfo::default()
        }),
        ..node.task(id, command)
    }
}

async fn refusal(node: &Node, universal: &Universal, volumes: &[Volume]) -> String {
    let id = ContainerId::root("refused");
    let launched = universal
        .launch(&id, config(node, &id, volumes, "true"))
        .await;
    match launched.unwrap_err() {
        ContainerizerError::Launch { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn containers_share_a_volume_of_a_plugin() {
    if !able() {
        return;
    }
    let node = Node::new(ISOLATION);
    let plugin = Plugin::new(&node);
    let universal = node.recovered(&[]).await;
    let volumes = [volume("memory", "db", "data", &[])];
    let point = plugin.data.join("db");
    let (first, second) = (ContainerId::root("first"), ContainerId::root("second"));
    let script = "echo one > data/one; while [ ! -e go ]; do sleep 0.02; done";
    let launched = universal.launch(&first, config(&node, &first, &volumes, script));
    launched.await.unwrap();
    until("the write", || point.join("one").exists()).await;
    let script = "cat data/one; while [ ! -e go ]; do sleep 0.02; done; echo two > data/two";
    let launched = universal.launch(&second, config(&node, &second, &volumes, script));
    launched.await.unwrap();
    until("the read", || node.read(&second, "stdout") == "one\n").await;
    assert_eq!(plugin.count("Mount"), 1);
    std::fs::write(node.dir.path().join("sandbox/first/go"), "").unwrap();
    universal.wait(&first).await.unwrap();
    assert!(is_mounted(&point));

    // An agent that was killed finds that the second one uses it, and a third joins it.
    drop(universal);
    let universal = node.recovered(&[&second]).await;
    let third = ContainerId::root("third");
    let launched = universal.launch(&third, config(&node, &third, &volumes, "cat data/one"));
    launched.await.unwrap();
    universal.wait(&third).await.unwrap();
    assert_eq!(node.read(&third, "stdout"), "one\n");
    assert_eq!((plugin.count("Mount"), plugin.count("Unmount")), (1, 0));
    std::fs::write(node.dir.path().join("sandbox/second/go"), "").unwrap();
    universal.wait(&second).await.unwrap();
    assert!(!is_mounted(&point));
    assert_eq!((plugin.count("Mount"), plugin.count("Unmount")), (1, 1));
}

#[tokio::test]
async fn what_nobody_uses_is_unmounted_after_a_kill() {
    if !able() {
        return;
    }
    let node = Node::new(ISOLATION);
    let plugin = Plugin::new(&node);
    let universal = node.recovered(&[]).await;
    let volumes = [volume("memory", "db", "data", &[])];
    let id = ContainerId::root("lost");
    let launched = universal.launch(&id, config(&node, &id, &volumes, "sleep 1000"));
    launched.await.unwrap();
    assert!(is_mounted(&plugin.data.join("db")));
    // The next agent is told of no container: what is left of this one goes.
    drop(universal);
    let _universal = node.recovered(&[]).await;
    until("the unmount", || !is_mounted(&plugin.data.join("db"))).await;
    let left = std::fs::read_dir(node.dir.path().join("run/isolators/docker/volume"));
    assert_eq!(left.unwrap().count(), 0);
}

#[tokio::test]
async fn refusals_name_the_volume_and_leave_nothing() {
    if !able() {
        return;
    }
    let node = Node::new(ISOLATION);
    let plugin = Plugin::new(&node);
    let universal = node.recovered(&[]).await;
    let twice = [
        volume("memory", "db", "a", &[]),
        volume("memory", "db", "b", &[]),
    ];
    let why = refusal(&node, &universal, &twice).await;
    assert_eq!(why, "volume `db`: it is wanted twice of driver `memory`");
    let why = refusal(&node, &universal, &[volume("none", "db", "a", &[])]).await;
    assert!(
        why.starts_with("there is no volume driver `none`: "),
        "{why}"
    );
    let trapped = [volume("memory", "db", "../a", &[])];
    let why = refusal(&node, &universal, &trapped).await;
    assert!(why.contains("leads out of the sandbox"), "{why}");
    assert!(!is_mounted(&plugin.data.join("db")));
    let left = std::fs::read_dir(node.dir.path().join("run/isolators/docker/volume"));
    assert_eq!(left.unwrap().count(), 0);
}

#[tokio::test]
async fn a_loop_volume_is_full_when_it_is() {
    if !able() {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        eprintln!("skipped: this host has no loop devices");
        return;
    }
    let node = Node::new(ISOLATION);
    let universal = node.recovered(&[]).await;
    let volumes = [volume(
        "loop",
        "small",
        "data",
        &[("size", "8MB"), ("fs", "ext4")],
    )];
    let script =
        "echo kept > data/file; head -c 20000000 /dev/zero > data/fat || echo full; rm data/fat";
    let mut said = String::new();
    for (name, script) in [("writer", script), ("reader", "cat data/file")] {
        let id = ContainerId::root(name);
        let launched = universal.launch(&id, config(&node, &id, &volumes, script));
        launched.await.unwrap();
        universal.wait(&id).await.unwrap();
        said += &node.read(&id, "stdout");
        assert!(!is_mounted(&node.dir.path().join("loop/mounts/small")));
    }
    assert_eq!(said, "full\nkept\n");
}

//! The containerizer before an engine that fails as it is told to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dcos_containerizer::containerizer::{ContainerConfig, Containerizer, Recovered};
use dcos_containerizer::fetcher::{FetchError, FetchRequest, Fetcher};
use dcos_containerizer::isolator::cgroup::DeviceRule;
use dcos_containerizer::isolator::devices::HostDevice;
use dcos_containerizer::isolator::gpu::{GpuPool, Gpus};
use dcos_containerizer::logger::{RotatingFiles, Rotation};
use dcos_docker::{Docker, DockerConfig};
use dcos_proto::mesos::container_info::{self, DockerInfo};
use dcos_proto::mesos::value::{self, Scalar};
use dcos_proto::mesos::{CommandInfo, ContainerId, ContainerInfo, Resource};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

#[derive(Debug)]
struct NoFetcher;

#[async_trait]
impl Fetcher for NoFetcher {
    async fn fetch(&self, request: &FetchRequest) -> Result<(), FetchError> {
        assert_eq!(request.uris, []);
        Ok(())
    }
}

/// An engine whose containers run, and which has forgotten all commands in them.
#[derive(Debug, Default)]
struct Engine {
    /// It fails whatever it is asked about a container.
    fails: AtomicBool,
    /// How often it was asked about one.
    asked: AtomicUsize,
    /// How often it was told to kill one, and failed.
    spared: AtomicUsize,
    /// What it runs has ended.
    killed: AtomicBool,
    /// It tells of the container `c`, and waits for none.
    lists: AtomicBool,
    /// It knows NVIDIA's runtime.
    has_nvidia: AtomicBool,
    /// What it was told to create, and refused to.
    refused: Mutex<Vec<Value>>,
}

impl Engine {
    fn start(socket: &Path) -> Arc<Self> {
        let engine = Arc::new(Self::default());
        let listener = UnixListener::bind(socket).unwrap();
        let serving = Arc::clone(&engine);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        engine
    }

    async fn serve(self: Arc<Self>, mut stream: UnixStream) {
        let mut request = Vec::new();
        while stream
            .read_buf(&mut request)
            .await
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8(request.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if length.is_some_and(|(_, length)| body.len() < length.parse().unwrap()) {
                continue;
            }
            request.clear();
            let target = head.split(' ').nth(1).unwrap();
            let Some((status, body)) = self.answer(target.split('?').next().unwrap(), body) else {
                continue;
            };
            let body = body.to_string();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// What it says, if it says anything.
    fn answer(&self, path: &str, body: &str) -> Option<(u16, Value)> {
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let words = match &words[..] {
            [version, rest @ ..] if version.starts_with("v1.") => rest,
            words => words,
        };
        match words {
            ["version"] => Some((200, json!({"ApiVersion": "1.44"}))),
            ["info"] if self.has_nvidia.load(Ordering::SeqCst) => {
                Some((200, json!({"Runtimes": {"runc": {}, "nvidia": {}}})))
            }
            ["info"] | ["images", _, "json"] => Some((200, json!({}))),
            ["containers", "create"] => {
                let body = serde_json::from_str(body).unwrap();
                self.refused.lock().unwrap().push(body);
                Some((500, json!({"message": "it is not well"})))
            }
            ["containers", "json"] if self.lists.load(Ordering::SeqCst) => {
                Some((200, json!([{"Labels": {"dcos.container": "c"}}])))
            }
            ["containers", _, "wait"] if self.lists.load(Ordering::SeqCst) => {
                Some((500, json!({"message": "it is not well"})))
            }
            ["containers", "json"] => Some((200, json!([]))),
            ["containers", _] if self.fails.load(Ordering::SeqCst) => {
                Some((500, json!({"message": "it is not well"})))
            }
            ["containers", _] => Some((404, json!({"message": "no such container"}))),
            ["containers", name, "json"] => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                if self.fails.load(Ordering::SeqCst) {
                    return Some((500, json!({"message": "it is not well"})));
                }
                let state = if self.killed.load(Ordering::SeqCst) {
                    json!({"Running": false, "Status": "exited", "ExitCode": 137})
                } else {
                    json!({"Running": true, "Status": "running", "Pid": 4_000_000})
                };
                Some((200, json!({"Id": name, "State": state})))
            }
            ["containers", _, "kill"] if self.fails.load(Ordering::SeqCst) => {
                self.spared.fetch_add(1, Ordering::SeqCst);
                Some((500, json!({"message": "it is not well"})))
            }
            ["containers", _, "kill"] => {
                self.killed.store(true, Ordering::SeqCst);
                Some((204, json!(null)))
            }
            ["exec", ..] => Some((404, json!({"message": "no such exec"}))),
            // Its containers print nothing and do not end.
            _ => None,
        }
    }
}

struct Fixture {
    folder: tempfile::TempDir,
    engine: Arc<Engine>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(&folder.path().join("docker.sock"));
        Self { folder, engine }
    }

    /// What an earlier agent left of a container, and of a command in it.
    fn leave(&self, id: &ContainerId, exec: Option<&str>) {
        let sandbox = self.folder.path().join("sandboxes").join(&id.value);
        std::fs::create_dir_all(&sandbox).unwrap();
        let execs = self.state(id).join("execs");
        std::fs::create_dir_all(&execs).unwrap();
        let record = json!({
            "version": 1, "directory": sandbox, "owner": null, "logger": {}, "tty": false,
            "unlogged": false, "stop_signal": null, "network": null, "ephemeral": false,
        });
        std::fs::write(self.state(id).join("record"), record.to_string()).unwrap();
        if let Some(exec) = exec {
            std::fs::write(execs.join(exec), "").unwrap();
        }
    }

    fn state(&self, id: &ContainerId) -> std::path::PathBuf {
        self.folder.path().join("state/containers").join(&id.value)
    }

    fn config(&self) -> DockerConfig {
        let path = self.folder.path();
        DockerConfig::new(
            path.join("docker.sock"),
            path.join("state"),
            Arc::new(NoFetcher),
            Arc::new(RotatingFiles::new(Rotation::default())),
        )
    }

    /// An agent that takes all of these up.
    async fn recover(&self, ids: &BTreeSet<ContainerId>) -> Docker {
        self.recover_with(self.config(), ids).await
    }

    async fn recover_with(&self, config: DockerConfig, ids: &BTreeSet<ContainerId>) -> Docker {
        let docker = Docker::new(config).await.unwrap();
        let recovered = docker.recover(ids).await.unwrap();
        assert_eq!(recovered.len(), ids.len());
        assert!(recovered.values().all(|one| *one == Recovered::Running));
        docker
    }
}

#[tokio::test]
async fn a_session_that_the_engine_has_forgotten_is_over() {
    let fixture = Fixture::new();
    let id = ContainerId::root("c");
    fixture.leave(&id, Some("session"));
    fixture.recover(&BTreeSet::from([id.clone()])).await;
    let execs = std::fs::read_dir(fixture.state(&id).join("execs")).unwrap();
    assert_eq!(execs.count(), 0);
}

#[tokio::test]
async fn an_engine_that_fails_is_not_asked_about_every_container() {
    let fixture = Fixture::new();
    let ids: BTreeSet<_> = (0..100)
        .map(|number| ContainerId::root(format!("c{number}")))
        .collect();
    for id in &ids {
        fixture.leave(id, None);
    }
    let docker = fixture.recover(&ids).await;
    let all = docker.origins().await;
    assert!(!all.hidden && all.first.contains_key(&4_000_000));
    fixture.engine.fails.store(true, Ordering::SeqCst);
    let before = fixture.engine.asked.load(Ordering::SeqCst);
    assert!(docker.origins().await.hidden);
    let asked = fixture.engine.asked.load(Ordering::SeqCst) - before;
    assert!((1..ids.len()).contains(&asked), "asked {asked} times");
}

#[tokio::test]
async fn what_an_engine_failed_to_kill_is_killed_once_it_is_well() {
    let fixture = Fixture::new();
    let id = ContainerId::root("c");
    fixture.leave(&id, None);
    let docker = Arc::new(fixture.recover(&BTreeSet::from([id.clone()])).await);
    fixture.engine.fails.store(true, Ordering::SeqCst);
    let destroying = {
        let (docker, id) = (Arc::clone(&docker), id.clone());
        tokio::spawn(async move { docker.destroy(&id).await })
    };
    while fixture.engine.spared.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nobody asks for it any more.
    destroying.abort();
    fixture.engine.fails.store(false, Ordering::SeqCst);
    let end = docker.wait(&id).await.unwrap();
    assert_eq!(end.describe(), "exited with status 137");
}

/// Two GPUs, as a driver of NVIDIA's shows them.
fn gpus() -> GpuPool {
    let device = |name: &str, minor| HostDevice {
        path: Path::new("/dev").join(name),
        rule: DeviceRule {
            kind: 'c',
            major: Some(195),
            minor: Some(minor),
            access: "rwm".to_owned(),
        },
    };
    GpuPool::new(Gpus {
        control: vec![device("nvidiactl", 255)],
        gpus: [(0, device("nvidia0", 0)), (1, device("nvidia1", 1))].into(),
        names: [(0, "GPU-a".to_owned()), (1, "GPU-b".to_owned())].into(),
    })
}

/// What the engine is told of devices when a task with so many GPUs is launched, or why it is not.
async fn asked_for(fixture: &Fixture, docker: &Docker, count: f64) -> Result<Value, String> {
    let config = ContainerConfig {
        container: Some(ContainerInfo {
            r#type: container_info::Type::Docker.into(),
            docker: Some(DockerInfo {
                image: "i".to_owned(),
                ..DockerInfo::default()
            }),
            ..ContainerInfo::default()
        }),
        command: Some(CommandInfo {
            value: Some("true".to_owned()),
            ..CommandInfo::default()
        }),
        resources: vec![Resource {
            name: "gpus".to_owned(),
            r#type: value::Type::Scalar.into(),
            scalar: Some(Scalar { value: count }),
            ..Resource::default()
        }],
        directory: fixture.folder.path().join("sandbox"),
        ..ContainerConfig::default()
    };
    let launched = docker.launch(&ContainerId::root("new"), config).await;
    let why = launched.unwrap_err().to_string();
    let told = fixture.engine.refused.lock().unwrap().pop();
    let host = told.ok_or(why)?["HostConfig"].clone();
    Ok(json!([host["Devices"], host["DeviceRequests"]]))
}

#[tokio::test]
async fn gpus_are_devices_or_what_nvidias_runtime_brings() {
    for has_nvidia in [false, true] {
        let fixture = Fixture::new();
        let had = &fixture.engine.has_nvidia;
        had.store(has_nvidia, Ordering::SeqCst);
        let pool = gpus();
        let mut config = fixture.config();
        config.gpus = Some(pool.clone());
        let docker = fixture.recover_with(config, &BTreeSet::new()).await;
        // Another has the first.
        pool.give(&ContainerId::root("other"), 1.0).unwrap();
        let told = asked_for(&fixture, &docker, 1.0).await.unwrap();
        let device = |path: &str| json!({"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"});
        let wanted = if has_nvidia {
            let request =
                json!({"Driver": "nvidia", "DeviceIDs": ["GPU-b"], "Capabilities": [["gpu"]]});
            json!([null, [request]])
        } else {
            json!([[device("/dev/nvidiactl"), device("/dev/nvidia1")], null])
        };
        assert_eq!(told, wanted);
        let told = asked_for(&fixture, &docker, 2.0).await.unwrap_err();
        assert!(
            told.contains("2 GPUs were asked for, and 1 are free"),
            "{told}"
        );
        // Whose launch failed has none.
        assert_eq!(pool.of(&ContainerId::root("new")), None);
        assert_eq!(
            asked_for(&fixture, &docker, 0.0).await.unwrap(),
            json!([null, null])
        );
    }
}

/// As an agent leaves one behind that has the second GPU.
fn leave_with_gpus(fixture: &Fixture, id: &ContainerId) {
    fixture.leave(id, None);
    let file = fixture.state(id).join("record");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    record["gpus"] = json!([1]);
    std::fs::write(&file, record.to_string()).unwrap();
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_orphan_that_runs_on_has_its_gpus_until_it_ends() {
    let fixture = Fixture::new();
    let id = ContainerId::root("c");
    leave_with_gpus(&fixture, &id);
    fixture.engine.lists.store(true, Ordering::SeqCst);
    let pool = gpus();
    let mut config = fixture.config();
    config.gpus = Some(pool.clone());
    config.kill_orphans = false;
    let _docker = fixture.recover_with(config, &BTreeSet::new()).await;
    assert_eq!(pool.of(&id), Some(BTreeSet::from([1])));
    assert!(fixture.state(&id).exists());
    fixture.engine.killed.store(true, Ordering::SeqCst);
    until(|| pool.of(&id).is_none() && !fixture.state(&id).exists()).await;
}

#[tokio::test]
async fn gpus_of_a_failed_launch_are_given_on_once_nothing_is_left_of_it() {
    let fixture = Fixture::new();
    let pool = gpus();
    let mut config = fixture.config();
    config.gpus = Some(pool.clone());
    let docker = fixture.recover_with(config, &BTreeSet::new()).await;
    fixture.engine.fails.store(true, Ordering::SeqCst);
    asked_for(&fixture, &docker, 1.0).await.unwrap();
    let id = ContainerId::root("new");
    assert_eq!(pool.of(&id), Some(BTreeSet::from([0])));
    fixture.engine.fails.store(false, Ordering::SeqCst);
    until(|| pool.of(&id).is_none() && !fixture.state(&id).exists()).await;
}

#[tokio::test]
async fn gpus_are_had_after_a_restart_and_none_where_nobody_gives_them() {
    let fixture = Fixture::new();
    let id = ContainerId::root("c");
    leave_with_gpus(&fixture, &id);
    let pool = gpus();
    let mut config = fixture.config();
    config.gpus = Some(pool.clone());
    let docker = fixture
        .recover_with(config, &BTreeSet::from([id.clone()]))
        .await;
    assert_eq!(pool.of(&id), Some(BTreeSet::from([1])));
    docker.destroy(&id).await.unwrap();
    assert_eq!(pool.of(&id), None);

    let without = Fixture::new();
    let docker = without.recover(&BTreeSet::new()).await;
    let told = asked_for(&without, &docker, 1.0).await.unwrap_err();
    assert!(told.contains("--isolation names no `gpu/nvidia`"), "{told}");
}

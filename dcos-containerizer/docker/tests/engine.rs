//! The containerizer before an engine that fails as it is told to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dcos_containerizer::containerizer::{Containerizer, Recovered};
use dcos_containerizer::fetcher::{FetchError, FetchRequest, Fetcher};
use dcos_containerizer::logger::{RotatingFiles, Rotation};
use dcos_docker::{Docker, DockerConfig};
use dcos_proto::mesos::ContainerId;
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
        // None of what it is asked has a body.
        while stream
            .read_buf(&mut request)
            .await
            .is_ok_and(|count| count > 0)
        {
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
            let target = text.split(' ').nth(1).unwrap();
            let Some((status, body)) = self.answer(target.split('?').next().unwrap()) else {
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
    fn answer(&self, path: &str) -> Option<(u16, Value)> {
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let words = match &words[..] {
            [version, rest @ ..] if version.starts_with("v1.") => rest,
            words => words,
        };
        match words {
            ["version"] => Some((200, json!({"ApiVersion": "1.44"}))),
            ["info"] => Some((200, json!({}))),
            ["containers", "json"] => Some((200, json!([]))),
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

    /// An agent that takes all of these up.
    async fn recover(&self, ids: &BTreeSet<ContainerId>) -> Docker {
        let path = self.folder.path();
        let config = DockerConfig::new(
            path.join("docker.sock"),
            path.join("state"),
            Arc::new(NoFetcher),
            Arc::new(RotatingFiles::new(Rotation::default())),
        );
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

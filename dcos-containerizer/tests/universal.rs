//! The universal containerizer with real processes under a real launcher.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, ContainerizerError, LauncherProgram, Recovered,
    Stdio, Universal, UniversalConfig,
};
use dcos_containerizer::fetcher::{FetchError, FetchRequest, Fetcher};
use dcos_containerizer::isolator::Isolators;
use dcos_containerizer::logger::{RotatingFiles, Rotation};
use dcos_proto::mesos::{CommandInfo, ContainerId};

/// Fetches nothing.
#[derive(Debug)]
struct NoFetcher;

#[async_trait]
impl Fetcher for NoFetcher {
    async fn fetch(&self, _: &FetchRequest) -> Result<(), FetchError> {
        Ok(())
    }
}

/// A node of its own: a launcher, a runtime directory, sandboxes. Gone when dropped.
struct Node {
    dir: tempfile::TempDir,
    universals: Mutex<Vec<Universal>>,
}

impl Node {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            universals: Mutex::default(),
        }
    }

    async fn containerizer(&self) -> Universal {
        let config = UniversalConfig {
            runtime_dir: self.dir.path().join("run"),
            launcher: LauncherProgram {
                program: launcher(),
                arguments: Vec::new(),
            },
            isolators: Isolators::default(),
            provisioner: None,
            fetcher: Arc::new(NoFetcher),
            logger: Arc::new(RotatingFiles::new(Rotation::default())),
            switch_user: true,
            sandbox_directory: "/mnt/mesos/sandbox".into(),
        };
        self.detach();
        let universal = Universal::new(config).await.unwrap();
        self.universals.lock().unwrap().push(universal.clone());
        universal
    }

    /// What a dying agent does.
    fn detach(&self) {
        for universal in self.universals.lock().unwrap().drain(..) {
            universal.detach();
        }
    }

    async fn recovered(&self, known: &[&ContainerId]) -> Universal {
        let universal = self.containerizer().await;
        let known = known.iter().map(|&id| id.clone()).collect();
        universal.recover(&known).await.unwrap();
        universal
    }

    fn task(&self, id: &ContainerId, command: &str) -> ContainerConfig {
        ContainerConfig {
            command: Some(shell(command)),
            environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            directory: self.dir.path().join("sandbox").join(id.to_string()),
            ..ContainerConfig::default()
        }
    }

    fn read(&self, id: &ContainerId, name: &str) -> String {
        let path = self.dir.path().join("sandbox").join(id.to_string());
        std::fs::read_to_string(path.join(name)).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.detach();
        let socket = self.dir.path().join("run/launcher.sock");
        if let Ok(client) = dcos_launcher::Client::connect(&socket) {
            client.stop().ok();
        }
    }
}

/// The launcher program, built beside this test.
fn launcher() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("dcos-launcher");
    if !program.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let built = Command::new(cargo)
            .args([
                "build",
                "-q",
                "-p",
                "dcos-launcher",
                "--bin",
                "dcos-launcher",
            ])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()
            .unwrap();
        assert!(built.success(), "building the launcher");
    }
    program
}

fn shell(value: &str) -> CommandInfo {
    CommandInfo {
        value: Some(value.into()),
        ..CommandInfo::default()
    }
}

#[tokio::test]
async fn a_command_runs_prints_and_ends_with_its_status() {
    let node = Node::new();
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("hello");
    let config = node.task(&id, "echo out; echo err >&2; pwd; exit 3");
    universal.launch(&id, config.clone()).await.unwrap();
    let again = universal.launch(&id, config).await.unwrap_err();
    assert!(matches!(again, ContainerizerError::Exists(_)), "{again}");
    let end = universal.wait(&id).await.unwrap();
    assert_eq!(end.exit_code(), Some(3));
    let sandbox = node.dir.path().join("sandbox/hello");
    let expected = format!("out\n{}\n", sandbox.display());
    assert_eq!(node.read(&id, "stdout"), expected);
    assert_eq!(node.read(&id, "stderr"), "err\n");
    universal.remove(&id).await.unwrap();
    let unknown = universal.wait(&id).await.unwrap_err();
    assert!(matches!(unknown, ContainerizerError::Unknown(_)));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_of_the_launch() {
    let node = Node::new();
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("none");
    let mut config = node.task(&id, "");
    config.command = Some(CommandInfo {
        shell: Some(false),
        value: Some("/does/not/exist".into()),
        ..CommandInfo::default()
    });
    let error = universal.launch(&id, config).await.unwrap_err().to_string();
    assert!(error.contains("/does/not/exist"), "{error}");
    assert!(universal.containers().await.is_empty());
}

#[tokio::test]
async fn signals_reach_the_command_and_destroying_ends_its_daemons() {
    let node = Node::new();
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("trap");
    let script = "trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    universal.launch(&id, node.task(&id, script)).await.unwrap();
    while !node.read(&id, "stdout").contains("ready") {
        tokio::task::yield_now().await;
    }
    universal.kill(&id, libc::SIGTERM).await.unwrap();
    assert_eq!(universal.wait(&id).await.unwrap().exit_code(), Some(7));

    let id = ContainerId::root("daemon");
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & wait";
    universal.launch(&id, node.task(&id, script)).await.unwrap();
    let daemon = loop {
        if let Ok(pid) = node.read(&id, "stdout").trim().parse::<i32>() {
            break pid;
        }
        tokio::task::yield_now().await;
    };
    let end = universal.destroy(&id).await.unwrap();
    assert_eq!(end.signal(), Some(libc::SIGKILL));
    let gone = !Path::new(&format!("/proc/{daemon}/cmdline")).exists();
    assert!(gone, "the daemon outlived its container");
}

#[tokio::test]
async fn containers_outlive_their_containerizer() {
    let node = Node::new();
    let ids = ["runs", "ends", "orphan"].map(ContainerId::root);
    let [runs, ends, orphan] = &ids;
    let go = node.dir.path().join("go");
    let wait = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; exit 5",
        go.display()
    );
    {
        let universal = node.recovered(&[]).await;
        universal
            .launch(runs, node.task(runs, "sleep 1000"))
            .await
            .unwrap();
        universal
            .launch(ends, node.task(ends, &wait))
            .await
            .unwrap();
        universal
            .launch(orphan, node.task(orphan, "sleep 1000"))
            .await
            .unwrap();
    }
    std::fs::write(&go, "").unwrap();
    let universal = node.containerizer().await;
    let lost = ContainerId::root("lost");
    let known: BTreeSet<_> = [runs, ends, &lost].into_iter().cloned().collect();
    let told = universal.recover(&known).await.unwrap();
    assert_eq!(told.len(), 3);
    assert_eq!(told[runs], Recovered::Running);
    assert!(matches!(&told[&lost], Recovered::Ended(end) if end.status.is_none()));
    assert_eq!(universal.wait(ends).await.unwrap().exit_code(), Some(5));
    let end = universal.destroy(runs).await.unwrap();
    assert_eq!(end.signal(), Some(libc::SIGKILL));
    drop(universal);

    // Ends are told again until they are removed.
    let universal = node.containerizer().await;
    let told = universal.recover(&known).await.unwrap();
    assert!(matches!(&told[ends], Recovered::Ended(end) if end.exit_code() == Some(5)));
    universal.remove(ends).await.unwrap();
    universal.remove(runs).await.unwrap();
    assert!(universal.containers().await.is_empty());
}

#[tokio::test]
async fn holders_hold_and_take_what_is_nested_with_them() {
    let node = Node::new();
    let universal = node.recovered(&[]).await;
    let pod = ContainerId::root("pod");
    let config = ContainerConfig {
        class: ContainerClass::Holder,
        command: None,
        ..node.task(&pod, "")
    };
    universal.launch(&pod, config).await.unwrap();
    let task = pod.child("task");
    universal
        .launch(&task, node.task(&task, "sleep 1000"))
        .await
        .unwrap();
    let check = task.child("check");
    let config = ContainerConfig {
        class: ContainerClass::Debug,
        stdio: Stdio::null(),
        directory: PathBuf::new(),
        ..node.task(&check, "exit 2")
    };
    universal.launch(&check, config).await.unwrap();
    assert_eq!(universal.wait(&check).await.unwrap().exit_code(), Some(2));
    universal.remove(&check).await.unwrap();
    let status = universal.status(&pod).await.unwrap();
    assert!(status.executor_pid.is_some_and(|pid| pid > 0));

    universal.destroy(&pod).await.unwrap();
    let end = universal.wait(&task).await.unwrap();
    assert_eq!(end.signal(), Some(libc::SIGKILL));
    let orphan = pod.child("late");
    let refused = universal.launch(&orphan, node.task(&orphan, "true")).await;
    assert!(matches!(refused, Err(ContainerizerError::NoParent(_))));
    universal.remove(&pod).await.unwrap();
    assert!(universal.containers().await.is_empty());
}

#[tokio::test]
async fn a_launcher_that_dies_is_replaced_and_its_containers_are_lost() {
    let node = Node::new();
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("lost");
    let script = "echo $$; exec sleep 1000";
    universal.launch(&id, node.task(&id, script)).await.unwrap();
    let task = loop {
        if let Ok(pid) = node.read(&id, "stdout").trim().parse::<i32>() {
            break pid;
        }
        tokio::task::yield_now().await;
    };
    let pid = universal.status(&id).await.unwrap().executor_pid.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
    let killed = Command::new("kill").args(["-9", parent]).status().unwrap();
    assert!(killed.success());
    let end = universal.wait(&id).await.unwrap();
    assert_eq!(end.status, None);
    while Path::new(&format!("/proc/{task}/cmdline")).exists() {
        tokio::task::yield_now().await;
    }
    let id = ContainerId::root("next");
    universal.launch(&id, node.task(&id, "true")).await.unwrap();
    assert!(universal.wait(&id).await.unwrap().succeeded());
}

//! The universal containerizer with real processes under a real launcher.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, ContainerizerError, Stdio, testkit,
};
use dcos_proto::mesos::{CommandInfo, ContainerId};
use node::Node;

#[tokio::test]
async fn a_command_runs_prints_and_ends_with_its_status() {
    let node = Node::new("");
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
    let node = Node::new("");
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
    let node = Node::new("");
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
async fn it_keeps_the_promises_of_a_containerizer() {
    let node = Node::new("");
    let sandboxes = node.dir.path().join("sandbox");
    testkit::all(&node.containerizer().await, &sandboxes).await;
    testkit::outlives_its_process(async || node.containerizer().await, &sandboxes).await;
}

#[tokio::test]
async fn holders_hold_and_take_what_is_nested_with_them() {
    let node = Node::new("");
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
    let node = Node::new("");
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

/// Runs what an agent does, of which nothing is left when it is done.
fn agent<T>(node: &Node, work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let done = runtime.block_on(work);
    node.detach();
    runtime.shutdown_timeout(Duration::from_mins(1));
    done
}

#[test]
fn the_last_words_of_what_ended_while_no_agent_ran_are_in_the_journal() {
    let mut node = Node::new("");
    let socket = node.dir.path().join("journald");
    let journald = UnixDatagram::bind(&socket).unwrap();
    journald
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    node.journald = Some(socket);
    let said = || {
        let mut buffer = [0; 4096];
        let length = journald.recv(&mut buffer).unwrap();
        let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let line = entry.lines().find_map(|line| line.strip_prefix("MESSAGE="));
        line.unwrap().to_owned()
    };
    let id = ContainerId::root("c");
    let go = node.dir.path().join("go");
    let script = format!(
        "echo first; until [ -e {} ]; do sleep 0.05; done; echo last",
        go.display()
    );
    let pid = agent(&node, async {
        let universal = node.recovered(&[]).await;
        universal
            .launch(&id, node.task(&id, &script))
            .await
            .unwrap();
        let pid = universal.status(&id).await.unwrap().executor_pid.unwrap();
        tokio::task::block_in_place(|| assert_eq!(said(), "first"));
        pid
    });
    std::fs::write(&go, "").unwrap();
    while Path::new(&format!("/proc/{pid}")).exists() {
        std::thread::yield_now();
    }
    let end = agent(&node, async {
        let universal = node.recovered(&[&id]).await;
        universal.wait(&id).await.unwrap()
    });
    assert!(end.succeeded());
    assert_eq!(said(), "last");
}
